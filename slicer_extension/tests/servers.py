"""The real server as a process, from a Python that has FirstPick installed; and what it answers."""

import json
import os
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import nibabel as nib
import numpy as np
import pytest

SEQUENCES = {"series.by": "regex:^(?P<study>.+)_(?P<series>t1|t2|flair)$", "series.primary": "[t1]"}
FAST = {"encoder": "pixels", "views.size": "56", "rescan_s": "0.3", "n_workers": "1"}


def oblique(degrees=(20, -15, 10), spacing=(0.8, 1.3, 2.1), origin=(-40, 25, 7)):
    """A grid that is turned about all three axes."""
    affine = np.eye(4)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(4)
        i, j = [other for other in range(3) if other != axis]
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        affine = affine @ turn
    affine = affine @ np.diag([*spacing, 1])
    affine[:3, 3] = origin
    return affine


OBLIQUE = oblique()


def write_studies(folder, n_studies, size=16, affine=OBLIQUE):
    """Small volumes of four kinds, no two alike; all lie aslant."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n_studies):
        rng = np.random.default_rng(number)
        array = rng.normal(0, 20, (size, size + 3, size - 2))
        start = number % 4 * size // 5
        array[start : start + size // 3, 3:10, 2 : 6 + number % 4 * 2] += 400 + 150 * (number % 4)
        nib.save(nib.Nifti1Image(array.astype(np.int16), affine), folder / f"study_{number:02d}.nii.gz")
    return folder


def write_sequences(folder, n_studies, size=12):
    """Patients with three sequences each; every flair has a grid of its own, and the second patient has none."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n_studies):
        for place, series in enumerate(("t1", "t2", "flair")):
            if (number, series) == (1, "flair"):
                continue
            rng = np.random.default_rng(10 * number + place)
            shape = (size, size + 3, size - 2) if series != "flair" else (size - 4, size - 1, size + 1)
            array = rng.normal(100, 20, shape)
            array[2:5, 3:7, 2 : 4 + number] += 300 + 100 * place
            grid = OBLIQUE if series != "flair" else oblique((5, 0, 0), (1.5, 1.5, 2.0))
            nib.save(nib.Nifti1Image(array.astype(np.int16), grid), folder / f"patient{number}_{series}.nii.gz")
    return folder


class Server:
    """A started server, its address and its answers."""

    def __init__(self, studies, state, **conf):
        python = os.environ.get("FIRSTPICK_PYTHON")
        if not python:
            pytest.skip("FIRSTPICK_PYTHON does not name a Python that has FirstPick installed")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.studies, self.state = Path(studies), Path(state)
        command = [python, "-m", "firstpick.cli", "serve", "--studies", studies, "--state", state, "--port", self.port]
        for key, value in {**FAST, **conf}.items():
            command += ["--conf", key, value]
        self.command = [str(part) for part in command]
        self.log = self.state.with_name(f"{self.state.name}.log")
        self.start()

    def start(self):
        with self.log.open("a") as output:
            self.process = subprocess.Popen(
                self.command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def wait_until_ready(self):
        end = time.monotonic() + 120
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                if self.get("/firstpick/status")["state"] == "ready":
                    return self.get("/firstpick/proposal")
            except urllib.error.URLError:
                pass
            time.sleep(0.1)
        raise AssertionError(self.log.read_text()[-3000:])

    def get(self, path, **query):
        address = self.address + path + ("?" + urlencode(query) if query else "")
        with urllib.request.urlopen(address, timeout=30) as answer:
            return json.load(answer)

    def post(self, path, **body):
        request = urllib.request.Request(
            self.address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def picks(self):
        return self.get("/firstpick/proposal")["picks"]

    def pick(self, study_id):
        return next(pick for pick in self.picks() if pick["study_id"] == study_id)

    def label(self, study_id, tag="final"):
        """Read a label file from the server's disk by other means than Slicer's."""
        name = study_id.removesuffix("".join(Path(study_id).suffixes))  # of what `write_studies` writes
        return nib.load(self.state / "datastore" / "labels" / tag / f"{name}.nii.gz")

    def study(self, study_id):
        return nib.load(self.studies / study_id)

    def let_half_an_hour_pass(self):
        """Stop the server, write down that one ran for 30 minutes in which nothing was decided, and start it again.

        Reservations are counted in seconds that a server ran on the log, as its last event tells: the column ``tick``.
        """
        self.stop()
        nothing = json.dumps({"study_id": "", "client": "", "tag": "", "info": {}})
        last = "(select max(tick) from (select tick from events union all select tick from renewed))"
        with closing(sqlite3.connect(self.state / "decisions.sqlite", timeout=10)) as connection, connection:
            connection.execute(
                f"insert into events (at, tick, kind, facts) values (?, {last} + 1801, 'noted', ?)",
                (time.time(), nothing),
            )
        self.start()
        self.wait_until_ready()


def sequences_server(folder, **conf):
    """Serve three patients of `write_sequences`, the t1 of each in front."""
    studies = write_sequences(folder / "studies", 3)
    return Server(studies, folder / "state", **{**SEQUENCES, "batch_size": "3", **conf})
