"""The picking rule that strategies with clusters share: a queue in each, the largest free cluster first."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.clustering import members
from firstpick.selection.result import Selection

_DECIMALS = 5


def largest_free_first(
    label: NDArray[np.intp],
    distance: NDArray[Any],
    n_select: int,
    *,
    labelled: NDArray[np.intp],
    candidates: NDArray[np.intp],
) -> Selection:
    """Pick the middle of each cluster without a label, the largest cluster first.

    Parameters
    ----------
    label : ndarray of shape (n_rows,), intp
        The cluster of each row.
    distance : ndarray of shape (n_rows,), float
        How far each row is from the middle of its cluster, 0 or more.

    Returns
    -------
    Selection
        The score is the part of all rows that are in the pick's cluster.

    Notes
    -----
    Where there are too few clusters without a label, the rest comes from the cluster with the most rows to
    choose from per row labelled or picked there. Ties, up to rounding, go to the lowest row.

    Examples
    --------
    Two rows in cluster 0, three in cluster 1; row 3 is the middle of the larger one.

    >>> label, distance = np.array([0, 0, 1, 1, 1]), np.array([0.0, 1.0, 2.0, 0.5, 1.5])
    >>> picked = largest_free_first(label, distance, 3, labelled=np.array([], int), candidates=np.arange(5))
    >>> picked.indices.tolist(), picked.scores.tolist()
    ([3, 0, 4], [0.6, 0.4, 0.6])
    """
    n_clusters = int(label.max()) + 1
    n_rows = np.bincount(label)
    n_taken = np.bincount(label[labelled], minlength=n_clusters)
    inside = members(label[candidates], n_clusters)
    queues = [nearest_first(candidates[positions], distance)[::-1].tolist() for positions in inside]

    def urgency(c: int) -> tuple[bool, float, int, int]:  # the heap gives its smallest first
        is_free = n_taken[c] == 0
        return not is_free, -float(n_rows[c] if is_free else len(queues[c]) / n_taken[c]), queues[c][-1], c

    heap = [urgency(c) for c in range(n_clusters) if queues[c]]
    heapq.heapify(heap)
    picks, scores = [], []
    for _ in range(n_select):
        best = heapq.heappop(heap)[-1]
        picks.append(queues[best].pop())
        scores.append(n_rows[best] / len(label))
        n_taken[best] += 1
        if queues[best]:
            heapq.heappush(heap, urgency(best))
    return Selection(np.array(picks, dtype=np.intp), np.array(scores, dtype=np.float64))


def nearest_first(rows: NDArray[np.intp], distance: NDArray[Any]) -> NDArray[np.intp]:
    """Sort rows by a distance of theirs; ties, up to a hundred-thousandth of the largest, stay as they are.

    Examples
    --------
    >>> nearest_first(np.array([0, 1, 2]), np.array([0.2000001, 0.2, 0.1])).tolist()
    [2, 0, 1]
    """
    own = distance[rows]
    farthest = own.max(initial=0.0) or 1.0
    return np.asarray(rows[np.argsort(np.round(own / farthest, _DECIMALS), kind="stable")])
