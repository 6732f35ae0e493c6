"""Which patches of a picture show something, and what a label says most of each is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_PRESENT = 0.5  # of a patch, from which on it is of a label


def pictured(place: tuple[slice, slice], size: int, side: int) -> NDArray[np.bool_]:
    """Tell which patches of a picture have their middle in what it shows, shape (side, side).

    Parameters
    ----------
    place : tuple of two slices
        Rows and columns that are shown, see `firstpick.learning.stack.Stack.place`.
    size, side : int
        Of the picture, in pixels and in patches.

    Examples
    --------
    >>> pictured((slice(0, 8), slice(2, 6)), 8, 4).astype(int).tolist()
    [[0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0]]
    """
    down, right = (_covered(where, size, side) for where in place)
    inside: NDArray[np.bool_] = down[:, None] & right
    return inside


def _covered(where: slice, size: int, side: int) -> NDArray[np.bool_]:
    """Tell which patches have their middle in a range; of one that holds no middle, that in which its own lies."""
    middle = (np.arange(side) + 0.5) / side * size
    covered: NDArray[np.bool_] = (where.start <= middle) & (middle < where.stop)
    if not covered.any():
        covered[min((where.start + where.stop) * side // (2 * size), side - 1)] = True
    return covered


def patch_classes(
    masks: NDArray[np.uint8], place: tuple[slice, slice], size: int, side: int, n_classes: int
) -> NDArray[np.uint8]:
    """Say what most of each patch is.

    Parameters
    ----------
    masks : ndarray of shape (n, n_rows, n_columns), uint8
        Class of each pixel of some slices, 0 for background.
    place, size, side
        As for `pictured`.
    n_classes : int

    Returns
    -------
    ndarray of shape (n, side, side), uint8
        The class that has most of what is labelled in a patch, if half of the patch or more is; else 0.

    Examples
    --------
    >>> masks = np.array([[[1, 2, 0, 0], [1, 2, 0, 0], [2, 2, 1, 0], [0, 0, 0, 0]]], np.uint8)
    >>> patch_classes(masks, (slice(0, 4), slice(0, 4)), 4, 2, 2).tolist()
    [[[1, 0], [2, 0]]]
    """
    down, right = (_parts(where, n, size, side) for where, n in zip(place, masks.shape[1:], strict=True))
    numbers = np.arange(1, n_classes + 1, dtype=np.uint8)
    shares = np.stack([down @ (masks == number).astype(np.float32) @ right.T for number in numbers], axis=-1)
    found: NDArray[np.uint8] = np.where(shares.sum(axis=-1) >= _PRESENT, numbers[shares.argmax(axis=-1)], np.uint8(0))
    return found


def _parts(where: slice, n: int, size: int, side: int) -> NDArray[np.float32]:
    """Return which part of each patch each pixel of a slice is, along one axis, shape (side, n)."""
    parts = np.zeros((side, n), np.float32)
    shown = np.arange(where.start, where.stop)
    pixel = ((shown - where.start + 0.5) / len(shown) * n).astype(np.intp)
    patch = shown * side // size
    np.add.at(parts, (patch, pixel), 1.0)
    width = np.bincount(np.arange(size) * side // size, minlength=side)
    divided: NDArray[np.float32] = (parts / width[:, None]).astype(np.float32)
    return divided
