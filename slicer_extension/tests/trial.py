"""A reader before a real server behind a proxy, what they do there, and what must not come of it."""

import contextlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

import nibabel as nib
import numpy as np
import qt
import slicer
from servers import SEQUENCES, Server, write_sequences, write_studies
from stage import HERE, Reader, wait_for

from FirstPickLib import studyfile

LABELS = '[{name: tumour, value: 5, color: "#ff0080"}, {name: organ, value: 2, color: "#00ff00"}]'
SHAPE = (12, 15, 10)  # of `write_studies` with size 12, and of a t1 of `write_sequences`
SEVERAL = "patient0"
SILENCE_MS = 1500


class Proxy:
    """The proxy as a process before a server."""

    def __init__(self, address):
        command = [sys.executable, str(HERE / "proxy.py"), address]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()

    def set(self, *rules):
        """Answer wrongly from now on: (method, path, answer)."""
        body = [dict(zip(("method", "path", "answer"), rule)) for rule in rules]
        request = urllib.request.Request(f"{self.address}/proxy", json.dumps(body).encode())
        urllib.request.urlopen(request, timeout=10).close()

    def n_wrong(self):
        with urllib.request.urlopen(f"{self.address}/proxy", timeout=10) as answer:
            return json.load(answer)

    def stop(self):
        self.process.kill()
        self.process.wait(timeout=10)
        self.process.stdout.close()


