"""Rows that show the same thing twice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.cells import have_company
from firstpick.selection.geometry import in_blocks, stride
from firstpick.selection.greedy import EXACT_ROWS

_N_COMPONENTS = 16  # in which pairs are looked for before they are measured
_N_OF_MANY = 64  # the same among more than 20,000 rows, of which hardly any is then measured in vain
_MOST_FITTED = 5_000
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
    more distant, tells which pairs to measure, and rows are taken along the first one, so that most originals
    are too far behind to look at. Of more than 20,000 rows, those that have none close by in the projection are
    originals at once, see `firstpick.selection.cells`. Memory does not grow with the square of the number of rows.

    Examples
    --------
    >>> rows = np.array([[1, 0], [0, 1], [0.9999, 0.0141]], np.float32)
    >>> near_duplicates(rows, 0.999, first=np.array([2])).tolist()
    [2, 1, 2]
    """
    search = _Search(unit, threshold)
    original = np.arange(len(unit))
    others = np.setdiff1d(original, first)
    for start in range(0, len(others), _BLOCK):
        search.match(others[start : start + _BLOCK], first, original)
    others = others[original[others] == others]
    if len(unit) > EXACT_ROWS:
        others = others[search.have_company(others)]
    others = others[np.argsort(search.along[others], kind="stable")]
    found = np.empty(0, np.intp)  # originals, sorted along the first component
    for start in range(0, len(others), _BLOCK):
        block = others[start : start + _BLOCK]
        reach = search.along[block[0]] - search.radius
        search.match(block, found[np.searchsorted(search.along[found], reach) :], original)
        search.match_within(block[original[block] == block], original)
        found = np.concatenate([found, block[original[block] == block]])
    return original


class _Search:
    """The rows, and their projection on a few orthonormal directions in which they differ most."""

    def __init__(self, unit: NDArray[np.float32], threshold: float) -> None:
        self._unit, self._threshold = unit, threshold
        squared = 2.0 * (1.0 - threshold) + _ROUNDING
        low = _projected(unit)
        square = np.einsum("ij,ij->i", low, low)[:, None]
        one = np.ones_like(square)
        # The product of a left and a right row is their squared distance, less what counts as close.
        self._left = np.hstack([-2.0 * low, square - np.float32(squared), one])
        self._right = np.hstack([low, one, square])
        self.along = low[:, 0]
        self.radius = float(np.sqrt(squared))

    def have_company(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Tell which of some rows may have another of them close enough."""
        return have_company(self._right[rows, :-2], self.radius)

    def match(self, rows: NDArray[np.intp], originals: NDArray[np.intp], original: NDArray[np.intp]) -> None:
        """Note in ``original`` which rows repeat an original."""
        for i, j in self._pairs(rows, originals):
            if original[rows[i]] == rows[i]:
                original[rows[i]] = originals[j]

    def match_within(self, rows: NDArray[np.intp], original: NDArray[np.intp]) -> None:
        """Note in ``original`` which rows repeat an earlier one of themselves."""
        for i, j in self._pairs(rows, rows):
            if j < i and original[rows[j]] == rows[j] and original[rows[i]] == rows[i]:
                original[rows[i]] = rows[j]

    def _pairs(self, rows: NDArray[np.intp], others: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the places of all pairs that are close enough, sorted."""
        pairs = np.argwhere(self._left[rows] @ self._right[others].T <= 0)
        ours, theirs = self._unit[rows[pairs[:, 0]]], self._unit[others[pairs[:, 1]]]
        cosine = np.einsum("ij,ij->i", ours, theirs, dtype=np.float64)
        return np.asarray(pairs[cosine >= self._threshold - 1e-6])


def _projected(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    n_components = _N_COMPONENTS if len(unit) <= EXACT_ROWS else _N_OF_MANY
    if min(unit.shape) <= n_components:
        return unit
    from sklearn.decomposition import PCA  # noqa: PLC0415 - a server must start without it

    model = PCA(n_components, svd_solver="randomized", random_state=0)
    if len(unit) <= EXACT_ROWS:
        return np.asarray(model.fit_transform(unit), np.float32)
    model.fit(unit[:: stride(len(unit), _MOST_FITTED)])  # any directions will do, as long as many rows differ in them
    low = np.empty((len(unit), n_components), np.float32)
    for block in in_blocks(*unit.shape):
        low[block] = model.transform(unit[block])
    return low
