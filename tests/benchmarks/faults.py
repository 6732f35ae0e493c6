"""Are decisions and labels safe while the server is killed, and while its disk fills?

Run by hand: ``python tests/benchmarks/faults.py`` (about 20 minutes on two cores). Readers decide and upload labels
over HTTP, good ones and bad ones, and note every answer:

1. SIGKILL to the server and all its workers at random moments, some of them while it starts. After each start
   `/firstpick/status`, `/firstpick/map`, `firstpick export --decisions`, the facts of labels and their files are held
   against what was acknowledged before.
2. The same on a small disk (a tmpfs, which needs the right to mount one) that fills, has room again, and fills.

What got no answer may have taken effect or not; what got one must have. Ends with 1 if anything was lost.
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import requests
from faults_disk import DiskError, small_disk
from faults_judge import Judge
from faults_ledger import Ledger
from faults_readers import Labels, Reader, crowd
from server_process import Server, wait_for, write_studies

SIDE = 48  # voxels
IN_A_START = 0.2  # how often a kill is followed by one while the server starts
MOST_ANSWERS = 200  # between a start and a kill
WORK_AT_MOST_S = 30.0
BYTES_LEFT = (0, 4096, 300_000, 65_536, 1_000_000)
N_SHOWN = 5


@dataclass(frozen=True)
class Report:
    """What was done, and what came of it.

    Attributes
    ----------
    counts : dict of str to int
    losses : dict of str to list of str
    complaints : list of str
        Answers that should not have been.
    """

    counts: dict[str, int]
    losses: dict[str, list[str]]
    complaints: list[str]

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost and every answer was as it must be."""
        return not self.complaints and not any(self.losses.values())

    def table(self, title: str) -> str:
        """Everything counted, and the first few of each kind of loss."""
        found = {**self.losses, "answers that should not have been": self.complaints}
        rows = [f"| {what} | {n} |" for what, n in sorted(self.counts.items())]
        rows += [f"| **{what}** | {len(texts)} |" for what, texts in found.items()]
        most = {what: Counter(texts).most_common(N_SHOWN) for what, texts in found.items()}
        examples = [f"- {n} x {what}: {text}" for what, texts in most.items() for text, n in texts]
        return "\n".join([f"| {title} | number |\n|---|---|", *rows, "", *examples])


