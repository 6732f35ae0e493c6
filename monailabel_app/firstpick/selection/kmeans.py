"""Strategy ``kmeans``: one study from the middle of each cluster."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from firstpick.selection.result import Selection

_MAX_CLUSTERS = 500


def kmeans(
    X: NDArray[np.float32],
    n_select: int,
    *,
    labelled: NDArray[np.intp],
    candidates: NDArray[np.intp],
    rng: np.random.Generator,
    n_init: int = 10,
) -> Selection:
    """Pick the study nearest to the centre of each of n clusters (k-means).

    Parameters
    ----------
    X : ndarray of shape (n_rows, dim), float32
        Finite. Rows in an order of their own content, if their listing must not matter.
    n_select : int
        At most the number of candidates.
    labelled : ndarray of shape (n_labelled,), intp
        Rows already labelled: they shape the clusters and cover the ones they are in.
    candidates : ndarray of shape (n_candidates,), intp
        Rows that may be picked, none of them labelled; the others shape the clusters all the same.
    rng : numpy.random.Generator
        Gives k-means its seed.
    n_init : int
        Starts of k-means++; the clustering with the least inertia wins.

    Returns
    -------
    Selection
        ``n_select`` unique rows. The score is the part of all rows that are in the pick's cluster.

    Notes
    -----
    There are as many clusters as labelled rows and picks together, so at least ``n_select`` of them hold
    no labelled row. Each of those gives the row nearest to its centre, the largest cluster first, so that
    every prefix of the batch is a sensible smaller batch. Ties, up to rounding, go to the lowest row.

    There are never more clusters than distinct rows, nor than 500 or ``n_select``, whichever is larger
    (500 as in TypiClust, arXiv 2202.02794). Where that leaves too few clusters without a label, the rest
    comes from the cluster with the most rows to choose from per row labelled or picked there.

    This is "ALPS" of MedCAL-Bench (arXiv 2508.03441), its best on average for segmentation, and the
    medoid rule of Yuan & Hong (arXiv 2402.02561). Here it knows about labelled rows, has an order, starts
    ten times from k-means++ instead of from one seed, and returns exactly ``n_select`` rows.

    One thread computes it, since the sums of several depend on which finishes first.

    Examples
    --------
    Three points near 0 and two near 10; the middle ones stand for them.

    >>> X = np.array([[0.0], [1.0], [2.1], [10.0], [10.2]])
    >>> nobody, all_rows = np.array([], dtype=int), np.arange(5)
    >>> picked = kmeans(X, 2, labelled=nobody, candidates=all_rows, rng=np.random.default_rng(0))
    >>> picked.indices.tolist(), picked.scores.tolist()
    ([1, 3], [0.6, 0.4])
    """
    n_clusters = min(len(labelled) + n_select, max(_MAX_CLUSTERS, n_select), _n_distinct(X))
    cluster, centres = _clusters(X, n_clusters, n_init=n_init, seed=int(rng.integers(2**31)))
    n_rows = np.bincount(cluster, minlength=n_clusters)
    n_taken = np.bincount(cluster[labelled], minlength=n_clusters)
    queues = [_nearest_first(X, candidates[cluster[candidates] == c], centres[c]) for c in range(n_clusters)]

    def urgency(c: int) -> tuple[bool, float, int]:
        is_free = n_taken[c] == 0
        return is_free, n_rows[c] if is_free else len(queues[c]) / n_taken[c], -queues[c][0]

    picks, scores = [], []
    for _ in range(n_select):
        best = max((c for c in range(n_clusters) if queues[c]), key=urgency)
        picks.append(queues[best].pop(0))
        scores.append(n_rows[best] / len(X))
        n_taken[best] += 1
    return Selection(np.array(picks, dtype=np.intp), np.array(scores, dtype=np.float64))


def _clusters(
    X: NDArray[np.float32], n_clusters: int, *, n_init: int, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the cluster of every row, and the centres; a cluster may be empty among near-equal rows."""
    from sklearn.cluster import KMeans  # noqa: PLC0415 - a server must start without it
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415

    model = KMeans(n_clusters, n_init=n_init, random_state=seed, algorithm="lloyd")
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # rows that differ by rounding only: fewer clusters
        model.fit(X)
    return model.labels_.astype(np.intp), model.cluster_centers_


def _n_distinct(X: NDArray[np.float32]) -> int:
    """Count the rows that differ by more than rounding."""
    largest = np.abs(X).max() or 1.0
    return len(np.unique(np.round(X / largest, 6), axis=0))


def _nearest_first(X: NDArray[np.float32], rows: NDArray[np.intp], centre: NDArray[np.float32]) -> list[int]:
    """Sort the rows of one cluster by their distance to its centre."""
    distance = np.linalg.norm(X[rows] - centre, axis=1)
    farthest = distance.max(initial=0.0) or 1.0
    order = np.argsort(np.round(distance / farthest, 5), kind="stable")  # both of a pair are equally near
    return [int(row) for row in rows[order]]
