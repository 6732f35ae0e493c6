"""The comparison itself: choose with every arm on every split, judge every batch, once each."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from firstpick.evaluate.arms import RANDOM, Arm, choose_batches, components_of, is_told, recipe_of
from firstpick.evaluate.bench import Bench, Step
from firstpick.evaluate.classification import HALVES
from firstpick.evaluate.convergence import convergence
from firstpick.evaluate.grid import Cell, Cells, complete
from firstpick.evaluate.judges import Judge
from firstpick.evaluate.splits import Split, make_split, seeds_of
from firstpick.selection import Guards
from firstpick.studies import Sample
from firstpick.workers import Executor


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Attributes
    ----------
    arms : tuple of Arm
        ``random`` is among them. Each of them in one draw or several.
    budgets : tuple of int
        Sizes of the first batch, rising.
    n_seeds : int
        Splits into pool and test part.
    test_fraction : float
    guards : Guards
        The same for all arms, ``random`` too.
    n_components : int
        Of the scalings ``pca`` and ``whiten``.
    starts : int
        Of strategies that hang on the seed, see `firstpick.selection.select`.
    with_convergence : bool
        Whether the steps of k-means are counted.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    arms: tuple[Arm, ...]
    budgets: tuple[int, ...]
    n_seeds: int = 20
    test_fraction: float = 0.2
    guards: Guards = Guards()
    n_components: int = 32
    starts: int = 6
    with_convergence: bool = False

    def __post_init__(self) -> None:
        if not self.budgets or min(self.budgets) < 1 or list(self.budgets) != sorted(set(self.budgets)):
            msg = f"budgets must be one or more rising numbers, 1 or more; got {list(self.budgets)}."
            raise ValueError(msg)
        if self.n_seeds < 1:
            msg = f"seeds must be 1 or more; got {self.n_seeds}."
            raise ValueError(msg)
        if not 0 < self.test_fraction < 1:
            msg = f"the test fraction must lie between 0 and 1; got {self.test_fraction}."
            raise ValueError(msg)


@dataclass(frozen=True)
class Result:
    """One number: what one judge measured of one arm's batch on one split."""

    judge: str
    measure: str
    budget: int
    seed: int
    arm: Arm
    value: float


@dataclass(frozen=True)
class Outcome:
    """All that a comparison found.

    Attributes
    ----------
    results : tuple of Result
        In an order of their own content.
    test_ratio : float
        Size of the test part over that of the pool, mean over the splits.
    primary : dict
        Judge to the measure that decides.
    """

    results: tuple[Result, ...]
    test_ratio: float
    primary: dict[str, str]


@dataclass(frozen=True)
class Batch:
    """One arm's batch on one split; rows of the bench, sorted, since their order must not matter."""

    arm: Arm
    budget: int
    seed: int
    rows: NDArray[np.intp]


def compare(
    bench: Bench, judges: Sequence[Judge], plan: Plan, cells: Cells, executor: Executor, *, n_waiting: int
) -> Generator[Step, None, Outcome]:
    """Run what is missing of a comparison; yield the progress and return the outcome.

    Parameters
    ----------
    bench : Bench
    judges : sequence of Judge
        None learns from the features that chose what it judges: such pairs are passed over.
    plan : Plan
    cells : Cells
        What is finished; a cell there is never run again.
    executor : Executor
    n_waiting : int
        Cells that may wait there at a time.

    Returns
    -------
    Outcome
        The same numbers for the same bench, judges and plan, however often the run was interrupted.

    Raises
    ------
    ValueError
        If a budget is larger than a pool, or a split cannot be made.
    """
    splits = splits_of(bench, plan)
    choices = {
        (arm, seed): choice_of(bench, plan, arm, seed, split) for arm in plan.arms for seed, split in enumerate(splits)
    }
    yield from steps("Choosing", complete(choices.values(), cells, executor, n_waiting=n_waiting))
    batches = [
        Batch(arm, budget, seed, np.sort(splits[seed].pool[rows]))
        for (arm, seed), cell in choices.items()
        for budget, rows in zip(plan.budgets, cells.get(cell), strict=True)
    ]
    more = (yield from _convergence(bench, plan, splits, cells, executor)) if plan.with_convergence else []
    outcome = yield from judge_batches(bench, judges, plan, splits, batches, cells, executor, n_waiting=n_waiting)
    return replace(outcome, results=_sorted([*outcome.results, *more]))


def splits_of(bench: Bench, plan: Plan) -> list[Split]:
    """Make every split of a comparison; ValueError if a budget is larger than a pool, or a split cannot be made."""
    splits = [
        make_split(
            len(bench.studies), seed, test_fraction=plan.test_fraction, groups=bench.groups, classes=bench.classes
        )
        for seed in range(plan.n_seeds)
    ]
    smallest = min(len(split.pool) for split in splits)
    if plan.budgets[-1] >= smallest:
        msg = (
            f"a budget of {plan.budgets[-1]} takes the whole pool of {smallest} {bench.unit}; "
            f"take smaller budgets than that, or a smaller test part than {plan.test_fraction}."
        )
        raise ValueError(msg)
    return splits


