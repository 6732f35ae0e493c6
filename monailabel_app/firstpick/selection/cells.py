"""Which rows have another one close by, told without measuring all pairs: only cells that touch are compared."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.clustering import members
from firstpick.selection.geometry import in_blocks

_ROUNDING = 1e-5
_BLOCK = 1024
_AT_ONCE = 4096


def have_company(X: NDArray[np.float32], radius: float) -> NDArray[np.bool_]:
    """Tell which rows have another row within a radius; up to rounding, rather too many than too few.

    Parameters
    ----------
    X : ndarray of shape (n_rows, dim), float32
        Around 0, none much longer than 1.
    radius : float

    Notes
    -----
    Exact. Each row belongs to the nearest of a quarter of ``sqrt(n_rows)`` rows at even steps. Two rows of different
    cells lie on either side of the plane between their middles, so where they are within the radius of each other, both
    are within it of that plane: no others of the two cells are compared. Memory grows with ``n_rows^1.5``, by a byte
    for each row and cell.

    Examples
    --------
    >>> have_company(np.array([[0.0], [0.1], [0.9], [0.5]], np.float32), 0.2).tolist()
    [True, True, False, False]
    """
    n_cells = max(1, round(np.sqrt(len(X)) / 4))
    middles = X[np.linspace(0, len(X) - 1, n_cells).astype(np.intp)]
    cells, is_near = _cells(X, middles, radius)
    found = np.zeros(len(X), np.bool_)
    for one in range(n_cells):
        for other in range(one, n_cells):
            ours, theirs = cells[one][is_near[one][:, other]], cells[other][is_near[other][:, one]]
            if len(ours) and len(theirs):
                _compare(X, ours, theirs, radius, found)
    return found


def _cells(
    X: NDArray[np.float32], middles: NDArray[np.float32], radius: float
) -> tuple[list[NDArray[np.intp]], list[NDArray[np.bool_]]]:
    """Return the rows of each cell, and which of them are within the radius of the plane towards each cell."""
    square = np.einsum("ij,ij->i", middles, middles)
    label = np.empty(len(X), np.intp)
    for block in in_blocks(len(X), max(middles.shape)):
        label[block] = (square - 2 * X[block] @ middles.T).argmin(axis=1)
    cells = members(label, len(middles))
    is_near = []
    for cell, rows in enumerate(cells):
        apart = np.sqrt(np.maximum(square + square[cell] - 2 * middles @ middles[cell], 0))
        limit = 2 * radius * apart + _ROUNDING  # twice the distance of the middles times that of a row to the plane
        near = np.empty((len(rows), len(middles)), np.bool_)
        for block in in_blocks(len(rows), max(middles.shape)):
            away = square - 2 * X[rows[block]] @ middles.T
            near[block] = away - away[:, [cell]] <= limit
        is_near.append(near)
    return cells, is_near


def _compare(
    X: NDArray[np.float32],
    ours: NDArray[np.intp],
    theirs: NDArray[np.intp],
    radius: float,
    found: NDArray[np.bool_],
) -> None:
    """Note which of our rows and of theirs are within the radius of one of the others that is not itself."""
    for start in range(0, len(theirs), _BLOCK):
        block = theirs[start : start + _BLOCK]
        for left in _in_parts(ours[~found[ours]] if found[block].all() else ours):
            is_close = _squared(X[left], X[block]) <= radius**2 + _ROUNDING
            is_close[left[:, None] == block] = False
            found[left] |= is_close.any(axis=1)
            found[block] |= is_close.any(axis=0)


def _in_parts(rows: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    return (rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE))


def _squared(X: NDArray[np.float32], Y: NDArray[np.float32]) -> NDArray[np.float32]:
    squared = X @ Y.T
    squared *= -2
    squared += np.einsum("ij,ij->i", X, X)[:, None]
    squared += np.einsum("ij,ij->i", Y, Y)
    return np.asarray(squared)
