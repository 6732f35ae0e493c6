"""Rows that are unlike most others: by a rule that may find none (`unusual`), or a share of all (`remotest`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.geometry import distances, distinct_rows, in_blocks, squared_distances, stride
from firstpick.selection.greedy import sampled

MAX_REFERENCE = 2000
"""Rows that distances between studies are judged by."""

_SAME = 1e-4  # distance below which a row of the reference is the study itself
_NEIGHBOURS = 5
_MIN_DISTINCT = 5  # in a pool of fewer nobody can be called unusual
_BLOCK = 4096
_N_KEPT = 64  # neighbours of each row of the reference: enough while a few are excluded
_SAMPLE = 1_000  # rows among which `remotest` looks for neighbours
_TIE = 1e-6


class Reference:
    """Distinct rows by which others are judged, and who is near to each.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, dim), float64
    """

    def __init__(self, rows: NDArray[np.float64]) -> None:
        self.rows = rows
        near, distance = _nearest(distances(rows, rows), min(len(rows), _N_KEPT))
        self._near, self._distance = near, distance  # each row is its own nearest

    def __len__(self) -> int:
        return len(self.rows)

    def neighbour(self, k: int) -> NDArray[np.float64]:
        """Return the distance of each row to its k-th nearest other, ``k`` up to 63."""
        return self._distance[:, k]

    def unusual(self, found: NDArray[np.float64], is_there: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Tell which rows are far from those of the reference that are there (all, if nothing is said).

        Parameters
        ----------
        found : ndarray of shape (n_others, n_rows)
            Distances of the rows that are judged to those of the reference.
        is_there : ndarray of shape (n_rows,), bool, optional

        Returns
        -------
        ndarray of shape (n_others,), bool

        Notes
        -----
        A row is unusual if the distance to its k-th nearest neighbour is both

        - large for the pool: above the median of all by three robust deviations (1.4826 MAD), and
        - large for the place: above 1.5 times the same distance of that k-th neighbour.

        The second keeps a loose group of its own, such as the few MR among many CT, from being called unusual
        altogether; it is the idea of the local outlier factor (Breunig 2000). It looks at the k-th neighbour and
        not at all k, as a group of up to k studies that are alike, such as a few scans of noise, is unusual too:
        its members are near each other, and the k-th is the first one outside. ``k`` is 5, or a tenth of a pool
        of less than 50 (at least 1). Copies of a study do not count as neighbours. Among less than 5 distinct
        studies none is unusual.
        """
        here = np.ones(len(self.rows), np.bool_) if is_there is None else is_there
        n_here = int(here.sum())
        if n_here < _MIN_DISTINCT:
            return np.zeros(len(found), np.bool_)
        k = min(_NEIGHBOURS, max(1, n_here // 10))
        usual = self._usual(here, k)[here]
        middle = np.median(usual)
        deviation = 1.4826 * np.median(np.abs(usual - middle))
        limit = middle + 3 * deviation
        found = found if here.all() else found[:, here]
        is_odd = np.count_nonzero(found <= limit, axis=1) <= k  # or the k-th other is near, and nothing is to be sorted
        near, distance = _nearest(found[is_odd], k + 1)
        column = (distance[:, :1] < _SAME) + k - 1  # the row itself is no neighbour
        last, own = np.take_along_axis(near, column, axis=1)[:, 0], np.take_along_axis(distance, column, axis=1)[:, 0]
        is_odd[is_odd] = (own > limit) & (own > 1.5 * usual[last])
        return np.asarray(is_odd)

    def _usual(self, here: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
        """Return the distance of each row that is there to its k-th nearest other that is there too."""
        is_last = np.cumsum(here[self._near], axis=1) == k + 1
        if is_last[here].any(axis=1).all():
            return np.asarray(np.take_along_axis(self._distance, is_last.argmax(axis=1)[:, None], axis=1)[:, 0])
        usual = np.zeros(len(here))
        rows = self.rows[here]
        usual[here] = _nearest(distances(rows, rows), k + 1)[1][:, k]
        return usual


def unusual(rows: NDArray[Any], pool: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which of some unit rows are far from everything in a pool, see `Reference.unusual`.

    Among more than 2,000 distinct rows of the pool, the neighbours are looked for in a fixed sample.

    Examples
    --------
    >>> angles = np.radians([0, 1, 2, 3, 4, 5, 90])
    >>> rows = np.column_stack([np.cos(angles), np.sin(angles)])
    >>> unusual(rows, rows).tolist()
    [False, False, False, False, False, False, True]
    """
    reference = Reference(distinct_rows(pool, MAX_REFERENCE))
    found = np.zeros(len(rows), dtype=np.bool_)
    for start in range(0, len(rows), _BLOCK):
        block = np.asarray(rows[start : start + _BLOCK], np.float64)
        found[start : start + _BLOCK] = reference.unusual(distances(block, reference.rows))
    return found


def reference_stride(n_rows: int) -> int:
    """Return which of so many rows the reference takes: every one, every second, every third, ..."""
    return stride(n_rows, MAX_REFERENCE)


def _nearest(found: NDArray[np.float64], n: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the places of the ``n`` least distances in each row, least first, and the distances."""
    if not found.size:
        return np.empty((len(found), n), np.intp), np.empty((len(found), n))
    order = np.sort(np.argpartition(found, n - 1, axis=1)[:, :n], axis=1)
    found = np.take_along_axis(found, order, axis=1)
    by_distance = np.argsort(found, axis=1, kind="stable")
    return np.take_along_axis(order, by_distance, axis=1), np.take_along_axis(found, by_distance, axis=1)


def remotest(X: NDArray[Any], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mark a share of the rows, at most: those with the farthest fifth neighbours, rows of any length.

    Above 1,000 rows, neighbours are looked for among 1,000 random ones, and it is not the fifth but one as far on
    average; at least the second, so that a pair of outliers is found. Rows as far as the first that would be one too
    many are not marked either, so that the order of rows never decides; where all are alike, nothing is.

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [90.0]])
    >>> remotest(X, 0.2, np.random.default_rng(0)).tolist()
    [False, False, False, False, False, False, True]
    """
    n_out = int(share * len(X))
    if n_out == 0:
        return np.zeros(len(X), dtype=np.bool_)
    others = sampled(np.arange(len(X)), _SAMPLE, rng)
    k = min(max(2, round(_NEIGHBOURS * len(others) / len(X))), max(1, len(others) - 1))
    squared, rows = np.empty(len(X)), X[others].astype(np.float64)
    for block in in_blocks(len(X), len(others)):
        found = squared_distances(X[block].astype(np.float64), rows)
        found[np.arange(block.start, block.stop)[:, None] == others] = np.inf
        squared[block] = np.partition(found, k - 1, axis=1)[:, k - 1]
    limit = np.sort(squared)[-n_out - 1] if n_out < len(X) else -1.0
    return np.asarray(squared > limit * (1 + _TIE))