def judge_batches(
    bench: Bench,
    judges: Sequence[Judge],
    plan: Plan,
    splits: Sequence[Split],
    batches: Sequence[Batch],
    cells: Cells,
    executor: Executor,
    *,
    n_waiting: int,
) -> Generator[Step, None, Outcome]:
    """Judge what is missing of all batches; yield the progress and return the outcome."""
    results = list(_class_counts(bench, batches))
    for judge in judges:
        judged = [
            (batch, _judgement(bench, plan, judge, batch, splits[batch.seed]))
            for batch in batches
            if not judge.encoder or batch.arm.encoder != judge.encoder
        ]
        judged.sort(key=lambda item: item[0].seed)  # what is made of a split's pool is made once
        found = complete((cell for _, cell in judged), cells, executor, n_waiting=n_waiting)
        yield from steps(f"Judging, {judge.name}", found)
        for batch, cell in judged:
            results += _results(judge.name, batch, cells.get(cell))
    return Outcome(
        _sorted(results),
        float(np.mean([split.test_ratio for split in splits])),
        {judge.name: judge.primary for judge in judges},
    )


def _sorted(results: Iterable[Result]) -> tuple[Result, ...]:
    return tuple(sorted(results, key=lambda r: (r.judge, r.measure, r.budget, r.arm, r.seed)))


def steps(what: str, progress: Iterator[tuple[int, int]]) -> Iterator[Step]:
    """Name the progress of one stage."""
    return (Step(what, n_done, n_total) for n_done, n_total in progress)


def _encoder_of(bench: Bench, arm: Arm) -> str:
    """Whose features an arm sees; the first encoder's for ``random``, which needs them to tell copies."""
    return arm.encoder or next(iter(bench.features))


def _split_recipe(bench: Bench, plan: Plan, seed: int) -> dict[str, object]:
    return {"data": bench.fingerprint, "test_fraction": plan.test_fraction, "seed": seed}


def choice_of(bench: Bench, plan: Plan, arm: Arm, seed: int, split: Split) -> Cell:
    """Let an arm choose a batch of each size from the pool of a split."""
    encoder = _encoder_of(bench, arm)
    return Cell(
        recipe={
            "work": "choose",
            "split": _split_recipe(bench, plan, seed),
            "features": bench.fingerprints[encoder],
            "budgets": plan.budgets,
            **recipe_of(arm, plan.guards, plan.n_components, plan.starts),
        },
        function=choose_batches,
        arguments=lambda: (
            bench.features[encoder][split.pool],
            arm,
            plan.budgets,
            tuple(bench.groups[row] for row in split.pool) if any(bench.groups) else (),
            seeds_of(seed, arm.draw)[0],
            plan.guards,
            plan.n_components,
            bench.truth.of(split.pool) if bench.truth and is_told(arm) else None,
            tuple(bench.samples[row] for row in split.pool) if bench.slices else (),
            plan.starts,
        ),
    )


def _judgement(bench: Bench, plan: Plan, judge: Judge, batch: Batch, split: Split) -> Cell:
    """Equal batches on one split are one cell, whoever chose them: the same training, the same numbers."""
    return Cell(
        recipe={
            "work": "judge",
            "split": _split_recipe(bench, plan, batch.seed),
            "batch": [_name(bench.samples[row]) for row in batch.rows],
            **judge.recipe,
        },
        function=judge.function,
        arguments=lambda: judge.arguments(batch.rows, split, seeds_of(batch.seed)[1]),
    )


def _name(sample: Sample) -> str | list[object]:
    """What a recipe calls a row: the study, or the study and which slice of it."""
    return sample.study_id if sample.at is None else [sample.study_id, sample.at.plane, sample.at.index]


def _results(judge: str, batch: Batch, measures: dict[str, float]) -> list[Result]:
    """Of single halves of the test part, only those of random batches count: they tell luck."""
    return [
        Result(judge, measure, batch.budget, batch.seed, batch.arm, value)
        for measure, value in measures.items()
        if batch.arm.strategy == RANDOM.strategy or not measure.endswith(HALVES)
    ]


def _class_counts(bench: Bench, batches: Sequence[Batch]) -> Iterator[Result]:
    """How many classes each batch holds."""
    for batch in batches:
        if bench.classes:
            n_found = len({bench.classes[row] for row in batch.rows})
            yield Result("batch", "classes", batch.budget, batch.seed, batch.arm, float(n_found))


def _convergence(
    bench: Bench, plan: Plan, splits: Sequence[Split], cells: Cells, executor: Executor
) -> Generator[Step, None, list[Result]]:
    """Count the steps of k-means for every pair of encoder and scaling, one after the other: they are timed."""
    pairs = sorted({(arm.encoder, arm.scaling) for arm in plan.arms if arm.encoder})
    wanted = [
        (Batch(Arm("kmeans", encoder, scaling), budget, seed, split.pool), encoder, scaling)
        for encoder, scaling in pairs
        for budget in plan.budgets
        for seed, split in enumerate(splits)
    ]

    def cell(batch: Batch, encoder: str, scaling: str) -> Cell:
        return Cell(
            recipe={
                "work": "converge",
                "split": _split_recipe(bench, plan, batch.seed),
                "features": bench.fingerprints[encoder],
                "at": [scaling, plan.n_components, batch.budget],
            },
            function=convergence,
            arguments=lambda: (
                bench.features[encoder][batch.rows],
                batch.budget,
                *components_of(scaling, plan.n_components),
                seeds_of(batch.seed)[0],
            ),
        )

    asked = [(batch, cell(batch, encoder, scaling)) for batch, encoder, scaling in wanted]
    yield from steps("Convergence", complete((one for _, one in asked), cells, executor, n_waiting=1))
    return [result for batch, one in asked for result in _results("k-means", batch, cells.get(one))]
