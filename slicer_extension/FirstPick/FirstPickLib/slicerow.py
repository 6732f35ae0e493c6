"""The proposed slices on the screen: one click or key each, and ticked off."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

from .worklist import sliceText


class SliceRow:
    """Shows the `SliceTour` of the open study in a list of its slices, with a button to the next and the one before.

    Parameters
    ----------
    ui : object
        Has ``sliceFrame``, ``sliceList``, ``sliceLabel``, ``previousSliceButton`` and ``nextSliceButton``.
    """

    def __init__(self, ui) -> None:
        self._ui, self._tour = ui, None
        self._isFilling = False
        ui.sliceList.connect("itemClicked(QListWidgetItem*)", self._onClicked)
        ui.sliceList.connect("itemChanged(QListWidgetItem*)", self._onChanged)
        ui.previousSliceButton.connect("clicked(bool)", lambda: self.step(-1))
        ui.nextSliceButton.connect("clicked(bool)", lambda: self.step(1))

    def show(self, tour) -> None:
        """Show a tour, or None."""
        self._ui.sliceFrame.visible = tour is not None and bool(tour.slices)
        if tour is not self._tour:
            self._tour = tour
            self._fill()
        self._update()

    def step(self, step: int) -> None:
        """Jump to the next slice (1) or the one before (-1)."""
        if self._tour is not None:
            self._tour.jumpTo(self._tour.current + step)
            self._update()

    def _fill(self) -> None:
        self._isFilling = True
        self._ui.sliceList.clear()
        for number, one in enumerate(self._tour.slices if self._tour else ()):
            self._ui.sliceList.addItem(f"{one['plane']} {one['index']}")
            text = _("{slice}: click to jump there, tick when it is done.").format(slice=sliceText(one))
            self._ui.sliceList.item(number).setToolTip(text)
        self._isFilling = False

    def _update(self) -> None:
        tour, ui = self._tour, self._ui
        if tour is None:
            return
        self._isFilling = True
        for number in range(len(tour.slices)):
            ui.sliceList.item(number).setCheckState(qt.Qt.Checked if tour.isTicked(number) else qt.Qt.Unchecked)
        if tour.current >= 0:
            ui.sliceList.setCurrentRow(tour.current)
        self._isFilling = False
        ui.sliceLabel.text = _("{n} of {total} slices done").format(n=tour.nTicked, total=len(tour.slices))
        ui.previousSliceButton.enabled = tour.current > 0
        ui.nextSliceButton.enabled = tour.current + 1 < len(tour.slices)

    def _onClicked(self, item) -> None:
        self._tour.jumpTo(self._ui.sliceList.row(item))
        self._update()

    def _onChanged(self, item) -> None:
        if not self._isFilling:
            self._tour.tick(self._ui.sliceList.row(item), item.checkState() == qt.Qt.Checked)
            self._update()
