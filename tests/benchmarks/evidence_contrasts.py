"""Would anything else be the better default? What was tested on all pools, by a rule that was written down first.

A part of `evidence_over_pools.py`; the rule stands in ``firstpick/evaluate/README.md``.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import permutation_test

from firstpick.evaluate.statistics import holm
from firstpick.evaluate.tables import markdown

N_FLIPS = 20_000
Z_OF_POWER = 2.8
"""Standard errors between nothing and what is found in four of five tests at two-sided .05: 1.96 + .84."""


def contrasts_of(pools, default, rivals, interval):
    """Compare each rival with the default on every kind of pools; what is the least that they could show.

    Parameters
    ----------
    pools : sequence of Pool
    default : str
        Name of the arm.
    rivals : collection of str
        Names of arms that may choose without labels.
    interval : callable
        Gives the mean over pools and its interval.

    Returns
    -------
    list of dict
        Sorted by kind and gain. ``p``: sign flips of the pools' differences, two-sided, by Holm over all rivals and
        kinds. ``least``: difference that would be seen in four of five such tests.
    """
    lines = []
    for kind, arm in ((kind, arm) for kind in ("classes", "masks") for arm in rivals):
        found = [value for pool in pools if pool.kind == kind and (value := _difference(pool, arm, default))]
        if found:
            means, worst = np.array([np.mean(cells) for cells in found]), min(min(cells) for cells in found)
            mean, low, high = interval(means)
            least = Z_OF_POWER * means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 1 else np.nan
            lines.append(
                {
                    "kind": kind, "arm": arm, "n_pools": len(means), "gain": mean, "low": low, "high": high,
                    "p": _p_of_flips(means), "pools_won": int((means > 0).sum()), "worst_cell": worst, "least": least,
                }
            )  # fmt: skip
    for line, p in zip(lines, holm([line["p"] for line in lines]), strict=True):
        line["p"] = float(p)
    return sorted(lines, key=lambda line: (line["kind"], -line["gain"]))


def contrasts_table(lines):
    """A line for each rival and kind of pools."""
    head = ["labels", "instead of the default", "difference", "p, by Holm", "pools won", "worst cell", "could be seen"]
    rows = [
        [
            line["kind"], line["arm"], f"{line['gain']:+.3f} ({line['low']:+.3f} to {line['high']:+.3f})",
            f"{line['p']:.2f}", f"{line['pools_won']} of {line['n_pools']}", f"{line['worst_cell']:+.3f}",
            f"{line['least']:.3f}",
        ]
        for line in lines
    ]  # fmt: skip
    return markdown([head, *rows])


def _difference(pool, arm, default):
    """Differences of one pool's cells, by judges whose features are no part of either arm's."""
    found = [
        pool.gain(judge, arm, budget, against=default)
        for judge, name, budget in pool.values
        if name == arm and judge.removeprefix("probe on ") not in arm
    ]
    return [value for value in found if not np.isnan(value)]


def _p_of_flips(values):
    """Share of random signs under which the mean is at least as far from 0, two-sided; 1 for a single pool."""
    if len(values) == 1:
        return 1.0
    flips = {"permutation_type": "samples", "n_resamples": N_FLIPS, "vectorized": True}
    return float(permutation_test((values,), np.mean, random_state=0, **flips).pvalue)
