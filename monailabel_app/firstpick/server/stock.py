"""MONAI Label's own routes, in their place: what FirstPick has not is refused at once, and no input ends in a 500.

Plain functions, so that none blocks the server; the roles are MONAI Label's.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Form, HTTPException, Query, Response
from fastapi.responses import FileResponse, PlainTextResponse
from monailabel.config import settings
from monailabel.endpoints.activelearning import sample
from monailabel.endpoints.datastore import ResultType, datastore
from monailabel.endpoints.user.auth import User
from monailabel.interfaces.utils.app import app_instance, clear_cache
from monailabel.utils.others.generic import file_checksum
from starlette.background import BackgroundTask

from firstpick.server.auth import ADMIN, ANNOTATOR, USER
from firstpick.server.bounds import Name, json_object
from firstpick.server.desk import NOBODY

_NO_MODELS = "FirstPick has no models of its own: it cannot infer, train or score. Use a MONAI Label app that has."
_NO_SESSIONS = "FirstPick has no models, so it keeps no images to infer on."
_NO_DICOMWEB = "FirstPick is no DICOMweb server, and passes no request on to one."
_READ_ONLY = "FirstPick never writes the studies folder: put the file there yourself."

_REFUSED = (
    ("/infer/{rest:id}", ["POST"], USER, 404, _NO_MODELS),
    ("/batch/infer/{rest:id}", ["POST"], ADMIN, 404, _NO_MODELS),
    ("/train/{rest:id}", ["POST"], ADMIN, 404, _NO_MODELS),
    ("/scoring/{rest:id}", ["POST"], ANNOTATOR, 404, _NO_MODELS),
    ("/model/{rest:id}", ["GET", "PUT", "DELETE"], ADMIN, 404, _NO_MODELS),
    ("/session/{rest:id}", ["GET", "PUT", "DELETE"], USER, 404, _NO_SESSIONS),
    ("/proxy/{rest:id}", ["GET", "POST"], USER, 404, _NO_DICOMWEB),
    ("/ohif/{rest:id}", ["GET"], USER, 404, _NO_DICOMWEB),
    ("/datastore/", ["PUT"], ANNOTATOR, 403, _READ_ONLY),
    ("/datastore/image", ["PUT"], ANNOTATOR, 403, _READ_ONLY),
)
"""Paths, methods, role, status and reason; no body is read."""

_KEPT = frozenset({"strategy", "ts", "name", "path", "stamp", "size", "modality"})
_KEPT |= {"client_id", "seconds", "checksum", "n_voxels", "values", "unknown_values", "changes", "pacs", "draft"}
"""What is written down about images and labels by the server alone."""


@dataclass(frozen=True)
class NextSample:
    """Who wants the next study, and from another strategy's batch than the path says; other options are ignored."""

    client_id: Name | None = None
    strategy: Name | None = None


