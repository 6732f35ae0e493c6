"""MONAI Label's local datastore over any studies folder, without writing to it."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from fastapi import HTTPException
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore
from monailabel.interfaces.datastore import DefaultLabelTag

from firstpick.formats import ENDINGS
from firstpick.studies import Study
from firstpick.volumes import convert_series

logger = logging.getLogger(__name__)

FINAL = str(DefaultLabelTag.FINAL.value)


class StudiesDatastore(LocalDatastore):  # type: ignore[misc]
    """The studies that `firstpick.folder` lists; labels and MONAI Label's JSON lie in the state folder.

    MONAI Label's own class sees only the top of a folder and a few endings, and writes into it. Here
    an image id is a study id, slashes included. DICOM series are handed out as NIfTI files, made once.

    Parameters
    ----------
    studies_dir : str
        Only read.
    folder : Path
        Where labels, JSON and converted series lie.
    """

    def __init__(self, studies_dir: str, folder: Path) -> None:
        self._folder = folder
        self._studies: dict[str, Study] = {}
        self._converting = threading.Lock()
        try:
            self._start(studies_dir)
        except ValueError as error:
            broken = folder / "datastore_v2.json"
            aside = broken.with_suffix(f".corrupt-{int(time.time())}")
            broken.rename(aside)
            logger.warning("%s was corrupt (%s): kept as %s and built anew from the files.", broken, error, aside.name)
            self._start(studies_dir)

    def _start(self, studies_dir: str) -> None:
        super().__init__(str(self._folder), images_dir=studies_dir, extensions=[f"*{ending}" for ending in ENDINGS])

    def update(self, studies: Iterable[Study]) -> None:
        """Take over a new listing, and look which label files there are."""
        self._studies = {study.study_id: study for study in studies}
        self.refresh()

    def labelled_at(self) -> dict[str, float]:
        """Studies with a label under the tag ``final``, and when its file was written (seconds since the epoch)."""
        times = {}
        for study_id, item in list(self._datastore.objects.items()):
            if item.labels.get(FINAL):
                try:
                    times[study_id] = os.stat(self.get_label_uri(study_id, FINAL)).st_mtime  # noqa: PTH116 - a str
                except OSError:
                    continue  # deleted just now: the next refresh drops it
        return times

    def converted(self, study: Study) -> Path:
        """Where the NIfTI file of a DICOM series lies, or will lie."""
        version = hashlib.sha256(study.stamp.encode()).hexdigest()[:8]
        return self._folder / "converted" / version / f"{study.study_id}.nii.gz"

    # -- what MONAI Label calls

    def get_image_uri(self, image_id: str) -> str:
        """Path of a study's file; a DICOM series is converted first."""
        study = self._studies.get(image_id)
        if study is None:
            return ""
        if not study.is_series:
            return os.path.realpath(study.source)
        path = self.converted(study)
        with self._converting:
            if not path.exists():
                convert_series(study.source, path, study.series_uid)
        return str(path)

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What is known of a study, and where its file is on the server."""
        info: dict[str, Any] = super().get_image_info(image_id)
        if image_id in self._studies:
            info["path"] = self.get_image_uri(image_id)
        return info

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:  # noqa: FBT001, FBT002, ARG002
        """Pairs of image and final label, for training and for the archive of all labels."""
        labelled = [study_id for study_id in self.get_labeled_images() if study_id in self._studies]
        return [{"image": self.get_image_uri(i), "label": self.get_label_uri(i, FINAL)} for i in labelled]

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Save a label below ``labels/<tag>/``; 400 for a tag that is not a plain name, 404 for an unknown study."""
        if PurePosixPath(label_tag).name != label_tag or label_tag.startswith(".") or "\\" in label_tag:
            raise HTTPException(400, f"The tag '{label_tag}' is not allowed: take letters, digits, - and _.")
        if image_id not in self._studies:
            raise HTTPException(404, f"Study '{image_id}' is not in the studies folder.")
        folder = Path(self._datastore.label_path(label_tag), image_id).parent
        folder.mkdir(parents=True, exist_ok=True)
        return str(super().save_label(image_id, label_filename, label_tag, label_info))

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:  # noqa: ARG002
        """Refuse: the studies folder is only read."""
        raise HTTPException(403, "FirstPick never writes the studies folder: put the file there yourself.")

    def remove_image(self, image_id: str) -> None:
        """Refuse: the studies folder is only read."""
        raise HTTPException(403, f"FirstPick never deletes studies: remove '{image_id}' from the folder yourself.")

    # -- what its base class asks about files

    def _to_id(self, file: str) -> tuple[str, str]:
        for ending in ENDINGS:
            if file.lower().endswith(ending):
                return file[: -len(ending)], file[-len(ending) :]
        return file, ""

    def _list_files(self, path: str, patterns: list[str]) -> dict[str, str]:  # noqa: ARG002
        found = (file.relative_to(path).as_posix() for file in Path(path).rglob("*") if file.is_file())
        return {name: name for name in found if self._to_id(name)[1]}

    def _add_non_existing_images(self) -> int:
        self._init_from_datastore_file()
        new = [study for study_id, study in self._studies.items() if study_id not in self._datastore.objects]
        for study in new:
            info = {"ts": int(time.time()), "name": Path(study.source).name}
            ending = "" if study.is_series else self._to_id(study.source)[1]
            self._datastore.objects[study.study_id] = ImageLabelModel(image=DataModel(info=info, ext=ending))
        return len(new)

    def _remove_non_existing(self) -> int:
        self._init_from_datastore_file()
        n_gone = 0
        for study_id in list(self._datastore.objects):
            if study_id not in self._studies:
                del self._datastore.objects[study_id]
                n_gone += 1
                continue
            labels = self._datastore.objects[study_id].labels
            for tag in list(labels):
                if not Path(self._datastore.label_path(tag), f"{study_id}{labels[tag].ext}").exists():
                    del labels[tag]
                    n_gone += 1
        return n_gone


def copy_labels(studies_dir: Path, folder: Path) -> None:
    """Take over labels that lay in the studies folder before FirstPick (``labels/<tag>/``), at the first start.

    Copies, not links: MONAI Label overwrites and deletes label files.
    """
    target, partial = folder / "labels", folder / "labels.partial"
    if target.exists() or not (studies_dir / "labels" / FINAL).is_dir():
        return
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(studies_dir / "labels", partial)
    partial.rename(target)
