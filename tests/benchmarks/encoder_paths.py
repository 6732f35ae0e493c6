"""How an encoder runs fastest on this processor, and what that changes, as one table.

Run by hand: ``python tests/benchmarks/encoder_paths.py``. Each way has a process of its own (`encoder_ways.py`), which
encodes 24 pictures of MedNIST, all six classes; the ways take turns, so that a busy machine slows all of them alike.

- *start*: seconds of the processor from a new process to its first batch; ways of a graph find it made
- *memory*: the most that the process held until then, on one thread
- *ms a view*: of the processor, on one and on two threads; *clock*: by the clock, on two
- *to the first*: median over rounds of the seconds on one thread, to those of torch in float32
- *cosine*: the least of any view's row to that of torch in float32
- *batches*: how many of 15 are the same as by those: five strategies, eight picks, three sets of data

OpenVINO is measured where it is installed. ``--encoders`` and ``--ways`` name fewer.
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from encoder_ways import SETS, WAYS

from firstpick.selection import select

ENCODERS = ("dinov2-s", "efficientnet-lite0")
STRATEGIES = ("kmeans", "typiclust", "ward", "facility_location", "kcenter")
N_PICKS = 8
FIRST, *_ = WAYS
INT8 = "ONNX Runtime, int8"
HEAD = (
    "encoder", "way", "start, s", "memory, MB", "ms a view, one thread", "two threads (clock)",
    "to the first", "least cosine", "same batches of 15",
)  # fmt: skip


class Way:
    """A process that runs the network in one way."""

    def __init__(self, way, name, folder):
        self.process = run_ways(way, name, folder)
        self.ready = json.loads(self.process.stdout.readline())

    def ask(self, order, argument):
        print(order, argument, file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


def run_ways(*arguments):
    script = Path(__file__).with_name("encoder_ways.py")
    command = [sys.executable, script, *map(str, arguments)]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}  # as in FirstPick's workers: a thread that waits sleeps
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


def measure(name, wanted, n_rounds):
    """Print a line for each way; return the seconds that the graphs took."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for what in ("prepare", "narrow") if INT8 in wanted else ("prepare",):
            if run_ways(what, name, folder).wait():
                sys.exit(f"encoder_ways.py {what} {name} failed.")
        facts = json.loads((folder / "facts.json").read_text())
        ways = {way: Way(way, name, folder) for way in wanted}
        rounds = [{(way, n): one.ask("time", n) for way, one in ways.items() for n in (1, 2)} for _ in range(n_rounds)]
        for place_of_way, one in enumerate(ways.values()):
            one.ask("rows", f"{place_of_way}.npy")
            one.process.stdin.close()
            one.process.wait()
        rows = {way: np.load(folder / f"{place_of_way}.npy") for place_of_way, way in enumerate(ways)}
        owners = np.load(folder / "sets_counts.npy")
    expected = batches(rows[FIRST], owners)
    for way, one in ways.items():
        milliseconds = np.array([[some[way, 1][0], *some[way, 2]] for some in rounds])
        ratio = np.median([some[way, 1][0] / some[FIRST, 1][0] for some in rounds])
        one_thread, two, clock = np.median(milliseconds, axis=0)
        same = sum(map(np.array_equal, batches(rows[way], owners), expected))
        print(
            f"| {name} | {way} | {one.ready['ready_s']:.1f} | {one.ready['peak_mb']:.0f} | {one_thread:.1f} "
            f"| {two:.1f} ({clock:.1f}) | {ratio:.2f} | {least_cosine(rows[way], rows[FIRST]):.5f} | {same} |",
            flush=True,
        )
    return facts


def least_cosine(some, others):
    lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
    return ((some * others).sum(axis=1) / lengths).min()


def batches(rows, owners):
    """What each strategy picks of each set, sorted; the rows are of views, set by set, study by study."""
    studies = np.stack([own.mean(axis=0) for own in np.split(rows, np.cumsum(owners)[:-1])])
    sets = np.split(studies, np.cumsum(list(SETS.values()))[:-1])
    return [np.sort(select(strategy, X, N_PICKS, seed=0).indices) for X in sets for strategy in STRATEGIES]


def main():
    parser = argparse.ArgumentParser(description="Compare ways to run the encoders on this processor.")
    parser.add_argument("--encoders", nargs="+", default=ENCODERS, choices=ENCODERS)
    parser.add_argument("--rounds", type=int, default=3)
    here = [way for way in WAYS if "OpenVINO" not in way or importlib.util.find_spec("openvino")]
    parser.add_argument("--ways", nargs="+", default=here, choices=here, help="fewer; the first is always there")
    options = parser.parse_args()
    ways = [way for way in here if way in {FIRST, *options.ways}]
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    facts = {name: measure(name, ways, options.rounds) for name in options.encoders}
    for name, some in facts.items():
        print(f"{name}: {some['graph_s']:.1f} s to make the graph")


if __name__ == "__main__":
    main()
