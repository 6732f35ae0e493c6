"""FirstPick's own routes under ``/firstpick``; plain functions, so that none blocks the server."""

from __future__ import annotations

import gzip

from fastapi import APIRouter, Request, Response
from starlette.convertors import PathConvertor, register_url_convertor

from firstpick.encoders import ENCODERS
from firstpick.selection import STRATEGIES, describe
from firstpick.server.answers import (
    Described,
    Lookalikes,
    NewProposal,
    PoolMap,
    Reservation,
    ServerStatus,
    ShownProposal,
    Skip,
    StudyOfClient,
    StudyStatus,
)
from firstpick.server.page import add_page
from firstpick.server.worklist import Worklist


class _Id(PathConvertor):
    """Any text, line breaks too: file names may hold them."""

    regex = "(?s:.*)"


register_url_convertor("id", _Id())


def make_router(worklist: Worklist) -> APIRouter:  # noqa: C901 - a list of routes, not a path through code
    """Routes over one work list."""
    router = APIRouter(prefix="/firstpick", tags=["FirstPick"])
    add_page(router)

    @router.get("/status")
    def status() -> ServerStatus:
        """How far the embedding is, what failed, who works on what."""
        return worklist.status()

    @router.get("/proposal")
    def proposal(strategy: str = "") -> ShownProposal:
        """Return the standing batch with live statuses; 503 while studies are being embedded."""
        return worklist.proposal(strategy)

    @router.post("/proposal")
    def new_proposal(wanted: NewProposal | None = None) -> ShownProposal:
        """Make a new batch; reserved picks stay on top."""
        return worklist.new_proposal(wanted or NewProposal())

    @router.get("/strategies")
    def strategies() -> list[Described]:
        """Return the strategies by name."""
        return [Described(name, describe(name)) for name in sorted(STRATEGIES)]

    @router.get("/encoders")
    def encoders() -> list[Described]:
        """Return the encoders by name."""
        return [Described(name, row.description) for name, row in sorted(ENCODERS.items())]

    @router.get("/map", response_model=PoolMap)
    def pool_map(request: Request, strategy: str = "") -> Response:
        """Return the pool in two dimensions, with statuses and the ranks of the standing batch."""
        packed, headers = worklist.map(strategy), {"Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(packed, media_type="application/json", headers=headers | {"Content-Encoding": "gzip"})
        return Response(gzip.decompress(packed), media_type="application/json", headers=headers)

    @router.get("/thumbnail/{study_id:id}", response_class=Response, responses={200: {"content": {"image/png": {}}}})
    def thumbnail(study_id: str) -> Response:
        """Return a study's picture."""
        return Response(worklist.now.thumbnail(study_id), media_type="image/png")

    @router.get("/lookalikes/{study_id:id}")
    def lookalikes(study_id: str) -> Lookalikes:
        """Return the studies that look most like one."""
        return worklist.lookalikes(study_id)

    @router.post("/reserve")
    def reserve(wanted: Reservation) -> StudyStatus:
        """Reserve a study for 30 minutes, or renew; 409 if somebody else has it."""
        return worklist.reserve(wanted.study_id, wanted.client_id, wanted.strategy)

    @router.post("/heartbeat")
    def heartbeat(wanted: StudyOfClient) -> StudyStatus:
        """Say that the reader is still at it; 409, with whose it is, if the reservation is lost."""
        return worklist.heartbeat(wanted.study_id, wanted.client_id)

    @router.post("/release")
    def release(wanted: StudyOfClient) -> StudyStatus:
        """Give a study back."""
        return worklist.release(wanted.study_id, wanted.client_id)

    @router.post("/skip")
    def skip(wanted: Skip) -> StudyStatus:
        """Take a study out for everyone; the next best of what it stood for takes its place."""
        return worklist.skip(wanted.study_id, wanted.client_id, wanted.reason)

    @router.post("/unskip")
    def unskip(wanted: StudyOfClient) -> StudyStatus:
        """Undo a skip."""
        return worklist.unskip(wanted.study_id, wanted.client_id)

    @router.post("/reopen")
    def reopen(wanted: StudyOfClient) -> StudyStatus:
        """Open a done study again; a new final label closes it, or giving it back unchanged."""
        return worklist.reopen(wanted.study_id, wanted.client_id)

    return router
