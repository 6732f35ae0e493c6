"""The series of the open study on the screen: one is chosen by click or key."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

from .worklist import wrappable

PICTURE_SIZE = 40


class SeriesRow:
    """Shows the `Sequences` of the open study in a box with their pictures, and below what is to be said of them.

    Parameters
    ----------
    ui : object
        Has ``seriesFrame``, ``seriesBox`` and ``seriesLabel``.
    logic : FirstPickLogic
    """

    def __init__(self, ui, logic) -> None:
        self._ui, self._logic = ui, logic
        self._sequences, self._texts, self._pictured = None, [], set()
        ui.seriesBox.setIconSize(qt.QSize(PICTURE_SIZE, PICTURE_SIZE))
        ui.seriesBox.setMinimumHeight(PICTURE_SIZE + 8)
        ui.seriesBox.connect("activated(int)", lambda number: self._sequences.choose(self._sequences.all[number]))

    def show(self, sequences) -> None:
        """Show the series of a study, if it has several."""
        ui = self._ui
        ui.seriesFrame.visible = sequences is not None and len(sequences.all) > 1
        if sequences is not self._sequences:
            self._sequences, self._texts, self._pictured = sequences, [], set()
        if sequences is not None:
            self._fill()
            ui.seriesLabel.text = wrappable(sequences.text())
            ui.seriesLabel.visible = bool(ui.seriesLabel.text)

    def step(self, step: int) -> None:
        """Bring the next series (1) or the one before (-1) to the front."""
        if self._sequences is not None:
            self._sequences.step(step)

    def _fill(self) -> None:
        """Fill the box, and that anew only if there are others: it may be open."""
        sequences, box = self._sequences, self._ui.seriesBox
        missing = _("{series} (not loaded)")
        texts = [one.name if one.isHere else missing.format(series=one.name) for one in sequences.all]
        if len(texts) != len(self._texts):
            box.clear()
            box.addItems(texts)
            self._pictured = set()
        for number, text in enumerate(texts):
            box.setItemText(number, text)
        self._texts = texts
        box.currentIndex = sequences.all.index(sequences.chosen) if sequences.chosen in sequences.all else 0
        for number in range(len(texts) if len(texts) > 1 else 0):
            if number not in self._pictured:
                self._loadPicture(number)

    def _loadPicture(self, number) -> None:
        sequences = self._sequences

        def show(png):
            pixmap = qt.QPixmap()
            if sequences is self._sequences and png and pixmap.loadFromData(qt.QByteArray(png)):
                self._pictured.add(number)
                self._ui.seriesBox.setItemIcon(number, qt.QIcon(pixmap))

        self._logic.loadThumbnail(sequences.studyId, show, sequences.all[number].name)
