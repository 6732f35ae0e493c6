"""How fast k-means converges on the features of each encoder: the seed paper's claim."""

from __future__ import annotations

import time
import warnings

import numpy as np
from numpy.typing import NDArray

from firstpick.selection import SCALINGS

N_STARTS = 10


def convergence(
    X: NDArray[np.float32], n_clusters: int, scaling: str, n_components: int, seed: int
) -> dict[str, float]:
    """Count the steps of k-means from ten random starts, and time them, on one thread.

    Returns
    -------
    dict
        ``iterations`` and ``seconds`` of one start, means over ten. Seconds depend on the machine
        and what else it does.

    Notes
    -----
    scikit-learn's Lloyd steps from random rows, up to 300, as in the published code of arXiv 2402.02561.
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415 - slow to import
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    rows = np.ascontiguousarray(SCALINGS[scaling](X, n_components))
    counts, seconds = [], []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
        for start in range(N_STARTS):
            model = KMeans(n_clusters, init="random", n_init=1, random_state=(seed + start) % 2**32, algorithm="lloyd")
            before = time.perf_counter()
            model.fit(rows)
            seconds.append(time.perf_counter() - before)
            counts.append(model.n_iter_)
    return {"iterations": float(np.mean(counts)), "seconds": float(np.mean(seconds))}
