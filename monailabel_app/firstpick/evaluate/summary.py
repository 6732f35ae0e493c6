"""From numbers of single splits to what can be said: means, differences to random, ranks, agreement."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from firstpick.evaluate.arms import ORACLE, RANDOM, Arm, is_told
from firstpick.evaluate.classification import HALVES
from firstpick.evaluate.run import Outcome, Result
from firstpick.evaluate.statistics import Estimate, area, corrected_t, holm, rank_correlation, ratio_of

AREA = 0
"""Stands for the budget where a row is about the area under the curve over all budgets."""
LOWER_IS_BETTER = ("hd95", "iterations", "seconds")


@dataclass(frozen=True)
class Row:
    """What is known of one arm by one judge's measure at one budget, over all splits.

    Attributes
    ----------
    budget : int
        `AREA` for the mean height of the curve over the logarithm of the budget.
    mean : Estimate
        Of the arm: of the mean over its draws on each split.
    spread, worst : float
        Standard deviation over the splits, and the worst of them, of one draw, on average.
    difference : Estimate or None
        To the mean of ``random``, or of what else was asked for, on the same splits; None for that arm itself, and
        where nothing is tested.
    p_holm : float
        Its p-value, corrected for the number of arms by Holm.
    of_oracle : Estimate or None
        The difference over that of the oracle on the same features (`firstpick.evaluate.arms.told_arms`); None for
        ``random`` and the oracle, and where there is no oracle.
    """

    judge: str
    measure: str
    budget: int
    arm: Arm
    n_splits: int
    mean: Estimate
    spread: float
    worst: float
    difference: Estimate | None = None
    p_holm: float = float("nan")
    of_oracle: Estimate | None = None


def is_lower_better(measure: str) -> bool:
    """Tell whether a small value of a measure is a good one."""
    return measure.partition(":")[0] in LOWER_IS_BETTER


def summarise(outcome: Outcome, base: Arm = RANDOM) -> list[Row]:
    """Summarise every measure of every judge at every budget, and over all budgets; differences are to one arm.

    A split whose value is NaN for an arm (no test study had the label) does not count for it. Holm's correction counts
    the other arms of one judge, measure and budget but for those that look at the labels.
    """
    rows: list[Row] = []
    whole = (result for result in outcome.results if not result.measure.endswith(HALVES))
    for (judge, measure), found in groupby(whole, key=lambda result: (result.judge, result.measure)):
        curves = _curves(found)
        budgets = sorted({at for draws in curves.values() for by_budget in draws.values() for at in by_budget})
        for budget in [*budgets, *([AREA] if len(budgets) > 1 else [])]:
            values = {
                arm: [
                    _areas(by_budget, budgets) if budget == AREA else by_budget.get(budget, {})
                    for by_budget in draws.values()
                ]
                for arm, draws in curves.items()
            }
            rows += _compared(judge, measure, budget, values, base, outcome.test_ratio)
    return rows


def _curves(results: Iterable[Result]) -> dict[Arm, dict[int, dict[int, dict[int, float]]]]:
    """Arm to draw to budget to seed to value, in the order of the arms."""
    curves: dict[Arm, dict[int, dict[int, dict[int, float]]]] = {}
    for result in results:
        if not np.isnan(result.value):
            draws = curves.setdefault(replace(result.arm, draw=0), {})
            draws.setdefault(result.arm.draw, {}).setdefault(result.budget, {})[result.seed] = result.value
    return curves


def _areas(by_budget: Mapping[int, Mapping[int, float]], budgets: Sequence[int]) -> dict[int, float]:
    """Area under the curve of each split that has all budgets."""
    seeds = set.intersection(*(set(by_budget.get(budget, {})) for budget in budgets))
    return {seed: area(budgets, [by_budget[budget][seed] for budget in budgets]) for seed in sorted(seeds)}


def _compared(
    judge: str,
    measure: str,
    budget: int,
    values: Mapping[Arm, Sequence[Mapping[int, float]]],
    base: Arm,
    test_ratio: float,
) -> list[Row]:
    means = {arm: found for arm, draws in values.items() if (found := _mean_over(draws))}
    of_base = means.get(base, {})
    worst = max if is_lower_better(measure) else min
    arms = list(means)
    gains = {
        arm: {seed: value - of_base[seed] for seed, value in means[arm].items() if seed in of_base}
        for arm in arms
        if arm != base
    }
    differences = [corrected_t(list(gains[arm].values()), test_ratio) if gains.get(arm) else None for arm in arms]
    corrected = holm([d.p if d and not is_told(arm) else np.nan for arm, d in zip(arms, differences, strict=True)])
    return [
        Row(
            judge,
            measure,
            budget,
            arm,
            n_splits=len(means[arm]),
            mean=corrected_t(list(means[arm].values()), test_ratio),
            spread=_spread(values[arm]),
            worst=float(np.mean([worst(draw.values()) for draw in values[arm] if draw])),
            difference=difference,
            p_holm=float(p),
            of_oracle=_of_oracle(arm, gains, test_ratio),
        )
        for arm, difference, p in zip(arms, differences, corrected, strict=True)
    ]


def _of_oracle(arm: Arm, gains: Mapping[Arm, Mapping[int, float]], test_ratio: float) -> Estimate | None:
    """Compare an arm's gains with those of the oracle on the same features; one without features, with the first."""
    oracles = [one for one in gains if one.strategy == ORACLE and arm.encoder in ("", one.encoder)]
    if arm not in gains or arm.strategy == ORACLE or not oracles:
        return None
    own, best = gains[arm], gains[oracles[0]]
    seeds = [seed for seed in own if seed in best]
    return ratio_of([own[seed] for seed in seeds], [best[seed] for seed in seeds], test_ratio)


