"""The work list on the screen; pictures are fetched for the lines that are in view only."""

from __future__ import annotations

import qt

from .worklist import breakable, plainTooltip

COLUMNS = ("", "", "Study", "Stands for", "Status")
RANK, PICTURE, STUDY, SHARE, STATUS = range(len(COLUMNS))
PICTURE_SIZE = 40


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
        self._isFilling = False
        table.setColumnCount(len(COLUMNS))
        table.setHorizontalHeaderLabels(list(COLUMNS))
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(PICTURE_SIZE + 4)
        table.setIconSize(qt.QSize(PICTURE_SIZE, PICTURE_SIZE))
        header = table.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.Fixed)
        header.setHighlightSections(False)
        header.setSectionResizeMode(STUDY, qt.QHeaderView.Stretch)
        for column, width in ((RANK, 30), (PICTURE, PICTURE_SIZE + 8), (SHARE, 70), (STATUS, 88)):
            table.setColumnWidth(column, width)
        table.connect("activated(QModelIndex)", self._onActivated)
        table.connect("itemSelectionChanged()", self._onSelected)
        table.verticalScrollBar().connect("valueChanged(int)", lambda *_value: self.loadVisible())
        self._timer = qt.QTimer()  # the table knows its visible lines only after it was laid out
        self._timer.setSingleShot(True)
        self._timer.setInterval(50)
        self._timer.connect("timeout()", self.loadVisible)

    def fill(self, which: str, text: str) -> None:
        """Show the lines that pass a filter; what did not change stays as it is."""
        worklist = self._logic.worklist
        rows = worklist.shown(which, text) if worklist else []
        chosen = self.selectedStudy()
        before = self._rows
        self._isFilling = True
        self._table.updatesEnabled = False
        self._table.setRowCount(len(rows))
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
            breakable(row.title),
            worklist.shareText(row),
            row.statusText(worklist.reader).replace(" by ", "\nby "),
        )
        tooltip = plainTooltip(worklist.tooltip(row))
        for column, text in enumerate(texts):
            item = qt.QTableWidgetItem(text)
            item.setToolTip(tooltip)
            item.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
            self._table.setItem(place, column, item)
        rank = self._table.item(place, RANK)
        rank.setTextAlignment(qt.Qt.AlignCenter)
        rank.setBackground(qt.QBrush(qt.QColor(worklist.color(row.studyId))))
        rank.setForeground(qt.QBrush(qt.QColor("#ffffff")))
        if row.studyId in self._icons:
            self._table.item(place, PICTURE).setIcon(self._icons[row.studyId])

    def loadVisible(self) -> None:
        """Fetch the pictures of the lines in view."""
        height = self._table.viewport().height
        first = self._table.rowAt(0)
        last = self._table.rowAt(height - 1)
        if first < 0:
            return
        for row, _color in self._rows[first : (last if last >= 0 else len(self._rows) - 1) + 1]:
            if row.studyId not in self._icons:
                self._logic.loadThumbnail(row.studyId, lambda png, studyId=row.studyId: self._setPicture(studyId, png))

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
