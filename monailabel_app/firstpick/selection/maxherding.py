"""Strategy ``maxherding``: the rows whose surroundings hold most of what is not covered yet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.geometry import squared_distances
from firstpick.selection.greedy import cover
from firstpick.selection.result import Selection


def maxherding(
    X: NDArray[np.float32],
    n_select: int,
    *,
    labelled: NDArray[np.intp],
    candidates: NDArray[np.intp],
    rng: np.random.Generator,
    bandwidth: float = 1.0,
) -> Selection:
    """Pick studies around which most of the uncovered ones lie (MaxHerding).

    Parameters
    ----------
    bandwidth : float
        Above 0: the distance at which a row is covered to 1/e, in units of the root mean square length of the rows.

    Returns
    -------
    Selection
        The score is what the pick adds to the mean coverage of all rows, which is 1 where every row is picked.

    Notes
    -----
    Bae et al., ECCV 2024 (arXiv 2407.12212): ``argmax_i mean_j max(0, K(i, j) - m(j))`` with ``K = exp(-(d/h)²)`` and
    ``m(j)`` the largest ``K`` of row ``j`` with a labelled or picked row; ``h = 1`` on unit rows, which is our default.
    The unit of length, rows of zeros left out, carries that to rows that are not of unit length. The published code
    compares the full matrix at every step, on a subset of at most 35,000 rows; for ours see
    `firstpick.selection.greedy.cover`.

    Examples
    --------
    Three directions close together, one opposite: the middle of the three comes first, then the other one.

    >>> X = np.array([[1.0, -0.2], [1.0, 0.0], [1.0, 0.2], [-1.0, 0.0]])
    >>> nobody, all_rows = np.array([], dtype=int), np.arange(4)
    >>> picked = maxherding(X, 2, labelled=nobody, candidates=all_rows, rng=np.random.default_rng(0))
    >>> picked.indices.tolist()
    [1, 3]
    """
    if not bandwidth > 0:
        msg = f"bandwidth must be above 0; got {bandwidth}."
        raise ValueError(msg)
    unit = bandwidth * typical_length(X)

    def in_units(some: NDArray[np.float32]) -> NDArray[np.float64]:
        return some.astype(np.float64) / unit

    return cover(X, n_select, gaussian, labelled=labelled, candidates=candidates, rng=rng, prepared=in_units)


def gaussian(X: NDArray[np.float64], Y: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return ``exp(-d²)`` of all pairs of rows.

    Examples
    --------
    >>> gaussian(np.array([[0.0]]), np.array([[0.0], [1.0]])).astype(float).round(3).tolist()
    [[1.0, 0.368]]
    """
    return np.exp(-squared_distances(X, Y).astype(np.float32))


def typical_length(X: NDArray[np.float32]) -> float:
    """Return the root mean square length of the rows, those of zeros left out; 1 where there are no others.

    Examples
    --------
    >>> typical_length(np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 5.0]]))
    5.0
    """
    squares = np.einsum("ij,ij->i", X, X, dtype=np.float64)
    return float(np.sqrt(squares[squares > 0].mean())) if squares.any() else 1.0