def put_first(server: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Add routers before all that the server has, so that theirs are taken."""
    routes = server.router.routes
    n_before = len(routes)
    for router in routers:
        server.include_router(router, prefix=settings.MONAI_LABEL_API_STR)
    routes[:] = routes[n_before:] + routes[:n_before]


def make_stock_router() -> APIRouter:
    """Make all routes that stand in for MONAI Label's own but the one for labels."""
    router = APIRouter()
    for path, methods, role, status, reason in _REFUSED:
        refusal = _refusal(status, reason)
        router.add_api_route(path, refusal, methods=methods, dependencies=[role], include_in_schema=False)
    _add_samples(router)
    _add_infos(router)
    _add_server(router)
    return router


def _refusal(status: int, reason: str) -> Callable[[], None]:
    def refuse() -> None:
        raise HTTPException(status, reason)

    return refuse


def _add_samples(router: APIRouter) -> None:
    @router.post("/activelearning/{strategy}", tags=["ActiveLearning"])
    def next_sample(strategy: Name, wanted: NextSample | None = None, user: User = USER) -> dict[str, Any]:
        """Reserve the next study."""
        wanted = wanted or NextSample()
        said = wanted.client_id or ""
        client = user.username if said in NOBODY else said
        found: dict[str, Any] = sample(wanted.strategy or strategy, {"client_id": client}, user.username)
        return found

    @router.head("/datastore/image", tags=["Datastore"], dependencies=[USER])
    def has_image(
        image: str, check_sum: Annotated[str, Query(pattern="^((SHA256|SHA512|MD5):)?[0-9a-fA-F]*$")] = ""
    ) -> None:
        """Look whether there is an image, and whether it is the one that somebody has."""
        path = app_instance().datastore().get_image_uri(image)
        if not path:
            raise HTTPException(404, f"Study '{image}' is not in the studies folder.")
        kind, _, digits = check_sum.rpartition(":")
        if digits and file_checksum(path, kind or "SHA256").rpartition(":")[2] != digits.lower():
            raise HTTPException(404, f"The file of study '{image}' is another one.")

    @router.get("/datastore/dataset", tags=["Datastore"], dependencies=[ANNOTATOR])
    def dataset(limit_cases: Annotated[int | None, Query(ge=1)] = None) -> FileResponse:
        """Return all images and final labels in one archive, which is gone afterwards."""
        path = Path(app_instance().datastore().get_dataset_archive(limit_cases))
        gone = BackgroundTask(path.unlink, missing_ok=True)
        return FileResponse(path, media_type="application/zip", filename="dataset.zip", background=gone)

    @router.get("/datastore/", tags=["Datastore"], dependencies=[USER])
    def all_of_it(output: ResultType | None = None) -> Response:
        """Return the number of studies and labels, all of them, or the pairs to train with."""
        is_all = output == ResultType.all
        text = app_instance().datastore().as_json() if is_all else json.dumps(datastore(output))
        return Response(text, media_type="application/json")


def _add_infos(router: APIRouter) -> None:
    @router.put("/datastore/image/info", tags=["Datastore"])
    def put_image_info(image: str, info: Annotated[str, Form()] = "{}", user: User = ANNOTATOR) -> None:
        """Note something about an image."""
        app_instance().datastore().update_image_info(image, _noted(info, "info", user))

    @router.put("/datastore/label/info", tags=["Datastore"])
    def put_label_info(label: str, tag: str, info: Annotated[str, Form()] = "{}", user: User = ANNOTATOR) -> None:
        """Note something about a label."""
        app_instance().datastore().update_label_info(label, tag, _noted(info, "info", user))

    @router.put("/datastore/updatelabelinfo", include_in_schema=False)
    def put_old(label: str, tag: str, params: Annotated[str, Form()] = "{}", user: User = ANNOTATOR) -> None:
        app_instance().datastore().update_label_info(label, tag, _noted(params, "params", user))


def _noted(text: str, name: str, user: User) -> dict[str, Any]:
    value = json_object(text, name)
    if reserved := sorted(_KEPT & value.keys()):
        raise HTTPException(422, f"{name} must leave out what the server itself keeps: {', '.join(reserved)}.")
    return {**value, "user": user.username}


def _add_server(router: APIRouter) -> None:
    @router.get("/logs/", tags=["Others"], dependencies=[ADMIN])
    def logs(lines: Annotated[int, Query(ge=1, le=100_000)] = 300) -> PlainTextResponse:
        """Return the end of the server's log."""
        path = Path(settings.MONAI_LABEL_APP_DIR, "logs", "app.log")
        if not path.is_file():
            raise HTTPException(404, "The server writes no log file.")
        with path.open(encoding="utf-8", errors="replace") as file:
            return PlainTextResponse("".join(deque(file, lines)))

    @router.get("/logs/gpu", tags=["Others"], dependencies=[ADMIN])
    def gpu() -> PlainTextResponse:
        """Return what nvidia-smi says."""
        if shutil.which("nvidia-smi") is None:
            raise HTTPException(404, "This machine has no nvidia-smi.")
        said = subprocess.run(["nvidia-smi"], capture_output=True, text=True, check=False, timeout=20)
        return PlainTextResponse(said.stdout + said.stderr)

    @router.post("/reload", dependencies=[ADMIN], include_in_schema=False)
    def reload() -> dict[str, Any]:
        """Make the app anew, as MONAI Label's own route does for everybody who asks."""
        clear_cache()
        return {}
