"""Room in a narrow panel at Qt's 12 points, numbers that can be read, names and tooltips."""

import pytest
import qt
from PySide6.QtGui import QAccessible
from speed import answers
from stage import BREAK, settle, wait_for
from test_bad_paths import block, connected, recorded  # noqa: F401 - fixtures
from test_drafts import publish
from test_widget import place_of
from themes import palette

from FirstPickLib.worklist import WorkList

WIDTH = 400
LONG = "site 12/patient_0123456789abcdef0123456789abcdef0123456789/2024-11-02 thorax with contrast/series_0004.nii.gz"
CONTROLS = ("QComboBox", "QLineEdit", "QPushButton", "QToolButton", "QSpinBox", "QTableWidget", "QProgressBar")
CONTROLS += ("ctkCollapsibleButton", "QCheckBox", "QListWidget")


def controls(reader):
    """Every control of the panel, whatever section it is in and whether that is open or not."""
    widgets = reader.widget.uiWidget.findChildren(qt.QWidget)
    named = [widget for widget in widgets if widget.objectName and not widget.objectName.startswith("qt_")]
    return [widget for widget in named if widget.className() in CONTROLS]


def with_long_titles(recorded, how=LONG):  # noqa: F811
    """Give every study a long title."""
    proposal = recorded.get("/firstpick/proposal")
    for pick in proposal["picks"]:
        pick["title"] = f"{how[:-7]}_{pick['rank']}.nii.gz"
        pick["slices"] = [{"index": i, "plane": "sagittal", "position_mm": -12.5} for i in range(1, 5)]
    points = recorded.get("/firstpick/map")
    for point in points["points"]:
        point["title"] = how
    recorded.post("/test/set", proposal=proposal, map=points)
    warnings = [{"study_id": "", "title": how, "sentence": f"Its label is unlike the draft of {how}."}]
    ids = [pick["study_id"] for pick in proposal["picks"]]
    publish(recorded, ids, message=f"Learning from {how}.", stop="Stop here.", warnings=warnings)


def show_everything(reader):
    """Open a study, be asked something, have Skip open and something under way: as much as can be seen at once."""
    reader.press("openButton")
    reader.draw("tumour", block(reader))
    reader.logic.say(f"Study '{LONG}' is now in progress by Dr Bo until 14:20.")
    choices = [(text, lambda: None) for text in (f"Move 'Segment_1' of {LONG} to a copy", "Discard it")]
    reader.logic._ask(f"Nothing is drawn. Study '{LONG}'?", *choices)
    reader.ui.skipButton.checked = True
    reader.logic._showTransfer(f"Loading {LONG} ...", 1, 2)
    for name in ("serverSection", "worklistSection", "draftsSection", "mapSection"):
        getattr(reader.ui, name).collapsed = False
    reader.ui.draftFrame.visible = reader.ui.draftLabel.visible = True  # nobody draws and is offered a draft
    settle()


# -- room


def test_the_host_has_the_font_that_qt_5_takes_by_itself(reader):
    assert reader.ui.submitButton.font.pointSize() == 12


@pytest.mark.parametrize("title", [LONG, "é" * 125, "1.2.840.113619.2.55.3.2831164578.951.1588830927.467-0a1b2c"])
def test_at_400_pixels_and_12_points_no_edge_is_cut_whatever_a_study_is_called(reader, recorded, title):  # noqa: F811
    with_long_titles(recorded, title)
    reader.connect(recorded.address)
    show_everything(reader)
    reader.parent.layout().setContentsMargins(0, 0, 0, 0)
    settle()
    assert reader.parent.minimumSizeHint.width() <= WIDTH
    reader.parent.resize(WIDTH, 2400)
    settle()
    right = reader.widget.uiWidget.geometry.width()
    for widget in controls(reader):
        if widget.isVisible():
            place = widget.mapTo(reader.widget.uiWidget, qt.QPoint(0, 0))
            assert place.x() >= 0, widget.objectName
            assert place.x() + widget.geometry.width() <= right, widget.objectName
            if widget.inherits("QAbstractButton"):
                assert widget.geometry.width() >= widget.property("sizeHint").width(), widget.objectName


