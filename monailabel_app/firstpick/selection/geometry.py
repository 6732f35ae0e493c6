"""Order, distances and neighbours of rows, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

DECIMALS = 6
_ROUNDING = 1e-12
_BLOCK_BYTES = 64 * 2**20
_CACHE_BYTES = 4 * 2**20


def unit_rows(X: NDArray[Any]) -> NDArray[np.float64]:
    """Scale every row to length 1; a row of zeros stays as it is.

    Parameters
    ----------
    X : ndarray of shape (n_rows, dim), float

    Returns
    -------
    ndarray of shape (n_rows, dim), float64
        A new array.

    Examples
    --------
    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    rows = np.asarray(X, dtype=np.float64)
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)  # first, so that no square over- or underflows
    rows = rows / np.where(largest > 0, largest, 1.0)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1.0))


def content_order(X: NDArray[Any]) -> NDArray[np.intp]:
    """Order rows by what they hold: by the first column, then by the second, and so on.

    Parameters
    ----------
    X : ndarray of shape (n_rows, dim), float

    Returns
    -------
    ndarray of shape (n_rows,), intp
        Sorts ``X``; equal rows keep their order.

    Examples
    --------
    >>> content_order(np.array([[2.0, 0.0], [1.0, 9.0], [1.0, 5.0]])).tolist()
    [2, 1, 0]
    """
    if not len(X):
        return np.empty(0, dtype=np.intp)
    order = np.argsort(X[:, 0], kind="stable")
    first = X[order, 0]
    is_as_before = np.append(False, first[1:] == first[:-1])
    tied = np.flatnonzero(is_as_before | np.append(is_as_before[1:], False))  # hardly any, in a pool of embeddings
    order[tied] = order[tied][np.lexsort(X[order[tied]].T[::-1])]
    return np.asarray(order, dtype=np.intp)


def distances(X: NDArray[np.float64], Y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measure the Euclidean distance of every row of one array to every row of another.

    Parameters
    ----------
    X : ndarray of shape (n_rows, dim), float64, unit rows
    Y : ndarray of shape (n_others, dim), float64, unit rows

    Returns
    -------
    ndarray of shape (n_rows, n_others), float64
        Rounded to 6 decimals: ``|x|² + |y|² - 2 x·y`` is not good for more near zero, and so equal
        rows are at equal distances, whatever block or library computed them.

    Examples
    --------
    >>> distances(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [-1.0, 0.0]])).tolist()
    [[0.0, 2.0]]
    """
    squared = (X * X).sum(axis=1)[:, None] + (Y * Y).sum(axis=1) - 2.0 * (X @ Y.T)
    return np.asarray(np.round(np.sqrt(np.maximum(squared, 0.0)), DECIMALS))


def squared_distances(
    X: NDArray[np.float64], Y: NDArray[np.float64], *, squares: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Measure the squared distance of every row of one array to every row of another, rows of any length.

    Parameters
    ----------
    X : ndarray of shape (n_rows, dim), float64
    Y : ndarray of shape (n_others, dim), float64
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
    squared *= squared > _ROUNDING * own
    return np.asarray(np.abs(squared, out=squared))  # no minus zeros


def squared_lengths(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared length of every row.

    Parameters
    ----------
    X : ndarray of shape (n_rows, dim), float64

    Returns
    -------
    ndarray of shape (n_rows,), float64

    Examples
    --------
    >>> squared_lengths(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [25.0, 0.0]
    """
    return np.asarray(np.einsum("ij,ij->i", X, X))


def nearest_squared(X: NDArray[np.float64], Y: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Find the nearest of other rows for every row, rows of any length.

    Parameters
    ----------
    X : ndarray of shape (n_rows, dim), float64
    Y : ndarray of shape (n_others, dim), float64

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

    Parameters
    ----------
    n_rows : int
    n_columns : int

    Yields
    ------
    slice

    Examples
    --------
    >>> list(in_blocks(3, 2**19))
    [slice(0, 2, None), slice(2, 3, None)]
    """
    step = max(1, _CACHE_BYTES // (4 * max(1, n_columns)))
    return (slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step))


def nearest(
    X: NDArray[np.float64], Y: NDArray[np.float64], *, block_bytes: int = _BLOCK_BYTES
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Find the nearest row of ``Y`` for every row of ``X``.

    Parameters
    ----------
    X : ndarray of shape (n_rows, dim), float64, unit rows
    Y : ndarray of shape (n_others, dim), float64, unit rows
        At least one row.
    block_bytes : int
        Bound of one block of distances; the result does not depend on it.

    Returns
    -------
    index : ndarray of shape (n_rows,), intp
        Row of ``Y``; the lowest one of several at the same distance.
    distance : ndarray of shape (n_rows,), float64
        Euclidean, rounded as in `distances`.

    Examples
    --------
    >>> index, distance = nearest(np.array([[0.6, 0.8]]), np.array([[1.0, 0.0], [0.0, 1.0]]))
    >>> index.tolist(), distance.round(3).tolist()
    ([1], [0.632])
    """
    index = np.empty(len(X), dtype=np.intp)
    distance = np.empty(len(X), dtype=np.float64)
    step = max(1, block_bytes // (8 * len(Y)))
    for start in range(0, len(X), step):
        block = slice(start, start + step)
        found = distances(X[block], Y)
        index[block] = found.argmin(axis=1)
        distance[block] = found.min(axis=1)
    return index, distance


def distinct_rows(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keep one of each, in the order of their content.

    Parameters
    ----------
    X : ndarray of shape (n_rows, dim), float64, unit rows
        Rows that agree to 6 decimals count as one.

    Returns
    -------
    ndarray of shape (n_distinct, dim), float64
        Does not depend on the order of the rows of ``X``, nor on how often each occurs.

    Examples
    --------
    >>> distinct_rows(np.array([[1.0], [-1.0], [1.0]])).tolist()
    [[-1.0], [1.0]]
    """
    return np.asarray(np.unique(np.round(X, DECIMALS), axis=0))


def principal_plane(X: NDArray[Any]) -> NDArray[np.float64]:
    """Lay the rows out in the plane of their first two principal components.

    Parameters
    ----------
    X : ndarray of shape (n_rows, dim), float

    Returns
    -------
    ndarray of shape (n_rows, 2), float64
        Of the unit rows, between which look-alikes are measured too. Each component points
        to where its largest weight is positive, so a map does not flip between runs. Zeros where rows of one
        direction or column leave nothing to show.

    Examples
    --------
    >>> principal_plane(np.array([[0.0, 3.0], [0.0, -5.0]])).tolist()
    [[1.0, 0.0], [-1.0, 0.0]]
    """
    unit = unit_rows(X)
    centred = unit - unit.sum(axis=0) / max(1, len(unit))
    _, vectors = np.linalg.eigh(centred.T @ centred)  # eigenvalues rise
    axes = vectors[:, ::-1][:, :2]
    weight = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    plane = np.zeros((len(unit), 2))
    plane[:, : axes.shape[1]] = centred @ (axes * np.sign(weight))
    return plane
