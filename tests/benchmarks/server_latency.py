"""How fast the server answers while it embeds, how soon it serves a batch, and what it costs at start.

Run by hand: ``python tests/benchmarks/server_latency.py``. Real servers, one after the other, on a free port:

1. ``firstpick serve`` with fresh state: `/info/` and `/firstpick/status` by turns while the workers embed
   (bound: median under 100 ms)
2. the same again with everything embedded: from the first `/info/` to the first `/firstpick/proposal`
   (bound: 1 s)
3. by turns a bare MONAI Label app, FirstPick as MONAI Label's app, and ``firstpick serve``: seconds to the first
   `/info/`, and the memory of the server process when it is at rest (bounds: 1 s and 100 MB over the bare app)
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import psutil

STUDIES = Path(__file__).resolve().parents[3] / "shared" / "data" / "hippocampus" / "images"
BARE_APP = """from monailabel.interfaces.app import MONAILabelApp


class BareApp(MONAILabelApp):
    def __init__(self, app_dir, studies, conf):
        super().__init__(app_dir, studies, conf, name="Bare", labels=["foreground"])
"""
START_SECONDS = 180.0
EMBED_SECONDS = 1800.0
PAUSE = 0.02  # where a moment is to be found
LOAD_PAUSE = 0.1  # where workers need the cores: some 200 requests of each kind in 20 s
REST_SECONDS = 3.0


def main():
    parser = argparse.ArgumentParser(description="Latency, warm start and overhead of the server, as tables.")
    parser.add_argument("--studies", type=Path, default=STUDIES, help="folder with the studies")
    parser.add_argument("--limit", type=int, help="only the first so many files")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to measure under load (default 20)")
    parser.add_argument("--repeats", type=int, default=3, help="starts of each kind (default 3)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        studies = copied(options.studies, folder / "studies", options.limit)
        serve = firstpick_serve(studies, folder / "state")
        print_latency(serve, options.seconds)
        print_warm_start(serve, options.repeats)
        kinds = {
            "bare MONAI Label app": bare_server(
                copied(options.studies, folder / "bare-studies", options.limit), folder
            ),
            "FirstPick as its app": app_server(studies, folder / "state"),
            "firstpick serve": serve,
        }
        print_overhead(kinds, options.repeats)


def copied(studies, folder, limit):
    """A folder of copies: MONAI Label writes its JSON into the folder that it serves."""
    folder.mkdir()
    for path in sorted(studies.iterdir())[:limit]:
        shutil.copyfile(path, folder / path.name)
    return folder


# -- commands, each with `--port` to come


def firstpick_serve(studies, state):
    return [sys.executable, "-m", "firstpick.cli", "serve", "--studies", str(studies), "--state", str(state)]


def app_server(studies, state):
    return [*monai_label(state / "app", studies), "--conf", "state_dir", str(state)]


def bare_server(studies, folder):
    app = folder / "bare-app"
    app.mkdir()
    (app / "main.py").write_text(BARE_APP)
    return monai_label(app, studies)


def monai_label(app, studies):
    start = [sys.executable, "-m", "monailabel.main", "start_server", "--host", "127.0.0.1"]
    return [*start, "--app", str(app), "--studies", str(studies)]


# -- a server


class Server:
    """A running server: when it was started, its first answer to `/info/`, its process and a client."""

    def __init__(self, process, client, started_at, answered_at):
        self.process, self.client = process, client
        self.started_at, self.answered_at = started_at, answered_at

    def wait_for(self, path, *, is_good=lambda _: True, limit=START_SECONDS, pause=PAUSE):
        """Seconds since the first `/info/` until a good answer."""
        while True:
            answer = self.client.get(path)
            if answer.status_code == httpx.codes.OK and is_good(answer.json()):
                return time.perf_counter() - self.answered_at
            if time.perf_counter() - self.answered_at > limit:
                sys.exit(f"{path}: no good answer within {limit:.0f} s: {answer.text[:300]}")
            time.sleep(pause)

    def memory_mb(self):
        """Resident memory of the server process; its children are not counted."""
        return self.process.memory_info().rss / 2**20

    def children_seconds(self):
        """CPU time of the processes that the server started and that still run."""
        total = 0.0
        for child in self.process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += sum(child.cpu_times()[:2])
        return total


@contextlib.contextmanager
def running(command):
    """Start a server, wait for its first `/info/`, and end it with all its children."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
    with tempfile.TemporaryFile("w+") as log, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        start = time.perf_counter()
        process = psutil.Popen([*command, "--port", str(port)], env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            while not is_up(client):
                if process.poll() is not None or time.perf_counter() - start > START_SECONDS:
                    log.seek(0)
                    sys.exit(f"the server did not start:\n{log.read()[-2000:]}")
                time.sleep(PAUSE)
            yield Server(process, client, start, time.perf_counter())
        finally:
            end(process)


def is_up(client):
    try:
        return client.get("/info/").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def end(process):
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    process.terminate()
    _, alive = psutil.wait_procs(family, timeout=15)
    for each in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(alive, timeout=15)


# -- the three tables


def print_latency(command, seconds):
    """Ask while the workers are busy; then let them finish, for the next table."""
    times = {"/info/": [], "/firstpick/status": []}
    with running(command) as server:
        busy = server.children_seconds()
        while (elapsed := time.perf_counter() - server.answered_at) < seconds:
            for path, taken in times.items():
                start = time.perf_counter()
                answer = server.client.get(path).raise_for_status()
                taken.append(1000 * (time.perf_counter() - start))
            if answer.json()["state"] == "ready":
                print(f"Note: everything was embedded after {elapsed:.0f} s; take more studies.", file=sys.stderr)
                break
            time.sleep(LOAD_PAUSE)
        busy = server.children_seconds() - busy
        progress = answer.json()["progress"]
        print(f"The first {elapsed:.0f} s, {progress['done']} of {progress['total']} studies embedded;", end=" ")
        print(f"the workers had {busy:.0f} of {elapsed * psutil.cpu_count():.0f} core seconds:\n")
        print("| route | requests | median, ms | p95, ms | worst, ms | bound, median |\n|---|---|---|---|---|---|")
        for path, taken in times.items():
            middle, high = np.percentile(taken, [50, 95])
            print(f"| {path} | {len(taken)} | {middle:.1f} | {high:.1f} | {max(taken):.0f} | 100 |")
        server.wait_for("/firstpick/status", is_good=is_ready, limit=EMBED_SECONDS, pause=1.0)
        server.wait_for("/firstpick/proposal")


def is_ready(status):
    return status["state"] == "ready"


def print_warm_start(command, n_repeats):
    seconds = []
    for _ in range(n_repeats):
        with running(command) as server:
            seconds.append(server.wait_for("/firstpick/proposal"))
    print("\nWarm start, from the first `/info/` to the first `/firstpick/proposal` (bound 1 s):", end=" ")
    print(f"{', '.join(f'{each:.2f}' for each in seconds)} s, median {statistics.median(seconds):.2f} s\n")


def print_overhead(kinds, n_repeats):
    seconds = {name: [] for name in kinds}
    memory = {name: [] for name in kinds}
    for _ in range(n_repeats):
        for name, command in kinds.items():
            with running(command) as server:
                if "--state" in command or "state_dir" in command:
                    server.wait_for("/firstpick/proposal")
                time.sleep(REST_SECONDS)
                seconds[name].append(server.answered_at - server.started_at)
                memory[name].append(server.memory_mb())
    print(f"Start, everything embedded, median of {n_repeats} by turns (bounds: 1 s and 100 MB over the bare app):\n")
    print("| server | seconds to `/info/` | over bare | memory, MB | over bare |\n|---|---|---|---|---|")
    bare = next(iter(kinds))
    for name in kinds:
        time_over = statistics.median(a - b for a, b in zip(seconds[name], seconds[bare], strict=True))
        memory_over = statistics.median(a - b for a, b in zip(memory[name], memory[bare], strict=True))
        print(
            f"| {name} | {statistics.median(seconds[name]):.2f} | {time_over:+.2f} "
            f"| {statistics.median(memory[name]):.0f} | {memory_over:+.0f} |"
        )


if __name__ == "__main__":
    main()
