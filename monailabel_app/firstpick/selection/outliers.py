"""Rows that are unlike most others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.geometry import distances, distinct_rows

MAX_REFERENCE = 2000
"""Rows that distances between studies are judged by."""

_SAME = 1e-4  # distance below which a row of the reference is the study itself
_NEIGHBOURS = 5
_MIN_DISTINCT = 5  # in a pool of fewer nobody can be called unusual
_BLOCK = 4096


def unusual(rows: NDArray[Any], pool: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which rows are far from everything.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, dim), unit rows
        Some rows of the pool, or all.
    pool : ndarray of shape (n_pool, dim), unit rows

    Returns
    -------
    ndarray of shape (n_rows,), bool

    Notes
    -----
    A row is unusual if the distance to its k-th nearest neighbour is both

    - large for the pool: above the median of all by three robust deviations (1.4826 MAD), and
    - large for the place: above 1.5 times the median of the same distance of its k neighbours.

    The second keeps a loose group of its own, such as the few MR among many CT, from being called unusual
    altogether; it is the idea of the local outlier factor (Breunig 2000) with medians. ``k`` is 5, or a
    tenth of a pool of less than 50 (at least 1), so a group of its own of up to that many studies is
    unusual too. Copies of a study do not count as neighbours. Among less than 5 distinct studies none is
    unusual; among more than 2,000 the neighbours are looked for in a fixed sample.

    Examples
    --------
    >>> angles = np.radians([0, 1, 2, 3, 4, 5, 90])
    >>> rows = np.column_stack([np.cos(angles), np.sin(angles)])
    >>> unusual(rows, rows).tolist()
    [False, False, False, False, False, False, True]
    """
    reference = thinned(distinct_rows(np.asarray(pool, np.float64)))
    if len(reference) < _MIN_DISTINCT:
        return np.zeros(len(rows), dtype=np.bool_)
    k = min(_NEIGHBOURS, max(1, len(reference) // 10))
    usual = _neighbours(reference, reference, k)[1]
    middle = np.median(usual)
    deviation = 1.4826 * np.median(np.abs(usual - middle))
    found = np.zeros(len(rows), dtype=np.bool_)
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        near, own = _neighbours(np.asarray(rows[block], np.float64), reference, k)
        found[block] = (own > middle + 3 * deviation) & (own > 1.5 * np.median(usual[near], axis=1))
    return found


def thinned(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keep every second, third, ... row where there are too many."""
    return rows[:: max(1, math.ceil(len(rows) / MAX_REFERENCE))]


def _neighbours(
    rows: NDArray[np.float64], reference: NDArray[np.float64], k: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the ``k`` nearest rows of the reference, not counting the row itself, and the distance of the last."""
    found = distances(rows, reference)
    order = np.sort(np.argpartition(found, k, axis=1)[:, : k + 1], axis=1)
    found = np.take_along_axis(found, order, axis=1)
    by_distance = np.argsort(found, axis=1, kind="stable")
    order, found = np.take_along_axis(order, by_distance, axis=1), np.take_along_axis(found, by_distance, axis=1)
    first = (found[:, :1] < _SAME).astype(np.intp)
    columns = first + np.arange(k)
    return np.take_along_axis(order, columns, axis=1), np.take_along_axis(found, columns, axis=1)[:, -1]
