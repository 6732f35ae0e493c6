"""Order, distances and neighbours of rows, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

DECIMALS = 6
ROUNDING = 1e-12
_CACHE_BYTES = 4 * 2**20


def unit_rows(X: NDArray[Any], dtype: type[np.floating[Any]] = np.float64) -> NDArray[Any]:
    """Scale every row to length 1, so that Euclidean distances order rows as cosines do; rows of zeros stay.

    ``dtype`` is that of the arithmetic and of the new array.

    Examples
    --------
    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    rows = np.array(X, dtype)
    for block in in_blocks(*rows.shape):
        some = rows[block]
        largest = np.abs(some).max(axis=1, keepdims=True, initial=0)  # first, so that no square over- or underflows
        some /= np.where(largest > 0, largest, dtype(1))
        length = np.sqrt(np.einsum("ij,ij->i", some, some, dtype=np.float64)).astype(dtype)[:, None]
        some /= np.where(length > 0, length, dtype(1))
    return rows


def content_order(X: NDArray[Any]) -> NDArray[np.intp]:
    """Return the order that sorts rows by the first column, then by the second, and so on; equal rows keep theirs.

    Examples
    --------
    >>> content_order(np.array([[2.0, 0.0], [1.0, 9.0], [1.0, 5.0]])).tolist()
    [2, 1, 0]
    """
    return equal_runs(X)[0]


