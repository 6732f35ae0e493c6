"""Label files that readers send: checked and put on their study's grid in a worker, then filed without a gap."""

from __future__ import annotations

import logging
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import HTTPException

from firstpick.studies import Study
from firstpick.voxels.grids import read_grid
from firstpick.voxels.label_formats import LabelError, label_ending
from firstpick.voxels.labels import Label, on_grid
from firstpick.voxels.served import serve_file
from firstpick.voxels.volumes import VolumeError
from firstpick.workers import Executor, ProcessExpired, why_failed

logger = logging.getLogger(__name__)

_PLAIN = re.compile(r"(\.\w{1,12}){0,2}")


class Filing:
    """Takes label files in.

    Parameters
    ----------
    folder : Path
        Where files lie until they are filed, on the disk of the labels; emptied at the start.
    served_folder : Path
        Of `firstpick.server.served.ServedFiles`.
    known : collection of str or int
        Names and values of the configured labels.
    executor : Executor
        Of processes.
    """

    def __init__(self, folder: Path, served_folder: Path, known: Collection[str | int], executor: Executor) -> None:
        self._folder = folder
        self._served_folder = served_folder
        self._known = known
        self._executor = executor
        self._is_warm = False
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)

    def warm_up(self) -> None:
        """Start the worker once, so that the first label need not wait for it."""
        if not self._is_warm:
            self._is_warm = True
            self._executor.submit(label_ending, "")

    @contextmanager
    def received(self, name: str) -> Iterator[Path]:
        """Yield the place for a file that is being received under some name; it is gone afterwards."""
        ending = label_ending(name or ".nii.gz")
        path = self._folder / f"{uuid.uuid4().hex}{ending if _PLAIN.fullmatch(ending) else '.unknown'}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def checked(self, source: Path, study: Study, served: Path | None) -> Iterator[tuple[Path, Label]]:
        """Yield a label on its study's grid, ready to be renamed; HTTPException 422 if it is none.

        `served` is the file that readers open, if it is there.
        """
        target = self._folder / f"{uuid.uuid4().hex}{label_ending(source.name)}"
        try:
            yield target, self._result(source, target, study, served)
        finally:
            target.unlink(missing_ok=True)

    def _result(self, source: Path, target: Path, study: Study, served: Path | None) -> Label:
        try:
            label: Label = self._executor.submit(check, source, target, study, served, self._served_folder).result()
        except LabelError as error:
            reason = str(error)
        except (ProcessExpired, futures.TimeoutError) as error:
            reason = why_failed(error, "Reading it")
        else:
            return label
        logger.warning("A label of study %s was refused: %s", study.study_id, reason)
        raise HTTPException(422, f"The label of study '{study.study_id}' was not saved. {reason}")

    def info(self, label: Label) -> dict[str, Any]:
        """What is known of a label, as plain JSON, and which of its values are no configured label's."""
        values = [
            {key: value for key, value in asdict(item).items() if value or key in ("value", "n_voxels")}
            for item in label.values
        ]
        strange = [item for item in label.values if (item.name or item.value) not in self._known]
        return {
            "checksum": label.checksum,
            "n_voxels": label.n_voxels,
            "values": values,
            "unknown_values": [f"{item.value} ({item.name})" if item.name else str(item.value) for item in strange],
            "changes": label.changes,
        }


def check(source: Path, target: Path, study: Study, served: Path | None, served_folder: Path) -> Label:
    """Put a label on its study's grid, in a worker; a study that cannot be read now does not cost its label.

    Nobody waits for a PACS: of what is not here any more, only the label itself is checked.
    """
    try:
        if not (served and served.exists()) and study.is_remote:
            msg = "its file was deleted here (served_gb), and it was not reserved"
            raise OSError(msg)  # noqa: TRY301
        grid = read_grid(served if served and served.exists() else serve_file(study.primary, served_folder))
    except (VolumeError, OSError, RuntimeError) as error:
        logger.warning("The grid of study %s is not known: %s", study.study_id, error)
        grid = None
    return on_grid(source, grid, target)


def copy_durably(source: Path, target: Path) -> None:
    """Copy a file with its times: all of it is on the disk then, or nothing of it is there."""
    try:
        shutil.copy2(source, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def rename_durably(source: Path, target: Path) -> None:
    """Rename a file that is on the disk, so that its new name is there, too."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    flush_folder(target.parent)


def flush_folder(path: Path) -> None:
    """Force the names in a folder to the disk."""
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
