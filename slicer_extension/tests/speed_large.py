"""How long the window stands still over 512 x 512 x 250 voxels: ``python speed_large.py [another FirstPick folder]``.

Opens a study of the real server (FIRSTPICK_PYTHON), draws, saves it and submits, and prints the longest time
between two beats of a 20 ms timer. With the module's folder of another checkout both are measured in turn, three times,
and the medians compared.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path[:0] = [str(HERE), str(HERE / "host")]

import nibabel as nib
import numpy as np
import qt
import slicer
from servers import Server
from stage import Reader, wait_for

SHAPE = (512, 512, 250)
BALLS = {"liver": ((200, 250, 120), 90), "spleen": ((330, 300, 100), 45), "tumour": ((330, 200, 160), 25)}
LABELS = "[{name: liver, value: 1}, {name: spleen, value: 2}, {name: tumour, value: 3}]"
N_TIMES = 3


class Beat:
    """The longest time between two beats."""

    def __init__(self):
        self.reset()
        self.timer = qt.QTimer()
        self.timer.setInterval(20)
        self.timer.connect("timeout()", self.on_beat)
        self.timer.start()

    def reset(self):
        self.last, self.longest, self.begin = time.perf_counter(), 0.0, time.perf_counter()

    def on_beat(self):
        now = time.perf_counter()
        self.longest, self.last = max(self.longest, now - self.last), now

    def tell(self, name):
        slicer.app.processEvents()
        self.on_beat()
        print(f"{name}\t{self.longest:.3f}\t{time.perf_counter() - self.begin:.3f}", flush=True)


def ball(middle, radius):
    squares = [(np.arange(n) - at) ** 2 for n, at in zip(SHAPE, middle)]
    return squares[0][:, None, None] + squares[1][:, None] + squares[2] < radius**2


def write_study(folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    array = rng.integers(-30, 30, SHAPE, np.int16) - 1000
    array[ball((256, 256, 125), 230)] += 1050
    for number, (middle, radius) in enumerate(BALLS.values()):
        array[ball(middle, radius)] += 60 * (number + 1)
    nib.save(nib.Nifti1Image(array, np.diag([-0.7, -0.7, 1.0, 1])), folder / "ct.nii.gz")
    nib.save(nib.Nifti1Image(array[::16, ::16, ::16].copy(), np.diag([-11, -11, 16.0, 1])), folder / "next.nii.gz")


def read_one(address):
    """Open, draw, save, submit; by a reader of a name of its own."""
    reader, beat = Reader(), Beat()
    reader.connect(address, f"reader {os.getpid()}")
    reader.widget.table.select("ct.nii.gz")
    beat.reset()
    reader.press("openButton")
    beat.tell("open")
    beat.reset()
    again = slicer.util.loadVolume(reader.reading.volume.GetStorageNode().GetFileName(), {"show": False})
    beat.tell("  Slicer's own load")
    slicer.mrmlScene.RemoveNode(again)
    for name, (middle, radius) in BALLS.items():
        reader.draw(name, ball(middle, radius))
    end = time.monotonic() + 1
    wait_for(lambda: time.monotonic() > end)  # what follows a stroke is over
    beat.reset()
    getattr(reader.logic, "_autosave", reader.logic._keep)()
    beat.tell("written here")
    for name, button in (("save", "saveButton"), ("close", "closeButton"), ("open with its label", "openButton")):
        if name.startswith("open"):
            reader.widget.table.select("ct.nii.gz")
        beat.reset()
        reader.press(button)
        beat.tell(name)
    beat.reset()
    reader.press("submitButton")
    while reader.logic.question:
        reader.press("yesButton")
    beat.tell("submit")
    if reader.reading:
        reader.press("closeButton")
    reader.close()
    reader.logic.network.cancelAll()


def run(address, module):
    """Measure a module in a process of its own; the longest pause and the whole time of each step."""
    command = [sys.executable, __file__, "--at", address]
    environment = {**os.environ, "FIRSTPICK_MODULE": str(module)}
    lines = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    steps = [line.split("\t") for line in lines if line.count("\t") == 2]
    return {name: (float(longest), float(whole)) for name, longest, whole in steps}


def main(modules):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_study(folder / "studies")
        measured = {module: [] for module in modules}
        for turn in range(N_TIMES):
            for number, module in enumerate(modules):
                state = folder / f"state-{turn}-{number}"
                with Server(folder / "studies", state, labels=LABELS, batch_size="2") as server:
                    server.wait_until_ready()
                    measured[module].append(run(server.address, module))
        for step in measured[modules[0]][0]:
            texts = []
            for place, what in ((0, "longest pause"), (1, "in all")):
                medians = [statistics.median(one[step][place] for one in measured[module]) for module in modules]
                ratio = f" = {medians[0] / medians[1]:.2f} of {medians[1]:.2f} s" if len(medians) > 1 else ""
                texts.append(f"{what} {medians[0]:.2f} s{ratio}")
            print(f"{step:20} {'; '.join(texts)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--at"]:
        slicer.app.temporaryPath = tempfile.mkdtemp()
        slicer.app.slicerUserSettingsFilePath = str(Path(slicer.app.temporaryPath) / "Slicer.ini")
        read_one(sys.argv[2])
    else:
        main([HERE.parent / "FirstPick", *map(Path, sys.argv[1:2])])
