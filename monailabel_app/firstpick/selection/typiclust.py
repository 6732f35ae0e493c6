"""Strategy ``typiclust``: one study from the densest place of each cluster."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from firstpick.selection.clustering import MAX_CLUSTERS, kmeans_clusters, members, n_distinct
from firstpick.selection.geometry import distances, stride
from firstpick.selection.greedy import EXACT_ROWS
from firstpick.selection.result import Selection

_SMALLEST_DISTANCE = 1e-5
_DECIMALS = 5
_MOST_OTHERS = 5_000
_MOST_ASKED = 2_000
_BLOCK_ROWS = 1_000


def typiclust(
    X: NDArray[np.float32],
    n_select: int,
    *,
    labelled: NDArray[np.intp],
    candidates: NDArray[np.intp],
    rng: np.random.Generator,
    n_neighbours: int = 20,
    min_size: int = 5,
) -> Selection:
    """Pick the most typical study of each of n clusters (TypiClust).

    Parameters
    ----------
    n_neighbours : int
        A row is typical if so many neighbours in its cluster are near; half of the cluster if that is fewer.
    min_size : int
        Clusters of so many rows or fewer are left alone while others have candidates; half of the average
        cluster if that is fewer.

    Returns
    -------
    Selection
        The score is the typicality, 1 / (mean distance to the neighbours + 1e-5).

    Notes
    -----
    Hacohen et al. 2022 (arXiv 2202.02794), algorithm 1: k-means with a cluster for each labelled row and pick,
    at most 500. The next pick is the most typical candidate of the cluster with the fewest labelled rows and picks;
    of several such clusters, the largest one. Typicality is equation 1, Euclidean, 20 neighbours.

    Where we differ from the published code: k-means is seeded, has several starts and never more clusters
    than distinct rows. Clusters of 5 rows or fewer are dropped there, which ends in a crash or an exhausted cluster
    when a batch of 20 is asked of 60 rows; here the limit shrinks with the clusters, and the small ones come
    last. Picks take their turn by count, so a cluster with more labelled rows waits until the others have as many.
    A cluster's typicality is computed once, of all its rows; there, labelled and picked rows drop out of it.
    In a cluster of more than 5,000 rows neighbours are sought among 5,000 rows at even steps; of more than 20,000 rows
    in all, 2,000 candidates of each cluster at even steps are asked first, the others when these are picked.

    Examples
    --------
    Row 1 has the nearest neighbours in the larger group, row 4 in the smaller one.

    >>> X = np.array([[0], [1], [2.5], [4.5], [50], [51], [52.5]], np.float32)
    >>> nobody, all_rows = np.array([], dtype=int), np.arange(7)
    >>> picked = typiclust(X, 2, labelled=nobody, candidates=all_rows, rng=np.random.default_rng(0))
    >>> picked.indices.tolist(), picked.scores.round(2).tolist()
    ([1, 4], [0.8, 1.0])
    """
    n_clusters = n_distinct(X, min(len(labelled) + n_select, MAX_CLUSTERS))
    label = kmeans_clusters(X, n_clusters, rng).label
    n_rows = np.bincount(label, minlength=n_clusters)
    n_taken = np.bincount(label[labelled], minlength=n_clusters)
    is_small = n_rows <= min(min_size, len(X) // n_clusters // 2)
    clusters, inside = members(label, n_clusters), members(label[candidates], n_clusters)
    lowest = np.array([rows.min(initial=len(X)) for rows in clusters])
    n_left = np.array([len(positions) for positions in inside])
    queues: dict[int, Iterator[tuple[int, float]]] = {}
    n_asked = _MOST_ASKED if len(X) > EXACT_ROWS else len(X)
    picks = []
    for _ in range(n_select):
        best = int(np.lexsort((lowest, -n_rows, n_taken, is_small, n_left == 0))[0])  # the last key decides first
        if best not in queues:
            queues[best] = _most_typical(X, clusters[best], candidates[inside[best]], n_neighbours, n_asked)
        picks.append(next(queues[best]))
        n_taken[best] += 1
        n_left[best] -= 1
    rows, scores = zip(*picks, strict=True)
    return Selection(np.array(rows, dtype=np.intp), np.array(scores, dtype=np.float64))


def _most_typical(
    X: NDArray[np.float32], cluster: NDArray[np.intp], candidates: NDArray[np.intp], n_neighbours: int, n_asked: int
) -> Iterator[tuple[int, float]]:
    """Yield the candidates of a cluster, the most typical first, each with its typicality; of equals the lowest row.

    Where there are more than ``n_asked``, so many at even steps come first, then as many others.
    """
    n_steps = stride(len(candidates), n_asked)
    for some in (candidates[first::n_steps] for first in range(n_steps)):
        n_near = max(1, min(n_neighbours, len(cluster) // 2))
        away = _mean_distance(X[cluster], np.searchsorted(cluster, some), n_near)
        typicality = 1.0 / (away + _SMALLEST_DISTANCE)
        yield from ((int(some[i]), float(typicality[i])) for i in np.argsort(away, kind="stable"))


def _mean_distance(X: NDArray[np.float32], wanted: NDArray[np.intp], n_neighbours: int) -> NDArray[np.float64]:
    """Return the mean distance of the wanted rows to their nearest other rows, rounded."""
    if len(X) == 1:
        return np.ones(1)  # nothing to compare it with
    offset = X - X.mean(axis=0, dtype=np.float64)
    size = float(np.abs(offset).max()) or 1.0
    offset /= size  # distances() rounds to so many decimals
    others = np.arange(0, len(X), -(-len(X) // _MOST_OTHERS))
    targets, n_neighbours = offset[others], min(n_neighbours, len(others) - 1)
    mean = np.empty(len(wanted))
    with threadpool_limits(limits=1):  # sums of several threads depend on which finishes first
        for start in range(0, len(wanted), _BLOCK_ROWS):
            block = wanted[start : start + _BLOCK_ROWS]
            away = distances(offset[block], targets)
            away[block[:, None] == others] = np.inf  # nobody is a neighbour of their own
            nearest = np.partition(away, n_neighbours - 1, axis=1)[:, :n_neighbours]
            mean[start : start + _BLOCK_ROWS] = nearest.mean(axis=1)
    return np.asarray(np.round(mean, _DECIMALS) * size)
