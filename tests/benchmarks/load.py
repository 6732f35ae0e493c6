"""What 5,000 studies and 20 readers cost the server, beside a bare MONAI Label app, and whether anybody waits.

Run by hand: ``python tests/benchmarks/load.py`` (about ten minutes on two cores; ``--studies 500 --seconds 10
--requests 3 --slices 100`` looks whether all is well in three). Linux. Real servers, one after the other:

1. FirstPick over small volumes, each embedded by the encoder `pixels` as 1,024 numbers. One client asks one route after
   the other: milliseconds of the server process's processor, all threads, until the answer and until nothing of it is
   left to do. Then 20 readers side by side, as the Slicer module asks: milliseconds at the client.
2. The same of a bare MONAI Label app with its strategy `random` over the same studies.
3. A heartbeat after a long history, which is made by repeating the rows of decisions in the database.
4. The status with a tenth of the studies.
5. The status while a DICOM series is embedded, while it is converted for readers, and while a label of it is checked.

Readers and server share the machine's cores, so that their milliseconds hold waiting for each other; the processor's do
not. Ends with 1 if a limit is not kept.
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import requests
from load_readers import (
    Client,
    Cost,
    Processor,
    Times,
    cost_of,
    cost_of_bare,
    priced,
    read_bare,
    read_firstpick,
    work,
)
from load_servers import (
    bare_server,
    first_history,
    firstpick_server,
    grow_history,
    label_of_a_study,
    label_of_the_series,
    last_row,
    write_series,
    write_studies,
)
from server_process import Server, wait_for

ROUTES = ("next sample", "proposal", "reserve", "heartbeat", "release", "skip", "map", "status", "thumbnail")
ROUTES += ("upload a label", "image info", "image", "info")
N_HISTORY, REASON = 50, "motion artefacts and metal; " * 50
STATUS_EVERY_S, ASK_EVERY_S = 0.02, 0.5


@dataclass(frozen=True)
class Limit:
    """What must be kept, and what was measured."""

    what: str
    most: float
    unit: str
    measured: float

    @property
    def is_kept(self) -> bool:
        return self.measured <= self.most


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost and waiting under load, as tables.")
    parser.add_argument("--studies", type=int, default=5000, help="(default 5000)")
    parser.add_argument("--readers", type=int, default=20, help="side by side (default 20)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long they work (default 60)")
    parser.add_argument("--pause", type=float, default=0.5, help="mean seconds after a request (default 0.5; 0: none)")
    parser.add_argument("--requests", type=int, default=15, help="of each route, for the processor (default 15)")
    parser.add_argument("--history", type=float, default=135.0, help="MB of it (default 135)")
    parser.add_argument("--history-table", default="events", help="the table that holds it (default events)")
    parser.add_argument("--slices", type=int, default=1000, help="of 512 x 512 in the series (default 1000; 0: none)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # and the servers with it
    n_cores = len(os.sched_getaffinity(0))
    print(f"{n_cores} cores; load average at the start {os.getloadavg()[0]:.1f}.\n", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        limits = measure(Path(temporary), options)
    print(f"Load average at the end {os.getloadavg()[0]:.1f}.\n\n| limit | most | measured | kept |\n|---|---|---|---|")
    for limit in limits:
        kept = "yes" if limit.is_kept else "**no**"
        print(f"| {limit.what} | {limit.most:g} {limit.unit} | {limit.measured:.3g} {limit.unit} | {kept} |")
    sys.exit(not all(limit.is_kept for limit in limits))


def measure(folder: Path, options: argparse.Namespace) -> list[Limit]:
    """Measure everything and print the tables; return the limits."""
    studies, label = write_studies(folder / "studies", options.studies), label_of_a_study()
    state = folder / "state"
    load = {"n_readers": options.readers, "seconds": options.seconds, "pause": options.pause}
    with firstpick_server(studies, state) as server:
        client, processor = Client(server.port, "one", label), Processor(server.process.pid)
        ids = sorted(path.name for path in studies.iterdir())
        costs = cost_of(client, processor, ids, options.requests)
        limits = [*limits_of(costs), is_compressed(client)]
        times, whole = loaded(server, label, read_firstpick, load)
        since = last_row(state / "decisions.sqlite", options.history_table)
        first_history(server, N_HISTORY, REASON)
    with bare_server(studies, folder / "bare") as server:
        client, processor = Client(server.port, "one", label), Processor(server.process.pid)
        bare_costs = cost_of_bare(client, processor, options.requests)
        bare_times, bare_whole = loaded(server, label, read_bare, load)
    print_routes((times, costs), (bare_times, bare_costs))
    for name, text in (("FirstPick", whole), ("the bare app", bare_whole)):
        print(f"{name} with {options.readers} readers: {text}")
    print("Refused to readers of FirstPick: " + (", ".join(f"{n} x {w}" for w, n in times.refused.items()) or "none"))
    n_rows = grow_history(state / "decisions.sqlite", options.history_table, since, options.history)
    limits.append(heartbeat_after(studies, state, label, options, n_rows))
    limits.append(status_of_fewer(folder, median(costs["status"].answered), options))
    if options.slices:
        limits.append(converted(folder / "series", options.slices))
    return limits


def loaded(
    server: Server, label: bytes, loop: Callable[[Client], Iterator[object]], load: dict[str, float]
) -> tuple[Times, str]:
    """Let readers work; return their times, and in words what they cost altogether."""
    processor = Processor(server.process.pid)
    before = processor.ms()
    times = work(server.port, label, loop, **load)
    spent = processor.ms() - before
    n_requests = sum(len(seconds) for seconds in times.seconds.values())
    share = spent / 1e3 / load["seconds"]
    return times, f"{n_requests} requests, {spent / n_requests:.1f} ms of the processor each ({share:.0%} of a core)."


def median(values: list[float]) -> float:
    return statistics.median(values) if values else float("nan")


# -- limits


def limits_of(costs: dict[str, Cost]) -> list[Limit]:
    most = {"skip": 50, "map": 20, "heartbeat": 3}
    return [Limit(f"{route}: processor", ms, "ms", median(costs[route].answered)) for route, ms in most.items()]


def is_compressed(client: Client) -> Limit:
    """The map is sent compressed to whoever takes that: its bytes on the wire against those unpacked."""
    answer = client.get("map", "/firstpick/map")
    sent = int(answer.headers.get("content-length") or 0)
    print(f"The map: {len(answer.content) / 1e3:.0f} kB, sent as {answer.headers.get('content-encoding', 'it is')}.\n")
    is_packed = answer.headers.get("content-encoding") in ("gzip", "br", "zstd")
    return Limit("map: part of its bytes that are sent", 0.5, "", sent / len(answer.content) if is_packed else 1.0)


def heartbeat_after(studies: Path, state: Path, label: bytes, options: argparse.Namespace, n_rows: int) -> Limit:
    """What a heartbeat costs after a long history."""
    start = time.monotonic()
    with firstpick_server(studies, state) as server:
        seconds = time.monotonic() - start
        client, processor = Client(server.port, "one", label), Processor(server.process.pid)
        points, cost = server.get("/firstpick/map")["points"], Cost()
        study_id = next(point["study_id"] for point in points if point["status"] == "open")
        for _ in range(options.requests):
            with priced(processor, cost):
                client.decide("heartbeat", study_id)
    size = sum(path.stat().st_size for path in state.glob("decisions.sqlite*")) / 1e6
    print(f"With {size:.0f} MB of decisions ({n_rows} rows) the server was ready after {seconds:.0f} s.\n")
    return Limit(f"heartbeat after {options.history:.0f} MB: processor", 3, "ms", median(cost.answered))


def status_of_fewer(folder: Path, ms: float, options: argparse.Namespace) -> Limit:
    """How much more the status costs than with a tenth of the studies."""
    n_fewer, label = options.studies // 10, label_of_a_study()
    fewer = write_studies(folder / "fewer", n_fewer)
    with firstpick_server(fewer, folder / "fewer-state") as server:
        client, processor, cost = Client(server.port, "one", label), Processor(server.process.pid), Cost()
        for _ in range(options.requests):
            with priced(processor, cost):
                client.get("status", "/firstpick/status")
    less = median(cost.answered)
    print(f"Status: {ms:.2f} ms of the processor with {options.studies} studies, {less:.2f} ms with {n_fewer}.\n")
    return Limit(f"status: processor, over that of {n_fewer} studies", 1.5, "times", ms / less)


# -- a large series


def converted(folder: Path, n_slices: int, side: int = 512) -> Limit:
    """How long the status takes while a series is embedded, converted, and a label of it checked."""
    studies = write_studies_and_series(folder, n_slices, side)
    rows: dict[str, list[float]] = {}
    with Server(studies, folder / "state", "batch_size", "5", "rescan_s", "10") as server:
        wait_for(server.answers, what="the server")
        with watched(server.port, rows, "embedded"):
            server.wait_until_ready()
        study_id = next(
            point["study_id"]
            for point in server.get("/firstpick/map")["points"]
            if point["study_id"].startswith("1.2.840")
        )
        with watched(server.port, rows, "converted"), asking(server.port, study_id):
            wait_for(lambda: is_there(server.port, study_id), 300, "the file of the series")
        label = label_of_the_series(n_slices, side)
        with watched(server.port, rows, "checked as a label"):
            Client(server.port, "a reader", label).upload(study_id)
    print(f"Status while a series of {side} x {side} x {n_slices} is\n\n| | requests | p50 | p95 | p99 | most, ms |")
    print("|---|---|---|---|---|---|")
    for what, seconds in rows.items():
        print(f"| {what} | {len(seconds)} | {percentiles(seconds)} | {max(seconds) * 1e3:.0f} |")
    print()
    p99 = float(np.percentile(rows["converted"], 99)) * 1e3
    return Limit(f"status while {side} x {side} x {n_slices} is converted: p99 at the client", 100, "ms", p99)


def write_studies_and_series(folder: Path, n_slices: int, side: int) -> Path:
    """A few small studies, and one large series."""
    folder.mkdir()
    studies = write_studies(folder / "studies", 10)
    write_series(studies, n_slices, side)
    return studies


def is_there(port: int, study_id: str) -> bool:
    """Ask for a study's file as a client does, and take it if it is there."""
    url = f"http://127.0.0.1:{port}/datastore/image"
    with requests.get(url, {"image": study_id}, timeout=120, stream=True) as answer:
        if answer.status_code == requests.codes.unavailable:
            time.sleep(ASK_EVERY_S)
            return False
        answer.raise_for_status()
        return sum(len(block) for block in answer.iter_content(1 << 20)) > 0


