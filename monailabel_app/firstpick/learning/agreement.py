"""How well each label agrees with what the others teach, and which ones do not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEWEST = 4
"""Labels from which on one can be said to disagree with the others."""
_SOUND = 0.5
_PART = 0.5
_EMPTY = 0.75


@dataclass(frozen=True)
class Doubt:
    """A label that disagrees with all others, and how."""

    study_id: str
    sentence: str


def dice_by_class(
    found: NDArray[Any], truth: NDArray[Any], n_classes: int, weights: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """Return the Dice of each class but background, shape (n_classes,); NaN for one that is in neither.

    Parameters
    ----------
    found, truth : ndarray of one shape
        Classes, 0 for background.
    n_classes : int
    weights : ndarray of the same shape, optional
        Voxels that each entry stands for.

    Examples
    --------
    Two voxels are marked, one of them rightly, and one is missed.

    >>> dice_by_class(np.array([1, 1, 0, 0]), np.array([1, 0, 1, 0]), 2).tolist()
    [0.5, nan]
    """
    each = None if weights is None else weights.ravel()
    n_found, n_truth = (np.bincount(of.ravel(), each, n_classes + 1)[1:] for of in (found, truth))
    alike = np.where(found == truth, truth, 0).ravel()
    n_both = np.bincount(alike, each, n_classes + 1)[1:]
    either = n_found + n_truth
    return np.divide(2.0 * n_both, either, out=np.full(n_classes, np.nan), where=either > 0)


def mean_dice(by_class: NDArray[np.float64]) -> float | None:
    """Return the mean over the classes that a study has, or the draft of it; None if there is none.

    >>> mean_dice(np.array([0.5, np.nan])), mean_dice(np.array([np.nan]))
    (0.5, None)
    """
    known = by_class[~np.isnan(by_class)]
    return float(known.mean()) if len(known) else None


def doubts(
    study_ids: Sequence[str], dice: NDArray[np.float64], n_voxels: NDArray[Any], names: Sequence[str]
) -> tuple[Doubt, ...]:
    """Name the labels that disagree with all others.

    Parameters
    ----------
    study_ids : sequence of str
    dice : ndarray of shape (n_studies, n_classes), float64
        Between each label and what the others teach of its study; NaN where neither has the class.
    n_voxels : ndarray of shape (n_studies, n_classes), int
        Of each class in each label.
    names : sequence of str
        Of the classes.

    Returns
    -------
    tuple of Doubt
        At most one a study, in their order.

    Notes
    -----
    Nothing is said of fewer than four labels. A label is doubted if it is *empty*, while more than three quarters of
    the others are not; if it *lacks a class* that all others have; or if the others, the median of whose Dice is .5 or
    more, agree with it by less than half that median. It is a rule for gross errors, such as a mask that is flipped or
    of another organ, not for poor ones.
    """
    if len(study_ids) < FEWEST:
        return ()
    found = []
    means = [mean_dice(row) for row in dice]
    for place, study_id in enumerate(study_ids):
        others = np.arange(len(study_ids)) != place
        has, theirs = n_voxels[place] > 0, n_voxels[others] > 0
        known = [mean for other, mean in enumerate(means) if mean is not None and other != place]
        median = float(np.median(known)) if known else 0.0
        lacking = [name for name, own, all_have in zip(names, has, theirs.all(axis=0), strict=True) if all_have > own]
        mean = means[place]
        if not has.any():
            n_others = int(theirs.any(axis=1).sum())
            if n_others > _EMPTY * others.sum():
                found.append(Doubt(study_id, f"Its label is empty; {n_others} of the {others.sum()} others are not."))
        elif lacking:
            what = " and ".join(lacking)
            found.append(Doubt(study_id, f"Its label has no {what}; those of all {others.sum()} others do."))
        elif mean is not None and median >= _SOUND and mean < _PART * median:
            found.append(
                Doubt(
                    study_id,
                    f"Its label disagrees with what the others teach: Dice {mean:.2f}, where the median of the others "
                    f"is {median:.2f}. It may be flipped, shifted, or of another structure.",
                )
            )
    return tuple(found)
