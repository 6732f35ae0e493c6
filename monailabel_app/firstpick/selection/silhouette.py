"""Strategy ``silhouette``: the pool's own number of clusters, spread out inside each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from firstpick.selection.clustering import Clusters, distance_to_centre, kmeans_clusters, members, n_distinct
from firstpick.selection.geometry import in_blocks
from firstpick.selection.queues import nearest_first
from firstpick.selection.result import Selection

_SAMPLE_ROWS = 2_000
_DECIMALS = 5


def silhouette(
    X: NDArray[np.float32],
    n_select: int,
    *,
    labelled: NDArray[np.intp],
    candidates: NDArray[np.intp],
    rng: np.random.Generator,
    k_max: int = 10,
) -> Selection:
    """Pick the medoid of each natural cluster, then what is farthest from the picks in it.

    Parameters
    ----------
    k_max : int
        The most clusters that are tried.

    Returns
    -------
    Selection
        The score is the part of all rows that are in the pick's cluster.

    Notes
    -----
    Levy et al. 2026 (arXiv 2601.18532): the number of clusters, from 2, is the one with the best mean silhouette
    (the fewest of several); each cluster gives its medoid, the largest first; the rest of the budget is shared out
    in proportion to the clusters' sizes by largest remainder, and spent inside each by farthest-point sampling.
    Here seats are filled one by one, always in the cluster that is farthest below its due: the same numbers,
    with labelled rows as seats that are taken, clusters that run out, and an order that makes sense.

    Where we differ: we cluster the features as they are scaled, not their t-SNE in the plane, whose distances mean
    little; the medoid is the row nearest to the centre. Above 2,000 rows the silhouette is that of a
    sample of 2,000, the same for every number of clusters. Farthest-point sampling favours outliers.

    Examples
    --------
    Two groups; each gives its middle, then the end that is farthest from it, the lower one of two.

    >>> X = np.array([[0], [1], [2], [3], [4], [50], [51]], np.float32)
    >>> nobody, all_rows = np.array([], dtype=int), np.arange(7)
    >>> picked = silhouette(X, 4, labelled=nobody, candidates=all_rows, rng=np.random.default_rng(0))
    >>> picked.indices.tolist()
    [2, 5, 0, 6]
    """
    clusters = _natural_clusters(X, k_max, rng)
    label, n_clusters = clusters.label, len(clusters.centres)
    n_rows = np.bincount(label, minlength=n_clusters)
    n_taken = np.bincount(label[labelled], minlength=n_clusters)
    n_spare = max(0, len(labelled) + n_select - n_clusters)
    due = 1 + n_spare * n_rows / len(X)
    lowest = np.array([rows.min(initial=len(X)) for rows in members(label, n_clusters)])
    free, taken = (_by_cluster(rows, label, n_clusters) for rows in (candidates, labelled))
    distance = distance_to_centre(X, clusters)
    queues = [_medoid_then_farthest(X, *rows, distance) for rows in zip(free, taken, strict=True)]
    n_left = np.array([len(rows) for rows in free])
    picks, scores = [], []
    for _ in range(n_select):
        behind = np.round(due - n_taken, _DECIMALS)
        best = int(np.lexsort((lowest, -n_rows, -behind, n_taken > 0, n_left == 0))[0])  # the last key decides first
        picks.append(next(queues[best]))
        scores.append(n_rows[best] / len(X))
        n_taken[best] += 1
        n_left[best] -= 1
    return Selection(np.array(picks, dtype=np.intp), np.array(scores, dtype=np.float64))


def _natural_clusters(X: NDArray[np.float32], k_max: int, rng: np.random.Generator) -> Clusters:
    """Return the clusters with the best silhouette; one cluster where no two are far apart."""
    from sklearn.metrics import pairwise_distances, silhouette_score  # noqa: PLC0415 - a server must start without it

    sample = np.sort(rng.permutation(len(X))[:_SAMPLE_ROWS])
    with threadpool_limits(limits=1):  # sums of several threads depend on which finishes first
        distances = pairwise_distances(X[sample])
    best, best_score = Clusters(np.zeros(len(X), np.intp), X.mean(axis=0, keepdims=True)), -np.inf
    for k in range(2, n_distinct(X, k_max) + 1):
        clusters = kmeans_clusters(X, k, rng)
        label = clusters.label[sample]
        if 1 < len(np.unique(label)) < len(sample):  # or there is no silhouette
            score = round(float(silhouette_score(distances, label, metric="precomputed")), _DECIMALS)
            if score > best_score:
                best, best_score = clusters, score
    return best


def _by_cluster(rows: NDArray[np.intp], label: NDArray[np.intp], n_clusters: int) -> list[NDArray[np.intp]]:
    return [rows[positions] for positions in members(label[rows], n_clusters)]


def _medoid_then_farthest(
    X: NDArray[np.float32], free: NDArray[np.intp], taken: NDArray[np.intp], distance: NDArray[np.float32]
) -> Iterator[int]:
    """Yield the free rows of a cluster, each time the one farthest from all before it and from the labelled ones."""
    gap = np.full(len(free), np.inf)
    for row in taken:
        gap = np.minimum(gap, _distance_to(X[row], X, free))
    for _ in free:
        if np.isinf(gap).all():  # nothing is taken yet
            pick = int(np.searchsorted(free, nearest_first(free, distance)[0]))
        else:
            pick = int(np.round(gap / (gap.max() or 1.0), _DECIMALS).argmax())
        yield int(free[pick])
        gap = np.minimum(gap, _distance_to(X[free[pick]], X, free))
        gap[pick] = -1.0  # behind exact copies of what is taken


def _distance_to(point: NDArray[np.float32], X: NDArray[np.float32], rows: NDArray[np.intp]) -> NDArray[np.float32]:
    away = np.empty(len(rows), np.float32)
    for block in in_blocks(len(rows), X.shape[1]):
        away[block] = np.linalg.norm(X[rows[block]] - point, axis=1)
    return away
