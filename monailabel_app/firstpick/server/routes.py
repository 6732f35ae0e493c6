"""FirstPick's own routes under ``/firstpick``; plain functions, so that none blocks the server."""

from __future__ import annotations

import gzip
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from prometheus_client import CONTENT_TYPE_LATEST

from firstpick.encoders import ENCODERS
from firstpick.proposal import LiveProposal
from firstpick.selection import STRATEGIES, describe
from firstpick.server.answers import (
    Described,
    ListedLabel,
    ListedSeries,
    ListPage,
    Lookalikes,
    NewProposal,
    PoolMap,
    Reservation,
    ServerStatus,
    Skip,
    StudyOfClient,
    StudyStatus,
)
from firstpick.server.auth import ANNOTATOR, USER
from firstpick.server.bounds import MAX_LISTED, ListName, Name, StudyId
from firstpick.server.metrics import Metrics
from firstpick.server.page import add_page
from firstpick.server.worklist import Worklist


def make_router(  # noqa: C901, PLR0915 - a list of routes, not a path through code
    worklist: Worklist, metrics: Metrics, *, has_drafts: bool = False
) -> APIRouter:
    """Routes over one work list, and what is measured of it; `has_drafts` for the page."""
    looking, deciding = APIRouter(dependencies=[USER]), APIRouter(dependencies=[ANNOTATOR])

    @looking.get("/status")
    def status() -> ServerStatus:
        """How far the embedding is, what failed, who works on what."""
        return worklist.status()

    @looking.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def measured() -> Response:
        """How the work stands in numbers, for Prometheus; without any name."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @looking.get("/proposal")
    def proposal(strategy: Name = "") -> LiveProposal:
        """Return the standing batch with live statuses; 503 while studies are being embedded."""
        return worklist.proposal(strategy)

    @deciding.post("/proposal")
    def new_proposal(wanted: NewProposal | None = None) -> LiveProposal:
        """Make a new batch; reserved picks stay on top."""
        return worklist.new_proposal(wanted or NewProposal())

    @looking.get("/strategies")
    def strategies() -> list[Described]:
        """Return the strategies by name."""
        return [Described(name, describe(name)) for name in sorted(STRATEGIES)]

    @looking.get("/encoders")
    def encoders() -> list[Described]:
        """Return the encoders by name."""
        return [Described(name, row.description) for name, row in sorted(ENCODERS.items())]

    @looking.get("/map", response_model=PoolMap)
    def pool_map(request: Request, strategy: Name = "") -> Response:
        """Return the pool in two dimensions, with statuses and the ranks of the standing batch."""
        packed, headers = worklist.map(strategy), {"Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(packed, media_type="application/json", headers=headers | {"Content-Encoding": "gzip"})
        return Response(gzip.decompress(packed), media_type="application/json", headers=headers)

    @looking.get("/thumbnail/{study_id:id}", response_class=Response, responses={200: {"content": {"image/png": {}}}})
    def thumbnail(study_id: StudyId, series: Name = "") -> Response:
        """Return the picture of a series of a study, of the primary where none is named."""
        return Response(worklist.now.thumbnail(study_id, series), media_type="image/png")

    @looking.get("/series/{study_id:id}")
    def series(study_id: StudyId) -> list[ListedSeries]:
        """Return the series of a study, the primary first."""
        return worklist.series(study_id)

    @looking.head("/image/{study_id:id}/{series}", include_in_schema=False)
    @looking.get("/image/{study_id:id}/{series}", response_class=FileResponse)
    def image(study_id: StudyId, series: Name) -> FileResponse:
        """Return the file of a series; 503 while it is being prepared."""
        path = worklist.image(study_id, series)
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    @looking.get("/lookalikes/{study_id:id}")
    def lookalikes(study_id: StudyId) -> Lookalikes:
        """Return the studies that look most like one."""
        return worklist.lookalikes(study_id)

    @looking.get("/notes/{study_id:id}")
    def notes(study_id: StudyId) -> list[str]:
        """Return what is to be known of a study, such as what was changed while reading it."""
        return worklist.notes(study_id)

    @looking.get("/lists/{list_name}")
    def lists(
        list_name: ListName,
        offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
        limit: Annotated[int, Query(ge=1, le=10 * MAX_LISTED)] = MAX_LISTED,
    ) -> ListPage:
        """Return a page of the studies that could not be read, that were left out, or of which something was noted."""
        return worklist.now.listed_page(list_name, offset, limit)

    @looking.get("/labels/{study_id:id}")
    def labels(study_id: StudyId, client_id: Name = "") -> list[ListedLabel]:
        """Return the labels of a study that a reader may load, what they go on with first."""
        return worklist.labels(study_id, client_id)

    @looking.get("/label/{study_id:id}", response_class=FileResponse)
    def label(
        study_id: StudyId, tag: Name, version: Annotated[int, Query(ge=0, lt=2**31)] = 0, client_id: Name = ""
    ) -> FileResponse:
        """Return the file of one of these labels."""
        path = worklist.label(study_id, client_id, tag, version)
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    @looking.post("/reserve")
    def reserve(wanted: Reservation) -> StudyStatus:
        """Reserve a study for 30 minutes, or renew; 409 if somebody else has it."""
        return worklist.reserve(wanted.study_id, wanted.client_id, wanted.strategy)

    @looking.post("/heartbeat")
    def heartbeat(wanted: StudyOfClient) -> StudyStatus:
        """Say that the reader is still at it; 409, with whose it is, if the reservation is lost."""
        return worklist.heartbeat(wanted.study_id, wanted.client_id)

    @looking.post("/release")
    def release(wanted: StudyOfClient) -> StudyStatus:
        """Give a study back."""
        return worklist.release(wanted.study_id, wanted.client_id)

    @deciding.post("/skip")
    def skip(wanted: Skip) -> StudyStatus:
        """Take a study out for everyone; the next best of what it stood for takes its place."""
        return worklist.skip(wanted.study_id, wanted.client_id, wanted.reason)

    @deciding.post("/unskip")
    def unskip(wanted: StudyOfClient) -> StudyStatus:
        """Undo a skip."""
        return worklist.unskip(wanted.study_id, wanted.client_id)

    @deciding.post("/reopen")
    def reopen(wanted: StudyOfClient) -> StudyStatus:
        """Open a done study again; a new final label closes it, or giving it back unchanged."""
        return worklist.reopen(wanted.study_id, wanted.client_id)

    router = APIRouter(prefix="/firstpick", tags=["FirstPick"])
    add_page(router, has_drafts=has_drafts)  # which holds nothing of any study
    router.include_router(looking)
    router.include_router(deciding)
    return router
