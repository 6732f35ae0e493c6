"""The pool as a picture: every study a dot, look-alikes close together."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

from .colors import inkOn
from .poolmap import PoolMap, nearest, painted

DOT, RING, REACH, MARGIN = 2, 8, 10, 16
HEIGHT = 260
PICTURE = 72
MOST_SHAPES = 10_000  # of more studies, the open ones are small squares: a shape for each takes seconds


class MapWidget(qt.QWidget):
    """Paints all dots once into a picture, and over it only what changes under the mouse.

    Attributes
    ----------
    clicked : callable
        Told the study whose dot was clicked.
    """

    def __init__(self, logic, parent=None) -> None:
        qt.QWidget.__init__(self, parent)
        self._logic = logic
        self.clicked = lambda studyId: None
        self._worklist = None
        self._map = PoolMap([])
        self._pixels = self._map.pixels(1, 1, 0)
        self._picture = None
        self._selected = ""
        self._hovered = -1
        self._isByUnsure = False
        self.setMinimumHeight(HEIGHT)
        self.setAccessibleName(_("Map of all studies"))
        self.setMouseTracking(True)

    def setWorkList(self, worklist) -> None:
        """Show another work list."""
        if self._worklist is None or worklist is None or worklist.points != self._worklist.points:
            self._map = PoolMap(worklist.points if worklist else [])
            self._hovered = -1
        self._worklist = worklist
        self._picture = None
        self.update()

    def colorByUnsure(self, isWanted: bool) -> None:
        """Colour the dots by how unsure the labels so far leave them, rather than by the pick that stands for them."""
        self._isByUnsure = isWanted
        self._picture = None
        self.update()

    def select(self, studyId: str) -> None:
        """Ring a study."""
        if studyId != self._selected:
            self._selected = studyId
            self.update()

    def studyAt(self, x: int, y: int) -> str:
        """The study at a place of the widget; empty for none."""
        self._draw()
        number = nearest(self._pixels, x, y, REACH)
        return self._map.studyIds[number] if number >= 0 else ""

    # -- Qt asks

    def sizeHint(self):
        """The size it would like."""
        return qt.QSize(400, HEIGHT)

    def mouseMoveEvent(self, event):
        """Show which study is under the mouse."""
        self._draw()
        number = nearest(self._pixels, event.pos().x(), event.pos().y(), REACH)
        if number != self._hovered:
            self._hovered = number
            self.update()
            if number >= 0:
                self._logic.loadThumbnail(self._map.studyIds[number], lambda _png: self.update())

    def leaveEvent(self, _event):
        """Show nothing under the mouse."""
        self._hovered = -1
        self.update()

    def mousePressEvent(self, event):
        """Select a study."""
        studyId = self.studyAt(event.pos().x(), event.pos().y())
        if studyId:
            self.clicked(studyId)

    def paintEvent(self, _event):
        """Paint the dots, the selected one's ring and what is under the mouse."""
        self._draw()
        painter = qt.QPainter(self)
        painter.drawPixmap(0, 0, self._picture)
        painter.setRenderHint(qt.QPainter.Antialiasing)
        number = self._map.index(self._selected)
        if number >= 0:
            painter.setPen(qt.QPen(self.palette.highlight().color(), 3))
            painter.setBrush(qt.QBrush(qt.Qt.NoBrush))
            x, y = self._place(number)
            painter.drawEllipse(x - RING - 2, y - RING - 2, 2 * RING + 4, 2 * RING + 4)
        if self._hovered >= 0:
            self._paintHovered(painter)
        painter.end()

    # -- inside

    def _place(self, number):
        x, y = self._pixels[number]
        return round(float(x)), round(float(y))

    def _draw(self) -> None:
        """Paint all dots into the picture, if it is not what is to be seen now."""
        size = (self.width, self.height)
        if self._picture is not None and (self._picture.width(), self._picture.height()) == size:
            return
        self._picture = qt.QPixmap(*size)
        self._picture.fill(self.palette.base().color())
        self._pixels = self._map.pixels(self.width, self.height, MARGIN)
        if self._worklist is None:
            return
        painter = qt.QPainter(self._picture)
        painter.setRenderHint(qt.QPainter.Antialiasing)
        self._drawDots(painter)
        self._drawPicks(painter)
        painter.end()

    def _drawDots(self, painter) -> None:
        """Every study: hollow while open, filled once it is done, a cross where it was skipped."""
        isByUnsure = self._isByUnsure and self._worklist.isUnsureKnown
        points = self._worklist.points
        colors = self._worklist.unsureColors() if isByUnsure else self._worklist.pointColors()
        shaped = range(len(points))
        if len(points) > MOST_SHAPES:
            shaped = [number for number in shaped if points[number]["status"] in ("done", "skipped")]
            self._paintOpen(painter, set(shaped), colors)
        byColor = {}
        for number in shaped:
            byColor.setdefault(colors[number], []).append(number)
        places = self._pixels.round().astype(int)
        for color, numbers in byColor.items():
            painter.setPen(qt.QPen(qt.QColor(color), 1))
            painter.setBrush(qt.QBrush(qt.Qt.NoBrush))
            filled = []
            for number, (x, y) in zip(numbers, places[numbers].tolist()):
                status = points[number]["status"]
                if status == "done":
                    filled.append((x, y))
                elif status == "skipped":
                    painter.drawLine(x - DOT, y - DOT, x + DOT, y + DOT)
                    painter.drawLine(x - DOT, y + DOT, x + DOT, y - DOT)
                else:
                    painter.drawEllipse(x - DOT, y - DOT, 2 * DOT, 2 * DOT)
            painter.setBrush(qt.QBrush(qt.QColor(color)))
            for x, y in filled:
                painter.drawEllipse(x - DOT - 2, y - DOT - 2, 2 * DOT + 4, 2 * DOT + 4)

    def _paintOpen(self, painter, shaped, colors) -> None:
        """A small square for each study that gets no shape."""
        numbers = [number for number in range(len(colors)) if number not in shaped]
        ground = self.palette.base().color().name()
        ppm = painted(self._pixels[numbers], [colors[number] for number in numbers], ground, self.width, self.height)
        squares = qt.QPixmap()
        if squares.loadFromData(qt.QByteArray(ppm)):
            painter.drawPixmap(0, 0, squares)

    def _drawPicks(self, painter) -> None:
        """Ring the picks and write their ranks; filled when done."""
        font = painter.font()
        font.setPixelSize(10)
        painter.setFont(font)
        for row in reversed(self._worklist.picks):
            number = self._map.index(row.studyId)
            if number < 0:
                continue
            x, y = self._place(number)
            name = self._worklist.color(row.studyId)
            color = qt.QColor(name)
            isDone = row.status == "done"
            painter.setPen(qt.QPen(color, 2))
            painter.setBrush(qt.QBrush(color if isDone else self.palette.base().color()))
            painter.drawEllipse(x - RING, y - RING, 2 * RING, 2 * RING)
            painter.setPen(qt.QPen(qt.QColor(inkOn(name)) if isDone else self.palette.text().color()))
            box = qt.QRect(x - RING, y - RING, 2 * RING, 2 * RING)
            painter.drawText(box, qt.Qt.AlignCenter, str(row.rank))

    def _paintHovered(self, painter) -> None:
        """A box with picture and title beside the dot, inside the widget."""
        studyId = self._map.studyIds[self._hovered]
        row = self._worklist.row(studyId)
        lines = [self._worklist.title(studyId)]
        if row and row.rank:
            lines.append(self._worklist.shareText(row))
        if row and row.status != "open":
            lines.append(row.statusText(self._worklist.reader))
        lines += filter(None, [self._worklist.unsureText(self._hovered)])
        metrics = painter.fontMetrics()
        textWidth = max(metrics.boundingRect(line).width() for line in lines)
        width = min(max(PICTURE, textWidth) + 20, self.width)
        height = PICTURE + 12 + metrics.height() * len(lines)
        x, y = self._place(self._hovered)
        left = min(max(x + 12, 0), self.width - width)
        top = min(max(y - height - 8, 0), self.height - height)
        if left < x + REACH and top <= y <= top + height:
            left = max(x - width - 12, 0)
        painter.setPen(qt.QPen(self.palette.mid().color(), 1))
        painter.setBrush(qt.QBrush(self.palette.toolTipBase().color()))
        painter.drawRect(left, top, width - 1, height - 1)
        png = self._logic.thumbnails.get(studyId)
        pixmap = qt.QPixmap()
        if png and pixmap.loadFromData(qt.QByteArray(png)):
            scaled = pixmap.scaled(PICTURE, PICTURE, qt.Qt.KeepAspectRatio, qt.Qt.SmoothTransformation)
            painter.drawPixmap(left + (width - scaled.width()) // 2, top + 6, scaled)
        painter.setPen(qt.QPen(self.palette.toolTipText().color()))
        for number, line in enumerate(lines):
            box = qt.QRect(left + 6, top + PICTURE + 8 + number * metrics.height(), width - 12, metrics.height())
            text = metrics.elidedText(line, qt.Qt.ElideMiddle, width - 12)
            painter.drawText(box, qt.Qt.AlignCenter, text)
