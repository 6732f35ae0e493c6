"""The curve of corrections: a dot for each study that had a draft."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

from .curve import correctionText, isTaken, places
from .poolmap import nearest
from .worklist import plainTooltip

DOT, REACH, MARGIN, HEIGHT = 3, 12, 10, 110
MOST = 500  # dots, the newest


class CurveWidget(qt.QWidget):
    """Paints the Dice of draft and label, between lines at 0, one half and 1; the mouse tells which study a dot is."""

    def __init__(self, parent=None) -> None:
        qt.QWidget.__init__(self, parent)
        self._corrections = []
        self.setMinimumHeight(HEIGHT)
        self.setAccessibleName(_("How alike drafts and labels were"))
        self.setMouseTracking(True)

    def setCorrections(self, corrections: list) -> None:
        """Show other corrections, the oldest first."""
        self._corrections = corrections[-MOST:]
        self.setToolTip("")
        self.update()

    # -- Qt asks

    def sizeHint(self):
        """The size it would like."""
        return qt.QSize(400, HEIGHT)

    def mouseMoveEvent(self, event):
        """Say what is under the mouse."""
        number = nearest(self._places(), event.pos().x(), event.pos().y(), REACH)
        self.setToolTip(plainTooltip(correctionText(self._corrections[number])) if number >= 0 else "")

    def paintEvent(self, _event):
        """Paint the lines, and over them the dots: hollow where nobody had looked at the draft."""
        painter = qt.QPainter(self)
        painter.setRenderHint(qt.QPainter.Antialiasing)
        painter.fillRect(qt.QRect(0, 0, self.width, self.height), self.palette.base())
        self._paintLines(painter)
        points = [(round(x), round(y)) for x, y in self._places().tolist()]
        color = self.palette.text().color()
        painter.setPen(qt.QPen(color, 1))
        for (x, y), (nextX, nextY) in zip(points, points[1:]):
            painter.drawLine(x, y, nextX, nextY)
        for (x, y), one in zip(points, self._corrections):
            painter.setBrush(qt.QBrush(color if isTaken(one) else self.palette.base().color()))
            painter.drawEllipse(x - DOT, y - DOT, 2 * DOT, 2 * DOT)
        painter.end()

    # -- inside

    def _box(self) -> tuple:
        """Where the dots are, right of the numbers."""
        left = MARGIN + self.fontMetrics().boundingRect("0.5").width() + MARGIN
        return left, MARGIN, max(self.width - left - MARGIN, 1), max(self.height - 2 * MARGIN, 1)

    def _places(self):
        return places(self._corrections, self._box())

    def _paintLines(self, painter) -> None:
        left, top, width, height = self._box()
        half = painter.fontMetrics().height() // 2
        for dice, text in ((0, "0"), (0.5, "0.5"), (1, "1")):
            y = round(top + (1 - dice) * height)
            painter.setPen(qt.QPen(self.palette.mid().color(), 1))
            painter.drawLine(left, y, left + width, y)
            painter.setPen(qt.QPen(self.palette.text().color(), 1))
            place = qt.QRect(0, y - half, left - MARGIN // 2, 2 * half)
            painter.drawText(place, qt.Qt.AlignRight | qt.Qt.AlignVCenter, text)
