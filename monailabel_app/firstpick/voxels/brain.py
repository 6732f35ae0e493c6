"""Formats of brain research that nibabel reads: Analyze, MGH of FreeSurfer, MINC, PAR/REC of Philips and AFNI."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as _nibabel
import numpy as np
from numpy.typing import NDArray

from firstpick.voxels.nifti import beside, is_nifti, read_nifti
from firstpick.voxels.raw import open_packed, read_raw
from firstpick.voxels.stored import N_AXES, Stored, VolumeError, fill, note_complex, note_first

nibabel: Any = _nibabel  # some of it has types
_MGH_HEADER_BYTES = 284


def read_pair(path: Path) -> Stored:
    """Read NIfTI or Analyze by its header or its voxels."""
    header = path if ".hdr" in path.name.lower()[-7:] else beside(path, (".hdr", ".hdr.gz"))
    if header is None:
        msg = f"{path.name} has no header {path.stem}.hdr beside it."
        raise VolumeError(msg)
    with open_packed(header) as file:
        if is_nifti(file.read(348)):
            return read_nifti(header)
    if beside(path, (".img", ".img.gz")) is None:
        msg = f"{path.name} has no voxels {path.stem}.img beside it."
        raise VolumeError(msg)
    return read_by_nibabel(header)


def read_mgh(path: Path) -> Stored:
    """Read a volume of FreeSurfer, packed or not."""
    with open_packed(path) as file:
        header = nibabel.MGHImage.header_class(file.read(_MGH_HEADER_BYTES))
    shape = tuple(header.get_data_shape())
    nx, ny, nz = (*shape, 1, 1, 1)[:N_AXES]
    array, notes = read_raw(path, (nx, ny, nz), header.get_data_dtype(), offset=_MGH_HEADER_BYTES)
    return Stored(
        array, np.asarray(header.get_affine(), np.float64), notes=note_first(shape[N_AXES:], "frames") + notes
    )


def read_by_nibabel(path: Path) -> Stored:
    """Read any other file that nibabel knows, slice by slice; of several frames the first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that are unusual
        image = nibabel.load(path, **({"permit_truncated": True} if path.suffix.lower() == ".par" else {}))
        shape = tuple(image.shape)
        nx, ny, nz = (*shape, 1, 1, 1)[:N_AXES]
        first = (0,) * (len(shape) - N_AXES)

        def slabs() -> Iterator[NDArray[Any]]:
            for k in range(nz):
                where = (slice(None), slice(None), k, *first)[: len(shape)]
                yield np.asanyarray(image.dataobj[where]).reshape(nx, ny)

        array = fill(path.name, (nx, ny, nz), slabs())
    notes = note_first(shape[N_AXES:], "frames") + note_complex(np.dtype(image.get_data_dtype()))
    return Stored(array, np.asarray(image.affine, np.float64), notes=notes)


def nibabel_geometry(path: Path) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Read the shape of a file, frames too, and its affine from the header."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = nibabel.load(path)
        return image.shape, np.asarray(image.affine, np.float64)
