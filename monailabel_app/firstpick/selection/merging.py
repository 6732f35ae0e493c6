"""Ward's agglomerative clustering of weighted rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.clustering import kmeans_clusters, mean_rows

MAX_ROWS = 5_000
_N_MICRO = 2_000
_MICRO_STEPS = 5


def micro_clusters(
    X: NDArray[np.float32], n_clusters: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float64]]:
    """Condense rows to so few that all pairs of them fit into memory.

    Parameters
    ----------
    n_clusters : int
        How many clusters are wanted in the end.
    rng : numpy.random.Generator
        Used above 5,000 rows only.

    Returns
    -------
    label : ndarray of shape (n_rows,), intp
        The condensed row that each row went into.
    centres : ndarray of shape (n_micro, dim), float32
    weight : ndarray of shape (n_micro,), float64
        How many rows went into each, 1 or more.

    Notes
    -----
    Up to 5,000 rows stay as they are. More become 2,000 (four per wanted cluster, if that is more) by
    five steps of k-means from random rows, of more than 20,000 rows one with all: they have to be small, not optimal.

    Examples
    --------
    >>> label, centres, weight = micro_clusters(np.eye(3, dtype=np.float32), 2, np.random.default_rng(0))
    >>> label.tolist(), weight.tolist()
    ([0, 1, 2], [1.0, 1.0, 1.0])
    """
    if len(X) <= MAX_ROWS:
        return np.arange(len(X)), X, np.ones(len(X))
    n_micro = min(max(_N_MICRO, 4 * n_clusters), len(X))
    found = kmeans_clusters(X, n_micro, rng, n_init=1, init="random", max_iter=_MICRO_STEPS, n_last_steps=1)
    used, label, count = np.unique(found.label, return_inverse=True, return_counts=True)
    return label.astype(np.intp), mean_rows(X, label, len(used)), count.astype(np.float64)


def ward_labels(X: NDArray[np.float32], weight: NDArray[np.float64], n_clusters: int) -> NDArray[np.intp]:
    """Merge rows, two clusters at a time, so that the squared distances to the centres grow least.

    Parameters
    ----------
    weight : ndarray of shape (n_rows,), float64
        How many points each row stands for.
    n_clusters : int
        Where to stop, from 1 to ``n_rows``.

    Returns
    -------
    ndarray of shape (n_rows,), intp
        The cluster of each row, numbered by their lowest rows.

    Notes
    -----
    Ward (1963): the cost of merging clusters of weights ``a`` and ``b`` is ``a b / (a + b)`` times the squared
    distance of their centres. Nearest-neighbour chain (Murtagh 1983) with the update of Lance & Williams (1967),
    O(n_rows²) in time and memory. SciPy's takes no weights; with weights of 1 the clusters are the same.

    Examples
    --------
    >>> X = np.array([[0], [1], [9], [11], [20]], np.float32)
    >>> ward_labels(X, np.ones(5), 2).tolist()
    [0, 0, 1, 1, 1]
    """
    parent = np.arange(len(X))
    merges = sorted(_merges(X, weight))  # the cheapest first; a cluster never costs less than those it is made of
    for _, _, child, into in merges[: len(X) - n_clusters]:
        parent[child] = into
    while (parent[parent] != parent).any():
        parent = parent[parent]
    return np.asarray(np.unique(parent, return_inverse=True)[1], dtype=np.intp)


def _merges(X: NDArray[np.float32], weight: NDArray[np.float64]) -> list[tuple[float, int, int, int]]:
    """Return cost, step, child and the lower-numbered cluster it went into, of all merges down to one cluster."""
    cost, size = _costs(X.astype(np.float64), weight), weight.copy()
    height, is_alive = np.zeros(len(X)), np.ones(len(X), dtype=np.bool_)
    merges: list[tuple[float, int, int, int]] = []
    chain: list[int] = []
    while len(merges) < len(X) - 1:
        chain = chain or [int(is_alive.argmax())]
        last = chain[-1]
        best = int(cost[last].argmin())
        if len(chain) == 1 or cost[last, best] < cost[last, chain[-2]]:
            chain.append(best)
            continue
        into, child = sorted(chain[-2:])
        del chain[-2:]
        height[into] = max(cost[into, child], height[into], height[child])  # rounding must not reverse two merges
        merges.append((float(height[into]), len(merges), child, into))
        total = size + size[into] + size[child]
        merged = (size + size[into]) * cost[into] + (size + size[child]) * cost[child] - size * cost[into, child]
        merged = np.where(is_alive, np.maximum(merged / total, 0.0), np.inf)
        size[into] += size[child]
        is_alive[child] = False
        merged[[into, child]] = np.inf
        cost[into], cost[:, into], cost[child], cost[:, child] = merged, merged, np.inf, np.inf
    return merges


def _costs(X: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what merging any two rows costs; infinity on the diagonal."""
    X = X - X.mean(axis=0)
    square = (X * X).sum(axis=1)
    cost = X @ X.T
    cost *= -2.0
    cost += square[:, None]
    cost += square
    cost *= weight[:, None] * weight
    cost /= weight[:, None] + weight
    np.maximum(cost, 0.0, out=cost)
    np.fill_diagonal(cost, np.inf)
    return np.asarray(cost)
