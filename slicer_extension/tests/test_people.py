"""What people need: room at Qt's 12 points, keys, names and tooltips, their own language, their own way of looking."""

import re

import nibabel as nib
import numpy as np
import pytest
import qt
import slicer
from PySide6.QtGui import QAccessible
from PySide6.QtTest import QTest
from servers import write_studies
from speed import answers
from stage import BREAK, wait_for
from test_bad_paths import block, connected, recorded  # noqa: F401 - fixtures
from test_widget import place_of
from themes import palette

from FirstPickLib.worklist import WorkList

WIDTH = 400
LONG = "site 12/patient_0123456789abcdef0123456789abcdef0123456789/2024-11-02 thorax with contrast/series_0004.nii.gz"
CONTROLS = ("QComboBox", "QLineEdit", "QPushButton", "QToolButton", "QSpinBox", "QTableWidget", "QProgressBar")
CONTROLS += ("ctkCollapsibleButton",)


def controls(reader):
    """Every control of the panel, whatever section it is in and whether that is open or not."""
    widgets = reader.widget.uiWidget.findChildren(qt.QWidget)
    named = [widget for widget in widgets if widget.objectName and not widget.objectName.startswith("qt_")]
    return [widget for widget in named if widget.className() in CONTROLS]


def settle():
    for _ in range(20):
        slicer.app.processEvents()


def with_long_titles(recorded, how=LONG):  # noqa: F811
    """Give every study a long title."""
    proposal = recorded.get("/firstpick/proposal")
    for pick in proposal["picks"]:
        pick["title"] = f"{how[:-7]}_{pick['rank']}.nii.gz"
    points = recorded.get("/firstpick/map")
    for point in points["points"]:
        point["title"] = how
    recorded.post("/test/set", proposal=proposal, map=points)


def show_everything(reader):
    """Open a study, be asked something, have Skip open and something under way: as much as can be seen at once."""
    reader.press("openButton")
    reader.draw("tumour", block(reader))
    reader.logic.say(f"Study '{LONG}' is now in progress by Dr Bo until 14:20.")
    reader.logic._ask(f"Nothing is drawn. Study '{LONG}'?", "Make a new batch", lambda: None)
    reader.ui.skipButton.checked = True
    reader.logic._showTransfer(f"Loading {LONG} ...", 1, 2)
    for name in ("serverSection", "worklistSection", "mapSection"):
        getattr(reader.ui, name).collapsed = False
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


# -- names and tooltips


def test_every_control_has_a_name_and_a_tooltip(connected):  # noqa: F811
    connected.press("openButton")
    found = controls(connected)
    assert len(found) > 25
    for widget in found:
        assert QAccessible.queryAccessibleInterface(widget).text(QAccessible.Name), widget.objectName
        assert widget.toolTip, widget.objectName
    assert QAccessible.queryAccessibleInterface(connected.widget.map).text(QAccessible.Name)


# -- keys


SLICERS_KEYS = {
    *("Ctrl+O", "Ctrl+S", "Ctrl+W", "Ctrl+F", "Ctrl+H", "Ctrl+B", "Ctrl+G", "Ctrl+Z", "Ctrl+Y", "Ctrl+`"),
    *(f"Ctrl+{digit}" for digit in range(10)),
    *("Ctrl+Shift+Left", "Ctrl+Shift+Right", "Ctrl+Shift+Down"),  # Sequence Browser
    *("Ctrl+Shift+A", "Ctrl+Shift+T", "Ctrl+Shift+Space"),  # Markups
}


@pytest.fixture
def in_front(connected):  # noqa: F811
    """The module in the active window, beside the bars of the Sequence Browser and Markups."""
    others = []
    for keys in sorted(SLICERS_KEYS):
        shortcut = qt.QShortcut(connected.parent)
        shortcut.setKey(qt.QKeySequence(keys))
        others.append(shortcut)
    connected.parent.activateWindow()
    wait_for(lambda: connected.parent.isActiveWindow)
    yield connected
    for shortcut in others:
        shortcut.setParent(None)


