"""Mosaics of Siemens: all slices of a volume side by side in one DICOM picture."""

from __future__ import annotations

import importlib
import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstpick.voxels.dicom import Instance, read_header
from firstpick.voxels.stored import LPS_TO_RAS, N_AXES, Stored, VolumeError

_N_IMAGES, _CSA = (0x0019, 0x100A), (0x0029, 0x1010)


def read_mosaic(path: Path, instance: Instance, tiled: Stored) -> Stored:
    """Unfold a mosaic.

    Parameters
    ----------
    path : Path
        DICOM file.
    instance : Instance
        What its header says.
    tiled : Stored
        Its picture.

    Raises
    ------
    VolumeError
        If the file does not say how many slices it holds, or where.
    """
    n_images, normal = _read_private(path)
    n_tiles = math.ceil(math.sqrt(n_images))
    n_columns, n_rows = tiled.array.shape[:2]
    step = instance.thickness
    if not n_images or n_columns % n_tiles or n_rows % n_tiles or not step or not instance.place.orientation:
        msg = f"{path.name} is a mosaic that does not say how to unfold it: convert it with dcm2niix."
        raise VolumeError(msg)
    nx, ny = n_columns // n_tiles, n_rows // n_tiles
    corners = [(k % n_tiles * nx, k // n_tiles * ny) for k in range(n_images)]
    array = np.stack([tiled.array[x : x + nx, y : y + ny, 0] for x, y in corners], axis=2)
    affine = LPS_TO_RAS @ tiled.affine
    across = np.cross(affine[:N_AXES, 0], affine[:N_AXES, 1])
    affine[:N_AXES, 2] = step * across / np.linalg.norm(across) * (-1 if normal @ across < 0 else 1)
    # The position is the corner of a picture of the mosaic's size around the middle of the first slice.
    affine[:N_AXES, 3] += affine[:N_AXES, :2] @ [(n_columns - nx) / 2, (n_rows - ny) / 2]
    notes = (*tiled.notes, f"a mosaic of {n_images} slices unfolded")
    return replace(
        tiled,
        array=np.asfortranarray(array),
        affine=LPS_TO_RAS @ affine,
        is_picture=False,
        notes=notes,
        as_stored=False,
    )


def _read_private(path: Path) -> tuple[int, NDArray[np.float64]]:
    """Read the number of slices, 0 if it is not stated, and the normal from one to the next (LPS+)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        csareader: Any = importlib.import_module("nibabel.nicom.csareader")  # warns that it is experimental
        header = read_header(path, [_N_IMAGES, _CSA])
    n_images, normal = 0, np.zeros(N_AXES)
    if _CSA in header:
        csa: dict[str, Any] = csareader.read(header[_CSA].value)["tags"]
        stated = csa.get("NumberOfImagesInMosaic", {}).get("items") or [0]
        direction = csa.get("SliceNormalVector", {}).get("items") or []
        n_images = int(stated[0])
        normal = np.array(direction, np.float64) if len(direction) == N_AXES else normal
    if not n_images and _N_IMAGES in header:
        value = header[_N_IMAGES].value
        n_images = int.from_bytes(value[:2], "little") if isinstance(value, bytes) else int(value)
    return n_images, normal
