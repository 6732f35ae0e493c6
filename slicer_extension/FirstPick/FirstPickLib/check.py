"""What a label file could not hold of what is drawn: segments of no label, and overlaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .layers import countVoxels, layers
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
    nOverlapping, overlapping = _overlaps(found, {i: name for i, name in names.items() if name in known})
    order = tuple(label["name"] for label in labels if label["name"] in overlapping)
    return Findings(sum(counts[i] for i, name in names.items() if name in known), strangers, order, nOverlapping)


def _likeliest(inner, segmentId: str, labels: list) -> str:
    """Guess which label a segment is: its id tells what it was made as."""
    spelled = inner.GetSegment(segmentId).GetName().strip().casefold()
    for label in labels:
        if label["name"].casefold() == spelled:
            return label["name"]
    return next((label["name"] for label in labels if label["name"] == segmentId), "")


def _overlaps(found: list, names: dict) -> tuple:
    """Count the voxels that segments of different names share, and tell which names those are."""
    numbers = {name: number for number, name in enumerate(sorted(set(names.values())), 1)}
    taken = []
    for layer in found:
        table = np.zeros(max(layer.values.values(), default=0) + 2, np.int16)  # the last for what is no segment's
        for segmentId, value in layer.values.items():
            table[value] = numbers.get(names.get(segmentId), 0)
        if table.any():
            taken.append((layer, table))
    if len(taken) < 2:
        return 0, set()
    low = np.min([layer.start for layer, _ in taken], axis=0)
    high = np.max([np.add(layer.start, layer.array.shape[::-1]) for layer, _ in taken], axis=0)
    total, involved = 0, set()
    for k in range(low[2], high[2]):
        first = np.zeros((high[1] - low[1], high[0] - low[0]), np.int16)
        shared = np.zeros(first.shape, bool)
        for layer, table in taken:
            if 0 <= k - layer.start[2] < len(layer.array):
                slab = table[np.minimum(layer.array[k - layer.start[2]], len(table) - 1)]
                i, j = layer.start[0] - low[0], layer.start[1] - low[1]
                part = np.s_[j : j + slab.shape[0], i : i + slab.shape[1]]
                both = (first[part] > 0) & (slab > 0) & (first[part] != slab)
                involved.update(np.unique(first[part][both]).tolist(), np.unique(slab[both]).tolist())
                shared[part] |= both
                first[part] = np.where(first[part] > 0, first[part], slab)
        total += int(np.count_nonzero(shared))
    return total, {name for name, number in numbers.items() if number in involved}


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