def _mean_over(draws: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Mean over the draws of each seed, in the order of the seeds."""
    seeds = sorted(set().union(*draws))
    return {seed: float(np.mean([draw[seed] for draw in draws if seed in draw])) for seed in seeds}


def _spread(draws: Sequence[Mapping[int, float]]) -> float:
    """Standard deviation of one draw over the seeds: the root of the mean variance; NaN where no draw has two."""
    variances = [np.var(list(draw.values()), ddof=1) for draw in draws if len(draw) > 1]
    return float(np.sqrt(np.mean(variances))) if variances else float("nan")


def agreement(rows: Collection[Row], primary: Mapping[str, str]) -> list[tuple[str, str, int, float]]:
    """Say how alike two judges rank the arms: Spearman's correlation of the differences to random, at each budget."""
    gains = {
        (row.judge, row.budget, row.arm): row.difference.mean
        for row in rows
        if row.difference is not None
        and not is_told(row.arm)
        and primary.get(row.judge) == row.measure
        and row.budget != AREA
    }
    found = []
    judges = sorted({judge for judge, _, _ in gains})
    for place, a in enumerate(judges):
        for b in judges[place + 1 :]:
            for budget in sorted({budget for _, budget, _ in gains}):
                arms = [arm for judge, at, arm in gains if (judge, at) == (a, budget) and (b, budget, arm) in gains]
                pairs = [(gains[a, budget, arm], gains[b, budget, arm]) for arm in arms]
                found.append((a, b, budget, rank_correlation([x for x, _ in pairs], [y for _, y in pairs])))
    return [item for item in found if not np.isnan(item[3])]


def rank_arms(tables: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Rank arms on each data set, the best first, and on average; equal values share their mean rank.

    Parameters
    ----------
    tables : mapping
        Data set to arm to value, larger is better.

    Returns
    -------
    dict
        Arm to data set to rank, with the mean under ``mean``; only arms that all data sets have, the best first.

    Examples
    --------
    >>> rank_arms({"a": {"x": 0.9, "y": 0.8}, "b": {"x": 0.5, "y": 0.5, "z": 0.1}})
    {'x': {'a': 1.0, 'b': 1.5, 'mean': 1.25}, 'y': {'a': 2.0, 'b': 1.5, 'mean': 1.75}}
    """
    from scipy.stats import rankdata  # noqa: PLC0415

    arms = sorted(set.intersection(*(set(values) for values in tables.values())))
    ranks = {name: rankdata([-values[arm] for arm in arms]) for name, values in tables.items()}
    found = {
        arm: {
            **{name: float(rank[place]) for name, rank in ranks.items()},
            "mean": float(np.mean([rank[place] for rank in ranks.values()])),
        }
        for place, arm in enumerate(arms)
    }
    return dict(sorted(found.items(), key=lambda item: (item[1]["mean"], item[0])))
