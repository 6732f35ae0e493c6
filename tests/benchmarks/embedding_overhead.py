"""What the whole embedding run costs over the bare encoder; the bound is 1.15.

Run by hand: ``python tests/benchmarks/embedding_overhead.py --studies DIR --repeats 3``. Three timings alternate:

- *whole*: `firstpick.embedding.run.embed` into a fresh cache, from before the first worker starts to its last progress
- *started*: the same with workers that are up and have built their encoder
- *bare*: as many processes with as many threads; each has its share of the views in memory and a warm encoder, and
  only `encode` is timed, over the share in one call; the slowest process counts

``--against N`` times *started* with N processes in turn with ``--workers`` instead, and prints the ratio; ``--busy M``
keeps M cores busy meanwhile. ``--peak FILE ...`` prints instead what one worker needs at most to embed each file.
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from firstpick.embedding.cache import Cache
from firstpick.embedding.chunk import STAGES, _warm, embed_chunk
from firstpick.embedding.run import embed
from firstpick.encoders import EncoderSpec, build_encoder
from firstpick.sources.folder import list_studies
from firstpick.studies import Study
from firstpick.voxels.volumes import read_volume
from firstpick.workers import LocalPool, prepare_process

STUDIES = Path(__file__).resolve().parents[3] / "shared" / "data" / "hippocampus" / "images"
BOUND = 1.15
N_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
SPAWN = multiprocessing.get_context("spawn")


def main():
    parser = argparse.ArgumentParser(description="The whole embedding run against the bare encoder.")
    parser.add_argument("--studies", type=Path, default=STUDIES, help="folder with the studies")
    parser.add_argument("--limit", type=int, help="only the first so many studies")
    parser.add_argument("--encoder", default="dinov2-s", help="default dinov2-s")
    parser.add_argument("--repeats", type=int, default=3, help="timings of each kind (default 3)")
    parser.add_argument("--workers", type=int, default=N_CORES, help="processes (default one a core)")
    parser.add_argument("--peak", nargs="+", type=Path, metavar="FILE", help="peak memory of a worker, file by file")
    parser.add_argument("--against", type=int, metavar="N", help="time N processes against --workers")
    parser.add_argument("--busy", type=int, default=0, metavar="M", help="processes that do nothing, at full speed")
    options = parser.parse_args()
    spec = EncoderSpec(options.encoder)
    if options.peak:
        print_peaks(options.peak, spec)
        return
    studies = list_studies(options.studies)[0][: options.limit]
    spinners = [SPAWN.Process(target=spin, daemon=True) for _ in range(options.busy)]
    for spinner in spinners:
        spinner.start()
    if options.against:
        print_against(studies, spec, options.against, options.workers, options.repeats)
    else:
        print_ratio(studies, spec, options.workers, options.repeats)
    for spinner in spinners:
        spinner.kill()


def spin():
    while True:
        pass


# -- time


def print_ratio(studies, spec, n_workers, n_repeats):
    whole, started, bare, stages = [], [], [], []
    for repeat in range(n_repeats):
        whole.append(whole_seconds(studies, spec, n_workers, is_started=False)[0])
        seconds, of_stages = whole_seconds(studies, spec, n_workers, is_started=True)
        started.append(seconds)
        stages.append(of_stages)
        bare.append(bare_seconds(studies, spec, n_workers))
        print(
            f"{repeat + 1}: whole {whole[-1]:.2f} s, started {started[-1]:.2f} s, bare {bare[-1]:.2f} s",
            file=sys.stderr,
        )
    print(f"{len(studies)} studies, {spec.name}, {n_workers} processes, {N_CORES} cores, median of {n_repeats}\n")
    print("| | seconds | ratio to bare (median of the pairs) | bound |\n|---|---|---|---|")
    for name, seconds in (("whole", whole), ("whole, workers already started", started)):
        ratio = statistics.median(a / b for a, b in zip(seconds, bare, strict=True))
        print(f"| {name} | {statistics.median(seconds):.2f} | {ratio:.3f} | {BOUND} |")
    print(f"| bare encoder | {statistics.median(bare):.2f} | 1 | |\n")
    print("| stage (summed over the workers, workers already started) | seconds |\n|---|---|")
    for stage in STAGES:
        print(f"| {stage} | {statistics.median(some[stage] for some in stages):.2f} |")


def print_against(studies, spec, few, many, n_repeats):
    ratios = []
    for repeat in range(n_repeats):
        seconds = [whole_seconds(studies, spec, n, is_started=True)[0] for n in (few, many)]
        ratios.append(seconds[0] / seconds[1])
        print(f"{repeat + 1}: {few}: {seconds[0]:.2f} s, {many}: {seconds[1]:.2f} s, {ratios[-1]:.2f}", file=sys.stderr)
    print(f"{len(studies)} studies, {spec.name}, {N_CORES} cores: {few} against {many} processes ", end="")
    print(f"{statistics.median(ratios):.2f} (median of {n_repeats})")


def whole_seconds(studies, spec, n_workers, *, is_started):
    """Seconds of a run into a fresh cache, and of its stages."""
    with tempfile.TemporaryDirectory() as state:
        cache = Cache(Path(state))
        start = time.perf_counter()
        with LocalPool(n_workers=n_workers) as workers:
            if is_started:
                start_all(workers, spec, n_workers)
                start = time.perf_counter()
            *_, last = embed(studies, spec, cache, executor=workers)
            seconds = time.perf_counter() - start
        cache.close()
    if last.n_done != len(studies):
        sys.exit(f"{last.n_failed} studies could not be embedded.")
    return seconds, last.stages


def start_all(workers, spec, n_workers):
    """Wait until every worker has built its encoder; none can take two of the tasks, as each waits for the others."""
    with tempfile.TemporaryDirectory() as folder:
        for task in [workers.submit(meet, folder, spec, n_workers) for _ in range(n_workers)]:
            task.result()


def meet(folder, spec, n_workers):
    _warm(spec)
    Path(folder, str(os.getpid())).touch()
    while len(os.listdir(folder)) < n_workers:  # noqa: PTH208 - a str crosses processes
        time.sleep(0.01)


def bare_seconds(studies, spec, n_workers):
    """Seconds of the encoder alone, of the slowest process."""
    start_line, results = SPAWN.Barrier(n_workers), SPAWN.SimpleQueue()
    shares = [studies[i::n_workers] for i in range(n_workers)]
    n_threads = max(1, N_CORES // n_workers)
    processes = [
        SPAWN.Process(target=encode_share, args=(share, spec, n_threads, start_line, results)) for share in shares
    ]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join()
            if process.exitcode:
                sys.exit("A process of the bare encoder failed.")
    finally:
        for process in processes:
            process.kill()
    return max(results.get() for _ in processes)


def encode_share(studies, spec, n_threads, start_line, results):
    """In a process of its own: views into memory, encoder warm, then the clock."""
    prepare_process(n_threads, background=False)
    encoder = build_encoder(spec)
    views = np.concatenate([encoder.parts(read_volume(s)) for s in studies])
    encoder.encode(views[:32])
    start_line.wait(timeout=600)
    start = time.perf_counter()
    encoder.encode(views)
    results.put(time.perf_counter() - start)


# -- memory


def print_peaks(files, spec):
    print("| file | file, MB | worker with its encoder, MB | at most, MB |\n|---|---|---|---|")
    for path in files:
        results = SPAWN.SimpleQueue()
        process = SPAWN.Process(target=measure_peak, args=(str(path.resolve()), spec, results))
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(f"{path.name}: the worker failed (exit code {process.exitcode}).")
        before, peak, failure = results.get()
        size = sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path])) / 2**20
        print(f"| {path.name} | {size:.1f} | {before:.0f} | {failure or f'{peak:.0f}'} |")


def measure_peak(path, spec, results):
    """In a process of its own, as a worker: the most memory before and after one study."""
    prepare_process(1, background=False)
    _warm(spec)
    before = peak_mb()
    result = embed_chunk([Study("study", "", path)], spec)
    results.put((before, peak_mb(), result.failed[0][1] if result.failed else ""))


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