def strike(reader, key, *modifiers):
    both = qt.Qt.NoModifier
    for modifier in modifiers:
        both |= modifier
    QTest.keyClick(reader.parent.focusWidget() or reader.parent, key, both)
    reader.wait()


def test_next_and_previous_work_while_the_sequence_browser_is_there(in_front):
    in_front.press("openButton")
    first, second = in_front.ids()[:2]
    strike(in_front, qt.Qt.Key_N, qt.Qt.ControlModifier, qt.Qt.ShiftModifier)
    assert in_front.reading.studyId == second
    strike(in_front, qt.Qt.Key_P, qt.Qt.ControlModifier, qt.Qt.ShiftModifier)
    assert in_front.reading.studyId == first


def test_no_key_has_another_owner_in_slicer(connected):  # noqa: F811
    held = {one.key.toString() for one in connected.parent.findChildren(qt.QShortcut)}
    assert {"Ctrl+Return", "Ctrl+Enter"} <= held
    assert not held & SLICERS_KEYS - {"Ctrl+Z", "Ctrl+Y"}  # the embedded editor's own


@pytest.mark.parametrize("key", [qt.Qt.Key_Return, qt.Qt.Key_Enter])
def test_ctrl_return_submits_on_both_keypads(in_front, key):
    in_front.press("openButton")
    first = in_front.reading.studyId
    in_front.draw("tumour", block(in_front))
    strike(in_front, key, qt.Qt.ControlModifier, *([qt.Qt.KeypadModifier] if key == qt.Qt.Key_Enter else []))
    assert f"Submitted {first}" in in_front.message


def test_escape_closes_skip_and_leaves_the_study(in_front):
    in_front.press("openButton")
    study_id = in_front.reading.studyId
    for _ in range(2):
        strike(in_front, qt.Qt.Key_K, qt.Qt.ControlModifier, qt.Qt.ShiftModifier)
        assert in_front.ui.skipFrame.isVisible()
        assert in_front.parent.focusWidget() == in_front.ui.skipBox
        strike(in_front, qt.Qt.Key_Escape)
        assert not in_front.ui.skipFrame.isVisible()
        assert not in_front.ui.skipButton.checked
    assert in_front.reading.studyId == study_id


def test_tab_leaves_the_list(in_front):
    in_front.ui.table.selectRow(0)
    in_front.ui.table.setFocus()
    QTest.keyClick(in_front.ui.table, qt.Qt.Key_Tab)
    assert in_front.parent.focusWidget() != in_front.ui.table


def test_keys_survive_a_reload(connected):  # noqa: F811
    import sys

    slicer.modules.firstpick.widget = connected.parent
    slicer.modules.FirstPickWidget = connected.widget
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0].startswith("FirstPick")}
    try:
        connected.widget.onReload()
        fresh = slicer.modules.FirstPickWidget
        assert fresh is not connected.widget
        held = sorted(one.key.toString() for one in connected.parent.findChildren(qt.QShortcut))
        assert held.count("Ctrl+Return") == 1
        assert fresh.editor._widget.hasKeys
        fresh.exit()
        fresh.cleanup()
    finally:
        sys.modules.update(kept)
        del slicer.modules.FirstPickWidget


# -- after a scene was closed


def test_list_and_map_are_open_again_after_the_scene_was_closed(connected):  # noqa: F811
    connected.press("openButton")
    assert connected.ui.worklistSection.collapsed
    slicer.mrmlScene.Clear(0)
    settle()
    assert connected.reading is None
    assert not connected.ui.worklistSection.collapsed
    assert not connected.ui.mapSection.collapsed


def test_what_the_reader_folds_stays_folded_while_the_list_changes(connected, recorded):  # noqa: F811
    connected.ui.mapSection.collapsed = True
    recorded.post("/firstpick/reserve", study_id=connected.ids()[2], client_id="bob")
    connected.refresh()
    assert connected.cell(connected.ids()[2], 4) == "in progress by bob"
    assert connected.ui.mapSection.collapsed


# -- language


