"""Clusters of rows by k-means, in bounded memory and the same on any number of threads."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from firstpick.selection.geometry import equal_runs, in_blocks

MAX_CLUSTERS = 500
_START_ROWS = 2_000
_SAMPLE_ROWS = 20_000
_ROWS_PER_CLUSTER = 10
_WORTH_THREADS = 10**7  # numbers times clusters: below, waiting for threads takes longer than the work
_ROUNDING = 6


@dataclass(frozen=True)
class Clusters:
    """A partition of rows.

    Attributes
    ----------
    label : ndarray of shape (n_rows,), intp
        The cluster of each row, counted from 0.
    centres : ndarray of shape (n_clusters, dim), float32
        A cluster may be empty where rows differ by rounding only.
    """

    label: NDArray[np.intp]
    centres: NDArray[np.float32]


def kmeans_clusters(
    X: NDArray[np.float32],
    n_clusters: int,
    rng: np.random.Generator,
    *,
    n_init: int = 10,
    init: str = "k-means++",
    max_iter: int = 300,
    n_last_steps: int = 5,
) -> Clusters:
    """Cluster rows by k-means, the best of several starts.

    Parameters
    ----------
    n_clusters : int
        At most the number of distinct rows, see `n_distinct`.
    rng : numpy.random.Generator
        Gives every start its seed.
    n_init : int
        Starts, of which the one with the least inertia wins.
    init : str
        ``k-means++`` or ``random``.
    max_iter : int
        Lloyd steps of one start.
    n_last_steps : int
        Lloyd steps on all of more than 20,000 rows.

    Notes
    -----
    The starts run side by side in as many threads as joblib's ``parallel_config`` allows (one, unless the caller
    says otherwise), each start in one thread: the sums of several depend on which finishes first. k-means++ is the
    greedy one (Arthur & Vassilvitskii 2007, section 5) with 2 + log(n_clusters) trials, as in scikit-learn, in
    float32 and several times as fast; the Lloyd steps are scikit-learn's.

    Of more than 2,000 rows, the starts see a random sample of 2,000 (of 10 per cluster, if that is more); the best
    one goes on with all rows. On blobs that overlap this ends nearer to the optimum than a few starts on all rows,
    in the time of two or three. Of more than 20,000 rows, it goes on with a sample of 20,000, and the centres found
    there take ``n_last_steps`` on all rows, in blocks and without a copy of them. The inertia is
    within 1 % of what all rows give where the starts agree on the optimum; a cluster with a few rows in a thousand may
    be missed.

    Examples
    --------
    >>> X = np.array([[0], [1], [10], [12]], np.float32)
    >>> found = kmeans_clusters(X, 2, np.random.default_rng(0))
    >>> sorted(found.centres.ravel().tolist()), bool(found.label[0] == found.label[1])
    ([0.5, 11.0], True)
    """
    from joblib import Parallel, delayed  # noqa: PLC0415 - a server must start without it
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415

    X = np.ascontiguousarray(X, np.float32)
    seeds = rng.integers(2**31, size=n_init)
    few, many = (_some(X, max(n_rows, _ROWS_PER_CLUSTER * n_clusters), rng) for n_rows in (_START_ROWS, _SAMPLE_ROWS))
    # The limit of BLAS and the filter of warnings belong to the whole process: set here, before the threads start.
    threads = _thread_pools()
    with threads.limit(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # rows that differ by rounding only: fewer clusters
        tasks = (delayed(_one_start)(few, n_clusters, int(seed), init, max_iter, threads) for seed in seeds)
        is_small = few.size * n_clusters < _WORTH_THREADS
        found = Parallel(prefer="threads", n_jobs=1 if is_small else None)(tasks)
        _, label, centres = found[int(np.argmin([inertia for inertia, _, _ in found]))]
        if len(many) > len(label):
            _, label, centres = _one_start(many, n_clusters, 0, centres, max_iter, threads)
        if len(X) > len(label):
            return _settled(X, centres, n_last_steps)
    return Clusters(label.astype(np.intp), centres)


def _some(X: NDArray[np.float32], n_rows: int, rng: np.random.Generator) -> NDArray[np.float32]:
    return X if len(X) <= n_rows else X[np.sort(rng.choice(len(X), n_rows, replace=False))]


@functools.cache
def _thread_pools() -> ThreadpoolController:
    """The thread pools of numpy and scikit-learn; looking for them takes longer than a small clustering."""
    import sklearn.cluster  # noqa: F401, PLC0415 - loads its own

    return ThreadpoolController()


def _one_start(
    X: NDArray[np.float32],
    n_clusters: int,
    seed: int,
    init: str | NDArray[np.float32],
    max_iter: int,
    threads: ThreadpoolController,
) -> tuple[float, NDArray[np.int32], NDArray[np.float32]]:
    from sklearn.cluster import KMeans  # noqa: PLC0415

    if isinstance(init, str) and init == "k-means++":
        init = _plus_plus(X, n_clusters, np.random.default_rng(seed))
    model = KMeans(n_clusters, init=init, n_init=1, max_iter=max_iter, random_state=seed, algorithm="lloyd")
    with threads.limit(limits=1, user_api="openmp"):  # a new thread starts with a limit of its own
        model.fit(X)
    return float(model.inertia_), model.labels_, model.cluster_centers_


def _settled(X: NDArray[np.float32], centres: NDArray[np.float32], n_steps: int) -> Clusters:
    """Move centres to the means of the rows that are nearest to them, so many times.

    A cluster without rows takes the row that is farthest from its centre, as in scikit-learn.
    """
    label = _nearest_centre(X, centres)
    for _ in range(n_steps):
        empty = np.flatnonzero(np.bincount(label, minlength=len(centres)) == 0)
        if len(empty):
            farthest = np.argsort(-distance_to_centre(X, Clusters(label, centres)), kind="stable")[: len(empty)]
            label[farthest] = empty
        moved = mean_rows(X, label, len(centres))
        if np.array_equal(moved, centres):
            break
        centres = moved
        label = _nearest_centre(X, centres)
    return Clusters(label, centres)


def _nearest_centre(X: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.intp]:
    """Find the nearest centre of every row, block by block in as many threads as joblib allows."""
    from joblib import Parallel, delayed  # noqa: PLC0415

    middle = centres.mean(axis=0, dtype=np.float64)
    offset = centres - middle  # small numbers lose less in the differences of squares below
    square = (np.einsum("ij,ij->i", offset, offset) + 2 * offset @ middle).astype(np.float32)
    towards = np.ascontiguousarray(-2 * offset.T, np.float32)
    label = np.empty(len(X), np.intp)

    def find(block: slice) -> None:
        label[block] = (X[block] @ towards + square).argmin(axis=1)

    Parallel(require="sharedmem")(delayed(find)(block) for block in in_blocks(len(X), max(centres.shape)))
    return label


def _plus_plus(X: NDArray[np.float32], n_clusters: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw rows far from each other, of a few at a time the one that leaves the least (greedy k-means++)."""
    offset = X - X.mean(axis=0)  # small numbers lose less in the differences of squares below
    square = np.einsum("ij,ij->i", offset, offset)
    n_trials = 2 + int(np.log(n_clusters))
    drawn: list[int] = []
    nearest = np.full(len(X), np.inf, np.float32)
    for _ in range(n_clusters):
        if drawn:
            upto = np.cumsum(nearest, dtype=np.float64)
            trials = np.searchsorted(upto, rng.random(n_trials) * upto[-1], side="right").clip(max=len(X) - 1)
        else:
            trials = rng.integers(len(X), size=1)
        away = offset[trials] @ offset.T
        away *= -2
        away += square[trials, None] + square
        np.minimum(away, nearest, out=away)
        np.maximum(away, 0, out=away)
        best = int(away.sum(axis=1).argmin())
        drawn.append(int(trials[best]))
        nearest = away[best]
    return X[drawn]


