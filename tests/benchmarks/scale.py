"""What each step costs with a thousand, ten thousand and a hundred thousand studies, and how that grows.

Run by hand: ``python tests/benchmarks/scale.py`` (about forty minutes on two cores; ``--steps`` and ``--sizes`` make it
shorter; ``--million`` adds a million studies for the steps that ask for no files). Studies are tiny pictures and their
embeddings are made up, 384 numbers around forty centres with 3 % outliers (`scale_archive.py`). With ``--results FILE``
each cell is kept when it is measured: a further call measures what is not there yet, ``--seconds`` says for how long,
and the table is that of all cells.

Each cell is a process of its own: seconds on the clock, seconds of the processor, and the most memory that it held, all
libraries included. The exponent is that of the processor's seconds between the two largest sizes: 1 is linear.
`propose` stands for every strategy with the configuration's defaults and a batch of 20, facts and outlook included;
``--starts 1 6`` tells `kmeans` with one start from six. Every proposal is made twice (``--once``: once), in two
processes: the script ends with 1 if the batches differ.
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scale_archive import config, fill_cache, made_pool, made_studies, make_archive, write_pictures

from firstpick.embedding.cache import Cache
from firstpick.proposal import propose, with_replacement
from firstpick.proposal.facts import with_facts
from firstpick.report import Drawing
from firstpick.selection import STRATEGIES
from firstpick.selection.geometry import principal_plane
from firstpick.server.snapshot import Snapshot
from firstpick.sources.folder import list_studies
from firstpick.studies import Pool

SPAWN = multiprocessing.get_context("spawn")
ON_FILES = ("list", "list again", "list again, 1 % new", "missing", "status")
ON_CACHE = ("load pool",)
ON_POOL = ("explain", "skip", "map", "map again")


@dataclass(frozen=True)
class Cost:
    """What one step took, and a mark of what it made."""

    seconds: float
    processor: float
    megabytes: float
    mark: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory by size, as Markdown tables.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--steps", nargs="+", default=[*ON_FILES, *ON_CACHE, *ON_POOL, "propose"], help="(default all)")
    parser.add_argument("--strategies", nargs="+", default=sorted(STRATEGIES), help="for propose (default all)")
    parser.add_argument("--starts", type=int, nargs="+", default=[6], help="of kmeans, for propose (default 6)")
    parser.add_argument("--million", action="store_true", help="a million studies too, where no files are asked for")
    parser.add_argument("--results", type=Path, help="a JSON file that keeps each cell")
    parser.add_argument("--seconds", type=float, default=math.inf, help="start no cell after so many (default all)")
    parser.add_argument("--once", action="store_true", help="make each proposal once")
    options = parser.parse_args()
    if options.million:
        options.sizes.append(1_000_000)
    cells = Cells(options.results)
    with tempfile.TemporaryDirectory() as temporary:
        measure(Path(temporary), cells, options)
    print_table(cells, options)
    if any(len({cost.mark for cost in costs}) > 1 for costs in cells.values()):
        sys.exit("A batch came out differently the second time.")


class Cells(dict[str, list[Cost]]):
    """What was measured, by step and size; kept in a file, if one is named."""

    def __init__(self, file: Path | None) -> None:
        known = json.loads(file.read_text()) if file and file.exists() else {}
        super().__init__({key: [Cost(**cost) for cost in costs] for key, costs in known.items()})
        self._file = file

    def keep(self, key: str, costs: list[Cost]) -> None:
        """Add a cell."""
        self[key] = costs
        if self._file:
            self._file.write_text(json.dumps({key: [asdict(cost) for cost in own] for key, own in self.items()}))


def measure(folder: Path, cells: Cells, options: argparse.Namespace) -> None:
    """Measure what is asked for and not there yet, as long as there is time."""
    end = time.monotonic() + options.seconds
    for name, step in steps(options):
        for size in options.sizes:
            if f"{name}, {size}" in cells or time.monotonic() > end or (size >= 10**6 and step[0] in ON_FILES):
                continue
            made = folder / str(size)
            if step[0] in ON_FILES and not (made / "studies").exists():
                in_process(make_archive, made, size)  # else its memory would be the step's
            if step[0] in ON_CACHE and not (made / "made").exists():
                in_process(make_cache, made / "made", size)
            is_twice = step[0] == "propose" and not options.once
            cells.keep(f"{name}, {size}", [apart(step, made, size) for _ in range(1 + is_twice)])


def print_table(cells: Cells, options: argparse.Namespace) -> None:
    """Print a row for each step, as far as it was measured."""
    names = " | ".join(f"{size:,}: s (processor), MB" for size in options.sizes)
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}\n\n| step | {names} | exponent |")
    print("|---|" + "---|" * (len(options.sizes) + 1))
    for name, _ in steps(options):
        found = {size: cells.get(f"{name}, {size}") for size in options.sizes}
        best = {size: min(costs, key=lambda cost: cost.processor) for size, costs in found.items() if costs}
        row = [
            f"{best[size].seconds:.2f} ({best[size].processor:.2f}), {best[size].megabytes:,.0f}"
            if size in best
            else ""
            for size in options.sizes
        ]
        print(f"| {name} | {' | '.join(row)} | {exponent([*best], [*best.values()])} |")


def steps(options: argparse.Namespace) -> list[tuple[str, tuple[Any, ...]]]:
    """Return the rows of the table, and what a process is to do for each."""
    rows: list[tuple[str, tuple[Any, ...]]] = [(step, (step,)) for step in options.steps if step != "propose"]
    for strategy in options.strategies if "propose" in options.steps else ():
        for starts in options.starts if strategy == "kmeans" else options.starts[:1]:
            name = f"propose `{strategy}`" + (f", starts: {starts}" if strategy == "kmeans" else "")
            rows.append((name, ("propose", strategy, starts)))
    return rows


def exponent(sizes: list[int], costs: list[Cost]) -> str:
    if len(sizes) < 2:
        return ""
    (few, many), (less, more) = sizes[-2:], (max(cost.processor, 1e-3) for cost in costs[-2:])
    return f"{math.log(more / less) / math.log(many / few):.2f}"


def apart(step: tuple[Any, ...], folder: Path, size: int) -> Cost:
    """Do a step in a process of its own."""
    results = SPAWN.SimpleQueue()
    in_process(run, step, folder, size, results)
    cost: Cost = results.get()
    return cost


def in_process(act: Callable[..., object], *arguments: Any) -> None:
    """Call a function in a process of its own; end with it where it fails."""
    process = SPAWN.Process(target=act, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{act.__name__} failed with {arguments}.")


def run(step: tuple[Any, ...], folder: Path, size: int, results: Any) -> None:
    """In a process of its own: make ready, then the clock."""
    warnings.simplefilter("ignore")
    act = prepared(step, folder, size)
    start, processor = time.perf_counter(), time.process_time()
    made = act()
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    mark = hashlib.sha256(json.dumps(made).encode()).hexdigest() if step[0] == "propose" else ""
    results.put(Cost(seconds, processor, megabytes, mark))


# -- the steps


def prepared(step: tuple[Any, ...], folder: Path, size: int) -> Callable[[], Any]:
    """Return what the clock is to run."""
    if step[0] == "propose":
        return proposing(made_pool(size), *step[1:])
    if step[0] in ON_CACHE:
        studies, cache = made_studies(size), Cache(folder / "made")
        return lambda: cache.pool(config().encoder_spec.fingerprint(), studies)
    return on_pool(step[0], made_pool(size)) if step[0] in ON_POOL else on_files(step[0], folder, size)


def proposing(pool: Pool, strategy: str, starts: int) -> Callable[[], list[str]]:
    """Choose as a server does; the one start or six also of strategies that make one batch anyway."""
    choice = {**config().choice(strategy), "starts": starts}
    return lambda: [pick.study_id for pick in propose(pool, batch_size=20, **choice).picks]


def make_cache(state: Path, size: int) -> None:
    """Fill the cache of studies of which there are no files."""
    fill_cache(state, made_studies(size))


def on_files(step: str, folder: Path, size: int) -> Callable[[], Any]:
    """Return a step that reads the archive or its cache."""
    studies, known = folder / "studies", {}
    if step == "list":
        return lambda: list_studies(studies, known=known)[0]
    listed = list_studies(studies, known=known)[0]
    if step == "list again":
        return lambda: list_studies(studies, known=known)[0]
    if step == "list again, 1 % new":
        copied = shutil.copytree(studies, folder / "copied")
        list_studies(copied, known=(own := {}))
        write_pictures(copied, max(1, size // 100), first=size)
        return lambda: list_studies(copied, known=own)[0]
    settings, cache = config(), Cache(folder / "state")
    if step == "missing":
        return lambda: cache.missing(settings.encoder_spec.fingerprint(), listed)
    now = Snapshot(settings, cache)
    now.take_listing(listed, [])
    now.take_pool()
    return lambda: now.report(is_first_made=True)


def on_pool(step: str, pool: Pool) -> Callable[[], Any]:
    """Return a step that asks a pool about a standing batch."""
    batch = propose(pool, strategy="random", batch_size=20)
    if step == "explain":
        pool = Pool(pool.samples, pool.vectors)  # in which nothing was measured
        return lambda: with_facts(batch, pool, labelled=(), excluded=())
    if step == "skip":
        gone = batch.picks[3].study_id
        return lambda: with_replacement(batch, pool, gone, labelled=(), excluded={gone})
    places = principal_plane(pool.vectors).round(5).tolist()
    drawing = Drawing(
        pool, {i: (x, y) for i, (x, y) in zip(pool.study_ids, places, strict=True)}, groups_are_patients=True
    )
    if step == "map again":
        drawing.json(batch.picks, {})
    return lambda: drawing.json(batch.picks, {})


if __name__ == "__main__":
    with closing(sys.stdout):
        main()
