"""Strategy ``ward``: one study from the middle of each cluster of a hierarchy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from firstpick.selection.clustering import Clusters, distance_to_centre, mean_rows, n_clusters_for
from firstpick.selection.merging import micro_clusters, ward_labels
from firstpick.selection.queues import largest_free_first
from firstpick.selection.result import Selection


def ward(
    X: NDArray[np.float32],
    n_select: int,
    *,
    labelled: NDArray[np.intp],
    candidates: NDArray[np.intp],
    rng: np.random.Generator,
) -> Selection:
    """Pick the study nearest to the centre of each of n clusters (Ward's hierarchy).

    Returns
    -------
    Selection
        The score is the part of all rows that are in the pick's cluster.

    Notes
    -----
    Ward (1963), minimum variance. There are as many clusters, and rows are picked from them, as in
    `firstpick.selection.kmeans.kmeans`: the middle of each cluster without a labelled row, the largest first.
    Nothing is drawn by lot, so up to 5,000 rows the seed does not matter. More rows are first condensed to 2,000
    weighted ones, see `firstpick.selection.merging.micro_clusters`, since a hierarchy needs all pairs.

    The clusters of a larger batch are parts of those of a smaller one, but their middles are others, so batches are not
    nested. COLosSAL (arXiv 2307.12004) takes a random member of each agglomerative cluster; here it is the middle one.

    Examples
    --------
    Three points near 0 and two near 10; the middle ones stand for them, the lower one of two equally near.

    >>> X = np.array([[0.0], [1.0], [2.1], [10.0], [11.0]], np.float32)
    >>> nobody, all_rows = np.array([], dtype=int), np.arange(5)
    >>> picked = ward(X, 2, labelled=nobody, candidates=all_rows, rng=np.random.default_rng(0))
    >>> picked.indices.tolist(), picked.scores.tolist()
    ([1, 3], [0.6, 0.4])
    """
    n_clusters = n_clusters_for(X, len(labelled), n_select)
    micro, centres, weight = micro_clusters(X, n_clusters, rng)
    with threadpool_limits(limits=1):  # sums of several threads depend on which finishes first
        label = ward_labels(centres, weight, min(n_clusters, len(centres)))[micro]
    clusters = Clusters(label, mean_rows(X, label, int(label.max()) + 1))
    distance = distance_to_centre(X, clusters)
    return largest_free_first(label, distance, n_select, labelled=labelled, candidates=candidates)
