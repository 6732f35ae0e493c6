"""The work list on the screen; pictures are fetched for the lines that are in view only."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

from .colors import inkOn
from .worklist import breakable, plainTooltip

RANK, PICTURE, STUDY, SHARE, STATUS = range(5)
PICTURE_SIZE = 40
LINES = 2  # of a study's title; one more names its series
MARGIN = 6  # left and right of a text
LETTERS = 13  # of a title that must be seen side by side, before the share is


class WorkListTable:
    """Fills Qt's table with the lines of a `WorkList`.

    Attributes
    ----------
    opened, selected : callable
        Told the study that was opened by double click or Enter, or selected.
    """

    def __init__(self, table, logic) -> None:
        self._table, self._logic = table, logic
        self.opened = self.selected = lambda studyId: None
        self._rows, self._places, self._icons = [], {}, {}
        self._heights = 0, 0  # of a line, and what it takes more where it says by whom it was read
        self._flags = qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled
        self._isFilling = False
        table.setColumnCount(5)
        table.setHorizontalHeaderLabels(["", "", _("Study"), _("Stands\nfor"), _("Status")])
        self._setSizes()
        table.connect("activated(QModelIndex)", self._onActivated)
        table.connect("itemSelectionChanged()", self._onSelected)
        table.verticalScrollBar().connect("valueChanged(int)", lambda *_value: self.loadVisible())
        table.horizontalHeader().connect("sectionResized(int,int,int)", lambda *_sizes: self._timer.start())
        self._timer = qt.QTimer()  # the table knows its visible lines only after it was laid out
        self._timer.setSingleShot(True)
        self._timer.setInterval(50)
        self._timer.connect("timeout()", self._onLaidOut)

    def _setSizes(self) -> None:
        """As wide and high as the font needs; the study gets the rest."""
        table, metrics = self._table, self._table.fontMetrics()
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(max(PICTURE_SIZE, LINES * metrics.lineSpacing()) + 4)
        table.setIconSize(qt.QSize(PICTURE_SIZE, PICTURE_SIZE))
        header = table.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.Fixed)
        header.setHighlightSections(False)
        header.setMinimumSectionSize(1)
        header.setSectionResizeMode(STUDY, qt.QHeaderView.Stretch)
        for column, widest in ((RANK, "00"), (SHARE, "000000"), (STATUS, _("in progress"))):
            self._setWidth(column, widest)
        table.setColumnWidth(PICTURE, PICTURE_SIZE + 8)
        self._shareWidth = table.columnWidth(SHARE)

    def _setWidth(self, column, widest) -> None:
        self._table.setColumnWidth(column, self._table.fontMetrics().boundingRect(widest).width() + 2 * MARGIN)

    def fill(self, which: str, text: str) -> None:
        """Show the lines that pass a filter; what did not change stays as it is."""
        worklist = self._logic.worklist
        rows = worklist.shown(which, text) if worklist else []
        chosen = self.selectedStudy()
        before = self._rows
        self._isFilling = True
        self._table.updatesEnabled = False
        self._table.setRowCount(len(rows))
        self._heights = self._table.verticalHeader().defaultSectionSize, self._table.fontMetrics().lineSpacing()
        self._setWidth(RANK, "0" * max(len(str(len(worklist.picks))) if worklist else 0, 2))
        for place, row in enumerate(rows):
            if place >= len(before) or before[place] != (row, worklist.color(row.studyId)):
                self._fillRow(place, row, worklist)
        self._rows = [(row, worklist.color(row.studyId)) for row in rows]
        self._places = {row.studyId: place for place, row in enumerate(rows)}
        if chosen in self._places:
            self._table.selectRow(self._places[chosen])
        else:
            self._table.clearSelection()
        self._table.updatesEnabled = True
        self._isFilling = False
        self._onSelected()
        self._timer.start()

    def _fillRow(self, place, row, worklist) -> None:
        texts = (
            str(row.rank or ""),
            "",
            self._named(breakable(row.title), row),
            worklist.shareText(row),
            row.statusText(worklist.reader),
        )
        height, more = self._heights
        height += more if row.readBy or row.series else 0  # by whom it is read, and its series, take a line more
        if height != self._table.rowHeight(place):
            self._table.setRowHeight(place, height)
        tooltip = plainTooltip(worklist.tooltip(row))
        for column, text in enumerate(texts):
            item = qt.QTableWidgetItem(text)
            item.setToolTip(tooltip)
            item.setFlags(self._flags)
            self._table.setItem(place, column, item)
        rank, color = self._table.item(place, RANK), worklist.color(row.studyId)
        rank.setTextAlignment(qt.Qt.AlignCenter)
        rank.setBackground(qt.QBrush(qt.QColor(color)))
        rank.setForeground(qt.QBrush(qt.QColor(inkOn(color))))
        if row.studyId in self._icons:
            self._table.item(place, PICTURE).setIcon(self._icons[row.studyId])

    def _onLaidOut(self) -> None:
        """Titles first: a narrow panel tells how many studies a pick stands for in its tooltip only."""
        fixed = sum(self._table.columnWidth(column) for column in (RANK, PICTURE, STATUS)) + self._shareWidth
        room = self._table.viewport().width - fixed
        self._table.setColumnHidden(SHARE, room < LETTERS * self._table.fontMetrics().averageCharWidth())
        self.loadVisible()

    def loadVisible(self) -> None:
        """Fit the titles of the lines in view, and fetch their pictures."""
        first, last = self._table.rowAt(0), self._table.rowAt(self._table.viewport().height - 1)
        if first < 0 or self._isFilling:
            return
        for place in range(first, (last if last >= 0 else len(self._rows) - 1) + 1):
            row = self._rows[place][0]
            self._table.item(place, STUDY).setText(self._named(self._fitted(row.title), row))
            if row.studyId not in self._icons:
                self._logic.loadThumbnail(row.studyId, lambda png, studyId=row.studyId: self._setPicture(studyId, png))

    def _named(self, title, row) -> str:
        """A title with the series of a study of several in a line of their own."""
        text = self._logic.worklist.seriesText(row)
        if not text:
            return title
        width = self._table.columnWidth(STUDY) - MARGIN - 2
        return f"{title}\n{self._table.fontMetrics().elidedText(text, qt.Qt.ElideRight, width)}"

    def _fitted(self, title) -> str:
        """A title in as many lines as there are; one that is too long loses its middle."""
        metrics, width = self._table.fontMetrics(), self._table.columnWidth(STUDY) - MARGIN - 2
        text, room = breakable(title), LINES * width
        while room > 0:
            needed = metrics.boundingRect(qt.QRect(0, 0, width, 0), qt.Qt.TextWordWrap, text)
            if needed.height() <= LINES * metrics.lineSpacing() and needed.width() <= width:
                break
            room -= max(width // 8, 1)  # lines end where a word does, not where the column does
            text = breakable(metrics.elidedText(title, qt.Qt.ElideMiddle, room))
        return text

    def _setPicture(self, studyId, png) -> None:
        pixmap = qt.QPixmap()
        if png and pixmap.loadFromData(qt.QByteArray(png)):
            self._icons[studyId] = qt.QIcon(pixmap)
            place = self._places.get(studyId)
            if place is not None:
                self._table.item(place, PICTURE).setIcon(self._icons[studyId])

    def selectedStudy(self) -> str:
        """The selected study; empty for none."""
        place = self._table.currentRow()
        isSelected = bool(self._table.selectedItems())
        return self._rows[place][0].studyId if isSelected and 0 <= place < len(self._rows) else ""

    def select(self, studyId: str) -> bool:
        """Select a study and bring it into view; nothing, and False, if it is not shown."""
        place = self._places.get(studyId)
        if place is None:
            self._table.clearSelection()
            return False
        self._table.selectRow(place)
        self._table.scrollToItem(self._table.item(place, STUDY))
        return True

    def _onSelected(self) -> None:
        if not self._isFilling:
            self.selected(self.selectedStudy())

    def _onActivated(self, index) -> None:
        if 0 <= index.row() < len(self._rows):
            self.opened(self._rows[index.row()][0].studyId)
