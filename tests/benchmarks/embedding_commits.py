"""What ``firstpick embed`` takes from nothing, by checkouts of several commits in turn, as ratios to the first.

Run by hand: ``python tests/benchmarks/embedding_commits.py CHECKOUT CHECKOUT --studies FOLDER ...``, where a commit is
checked out by ``git worktree add FOLDER COMMIT``. The clock runs from the start of the command to its end, imports and
listing included; the processor's seconds are those of all its processes.
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HEAD = ("studies", "checkout", "s by the clock", "to the first", "s of the processor", "to the first")


def main():
    parser = argparse.ArgumentParser(description="Time embedding by several checkouts in turn.")
    parser.add_argument("checkouts", nargs="+", type=Path)
    parser.add_argument("--studies", nargs="+", type=Path, required=True, help="folders with studies")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--encoder", default="dinov2-s")
    options = parser.parse_args()
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    for studies in options.studies:
        rounds = [
            [embedded(one, studies, options.encoder) for one in options.checkouts] for _ in range(options.repeats)
        ]
        seconds = np.array(rounds)  # rounds, checkouts, (clock, processor)
        medians, ratios = np.median(seconds, axis=0), np.median(seconds / seconds[:, :1], axis=0)
        for checkout, (clock, processor), (to_clock, to_processor) in zip(
            options.checkouts, medians, ratios, strict=True
        ):
            numbers = f"{clock:.1f} | {to_clock:.2f} | {processor:.1f} | {to_processor:.2f}"
            print(f"| {studies} | {checkout.name} | {numbers} |", flush=True)


def embedded(checkout, studies, encoder):
    """Seconds by the clock and of the processor."""
    environment = os.environ | {"PYTHONPATH": str((checkout / "monailabel_app").resolve())}
    with tempfile.TemporaryDirectory() as state:
        command = [sys.executable, "-m", "firstpick.cli", "embed", "--studies", str(studies), "--state", state]
        before, start = processor_seconds(), time.perf_counter()
        subprocess.run([*command, "--encoder", encoder], env=environment, check=True, capture_output=True)
        return time.perf_counter() - start, processor_seconds() - before


def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
