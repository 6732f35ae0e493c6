"""A reader's label as classes on the grid of its study's volume."""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firstpick.voxels.formats import one_sentence
from firstpick.voxels.grids import Grid, find_fit, placed, read_grid
from firstpick.voxels.label_formats import LabelError, read_label, write_label
from firstpick.voxels.labels import values_of
from firstpick.voxels.stored import LPS_TO_RAS
from firstpick.voxels.volumes import Volume


def volume_grid(volume: Volume) -> Grid:
    """Return where the voxels of a volume lie."""
    n_x, n_y, n_z = volume.array.shape
    return Grid((n_x, n_y, n_z), LPS_TO_RAS @ volume.affine, is_picture=volume.is_picture)


def read_classes(path: Path, volume: Volume, labels: Mapping[str, int]) -> NDArray[np.uint8]:
    """Read a label.

    Parameters
    ----------
    path : Path
        As readers send it, see `firstpick.voxels.labels.on_grid`.
    volume : Volume
        Of its study.
    labels : mapping of str to int
        Name and value of each class; what else the label holds is background. A segmentation file is read by its
        names, any other by its values.

    Returns
    -------
    ndarray of shape (nx, ny, nz), uint8
        0 for background, ``i + 1`` for the i-th of `labels`; where layers overlap, the last one.

    Raises
    ------
    LabelError
        If it cannot be read, or does not lie on the grid of the volume.
    """
    grid = volume_grid(volume)
    try:
        sent = read_label(path, volume.array.size)
    except LabelError:
        raise
    except Exception as error:  # the libraries raise whatever a damaged file makes them stumble over
        msg = f"The label cannot be read, it may be damaged: {one_sentence(error, path)}."
        raise LabelError(msg) from error
    fits = (find_fit(sent.array.shape[:3], affine, grid, is_crop=bool(sent.segments)) for affine in sent.affines)
    fit = next((fit for fit in fits if fit is not None), None)
    if fit is None:
        msg = f"The label {path.name} does not lie on the grid of its study any more."
        raise LabelError(msg)
    number = {name: place for place, name in enumerate(labels, start=1)}
    named = {value: number[name] for name, value in labels.items()}
    array = placed(sent.array, fit, grid)
    classes = np.zeros(grid.size, np.uint8)
    for item in values_of(sent):
        own = number.get(item.name, 0) if item.name else named.get(item.value, 0)
        if own:
            classes[array[..., item.layer] == item.value] = own
    return classes


def write_classes(
    classes: NDArray[np.uint8], volume: Volume, labels: Mapping[str, int], served: Path | None, out: Path
) -> None:
    """Write classes as a mask with the values of `labels`: all of it at once, and on the disk.

    Parameters
    ----------
    classes : ndarray of shape (nx, ny, nz), uint8
        As `read_classes` returns them.
    volume : Volume
        Of the study.
    labels : mapping of str to int
    served : Path or None
        The file that readers open: the mask lies on its grid. Without it on that of `volume`, which is RAS+.
    out : Path
        A ``.nii.gz``; its folder is made.

    Raises
    ------
    LabelError
        If the volume does not lie on the grid.
    """
    grid = read_grid(served) if served is not None else volume_grid(volume)
    partial = out.with_name(f"{uuid.uuid4().hex}.part.nii.gz")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(classes, volume, labels, grid, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def count_classes(classes: NDArray[np.uint8], names: Collection[str]) -> dict[str, int]:
    """Return the number of voxels of each class."""
    counts = np.bincount(classes.ravel(), minlength=len(names) + 1)[1:]
    return {name: int(n) for name, n in zip(names, counts, strict=True)}


def _write(classes: NDArray[np.uint8], volume: Volume, labels: Mapping[str, int], grid: Grid, out: Path) -> None:
    fit = find_fit(classes.shape, LPS_TO_RAS @ volume.affine, grid, is_crop=False)
    if fit is None:
        msg = "The volume does not lie on the grid of the file that readers open."
        raise LabelError(msg)
    values = np.array([0, *labels.values()])
    kind = np.uint8 if values.max() <= np.iinfo(np.uint8).max else np.uint16
    mask = values.astype(kind)[classes]
    write_label(placed(mask[..., np.newaxis], fit, grid), grid, {}, out)
