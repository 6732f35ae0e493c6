"""``firstpick compare``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator
from dataclasses import fields, replace
from pathlib import Path

from tqdm import tqdm

from firstpick.cli.session import add_configuration, session
from firstpick.config import Config
from firstpick.encoders import ENCODERS, EncoderSpec
from firstpick.evaluate.bench import Step
from firstpick.evaluate.command import PRESETS, Request, n_workers_for, run_comparison
from firstpick.evaluate.rounds_run import ARMS
from firstpick.workers import LocalPool

_N_DRAWS_TRAINED, _N_REPEATS_TRAINED = 3, 1  # of random and of the others, with real training
_PICTURE = 2  # axes of what most encoders see
_CELL_LIMIT_S = 6 * 3600.0  # one training, however slow the machine


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command; those of a `Request` go by the names of its fields."""

    def names(text: str) -> tuple[str, ...]:
        return tuple(name for name in text.split(",") if name)

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(number) for number in text.split(","))

    add_configuration(command, with_keys=False)
    add = command.add_argument
    add("studies", metavar="DIR", help="folder with the studies")
    add("--labels", required=True, metavar="CSV|DIR", help="FILE[#COLUMN] of classes, or masks")
    add("--out", required=True, type=Path, metavar="DIR", help="results; what is there is not run again")
    for name, text in (
        ("encoders", "what embeds"),
        ("strategies", "what chooses, besides random; with --rounds, from the second round on"),
        ("scalings", "how features are scaled"),
        ("judges", "encoders on whose features probes judge (default: pixels and two others)"),
    ):
        default = None if name == "strategies" else getattr(Request, name)
        add(f"--{name}", type=names, default=default, metavar="A,B,...", help=text)
    add("--budgets", type=numbers, default=Request.budgets, metavar="N,M,...", help="sizes of a batch")
    text = "labels after each round: play rounds, the first with the configured encoder, scaling and strategy"
    add("--rounds", type=numbers, default=(), metavar="N,M,...", help=text)
    add("--seeds", dest="n_seeds", type=int, default=Request.n_seeds, metavar="N", help="splits (default 20)")
    text = "batches of random on each split (default 10; 3 with --train)"
    add("--random-draws", dest="n_draws", type=int, metavar="N", help=text)
    text = "batches of every other arm on each split, with other seeds (default 5; 1 with --train)"
    add("--repeats", dest="n_repeats", type=int, metavar="N", help=text)
    add("--test-fraction", type=float, default=Request.test_fraction, metavar="X", help="default 0.2")
    add("--preset", default="", choices=PRESETS, help="the arms of a paper, and k-means' steps")
    how = command.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="linear probes on fixed features only (the default)")
    how.add_argument("--train", action="store_true", help="train networks from scratch too")
    text = "neither intervals of differences nor p-values"
    add("--no-tests", dest="tests", action="store_false", help=text)


def run(options: argparse.Namespace) -> None:
    """Compare on labelled data, with a bar for each stage."""
    if options.n_draws is None:
        options.n_draws = _N_DRAWS_TRAINED if options.train else Request.n_draws
    if options.n_repeats is None:
        options.n_repeats = _N_REPEATS_TRAINED if options.train else Request.n_repeats
    if options.strategies is None:
        options.strategies = ARMS if options.rounds else Request.strategies
    options.cold_start = Request.cold_start
    request = Request(**{field.name: getattr(options, field.name) for field in fields(Request)})
    with session(options) as opened:
        config, spec = opened.config, opened.config.encoder_spec
        if request.rounds:
            request = replace(
                request, cold_start=config.strategy, encoders=(config.encoder,), scalings=(config.scaling,)
            )
        n_workers = n_workers_for(config.n_workers)
        possible = (name for name, row in ENCODERS.items() if config.unit == "volume" or row.ndim == _PICTURE)
        with LocalPool(
            n_workers=n_workers, **{**config.limits(opened.cache.path.parent), "time_limit_s": _CELL_LIMIT_S}
        ) as executor:
            work = run_comparison(
                opened.studies,
                request,
                opened.cache,
                executor,
                specs={
                    name: spec
                    if name == config.encoder
                    else EncoderSpec(name, views=replace(spec.views, size=0), unit=config.unit)
                    for name in {*possible, *request.encoders, *request.judges}
                },
                guards=config.guards,
                n_components=config.n_components,
                starts=config.starts,
                n_workers=n_workers,
                groups_by=config.groups.by,
                series_pool=config.series.pool,
                label_names={} if config.labels == Config().labels else {la.value: la.name for la in config.labels},
                left_out=opened.left_out,
            )
            for path in _watch(work):
                print(path)


def _watch(work: Generator[Step, None, list[Path]]) -> list[Path]:
    """Show a bar with the time left for each stage, and return what comes of it."""
    stage, bar = "", tqdm(disable=True)
    try:
        while True:
            step = next(work)
            if step.what != stage:
                bar.close()
                stage, bar = step.what, tqdm(desc=step.what, total=step.n_total, initial=step.n_done, file=sys.stderr)
            bar.update(step.n_done - bar.n)
    except StopIteration as end:
        return list(end.value)
    finally:
        bar.close()
