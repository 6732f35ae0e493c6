"""Strategy ``calr``: the study most like all others of its cluster."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from firstpick.selection.clustering import mean_rows, n_clusters_for
from firstpick.selection.geometry import in_blocks, unit_rows
from firstpick.selection.merging import micro_clusters, ward_labels
from firstpick.selection.queues import largest_free_first
from firstpick.selection.result import Selection


def calr(
    X: NDArray[np.float32],
    n_select: int,
    *,
    labelled: NDArray[np.intp],
    candidates: NDArray[np.intp],
    rng: np.random.Generator,
    threshold: float = 0.5,
) -> Selection:
    """Pick the study most like the others of each of n clusters (CALR, BIRCH).

    Parameters
    ----------
    threshold : float
        BIRCH joins rows into one subcluster while its radius is below this; halved until there are as many
        subclusters as clusters are wanted.

    Returns
    -------
    Selection
        The score is the part of all rows that are in the pick's cluster.

    Notes
    -----
    CALR as in the code of MedCAL-Bench (arXiv 2508.03441): BIRCH (Zhang et al. 1996; scikit-learn's, threshold
    0.5) condenses the rows to subclusters, whose means Ward's method merges to as many clusters as picks; each
    gives the member with the highest mean cosine similarity to its cluster, itself included.

    Where we differ: clusters are as many, and rows are picked from them, as in `firstpick.selection.kmeans.kmeans`.
    Where the threshold leaves fewer subclusters than picks, it returns too few rows there; here it is halved.
    BIRCH depends on the order of the rows; ours is that of their content. More than 5,000 rows are first condensed
    to 2,000, see `firstpick.selection.merging.micro_clusters`; up to there nothing is drawn by lot.

    Examples
    --------
    Directions at 0, 10 and 30 degrees, and two at 90 and 100; the one in the middle is the most alike.

    >>> angle = np.radians([0, 10, 30, 90, 100])
    >>> X = np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)
    >>> nobody, all_rows = np.array([], dtype=int), np.arange(5)
    >>> picked = calr(X, 2, labelled=nobody, candidates=all_rows, rng=np.random.default_rng(0))
    >>> picked.indices.tolist()
    [1, 3]
    """
    n_clusters = n_clusters_for(X, len(labelled), n_select)
    micro, centres, _ = micro_clusters(X, n_clusters, rng)
    with threadpool_limits(limits=1):  # sums of several threads depend on which finishes first
        label = _birch_labels(centres, min(n_clusters, len(centres)), threshold)[micro]
    unit = np.empty_like(X)
    for block in in_blocks(*X.shape):
        unit[block] = unit_rows(X[block])
    middle = mean_rows(unit, label, int(label.max()) + 1)
    similarity = np.empty(len(X), np.float32)
    for block in in_blocks(*X.shape):
        similarity[block] = np.einsum("ij,ij->i", unit[block], middle[label[block]])
    distance = np.maximum(1.0 - similarity, 0.0)
    return largest_free_first(label, distance, n_select, labelled=labelled, candidates=candidates)


def _birch_labels(X: NDArray[np.float32], n_clusters: int, threshold: float) -> NDArray[np.intp]:
    """Return the cluster of every row: BIRCH's subclusters, merged by Ward's method."""
    from sklearn.cluster import Birch  # noqa: PLC0415 - a server must start without it

    smallest = float(np.abs(X).max()) * 1e-7  # nothing is nearer than rounding
    while True:
        model = Birch(threshold=threshold, n_clusters=None).fit(X)
        n_found = len(model.subcluster_centers_)
        if n_found >= n_clusters or threshold <= smallest:
            break
        threshold /= 2
    merged = ward_labels(model.subcluster_centers_, np.ones(n_found), min(n_clusters, n_found))
    return np.asarray(merged[model.labels_], dtype=np.intp)
