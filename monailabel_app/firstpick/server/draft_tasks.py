"""What MONAI Label's own clients see of drafts: a model that hands out a finished mask, and a trainer that queues."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, HTTPException, Query
from fastapi.background import BackgroundTasks
from monailabel.endpoints.infer import ResultType, send_response
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.interfaces.utils.app import app_instance
from pydantic import TypeAdapter, ValidationError

from firstpick.config import Label
from firstpick.server.auth import ADMIN, USER
from firstpick.server.bounds import StudyId, json_object
from firstpick.server.draft_files import ENDING
from firstpick.server.drafter import Drafter

MODEL = "firstpick_draft"


class DraftInfer(InferTask):
    """Hands out the draft of a study from the disk; a request never computes one."""

    def __init__(self, drafter: Drafter, labels: tuple[Label, ...]) -> None:
        super().__init__(
            type=InferType.SEGMENTATION,
            labels={label.name: label.value for label in labels},
            dimension=3,
            description="Drafts of FirstPick, learnt from the final labels so far",
        )
        self._drafter = drafter
        self._values = {label.name: label.value for label in labels}

    def is_valid(self) -> bool:
        """Tell MONAI Label to list it."""
        return True

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return a copy of the draft of ``request["study_id"]``, which MONAI Label deletes once it was sent.

        ``label_names`` are the classes that it has: MONAI Label's module names segments in their order.
        """
        study_id = str(request["study_id"])
        path = self._drafter.fetch(study_id)
        record = self._drafter.files.records.get(study_id)
        there = {name for name, n in record.n_voxels.items() if n} if record else set()
        with tempfile.NamedTemporaryFile(suffix=ENDING, delete=False) as file:
            shutil.copyfile(path, file.name)
        return file.name, {"label_names": {name: value for name, value in self._values.items() if name in there}}


class DraftTrainer(TrainTask):
    """Has the labels learnt from once more."""

    def __init__(self, drafter: Drafter) -> None:
        super().__init__("Learns from the final labels so far; FirstPick does so by itself after each of them")
        self._drafter = drafter

    def stats(self) -> dict[str, Any]:
        """What MONAI Label's clients show of a training."""
        taught = self._drafter.taught
        return (
            {}
            if taught is None or taught.dice is None
            else {"best_metric": round(taught.dice, 4), "n_labels": taught.n_labels}
        )

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:  # noqa: ARG002
        """Queue it, and return at once."""
        self._drafter.learn_again()
        return training(self._drafter)


def training(drafter: Drafter) -> dict[str, Any]:
    """Return how the learning stands, as MONAI Label has its background tasks."""
    is_running = drafter.state in ("learning", "drafting")
    status = "RUNNING" if is_running else "ERROR" if drafter.state == "problem" else "DONE"
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    return {"id": MODEL, "status": status, "ts": now, "request": {"model": MODEL}, "details": [drafter.message]}


@dataclass(frozen=True)
class _Wanted:
    """What a client may ask of an inference; all else is ignored."""

    save_label: bool = False
    label_tag: Literal["original", "draft"] = "original"


_WANTED = TypeAdapter(_Wanted)


def make_draft_stock_router(drafter: Drafter) -> APIRouter:
    """Make the routes that stand in for MONAI Label's own: they neither block it nor start a process."""
    router = APIRouter()

    @router.post(f"/infer/{MODEL}", tags=["Infer"], dependencies=[USER])
    def infer(
        tasks: BackgroundTasks,
        image: Annotated[StudyId, Query()],
        params: Annotated[str, Form()] = "{}",
        output: ResultType | None = None,
    ) -> Any:
        """Return the draft of a study: 503 while it is made, 409 where none is offered."""
        if output == ResultType.dicom_seg:
            raise HTTPException(422, "output must be image, json or all; got dicom_seg.")
        app, wanted = app_instance(), _read(params)
        found = app.infer({"model": MODEL, "image": image, **asdict(wanted)})
        return send_response(app.datastore(), found, output, tasks)

    @router.post(f"/train/{MODEL}", tags=["Train"], dependencies=[ADMIN])
    @router.post("/train/", tags=["Train"], dependencies=[ADMIN])
    def train() -> dict[str, Any]:
        """Have the labels learnt from once more; the answer comes at once."""
        found: dict[str, Any] = app_instance().train({"model": MODEL})
        return found

    @router.get("/train/", tags=["Train"], dependencies=[USER])
    def status(all: bool = False, check_if_running: bool = False) -> Any:  # noqa: A002, FBT001, FBT002 - their names
        """How the learning stands; 404 where only a running one is asked for and none is."""
        found = training(drafter)
        if check_if_running and found["status"] != "RUNNING":
            raise HTTPException(404, "No drafts are being made.")
        return [found] if all else found

    return router


def _read(params: str) -> _Wanted:
    """Read what a client asks of an inference."""
    given = json_object(params, "params")
    try:
        return _WANTED.validate_python({key: given[key] for key in ("save_label", "label_tag") if key in given})
    except ValidationError as error:
        tag = json.dumps(given.get("label_tag"))[:80]
        msg = f"A draft may be saved (save_label) under label_tag original or draft alone; got {tag}."
        raise HTTPException(422, msg) from error