def first_of_each(X: NDArray[np.float32]) -> NDArray[np.intp]:
    """Find for every row the lowest row that equals it, up to a millionth of the largest value of all.

    Examples
    --------
    >>> first_of_each(np.array([[1.0], [2.0], [1.0000001]])).tolist()
    [0, 1, 0]
    """
    order, is_new = equal_runs(_rounded(X, _largest(X)))
    first = np.empty(len(X), np.intp)
    first[order] = order[is_new][np.cumsum(is_new) - 1]  # equal rows keep their order: the lowest is the first
    return first


def _largest(X: NDArray[np.float32]) -> float:
    return max(float(X.max(initial=0.0)), -float(X.min(initial=0.0))) or 1.0


def _rounded(X: NDArray[np.float32], largest: float) -> NDArray[np.int32]:
    """Count in millionths of the largest value."""
    whole = np.empty(X.shape, np.int32)
    for block in in_blocks(*X.shape):
        whole[block] = np.rint(X[block] / X.dtype.type(largest) * X.dtype.type(10**_ROUNDING))
    return whole


def n_distinct(X: NDArray[np.float32], most: int | None = None) -> int:
    """Count the rows that differ by more than rounding, see `first_of_each`; as far as ``most``, if that is given.

    Examples
    --------
    >>> X = np.array([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0]])
    >>> n_distinct(X), n_distinct(X, 1)
    (2, 1)
    """
    largest = _largest(X)
    if most is None:
        return int(equal_runs(_rounded(X, largest))[1].sum())
    seen: set[bytes] = set()
    step = max(1, most)  # a pool of embeddings has hardly any row twice
    for start in range(0, len(X), step):
        seen.update(row.tobytes() for row in _rounded(X[start : start + step], largest))
        if len(seen) >= most:
            return most
    return len(seen)


