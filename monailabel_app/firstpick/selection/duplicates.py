"""Rows that show the same thing twice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_N_COMPONENTS = 16  # in which pairs are looked for before they are measured
_BLOCK = 1024
_ROUNDING = 1e-5


def near_duplicates(unit: NDArray[np.float32], threshold: float, *, first: NDArray[np.intp]) -> NDArray[np.intp]:
    """Find for each row the row that it repeats.

    Parameters
    ----------
    unit : ndarray of shape (n_rows, dim), float32, unit rows
        In an order of their own content, if their listing must not matter.
    threshold : float
        Cosine from which on two rows count as the same, up to 1e-6.
    first : ndarray of intp
        Rows that repeat nothing, whatever they resemble: what is labelled.

    Returns
    -------
    ndarray of shape (n_rows,), intp
        ``original[i]`` is ``i`` for a row that repeats nothing, else a row that repeats nothing itself.

    Notes
    -----
    Rows are taken one by one, those of `first` before the others; each repeats the earliest original that is
    close enough, or becomes an original. So everything is close to what stands for it, which linking pairs to
    chains would not promise. Exact: a projection on the first principal components, which never makes a pair
    more distant, tells which pairs to measure. Memory grows with the number of rows, not with its square.

    Examples
    --------
    >>> rows = np.array([[1, 0], [0, 1], [0.9999, 0.0141]], np.float32)
    >>> near_duplicates(rows, 0.999, first=np.array([], int)).tolist()
    [0, 1, 0]
    >>> near_duplicates(rows, 0.999, first=np.array([2])).tolist()
    [2, 1, 2]
    """
    others = np.setdiff1d(np.arange(len(unit)), first)
    order = np.concatenate([first, others]).astype(np.intp)
    low = _projected(unit)
    radius = 2.0 * (1.0 - threshold) + _ROUNDING  # a squared distance
    original = np.arange(len(unit))
    originals = np.array(first, dtype=np.intp)
    for start in range(len(first), len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        _match(unit, low, block, originals, original, threshold=threshold, radius=radius)
        unmatched = block[original[block] == block]
        for i, j in _close_pairs(unit, low, unmatched, unmatched, threshold=threshold, radius=radius):
            earlier, later = unmatched[j], unmatched[i]
            if j < i and original[earlier] == earlier and original[later] == later:
                original[later] = earlier
        originals = np.concatenate([originals, unmatched[original[unmatched] == unmatched]])
    return original


def _projected(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Project on a few orthonormal directions in which the rows differ most."""
    if unit.shape[1] <= _N_COMPONENTS or len(unit) <= _N_COMPONENTS:
        return unit
    from sklearn.decomposition import PCA  # noqa: PLC0415 - a server must start without it

    model = PCA(_N_COMPONENTS, svd_solver="randomized", random_state=0)
    return np.asarray(model.fit_transform(unit), np.float32)


def _match(
    unit: NDArray[np.float32],
    low: NDArray[np.float32],
    block: NDArray[np.intp],
    originals: NDArray[np.intp],
    original: NDArray[np.intp],
    *,
    threshold: float,
    radius: float,
) -> None:
    """Note in ``original`` which rows of a block repeat an original found before."""
    for i, j in _close_pairs(unit, low, block, originals, threshold=threshold, radius=radius):
        if original[block[i]] == block[i]:
            original[block[i]] = originals[j]


def _close_pairs(
    unit: NDArray[np.float32],
    low: NDArray[np.float32],
    rows: NDArray[np.intp],
    others: NDArray[np.intp],
    *,
    threshold: float,
    radius: float,
) -> NDArray[np.intp]:
    """Return the positions of all pairs that are close enough, sorted."""
    if not len(rows) or not len(others):
        return np.empty((0, 2), np.intp)
    A, B = low[rows], low[others]
    squared = (A * A).sum(axis=1)[:, None] + (B * B).sum(axis=1) - 2.0 * (A @ B.T)
    pairs = np.argwhere(squared <= radius)
    cosine = np.einsum("ij,ij->i", unit[rows[pairs[:, 0]]], unit[others[pairs[:, 1]]], dtype=np.float64)
    return np.asarray(pairs[cosine >= threshold - 1e-6])
