"""Strategy ``yuan_hong``: the medoids of two clusters, of three, of four, and so on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.clustering import distance_to_centre, kmeans_clusters, members, n_distinct
from firstpick.selection.queues import nearest_first
from firstpick.selection.result import Selection

_N_INIT = 10


def yuan_hong(
    X: NDArray[np.float32],
    n_select: int,
    *,
    labelled: NDArray[np.intp],
    candidates: NDArray[np.intp],
    rng: np.random.Generator,
    k_max: int = 50,
) -> Selection:
    """Pick the medoids of 2 clusters, then of 3, of 4, and so on (Yuan & Hong).

    Parameters
    ----------
    k_max : int
        Up to here the number of clusters grows by one. If that gives too few rows, it grows by a tenth at a
        time from there on, since the paper says nothing about more.

    Returns
    -------
    Selection
        The score is 1 / k for a medoid first found among k clusters, and 0 for the rows that were passed over.

    Notes
    -----
    The seed paper, arXiv 2402.02561: k-means with ten random starts for k = 2, 3, ..., 50; the row nearest to
    each centre joins the list unless it is there already; a batch of n is the first n of the list. Within one k
    the order is that in which k-means numbers its clusters. The paper standardises the features first: ask for
    the scaling ``standardise``. It has one seed; here the seed is the caller's.

    Where we differ: clustering stops as soon as the list is long enough. The row nearest to a centre is sought in
    the centre's own cluster, not among all rows. A medoid that is labelled is left out; one whose cluster holds
    a labelled row waits until the clusters have nothing else to give, as do the rows that are nobody's medoid,
    which follow at the end from the lowest up.

    Examples
    --------
    The middles of the two groups come first.

    >>> X = np.array([[0], [1], [2], [50], [51], [52], [54]], np.float32)
    >>> nobody, all_rows = np.array([], dtype=int), np.arange(7)
    >>> picked = yuan_hong(X, 2, labelled=nobody, candidates=all_rows, rng=np.random.default_rng(0))
    >>> sorted(picked.indices.tolist()), picked.scores.tolist()
    ([1, 5], [0.5, 0.5])
    """
    rng = rng.spawn(1)[0]  # what is left of the caller's must not depend on n_select, or guards could not keep a prefix
    may_be_medoid = np.union1d(candidates, labelled)
    is_labelled = np.zeros(len(X), dtype=np.bool_)
    is_labelled[labelled] = True
    found: dict[int, float] = {}
    passed_over: dict[int, float] = {}
    for k in _cluster_counts(k_max, n_distinct(X)):
        for medoid, is_covered in _medoids(X, k, may_be_medoid, is_labelled, rng):
            if not is_labelled[medoid]:
                (passed_over if is_covered else found).setdefault(medoid, 1.0 / k)
        if len(found) >= n_select:
            break
    rest = (row for row in [*passed_over, *candidates.tolist()] if row not in found)
    picks = found | dict.fromkeys(rest, 0.0)  # in the order in which they came
    rows, scores = list(picks)[:n_select], list(picks.values())[:n_select]
    return Selection(np.array(rows, dtype=np.intp), np.array(scores, dtype=np.float64))


def _cluster_counts(k_max: int, n_most: int) -> Iterator[int]:
    k = 2
    while k <= n_most:
        yield k
        k += 1 if k < k_max else max(1, k // 10)


def _medoids(
    X: NDArray[np.float32],
    k: int,
    rows: NDArray[np.intp],
    is_labelled: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Iterator[tuple[int, bool]]:
    """Yield the row nearest to the centre of each of k clusters, and whether the cluster holds a labelled row."""
    clusters = kmeans_clusters(X, k, rng, n_init=_N_INIT, init="random")
    covered = set(clusters.label[is_labelled].tolist())
    distance = distance_to_centre(X, clusters)
    for c, positions in enumerate(members(clusters.label[rows], k)):
        if len(positions):
            yield int(nearest_first(rows[positions], distance)[0]), c in covered
