"""FirstPick's own routes under ``/firstpick``; plain functions, so that none blocks the server."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from starlette.convertors import PathConvertor, register_url_convertor

from firstpick.encoders import ENCODERS
from firstpick.selection import STRATEGIES, describe
from firstpick.server.page import add_page
from firstpick.server.worklist import Worklist


class _Id(PathConvertor):
    """Any text, line breaks too: file names may hold them."""

    regex = "(?s:.*)"


register_url_convertor("id", _Id())


class Named(BaseModel):
    """A study and the reason why it cannot be proposed."""

    study_id: str
    reason: str


class Slice(BaseModel):
    """Where a slice lies in its volume."""

    plane: str = Field(description="axial, coronal or sagittal")
    index: int = Field(description="Number of the slice from 0, towards Superior, Anterior or Right.")
    position_mm: float = Field(description="Distance from slice 0 along that axis of the volume.")


class Pick(BaseModel):
    """One chosen study, why, and where it stands."""

    rank: int
    study_id: str
    score: float
    slices: list[Slice] = Field(description="Which slices to annotate; empty for the whole study.")
    share: float = Field(description="Part of the unlabelled pool nearest to this pick; shares sum to 1.")
    stands_for: int
    lookalikes: list[str]
    unusual: bool
    reason: str
    replaces: str
    status: str = Field(description="open, reserved, done or skipped")
    client: str
    until: float = Field(description="When the reservation ends, in seconds since the epoch; 0 for none.")


class Duplicate(BaseModel):
    """A study that repeats another."""

    study_id: str
    duplicate_of: str


class Advice(BaseModel):
    """How large a batch is worth while, and how much of it is chance."""

    suggested_batch_size: int | None
    coverage_at_suggestion: float | None
    jaccard_seeds: float
    jaccard_bootstrap: float
    jaccard_chance: float


class Proposal(BaseModel):
    """The ordered batch."""

    model_config = {"extra": "allow"}

    schema_: int = Field(alias="schema")
    strategy: str
    encoder: str
    provenance: dict[str, Any]
    coverage: list[float] = Field(description="Part of the pool within the radius of the first 1..n picks.")
    suggested_batch_size: int | None = Field(description="Where coverage flattens; null if it does not.")
    picks: list[Pick]
    duplicates: list[Duplicate]
    unusual: list[str]
    advice: Advice | None
    failed: list[Named]
    left_out: list[Named]


class Progress(BaseModel):
    """How far the embedding is, in studies; rate per second."""

    total: int
    done: int
    failed: int
    left_out: int
    rate: float
    seconds_left: float | None


class HeldStudy(BaseModel):
    """A reserved study."""

    study_id: str
    until: float


class Reader(BaseModel):
    """Somebody who works on studies now."""

    client: str
    studies: list[HeldStudy]


class Label(BaseModel):
    """What annotators draw."""

    name: str
    value: int
    color: str


class UnknownValues(BaseModel):
    """A label with values that are no configured label's."""

    study_id: str
    tag: str
    values: list[str]


class ServerStatus(BaseModel):
    """How things stand."""

    version: str
    state: str = Field(description="listing, embedding, ready, empty or problem")
    message: str
    progress: Progress
    encoder: str
    fingerprint: str
    strategy: str
    batch_size: int
    n_pool: int
    n_labelled: int
    n_skipped: int
    readers: list[Reader]
    labels: list[Label]
    failed: list[Named]
    left_out: list[Named]
    notes: dict[str, list[str]]
    unmatched_labels: list[str] = Field(description="Label files that are nobody's, or could be several studies'.")
    unknown_values: list[UnknownValues]
    notice: str


class StudyStatus(BaseModel):
    """Where one study stands."""

    study_id: str
    status: str
    client: str
    reason: str
    until: float


class Point(BaseModel):
    """A study in the plane of the first two principal components."""

    study_id: str
    x: float
    y: float
    status: str
    client: str
    reason: str
    rank: int | None
    nearest_pick: int | None = Field(description="Rank of the pick that it is most like.")
    group: str = Field(description="Its patient by number, or what groups.by says; empty where not known.")
    stratum: str = Field(description="What strata.by says; empty where not known.")
    stands_with: str = Field(description="The study of that pick.")


class PoolMap(BaseModel):
    """The whole pool as points."""

    points: list[Point]


class Lookalikes(BaseModel):
    """The studies nearest to one, nearest first."""

    study_id: str
    lookalikes: list[str]


