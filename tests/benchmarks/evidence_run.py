"""Run the comparison of our evidence on one pool (a part of `evidence.py`)."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass

from evidence_candidates import candidate_arms, with_candidates
from evidence_pools import prepare
from tqdm import tqdm

from firstpick.config import load_config
from firstpick.embedding.cache import Cache
from firstpick.encoders import EncoderSpec
from firstpick.evaluate.arms import RANDOM, Arm, draws_of, told_arms
from firstpick.evaluate.bench import Step, make_bench, read_examples, read_views
from firstpick.evaluate.grid import Cells
from firstpick.evaluate.judges import class_judges, mask_judges
from firstpick.evaluate.page import write_outputs
from firstpick.evaluate.patches import Patches, cached_patches
from firstpick.evaluate.run import Plan, compare
from firstpick.evaluate.splits import make_split
from firstpick.sources.folder import list_studies
from firstpick.workers import LocalPool

SELECTS = "dinov2-s"
"""Encoder of the default and of what it is compared with; no probe judges by it."""
JUDGES = ("efficientnet-lite0", "pixels")
PAPER = (Arm("kmeans", "efficientnet-lite0", "l2"), Arm("kmeans", "pixels", "l2"))
"""The baselines of Yuan & Hong; each is judged by the probes on other features than its own."""
TEST_FRACTION = 1 / 3
_CELL_LIMIT_S = 3600.0


@dataclass(frozen=True)
class Effort:
    """How much is run on each pool.

    Attributes
    ----------
    strategies : tuple of str
        On the features of `SELECTS`, with ``l2``.
    budgets : tuple of int
        Those that the smallest pool of a split has room for.
    n_splits, n_draws, n_repeats : int
        Splits, batches of random and batches of every other arm on each split.
    candidates : bool
        Whether other representations are tested too, see `evidence_candidates.py`.
    """

    strategies: tuple[str, ...]
    budgets: tuple[int, ...]
    n_splits: int
    n_draws: int
    n_repeats: int
    candidates: bool = False

    def arms(self, *, with_masks):
        """Every arm in all its draws."""
        library = (Arm(strategy, SELECTS, "l2") for strategy in self.strategies)
        return (
            *draws_of(RANDOM, self.n_draws),
            *(one for arm in (*library, *PAPER) for one in draws_of(arm, self.n_repeats)),
            *(candidate_arms(self.n_repeats) if self.candidates else ()),
            *told_arms([SELECTS], with_masks=with_masks, n_draws=self.n_draws, n_repeats=self.n_repeats),
        )


def run_pool(name, kind, effort, *, data, out, embeddings, n_workers, train=False):
    """Compare on one pool and write what came of it to ``out/NAME-KIND``; what is done is not done again.

    Embeddings lie in the folder ``embeddings``.
    """
    prepared = prepare(name, kind, data, embeddings)
    config = load_config(None, {"n_workers": n_workers, **dict(zip(*[iter(_settings(prepared))] * 2, strict=True))})
    studies, left_out = list_studies(prepared.images, config.eligible)
    state = embeddings / f"state-{name}"
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    limits = {**config.limits(state), "time_limit_s": _CELL_LIMIT_S}
    with (
        closing(Cache(state)) as cache,
        closing(Cells(out / f"{name}-{kind}")) as cells,
        LocalPool(n_workers=n_workers, **limits) as executor,
    ):
        specs = [EncoderSpec(one) for one in dict.fromkeys((SELECTS, *JUDGES))]
        labels, by = str(prepared.labels), config.groups.by
        bench = _watch(make_bench(studies, labels, specs, cache, executor, groups_by=by, left_out=left_out), name)
        bench, judges = _judges(bench, state, name, executor, n_waiting=n_workers + 1, train=train)
        if effort.candidates:
            bench = with_candidates(bench, state, executor)
        splits = [
            make_split(
                len(bench.studies), seed, test_fraction=TEST_FRACTION, groups=bench.groups, classes=bench.classes
            )
            for seed in range(effort.n_splits)
        ]
        smallest = min(len(split.pool) for split in splits)
        plan = Plan(
            arms=effort.arms(with_masks=bool(bench.masks)),
            budgets=tuple(budget for budget in effort.budgets if budget < smallest),
            n_seeds=effort.n_splits,
            test_fraction=TEST_FRACTION,
            guards=config.guards,
            with_convergence=kind == "classes",
        )
        outcome = _watch(compare(bench, judges, plan, cells, executor, n_waiting=2 * n_workers + 1), name)
    what = f"{len(set(bench.classes))} classes" if bench.classes else "masks"
    title = f"{name}: {len(bench.studies)} studies, {what}"
    return write_outputs(out / f"{name}-{kind}", outcome, title=title, notes=bench.notes, tests=True)


def _settings(prepared):
    return [word for word in prepared.options if word != "--conf"]


def _judges(bench, state, name, executor, *, n_waiting, train):
    if bench.classes:
        return bench, class_judges(bench, JUDGES, _watch(read_views(bench), name) if train else None)
    bench, examples, labels = _watch(read_examples(bench, {}), name)
    for found in cached_patches(examples, SELECTS, state, bench.fingerprint, executor, n_waiting=n_waiting):
        if isinstance(found, Patches):
            return bench, mask_judges(examples, labels, found, encoder=SELECTS, train=train)
    msg = f"{name} has no patches."
    raise ValueError(msg)


def _watch(work, name):
    """Show a bar for each stage, and return what comes of it."""
    stage, bar = "", tqdm(disable=True)
    try:
        while True:
            step: Step = next(work)
            if step.what != stage:
                bar.close()
                stage, bar = (
                    step.what,
                    tqdm(desc=f"{name}: {step.what}", total=step.n_total, file=sys.stderr, mininterval=10),
                )
            bar.update(step.n_done - bar.n)
    except StopIteration as end:
        return end.value
    finally:
        bar.close()
