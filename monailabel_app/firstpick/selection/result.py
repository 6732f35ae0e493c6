"""What every strategy returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Selection:
    """The chosen rows, most useful first.

    Attributes
    ----------
    indices : ndarray of shape (n_picks,), intp
        Rows of ``X``; unique, none labelled, none excluded.
    scores : ndarray of shape (n_picks,), float64
        The strategy's own criterion when the row was picked; its docstring says which.
    duplicates : tuple of (int, int)
        Rows that repeat another, and which, see `firstpick.selection.duplicates`; of `select` only.
    """

    indices: NDArray[np.intp]
    scores: NDArray[np.float64]
    duplicates: tuple[tuple[int, int], ...] = ()
