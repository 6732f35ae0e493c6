"""How far around a row its neighbours are still of its own kind, without labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.clustering import kmeans_clusters, n_distinct
from firstpick.selection.geometry import in_blocks, squared_distances
from firstpick.selection.greedy import sampled

_ASKED = 2_000
_NEIGHBOUR = 5
_MARGIN = 1e-6


def pure_radius(X: NDArray[np.float32], *, purity: float, n_classes: int, rng: np.random.Generator) -> float:
    """Find the largest radius within which the surroundings of most rows are of one pseudo-class.

    Parameters
    ----------
    purity : float
        From 0 to 1: the part of the rows around which all rows within the radius are of the row's own pseudo-class.
    n_classes : int
        Clusters of k-means that serve as pseudo-classes; fewer where there are fewer rows.
    rng : numpy.random.Generator
        Gives k-means its seed. Of more than 20,000 rows k-means sees 20,000, and of more than 2,000 rows 2,000 are
        asked for the rows around them (among all), which moves the purity by about half a per cent.

    Returns
    -------
    float
        0 or more; infinite where all rows are of one pseudo-class.

    Notes
    -----
    Yehuda et al. (arXiv 2205.11320, section 3.2) look for this radius by trying many. It needs no search: a row's
    surroundings are pure up to its distance to the nearest row of another pseudo-class, so the radius is a quantile
    of these distances.

    Where clusters touch, some rows have a stranger next to them, and the quantile falls to where hardly any row has
    a neighbour. So the radius is never below the median distance to the fifth neighbour (or to as many as an average
    pseudo-class has): half of the rows cover five others.

    Examples
    --------
    Two groups whose nearest rows are 7 apart.

    >>> X = np.array([[0.0], [1.0], [2.0], [9.0], [10.0], [11.0]], np.float32)
    >>> round(pure_radius(X, purity=1.0, n_classes=2, rng=np.random.default_rng(0)), 3)
    7.0
    """
    kind = _pseudo_classes(X, min(n_classes, len(X)), rng)
    asked = sampled(np.arange(len(X)), _ASKED, rng)
    k = min(max(1, min(_NEIGHBOUR, len(X) // n_classes - 1)), len(X) - 1)
    rows = X[asked].astype(np.float64)
    stranger, near = np.full(len(asked), np.inf), np.full((len(asked), k + 1), np.inf)  # a row is near itself
    for block in in_blocks(len(X), len(asked)):
        found = squared_distances(rows, X[block].astype(np.float64))
        near = np.partition(np.hstack([near, found]), k, axis=1)[:, : k + 1]
        found[kind[asked][:, None] == kind[block]] = np.inf
        stranger = np.minimum(stranger, found.min(axis=1))
    neighbour = near.max(axis=1)
    n_impure = int((1.0 - purity) * len(asked) + _MARGIN)
    pure = np.sort(stranger)[min(n_impure, len(asked) - 1)]
    return float(max(np.sqrt(pure) * (1 - _MARGIN), np.sqrt(np.median(neighbour)) * (1 + _MARGIN)))


def _pseudo_classes(X: NDArray[np.float32], n_classes: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Cluster the rows."""
    return kmeans_clusters(X, n_distinct(X, n_classes), rng, n_init=3).label
