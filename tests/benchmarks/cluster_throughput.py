"""How much faster two workers of a Dask cluster embed than one, and than processes of this machine.

Run by hand: ``python tests/benchmarks/cluster_throughput.py --studies DIR --repeats 3``. Each worker has one core, as a
small machine would; the scheduler and the caller have what is left. By turns a run on one worker, one on two, and one
of a `LocalPool` of two processes; all have their encoders built, and write into a fresh cache.
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dask_cluster import DaskCluster

from firstpick.cluster import Cluster
from firstpick.embedding.cache import Cache
from firstpick.embedding.dask import DaskWorkers
from firstpick.embedding.run import embed
from firstpick.encoders import EncoderSpec
from firstpick.sources.folder import list_studies
from firstpick.workers import LocalPool

STUDIES = Path(__file__).resolve().parents[3] / "shared" / "data" / "hippocampus" / "images"
CORES = sorted(os.sched_getaffinity(0))
N_WARM = 16
"""Studies that are embedded before, so that every worker has built its encoder."""


def main():
    parser = argparse.ArgumentParser(description="One worker of a cluster against two.")
    parser.add_argument("--studies", type=Path, default=STUDIES, help="folder with the studies")
    parser.add_argument("--limit", type=int, default=60, help="only the first so many studies (default 60)")
    parser.add_argument("--encoder", default="dinov2-s", help="default dinov2-s")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind (default 3)")
    options = parser.parse_args()
    studies, spec = list_studies(options.studies)[0][: options.limit], EncoderSpec(options.encoder)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        executors = {
            "1 worker": cluster(stack, Path(folder, "one"), 1),
            "2 workers": cluster(stack, Path(folder, "two"), 2),
            "2 processes, no cluster": stack.enter_context(LocalPool(n_workers=2)),
        }
        for executor in executors.values():
            seconds_of(studies[:N_WARM], spec, executor)
        rates = {name: [] for name in executors}
        for repeat, (name, executor) in itertools.product(range(options.repeats), executors.items()):
            rates[name].append(len(studies) / seconds_of(studies, spec, executor))
            print(f"{repeat + 1}: {name}: {rates[name][-1]:.2f} studies a second", file=sys.stderr)
    print(f"{len(studies)} studies, {spec.name}, {len(CORES)} cores, median of {options.repeats}\n")
    print("| | studies a second | to one worker (median of the pairs) |\n|---|---|---|")
    for name, own in rates.items():
        ratio = statistics.median(a / b for a, b in zip(own, rates["1 worker"], strict=True))
        print(f"| {name} | {statistics.median(own):.2f} | {ratio:.2f} |")


def cluster(stack, folder, n_workers):
    """Start a cluster with so many workers, and connect to it."""
    dask = stack.enter_context(DaskCluster(folder))
    for number in range(n_workers):
        dask.add_worker(core=CORES[number % len(CORES)])
    executor = stack.enter_context(DaskWorkers(Cluster(dask.address), {}))
    while executor.n_workers < n_workers:
        time.sleep(0.2)
    return executor


def seconds_of(studies, spec, executor):
    """Seconds of a run into a fresh cache."""
    with tempfile.TemporaryDirectory() as state, closing(Cache(Path(state))) as cache:
        start = time.perf_counter()
        *_, last = embed(studies, spec, cache, executor=executor)
        if last.n_done != len(studies):
            sys.exit(f"{last.n_failed} studies could not be embedded.")
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
