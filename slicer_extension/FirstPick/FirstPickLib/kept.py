"""Work that the server does not have: files on this computer, one a study and reader, each whole at any moment."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from . import scene
from .client import cacheName
from .work import ENDING, writeWork


@dataclass(frozen=True)
class KeptWork:
    """What is kept of one study.

    Attributes
    ----------
    at : float
        When it was written, in seconds since the epoch.
    file : str
        Name of the file with all that was drawn.
    label : str
        Name of the label file made of it; empty if there is none.
    stamp : str
        Of the study's file: another file, or another server, has another.
    isSubmitted : bool
        Whether the reader submitted it and the server could not be reached.
    """

    studyId: str
    title: str
    address: str
    reader: str
    seconds: float
    at: float
    file: str
    label: str = ""
    stamp: str = ""
    isSubmitted: bool = False


class Kept:
    """Keeps what a reader draws until the server says that it has it.

    Every file is new, and counts once the study's record, which is renamed into its place, names it.

    Parameters
    ----------
    folder : str
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._held = []

    def path(self, name: str) -> str:
        """Where a file of some `KeptWork` lies."""
        return os.path.join(self.folder, name)

    def write(self, client, reading, withLabel: bool = False, isSmall: bool = False) -> KeptWork:
        """Write all that is drawn now; OSError, and what was kept before stays, if that cannot be done.

        ``withLabel`` makes a label file beside it; ``isSmall`` takes time to compress what is sent where there is none.
        """
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        key = self._key(client, reading.studyId)
        name = f"{key}-{time.time_ns():x}"
        file, label = name + ENDING, name + ".nii" if withLabel else ""
        about = (reading.studyId, reading.title, client.address, client.reader, reading.seconds, time.time())
        work = KeptWork(*about, file, label, reading.stamp)
        try:
            writeWork(reading.segmentation, self.path(file), isSmall)
            if withLabel:
                scene.exportLabel(reading.segmentation, reading.volume, reading.paintOrder, self.path(label))
            self._record(key, work)
        except OSError:
            for some in filter(None, (file, label)):
                _remove(self.path(some))
            raise
        return work

    def submitted(self, client, work: KeptWork) -> None:
        """Note that some work is to be submitted as soon as that can be done."""
        if self.read(client, work.studyId) == work:
            self._record(self._key(client, work.studyId), replace(work, isSubmitted=True))

    def read(self, client, studyId: str) -> KeptWork | None:
        """What is kept of a study for a reader."""
        return self._read(self._key(client, studyId))

    def all(self, client) -> list:
        """All that is kept for a reader of a server, the oldest first."""
        names = os.listdir(self.folder) if os.path.isdir(self.folder) else []
        works = [self._read(name[: -len(".json")]) for name in names if name.endswith(".json")]
        mine = [work for work in works if work and (work.address, work.reader) == (client.address, client.reader)]
        return sorted(mine, key=lambda work: work.at)

    def remove(self, client, work: KeptWork) -> None:
        """Forget some work; not what was written of the same study since."""
        key = self._key(client, work.studyId)
        now = self._read(key)
        if now is not None and now.file == work.file:
            _remove(self.path(key + ".json"))
            self._sweep(key, "")

    @contextmanager
    def held(self, work: KeptWork):
        """Leave the files of some work where they are while they are sent."""
        self._held.append(_stem(work.file))
        try:
            yield
        finally:
            self._held.remove(_stem(work.file))

    def export(self, work: KeptWork, path: str) -> None:
        """Copy all that was drawn to a file of the reader's choice."""
        shutil.copyfile(self.path(work.file), path)

    def copy(self, reading) -> str:
        """Write all that is drawn now into a file that stays; return where it lies."""
        folder = self.path("copies")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        title = re.sub(r"[^\w.+-]+", "_", reading.title)[-60:].strip("._") or "study"
        now = time.time_ns()
        stamp = f"{time.strftime('%Y%m%dT%H%M%S', time.localtime(now // 10**9))}-{now // 1000 % 10**6:06d}"
        path = os.path.join(folder, f"{title}-{stamp}{ENDING}")
        writeWork(reading.segmentation, path, isSmall=True)
        return path

    def _key(self, client, studyId: str) -> str:
        return cacheName(f"{client.address} {client.reader}", studyId, {})

    def _record(self, key: str, work: KeptWork) -> None:
        place = self.path(key + ".json")
        with open(place + ".part", "w", encoding="utf-8") as file:
            json.dump(asdict(work), file)
        os.replace(place + ".part", place)
        self._sweep(key, work.file)

    def _read(self, key: str) -> KeptWork | None:
        try:
            with open(self.path(key + ".json"), encoding="utf-8") as file:
                work = KeptWork(**json.load(file))
        except (OSError, ValueError, TypeError):
            return None
        if work.label and not os.path.exists(self.path(work.label)):
            work = replace(work, label="", isSubmitted=False)
        return work if os.path.exists(self.path(work.file)) else None

    def _sweep(self, key: str, wanted: str) -> None:
        """Remove former files of a study."""
        for name in os.listdir(self.folder):
            isFormer = name.startswith(key + "-") and _stem(name) not in (_stem(wanted), *self._held)
            if isFormer:
                _remove(self.path(name))


def _stem(name: str) -> str:
    return name.partition(".")[0]


def _remove(path: str) -> None:
    if os.path.exists(path):
        os.remove(path)
