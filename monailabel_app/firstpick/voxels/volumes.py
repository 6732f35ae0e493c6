"""Read a study's voxels, whatever its format, to one form: float32, RAS+, mm, finite."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from firstpick.studies import Study
from firstpick.voxels.formats import data_files, read_stored
from firstpick.voxels.stored import N_AXES, Stored, VolumeError, affine_of, one_sentence, pixel_grid

__all__ = ["Volume", "VolumeError", "read_volume"]

_orientations: Any = nibabel.orientations  # has no types


@dataclass(frozen=True)
class Volume:
    """The voxels of one study.

    Attributes
    ----------
    array : ndarray of shape (nx, ny, nz), float32, finite
        Stored units (Hounsfield units for CT). A volume is RAS+: x grows to the patient's Right, y to
        Anterior, z to Superior. A picture has shape (n_columns, n_rows, 1): x is the column from left
        to right, y the row from top to bottom, as stored, never flipped. May be a flipped or transposed
        view: cut from it what you need, and make only that contiguous.
    spacing : tuple of 3 floats
        Distance of neighbouring voxels along x, y and z in mm; 1 where the file does not say.
    is_picture : bool
        True for a 2-D picture: PNG and its like, or a DICOM file with a single frame.
    modality : str
        DICOM modality (``CT``, ``MR``, ``CR``, ...); empty when the file does not say.
    notes : tuple of str
        What was done to the data: first frame taken, NaN replaced, ...
    affine : ndarray of shape (4, 4), float64
        From indices of `array` to mm, RAS+: spacing, directions (sheared by a tilted gantry), and the place of the
        first voxel. Its columns are as long as `spacing`. Of a picture without directions from its columns to
        Left and its rows to Posterior, as ITK sees it. By default that of `spacing` alone.
    as_stored : bool
        True if `array` holds the voxels of a single file just as SimpleITK reads them, axes apart.
    """

    array: NDArray[np.float32]
    spacing: tuple[float, float, float]
    is_picture: bool = False
    modality: str = ""
    notes: tuple[str, ...] = ()
    affine: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    as_stored: bool = False

    def __post_init__(self) -> None:
        if not self.affine.size:
            grid = pixel_grid(self.spacing) if self.is_picture else affine_of(np.diag(self.spacing))
            object.__setattr__(self, "affine", grid)


def read_volume(study: Study | str | Path) -> Volume:
    """Read the voxels of one study.

    Parameters
    ----------
    study : Study, str or Path
        As listed, of one of several series the primary; or a path: of a file by its ending, which is one of
        `firstpick.voxels.formats.ENDINGS`, of a DICOM file of any name, or of a folder with one DICOM series.

    Returns
    -------
    Volume
        RAS+ by the file's affine. Axes are flipped and exchanged, never resampled: an oblique volume
        keeps its grid, its axes named after the nearest anatomical ones. Slopes and intercepts are
        applied, MONOCHROME1 is inverted, colour becomes luminance (ITU-R BT.601), alpha is ignored.
        Of several frames, pages, components or stacks in one series the first is taken, unless the study is
        another frame; NaN and infinity become the smallest finite value.

    Raises
    ------
    VolumeError
        If the study is missing, cannot be read, is damaged, is too large, holds no voxel or no finite value, or
        names a file outside of the studies folder for its voxels.
    """
    if isinstance(study, Study):
        path, files, frame = Path(study.source), study.files, study.frame
    else:
        path, files, frame = Path(study), (), -1
    try:
        if isinstance(study, Study) and not files:
            _check_inside(path, study.folder)
        stored = read_stored(path, files, frame)
        replaced = _make_finite(path.name, stored.array)
        if replaced:
            stored = replace(stored, notes=stored.notes + replaced, as_stored=False)
        return _to_ras(stored)
    except VolumeError:
        raise
    except FileNotFoundError as error:
        missing = Path(str(error.filename or path)).name
        of = "" if missing == path.name else f"{path.name} cannot be read: its file "
        msg = f"{of}{missing} does not exist."
        raise VolumeError(msg) from error
    except PermissionError as error:
        msg = f"{path.name} may not be read: permission denied."
        raise VolumeError(msg) from error
    except MemoryError as error:
        msg = f"{path.name} does not fit into memory."
        raise VolumeError(msg) from error
    except Exception as error:  # the libraries raise whatever a damaged file makes them stumble over
        msg = f"{path.name} cannot be read, it may be damaged or incomplete: {one_sentence(error, path)}."
        raise VolumeError(msg) from error


def _check_inside(path: Path, folder: str) -> None:
    """Refuse a file whose header names one outside of the studies folder, which `folder` leads to."""
    root = path.parents[len(Path(folder).parts)]
    for name in data_files(path):
        if not Path(os.path.normpath(path.parent / name)).is_relative_to(root):
            msg = f"{path.name} names a file outside of the studies folder for its voxels, {name}: it is not read."
            raise VolumeError(msg)


def _to_ras(stored: Stored) -> Volume:
    array, affine, notes, as_stored = stored.array, stored.affine.copy(), stored.notes, stored.as_stored
    spacing = np.linalg.norm(affine[:N_AXES, :N_AXES], axis=0)
    usable = np.isfinite(spacing) & (spacing > 0)
    turn = _orientation(affine)
    if not usable.all():
        notes += ("no usable spacing: 1 mm assumed",)
    if turn is None:
        notes += ("no usable orientation: axes taken as stored",)
        affine = affine_of(np.diag(np.where(usable, spacing, 1.0)))
        as_stored = False
    elif not stored.is_picture:
        affine = affine @ _orientations.inv_ornt_aff(turn, array.shape)
        array = _orientations.apply_orientation(array, turn)  # a view
    x, y, z = np.linalg.norm(affine[:N_AXES, :N_AXES], axis=0).tolist()
    return Volume(array, (x, y, z), stored.is_picture, stored.modality, notes, affine, as_stored)


def _orientation(affine: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Find for each stored axis the anatomical axis and the sign; None if the affine is singular."""
    if not np.isfinite(affine).all():
        return None
    turn: NDArray[np.float64] = _orientations.io_orientation(affine)
    return None if np.isnan(turn).any() else turn


def _make_finite(name: str, array: NDArray[np.float32]) -> tuple[str, ...]:
    """Replace NaN and infinity in place by the smallest finite value, slice by slice; note it if there were any."""
    n_finite, smallest = 0, np.inf
    for slab in np.moveaxis(array, 2, 0):
        finite = np.isfinite(slab)
        n_finite += int(np.count_nonzero(finite))
        smallest = min(smallest, float(slab.min(initial=np.inf, where=finite)))
    if n_finite == array.size:
        return ()
    if n_finite == 0:
        msg = f"{name} holds no finite value."
        raise VolumeError(msg)
    for slab in np.moveaxis(array, 2, 0):
        slab[~np.isfinite(slab)] = smallest
    return (f"{array.size - n_finite} values that were not finite set to the smallest one, {smallest:.6g}",)
