"""The arms of a comparison: a strategy on the features of an encoder, scaled in some way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstpick.selection import NESTED, SCALINGS, Guards, check_strategy, select

#: The seed paper's encoders (arXiv 2402.02561), as far as there is one like it here; foundation encoders follow.
_PAPER_BASELINES = ("pixels", "efficientnet-lite0")
_CONTROLS = ("random-init",)


@dataclass(frozen=True, order=True)
class Arm:
    """One way to choose. The arm ``random`` has no encoder and no scaling: they do not matter to it.

    ``draw`` counts the batches that ``random`` draws on one split, from 0; all others choose once.
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


def all_arms(
    strategies: Iterable[str], encoders: Iterable[str], scalings: Iterable[str], *, n_draws: int = 1
) -> tuple[Arm, ...]:
    """Combine all with all, after ``n_draws`` of ``random``, which is always among them.

    Raises
    ------
    ValueError
        If a strategy or a scaling is not known.

    Examples
    --------
    >>> [arm.name for arm in all_arms(["kmeans", "random"], ["pixels"], ["l2", "whiten"])]
    ['random', 'kmeans, pixels, l2', 'kmeans, pixels, whiten']
    """
    scalings = list(scalings)
    for scaling in scalings:
        if scaling not in SCALINGS:
            msg = f"scaling '{scaling}' is not known. Choose one of {', '.join(SCALINGS)}."
            raise ValueError(msg)
    strategies = list(strategies)
    for strategy in strategies:
        check_strategy(strategy)
    arms = (
        Arm(strategy, encoder, scaling)
        for strategy in strategies
        for encoder in encoders
        for scaling in scalings
        if strategy != RANDOM.strategy
    )
    return tuple(dict.fromkeys((*(replace(RANDOM, draw=draw) for draw in range(n_draws)), *arms)))


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
) -> list[list[int]]:
    """Choose a first batch of each size; rows of ``X``, the most useful first.

    A strategy of which a small batch is the start of a larger one is asked once.
    """

    def ask(budget: int) -> list[int]:
        chosen = select(
            arm.strategy,
            X,
            budget,
            seed=seed,
            scaling=arm.scaling or "l2",
            n_components=n_components,
            groups=groups or None,
            guards=guards,
            n_jobs=1,
        )
        return [int(row) for row in chosen.indices]

    if arm.strategy in NESTED:
        longest = ask(max(budgets))
        return [longest[:budget] for budget in budgets]
    return [ask(budget) for budget in budgets]


def recipe_of(arm: Arm, guards: Guards, n_components: int) -> Mapping[str, Any]:
    """Say as plain data what decides an arm's batches, besides the features."""
    parts = n_components if arm.scaling in ("pca", "whiten") else 0
    own = {name: value for name, value in asdict(arm).items() if name != "draw" or value}
    return {"arm": own, "guards": asdict(guards), "n_components": parts}
