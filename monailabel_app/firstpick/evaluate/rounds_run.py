"""Play rounds with every arm on every split, and judge what is labelled after each."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from firstpick import selection
from firstpick.evaluate.arms import RANDOM, Arm, components_of, draws_of, recipe_of
from firstpick.evaluate.bench import Bench, Step
from firstpick.evaluate.grid import Cell, Cells, complete
from firstpick.evaluate.judges import Judge, for_each_split
from firstpick.evaluate.patches import ENCODER, N_KEPT, N_SLICES, SIZE, Patches
from firstpick.evaluate.rounds import N_OF_SLICE, N_OF_STUDY, Seen, draw_patches, owner_of, play
from firstpick.evaluate.run import Batch, Outcome, Plan, choice_of, judge_batches, splits_of, steps
from firstpick.evaluate.splits import Split, seeds_of
from firstpick.selection import LATER, check_strategy
from firstpick.workers import Executor

RECIPE = 1
"""Raised by hand whenever rounds are played in another way."""
SAME = Arm("same")
"""Goes on with what chose the first batch."""
ARMS = (SAME.strategy, "entropy_coverage", "facility_location")


@dataclass(frozen=True)
class Start:
    """How every arm begins.

    Attributes
    ----------
    cold : Arm
        What chooses the first batch, and the features of all that choose later.
    n_firsts : int
        First batches on each split, with other seeds; draw ``i`` of an arm goes on from number ``i`` modulo this.
    """

    cold: Arm
    n_firsts: int


def arms_of_rounds(strategies: Iterable[str], *, n_draws: int, n_repeats: int) -> tuple[Arm, ...]:
    """List what chooses from the second round on: ``random`` always, and each of some strategies, or ``same``.

    Raises
    ------
    ValueError
        If a strategy is not known.

    Examples
    --------
    >>> [arm.name for arm in arms_of_rounds(["same", "entropy_coverage"], n_draws=1, n_repeats=1)]
    ['random', 'same', 'entropy_coverage']
    """
    strategies = list(strategies)
    for strategy in strategies:
        if strategy != SAME.strategy:
            check_strategy(strategy)
    arms = (arm for strategy in strategies for arm in draws_of(Arm(strategy), n_repeats) if strategy != RANDOM.strategy)
    return tuple(dict.fromkeys((*draws_of(RANDOM, n_draws), *arms)))


def play_rounds(
    bench: Bench,
    judges: Sequence[Judge],
    patches: Patches,
    start: Start,
    plan: Plan,
    cells: Cells,
    executor: Executor,
    *,
    n_waiting: int,
) -> Generator[Step, None, Outcome]:
    """Run what is missing of all rounds; yield the progress and return the outcome.

    Parameters
    ----------
    bench : Bench
        With masks.
    judges : sequence of Judge
    patches : Patches
        Of the rows of the bench.
    start : Start
    plan : Plan
        ``arms`` choose from the second round on; ``budgets`` are the labels after each round.
    cells, executor, n_waiting
        As in `firstpick.evaluate.run.compare`.

    Raises
    ------
    ValueError
        If the rounds take more than a pool, or a split cannot be made.
    """
    splits = splits_of(bench, plan)
    first = replace(plan, budgets=plan.budgets[:1])
    firsts = {
        (seed, draw): choice_of(bench, first, replace(start.cold, draw=draw), seed, split)
        for seed, split in enumerate(splits)
        for draw in range(start.n_firsts)
    }
    yield from steps("First batches", complete(firsts.values(), cells, executor, n_waiting=n_waiting))
    seen = for_each_split(lambda pool: seen_of(bench, patches, pool))
    games = {
        (arm, seed): _game(bench, plan, start, arm, seed, split, firsts[seed, arm.draw % start.n_firsts], cells, seen)
        for seed, split in enumerate(splits)  # what is made of a split's pool is made once
        for arm in plan.arms
    }
    yield from steps("Playing rounds", complete(games.values(), cells, executor, n_waiting=n_waiting))
    batches = [
        Batch(arm, size, seed, np.sort(splits[seed].pool[rows]))
        for (arm, seed), cell in games.items()
        for size, rows in zip(plan.budgets, cells.get(cell), strict=True)
    ]
    return (yield from judge_batches(bench, judges, plan, splits, batches, cells, executor, n_waiting=n_waiting))


def _game(
    bench: Bench,
    plan: Plan,
    start: Start,
    arm: Arm,
    seed: int,
    split: Split,
    first: Cell,
    cells: Cells,
    seen: Callable[[Split], Seen],
) -> Cell:
    """Let an arm play all rounds on a split, from a first batch on."""
    strategy = start.cold.strategy if arm == replace(SAME, draw=arm.draw) else arm.strategy
    asked = replace(start.cold, strategy=strategy, draw=arm.draw)
    scaling, n_components = components_of(start.cold.scaling, plan.n_components)
    samples = [bench.samples[row] for row in split.pool]
    how = {
        "scaling": scaling,
        "n_components": n_components,
        "starts": plan.starts,
        "groups": tuple(bench.groups[row] for row in split.pool) if any(bench.groups) else None,
        "slices": [(s.study_id, s.at.plane, s.at.position_mm) for s in samples if s.at is not None] or None,
        "guards": plan.guards,
        "n_jobs": 1,
    }
    return Cell(
        recipe={
            "work": "play",
            "version": RECIPE,
            "first": first.recipe,
            "sizes": plan.budgets,
            **recipe_of(asked, plan.guards, plan.n_components, plan.starts),
            **({"patches": [ENCODER, N_SLICES, SIZE, N_KEPT, N_OF_STUDY, N_OF_SLICE]} if strategy in LATER else {}),
        },
        function=play,
        arguments=lambda: (
            bench.features[start.cold.encoder][split.pool],
            strategy,
            cells.get(first)[0],
            plan.budgets,
            how,
            seeds_of(seed, arm.draw)[0],
            seen(split) if strategy in LATER else None,
        ),
    )


def seen_of(bench: Bench, patches: Patches, pool: NDArray[np.intp]) -> Seen:
    """Take what the rows of a pool show; all of it is measured on the pool alone."""
    n_drawn = N_OF_SLICE if bench.slices else N_OF_STUDY
    drawn = draw_patches(len(pool), patches.label.shape[1], n_drawn, seed=0)
    tokens = np.take_along_axis(patches.tokens[pool], drawn[..., None], axis=1).reshape(drawn.size, -1)
    return Seen(
        features=patches.reduced(pool)[pool],
        label=patches.label[pool],
        rows=selection.Patches.reduced(tokens, owner_of(drawn)).rows,
        drawn=drawn,
    )
