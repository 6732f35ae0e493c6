"""The module in a stand-in for Slicer: real scene and segmentation logic, real Qt without a screen."""

import os
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BREAK = "\u200b"  # where a title may go on in the next line
MODULE = Path(os.environ.get("FIRSTPICK_MODULE", HERE.parent / "FirstPick"))
sys.path[:0] = [str(HERE), str(HERE / "host"), str(MODULE)]
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import qt
import slicer
import slicer_harness

import FirstPick

slicer.modules.firstpick = slicer_harness.Module("FirstPick", path=str(MODULE / "FirstPick.py"))


def wait_for(condition, seconds=20.0):
    """Let Qt work until the answer is true, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        slicer.app.processEvents()
        if answer := condition():
            return answer
        time.sleep(0.005)
    raise AssertionError(f"waited {seconds} s in vain")


def settle():
    """Let Qt lay out and paint what changed."""
    for _ in range(20):
        slicer.app.processEvents()


class Reader:
    """A module of its own, as somebody in front of the screen uses it."""

    def __init__(self):
        self.parent = slicer_harness.ModuleWidget()
        qt.QVBoxLayout(self.parent)
        self.widget = FirstPick.FirstPickWidget(self.parent)
        self.widget.setup()
        self.parent.resize(430, 900)
        self.parent.show()
        self.widget.enter()
        self.parent.isEntered = True

    @property
    def logic(self):
        return self.widget.logic

    @property
    def ui(self):
        return self.widget.ui

    @property
    def reading(self):
        return self.logic.reading

    @property
    def message(self):
        return self.ui.messageLabel.text.replace(BREAK, "")

    def wait(self):
        """Until nothing is under way."""
        wait_for(lambda: not self.logic.isBusy)

    def connect(self, address, name="alice"):
        self.ui.addressBox.setCurrentText(address)
        self.ui.readerEdit.text = name
        self.ui.connectButton.click()
        self.wait()

    def press(self, name):
        """Press a button that can be pressed, and wait for what it does."""
        button = getattr(self.ui, name)
        assert button.enabled, f"{name} cannot be pressed: {self.message}"
        button.click()
        self.wait()

    def open(self, study_id):
        assert self.widget.table.select(study_id)
        self.press("openButton")

    def ids(self):
        """The studies of the lines on the screen."""
        return [row.studyId for row, _color in self.widget.table._rows]

    def titles(self):
        """What is to be read in the lines on the screen."""
        table = self.ui.table
        return [table.item(row, 2).text().replace(BREAK, "") for row in range(table.rowCount)]

    def cell(self, study_id, column):
        return self.ui.table.item(self.ids().index(study_id), column).text().replace("\n", " ")

    def draw(self, name, mask):
        """Draw a segment; `mask` has the axes of the NIfTI file."""
        segmentation = self.reading.segmentation
        segment_id = segmentation.GetSegmentation().GetSegmentIdBySegmentName(name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            mask.T.astype("uint8"), segmentation, segment_id, self.reading.volume
        )

    def refresh(self):
        self.logic.poll()
        wait_for(lambda: self.logic._polling is None or self.logic._polling.isOver)

    def close(self):
        self.widget.exit()
        self.widget.cleanup()
        self.parent.close()


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    """Settings and cache of this test alone; an error in a slot, which Qt only prints, fails the test."""
    errors = []
    monkeypatch.setattr(sys, "excepthook", lambda _kind, error, _trace: errors.append(error))
    qt.QSettings.setDefaultFormat(qt.QSettings.IniFormat)
    qt.QSettings.setPath(qt.QSettings.IniFormat, qt.QSettings.UserScope, str(tmp_path / "settings"))
    qt.QSettings().clear()
    monkeypatch.setattr(slicer.app, "temporaryPath", str(tmp_path / "temporary"), raising=False)
    monkeypatch.setattr(
        slicer.app, "slicerUserSettingsFilePath", str(tmp_path / "settings" / "Slicer.ini"), raising=False
    )
    yield tmp_path
    assert not errors, errors


@pytest.fixture
def reader():
    one = Reader()
    yield one
    one.close()


@pytest.fixture
def another_reader():
    one = Reader()
    yield one
    one.close()
