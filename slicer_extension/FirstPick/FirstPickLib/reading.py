"""The study that is being read, and what must not get lost of it."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field

import slicer

from . import scene
from .client import cacheName


@dataclass
class Reading:
    """One open study.

    Attributes
    ----------
    title : str
        What the reader sees instead of the id.
    isDirty : bool
        Whether anything was drawn since the last draft.
    stamp : str
        Of the file that was opened: the server has another for another file.
    lost : str
        Who has the study instead; empty while it is reserved for this reader.
    cached : str
        The downloaded file; empty if the server's own file was opened.
    """

    studyId: str
    title: str
    volume: object
    segmentation: object
    labels: list
    slices: tuple = ()
    modality: str = ""
    stamp: str = ""
    cached: str = ""
    secondsBefore: float = 0.0
    isDirty: bool = False
    hasDraft: bool = False
    lost: str = ""
    openedAt: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long the study was open, former drafts included."""
        return self.secondsBefore + time.monotonic() - self.openedAt

    @property
    def isHere(self) -> bool:
        """Whether nobody deleted its nodes."""
        return all(slicer.mrmlScene.IsNodePresent(node) for node in (self.volume, self.segmentation))

    def problems(self) -> list:
        """What somebody should look at before submitting."""
        return scene.problems(self.segmentation, self.volume, self.labels)


class Kept:
    """Label files on this computer that did not reach the server yet, one a study and reader."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def path(self, client, studyId: str) -> str:
        """Where a study's file lies, or would lie."""
        return os.path.join(self.folder, cacheName(f"{client.address} {client.reader}", studyId, {}) + ".nii.gz")

    def write(self, client, reading: Reading) -> str:
        """Write the segmentation as it is now."""
        os.makedirs(self.folder, exist_ok=True)
        path = self.path(client, reading.studyId)
        scene.exportLabel(reading.segmentation, reading.volume, reading.labels, path)
        with open(path + ".json", "w", encoding="utf-8") as file:
            json.dump({"study_id": reading.studyId, "seconds": reading.seconds}, file)
        return path

    def read(self, client, studyId: str) -> dict:
        """What is known of a kept file; empty if there is none."""
        path = self.path(client, studyId)
        try:
            with open(path + ".json", encoding="utf-8") as file:
                return json.load(file) if os.path.exists(path) else {}
        except (OSError, ValueError):
            return {}

    def remove(self, client, studyId: str) -> None:
        """Forget a file: the server has it."""
        path = self.path(client, studyId)
        for name in (path, path + ".json"):
            if os.path.exists(name):
                os.remove(name)
