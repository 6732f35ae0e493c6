"""Intervals and tests that know that the splits overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A mean over splits with its interval, and the p-value of its being 0.

    Attributes
    ----------
    mean, low, high : float
        NaN ends where there is one split only.
    p : float
        Two-sided; NaN where there is one split only.
    """

    mean: float
    low: float
    high: float
    p: float


def corrected_t(values: ArrayLike, test_ratio: float, *, confidence: float = 0.95) -> Estimate:
    """Estimate a mean over random splits by the corrected resampled t-test (Nadeau & Bengio 2003).

    Parameters
    ----------
    values : array_like of shape (n_splits,)
        One number for each split, such as a paired difference between two arms.
    test_ratio : float
        Size of the test part over that of the part learnt from.
    confidence : float

    Returns
    -------
    Estimate

    Notes
    -----
    Splits of the same data share samples, so their results are alike and the usual variance of the mean, ``s^2 / n``,
    is too small. It is replaced by ``(1 / n + test_ratio) s^2``, with ``n - 1`` degrees of freedom. The part learnt
    from is taken to be the whole pool: it is the pool that two splits share. The few samples that an arm picks from
    it overlap less, so the test errs on the side of caution, and more splits do not make it ever more certain.

    Examples
    --------
    Mean 2, variance 1, three splits: the standard error is the root of 1/3 + 1/4.

    >>> found = corrected_t([1.0, 2.0, 3.0], test_ratio=0.25)
    >>> found.mean, round(found.high - found.mean, 4) == round(4.30265 * (1 / 3 + 1 / 4) ** 0.5, 4)
    (2.0, True)
    """
    array = np.asarray(values, np.float64)
    n, mean = len(array), float(np.mean(array)) if len(array) else float("nan")
    if n < 2:  # noqa: PLR2004 - no variance
        return Estimate(mean, float("nan"), float("nan"), float("nan"))
    error = float(np.sqrt((1 / n + test_ratio) * np.var(array, ddof=1)))
    if error == 0:
        return Estimate(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * error
    return Estimate(mean, mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / error, n - 1)))


def ratio_of(values: ArrayLike, reference: ArrayLike, test_ratio: float, *, confidence: float = 0.95) -> Estimate:
    """Estimate the ratio of two means over the same random splits, by Fieller's theorem on the corrected variances.

    Parameters
    ----------
    values, reference : array_like of shape (n_splits,)
        Paired numbers, such as the gains of an arm and of the oracle.
    test_ratio : float
        Size of the test part over that of the part learnt from.
    confidence : float

    Returns
    -------
    Estimate
        All NaN where the mean of ``reference`` is not above 0; without an interval where it is not known to be, or
        there is one split only. ``p`` is that of the ratio being 0, as `corrected_t` has it.

    Notes
    -----
    The interval holds every ratio ``r`` for which the mean of ``values - r * reference`` is not told from 0 by
    `corrected_t`: the roots of a quadratic.

    Examples
    --------
    Half as much on every split.

    >>> found = ratio_of([3.0, 4.0, 5.0], [6.0, 8.0, 10.0], test_ratio=0.0)
    >>> found.mean, round(found.low, 9), round(found.high, 9)
    (0.5, 0.5, 0.5)
    """
    a, b = np.asarray(values, np.float64), np.asarray(reference, np.float64)
    n = len(a)
    nothing = Estimate(float("nan"), float("nan"), float("nan"), float("nan"))
    if not n or not b.mean() > 0:
        return nothing
    ratio = float(a.mean() / b.mean())
    if n < 2:  # noqa: PLR2004 - no variance
        return replace(nothing, mean=ratio)
    p = corrected_t(a, test_ratio).p
    factor = (1 / n + test_ratio) * float(stats.t.ppf((1 + confidence) / 2, n - 1)) ** 2
    (saa, sab), (_, sbb) = np.cov(a, b) * factor
    square = b.mean() ** 2 - sbb
    if square <= 0:
        return replace(nothing, mean=ratio, p=p)
    middle = a.mean() * b.mean() - sab
    width = np.sqrt(max(middle**2 - square * (a.mean() ** 2 - saa), 0.0))
    return Estimate(ratio, float((middle - width) / square), float((middle + width) / square), p)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Correct p-values for their number by Holm's step-down method (1979).

    Parameters
    ----------
    p_values : array_like of shape (n_tests,)
        NaN for a test that was not made; it does not count.

    Returns
    -------
    ndarray of shape (n_tests,)
        In the same order, at most 1.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)  # NaN come last
    order = order[: np.count_nonzero(~np.isnan(p))]
    corrected = np.full(len(p), np.nan)
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(factors * p[order]))
    return corrected


def area(budgets: Sequence[int], values: ArrayLike) -> float:
    """Return the mean height of a curve over the logarithm of the budget (trapezoids); of one point, its height.

    Examples
    --------
    From 5 to 10 labels is as far as from 10 to 20.

    >>> area([5, 10, 20], [0.0, 1.0, 1.0])
    0.75
    """
    heights = np.asarray(values, np.float64)
    if len(budgets) == 1:
        return float(heights[0])
    at = np.log2(np.asarray(budgets, np.float64))
    return float(np.sum(np.diff(at) * (heights[1:] + heights[:-1]) / 2) / (at[-1] - at[0]))


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Return Spearman's correlation; NaN for fewer than three pairs, or where one side does not vary."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:  # noqa: PLR2004 - two points always agree or disagree
        return float("nan")
    return float(stats.spearmanr(x, y).statistic)
