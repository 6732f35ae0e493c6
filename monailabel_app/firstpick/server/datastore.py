"""MONAI Label's local datastore over any studies folder, without writing to it."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import logging
import os
import re
import tempfile
import threading
import time
import uuid
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from fastapi import HTTPException
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore

from firstpick.board.board import OPEN
from firstpick.board.events import FINAL, READING, Event, Labelled, Named, Noted, Unlabelled, reading_tag
from firstpick.server.datastore_text import DatastoreText
from firstpick.server.desk import Desk
from firstpick.server.filing import Filing, copy_durably
from firstpick.server.image_facts import file_name, file_stamp, path_of, size_of
from firstpick.server.label_folder import VERSIONS, LabelFolder
from firstpick.server.label_list import LabelList
from firstpick.server.served import ServedFiles
from firstpick.sources.label_files import split_label
from firstpick.studies import Study
from firstpick.voxels.formats import ENDINGS

logger = logging.getLogger(__name__)

_TAG = re.compile(r"\w[\w .@+-]{0,63}")
UNCLAIMED = "unclaimed-"
"""Begins the tag of a label that belongs to no reader, where a study needs several: it counts for none."""


class StudiesDatastore(LocalDatastore):
    """The studies that `firstpick.sources.folder` lists; labels and MONAI Label's JSON lie in the state folder.

    MONAI Label's own class sees only the top of a folder and a few endings, and writes into it. Here
    an image id is a study id, slashes included; a label's file has a name of its own, given once.

    Parameters
    ----------
    studies_dir : str
        Only read; of a PACS, any folder.
    folder : Path
        Where labels and JSON lie.
    desk : Desk
        Knows the labels; MONAI Label's JSON is written from that.
    labels : LabelFolder
    served : ServedFiles
        The files that readers open.
    filing : Filing
        Checks labels.
    """

    def __init__(
        self, studies_dir: str, folder: Path, *, desk: Desk, labels: LabelFolder, served: ServedFiles, filing: Filing
    ) -> None:
        self._folder = folder
        self._studies_dir = studies_dir
        self._desk = desk
        self._labels = labels
        self.label_list = LabelList(
            desk, self.get_label_uri, lambda study_id: labels.versions(desk.board.names.get(study_id, ""))
        )
        self.served = served
        self.filing = filing
        self._studies: dict[str, Study] = {}
        self._handed_out: dict[str, Any] = {}  # when each study was last handed out, as MONAI Label notes it
        self._changing = threading.RLock()
        self._is_written = True
        self._state = object()  # another one whenever the studies or their labels are others
        self._text = DatastoreText()
        self._summary: tuple[object, dict[str, Any]] = (None, {})
        endings = [f"*{ending}" for ending in ENDINGS]
        super().__init__(str(folder), images_dir=studies_dir, extensions=endings, read_only=True)

    def update(self, studies: Iterable[Study], endings: Mapping[tuple[str, str], str]) -> None:
        """Take over a new listing, and how those studies are served that were read."""
        listed = {study.study_id: study for study in studies}
        self.served.take_listing(listed, endings)
        with self._changing:
            if listed != self._studies or not self._datastore.objects:
                former, known, self._studies = self._studies, self._datastore.objects, listed
                self._datastore.objects = {
                    study_id: known[study_id] if former.get(study_id) == study else self._object(study)
                    for study_id, study in listed.items()
                }
                self._has_changed()

    def sync_labels(self) -> None:
        """Tell the desk of label files that came, changed or went without a request; StoreError if none can be seen."""
        found = self._labels.events(self._desk.board, self._studies.values())
        with self._changing:
            for are_names in (True, False):
                some = [event for event in found if isinstance(event, Named) is are_names]
                self._decide([event for event in some if self._labels.still_holds(event, self._desk.board)])

    def warm_up(self) -> None:
        """Start what checks labels, so that the first one need not wait for it."""
        self.filing.warm_up()

    def _decide(self, events: Sequence[Event]) -> None:
        """Keep events, and show what follows of them."""
        with self._changing:
            if not events:
                return
            self._desk.decide(*events)
            for study_id in {event.study_id for event in events} & self._studies.keys():
                self._datastore.objects[study_id] = self._object(self._studies[study_id])
            self._has_changed()

    def _has_changed(self) -> None:
        self._is_written, self._state = False, object()

    @property
    def unmatched(self) -> list[str]:
        """Label files that are nobody's, or could be several studies', as ``tag/path``."""
        return self._labels.unmatched

    def odd_labels(self) -> dict[str, list[Any]]:
        """Studies with a label that belongs to no reader, where each needs several; and with values of no label."""
        labels = [
            (study_id, tag, label.info.get("unknown_values"))
            for study_id, status in sorted(self._desk.board.statuses.items())
            for tag, label in sorted(status.labels.items())
            if study_id in self._studies
        ]
        return {
            "unclaimed_labels": [study_id for study_id, tag, _ in labels if tag.startswith(UNCLAIMED)],
            "unknown_values": [{"study_id": i, "tag": tag, "values": odd} for i, tag, odd in labels if odd],
        }

    def write_json(self) -> None:
        """Write MONAI Label's JSON beside and rename it, if anything changed; FirstPick itself never reads it."""
        if self._is_written:
            return
        self._is_written = True
        path = Path(self._datastore_config_path)
        partial = path.with_name(f".{path.name}")
        partial.write_text(self.as_json(), encoding="ascii")
        partial.replace(path)

    def as_json(self) -> str:
        """Return all as MONAI Label's JSON."""
        return self._text.of(self._datastore)

    def _object(self, study: Study) -> ImageLabelModel:
        """All that MONAI Label is to know of a study and its labels."""
        board = self._desk.board
        status, name = board.statuses.get(study.study_id, OPEN), board.names.get(study.study_id, "")
        ending = "" if study.is_series else split_label(study.source)[1]
        notes = board.notes.get(study.study_id, {})
        image = DataModel(info={"name": Path(study.source).name, **notes}, ext=ending)
        labels = {
            tag: DataModel(info={**label.info, "name": Path(f"{name}{label.ending}").name}, ext=label.ending)
            for tag, label in status.labels.items()
        }
        return ImageLabelModel(image=image, labels=labels)

    # -- what MONAI Label calls

    def status(self) -> dict[str, Any]:
        """Count studies and labels, once until they are others: MONAI Label asks at every next sample."""
        state = self._state
        if self._summary[0] is not state:
            self._summary = (state, super().status())
        return copy.deepcopy(self._summary[1])

    def get_image_uri(self, image_id: str) -> str:
        """Path of a study's file: 503 while it is being made, 422 if it cannot be; empty for an unknown study."""
        return str(self.served.open(image_id)) if image_id in self._studies else ""

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What is known of a study: where its file is or will be, and the stamp that changes with the file.

        ``size`` in bytes tells a client whether it got all of the file; 0 while it is not made yet.
        The stamp of a file that is served as it lies is its size and time, by which a client knows it on its own disk.
        ``name`` ends as the file does, and is no other study's: Slicer shows whatever it downloaded before
        under the same name.
        """
        study, known = self._studies.get(image_id), self._datastore.objects.get(image_id)
        info: dict[str, Any] = copy.deepcopy(known.image.info) if known else {}
        if study is not None:
            path = path_of(study, study.primary, self.served)
            info |= self._handed_out.get(image_id, {})
            info |= {"path": path, "name": file_name(study, path), "modality": study.modality, "size": size_of(path)}
            info |= {"stamp": file_stamp(study, study.primary, path, self.served)}
        return info

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:  # noqa: FBT001, FBT002, ARG002
        """Pairs of image and final label, for training and for the archive of all labels; 503 until all are there."""
        labelled = [study_id for study_id in self.get_labeled_images() if study_id in self._studies]
        can_be_opened = [study_id for study_id in labelled if not self.served.refusal(study_id)]
        for study_id in can_be_opened:
            self.served.ask(study_id)
        if missing := [study_id for study_id in can_be_opened if not self.served.is_ready(study_id)]:
            raise self.served.being_prepared(missing[0])
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
            archive.writestr("metadata.json", self.as_json())
            return str(file.name)

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Path of a study's label; empty if there is none."""
        label, name = self._datastore.label(label_id, label_tag), self._desk.board.names.get(label_id)
        return os.path.realpath(self._labels.path(label_tag, f"{name}{label.ext}")) if label and name else ""

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Save a label on its study's grid below ``labels/<tag>/``; what was there before stays until then.

        A final label closes its study; where several readers label each, it is the reading of one of them.
        HTTPException 400 for a tag that is not a plain name, 404 for an unknown study, 422 for what is no label of it.
        """
        source, study = Path(label_filename), self._studies.get(image_id)
        if not _TAG.fullmatch(label_tag) or label_tag.casefold() == VERSIONS:
            raise HTTPException(400, f"The tag '{label_tag[:80]}' is not allowed: take letters, digits, - and _.")
        if label_tag.casefold().startswith((READING, UNCLAIMED)):
            raise HTTPException(400, f"The tag '{label_tag}' is FirstPick's own: send a reading as '{FINAL}'.")
        if study is None:
            raise HTTPException(404, f"Study '{image_id}' is not in the studies folder.")
        self._labels.check()
        with self.filing.checked(source, study, self.served.place(image_id)) as (checked, label), self._changing:
            reader = self._desk.reader_of(image_id, label_info)
            info = {**label_info, "client_id": reader, "ts": int(time.time()), **self.filing.info(label)}
            if label_tag == FINAL and self._desk.readers_per_study > 1:
                self._file_reading(checked, study, reader, info)
            else:
                self._file(checked, study, [label_tag], reader, info)
        if info["unknown_values"]:
            logger.warning("The label of study %s has values of no label: %s", image_id, info["unknown_values"])
        return image_id

    def _file_reading(self, checked: Path, study: Study, reader: str, info: Mapping[str, Any]) -> None:
        """File what one of several readers drew; with the last reading comes the final label, which is the same."""
        if not reader:
            mark = hashlib.sha256(checked.read_bytes()).hexdigest()[:8]
            logger.warning("A label of study %s is nobody's: kept under the tag %s%s", study.study_id, UNCLAIMED, mark)
            self._file(checked, study, [f"{UNCLAIMED}{mark}"], reader, info)
            return
        readers = {*self._desk.board.statuses.get(study.study_id, OPEN).read_by, reader}
        is_last = len(readers) >= self._desk.readers_per_study
        self._file(checked, study, [reading_tag(reader), *([FINAL] if is_last else [])], reader, info)

    def _file(self, checked: Path, study: Study, tags: Sequence[str], reader: str, info: Mapping[str, Any]) -> None:
        """Put a checked label in its place under each tag, and say so to the desk; all or nothing."""
        name = self._labels.name_for(study, self._desk.board)
        events: list[Event] = []
        if study.study_id not in self._desk.board.names:
            events.append(Named(study_id=study.study_id, name=name))
        with contextlib.ExitStack() as filed:
            for tag in tags:
                file = checked
                if tag != tags[-1]:
                    file = checked.with_name(f"{uuid.uuid4().hex}{split_label(checked.name)[1]}")
                    filed.callback(file.unlink, missing_ok=True)
                    copy_durably(checked, file)
                label = filed.enter_context(self._labels.filed(file, tag, name))
                label = replace(label, info=info)
                events.append(Labelled(study_id=study.study_id, tag=tag, client=reader, label=label))
            self._decide(events)

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Delete a label; 404 if there is none."""
        with self._changing:
            if not self.get_label_uri(label_id, label_tag):
                raise HTTPException(404, f"Study '{label_id}' has no label under the tag '{label_tag}'.")
            self._labels.delete(self._desk.board.names[label_id], label_tag)
            self._decide([Unlabelled(study_id=label_id, tag=label_tag)])

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add to what is known of a study; when it was handed out, which MONAI Label notes itself, is not kept."""
        if image_id not in self._studies:
            raise HTTPException(404, f"Study '{image_id}' is not in the studies folder.")
        if info.keys() == {"strategy"}:
            self._handed_out[image_id] = info
        else:
            self._decide([Noted(study_id=image_id, info=info)])

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Add to what is known of a label."""
        if label_tag not in self._desk.board.statuses.get(label_id, OPEN).labels:
            raise HTTPException(404, f"Study '{label_id}' has no label under the tag '{label_tag}'.")
        self._decide([Noted(study_id=label_id, tag=label_tag, info=info)])

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:  # noqa: ARG002
        """Refuse: the studies folder is only read."""
        _refuse(403, "FirstPick never writes the studies folder: put the file there yourself.", image_filename)

    def remove_image(self, image_id: str) -> None:
        """Refuse: the studies folder is only read."""
        raise HTTPException(403, f"FirstPick never deletes studies: remove '{image_id}' from the folder yourself.")

    # -- what its base class would do with files

    def _to_id(self, file: str) -> tuple[str, str]:
        return split_label(file)

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:  # noqa: FBT001, FBT002
        """Read nothing: what its JSON says, the log knows better."""

    def _update_datastore_file(self, lock: bool = True) -> None:  # noqa: FBT001, FBT002, ARG002
        """Write nothing now: see `write_json`."""
        self._is_written = False

    def _reconcile_datastore(self) -> None:
        """Do nothing: listings and label files come by `update` and `sync_labels`."""


def _refuse(status: int, reason: str, upload: str) -> NoReturn:
    """Refuse an upload; MONAI Label would keep its temporary file."""
    Path(upload).unlink(missing_ok=True)
    raise HTTPException(status, reason)