def equal_runs(X: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Sort rows by content, and tell where in that order another row begins.

    Returns
    -------
    order : ndarray of shape (n_rows,), intp
        As `content_order`.
    is_new : ndarray of shape (n_rows,), bool
        Whether ``X[order[i]]`` differs from the row before it.

    Examples
    --------
    >>> order, is_new = equal_runs(np.array([[2, 0], [1, 5], [2, 0]]))
    >>> order.tolist(), is_new.tolist()
    ([1, 0, 2], [True, True, False])
    """
    if not len(X):
        return np.empty(0, np.intp), np.empty(0, np.bool_)
    order = np.argsort(X[:, 0], kind="stable")
    is_new = np.append(True, X[order[1:], 0] != X[order[:-1], 0])
    tied = np.arange(len(X))
    for column in X.T[1:]:  # hardly any rows are tied in more than one, in a pool of embeddings
        begins = is_new[tied]
        tied = tied[~begins | np.append(~begins[1:], False)]
        if not len(tied):
            break
        values = column[order[tied]]
        by_value = np.lexsort((values, np.cumsum(is_new[tied])))
        order[tied], values = order[tied][by_value], values[by_value]
        is_new[tied[1:]] |= values[1:] != values[:-1]
    return order, is_new


def distances(X: NDArray[np.float64], Y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measure the Euclidean distance of every unit row of one array to every unit row of another.

    Rounded to 6 decimals: what is equal on paper is equal here, whatever block or library computed it.

    Examples
    --------
    >>> distances(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [-1.0, 0.0]])).tolist()
    [[0.0, 2.0]]
    """
    return as_distance(squared_distances(X, Y))


def as_distance(squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the roots of squared distances, rounded to 6 decimals."""
    return np.asarray(np.round(np.sqrt(squared), DECIMALS))


def squared_distances(
    X: NDArray[np.float64], Y: NDArray[np.float64], *, squares: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Measure the squared distance of every row of one array to every row of another, rows of any length.

    Parameters
    ----------
    squares : ndarray of shape (n_rows,), float64, optional
        `squared_lengths` of ``X``, where they are known: for a single other row they take half of the time.

    Returns
    -------
    ndarray of shape (n_rows, n_others), float64
        What cannot be told from rounding, a 1e-12th of ``|x|²``, is 0: a row is at distance 0 from its copies.

    Examples
    --------
    >>> squared_distances(np.array([[30.0, 40.0]]), np.array([[30.0, 40.0], [0.0, 0.0]])).tolist()
    [[0.0, 2500.0]]
    """
    own = (squared_lengths(X) if squares is None else squares)[:, None]
    squared = X @ Y.T
    squared *= -2.0
    squared += own
    squared += squared_lengths(Y)
    squared *= squared > ROUNDING * own
    return np.asarray(np.abs(squared, out=squared))  # no minus zeros


def squared_lengths(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared length of every row."""
    return np.asarray(np.einsum("ij,ij->i", X, X))


def nearest_squared(X: NDArray[np.float64], Y: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Find the nearest of other rows for every row, rows of any length.

    Returns
    -------
    index : ndarray of shape (n_rows,), intp
        Row of ``Y``; the lowest one of several at the same distance, compared in float32. 0 where there are none.
    squared : ndarray of shape (n_rows,), float64
        Squared distance as in `squared_distances`; infinite where there are none.

    Examples
    --------
    >>> index, squared = nearest_squared(np.array([[4.0], [5.0]]), np.array([[8.0], [2.0]]))
    >>> index.tolist(), squared.tolist()
    ([1, 0], [4.0, 9.0])
    """
    index = np.zeros(len(X), dtype=np.intp)
    least = np.full(len(X), np.inf)
    for block in in_blocks(len(X), len(Y)) if len(Y) else ():
        found = squared_distances(X[block], Y)
        index[block] = found.astype(np.float32).argmin(axis=1)
        least[block] = found.min(axis=1)
    return index, least


def in_blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Cut rows into runs whose float32 results stay within a few megabytes, which a processor's cache holds.

    Examples
    --------
    >>> list(in_blocks(3, 2**19))
    [slice(0, 2, None), slice(2, 3, None)]
    """
    step = max(1, _CACHE_BYTES // (4 * max(1, n_columns)))
    return (slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step))


def nearest(X: NDArray[np.float64], Y: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Find the nearest of other unit rows for every unit row, as `nearest_squared`, and how far it is, as `distances`.

    Examples
    --------
    >>> index, distance = nearest(np.array([[0.6, 0.8]]), np.array([[1.0, 0.0], [0.0, 1.0]]))
    >>> index.tolist(), distance.round(3).tolist()
    ([1], [0.632])
    """
    index, squared = nearest_squared(X, Y)
    return index, as_distance(squared)


def distinct_rows(X: NDArray[Any], most: int | None = None) -> NDArray[np.float64]:
    """Keep one of each row, in the order of their content; unit rows that agree to 6 decimals count as one.

    Of more than ``most`` rows, every second, third, ... is kept.

    Examples
    --------
    >>> distinct_rows(np.array([[1.0], [-1.0], [1.0]])).tolist()
    [[-1.0], [1.0]]
    """
    whole = np.empty(X.shape, np.int32)
    for block in in_blocks(*X.shape):
        whole[block] = np.rint(X[block].astype(np.float64) * 10.0**DECIMALS)
    order, is_new = equal_runs(whole)
    kept = order[is_new]
    return np.asarray(whole[kept[:: stride(len(kept), most or len(kept))]] / 10.0**DECIMALS)


def stride(n_rows: int, most: int) -> int:
    """Return which of so many rows to take so that there are at most ``most``: every one, every second, ...

    Examples
    --------
    >>> stride(5, 5), stride(6, 5), stride(0, 0)
    (1, 2, 1)
    """
    return max(1, -(-n_rows // max(1, most)))


def principal_plane(X: NDArray[Any]) -> NDArray[np.float64]:
    """Lay the rows out in the plane of their first two principal components.

    Of the unit rows, between which look-alikes are measured too. Each component points to where its largest weight is
    positive, so a map does not flip between runs. Zeros where rows of one direction or column leave nothing to show.

    Examples
    --------
    >>> principal_plane(np.array([[0.0, 3.0], [0.0, -5.0]])).tolist()
    [[1.0, 0.0], [-1.0, 0.0]]
    """
    blocks = list(in_blocks(*X.shape))
    mean = sum((unit_rows(X[block]).sum(axis=0) for block in blocks), np.zeros(X.shape[1])) / max(1, len(X))
    if len(X) < X.shape[1]:
        axes = _first_axes(unit_rows(X) - mean)
    else:
        square = np.zeros((X.shape[1], X.shape[1]))
        for block in blocks:
            centred = unit_rows(X[block]) - mean
            square += centred.T @ centred
        axes = _last(square)
    weight = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    plane = np.zeros((len(X), 2))
    for block in blocks:
        plane[block, : axes.shape[1]] = (unit_rows(X[block]) - mean) @ (axes * np.sign(weight))
    return plane


def _last(symmetric: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the eigenvectors of the two largest eigenvalues, the largest first, as columns."""
    _, vectors = np.linalg.eigh(symmetric)  # eigenvalues rise
    return np.asarray(vectors[:, ::-1][:, :2])


def _first_axes(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the first two principal axes of few long rows: from the products of rows, of which there are fewer."""
    axes = centred.T @ _last(centred @ centred.T)
    length = np.linalg.norm(axes, axis=0)
    return np.asarray(axes / np.where(length > 0, length, 1.0))
