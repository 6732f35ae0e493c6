"""The rows of one pool as directions: what has been measured between them is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from firstpick.selection.geometry import (
    DECIMALS,
    ROUNDING,
    as_distance,
    distances,
    equal_runs,
    in_blocks,
    unit_rows,
)
from firstpick.selection.outliers import Reference, reference_stride

_KEPT_BYTES = 64 * 2**20
_AT_ONCE = 64
_KEPT_SETS = 16
_FEW = 512
_BLOCK = 4096


class _Recent:
    """Arrays that belong to single rows, made when first asked for; those last asked for are kept, up to 64 MB."""

    def __init__(self, make: Callable[[Sequence[int]], NDArray[np.float64]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._kept: dict[int, NDArray[np.float64]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, rows: Sequence[int]) -> list[NDArray[np.float64]]:
        """Return the array of each of some rows; not to be modified."""
        with self._lock:
            found = {row: self._kept.pop(row) for row in dict.fromkeys(rows) if row in self._kept}
        if missing := [row for row in dict.fromkeys(rows) if row not in found]:
            found |= {row: made.copy() for row, made in zip(missing, self._make(missing), strict=True)}
        with self._lock:
            self._kept |= found
            n_bytes = sum(array.nbytes for array in self._kept.values())
            while n_bytes > _KEPT_BYTES:
                n_bytes -= self._kept.pop(next(iter(self._kept))).nbytes
        return [found[row] for row in rows]


class Space:
    """Distances between the rows of one pool, as if each had length 1: Euclidean, and in the order of cosines.

    All is measured on demand, from the rows as they are: no scaled copy of them is kept. What is asked for again is:
    the distances to single rows (such as the picks of a batch), to some sets of rows (what is labelled), and the rows
    by which outliers are told. Safe to use from several threads.

    Parameters
    ----------
    X : array_like of shape (n_rows, dim)
        Embeddings, not scaled. Not to be modified while the space is in use: float32 is not copied.

    Examples
    --------
    >>> space = Space(np.array([[9.0, 0.0], [0.0, 2.0], [-1.0, 0.0]], np.float32))
    >>> [column.tolist() for column in space.squared([0, 1])]
    [[0.0, 2.0, 4.0], [2.0, 0.0, 2.0]]
    """

    def __init__(self, X: ArrayLike) -> None:
        rows = np.asarray(X)
        self._rows = rows if rows.dtype == np.float32 else unit_rows(rows)
        length = np.sqrt(np.einsum("ij,ij->i", self._rows, self._rows, dtype=np.float64))
        self._length = np.where(length > 0, length, 1.0)
        self._square = (length > 0).astype(np.float64)  # a row of zeros stays one
        self._lock = threading.Lock()
        self._columns = _Recent(self.measured)
        self._to_reference = _Recent(lambda rows: distances(self.unit(rows), self.reference.rows))
        self._sets: dict[frozenset[int], NDArray[np.float64]] = {frozenset(): np.full(len(self), np.inf)}

    def __len__(self) -> int:
        return len(self._rows)

    def unit(self, rows: Sequence[int] | NDArray[np.intp] | slice) -> NDArray[np.float64]:
        """Return some rows with length 1; rows of zeros stay."""
        some = rows if isinstance(rows, slice) else np.asarray(rows, np.intp)
        return np.asarray(self._rows[some].astype(np.float64) / self._length[some, None])

    def squared(self, rows: Sequence[int] | NDArray[np.intp]) -> Iterator[NDArray[np.float64]]:
        """Yield, for each of some rows, the squared distances of all rows to it; not to be modified.

        What cannot be told from rounding is 0: a row is at distance 0 from its copies.
        """
        wanted = [int(row) for row in rows]
        for start in range(0, len(wanted), _AT_ONCE):
            yield from self._columns.of(wanted[start : start + _AT_ONCE])

    def measured(self, rows: Sequence[int] | NDArray[np.intp]) -> NDArray[np.float64]:
        """Return what `squared` yields as one array of shape (n_rows_asked_for, n_rows); nothing of it is kept."""
        chosen = np.asarray(rows, np.intp)
        others = self.unit(chosen)
        found = np.empty((len(chosen), len(self)))
        for block in in_blocks(len(self), self._rows.shape[1]) if len(chosen) else ():
            found[:, block] = _products(others, self._rows[block].astype(np.float64))
        found /= self._length
        found *= -2.0
        found += self._square
        found += self._square[chosen, None]
        found *= found > ROUNDING
        return np.asarray(np.abs(found, out=found))

    def nearest(self, rows: Sequence[int] | NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Find the nearest of some rows for every row of all, and how far it is, as `firstpick.selection.geometry`.

        Of several at the same distance, compared in float32, the first.
        """
        index, least = np.zeros(len(self), np.intp), np.full(len(self), np.inf)
        nearer_than = np.full(len(self), np.inf, np.float32)
        for place, squared in enumerate(self.squared(rows)):
            coarse = squared.astype(np.float32)
            is_nearer = coarse < nearer_than
            np.copyto(index, place, where=is_nearer)
            np.minimum(nearer_than, coarse, out=nearer_than)
            np.minimum(least, squared, out=least)
        return index, as_distance(least)

    def nearest_squared(self, rows: Collection[int]) -> NDArray[np.float64]:
        """Return the squared distance of all rows to the nearest of some; infinite where there are none.

        Measured from the largest part of the set on of which that is known. Not to be modified.
        """
        wanted = frozenset(rows)
        with self._lock:
            start = max((known for known in self._sets if known <= wanted), key=len)
            least = self._sets[start] = self._sets.pop(start)  # the last asked for stands last
        missing = sorted(wanted - start)
        if not missing:
            return least
        for first in range(0, len(missing), _AT_ONCE):
            least = np.minimum(least, self.measured(missing[first : first + _AT_ONCE]).min(axis=0))
        with self._lock:
            self._sets[wanted] = least
            while len(self._sets) > _KEPT_SETS:
                del self._sets[next(known for known in self._sets if known)]
        return least

    @property
    def n_distinct(self) -> int:
        """How many rows differ in their first six decimals."""
        return self._distinct[0]

    @property
    def reference(self) -> Reference:
        """The distinct rows, or every second, third, ... of them where there are too many: who is usual."""
        return self._distinct[1]

    def unusual(self, rows: NDArray[np.intp], *, excluded: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Tell which of some rows are far from all those that are not excluded, see `Reference.unusual`."""
        _, reference, member_of = self._distinct
        is_there = np.zeros(len(reference) + 1, np.bool_)
        is_there[member_of[~excluded]] = True  # the last place is for rows that are no member
        if len(rows) <= _FEW:
            return reference.unusual(np.array(self._to_reference.of(rows.tolist())), is_there[:-1])
        blocks = (self.unit(rows[start : start + _BLOCK]) for start in range(0, len(rows), _BLOCK))
        return np.concatenate([reference.unusual(distances(unit, reference.rows), is_there[:-1]) for unit in blocks])

    @cached_property
    def _distinct(self) -> tuple[int, Reference, NDArray[np.intp]]:
        """Number of distinct rows, the reference, and which of its rows each row is a copy of (or -1)."""
        whole = np.empty(self._rows.shape, np.int32)
        for block in in_blocks(*whole.shape):
            whole[block] = np.rint(self.unit(block) * 10.0**DECIMALS)
        order, is_new = equal_runs(whole)
        number = np.cumsum(is_new) - 1
        n_distinct = int(is_new.sum())
        step = reference_stride(n_distinct)
        member_of = np.empty(len(order), np.intp)
        member_of[order] = np.where(number % step == 0, number // step, -1)
        rows = whole[order[is_new][::step]] / 10.0**DECIMALS
        return n_distinct, Reference(rows), member_of


def _products(few: NDArray[np.float64], block: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply some rows with every row of a block; one or two without threads, whose waiting would cost the most."""
    if len(few) > 2:  # noqa: PLR2004
        return np.asarray(few @ block.T)
    return np.stack([np.einsum("ij,j->i", block, row) for row in few])
