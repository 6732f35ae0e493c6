"""Strategy ``kmeans``: one study from the middle of each cluster."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.clustering import distance_to_centre, kmeans_clusters, n_clusters_for
from firstpick.selection.queues import largest_free_first
from firstpick.selection.result import Selection


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
    n_init : int
        Starts of k-means++, of which the one with the least inertia wins, see
        `firstpick.selection.clustering.kmeans_clusters`.

    Returns
    -------
    Selection
        The score is the part of all rows that are in the pick's cluster.

    Notes
    -----
    There are as many clusters as labelled rows and picks together, so at least ``n_select`` of them hold no labelled
    row. Each of those gives the row nearest to its centre, the largest cluster first, so that every prefix of the
    batch is a sensible smaller batch. Where there are fewer, see `firstpick.selection.clustering.n_clusters_for`, the
    rest comes as in `firstpick.selection.queues.largest_free_first`.

    This is "ALPS" of MedCAL-Bench (arXiv 2508.03441), its best on average for segmentation, and the
    medoid rule of Yuan & Hong (arXiv 2402.02561). Here it knows about labelled rows, has an order, starts
    several times from k-means++ instead of from one seed, and returns exactly ``n_select`` rows.

    Examples
    --------
    Three points near 0 and two near 10; the middle ones stand for them, the lower one of two equally near.

    >>> X = np.array([[0.0], [1.0], [2.1], [10.0], [11.0]], np.float32)
    >>> nobody, all_rows = np.array([], dtype=int), np.arange(5)
    >>> picked = kmeans(X, 2, labelled=nobody, candidates=all_rows, rng=np.random.default_rng(0))
    >>> picked.indices.tolist(), picked.scores.tolist()
    ([1, 3], [0.6, 0.4])
    """
    clusters = kmeans_clusters(X, n_clusters_for(X, len(labelled), n_select), rng, n_init=n_init)
    distance = distance_to_centre(X, clusters)
    return largest_free_first(clusters.label, distance, n_select, labelled=labelled, candidates=candidates)
