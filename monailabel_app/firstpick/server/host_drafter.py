"""Drafts inside somebody else's app: what one of its own models makes of the next picks."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferType

from firstpick.board.board import Board
from firstpick.config import ConfigError
from firstpick.learning.work import adopt
from firstpick.server.draft_files import ENDING
from firstpick.server.drafter import Drafter
from firstpick.studies import Study
from firstpick.voxels.label_formats import LabelError


class HostDrafter(Drafter):
    """Keeps results of a model of the host ready, as drafts for the next picks; nothing is learnt.

    The model runs in this process, as it does for MONAI Label's own requests; its mask is read in a worker.
    """

    def attach(self, app: Any) -> None:
        """Take the app that MONAI Label made last."""
        self._app = app
        self._say("ready", f"Drafts are made by the model '{self._model}'.")

    @property
    def _model(self) -> str:
        return self._config.drafts.model

    def _next(self, board: Board, studies: Mapping[str, Study]) -> bool:
        study = next(self._due((), board, studies), None)
        if study is None:
            self._say("ready", f"Drafts by the model '{self._model}' are ready.")
            return False
        self._say("drafting", f"The model '{self._model}' drafts {study.title}.")
        self._draft(study, functools.partial(self._infer, study))
        self._asked.pop(study.study_id, None)
        return True

    def _infer(self, study: Study, out: Path, served: Path | None) -> tuple[None, dict[str, int]]:
        """Have the model draw, and take what it drew for a draft."""
        try:
            found = self._app.infer({"model": self._model, "image": study.study_id, "result_extension": ENDING})
        except Exception as error:
            msg = f"the model '{self._model}' failed ({type(error).__name__}: {error})."
            raise LabelError(msg) from error
        drawn = Path(found.get("file") or "")
        if not drawn.is_file():
            msg = f"the model '{self._model}' gave no mask."
            raise LabelError(msg)
        try:
            values = dict(class_values(self._app._infers[self._model].labels))  # noqa: SLF001 - it says so nowhere else
            classes = tuple((label.name, label.value) for label in self._config.labels)
            return None, self._executor.submit(adopt, study, drawn, values, classes, out, served).result()
        finally:
            with suppress(OSError):
                drawn.unlink()


def check_model(app: Any, name: str, classes: Iterable[str]) -> None:
    """Raise ConfigError unless an app has a model of that name that draws one of some classes by itself."""
    models = {key: task for key, task in app._infers.items() if task.type == InferType.SEGMENTATION}  # noqa: SLF001
    if name not in models:
        has = f"This app has {', '.join(sorted(models))}" if models else "This app has none"
        msg = f"drafts.model must name a model of this app that segments by itself; got '{name}'. {has}."
        raise ConfigError(msg)
    drawn = [key for key, _ in class_values(models[name].labels)]
    if not {*drawn} & {*classes}:
        msg = f"The model '{name}' draws {', '.join(drawn) or 'no class that it names'}: none of the configured labels."
        raise ConfigError(msg)


def class_values(labels: Any) -> Iterator[tuple[str, int]]:
    """Yield the classes of a model or an app with their values; a list counts from 1."""
    named = labels.items() if isinstance(labels, Mapping) else ((name, i) for i, name in enumerate(labels or (), 1))
    return ((str(name), value) for name, value in named if str(name).lower() != "background")
