"""A saved label on the grid of its study: flipped, exchanged or padded where that is all it takes, never resampled."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstpick.voxels.formats import one_sentence
from firstpick.voxels.grids import Fit, Grid, described, find_fit, placed, times, what_was_done
from firstpick.voxels.label_formats import LabelError, SentLabel, read_label, write_label
from firstpick.voxels.stored import N_AXES


@dataclass(frozen=True)
class Value:
    """One value of a label other than 0; ``name`` and ``layer`` are those of a segmentation file."""

    value: int
    n_voxels: int
    name: str = ""
    layer: int = 0


@dataclass(frozen=True)
class Label:
    """What a label file holds.

    Attributes
    ----------
    checksum : str
        ``SHA256:`` and the digest of the file.
    n_voxels : int
        Not background, all layers together; 0 says that nothing was found.
    values : tuple of Value
    changes : str
        What was done to put it on its study's grid; empty if it lay there.
    """

    checksum: str
    n_voxels: int
    values: tuple[Value, ...]
    changes: str = ""


def on_grid(source: Path, grid: Grid | None, target: Path) -> Label:
    """Check a label file and write it on the grid of its study.

    Parameters
    ----------
    source : Path
        NIfTI, NRRD (also ``.seg.nrrd`` with a cropped extent or several layers), MetaImage or a picture, by its ending.
    grid : Grid or None
        Of the file that readers open; None if the study cannot be read now: then only the label itself is checked.
    target : Path
        Of the same ending. The very bytes of `source` where it lies on the grid; on the disk when this returns.

    Raises
    ------
    LabelError
        If the file is no image of whole numbers, or does not fit: another size, spacing, place or direction.
    """
    try:
        sent = read_label(source, None if grid is None else int(np.prod(grid.size)))
        fit = None if grid is None else _fit(sent, grid)
        _check_whole(sent.array)
    except LabelError:
        raise
    except (MemoryError, EOFError) as error:
        why = "it ends before its last voxel" if isinstance(error, EOFError) else "it does not fit into memory"
        msg = f"The label cannot be read: {why}."
        raise LabelError(msg) from error
    except Exception as error:  # the libraries raise whatever a damaged file makes them stumble over
        msg = f"The label cannot be read, it may be damaged or no image: {one_sentence(error, source)}."
        raise LabelError(msg) from error
    values = values_of(sent)
    changes = ""
    if grid is None or fit is None or fit.is_exact:
        shutil.copyfile(source, target)
    else:
        write_label(placed(sent.array, fit, grid), grid, sent.segments, target)
        changes = what_was_done(fit, sent.array.shape, grid)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    return Label(checksum(target), sum(value.n_voxels for value in values), values, changes)


def _fit(sent: SentLabel, grid: Grid) -> Fit:
    """Find how a label lies on a grid; LabelError if it does not."""
    size = sent.array.shape[:N_AXES]
    usable = [a for a in sent.affines if np.isfinite(a).all() and abs(np.linalg.det(a[:N_AXES, :N_AXES])) > 0]
    for affine in usable:
        fit = find_fit(size, affine, grid, is_crop=bool(sent.segments))
        if fit is not None:
            return fit
    got = described(size, usable[0]) if usable else f"{times(size)} voxels and no usable place"
    msg = (
        f"The label does not lie on the grid of its study. It has {got}; "
        f"the study has {described(grid.size, grid.affine)}. Save it on the study's own grid."
    )
    raise LabelError(msg)


def _check_whole(array: NDArray[Any]) -> None:
    if array.dtype.kind in "iub":
        return
    wrong = ~(np.isfinite(array) & (array == np.rint(array))) if array.dtype.kind == "f" else np.ones(1, bool)
    if wrong.any():
        example = f" such as {array[wrong][0]:.6g}" if array.dtype.kind == "f" else f" but {array.dtype}"
        msg = f"The label's values are no whole numbers{example}: it is an image or a probability map, not a mask."
        raise LabelError(msg)


def values_of(sent: SentLabel) -> tuple[Value, ...]:
    """Count each value; a segmentation file says what each is called."""
    names = {}
    numbers = sorted(int(key[7:-3]) for key in sent.segments if re.fullmatch(r"Segment\d+_ID", key))
    for number in numbers:
        said = {what: sent.segments.get(f"Segment{number}_{what}", "") for what in ("Layer", "LabelValue", "Name")}
        layer, value = (int(said[what]) if said[what].isdigit() else default for what, default in _DEFAULTS)
        names[layer, value] = said["Name"]
    found = []
    for layer in range(sent.array.shape[-1]):
        counts: dict[int, int] = {}
        for slab in np.moveaxis(sent.array[..., layer], 2, 0):
            for value, count in _counts(slab):
                counts[int(value)] = counts.get(int(value), 0) + int(count)
        found += [Value(value, n, names.get((layer, value), ""), layer) for value, n in sorted(counts.items()) if value]
    return tuple(found)


_DEFAULTS = (("Layer", 0), ("LabelValue", 1))


def _counts(slab: NDArray[Any]) -> Iterable[tuple[Any, Any]]:
    """Each value of a slice and how often it is there; without sorting where values are small."""
    if slab.dtype.kind == "u" and slab.dtype.itemsize <= 2:  # noqa: PLR2004 - 65,536 values
        counts = np.bincount(slab.ravel())
        found = np.flatnonzero(counts)
        return zip(found, counts[found], strict=True)
    return zip(*np.unique(slab, return_counts=True), strict=True)


def checksum(path: Path) -> str:
    """Return ``SHA256:`` and the digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"SHA256:{digest.hexdigest()}"