def n_clusters_for(X: NDArray[np.float32], n_labelled: int, n_select: int) -> int:
    """Return how many clusters it takes for every pick to have one without a label.

    Labelled rows and picks together, but never more than distinct rows, nor than 500 or ``n_select``, whichever is
    larger (500 as in TypiClust, arXiv 2202.02794).

    Examples
    --------
    >>> n_clusters_for(np.arange(9.0)[:, None], 3, 2), n_clusters_for(np.zeros((9, 1)), 3, 2)
    (5, 1)
    """
    return n_distinct(X, min(n_labelled + n_select, max(MAX_CLUSTERS, n_select)))


def members(label: NDArray[np.intp], n_clusters: int) -> list[NDArray[np.intp]]:
    """List the rows of each cluster, lowest first; none for a cluster without rows.

    Examples
    --------
    >>> [rows.tolist() for rows in members(np.array([1, 0, 1]), 3)]
    [[1], [0, 2], []]
    """
    ends = np.cumsum(np.bincount(label, minlength=n_clusters))
    return [rows.astype(np.intp) for rows in np.split(np.argsort(label, kind="stable"), ends[:-1])]


def mean_rows(X: NDArray[np.float32], label: NDArray[np.intp], n_clusters: int) -> NDArray[np.float32]:
    """Return the mean of the rows of each cluster, zeros for one without rows.

    Examples
    --------
    >>> mean_rows(np.array([[1.0], [3.0], [9.0]], np.float32), np.array([0, 0, 1]), 2).tolist()
    [[2.0], [9.0]]
    """
    centres = np.zeros((n_clusters, X.shape[1]), np.float32)
    for c, rows in enumerate(members(label, n_clusters)):
        if len(rows):
            blocks = in_blocks(len(rows), X.shape[1])
            centres[c] = sum(X[rows[block]].sum(axis=0, dtype=np.float64) for block in blocks) / len(rows)
    return centres


def distance_to_centre(X: NDArray[np.float32], clusters: Clusters) -> NDArray[np.float32]:
    """Measure the Euclidean distance of every row to the centre of its own cluster.

    Examples
    --------
    >>> two = Clusters(np.array([0, 0, 1]), np.array([[1.0], [5.0]], np.float32))
    >>> distance_to_centre(np.array([[0.0], [2.0], [5.0]], np.float32), two).tolist()
    [1.0, 1.0, 0.0]
    """
    distance = np.empty(len(X), np.float32)
    for block in in_blocks(*X.shape):
        offset = X[block] - clusters.centres[clusters.label[block]]
        distance[block] = np.sqrt(np.einsum("ij,ij->i", offset, offset))
    return distance
