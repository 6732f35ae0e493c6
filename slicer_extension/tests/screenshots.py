"""Renders the module outside Slicer, at the width of its panel: ``python screenshots.py`` in the tests' environment.

Eight stations in two themes, or the one that ``--only series`` or ``--only draft`` names; ``--points 12`` in the
larger of the two fonts that are usual, ``--width 400`` in a narrow panel, ``--out`` somewhere else than in the
manual's folder. Slicer's Segment Editor is a placeholder; everything else is as in Slicer. Needs FIRSTPICK_PYTHON
(../README.md).
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path[:0] = [str(HERE), str(HERE / "host"), str(HERE.parent / "FirstPick")]

import numpy as np
import qt
import slicer
from servers import SEQUENCES, Server, write_sequences, write_studies
from stage import Reader, wait_for
from test_bad_paths import Recorded
from test_drafts import correction, publish
from themes import palette

TARGET = HERE.parent / "Screenshots"
IMAGES = HERE.parents[2] / "shared" / "data" / "hippocampus" / "images"
BRAINS = IMAGES.parents[1] / "brain_ms_mr" / "images"
LABELS = '[{name: anterior, value: 1, color: "#f0a030"}, {name: posterior, value: 2, color: "#4080f0"}]'
N_STUDIES = 195


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, choices=(9, 12), default=9)
    parser.add_argument("--width", type=int, default=430)
    parser.add_argument("--out", type=Path, default=TARGET)
    parser.add_argument("--only", choices=("series", "draft"), help="only this station")
    return parser.parse_args()


OPTIONS = options()


def grab(reader, name):
    """Save the panel as high as what it shows."""
    for _ in range(30):
        slicer.app.processEvents()
        wait_for(lambda: True)
    reader.parent.resize(OPTIONS.width, 10)
    reader.parent.resize(OPTIONS.width, reader.parent.layout().totalHeightForWidth(OPTIONS.width))
    for _ in range(30):
        slicer.app.processEvents()
    reader.widget.table.loadVisible()
    wait_for(lambda: reader.logic.network.nPending == 0)
    OPTIONS.out.mkdir(exist_ok=True, parents=True)
    for theme in ("light", "dark"):
        qt.QApplication.setPalette(palette(theme == "dark"))
        reader.widget.map._picture = None
        slicer.app.processEvents()
        reader.parent.grab().save(str(OPTIONS.out / f"{name}_{theme}.png"))


def draw(reader, server):
    voxels = server.study(reader.reading.studyId).get_fdata()
    reader.draw("anterior", voxels > np.percentile(voxels, 95))


def new_reader():
    font = qt.QApplication.font()
    font.setPointSize(OPTIONS.points)
    qt.QApplication.setFont(font)
    reader = Reader()
    qt.QApplication.setStyle("Fusion")
    return reader


def tell_of_series(server):
    """A study of several series, with the list below it."""
    reader = new_reader()
    reader.connect(server.address, "Dr Ada")
    reader.open(next(pick["study_id"] for pick in server.picks() if len(pick["series"]) == 3))
    wait_for(lambda: reader.reading.sequences._task.isOver)
    reader.reading.sequences.step(1)
    reader.ui.worklistSection.collapsed = False
    grab(reader, "series")
    reader.close()


def tell_of_drafts():
    """A study that was begun with its draft, with the curve below it; the server is the recorded one."""
    server, reader = Recorded(), new_reader()
    dice = (0.52, 0.61, 0.58, 0.7, 0.66, 0.81, 0.78, 0.86, 0.92, 0.9, 0.95, 0.93, 0.96)
    publish(
        server,
        [pick["study_id"] for pick in server.get("/firstpick/proposal")["picks"]],
        message="3 drafts are ready, learnt from 18 labels: Dice 0.87 on labels that were not learnt from.",
        corrections=[correction(number, one, is_taken=number % 6 != 4) for number, one in enumerate(dice)],
        stop="The last five drafts needed little (median Dice 0.93): the next ones may be checked only, or stop here.",
    )
    reader.connect(server.address, "Dr Ada")
    reader.press("openButton")
    reader.press("draftButton")
    reader.ui.draftsSection.collapsed = False
    grab(reader, "draft")
    reader.close()
    server.stop()


def tell(server):
    """The story, a picture at each station."""
    reader = new_reader()
    reader.ui.addressBox.setCurrentText("http://127.0.0.1:8000")
    reader.logic.connect("127.0.0.1:1", "Dr Ada")
    reader.wait()
    reader.ui.readerEdit.text = "Dr Ada"
    grab(reader, "connect")
    reader.connect(server.address, "Dr Ada")
    ids = reader.ids()
    server.post("/firstpick/reserve", study_id=ids[4], client_id="Dr Bo")
    for _ in range(2):
        reader.press("openButton")
        draw(reader, server)
        reader.press("submitButton")
    reader.press("closeButton")
    reader.logic.skip(ids[3], "poor quality")
    reader.wait()
    reader.ui.mapSection.collapsed = True
    reader.widget.table.select(ids[5])
    grab(reader, "worklist")
    reader.ui.worklistSection.collapsed = True
    reader.ui.mapSection.collapsed = False
    reader.widget.map._draw()
    x, y = reader.widget.map._place(reader.widget.map._map.index(ids[5]))
    reader.widget.map.mouseMoveEvent(
        qt.QMouseEvent(
            qt.QEvent.MouseMove, qt.QPointF(x, y), qt.QPointF(x, y), qt.Qt.NoButton, qt.Qt.NoButton, qt.Qt.NoModifier
        )
    )
    grab(reader, "map")
    reader.widget.map.leaveEvent(None)
    reader.press("openButton")
    draw(reader, server)
    grab(reader, "reading")
    reader.ui.skipButton.click()
    grab(reader, "skip")
    reader.ui.skipButton.click()
    while reader.reading:
        draw(reader, server)
        reader.press("submitButton")
    server.post("/firstpick/skip", study_id=ids[4], client_id="Dr Bo", reason="duplicate")
    reader.refresh()
    while reader.logic.worklist.nextOpen():
        reader.press("openButton")
        draw(reader, server)
        reader.press("submitButton")
    reader.ui.mapSection.collapsed = True
    grab(reader, "all_done")
    reader.close()


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slicer.app.temporaryPath = str(folder / "temporary")
        slicer.app.slicerUserSettingsFilePath = str(folder / "Slicer.ini")
        qt.QSettings.setDefaultFormat(qt.QSettings.IniFormat)
        qt.QSettings.setPath(qt.QSettings.IniFormat, qt.QSettings.UserScope, str(folder))
        if OPTIONS.only != "series":
            tell_of_drafts()
        if OPTIONS.only == "draft":
            return
        rule, brains = SEQUENCES, folder / "brains"
        if BRAINS.is_dir():
            rule = {"series.by": "regex:^(?P<study>.+_study[0-9])_(?P<series>.+)$", "series.pool": "mean"}
            brains.mkdir()
            for path in BRAINS.glob("patient*"):
                shutil.copy2(path, brains)
        else:
            write_sequences(brains, 6)
        with Server(brains, folder / "series", labels=LABELS, batch_size="5", **rule) as server:
            server.wait_until_ready()
            tell_of_series(server)
        if OPTIONS.only:
            return
        studies = folder / "studies"
        if IMAGES.is_dir():
            studies.mkdir()
            for path in sorted(IMAGES.iterdir())[:N_STUDIES]:
                shutil.copy2(path, studies)
        else:
            write_studies(studies, 24)
        with Server(studies, folder / "state", labels=LABELS, batch_size="8") as server:
            server.wait_until_ready()
            tell(server)


if __name__ == "__main__":
    main()
