"""A Dask cluster of real processes on this machine: a scheduler, and workers that can be added and killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="pip install 'firstpick[cluster]'")


class DaskCluster:
    """A scheduler on a free port of the loopback; each worker is a process group of its own, as a machine would be."""

    def __init__(self, folder, protocol="tcp", certificates=None):
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        options = {"ca": "--tls-ca-file", "cert": "--tls-cert", "key": "--tls-key"}
        self._certificates = [word for name, path in (certificates or {}).items() for word in (options[name], path)]
        self._processes = []
        self.log = self._folder / "log"
        file = self._folder / "scheduler.json"
        self.scheduler = self._start(
            "scheduler", "--host", f"{protocol}://127.0.0.1", "--port", "0", "--scheduler-file", str(file)
        )
        end = time.monotonic() + 60
        while not (file.exists() and file.read_text().strip().endswith("}")):
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.1)
        self.address = json.loads(file.read_text())["address"]

    def add_worker(self, **environment):
        """Start a worker of one thread, and return its process; ``core`` is the only one that it has, if given."""
        options = ("--host", "127.0.0.1", "--nthreads", "1", "--memory-limit", "0", "--death-timeout", "60")
        return self._start("worker", self.address, *options, "--local-directory", str(self._folder), **environment)

    def _start(self, what, *arguments, **environment):
        core = environment.pop("core", None)
        settings = {"DASK_DISTRIBUTED__WORKER__DAEMON": "False", "PYTHONWARNINGS": "ignore", **environment}
        pinned = [] if core is None else ["taskset", "-c", str(core)]
        with self.log.open("a") as log:
            process = subprocess.Popen(
                [*pinned, sys.executable, "-m", "dask", what, *arguments, "--no-dashboard", *self._certificates],
                env={**os.environ, **settings},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    @staticmethod
    def kill(process):
        """End a machine: the worker, its nanny and all that they have started."""
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self._processes):
            self.kill(process)
