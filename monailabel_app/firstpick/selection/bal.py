"""Strategy ``bal``: studies that are clearly of their cluster and of no other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from firstpick.selection.clustering import first_of_each, kmeans_clusters
from firstpick.selection.geometry import distances
from firstpick.selection.result import Selection

_DECIMALS = 5
_BLOCK_ROWS = 10_000


def bal(
    X: NDArray[np.float32],
    n_select: int,
    *,
    labelled: NDArray[np.intp],
    candidates: NDArray[np.intp],
    rng: np.random.Generator,
    n_clusters: int = 100,
) -> Selection:
    """Pick the studies that are much nearer to their own cluster than to the next (BAL).

    Parameters
    ----------
    n_clusters : int
        However many picks; never more than half of the distinct rows, or every row would be its own centre.

    Returns
    -------
    Selection
        The score is how much farther the second nearest centre is than the nearest.

    Notes
    -----
    What MedCAL-Bench (arXiv 2508.03441) calls BAL: k-means with 100 clusters, and the rows with the largest
    difference between the distances to the second and to the nearest centre. The original (BAL, "cluster
    distance difference") has a cluster for each class, learns its features, and samples along the scale.

    Where we differ: rows whose cluster holds a labelled row come after all others, and exact copies of a row
    that is labelled or came before come last. Nothing keeps two picks apart, and an outlier that is its own centre
    has the largest difference of all: a strategy to compare with.

    Examples
    --------
    With the centres 1 and 11, the rows 0, 1 and 12 are 10 nearer to theirs, the others 8.

    >>> X = np.array([[0], [1], [2], [10], [12]], np.float32)
    >>> nobody, all_rows = np.array([], dtype=int), np.arange(5)
    >>> picked = bal(X, 2, labelled=nobody, candidates=all_rows, rng=np.random.default_rng(0), n_clusters=2)
    >>> picked.indices.tolist(), picked.scores.round(3).tolist()
    ([0, 1], [10.0, 10.0])
    """
    first = first_of_each(X)
    n_clusters = max(1, min(n_clusters, len(np.unique(first)) // 2))
    clusters = kmeans_clusters(X, n_clusters, rng)
    gap = _gap(X, candidates, clusters.centres)
    is_covered = np.isin(clusters.label[candidates], clusters.label[labelled])
    is_copy = np.isin(first[candidates], first[labelled])
    lowest = np.unique(first[candidates], return_index=True)[1]
    is_copy |= ~np.isin(np.arange(len(candidates)), lowest)
    order = np.lexsort((-gap, is_covered, is_copy))[:n_select]  # the last key decides first; ties stay as they are
    return Selection(candidates[order], gap[order])


def _gap(X: NDArray[np.float32], rows: NDArray[np.intp], centres: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how much farther the second centre is from some rows than the nearest, 0 where there is one only."""
    gap = np.zeros(len(rows))
    if len(centres) == 1:
        return gap
    blocks = [rows[start : start + _BLOCK_ROWS] for start in range(0, len(rows), _BLOCK_ROWS)]
    largest = max(float(np.abs(X[block]).max()) for block in blocks)
    size = max(largest, float(np.abs(centres).max())) or 1.0  # distances() rounds to so many decimals
    with threadpool_limits(limits=1):  # sums of several threads depend on which finishes first
        for place, block in enumerate(blocks):
            away = distances(X[block].astype(np.float64) / size, centres.astype(np.float64) / size)
            nearest = np.partition(away, 1, axis=1)
            gap[place * _BLOCK_ROWS :][: len(block)] = nearest[:, 1] - nearest[:, 0]
    return np.asarray(np.round(gap, _DECIMALS) * size)
