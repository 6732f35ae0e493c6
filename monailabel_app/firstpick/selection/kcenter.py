"""Strategy ``kcenter``: the row farthest from all that are labelled or picked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.geometry import in_blocks, nearest_squared, squared_distances
from firstpick.selection.greedy import tied_for_best
from firstpick.selection.outliers import remotest
from firstpick.selection.result import Selection

_TIE = 1e-6


def kcenter(
    X: NDArray[np.float32],
    n_select: int,
    *,
    labelled: NDArray[np.intp],
    candidates: NDArray[np.intp],
    rng: np.random.Generator,
    trim: float = 0.01,
) -> Selection:
    """Pick the study farthest from all labelled and picked ones (k-center).

    Parameters
    ----------
    trim : float
        From 0 to 1: the part of all rows, at most, that counts as outliers, see
        `firstpick.selection.outliers.remotest`. They need not be covered, and are picked only when no other candidate
        is left.

    Returns
    -------
    Selection
        The score is the distance that made the pick: that of the farthest row from all labelled and picked ones; for a
        first pick without labels, from the mean.

    Notes
    -----
    Sener & Savarese, ICLR 2018 (arXiv 1708.00489), their greedy farthest-first start without the integer programme
    after it: no row is farther from a pick than twice the least possible (Gonzalez 1985). Published code starts from a
    random row; here the row nearest to the mean comes first, where nothing is labelled. For a farthest row that is no
    candidate, the candidate nearest to it is picked. Farthest-first loves outliers, hence ``trim``; give 0 for the
    published method. A pick costs one pass over the rows, at any size of the pool.

    Examples
    --------
    The mean is 4; after 3 the farthest is 10, then 0.

    >>> X = np.array([[0.0], [1.0], [3.0], [6.0], [10.0]])
    >>> nobody, all_rows = np.array([], dtype=int), np.arange(5)
    >>> picked = kcenter(X, 3, labelled=nobody, candidates=all_rows, rng=np.random.default_rng(0))
    >>> picked.indices.tolist(), picked.scores.tolist()
    ([2, 4, 0], [6.0, 7.0, 3.0])
    """
    if not 0 <= trim <= 1:
        msg = f"trim must be from 0 to 1; got {trim}."
        raise ValueError(msg)
    is_usual = ~remotest(X, trim, rng)
    away = _distance_to(X[labelled], X)
    usual, last = candidates[is_usual[candidates]], candidates[~is_usual[candidates]]
    picks: list[int] = []
    scores: list[float] = []
    for allowed, targets in ((usual, np.flatnonzero(is_usual)), (last, last)):
        stand_in, reach = _nearest_allowed(X, allowed, targets)
        is_free = np.isin(np.arange(len(X)), allowed)
        for _ in range(min(len(allowed), n_select - len(picks))):
            if np.isinf(away).all():
                best, score = _first(X, allowed, targets)
            else:
                best, score = _next(away, is_free, targets, stand_in, reach)
            picks.append(best)
            scores.append(score)
            is_free[best] = False
            away = np.minimum(away, _distance_to(X[[best]], X))
    return Selection(np.array(picks, dtype=np.intp), np.array(scores, dtype=np.float64))


def _first(X: NDArray[np.float32], allowed: NDArray[np.intp], targets: NDArray[np.intp]) -> tuple[int, float]:
    """Pick the row nearest to the mean, and say how far the farthest is from there."""
    blocks = in_blocks(len(targets), X.shape[1])
    total = sum(X[targets[block]].sum(axis=0, dtype=np.float64, keepdims=True) for block in blocks)
    away = _distance_to(total / len(targets), X)
    nearest = allowed[np.flatnonzero(away[allowed] <= away[allowed].min() * (1 + _TIE))[0]]
    return int(nearest), float(away[targets].max())


def _next(
    away: NDArray[np.float64],
    is_free: NDArray[np.bool_],
    targets: NDArray[np.intp],
    stand_in: NDArray[np.intp],
    reach: NDArray[np.float64],
) -> tuple[int, float]:
    """Pick for the farthest row to which a pick can come nearer than all before; else the farthest free row."""
    left = targets[is_free[stand_in[targets]] & (away[targets] > reach[targets] * (1 + _TIE))]
    if len(left) == 0:
        left = np.flatnonzero(is_free)
    farthest = left[tied_for_best(away[left])[0]]
    return int(stand_in[farthest]), float(away[farthest])


def _nearest_allowed(
    X: NDArray[np.float32], allowed: NDArray[np.intp], targets: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return which row to pick when another is the farthest, itself if it may be, and how far they are apart."""
    stand_in, reach = np.arange(len(X)), np.zeros(len(X))
    closed = np.setdiff1d(targets, allowed)
    if len(allowed) and len(closed):
        nearest, squared = nearest_squared(X[closed].astype(np.float64), X[allowed].astype(np.float64))
        stand_in[closed], reach[closed] = allowed[nearest], np.sqrt(squared)
    return stand_in, reach


def _distance_to(points: NDArray[Any], X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how far every row is from the nearest of some points; infinite where there are none."""
    others, away = points.astype(np.float64), np.full(len(X), np.inf)
    for block in in_blocks(len(X), max(X.shape[1], len(others))) if len(others) else ():
        away[block] = np.sqrt(squared_distances(X[block].astype(np.float64), others).min(axis=1))
    return away