@pytest.mark.parametrize("width", [WIDTH, 450])
def test_no_word_of_the_list_is_cut_at_12_points(reader, width):
    proposal, points = answers(nDone=3)
    reader.logic.loadThumbnail = lambda study_id, done: None
    for pick in proposal["picks"]:
        pick["title"] = LONG
    proposal["picks"][3].update(status="reserved", client="Bo")
    reader.logic.worklist = WorkList(proposal, points, "bob")
    reader.widget._updateWorkList()
    reader.parent.resize(width, 900)
    settle()
    wait_for(lambda: not reader.widget.table._timer.isActive())
    settle()
    table, metrics = reader.ui.table, reader.ui.table.fontMetrics()
    header = table.horizontalHeader()
    shown = [column for column in range(5) if not table.isColumnHidden(column)]
    assert shown == ([0, 1, 2, 4] if width == WIDTH else [0, 1, 2, 3, 4])  # titles first
    for column in shown:
        for word in table.horizontalHeaderItem(column).text().splitlines():
            assert metrics.boundingRect(word).width() <= header.sectionSize(column), word
    for row in range(6):
        for column in {0, 3, 4} & set(shown):
            text = table.item(row, column).text()
            room = qt.QRect(0, 0, table.columnWidth(column) - 8, 1000)
            needed = metrics.boundingRect(room, qt.Qt.TextWordWrap, text)
            assert needed.width() <= room.width(), text
            assert needed.height() <= table.rowHeight(row), text
    shown = table.item(0, 2).text().replace(BREAK, "")
    assert "…" in shown  # in its middle: both ends tell studies apart
    assert shown.startswith("site 12/")
    assert shown.endswith(".nii.gz")
    room = qt.QRect(0, 0, table.columnWidth(2) - 8, 1000)
    assert metrics.boundingRect(room, qt.Qt.TextWordWrap, table.item(0, 2).text()).height() <= table.rowHeight(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_numbers_are_read_on_the_colours_of_their_picks_in_both_themes(reader, theme):
    proposal, points = answers(nDone=250)
    reader.logic.loadThumbnail = lambda study_id, done: None
    before = qt.QPalette(qt.QApplication.palette())
    qt.QApplication.setPalette(palette(theme == "dark"))
    try:
        reader.logic.worklist = WorkList(proposal, points, "bob")
        reader.widget._updateWorkList()
        table = reader.ui.table
        for place in range(table.rowCount):
            item = table.item(place, 0)
            colors = [brush.color() for brush in (item.background(), item.foreground())]
            assert contrast(*colors) >= 4.5, item.text()
        settle()
        picture = reader.widget.map.grab().toImage()
        for place in (100, 400):  # a done pick, filled with its colour, and an open one on the ground
            x, y = place_of(reader, proposal["picks"][place]["study_id"])
            around = {picture.pixelColor(x + i, y + j).name() for i in range(-5, 6) for j in range(-4, 5)}
            assert max(contrast(qt.QColor(one), qt.QColor(two)) for one in around for two in around) >= 4.5
    finally:
        qt.QApplication.setPalette(before)


def contrast(one, other):
    """By WCAG 2.2, written down here once more: what is tested shall not test itself."""

    def luminance(color):
        parts = [color.redF(), color.greenF(), color.blueF()]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("width", range(330, 560, 40))
def test_a_title_has_two_lines_and_both_its_ends_at_any_width(reader, width):
    proposal, points = answers()
    reader.logic.loadThumbnail = lambda study_id, done: None
    for pick in proposal["picks"]:
        pick["title"] = f"{LONG[:40]}/{'é' * (pick['rank'] * 7)}_{pick['rank']}.nii.gz"
    reader.logic.worklist = WorkList(proposal, points, "bob")
    reader.widget._updateWorkList()
    reader.parent.resize(width, 900)
    settle()
    wait_for(lambda: not reader.widget.table._timer.isActive())
    table, metrics = reader.ui.table, reader.ui.table.fontMetrics()
    room = qt.QRect(0, 0, table.columnWidth(2) - 8, 1000)
    for place in range(table.rowAt(table.viewport().height - 1)):
        text = table.item(place, 2).text()
        needed = metrics.boundingRect(room, qt.Qt.TextWordWrap, text)
        assert needed.height() <= 2 * metrics.lineSpacing(), text
        assert needed.width() <= room.width(), text
        assert text.count("…") == 1
        assert text.startswith("si")
        assert text.endswith("gz")


# -- names and tooltips


def test_every_control_has_a_name_and_a_tooltip(connected):  # noqa: F811
    connected.press("openButton")
    found = controls(connected)
    assert len(found) > 25
    for widget in found:
        assert QAccessible.queryAccessibleInterface(widget).text(QAccessible.Name), widget.objectName
        assert widget.toolTip, widget.objectName
    for picture in (connected.widget.map, connected.widget.drafts.curve):
        assert QAccessible.queryAccessibleInterface(picture).text(QAccessible.Name)
