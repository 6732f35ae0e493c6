"""MONAI Label's local datastore over any studies folder, without writing to it."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from fastapi import HTTPException
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore
from monailabel.interfaces.datastore import DefaultLabelTag

from firstpick.studies import Study
from firstpick.voxels.formats import ENDINGS
from firstpick.voxels.volumes import VolumeError, convert_series

logger = logging.getLogger(__name__)

FINAL = str(DefaultLabelTag.FINAL.value)
_TAG = re.compile(r"\w[\w .@+-]{0,63}")


class StudiesDatastore(LocalDatastore):
    """The studies that `firstpick.sources.folder` lists; labels and MONAI Label's JSON lie in the state folder.

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
        self._studies_dir = studies_dir
        self._studies: dict[str, Study] = {}
        self._converting = threading.Lock()
        self._changing = threading.RLock()
        try:
            self._start()
        except ValueError as error:
            broken = folder / "datastore_v2.json"
            aside = broken.with_suffix(f".corrupt-{int(time.time())}")
            broken.rename(aside)
            logger.warning("%s was corrupt (%s): kept as %s and built anew from the files.", broken, error, aside.name)
            self._start()

    def _start(self) -> None:
        endings = [f"*{ending}" for ending in ENDINGS]
        # read_only: it would drop all it knows of labels, since no study is listed yet
        super().__init__(str(self._folder), images_dir=self._studies_dir, extensions=endings, read_only=True)

    def update(self, studies: Iterable[Study]) -> None:
        """Take over a new listing, and look which label files there are."""
        with self._changing:
            self._studies = {study.study_id: study for study in studies}
            self.refresh()

    def labelled_at(self, study_id: str) -> float | None:
        """When the label under the tag ``final`` was written (seconds since the epoch); None if there is none."""
        path = self.get_label_uri(study_id, FINAL)
        try:
            return Path(path).stat().st_mtime if path else None
        except OSError:
            return None  # deleted just now

    def all_labelled_at(self) -> dict[str, float]:
        """Studies with a label under the tag ``final``, and when each was written."""
        times = {study_id: self.labelled_at(study_id) for study_id in self._datastore.objects}
        return {study_id: at for study_id, at in times.items() if at is not None}

    def converted(self, study: Study) -> Path:
        """Where the NIfTI file of a DICOM series lies, or will lie."""
        version = hashlib.sha256(study.stamp.encode()).hexdigest()[:8]
        return self._folder / "converted" / version / f"{study.study_id}.nii.gz"

    # -- what MONAI Label calls

    def get_image_uri(self, image_id: str) -> str:
        """Path of a study's file; a DICOM series is converted first, 422 if it cannot be."""
        study = self._studies.get(image_id)
        if study is None:
            return ""
        if not study.is_series:
            return os.path.realpath(study.source)
        path = self.converted(study)
        with self._converting:
            if not path.exists():
                try:
                    convert_series(study.source, path, study.files)
                except VolumeError as error:
                    raise HTTPException(422, str(error)) from error
        return str(path)

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What is known of a study: where its file is on the server, and the stamp that changes with its voxels."""
        info: dict[str, Any] = super().get_image_info(image_id)
        if image_id in self._studies:
            study = self._studies[image_id]
            info |= {"path": self.get_image_uri(image_id), "stamp": study.stamp, "modality": study.modality}
        return info

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:  # noqa: FBT001, FBT002, ARG002
        """Pairs of image and final label, for training and for the archive of all labels."""
        labelled = [study_id for study_id in self.get_labeled_images() if study_id in self._studies]
        return [{"image": self.get_image_uri(i), "label": self.get_label_uri(i, FINAL)} for i in labelled]

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Save a label below ``labels/<tag>/``; 400 for a tag that is not a plain name, 404 for an unknown study."""
        if not _TAG.fullmatch(label_tag):
            _refuse(400, f"The tag '{label_tag}' is not allowed: take letters, digits, - and _.", label_filename)
        if image_id not in self._studies:
            _refuse(404, f"Study '{image_id}' is not in the studies folder.", label_filename)
        with self._changing:
            before = self.get_label_uri(image_id, label_tag)
            Path(self._datastore.label_path(label_tag), image_id).parent.mkdir(parents=True, exist_ok=True)
            label_id = str(super().save_label(image_id, label_filename, label_tag, label_info))
            after = self.get_label_uri(image_id, label_tag)
            now = time.time()
            os.utime(after, (now, now))  # finer than the clock of the file system
            if before not in ("", after):  # another format: else it would come back when this one is deleted
                Path(before).unlink(missing_ok=True)
        return label_id

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Delete a label; 404 if there is none."""
        with self._changing:
            if not self.get_label_uri(label_id, label_tag):
                raise HTTPException(404, f"Study '{label_id}' has no label under the tag '{label_tag}'.")
            super().remove_label(label_id, label_tag)

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add to what is known of a study."""
        with self._changing:
            super().update_image_info(image_id, info)

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Add to what is known of a label."""
        with self._changing:
            super().update_label_info(label_id, label_tag, info)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:  # noqa: ARG002
        """Refuse: the studies folder is only read."""
        _refuse(403, "FirstPick never writes the studies folder: put the file there yourself.", image_filename)

    def remove_image(self, image_id: str) -> None:
        """Refuse: the studies folder is only read."""
        raise HTTPException(403, f"FirstPick never deletes studies: remove '{image_id}' from the folder yourself.")

    # -- what its base class asks about files

    def _to_id(self, file: str) -> tuple[str, str]:
        ending = next((ending for ending in ENDINGS if file.lower().endswith(ending)), Path(file).suffix)
        cut = len(file) - len(ending)
        return file[:cut], file[cut:]

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:  # noqa: FBT001, FBT002
        super()._init_from_datastore_file(throw_exception)
        self._datastore.images_dir = self._studies_dir  # the folder may have moved since

    def _reconcile_datastore(self) -> None:
        """Bring what MONAI Label knows in line with the listing and the label files.

        Requests read ``objects`` meanwhile: it is replaced, never changed in place.
        """
        with self._changing:
            found = self._label_files()
            before = self._datastore.objects
            objects = {study_id: self._known(study, before.get(study_id)) for study_id, study in self._studies.items()}
            for tag, labels in found.items():
                for study_id, ending in labels.items():
                    if study_id in objects and tag not in objects[study_id].labels:
                        info = {"ts": int(time.time()), "name": f"{study_id}{ending}"}
                        objects[study_id].labels[tag] = DataModel(info=info, ext=ending)
            if objects != before:
                self._datastore.objects = objects
                self._update_datastore_file()

    def _known(self, study: Study, before: ImageLabelModel | None) -> ImageLabelModel:
        """A copy of what is known of a study, without labels whose file is gone."""
        ending = "" if study.is_series else self._to_id(study.source)[1]
        if before is None or before.image.ext != ending:
            image = DataModel(info={"ts": int(time.time()), "name": Path(study.source).name}, ext=ending)
        else:
            image = before.image
        labels = {
            tag: label
            for tag, label in (before.labels if before else {}).items()
            if Path(self._datastore.label_path(tag), f"{study.study_id}{label.ext}").exists()
        }
        return ImageLabelModel(image=image, labels=labels)

    def _label_files(self) -> dict[str, dict[str, str]]:
        """Label files on disk: for each tag the studies and their files' endings."""
        found: dict[str, dict[str, str]] = {}
        root = Path(self._datastore.label_path(None))
        for folder in (entry for entry in root.iterdir() if entry.is_dir()):
            files = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
            found[folder.name] = dict(self._to_id(file) for file in files)
        return found


def _refuse(status: int, reason: str, upload: str) -> NoReturn:
    """Refuse an upload; MONAI Label would keep its temporary file."""
    Path(upload).unlink(missing_ok=True)
    raise HTTPException(status, reason)


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
