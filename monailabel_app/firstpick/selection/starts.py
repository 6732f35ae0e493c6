"""Which of several batches, made from different starts, is most like the whole pool."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.geometry import in_blocks, squared_distances, unit_rows

_WIDTH = 0.5  # of the kernel exp(-d²/width); rows of length 1, so that d² is at most 4
_DECIMALS = 6


def most_like_all(X: NDArray[np.float32], batches: Sequence[NDArray[np.intp]]) -> int:
    """Find the batch whose kernel mean discrepancy from all rows is least; of equal ones the first.

    Parameters
    ----------
    X : ndarray of shape (n_rows, dim), float32
        Not scaled.
    batches : sequence of ndarray of intp
        Rows of ``X``, none of them empty; what is labelled belongs to each.

    Returns
    -------
    int
        Place of the batch in ``batches``.

    Notes
    -----
    The squared discrepancy (Gretton et al. 2012, JMLR 13, eq. 2) of a batch B from all rows P is
    ``mean K(P, P) - 2 mean K(P, B) + mean K(B, B)``, of which the first term is the same for all batches. K is
    ``exp(-2 d²)``, d between unit rows from which the pool's mean was taken before they were given length 1 again: so
    a pool that lies in one direction fills the sphere as well. Equal means up to six decimals.

    Examples
    --------
    Two groups of the same size: a batch with one of each is more like all than one with two of one group.

    >>> X = np.array([[9, 0], [9, 1], [0, 9], [1, 9]], np.float32)
    >>> most_like_all(X, [np.array([0, 1]), np.array([0, 3])])
    1
    """
    if len(batches) == 1:
        return 0
    blocks = list(in_blocks(len(X), max(X.shape[1], *map(len, batches))))
    total = sum(unit_rows(X[block], np.float32).sum(axis=0, dtype=np.float64) for block in blocks)
    mean = (total / len(X)).astype(np.float32)

    def directions(rows: slice | NDArray[np.intp]) -> NDArray[np.float64]:
        return unit_rows(unit_rows(X[rows], np.float32) - mean, np.float32).astype(np.float64)

    own = [directions(batch) for batch in batches]
    to_all = np.zeros(len(batches))
    for block in blocks:
        rows = directions(block)
        to_all += [_kernel(rows, others) for others in own]
    scores = [
        2 * alike / (len(X) * len(others)) - _kernel(others, others) / len(others) ** 2
        for alike, others in zip(to_all, own, strict=True)
    ]
    return int(np.argmax(np.round(scores, _DECIMALS)))


def _kernel(X: NDArray[np.float64], Y: NDArray[np.float64]) -> float:
    """Return the sum of the kernel of all pairs."""
    return float(np.exp(squared_distances(X, Y) / -_WIDTH).sum())
