"""MONAI Label's route for labels, in its place: a plain function, so that checking a label stops nobody else."""

from __future__ import annotations

import json
import shutil
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, HTTPException, UploadFile
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance

from firstpick.board.events import FINAL
from firstpick.server.filing import Filing

_ANNOTATOR = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))


def make_upload_router(filing: Filing) -> APIRouter:
    """Make the route that takes labels in: MONAI Label's contract, and nothing is left of a refused one."""
    router = APIRouter(prefix="/datastore", tags=["Datastore"])

    @router.put("/label", summary="Save Finished Label")
    def save_label(
        image: str,
        label: UploadFile,
        params: Annotated[str, Form()] = "{}",
        tag: str = FINAL,
        user: User = _ANNOTATOR,
    ) -> dict[str, Any]:
        info = _object(params) | ({"user": user.username} if user.username else {})
        app = app_instance()
        with filing.received(label.filename or "") as path:
            with path.open("wb") as file:
                shutil.copyfileobj(label.file, file)
            label_id = app.datastore().save_label(image, str(path), tag or FINAL, info)
            return {**(app.on_save_label(image, label_id) or {}), "image": image, "label": label_id}

    return router


def _object(text: str) -> dict[str, Any]:
    """Read what comes beside a label."""
    try:
        value = json.loads(text or "{}", parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, f"params must be a JSON object; it is no JSON: {error}.") from error
    if not isinstance(value, dict):
        raise HTTPException(422, f"params must be a JSON object; got a {type(value).__name__}.")
    return value


def _refuse(constant: str) -> None:
    msg = f"{constant} is no number"
    raise ValueError(msg)
