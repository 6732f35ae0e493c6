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
    X : ndarray of shape (n_rows, dim), float32
        Finite. Rows in an order of their own content, if their listing must not matter.
    n_select : int
        At most the number of candidates.
    labelled : ndarray of shape (n_labelled,), intp
        Rows already labelled: they shape the clusters and cover the ones they are in.
    candidates : ndarray of shape (n_candidates,), intp
        Rows that may be picked, none of them labelled; the others shape the clusters all the same.
    rng : numpy.random.Generator
        Gives k-means its seeds.
    n_init : int
        Starts of k-means++, of which the one with the least inertia wins; above 2,000 rows, on a sample of the rows,
        see `firstpick.selection.clustering.kmeans_clusters`.

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
    several times from k-means++ instead of from one seed, and returns exactly ``n_select`` rows.

    A larger batch does not begin with the smaller one: it has other clusters. On more than 20,000 rows the
    clusters are approximate, see `firstpick.selection.clustering.kmeans_clusters`.

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