class Trial:
    """One reader, and one study, before one wrong answer."""

    def __init__(self, server, proxy, folder):
        self.server, self.proxy = server, proxy
        slicer.app.temporaryPath = str(folder / "temporary")
        slicer.app.slicerUserSettingsFilePath = str(folder / "settings" / "Slicer.ini")
        self.reader = Reader()
        self.study = server.picks()[0]["study_id"]
        self.mask = None

    # -- what a reader does

    def connect(self):
        self.reader.connect(self.proxy.address)
        self.settle()

    def settle(self):
        """Until nothing is under way, pictures and the next study's file included."""
        wait_for(lambda: not self.reader.logic.isBusy)
        slicer.app.processEvents()
        self.reader.widget.table.loadVisible()
        wait_for(lambda: not self.reader.logic.network.nPending)

    def open(self):
        self.reader.ui.filterBox.currentIndex = 0
        self.reader.open(self.study)

    def open_several(self):
        """Open the study of several series; what did not come is chosen, which tries again."""
        reader = self.reader
        if not reader.reading or reader.reading.studyId != SEVERAL:
            reader.logic.open(SEVERAL)
            self.settle()
        for one in reader.reading.sequences.all[1:]:
            if not one.isHere:
                reader.reading.sequences.choose(one)
                self.settle()

    def draw(self):
        self.connect()
        self.open()
        self.mask = np.zeros(SHAPE, bool)
        self.mask[2:5, 2:6, 3:5] = True
        self.reader.draw("tumour", self.mask)

    def save(self):
        self.draw()
        self.reader.press("saveButton")
        self.reader.press("closeButton")
        for copy in Path(self.reader.logic.cacheFolder).iterdir():
            copy.unlink()

    def submit(self):
        self.draw()
        self.reader.press("submitButton")
        self.reader.press("closeButton")

    def skip(self):
        self.reader.ui.skipButton.click()
        self.reader.ui.skipBox.setCurrentText("poor quality")
        self.reader.press("confirmSkipButton")

    def skip_at_first(self):
        self.connect()
        self.reader.logic.skip(self.study, "poor quality")
        self.settle()

    def select_and_open(self):
        self.reader.ui.filterBox.currentIndex = 0
        self.reader.widget.table.select(self.study)
        self.reader.press("openButton")

    def new_batch(self):
        self.reader.press("newBatchButton")
        if self.reader.logic.question:
            self.reader.press("yesButton")

    def beat(self):
        self.reader.logic.heartbeat()
        self.settle()

    def open_and_close(self):
        if not self.reader.reading:
            self.open()
        self.reader.press("closeButton")

    def go_on(self):
        """Leave the study for another; come back first, if it was left."""
        if not self.is_open():
            self.open()
        self.reader.press("nextButton")

    # -- what is true then

    def is_listed(self):
        return bool(self.reader.ids()) and self.reader.logic.isConnected

    def is_open(self):
        return self.reader.reading is not None and self.reader.reading.studyId == self.study

    def told_of_series(self):
        """What is said below the box of the series; nothing of what the server notes."""
        sequences = self.reader.reading.sequences if self.reader.reading else None
        return " ".join(line for line in (sequences.text() if sequences else "").splitlines() if "Not loaded" in line)

    def has_series(self):
        sequences = self.reader.reading.sequences
        return len(sequences.all) == 3 and len(sequences.others) == 2 and not sequences.text().count("Not loaded")

    def has_series_pictures(self):
        self.reader.refresh()
        self.settle()
        box = self.reader.ui.seriesBox
        return box.count == 3 and not any(box.itemIcon(number).isNull() for number in range(3))

    def status(self):
        points = self.server.get("/firstpick/map")["points"]
        return next(point["status"] for point in points if point["study_id"] == self.study)

    def on_server(self, *tags):
        """Whether the server's disk has what was drawn, under one of these tags."""
        folders = [one for tag in tags for one in (self.server.state / "datastore" / "labels").glob(tag)]
        files = [file for one in folders for file in one.glob(f"{self.study.partition('.')[0]}.*")]
        return any(np.array_equal(np.asarray(nib.load(file).dataobj) == 5, self.mask) for file in files)

    def is_kept(self):
        logic = self.reader.logic
        work = logic.kept.read(logic.client, self.study)
        if work is None:
            return False
        label = nib.load(logic.kept.path(work.label))
        return np.array_equal(np.asarray(label.dataobj) == 5, self.mask)

    def is_drawn(self):
        if not self.is_open():
            return False
        segmentation = self.reader.reading.segmentation
        name = segmentation.GetSegmentation().GetSegmentIdBySegmentName("tumour")
        array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, name, self.reader.reading.volume)
        return np.array_equal(array.T != 0, self.mask)

    def has_pictures(self):
        self.reader.refresh()
        self.settle()
        table, ids = self.reader.ui.table, self.reader.ids()
        last = table.rowAt(table.viewport().height - 1)
        in_view = ids[: last + 1] if last >= 0 else ids
        return bool(in_view) and all(self.reader.logic.thumbnails.get(study_id) for study_id in in_view)

    # -- what must not be

    def faults(self):
        """What was lost, or said that is not so."""
        said, found = self.reader.message, []
        if self.reader.logic.isBusy:
            found.append("stuck: busy")
        files = [file.read_bytes() for file in self.server.studies.iterdir()]
        copies = [copy for copy in Path(self.reader.logic.cacheFolder).glob("*") if not copy.name.startswith("label")]
        found += [f"false copy: {copy.name}" for copy in copies if copy.read_bytes() not in files]
        if self.mask is None:
            return found
        isSent = self.on_server("final", "saved-alice-*")
        if not (isSent or self.is_kept() or self.is_drawn()):
            found.append("lost what was drawn")
        if not (isSent or self.is_kept() or "Not sent" not in said):
            found.append("said to be kept, but is not")
        if "Submitted" in said and not (self.status() == "done" and self.on_server("final")):
            found.append("falsely submitted")
        if "Saved your work" in said and not isSent:
            found.append("falsely saved")
        return found

    def end(self):
        """Leave the server as it was."""
        try:
            self.reader.close()
        finally:
            self._restore()

    def _restore(self):
        for tag in {path.name for path in (self.server.state / "datastore" / "labels").glob("*")}:
            address = f"{self.server.address}/datastore/label?id={quote(self.study)}&tag={quote(tag)}"
            with contextlib.suppress(urllib.error.HTTPError):  # it has none
                urllib.request.urlopen(urllib.request.Request(address, method="DELETE"), timeout=10).close()
        for verb in ("unskip", "release"):
            with contextlib.suppress(urllib.error.HTTPError):  # it is neither skipped nor reserved
                self.server.post(f"/firstpick/{verb}", study_id=self.study, client_id="alice")


@contextlib.contextmanager
def room(folder):
    """A real server with a proxy before it; what is silent is given up soon."""
    write_studies(folder / "studies", 5, size=SHAPE[0])
    studies = write_sequences(folder / "studies", 1, size=SHAPE[0])
    native, is_here = qt.QNetworkRequest.setTransferTimeout, studyfile.isHere
    with Server(studies, folder / "state", labels=LABELS, batch_size="4", **SEQUENCES) as server:
        server.wait_until_ready()
        proxy = Proxy(server.address)
        qt.QNetworkRequest.setTransferTimeout = lambda self, ms: native(self, min(ms, SILENCE_MS))
        studyfile.isHere = lambda info: False  # as on another computer
        try:
            yield server, proxy
        finally:
            qt.QNetworkRequest.setTransferTimeout, studyfile.isHere = native, is_here
            proxy.stop()