class Room:
    """Studies, their readers and the judge of what a server did to them."""

    def __init__(self, folder: Path, *, n_readers: int, n_studies: int, seed: int) -> None:
        self._studies, self.state = write_studies(folder / "studies", n_studies, SIDE), folder / "state"
        self.rng, self.ledger = random.Random(seed), Ledger()
        self._ids = sorted(path.name for path in self._studies.iterdir())
        self._judge = Judge(self.ledger, self._ids)
        self._names = [f"reader {number:02d}" for number in range(n_readers)]
        self.readers: list[Reader] = []

    @contextlib.contextmanager
    def server(self) -> Iterator[Server]:
        """Start a server, and end all of it whatever happens."""
        server = Server(self._studies, self.state, "batch_size", str(len(self._ids) // 2), "duplicates", "0")
        try:
            yield server
        finally:
            kill(server)

    def check(self, server: Server) -> None:
        """Wait for a server that has just started, and hold what it says against what was acknowledged."""
        server.wait_until_ready()
        if not self.readers:
            labels = Labels(server.opened(self._ids[0]))
            seeds = [self.rng.getrandbits(32) for _ in self._names]
            self.readers = [
                Reader(name, self.ledger, self._ids, labels, seed)
                for name, seed in zip(self._names, seeds, strict=True)
            ]
        self._judge.look(server)

    def work(self, server: Server, n_answers: int, *, end: bool) -> None:
        """Let the readers work until they have so many answers; then the server is killed, or they stop."""
        self.ledger.silences.clear()
        enough = self.ledger.n_answers + n_answers
        threads, stop = crowd(self.readers, server.port)
        until = time.monotonic() + WORK_AT_MOST_S
        while self.ledger.n_answers < enough and time.monotonic() < until:
            time.sleep(0.01)
        if end:
            time.sleep(self.rng.uniform(0, 0.3))
            kill(server)
        stop.set()
        for thread in threads:
            thread.join()
        for why in self.ledger.silences:
            self.ledger.count("unanswered")
            if not end:
                self.ledger.complain(f"no answer, though nobody killed the server: {why}")

    def report(self) -> Report:
        """Say what was found so far."""
        return Report(dict(self.ledger.counts), self._judge.losses, self.ledger.complaints)


def kill(server: Server) -> None:
    """Send SIGKILL to a server and its workers: none has time for anything."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait(timeout=10)


def run_kills(folder: Path, *, n_kills: int, n_readers: int = 20, n_studies: int = 120, seed: int = 0) -> Report:
    """Kill a server again and again while readers work."""
    room = Room(folder, n_readers=n_readers, n_studies=n_studies, seed=seed)
    for _ in range(n_kills):
        if room.rng.random() < IN_A_START:
            with room.server():
                time.sleep(room.rng.uniform(0, 8))
            room.ledger.count("kills while it started")
        with room.server() as server:
            room.check(server)
            room.work(server, room.rng.randint(0, MOST_ANSWERS), end=True)
            room.ledger.count("kills while readers worked")
            show(room)
    with room.server() as server:
        room.check(server)
    return room.report()


def run_full_disk(
    folder: Path, *, n_rounds: int, n_readers: int = 8, n_studies: int = 24, seed: int = 0, size_mb: int = 128
) -> Report:
    """Fill the disk of a server while readers work, with and without a kill; then there is room again."""
    room = Room(folder, n_readers=n_readers, n_studies=n_studies, seed=seed)
    with small_disk(room.state, size_mb=size_mb) as disk:
        for number in range(n_rounds):
            with room.server() as server:
                room.check(server)
                room.work(server, 40, end=False)
                disk.fill(BYTES_LEFT[number % len(BYTES_LEFT)])
                room.work(server, 80, end=False)
                read_while_full(server, room.ledger)
                if number % 2:
                    room.work(server, room.rng.randint(0, 40), end=True)
                    disk.clear()
                    continue
                disk.clear()
                go_on(server, room)
            show(room)
        with room.server() as server:
            room.check(server)
    return room.report()


def read_while_full(server: Server, ledger: Ledger) -> None:
    """Reading needs no room."""
    for path in ("/firstpick/status", "/firstpick/map", "/firstpick/proposal", "/info/"):
        answer = requests.get(f"http://127.0.0.1:{server.port}{path}", timeout=30)
        if answer.status_code != requests.codes.ok:
            ledger.complain(f"GET {path} on a full disk: {answer.status_code} {answer.text[:120]}")


def go_on(server: Server, room: Room) -> None:
    """With room again the server takes decisions and labels, without a start, and has all from before."""

    def decides() -> bool:
        before = room.ledger.counts["no room"]
        room.work(server, 10, end=False)
        return room.ledger.counts["no room"] == before

    wait_for(decides, 20, "a server that goes on when there is room")
    labels = room.ledger.counts["labels acknowledged"]
    room.work(server, 80, end=False)
    if room.ledger.counts["labels acknowledged"] == labels:
        room.ledger.complain("no label was taken though there was room again")
    room.check(server)


def show(room: Room) -> None:
    """Tell how it goes, on stderr."""
    counts, report = room.ledger.counts, room.report()
    n_lost = {what: len(texts) for what, texts in report.losses.items() if texts}
    print(dict(counts), n_lost, f"{len(report.complaints)} complaints", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="What a killed server and a full disk lose, as tables.")
    parser.add_argument("--kills", type=int, default=50, help="(default 50; 0 for none)")
    parser.add_argument("--readers", type=int, default=20, help="clients at once (default 20)")
    parser.add_argument("--rounds", type=int, default=10, help="how often the disk fills (default 10; 0 for never)")
    parser.add_argument("--seed", type=int, default=0, help="(default 0)")
    options = parser.parse_args()
    is_good = True
    with tempfile.TemporaryDirectory() as temporary:
        if options.kills:
            folder = Path(temporary, "kills")
            report = run_kills(folder, n_kills=options.kills, n_readers=options.readers, seed=options.seed)
            print(report.table("killed"), "\n")
            is_good = report.is_good
        if options.rounds:
            try:
                report = run_full_disk(Path(temporary, "disk"), n_rounds=options.rounds, seed=options.seed)
            except DiskError as error:
                print(f"The full disk was not tried: {error}.")
            else:
                print(report.table("full disk"))
                is_good = is_good and report.is_good
    sys.exit(not is_good)


if __name__ == "__main__":
    main()
