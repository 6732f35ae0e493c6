"""The study that is being read, and what must not get lost of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import slicer

from . import check
from .activity import ActiveTime
from .client import DRAFT
from .preferences import setting


def _newTime() -> ActiveTime:
    return ActiveTime(60 * setting("idleMinutes"))


@dataclass
class Reading:
    """One open study.

    Attributes
    ----------
    title : str
        What the reader sees instead of the id.
    slices : SliceTour
        The slices that the server proposes.
    sequences : Sequences
        The series, of which ``volume`` is the primary.
    isDirty : bool
        Whether anything was drawn that the server does not have.
    isDraft : bool
        Whether the segmentation is the server's draft, which the reader neither changed nor accepted.
    hasSavedWork : bool
        Whether the reader saved work on it before, on the server or this computer.
    stamp : str
        Of the file that was opened: the server has another for another file.
    lost : str
        Who has the study instead; empty while it is reserved for this reader.
    wasDone : bool
        Whether it is a done study that was opened again: unchanged, it is done as before.
    cached : str
        The downloaded file; empty if the server's own file was opened.
    listed : list of dict
        The labels that can be loaded, as the server lists them.
    beside : list
        Segmentations that are only looked at.
    settled : set
        What the reader decided already of what a label file cannot hold.
    copied : str
        Where a copy lies that was made on the reader's wish, until that is said.
    onTop : str
        Label that has the voxels where segments overlap.
    changes, keptChanges : int
        Counts what is drawn, and how much of that is kept on this computer.
    """

    studyId: str
    title: str
    volume: object
    segmentation: object
    labels: list
    slices: object = None
    sequences: object = None
    modality: str = ""
    stamp: str = ""
    cached: str = ""
    secondsBefore: float = 0.0
    isDirty: bool = False
    isDraft: bool = False
    hasSavedWork: bool = False
    lost: str = ""
    wasDone: bool = False
    listed: list = field(default_factory=list)
    beside: list = field(default_factory=list)
    settled: set = field(default_factory=set)
    copied: str = ""
    onTop: str = ""
    changes: int = 0
    keptChanges: int = 0
    active: ActiveTime = field(default_factory=_newTime)

    def __post_init__(self) -> None:
        self._seen = (None, None)
        self._segments = self._described()

    @property
    def seconds(self) -> float:
        """How long somebody was at the study, what was saved before included, long pauses left out."""
        return self.secondsBefore + self.active.seconds

    @property
    def isHere(self) -> bool:
        """Whether nobody deleted its nodes."""
        return self.hasDrawing and slicer.mrmlScene.IsNodePresent(self.volume)

    @property
    def hasDrawing(self) -> bool:
        """Whether nobody deleted what was drawn."""
        return bool(slicer.mrmlScene.IsNodePresent(self.segmentation))

    @property
    def isUntouched(self) -> bool:
        """Whether it is this reader's to give back as it was: nothing was drawn, now or before."""
        return not self.isDirty and not self.lost and (self.wasDone or not self.hasSavedWork)

    @property
    def draft(self) -> dict | None:
        """The server's draft, as it is listed; None if there is none."""
        return next((label for label in self.listed if label["kind"] == DRAFT), None)

    @property
    def isDraftOffered(self) -> bool:
        """Whether there is a draft to start from, and nothing of the reader's own, drawn now or before."""
        hasOwn = self.isDirty or self.hasSavedWork or any(label["is_resumed"] for label in self.listed)
        return self.draft is not None and not self.isDraft and not hasOwn

    def acceptDraft(self) -> None:
        """Take the draft for what the reader would have drawn."""
        self.isDraft, self.isDirty = False, True

    def findings(self) -> check.Findings:
        """What is drawn, seen with the server's labels; looked at once for each change."""
        if self._seen[0] != self.changes:
            self._seen = (self.changes, check.findings(self.segmentation, self.volume, self.labels))
        return self._seen[1]

    @property
    def fitsLabelFile(self) -> bool:
        """Whether a label file can hold all that is drawn, or the reader said what it shall hold."""
        found = self.findings()
        return not found.strangers and (not found.nOverlapping or self.onTop in found.overlapping)

    @property
    def paintOrder(self) -> list:
        """The labels, what is on top last."""
        return sorted(self.labels, key=lambda label: label["name"] == self.onTop)

    def areSegmentsChanged(self) -> bool:
        """Tell whether a segment has another name or colour than when this was asked last."""
        before, self._segments = self._segments, self._described()
        return before != self._segments

    def _described(self) -> list:
        inner = self.segmentation.GetSegmentation()
        segments = [inner.GetNthSegment(number) for number in range(inner.GetNumberOfSegments())]
        return [(segment.GetName(), segment.GetColor()) for segment in segments]
