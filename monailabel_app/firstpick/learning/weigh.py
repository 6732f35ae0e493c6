"""What labels leave unsure in the patches of a pool, worked out in a worker process, which keeps what it has read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firstpick.learning.draft import FEWEST, LearningError
from firstpick.learning.features import Reduction, reduced_to
from firstpick.learning.look import StudyPatches, kept_patches, teach
from firstpick.learning.uncertainty import MOST_TAUGHT, LabelledPatches, doubt
from firstpick.learning.work import Teaching
from firstpick.selection.patches import N_COMPONENTS, Patches
from firstpick.studies import Slice
from firstpick.voxels.label_formats import LabelError
from firstpick.voxels.volumes import VolumeError


@dataclass(frozen=True)
class Weighed:
    """Patches of some studies, and how unsure labels leave them.

    Attributes
    ----------
    rows : ndarray of shape (m, n_components), float16, unit rows
    study, part : ndarray of shape (m,), intp
        Of which study each patch is, and of which of its samples.
    bits : ndarray of shape (m,), float32
        Entropy of what a probe of the labels says of it.
    """

    rows: NDArray[np.float16]
    study: NDArray[np.intp]
    part: NDArray[np.intp]
    bits: NDArray[np.float32]


@dataclass(frozen=True)
class _Looked:
    """Patches of all studies, as a probe sees them and as they are compared, and of what they are."""

    reduction: Reduction
    features: NDArray[np.float32]
    rows: NDArray[np.float16]
    study: NDArray[np.intp]
    part: NDArray[np.intp]


_looked: dict[tuple[Path, ...], _Looked] = {}
_taught: dict[tuple[str, str, tuple[Slice, ...]], LabelledPatches | None] = {}


def weigh_here(teaching: Teaching, files: tuple[Path, ...]) -> Weighed | None:
    """Say what labels leave unsure in patches that were taken; what was read and learnt stays in this process.

    Parameters
    ----------
    teaching : Teaching
    files : tuple of Path
        Of `firstpick.learning.look.look`.

    Returns
    -------
    Weighed or None
        None if a file is gone or was damaged.

    Raises
    ------
    LearningError
        If too few labels can be read, or all their patches are of one class.
    """
    if files not in _looked:
        _looked.clear()
        found = [kept_patches(path) for path in files]
        studies = [one for one in found if one is not None]
        if len(studies) < len(files) or not studies:
            return None
        _looked[files] = _reduced(studies)
    looked = _looked[files]
    taught = [replace(one, rows=looked.reduction.of(one.rows)) for one in _lessons(teaching)]
    try:
        bits = doubt(taught, looked.features)
    except ValueError as error:
        raise LearningError(str(error)) from error
    return Weighed(looked.rows, looked.study, looked.part, bits)


def _reduced(studies: Sequence[StudyPatches]) -> _Looked:
    """Reduce patches to 64 principal components of their own; of equal spread for the probe, see `Patches`."""
    rows = np.concatenate([one.rows for one in studies])
    sample = rows[:: max(1, len(rows) // MOST_TAUGHT)]
    reduction = reduced_to(sample, max(1, min(N_COMPONENTS, len(sample) // 4)))
    study = np.repeat(np.arange(len(studies)), [len(one.rows) for one in studies])
    compared = Patches.reduced(rows, study).rows.astype(np.float16)
    return _Looked(reduction, reduction.of(rows), compared, study, np.concatenate([one.part for one in studies]))


def _lessons(teaching: Teaching) -> list[LabelledPatches]:
    """Return patches of the labelled studies; each label is looked at once."""
    keys = {(one.study.study_id, one.checksum, one.slices): one for one in teaching.labelled}
    for key in _taught.keys() - keys.keys():
        del _taught[key]
    for key, one in keys.items():
        if key not in _taught:
            try:
                _taught[key] = teach(
                    one,
                    spec=teaching.spec,
                    labels=dict(teaching.classes),
                    folder=teaching.tokens,
                    tokens_gb=teaching.tokens_gb,
                )
            except (LabelError, VolumeError):  # drafts say so, and why
                _taught[key] = None
    taught = [one for one in _taught.values() if one is not None]
    if len(taught) < FEWEST:
        msg = f"{FEWEST} labels are needed to learn from; {len(taught)} can be read."
        raise LearningError(msg)
    most = max(1, MOST_TAUGHT // len(taught))
    return [one.thinned(most) for one in taught]
