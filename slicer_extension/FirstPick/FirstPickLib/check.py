"""What a label file could not hold of what is drawn: segments of no label, and overlaps."""

from __future__ import annotations

from dataclasses import dataclass

from .layers import countVoxels, layers, overlaps
from .scene import color, isEmpty


@dataclass(frozen=True)
class Stranger:
    """A segment with something on it that the server has no label for.

    Attributes
    ----------
    likeliest : str
        The label that it was before it was renamed, or that is spelled alike; empty if there is none.
    """

    segmentId: str
    name: str
    nVoxels: int
    likeliest: str = ""


@dataclass(frozen=True)
class Findings:
    """What is drawn, seen with the server's labels."""

    nVoxels: int
    strangers: tuple
    overlapping: tuple
    nOverlapping: int

    @property
    def nDrawn(self) -> int:
        """How many voxels are drawn, whether the server has a label for them or not."""
        return self.nVoxels + sum(stranger.nVoxels for stranger in self.strangers)


def findings(segmentation, volume, labels: list) -> Findings:
    """Look at all that is drawn."""
    inner = segmentation.GetSegmentation()
    found = layers(segmentation, volume)
    counts = {segmentId: n for segmentId, n in countVoxels(found).items() if n}
    names = {segmentId: inner.GetSegment(segmentId).GetName() for segmentId in counts}
    known = {label["name"] for label in labels}
    strangers = tuple(
        Stranger(segmentId, name, counts[segmentId], _likeliest(inner, segmentId, labels))
        for segmentId, name in names.items()
        if name not in known
    )
    nOverlapping, overlapping = overlaps(found, {i: name for i, name in names.items() if name in known})
    order = tuple(label["name"] for label in labels if label["name"] in overlapping)
    return Findings(sum(counts[i] for i, name in names.items() if name in known), strangers, order, nOverlapping)


def _likeliest(inner, segmentId: str, labels: list) -> str:
    """Guess which label a segment is: its id tells what it was made as."""
    spelled = inner.GetSegment(segmentId).GetName().strip().casefold()
    for label in labels:
        if label["name"].casefold() == spelled:
            return label["name"]
    return next((label["name"] for label in labels if label["name"] == segmentId), "")


def mapToLabel(segmentation, segmentId: str, label: dict) -> None:
    """Make a segment one of the server's labels; what was drawn of that before stays beside it under the same name."""
    inner = segmentation.GetSegmentation()
    for number in reversed(range(inner.GetNumberOfSegments())):
        other = inner.GetNthSegmentID(number)
        if other != segmentId and inner.GetSegment(other).GetName() == label["name"] and isEmpty(segmentation, other):
            inner.RemoveSegment(other)
    segment = inner.GetSegment(segmentId)
    segment.SetName(label["name"])
    segment.SetColor(*color(label))
