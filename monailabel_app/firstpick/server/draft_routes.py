"""The routes of drafts under ``/firstpick``; only there while drafts are made."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import FileResponse

from firstpick.server.auth import USER
from firstpick.server.bounds import StudyId
from firstpick.server.draft_answers import DraftsStatus
from firstpick.server.draft_status import DraftDesk


def make_draft_router(drafts: DraftDesk) -> APIRouter:
    """Routes over the drafts of one server."""
    router = APIRouter(prefix="/firstpick", tags=["FirstPick"], dependencies=[USER])

    @router.get("/drafts")
    def status() -> DraftsStatus:
        """How the drafts stand: what was learnt, what is ready, what readers changed, whether to stop."""
        return drafts.status()

    @router.get("/draft/{study_id:id}", response_class=FileResponse)
    def draft(study_id: StudyId) -> FileResponse:
        """Return the mask that is proposed for a study; 503 while it is made, 409 where none is offered."""
        path = drafts.drafter.fetch(study_id)
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    return router
