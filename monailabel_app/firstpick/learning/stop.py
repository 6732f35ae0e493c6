"""How much readers change drafts, and when that is so little that they may only check them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from firstpick.learning.agreement import dice_by_class, mean_dice

_PERCENTILE = 95


@dataclass(frozen=True)
class Correction:
    """What a reader made of a draft.

    Attributes
    ----------
    dice : float
        Mean over the classes that the draft or the label has; 1 where neither has any.
    distance_mm : float or None
        The 95th percentile of the distances of either's surface from the other's, the worst class; None where one of
        the two lacks a class of the other, or both are empty. In pixels for a picture.
    n_changed : int
        Voxels that are of another class.
    n_voxels : int
        Of the label, background apart.
    """

    dice: float
    distance_mm: float | None
    n_changed: int
    n_voxels: int


def correction(
    draft: NDArray[np.uint8], label: NDArray[np.uint8], n_classes: int, spacing: Sequence[float]
) -> Correction:
    """Compare a draft with the label that a reader made of it.

    Parameters
    ----------
    draft, label : ndarray of one shape, uint8
        Classes, 0 for background.
    n_classes : int
    spacing : sequence of float
        Distance of neighbouring voxels along each axis, in mm.

    Examples
    --------
    Of a line of four voxels the draft has three; they are 2 mm apart.

    >>> draft, label = np.array([[[0, 1, 1, 1, 0]], [[0, 1, 1, 1, 1]]], np.uint8)
    >>> correction(draft, label, 1, (1.0, 2.0))
    Correction(dice=0.8571428571428571, distance_mm=2.0, n_changed=1, n_voxels=4)
    """
    mean = mean_dice(dice_by_class(draft, label, n_classes))
    distances = [_distance(draft == number, label == number, spacing) for number in range(1, n_classes + 1)]
    known = [one for one in distances if one is not None]
    is_lacking = any((draft == number).any() != (label == number).any() for number in range(1, n_classes + 1))
    return Correction(
        1.0 if mean is None else mean,
        max(known) if known and not is_lacking else None,
        int(np.count_nonzero(draft != label)),
        int(np.count_nonzero(label)),
    )


def _distance(a: NDArray[np.bool_], b: NDArray[np.bool_], spacing: Sequence[float]) -> float | None:
    """Return the 95th percentile of the distances of each surface from the other; None where one is empty."""
    if not (a.any() and b.any()):
        return None
    box = ndimage.find_objects((a | b).astype(np.uint8))[0]  # nothing outside is nearer
    surfaces = [_surface(mask[box]) for mask in (a, b)]
    apart = [ndimage.distance_transform_edt(~surface, sampling=spacing) for surface in surfaces]
    both = np.concatenate([apart[1][surfaces[0]], apart[0][surfaces[1]]])
    return float(np.percentile(both, _PERCENTILE))


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the voxels of a mask with a neighbour, face to face, that is none."""
    thick = [axis for axis, n in enumerate(mask.shape) if n > 1]
    structure = np.zeros((3,) * mask.ndim, bool)
    structure[(1,) * mask.ndim] = True
    for axis in thick:
        structure[tuple(slice(None) if other == axis else 1 for other in range(mask.ndim))] = True
    inner = ndimage.binary_erosion(mask, structure)
    return np.asarray(mask & ~inner, np.bool_)


def when_to_stop(dice: Sequence[float], *, least: float, last: int) -> str | None:
    """Say that drafts need little correction, if the last ones did; never by itself more than a sentence.

    Parameters
    ----------
    dice : sequence of float
        Between each draft and what its reader made of it, the oldest first.
    least : float
        Median of the last ones from which on it is said.
    last : int
        How many that is.

    Examples
    --------
    >>> when_to_stop([0.5, 0.91, 0.95, 0.92], least=0.9, last=3)
    'The last 3 drafts needed little correction (median Dice 0.92): the next may be drafts to check, or stop here.'
    >>> when_to_stop([0.91, 0.95], least=0.9, last=3) is None
    True
    """
    if len(dice) < last:
        return None
    median = float(np.median(dice[-last:]))
    if median < least:
        return None
    what = f"The last {last} drafts" if last > 1 else "The last draft"
    return f"{what} needed little correction (median Dice {median:.2f}): the next may be drafts to check, or stop here."
