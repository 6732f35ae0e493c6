"""MONAI Label's local datastore over any studies folder, without writing to it."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import re
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from fastapi import HTTPException
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore

from firstpick.board.log import Decisions
from firstpick.server.filing import Filing, rename_durably
from firstpick.server.label_folder import FINAL, LabelFolder
from firstpick.server.served import ServedFiles, being_prepared
from firstpick.sources.label_files import split_label
from firstpick.sources.names import bare
from firstpick.studies import Study
from firstpick.voxels.formats import ENDINGS
from firstpick.voxels.served import SERVED_RECIPE

logger = logging.getLogger(__name__)

_TAG = re.compile(r"\w[\w .@+-]{0,63}")
_NAME_LETTERS = 60


class StudiesDatastore(LocalDatastore):
    """The studies that `firstpick.sources.folder` lists; labels and MONAI Label's JSON lie in the state folder.

    MONAI Label's own class sees only the top of a folder and a few endings, and writes into it. Here
    an image id is a study id, slashes included; a label's file has a name of its own, given once.

    Parameters
    ----------
    studies_dir : str
        Only read.
    folder : Path
        Where labels and JSON lie.
    decisions : Decisions
        Keeps the names of label files.
    served : ServedFiles
        The files that readers open.
    filing : Filing
        Checks labels.
    """

    def __init__(
        self, studies_dir: str, folder: Path, *, decisions: Decisions, served: ServedFiles, filing: Filing
    ) -> None:
        self._folder = folder
        self._studies_dir = studies_dir
        self._labels = LabelFolder(folder / "labels", decisions)
        self.served = served
        self._filing = filing
        self._studies: dict[str, Study] = {}
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

    def update(self, studies: Iterable[Study], endings: Mapping[str, str]) -> None:
        """Take over a new listing, how those studies are served that were read, and which label files there are."""
        with self._changing:
            self._studies = {study.study_id: study for study in studies}
            self.served.take_listing(self._studies, endings)
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

    @property
    def unmatched(self) -> list[str]:
        """Label files that are nobody's, or could be several studies', as ``tag/path``."""
        return self._labels.unmatched

    def unknown_values(self) -> list[dict[str, Any]]:
        """Labels with values that are no configured label's."""
        return [
            {"study_id": study_id, "tag": tag, "values": values}
            for study_id, known in sorted(self._datastore.objects.items())
            for tag, label in sorted(known.labels.items())
            if (values := label.info.get("unknown_values"))
        ]

    # -- what MONAI Label calls

    def get_image_uri(self, image_id: str) -> str:
        """Path of a study's file: 503 while it is being made, 422 if it cannot be; empty for an unknown study."""
        return str(self.served.open(image_id)) if image_id in self._studies else ""

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What is known of a study: where its file is or will be, and the stamp that changes with the file.

        The stamp of a file that is served as it lies is its size and time, by which a client knows it on its own disk.
        ``name`` ends as the file does, and is no other study's: Slicer shows whatever it downloaded before
        under the same name.
        """
        study, known = self._studies.get(image_id), self._datastore.objects.get(image_id)
        info: dict[str, Any] = copy.deepcopy(known.image.info) if known else {}
        if study is not None:
            place = self.served.place(image_id)
            path = os.path.realpath(place) if place else ""
            stamp = _file_stamp(path) if self.served.is_own(image_id) else f"{study.stamp}-{SERVED_RECIPE}"
            info |= {"path": path, "name": _image_name(study, path), "stamp": stamp, "modality": study.modality}
        return info

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:  # noqa: FBT001, FBT002, ARG002
        """Pairs of image and final label, for training and for the archive of all labels; 503 until all are there."""
        labelled = [study_id for study_id in self.get_labeled_images() if study_id in self._studies]
        can_be_opened = [study_id for study_id in labelled if not self.served.refusal(study_id)]
        for study_id in can_be_opened:
            self.served.ask(study_id)
        if missing := [study_id for study_id in can_be_opened if not self.served.is_ready(study_id)]:
            raise being_prepared(missing[0])
        return [{"image": self.get_image_uri(i), "label": self.get_label_uri(i, FINAL)} for i in can_be_opened]

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        """Write an archive of all images and final labels, each pair under the label's own name; return its path."""
        pairs = self.datalist()
        pairs = pairs[:limit_cases] if limit_cases and limit_cases > 0 else pairs
        if not pairs:
            raise HTTPException(404, "No study has a final label yet, so there is nothing to put into an archive.")
        root = Path(os.path.realpath(self._datastore.label_path(FINAL)))
        with tempfile.NamedTemporaryFile(delete=False) as file, zipfile.ZipFile(file, mode="w") as archive:
            for pair in pairs:
                label = Path(pair["label"]).relative_to(root).as_posix()
                ending = split_label(pair["image"])[1]
                archive.write(pair["image"], f"image/{split_label(label)[0]}{ending}")
                archive.write(pair["label"], f"label/{label}")
            archive.writestr("metadata.json", self._datastore.model_dump_json(exclude={"base_path"}))
            return str(file.name)

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Path of a study's label; empty if there is none."""
        label, name = self._datastore.label(label_id, label_tag), self._labels.name(label_id)
        return os.path.realpath(self._labels.path(label_tag, f"{name}{label.ext}")) if label and name else ""

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Save a label on its study's grid below ``labels/<tag>/``; what was there before stays until then.

        HTTPException 400 for a tag that is not a plain name, 404 for an unknown study, 422 for what is no label of it.
        """
        source, study = Path(label_filename), self._studies.get(image_id)
        if not _TAG.fullmatch(label_tag):
            raise HTTPException(400, f"The tag '{label_tag[:80]}' is not allowed: take letters, digits, - and _.")
        if study is None:
            raise HTTPException(404, f"Study '{image_id}' is not in the studies folder.")
        served = self.served.place(image_id)
        with self._filing.checked(source, study, served) as (checked, label), self._changing:
            known = self._datastore.objects.get(image_id)
            if known is None:
                raise HTTPException(404, f"Study '{image_id}' has just gone from the studies folder.")
            _, ending = split_label(source.name)
            target = self._labels.path(label_tag, f"{self._labels.name_for(study)}{ending}")
            before = self._labels.files_of(image_id, label_tag)  # also in other formats
            rename_durably(checked, target)
            now = time.time()
            os.utime(target, (now, now))  # finer than the clock of the file system
            info = {**label_info, "ts": int(now), "name": target.name, **self._filing.info(label)}
            labels = {**known.labels, label_tag: DataModel(info=info, ext=ending)}
            self._datastore.objects[image_id] = ImageLabelModel(image=known.image, labels=labels)
            self._update_datastore_file()
            for other in before:  # it would come back when this one is deleted
                if other != target:
                    other.unlink(missing_ok=True)
        if info["unknown_values"]:
            logger.warning("The label of study %s has values of no label: %s", image_id, info["unknown_values"])
        return image_id

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Delete a label; 404 if there is none."""
        with self._changing:
            if not self.get_label_uri(label_id, label_tag):
                raise HTTPException(404, f"Study '{label_id}' has no label under the tag '{label_tag}'.")
            for path in self._labels.files_of(label_id, label_tag):
                path.unlink(missing_ok=True)
            self.refresh()

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
        return split_label(file)

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:  # noqa: FBT001, FBT002
        super()._init_from_datastore_file(throw_exception)
        self._datastore.images_dir = self._studies_dir  # the folder may have moved since

    def _update_datastore_file(self, lock: bool = True) -> None:  # noqa: FBT001, FBT002, ARG002
        """Write the JSON beside and rename it: a killed server leaves the former one."""
        path = Path(self._datastore_config_path)
        partial = path.with_name(f".{path.name}")
        with self._changing:
            text = json.dumps(self._datastore.model_dump(exclude={"base_path"}), indent=2, default=str)
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
            self._config_ts = path.stat().st_mtime

    def _reconcile_datastore(self) -> None:
        """Bring what MONAI Label knows in line with the listing and the label files.

        Requests read ``objects`` meanwhile: it is replaced, never changed in place.
        """
        with self._changing:
            before, found = self._datastore.objects, self._labels.find(self._studies.values())
            objects = {
                study_id: ImageLabelModel(image=self._image(study, before.get(study_id)))
                for study_id, study in self._studies.items()
            }
            for tag, files in found.items():
                for study_id, known in objects.items():
                    ending = files.get(self._labels.name(study_id))
                    if ending is not None:
                        former = before[study_id].labels.get(tag) if study_id in before else None
                        is_same = former is not None and former.ext == ending
                        known.labels[tag] = former if is_same else self._label(study_id, ending)
            if objects != before:
                self._datastore.objects = objects
                self._update_datastore_file()

    def _image(self, study: Study, before: ImageLabelModel | None) -> DataModel:
        """What is known of a study's file; all but its name and place is kept."""
        ending = "" if study.is_series else split_label(study.source)[1]
        if before is not None and before.image.ext == ending:
            return before.image
        return DataModel(info={"ts": int(time.time()), "name": Path(study.source).name}, ext=ending)

    def _label(self, study_id: str, ending: str) -> DataModel:
        name = Path(f"{self._labels.name(study_id)}{ending}").name
        return DataModel(info={"ts": int(time.time()), "name": name}, ext=ending)


def _file_stamp(path: str) -> str:
    try:
        stat = Path(path).stat()
    except OSError:
        return ""  # gone just now
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def _image_name(study: Study, path: str) -> str:
    """Name a study's file for people and for caches: another study, or another version of it, is another name."""
    mark = hashlib.sha256(f"{study.study_id}\n{study.stamp}\n{SERVED_RECIPE}".encode()).hexdigest()[:8]
    title = study.title or study.study_id
    name = Path(title if study.is_series else bare(title)).name
    shown = re.sub(r"[^\w .+-]", "_", name)[-_NAME_LETTERS:]
    return f"{mark}-{shown}{split_label(path)[1]}"


def _refuse(status: int, reason: str, upload: str) -> NoReturn:
    """Refuse an upload; MONAI Label would keep its temporary file."""
    Path(upload).unlink(missing_ok=True)
    raise HTTPException(status, reason)
