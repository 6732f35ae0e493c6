"""MONAI Label's route for labels, in its place: a plain function, so that checking a label stops nobody else."""

from __future__ import annotations

import shutil
from typing import Annotated, Any

from fastapi import APIRouter, Form, UploadFile
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.utils.app import app_instance

from firstpick.board.events import FINAL
from firstpick.server.auth import ANNOTATOR, AnnotatorFirst
from firstpick.server.bounds import json_object
from firstpick.server.filing import Filing


def make_upload_router(filing: Filing) -> APIRouter:
    """Make the route that takes labels in: MONAI Label's contract, and nothing is left of a refused one."""
    router = APIRouter(prefix="/datastore", tags=["Datastore"], route_class=AnnotatorFirst)

    @router.put("/label", summary="Save Finished Label")
    def save_label(
        image: str,
        label: UploadFile,
        params: Annotated[str, Form()] = "{}",
        tag: str = FINAL,
        user: User = ANNOTATOR,
    ) -> dict[str, Any]:
        info = json_object(params, "params") | ({"user": user.username} if user.username else {})
        app = app_instance()
        with filing.received(label.filename or "") as path:
            with path.open("wb") as file:
                shutil.copyfileobj(label.file, file)
            label_id = app.datastore().save_label(image, str(path), tag or FINAL, info)
            return {**(app.on_save_label(image, label_id) or {}), "image": image, "label": label_id}

    return router