@contextmanager
def watched(port: int, rows: dict[str, list[float]], what: str) -> Iterator[None]:
    """Ask for the status again and again beside a block."""
    client = Client(port, "watcher", b"")
    with repeated(lambda: client.get("status", "/firstpick/status"), STATUS_EVERY_S):
        yield
    rows[what] = client.times.seconds["status"]


@contextmanager
def asking(port: int, study_id: str) -> Iterator[None]:
    """Ask beside a block what else readers ask of MONAI Label's own routes."""
    client = Client(port, "another reader", b"")

    def ask() -> None:
        client.get("info", "/info/")
        client.image_info(study_id)
        if sample := client.next_sample():
            client.decide("release", sample)

    with repeated(ask, ASK_EVERY_S):
        yield


@contextmanager
def repeated(action: Callable[[], object], every_s: float) -> Iterator[None]:
    stop, failures = threading.Event(), []

    def repeat() -> None:
        try:
            while not stop.wait(every_s):
                action()
        except requests.RequestException as error:
            failures.append(error)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failures:
        raise failures[0]


# -- tables


def percentiles(seconds: list[float]) -> str:
    """Median, 95th and 99th percentile as three cells, in ms."""
    return " | ".join(f"{np.percentile(seconds, q) * 1e3:.0f}" for q in (50, 95, 99)) if seconds else " | | "


def print_routes(ours: tuple[Times, dict[str, Cost]], bare: tuple[Times, dict[str, Cost]]) -> None:
    """One row for each route, FirstPick beside the bare app."""
    print("Milliseconds: at the client with all readers; of the server's processor for one request alone (median).\n")
    print("| route | p50 | p95 | p99 | processor | until quiet | bare: p50 | p95 | p99 | processor | until quiet |")
    print("|---|" + "---|" * 10)
    for route in ROUTES:
        cells = []
        for times, costs in (ours, bare):
            cost = costs.get(route)
            spent = f"{median(cost.answered):.1f} | {median(cost.quiet):.1f}" if cost else " | "
            cells.append(f"{percentiles(times.seconds.get(route, []))} | {spent}")
        print(f"| {route} | {' | '.join(cells)} |")
    print(flush=True)


if __name__ == "__main__":
    main()
