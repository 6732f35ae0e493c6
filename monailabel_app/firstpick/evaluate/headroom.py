"""How much there is to gain on a data set: how much random batches differ, and how much of that is luck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from firstpick.evaluate.arms import RANDOM
from firstpick.evaluate.classification import HALVES
from firstpick.evaluate.run import Outcome
from firstpick.evaluate.statistics import Estimate, corrected_t

_BEST = 95.0


@dataclass(frozen=True)
class Headroom:
    """What random batches of one size do by one judge's deciding measure.

    Attributes
    ----------
    n_draws : int
        Random batches on each split.
    mean : Estimate
        Of the random batches.
    best : Estimate
        Their 95th percentile on each split, less their mean. Much of it is luck: a batch that happens to suit this
        judge and this test part.
    best_of_halves : Estimate
        Mean of the best twentieth by one half of the test part (one batch or more), measured on the other half, less
        the mean there; each half in turn. What is left of ``best`` on studies that had no part in finding it.
    """

    judge: str
    measure: str
    budget: int
    n_draws: int
    mean: Estimate
    best: Estimate
    best_of_halves: Estimate


def headroom(outcome: Outcome) -> list[Headroom]:
    """Measure the headroom of every judge at every budget; the mean over the splits, with its interval.

    A judge or a split without values of both halves does not count.
    """
    values: dict[tuple[str, int], dict[str, dict[int, dict[int, float]]]] = {}
    for result in outcome.results:
        if result.arm.strategy == RANDOM.strategy and not np.isnan(result.value):
            by_measure = values.setdefault((result.judge, result.budget), {})
            by_measure.setdefault(result.measure, {}).setdefault(result.seed, {})[result.arm.draw] = result.value
    found = []
    for (judge, budget), by_measure in sorted(values.items()):
        measure = outcome.primary.get(judge, "")
        names = (measure, *(f"{measure}, {half}" for half in HALVES))
        splits = _splits([by_measure.get(name, {}) for name in names])
        if splits:
            means, best, crossed = (list(line) for line in zip(*(_of_split(*split) for split in splits), strict=True))
            n_draws = max(len(split[0]) for split in splits)
            estimates = (corrected_t(line, outcome.test_ratio) for line in (means, best, crossed))
            found.append(Headroom(judge, measure, budget, n_draws, *estimates))
    return found


def _splits(measures: Sequence[Mapping[int, Mapping[int, float]]]) -> list[list[list[float]]]:
    """The whole part's and both halves' values of each split, of the draws that have all three."""
    found = []
    for seed in sorted(set.intersection(*(set(by_seed) for by_seed in measures))):
        draws = sorted(set.intersection(*(set(by_seed[seed]) for by_seed in measures)))
        if draws:
            found.append([[by_seed[seed][draw] for draw in draws] for by_seed in measures])
    return found


def _of_split(whole: Sequence[float], one: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """Mean, best less mean, and the same across the halves.

    Examples
    --------
    The best by the first half (4) has 1 on the second, whose mean is 2; the best by the second (3) has 2 on the first,
    whose mean is 3: -1 and -1.

    >>> mean, best, crossed = _of_split([0.0, 2.0, 4.0], [3.0, 2.0, 4.0], [2.0, 3.0, 1.0])
    >>> mean, round(best, 6), crossed
    (2.0, 1.8, -1.0)
    """
    crossed = [
        np.mean(np.asarray(read)[np.asarray(by) >= np.percentile(by, _BEST)]) - np.mean(read)
        for by, read in ((one, other), (other, one))
    ]
    mean = float(np.mean(whole))
    return mean, float(np.percentile(whole, _BEST)) - mean, float(np.mean(crossed))
