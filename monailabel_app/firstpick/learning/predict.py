"""From a model to a mask: slice by slice, smoothed between neighbours, small islands left out."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from firstpick.learning.features import Seen
from firstpick.learning.model import Model
from firstpick.learning.uncertainty import entropy

_SIGMA = 1.0  # pixels
_KERNEL = (0.25, 0.5, 0.25)  # of the slice below, the slice itself and the one above
_ISLAND = 0.1  # of the largest piece of a class: what is smaller may be left out
_SCATTERED = 0.02  # of a class' voxels in the labels, from which on its islands belong to it


@dataclass(frozen=True)
class Predicted:
    """What a model says of a study.

    Attributes
    ----------
    classes : ndarray of shape (n_slices, n_rows, n_columns), uint8
        0 for background.
    unsure : float
        Mean entropy of the probabilities in bits, over the mask and over what is as likely as not of it.
    """

    classes: NDArray[np.uint8]
    unsure: float


def predict(model: Model, seen: Seen, *, compact: Collection[int]) -> Predicted:
    """Draft the mask of a study; at no time are there probabilities of more than four slices.

    Parameters
    ----------
    model : Model
    seen : Seen
    compact : collection of int
        Classes whose small islands are left out: see `compact_classes`.
    """
    classes = np.zeros(seen.stack.shape, np.uint8)
    total, count = 0.0, 0
    for index, probabilities in enumerate(_smoothed(model, seen)):
        classes[index] = model.classify(probabilities)
        near = (classes[index] > 0) | (probabilities[..., 0] < 1 - _POSSIBLE)
        total += float(entropy(probabilities[near]).sum())
        count += int(near.sum())
    return Predicted(without_islands(classes, compact), total / count if count else 0.0)


_POSSIBLE = 0.25


def _smoothed(model: Model, seen: Seen) -> Iterator[NDArray[np.float32]]:
    """Yield the probabilities of each slice, smoothed in it and with its neighbours."""
    n_slices = seen.stack.shape[0]
    window: deque[NDArray[np.float32]] = deque(maxlen=3)
    for index in range(n_slices):
        window.append(_one(model, seen, index))
        if index == 0:
            window.append(window[0])  # beyond the first slice and the last it goes on as it is
        if index:
            yield _mixed(window)
    if n_slices:
        window.append(window[-1])
        yield _mixed(window)


def _mixed(window: deque[NDArray[np.float32]]) -> NDArray[np.float32]:
    parts = list(window) if len(window) == len(_KERNEL) else [window[0], *window]
    return np.asarray(sum(share * part for share, part in zip(_KERNEL, parts, strict=True)), np.float32)


def _one(model: Model, seen: Seen, index: int) -> NDArray[np.float32]:
    rows = seen.features(index)
    flat = model.probabilities(rows.reshape(-1, rows.shape[-1])).reshape(*rows.shape[:2], -1)
    return np.asarray(ndimage.gaussian_filter(flat, (_SIGMA, _SIGMA, 0), mode="nearest"), np.float32)


def without_islands(classes: NDArray[np.uint8], compact: Collection[int]) -> NDArray[np.uint8]:
    """Drop the pieces of each compact class that are smaller than a tenth of its largest one.

    >>> without_islands(np.array([[[1] * 20 + [0, 1]]], np.uint8), [1]).sum()
    20
    """
    kept = classes.copy()
    for number in compact:
        kept[_islands(classes == number)] = 0
    return kept


def scattered(classes: NDArray[np.uint8], n_classes: int) -> NDArray[np.float64]:
    """Return which part of each class lies in such small pieces, shape (n_classes,); NaN for one that is not there."""
    parts = np.full(n_classes, np.nan)
    for number in range(1, n_classes + 1):
        mask = classes == number
        if mask.any():
            parts[number - 1] = np.count_nonzero(_islands(mask)) / np.count_nonzero(mask)
    return parts


def compact_classes(parts: NDArray[np.float64]) -> tuple[int, ...]:
    """Return the classes that hardly lie in small pieces in the labels: what `scattered` gives of each, one a row.

    >>> compact_classes(np.array([[0.0, 0.3], [0.01, np.nan]]))
    (1,)
    """
    are_there = ~np.isnan(parts)
    means = np.where(are_there, parts, 0).sum(axis=0) / np.maximum(are_there.sum(axis=0), 1)
    return tuple(int(number) for number in np.flatnonzero(means < _SCATTERED) + 1)


def _islands(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the pieces of a mask that are smaller than a tenth of the largest."""
    pieces, n_pieces = ndimage.label(mask)
    sizes = np.bincount(pieces.ravel(), minlength=n_pieces + 1)
    sizes[0] = 0
    small = sizes < _ISLAND * sizes.max()
    small[0] = False
    return np.asarray(small[pieces], np.bool_)
