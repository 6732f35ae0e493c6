"""The arms of a comparison: a strategy on the features of an encoder, scaled in some way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstpick.evaluate.oracle import Truth, balanced, draw_foreground
from firstpick.evaluate.plain_slices import middle, strided
from firstpick.selection import NESTED, SCALINGS, SEEDED, Guards, check_strategy, select
from firstpick.studies import Sample

#: The seed paper's encoders (arXiv 2402.02561), as far as there is one like it here; foundation encoders follow.
_PAPER_BASELINES = ("pixels", "efficientnet-lite0")
_CONTROLS = ("random-init",)
_WITH_COMPONENTS = ("pca", "whiten")


@dataclass(frozen=True, order=True)
class Arm:
    """One way to choose. The arm ``random`` has no encoder and no scaling: they do not matter to it.

    ``scaling`` may name its number of components, ``whiten:16``. ``draw`` counts the batches that the arm chooses on
    one split, from 0, each with a seed of its own.
    """

    strategy: str
    encoder: str = ""
    scaling: str = ""
    draw: int = 0

    @property
    def name(self) -> str:
        """What tables and figures call it."""
        return ", ".join(part for part in (self.strategy, self.encoder, self.scaling) if part)


RANDOM = Arm("random")
FOREGROUND = Arm("random, by foreground")
PLAIN_SLICES = (Arm("middle slices"), Arm("strided slices"))
"""What people do without a strategy, where slices are chosen."""
ORACLE = "oracle"
"""The strategy of the arm that is told the labels."""
TOLD = (FOREGROUND.strategy, ORACLE)


def all_arms(
    strategies: Iterable[str], encoders: Iterable[str], scalings: Iterable[str], *, n_draws: int = 1, n_repeats: int = 1
) -> tuple[Arm, ...]:
    """Combine all with all, each with ``n_repeats`` seeds, after ``n_draws`` of ``random``, which is always among them.

    Raises
    ------
    ValueError
        If a strategy or a scaling is not known, or a scaling has no such number of components.

    Examples
    --------
    >>> [arm.name for arm in all_arms(["kmeans", "random"], ["pixels"], ["l2", "whiten"])]
    ['random', 'kmeans, pixels, l2', 'kmeans, pixels, whiten']
    """
    scalings = list(scalings)
    for scaling in scalings:
        components_of(scaling, 0)
    strategies = list(strategies)
    for strategy in strategies:
        check_strategy(strategy)
    arms = (
        Arm(strategy, encoder, scaling, draw)
        for strategy in strategies
        for encoder in encoders
        for scaling in scalings
        for draw in range(n_repeats)
        if strategy != RANDOM.strategy
    )
    return tuple(dict.fromkeys((*draws_of(RANDOM, n_draws), *arms)))


def told_arms(encoders: Iterable[str], *, with_masks: bool, n_draws: int, n_repeats: int) -> tuple[Arm, ...]:
    """List the arms that look at the labels: the oracle on each encoder, and random by foreground where masks are.

    Examples
    --------
    >>> [arm.name for arm in told_arms(["pixels"], with_masks=True, n_draws=1, n_repeats=1)]
    ['random, by foreground', 'oracle, pixels, l2']
    """
    oracles = (arm for encoder in encoders for arm in draws_of(Arm(ORACLE, encoder, "l2"), n_repeats))
    return (*(draws_of(FOREGROUND, n_draws) if with_masks else ()), *oracles)


def draws_of(arm: Arm, n_draws: int) -> Iterable[Arm]:
    """Repeat an arm with other seeds."""
    return (replace(arm, draw=draw) for draw in range(n_draws))


def components_of(scaling: str, default: int) -> tuple[str, int]:
    """Take ``whiten:16`` apart into the scaling and its number of components.

    Raises
    ------
    ValueError
        If the scaling is not known, or the number is none or has no meaning for it.

    Examples
    --------
    >>> components_of("whiten:16", 32), components_of("pca", 32)
    (('whiten', 16), ('pca', 32))
    """
    name, colon, number = scaling.partition(":")
    if name not in SCALINGS:
        msg = f"scaling '{scaling}' is not known. Choose one of {', '.join(SCALINGS)}."
        raise ValueError(msg)
    if not colon:
        return name, default
    if name not in _WITH_COMPONENTS or not number.isdecimal() or int(number) < 1:
        allowed = " or ".join(f"{one}:16" for one in _WITH_COMPONENTS)
        msg = f"scaling '{scaling}' is not known. Of a number of components, 1 or more, write {allowed}."
        raise ValueError(msg)
    return name, int(number)


def yuan_hong_encoders(known: Iterable[str]) -> tuple[str, ...]:
    """List the encoders of the preset: raw pixels, ImageNet-supervised, and every foundation encoder of the table."""
    known = list(known)
    foundation = [name for name in known if name not in (*_PAPER_BASELINES, *_CONTROLS)]
    return (*_PAPER_BASELINES, *sorted(name for name in foundation if not name.startswith("efficientnet")))


def choose_batches(
    X: NDArray[np.float32],
    arm: Arm,
    budgets: Sequence[int],
    groups: Sequence[str],
    seed: int,
    guards: Guards,
    n_components: int,
    truth: Truth | None,
    samples: Sequence[Sample] = (),
    starts: int = 6,
) -> list[list[int]]:
    """Choose a first batch of each size; rows of ``X``, the most useful first.

    A strategy of which a small batch is the start of a larger one is asked once. ``truth`` is for the arms that look
    at the labels, ``samples`` says which slices the rows are. Neither `FOREGROUND` nor `PLAIN_SLICES` keep to how far
    apart slices must lie.
    """
    if replace(arm, draw=0) in PLAIN_SLICES:
        plain = middle if arm.strategy == PLAIN_SLICES[0].strategy else strided
        return [plain(budget, samples, seed=seed) for budget in budgets]
    if truth is not None and arm.strategy == FOREGROUND.strategy:
        limit = 0 if samples else guards.max_per_group  # a patient's slices are no studies
        longest = draw_foreground(max(budgets), truth, groups=groups, seed=seed, max_per_group=limit)
        return [longest[:budget] for budget in budgets]
    slices = [(s.study_id, s.at.plane, s.at.position_mm) for s in samples if s.at is not None] or None
    if truth is not None:
        return [
            balanced(X, budget, truth, groups=groups, slices=slices, seed=seed, guards=guards) for budget in budgets
        ]
    scaling, n_components = components_of(arm.scaling or "l2", n_components)

    def ask(budget: int) -> list[int]:
        chosen = select(
            arm.strategy,
            X,
            budget,
            seed=seed,
            starts=starts,
            scaling=scaling,
            n_components=n_components,
            groups=groups or None,
            slices=slices,
            guards=guards,
            n_jobs=1,
        )
        return [int(row) for row in chosen.indices]

    if arm.strategy in NESTED:
        longest = ask(max(budgets))
        return [longest[:budget] for budget in budgets]
    return [ask(budget) for budget in budgets]


def is_told(arm: Arm) -> bool:
    """Tell whether an arm looks at the labels."""
    return arm.strategy in TOLD


def recipe_of(arm: Arm, guards: Guards, n_components: int, starts: int) -> Mapping[str, Any]:
    """Say as plain data what decides an arm's batches, besides the features."""
    scaling, n_components = components_of(arm.scaling or "l2", n_components)
    parts = n_components if scaling in _WITH_COMPONENTS else 0
    own = {name: value for name, value in asdict(arm).items() if name != "draw" or value}
    seeded = {"starts": starts} if arm.strategy in SEEDED else {}
    return {"arm": own, "guards": asdict(guards), "n_components": parts, **seeded}
