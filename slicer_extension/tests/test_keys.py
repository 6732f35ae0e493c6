"""Keys: the module's own, and what it leaves to Slicer."""

import sys

import pytest
import qt
import slicer
from PySide6.QtTest import QTest
from stage import wait_for
from test_bad_paths import block, connected, recorded  # noqa: F401 - fixtures

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
