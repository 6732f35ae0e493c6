"""The real server as a process, and studies for it."""

import copy
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
import SimpleITK as sitk  # noqa: N813

requests = pytest.importorskip("requests", reason="pip install 'firstpick[server]'")

FAST = ("encoder", "pixels", "views.size", "56", "rescan_s", "0.3", "n_workers", "1")


def wait_for(condition, timeout=60.0, what="it"):
    """Ask until the answer is true, and return it."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if answer := condition():
            return answer
        time.sleep(0.05)
    message = f"waited {timeout} s in vain for {what}"
    raise AssertionError(message)


def write_studies(folder, n_studies, size=20):
    """Small volumes of four kinds; every one a little different."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n_studies):
        rng = np.random.default_rng(number)
        array = rng.normal(0, 20, (size, size, size))
        start = number % 4 * size // 5
        array[start : start + size // 3, 3:10, 2 : 6 + number % 4 * 3] += 400 + 150 * (number % 4)
        nib.save(nib.Nifti1Image(array.astype(np.int16), np.eye(4)), folder / f"study_{number:02d}.nii.gz")
    return folder


def snapshot(folder):
    """Every name below a folder with its size, time and rights."""
    stats = [(path, path.lstat()) for path in (folder, *sorted(folder.rglob("*")))]
    return [(str(path), stat.st_size, stat.st_mtime_ns, stat.st_mode) for path, stat in stats]


def firstpick(*arguments):
    """Run a command of the command line."""
    return subprocess.run(
        [sys.executable, "-m", "firstpick.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def is_alive(process):
    """Whether a process still runs; one that ended but that nobody waited for does not."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


class Server:
    """A started server; its address, its answers and its end."""

    def __init__(self, studies, state, *conf, command=None, prefix=""):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.state, self.headers = Path(state), {}
        self.studies = studies if str(studies).startswith("http") else Path(studies)
        command = command or [sys.executable, "-m", "firstpick.cli", "serve", "--state", str(state)]
        command = [*command, "--studies", str(studies), "--port", str(self.port)]
        pairs = dict(zip(FAST[::2], FAST[1::2], strict=True)) | dict(zip(conf[::2], conf[1::2], strict=True))
        for key, value in pairs.items():
            command += ["--conf", f"{prefix}{key}", value]
        self.log = self.state.with_name(f"{self.state.name}-{self.port}.log")
        with self.log.open("w") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()

    def signed_in(self, token):
        """The same server, asked with a token."""
        other = copy.copy(self)
        other.headers = {"Authorization": f"Bearer {token}"}
        return other

    def kill(self):
        """Send SIGKILL: the process has no time for anything."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=10)

    def workers(self):
        """Processes that embed, and one that reads labels: our children but Python's helper for shared resources."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in found if is_alive(child) and "spawn_main" in " ".join(child.cmdline())]

    def ask(self, method, path, expect=200, **kwargs):
        """Send a request; every refusal has a text."""
        kwargs = {"headers": self.headers, "timeout": 30, **kwargs}
        answer = requests.request(method, f"http://127.0.0.1:{self.port}{path}", **kwargs)
        assert answer.status_code == expect, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        if expect >= 400:
            assert is_json, answer.text
            assert answer.json()["detail"], answer.text
            return answer.json()["detail"]
        return answer.json() if is_json and method != "HEAD" else answer

    def get(self, path, expect=200, **params):
        return self.ask("GET", path, expect, params=params)

    def post(self, path, expect=200, **body):
        return self.ask("POST", path, expect, json=body)

    def next_sample(self, client=None, strategy="firstpick", expect=200):
        return self.post(f"/activelearning/{strategy}", expect, **({"client_id": client} if client else {}))

    def image(self, study_id):
        """Download a study's file as a client does, asking again while it is being prepared."""

        def answer():
            address = f"http://127.0.0.1:{self.port}/datastore/image"
            asked = requests.get(address, {"image": study_id}, headers=self.headers, timeout=30)
            if asked.status_code == 503:
                assert int(asked.headers["retry-after"]) > 0
                assert "being prepared" in asked.json()["detail"]
                return None
            assert asked.status_code == 200, asked.text
            return asked

        return wait_for(answer, 30, f"the file of {study_id}")

    def opened(self, study_id):
        """A study's file, read as a reader's program reads it."""
        answer = self.image(study_id)
        ending = re.search(r"(?i)(\.nii)?\.\w+$", self.get("/datastore/image/info", image=study_id)["name"])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"image{ending[0] if ending else ''}")
            path.write_bytes(answer.content)
            image = sitk.ReadImage(str(path))
            return image if image.GetDimension() <= 3 else image[:, :, :, 0]

    def mask(self, study_id, name="label.nii.gz", value=1):
        """A label file of a study: a block in one corner of its grid."""
        image = self.opened(study_id)
        array = np.zeros(image.GetSize()[::-1], np.uint8)
        array[tuple(slice(0, max(1, n // 3)) for n in array.shape)] = value
        label = sitk.GetImageFromArray(array)
        label.CopyInformation(image)
        with tempfile.TemporaryDirectory() as folder:
            sitk.WriteImage(label, f"{folder}/{name}")
            return Path(folder, name).read_bytes()

    def upload(self, study_id, client="", tag="final", expect=200, name="label.nii.gz", content=None):
        """Send a label as 3D Slicer does."""
        if content is None:
            content = self.mask(study_id, name) if expect == 200 else b"a label"
        return self.ask(
            "PUT",
            "/datastore/label",
            expect,
            params={"image": study_id, "tag": tag},
            data={"params": f'{{"client_id": "{client}", "label_info": []}}'},
            files={"label": (name, content, "application/octet-stream")},
        )

    def status(self):
        return self.get("/firstpick/status")

    def answers(self):
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            return self.status()
        except requests.ConnectionError:
            return None

    def wait_until_ready(self, state="ready"):
        """Wait for the server, and until all is embedded and each strategy has its batch."""

        def ready():
            status = self.answers()
            return status and status["state"] == state and status

        status = wait_for(ready, what=f"state {state}")
        if state == "ready":
            for strategy in ("kmeans", "random"):
                self.get("/firstpick/proposal", strategy=strategy)
        return status

    def start_over(self, batch_size=5):
        """Undo all that was decided, and make the first batch again."""
        for reader in self.status()["readers"]:
            for held in reader["studies"]:
                self.post("/firstpick/release", study_id=held["study_id"], client_id=reader["client"])
        for point in self.get("/firstpick/map")["points"]:
            if point["status"] == "done":
                self.ask("DELETE", "/datastore/label", params={"id": point["study_id"], "tag": "final"})
                self.post("/firstpick/reopen", study_id=point["study_id"])
            elif point["status"] == "skipped":
                self.post("/firstpick/unskip", study_id=point["study_id"])
        for strategy in ("kmeans", "random"):
            self.post("/firstpick/proposal", strategy=strategy, batch_size=batch_size)

    def picks(self, strategy=""):
        return self.get("/firstpick/proposal", strategy=strategy)["picks"]

    def pick(self, study_id):
        return next(pick for pick in self.picks() if pick["study_id"] == study_id)