def test_every_word_of_the_list_and_the_messages_is_translated(reader, recorded, monkeypatch):  # noqa: F811
    """In a language where every word is in brackets: what is in none was not asked for."""
    monkeypatch.setattr(slicer.app, "translate", lambda context, text: f"⟦{text}⟧", raising=False)
    from FirstPickLib import words

    words.translateWith(slicer.app.translate)
    try:
        reader.connect(recorded.address)
        first, second = reader.ids()[:2]
        recorded.post("/firstpick/reserve", study_id=second, client_id="bob")
        reader.press("openButton")
        reader.draw("tumour", block(reader))
        reader.press("submitButton")
        reader.press("closeButton")
        reader.logic.skip(reader.ids()[-1], "metal")
        reader.wait()
        recorded.post("/firstpick/release", study_id=second, client_id="bob")
        recorded.post("/firstpick/reserve", study_id=second, client_id="bob")
        reader.refresh()
        statuses = [reader.cell(study_id, 4) for study_id in reader.ids()]
        assert {text[0] for text in statuses} == {"⟦"}, statuses
        assert reader.cell(first, 3).startswith("⟦")
        for study_id in reader.ids():
            lines = qt.QTextDocumentFragment.fromHtml(
                reader.ui.table.item(reader.ids().index(study_id), 0).toolTip()
            ).toPlainText()
            row = reader.logic.worklist.row(study_id)
            for line in lines.splitlines():
                assert line.startswith("⟦") or line in (row.title, row.reason), line
        assert "⟦" in reader.ui.progressLabel.text
        assert re.match("⟦.*⟧", reader.message)
        header = [reader.ui.table.horizontalHeaderItem(column).text() for column in (2, 3, 4)]
        assert header == ["Study", "Stands\nfor", "Status"]  # were made before the language changed
    finally:
        words.translateWith(lambda context, text: text)


def test_a_translation_that_lost_a_placeholder_is_not_used():
    from FirstPickLib import words

    words.translateWith(lambda context, text: "fertig" if context == __name__ else text)
    try:
        assert words.tr("done") == "fertig"
        assert words.tr("done by {reader}") == "done by {reader}"
    finally:
        words.translateWith(lambda context, text: text)


# -- the way of looking, by kind of picture


def folder_of_two_kinds(folder):
    """MR-like volumes, CT-like ones and flat pictures, without a word of their modality: all are NIfTI."""
    write_studies(folder, 4)
    rng = np.random.default_rng(3)
    for number in range(2):
        ct = rng.integers(-1000, 1500, (16, 18, 14)).astype(np.int16)
        nib.save(nib.Nifti1Image(ct, np.eye(4)), folder / f"ct_{number}.nii.gz")
    return folder


@pytest.fixture
def two_kinds(reader, tmp_path):
    from servers import Server

    with Server(folder_of_two_kinds(tmp_path / "studies"), tmp_path / "state", batch_size="6") as server:
        server.wait_until_ready()
        reader.connect(server.address)
        yield reader


@pytest.mark.server
def test_window_and_segments_are_kept_by_kind_of_picture(two_kinds):
    reader = two_kinds
    mr = [study_id for study_id in reader.ids() if study_id.startswith("study")]
    ct = [study_id for study_id in reader.ids() if study_id.startswith("ct")]

    def look(window=None, is_visible=None, opacity=None):
        """Set, or read, how the open study is shown."""
        display = reader.reading.volume.GetScalarVolumeDisplayNode()
        segments = reader.reading.segmentation.GetDisplayNode()
        segment_id = reader.reading.segmentation.GetSegmentation().GetNthSegmentID(0)
        if window is not None:
            display.AutoWindowLevelOff()
            display.SetWindowLevel(*window)
            segments.SetSegmentVisibility(segment_id, is_visible)
            segments.SetSegmentOpacity2DFill(segment_id, opacity)
            segments.SetOpacity3D(opacity)
        return (
            (display.GetWindow(), display.GetLevel()) if not display.GetAutoWindowLevel() else None,
            segments.GetSegmentVisibility(segment_id),
            segments.GetSegmentOpacity2DFill(segment_id),
            segments.GetOpacity3D(),
        )

    reader.open(mr[0])
    look((300, 150), False, 0.25)
    reader.open(ct[0])
    assert look()[:2] == (None, True)  # another kind: as Slicer shows it
    look((1500, -600), True, 0.75)
    reader.open(mr[1])
    assert look() == ((300, 150), False, 0.25, 0.25)
    assert not reader.reading.isDirty
    reader.open(ct[1])
    assert look() == ((1500, -600), True, 0.75, 0.75)
    slicer.mrmlScene.Clear(0)
    settle()
    reader.wait()
    reader.open(ct[0])
    assert look() == ((1500, -600), True, 0.75, 0.75)