class Described(BaseModel):
    """A name of the configuration and what it does."""

    name: str
    description: str


class NewProposal(BaseModel):
    """What the new batch shall be; the configuration's values where nothing is said."""

    strategy: str = ""
    batch_size: int | None = None
    seed: int | None = Field(default=None, ge=0)
    advice: bool = Field(default=False, description="Suggest a batch size, and say how much of it is chance.")
    partial: bool = Field(default=False, description="Choose among what is embedded so far.")
    client_id: str = ""


class StudyOfClient(BaseModel):
    """A study, and who acts on it."""

    study_id: str
    client_id: str = ""


class Skip(StudyOfClient):
    """A study to take out, who says so and why."""

    reason: str


def make_router(worklist: Worklist) -> APIRouter:  # noqa: C901 - a list of routes, not a path through code
    """Routes over one work list."""
    router = APIRouter(prefix="/firstpick", tags=["FirstPick"])
    add_page(router)

    @router.get("/status", response_model=ServerStatus)
    def status() -> Any:
        """How far the embedding is, what failed, who works on what."""
        return worklist.status()

    @router.get("/proposal", response_model=Proposal)
    def proposal(strategy: str = "") -> Any:
        """Return the standing batch with live statuses; 503 while studies are being embedded."""
        return worklist.proposal(strategy)

    @router.post("/proposal", response_model=Proposal)
    def new_proposal(wanted: NewProposal | None = None) -> Any:
        """Make a new batch; reserved picks stay on top."""
        wanted = wanted or NewProposal()
        return worklist.new_proposal(
            wanted.strategy,
            batch_size=wanted.batch_size,
            seed=wanted.seed,
            advice=wanted.advice,
            partial=wanted.partial,
            client=wanted.client_id,
        )

    @router.get("/strategies", response_model=list[Described])
    def strategies() -> Any:
        """Return the strategies by name."""
        return [{"name": name, "description": describe(name)} for name in sorted(STRATEGIES)]

    @router.get("/encoders", response_model=list[Described])
    def encoders() -> Any:
        """Return the encoders by name."""
        return [{"name": name, "description": row.description} for name, row in sorted(ENCODERS.items())]

    @router.get("/map", response_model=PoolMap)
    def pool_map(strategy: str = "") -> Any:
        """Return the pool in two dimensions, with statuses and the ranks of the standing batch."""
        return worklist.map(strategy)

    @router.get("/thumbnail/{study_id:id}", response_class=Response, responses={200: {"content": {"image/png": {}}}})
    def thumbnail(study_id: str) -> Response:
        """Return a study's picture."""
        return Response(worklist.now.thumbnail(study_id), media_type="image/png")

    @router.get("/lookalikes/{study_id:id}", response_model=Lookalikes)
    def lookalikes(study_id: str) -> Any:
        """Return the studies that look most like one."""
        return worklist.lookalikes(study_id)

    @router.post("/reserve", response_model=StudyStatus)
    def reserve(wanted: StudyOfClient) -> Any:
        """Reserve a study for 30 minutes, or renew; 409 if somebody else has it."""
        return worklist.reserve(wanted.study_id, wanted.client_id)

    @router.post("/heartbeat", response_model=StudyStatus)
    def heartbeat(wanted: StudyOfClient) -> Any:
        """Say that the reader is still at it; 409, with whose it is, if the reservation is lost."""
        return worklist.reserve(wanted.study_id, wanted.client_id)

    @router.post("/release", response_model=StudyStatus)
    def release(wanted: StudyOfClient) -> Any:
        """Give a study back."""
        return worklist.release(wanted.study_id, wanted.client_id)

    @router.post("/skip", response_model=StudyStatus)
    def skip(wanted: Skip) -> Any:
        """Take a study out for everyone; the next best of what it stood for takes its place."""
        return worklist.skip(wanted.study_id, wanted.client_id, wanted.reason)

    @router.post("/unskip", response_model=StudyStatus)
    def unskip(wanted: StudyOfClient) -> Any:
        """Undo a skip."""
        return worklist.unskip(wanted.study_id, wanted.client_id)

    @router.post("/reopen", response_model=StudyStatus)
    def reopen(wanted: StudyOfClient) -> Any:
        """Open a done study again; only a newer final label closes it."""
        return worklist.reopen(wanted.study_id, wanted.client_id)

    return router
