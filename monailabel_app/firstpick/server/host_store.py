"""The datastore of somebody else's app: it keeps its files and labels as it does, and FirstPick looks at them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from monailabel.datastore.local import LocalDatastore

from firstpick.board.board import OPEN
from firstpick.board.events import Event, Labelled, Noted, SavedLabel, Unlabelled
from firstpick.database import StoreError
from firstpick.server.desk import Desk
from firstpick.server.label_folder import stamp_of
from firstpick.server.label_list import LabelList
from firstpick.server.served import ServedFiles
from firstpick.server.snapshot import Snapshot
from firstpick.sources.label_files import split_label
from firstpick.sources.listed import Listing
from firstpick.studies import Study

logger = logging.getLogger(__name__)

_READ_OTHERWISE = (
    "This app hands out the file as it lies. ITK, by which it and its clients read it, makes other voxels or another "
    "geometry of it than FirstPick, whose are what was embedded."
)
_MOMENT_S = 0.2  # for which MONAI Label's lists are empty while it looks at its folder, and more
_KEPT = ("client_id", "seconds", "ts")
_OF_ANY_FILE = frozenset({"ts", "name"})
"""What MONAI Label knows of a label that it found in the folder; of one that was sent it knows what came with it."""


class HostStore:
    """A host's datastore, as the rest of the server needs it. Studies are its images, under its own ids.

    Parameters
    ----------
    host : LocalDatastore
    desk : Desk
    served : ServedFiles
        Which is told that every file is served as it lies.
    now : Snapshot
        Is told which files ITK reads otherwise.
    """

    unmatched: tuple[str, ...] = ()

    def __init__(self, host: LocalDatastore, desk: Desk, served: ServedFiles, now: Snapshot) -> None:
        self.served = served
        self.label_list = LabelList(desk, lambda study_id, tag: str(self._host.get_label_uri(study_id, tag)))
        self._desk = desk
        self._now = now
        self._studies: Mapping[str, Study] = {}
        self._changing = threading.Lock()
        self._host = self._told_more(host)

    def attach(self, host: LocalDatastore) -> None:
        """Take the datastore of the app that MONAI Label made last."""
        if host is not self._host:
            self._host = self._told_more(host)

    def _told_more(self, host: LocalDatastore) -> LocalDatastore:
        """Have a datastore say of images what FirstPick's module needs, beside what it says itself."""
        stock = host.get_image_info

        def get_image_info(image_id: str) -> dict[str, Any]:
            info: dict[str, Any] = stock(image_id)
            return {**self._facts(image_id), **info}

        host.get_image_info = get_image_info
        return host

    def _facts(self, study_id: str) -> dict[str, Any]:
        """Stamp, size and modality of a study's file; nothing of what is none."""
        study = self._studies.get(study_id)
        stamp = stamp_of(Path(study.source)) if study else ""
        return {"stamp": stamp, "size": int(stamp.split("-")[0]), "modality": study.modality} if study and stamp else {}

    def listing(self) -> Listing:
        """Return the folder of the host's images, and the path of each by its id."""
        images = self._images()
        if not images.keys() >= self._studies.keys():
            time.sleep(_MOMENT_S)
            images = self._images()
        folder: str = self._host._datastore.image_path()  # noqa: SLF001 - it says so nowhere else
        return folder, images

    def _images(self) -> dict[str, str]:
        host = self._host
        return {image_id: path for image_id in host.list_images() if (path := host.get_image_uri(image_id))}

    # -- what the rest of the server asks

    def update(self, studies: Iterable[Study], endings: Mapping[tuple[str, str], str]) -> None:
        """Take over a new listing; ``endings`` says which files ITK reads otherwise."""
        self._studies = {study.study_id: study for study in studies}
        keys = [(study.study_id, study.stamp) for study in self._studies.values()]
        self.served.take_listing(self._studies, dict.fromkeys(keys, ""))
        self._now.more_notes = {study_id: [_READ_OTHERWISE] for (study_id, _), ending in endings.items() if ending}

    def sync_labels(self) -> None:
        """Tell the desk of labels that came, changed or went."""
        with self._changing:
            found = [event for study_id in self._studies for event in self._news(study_id)]
            if any(isinstance(event, Unlabelled) for event in found):
                time.sleep(_MOMENT_S)
                found = [event for study_id in {event.study_id for event in found} for event in self._news(study_id)]
            self._desk.decide(*found)

    def label_saved(self, study_id: str) -> None:
        """Tell the desk at once of what was saved of a study."""
        with self._changing:
            events = self._news(study_id, was_sent=True) if study_id in self._studies else []
            try:
                self._desk.decide(*(event for event in events if isinstance(event, Labelled)))
            except StoreError as error:  # the label is saved all the same, and is found at the next look
                logger.warning("%s", error)

    def odd_labels(self) -> dict[str, list[Any]]:
        """Return nothing: the host takes what it takes."""
        return {"unclaimed_labels": [], "unknown_values": []}

    def get_label_uri(self, study_id: str, tag: str, /) -> str:
        """Return the path of a label."""
        label_id = self._host.get_labels_by_image_id(study_id)[tag]
        return str(self._host.get_label_uri(label_id, tag))

    def update_label_info(self, study_id: str, tag: str, info: dict[str, Any], /) -> None:
        """Note more of a label in our own log: the host's says what it said."""
        self._desk.decide(Noted(study_id=study_id, tag=tag, info=info))

    def warm_up(self) -> None:
        """Do nothing: the host checks no labels."""

    def write_json(self) -> None:
        """Do nothing: the host writes its own."""

    # -- inside

    def _news(self, study_id: str, *, was_sent: bool = False) -> list[Event]:
        """Compare a study's labels with what the desk knows of them."""
        known = self._desk.board.statuses.get(study_id, OPEN).labels
        here = self._labels(study_id, was_sent=was_sent)
        events: list[Event] = [Unlabelled(study_id=study_id, tag=tag) for tag in known.keys() - here.keys()]
        for tag, label in here.items():
            if tag not in known or known[tag].stamp != label.stamp:
                events.append(Labelled(study_id=study_id, tag=tag, client=label.info["client_id"], label=label))
        return events

    def _labels(self, study_id: str, *, was_sent: bool) -> dict[str, SavedLabel]:
        """Labels of the host whose files are there, by tag."""
        while True:
            try:
                return self._labels_now(study_id, was_sent=was_sent)
            except RuntimeError:  # one was added while they were counted
                continue

    def _labels_now(self, study_id: str, *, was_sent: bool) -> dict[str, SavedLabel]:
        found = {}
        for tag, label_id in self._host.get_labels_by_image_id(study_id).items():
            path = Path(self._host.get_label_uri(label_id, tag))
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            if not path.is_file():  # the host says '' of a label that went just now
                continue
            info = self._host.get_label_info(label_id, tag)
            kept = {key: info[key] for key in _KEPT if isinstance(info.get(key), str | int | float)}
            sent = was_sent or bool(info.keys() - _OF_ANY_FILE)  # whoever has the study drew what names nobody
            kept["client_id"] = self._desk.reader_of(study_id, kept) if sent else ""
            found[tag] = SavedLabel(split_label(path.name)[1], f"{stat.st_size}-{stat.st_mtime_ns}", kept)
        return found
