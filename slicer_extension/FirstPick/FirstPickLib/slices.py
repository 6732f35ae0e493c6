"""The slices of a study that the server proposes to segment: jumped to, and ticked off."""

from __future__ import annotations

from . import geometry
from .layers import isDrawnOn, layers


class SliceTour:
    """Leads through the proposed slices of the open study.

    A slice is done if something is drawn on it, or if the reader ticked it by hand; the reader's word counts more.

    Parameters
    ----------
    volume, segmentation : nodes
        Of the open study.
    slices : tuple of dict
        As the server gives them: ``index``, ``plane`` and ``position_mm``.
    byHand : dict
        What the reader ticked by hand, or took the tick from: is kept up to date, to go on with when the study is
        opened again.

    Attributes
    ----------
    current : int
        The slice that was jumped to last; -1 before the first.
    isFromDraft : bool
        Whether the reader started from the server's draft: what is drawn on a slice does not say then that it was read.
    """

    def __init__(self, volume, segmentation, slices: tuple, byHand: dict) -> None:
        self.slices = slices
        self.current = -1
        self.isFromDraft = False
        self._volume, self._segmentation = volume, segmentation
        self._byHand, self._drawn = byHand, set()
        self.look()

    def jumpTo(self, number: int) -> None:
        """Show a slice; one before the first or after the last is none."""
        if 0 <= number < len(self.slices):
            self.current = number
            geometry.jumpTo(self._volume, self.slices[number])

    def isTicked(self, number: int) -> bool:
        """Whether a slice is done."""
        return self._byHand.get(number, number in self._drawn)

    def tick(self, number: int, isOn: bool) -> None:
        """Tick a slice by hand, or take the tick away."""
        if isOn != self.isTicked(number):
            self._byHand[number] = isOn

    @property
    def nTicked(self) -> int:
        """How many slices are done."""
        return sum(self.isTicked(number) for number in range(len(self.slices)))

    def look(self) -> bool:
        """See on which slices something is drawn; return whether that changed."""
        if not self.slices:
            return False
        found = [] if self.isFromDraft else layers(self._segmentation, self._volume)
        before = self._drawn
        places = [geometry.sliceIndex(self._volume, one) for one in self.slices]
        self._drawn = {number for number, place in enumerate(places) if isDrawnOn(found, *place)}
        return self._drawn != before
