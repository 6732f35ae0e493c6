"""The way of one study from the list to its label: what the module's own test does, in any Slicer."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import slicer

READER = "FirstPickTest"
PATIENCE_S = 60


@contextlib.contextmanager
def recordedServer(folder: str):
    """Start the recorded server that lies beside the module, and give its address."""
    python = shutil.which("PythonSlicer") or sys.executable  # its Python needs the environment
    script = os.path.join(folder, "Testing/Python/RecordedServer.py")
    process = subprocess.Popen([python, script], stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def readOneStudy(test, logic, address: str) -> None:
    """Open the first pick of a server, draw, submit.

    Parameters
    ----------
    test : unittest.TestCase
        Told what is not as it should be.
    logic : FirstPickLogic
    address : str
    """

    def wait(condition):
        end = time.monotonic() + PATIENCE_S
        while not condition():
            test.assertLess(time.monotonic(), end, f"{logic.connection} {logic.message}")
            slicer.app.processEvents()
            time.sleep(0.01)

    try:
        logic.connect(address, READER)
        wait(lambda: logic.worklist)
        logic.openNext()
        wait(lambda: logic.reading and not logic.isBusy)
        reading = logic.reading
        mask = np.zeros(slicer.util.arrayFromVolume(reading.volume).shape[:3], np.uint8)
        mask[mask.shape[0] // 2, 1:3, 1:3] = 1
        segmentId = reading.segmentation.GetSegmentation().GetNthSegmentID(0)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, reading.segmentation, segmentId, reading.volume)
        test.assertTrue(reading.isDirty)
        logic.submit()
        wait(lambda: not logic.isBusy)
        row = logic.worklist.row(reading.studyId)
        isRead = READER in row.readBy  # where a study needs several readers
        test.assertTrue(isRead or (row.status, row.client) == ("done", READER), logic.message)
    finally:
        logic.end()