# -- time


def test_a_long_pause_does_not_count():
    from FirstPickLib.activity import ActiveTime

    now = [0.0]
    time = ActiveTime(300, lambda: now[0])
    for pause, expected in ((200, 200), (299, 499), (301, 499), (5, 504)):
        now[0] += pause
        time.seen()
        assert time.seconds == expected
    now[0] += 250
    assert time.seconds == 754  # still in the pause
    now[0] += 100
    assert time.seconds == 504


def test_a_sign_of_life_is_another_slice_or_a_moved_mouse(connected):  # noqa: F811
    from FirstPickLib.activity import Lookout

    connected.press("openButton")
    seen = []
    lookout = Lookout(lambda: seen.append(True))
    view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode")
    lookout.start()
    lookout.look()
    assert not seen
    view.SetSliceOffset(4)
    lookout.look()
    assert len(seen) == 1
    qt.QCursor.setPos(qt.QCursor.pos() + qt.QPoint(3, 3))
    lookout.look()
    assert len(seen) == 2
    lookout.look()
    assert len(seen) == 2
    lookout.stop()
    slicer.mrmlScene.RemoveNode(view)


def test_the_time_sent_with_a_label_leaves_a_long_pause_out(connected, recorded):  # noqa: F811
    qt.QSettings().setValue("FirstPick/idleMinutes", 10)
    connected.press("openButton")
    study_id = connected.reading.studyId
    connected.reading.active._last -= 9 * 60
    connected.draw("tumour", block(connected))
    connected.reading.active._last -= 11 * 60
    connected.press("submitButton")
    info = recorded.get(f"/datastore/label/info?label={study_id}&tag=final")
    assert 9 * 60 <= info["seconds"] < 10 * 60


# -- readers


def test_progress_by_reader_is_shown(reader, recorded):  # noqa: F811
    readers = [
        {"client": name, "studies": [], "n_done": done, "n_skipped": skipped, "seconds": seconds}
        for name, done, skipped, seconds in (("bo", 9, 0, 5400.0), ("cy", 1, 2, 40.0), ("alice", 4, 1, 480.0))
    ]
    recorded.post("/test/set", readers=readers)
    reader.connect(recorded.address)
    assert reader.ui.readersLabel.text.splitlines() == [
        "You: 4 done, 1 skipped, 2 min a study",
        "bo: 9 done, 10 min a study",
        "cy: 1 done, 2 skipped, 40 s a study",
    ]
    assert reader.ui.readersLabel.isVisible()
    more = [{**readers[0], "client": f"reader {number}", "n_done": 1} for number in range(4)]
    recorded.post("/test/set", readers=[*readers, *more])
    reader.connect(recorded.address)
    assert reader.ui.readersLabel.text.splitlines()[3:] == ["and 4 more"]
    assert "reader 3: 1 done" in reader.ui.readersLabel.toolTip


def test_a_second_reading_says_so(reader, recorded):  # noqa: F811
    proposal = recorded.get("/firstpick/proposal")
    for pick in proposal["picks"]:
        pick["read_by"] = ["Bo"]
    recorded.post("/test/set", proposal=proposal)
    reader.connect(recorded.address)
    assert reader.cell(reader.ids()[0], 4) == "second reading, first by Bo"
    reader.press("openButton")
    assert reader.ui.reasonLabel.text.splitlines()[-1] == "Second reading, first by Bo."
