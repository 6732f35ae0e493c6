"""NIfTI, one file or a pair of header and voxels: which of its forms to trust, and its voxels."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from firstpick.voxels.raw import open_packed, read_raw
from firstpick.voxels.stored import (
    LPS_TO_RAS,
    N_AXES,
    Stored,
    VolumeError,
    affine_of,
    note_complex,
    note_first,
)

#: `descrip` of a picture that was served as NIfTI: to be read as the picture that it is.
PICTURE_MARK = "2-D picture, columns and rows as stored"
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unknown, m, mm, micron
_UNIT_BITS = 7  # of `xyzt_units`, those that are of space
_KINDS = {
    348: (nibabel.nifti1.Nifti1Header, nibabel.nifti1.Nifti1PairHeader),
    540: (nibabel.nifti2.Nifti2Header, nibabel.nifti2.Nifti2PairHeader),
}  # by the size that a header states: of one file, of a pair
_SINGULAR = 1e-4  # of the volume that three axes of such lengths could span
_DISAGREE = 0.5  # of a voxel
_CIFTI = range(3000, 3100)  # intents
_SEVERE = 40  # nibabel's level for what it cannot mend
_quiet = logging.Logger("firstpick.voxels.nifti")  # noqa: LOG001  nobody listens: nibabel repairs, our notes say so
_quiet.addHandler(logging.NullHandler())


@dataclass(frozen=True)
class _Header:
    """What a NIfTI header says; `notes` on what was repaired."""

    fields: Any
    voxels: Path  # where they lie
    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    scaling: tuple[float, float]
    notes: tuple[str, ...]
    as_stored: bool  # SimpleITK makes the same of these fields


def read_nifti(path: Path, frame: int = -1) -> Stored:
    """Read a NIfTI file, or a pair by its header or its voxels: one of its frames, or of several the first."""
    header = _read_header(path)
    dtype = header.fields.get_data_dtype()
    nx, ny, nz = (*header.shape, 1, 1, 1)[:N_AXES]
    slope, intercept = header.scaling
    n_frames = int(np.prod(header.shape[N_AXES:], dtype=int))
    if frame >= n_frames:
        msg = f"{path.name} has {n_frames} frames, and none of the number {frame}."
        raise VolumeError(msg)
    offset = header.fields.get_data_offset() + max(frame, 0) * nx * ny * nz * dtype.itemsize
    array, notes = read_raw(header.voxels, (nx, ny, nz), dtype, offset=offset, slope=slope, intercept=intercept)
    return Stored(
        array,
        header.affine,
        is_picture=bytes(header.fields["descrip"]).startswith(PICTURE_MARK.encode()),
        notes=(note_first([n_frames], "frames") if frame < 0 else ()) + note_complex(dtype) + header.notes + notes,
        as_stored=header.as_stored and header.voxels == path and len(header.shape) <= N_AXES and dtype.kind != "c",
    )


def nifti_geometry(path: Path) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Read from its header the shape of a NIfTI file, frames too, and its affine."""
    header = _read_header(path)
    return header.shape, header.affine


def is_nifti(start: bytes) -> bool:
    """Tell from its first 348 bytes whether a file is NIfTI."""
    return start[344:347] in {b"n+1", b"ni1"} or start[4:7] in {b"n+2", b"ni2"}


def beside(path: Path, endings: tuple[str, ...]) -> Path | None:
    """Find the file of that name that ends with the first of `endings` there is, whatever its case."""
    stem = Path(path.name[:-3] if path.name.lower().endswith(".gz") else path.name).stem
    names = {file.name.lower(): file for file in path.parent.iterdir() if file.name.startswith(stem)}
    return next((names[f"{stem}{ending}".lower()] for ending in endings if f"{stem}{ending}".lower() in names), None)


def _read_header(path: Path) -> _Header:
    with open_packed(path) as file:
        block = file.read(540)
    sizes = [int.from_bytes(block[:4], order) for order in ("little", "big")]
    kinds = next((_KINDS[size] for size in sizes if size in _KINDS), None)
    if kinds is None or not is_nifti(block):
        msg = f"{path.name} is no NIfTI file: its header is not one."
        raise VolumeError(msg)
    is_pair = b"ni" in {block[344:346], block[4:6]}
    kind: Any = kinds[is_pair]
    fields = kind(binaryblock=block[: kind.template_dtype.itemsize], check=False)
    is_offset_usable = is_pair or fields.get_data_offset() >= fields.single_vox_offset
    if not is_offset_usable:
        fields.set_data_offset(fields.single_vox_offset)
    voxels = beside(path, (".img", ".img.gz")) if is_pair else path
    if voxels is None:
        msg = f"{path.name} has no voxels {path.stem}.img beside it."
        raise VolumeError(msg)
    if fields["intent_code"] in _CIFTI and fields.get_data_shape()[:N_AXES] == (1, 1, 1):
        msg = f"{path.name} is CIFTI: values on a surface, not a volume."
        raise VolumeError(msg)
    slope, intercept, notes = _scaling(fields)
    is_named_well = path.name.endswith((".nii", ".nii.gz", ".NII", ".NII.GZ"))  # for ITK, which knows no .Nii
    is_scaled_alike = bool(fields["scl_slope"]) or not fields["scl_inter"]  # 0 beside an intercept: ITK adds that
    affine, notes_on_form, is_sound = _affine(fields)
    fields.check_fix(logger=_quiet, error_level=_SEVERE)
    return _Header(
        fields,
        voxels,
        fields.get_data_shape(),
        affine,
        (slope, intercept),
        notes + notes_on_form,
        as_stored=is_sound and is_offset_usable and is_scaled_alike and is_named_well and not notes,
    )


def _scaling(fields: Any) -> tuple[float, float, tuple[str, ...]]:
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    if not np.isfinite(slope) or slope == 0:
        return 1.0, 0.0, ()
    if not np.isfinite(intercept):
        return slope, 0.0, ("intercept is not finite: 0 taken",)
    return slope, intercept, ()


def _affine(fields: Any) -> tuple[NDArray[np.float64], tuple[str, ...], bool]:
    """Trust the sform; if it is unusable the qform; else the spacing alone, axes as ITK takes them.

    Returns the affine, notes, and whether nothing had to be mended.
    """
    notes: tuple[str, ...] = ()
    spacing = np.abs(fields["pixdim"][1:4].astype(np.float64))
    usable = np.isfinite(spacing) & (spacing > 0)
    spacing[~usable] = 1.0
    fields["pixdim"][1:4] = spacing
    forms = {"sform": fields["sform_code"] > 0, "qform": fields["qform_code"] > 0}
    found = {name: form for name, is_coded in forms.items() if is_coded and (form := _form(fields, name)) is not None}
    taken = next(iter(found), "")
    if forms["sform"] and taken != "sform":
        notes += (f"sform is unusable: {taken or 'spacing alone'} taken",)
    elif forms["qform"] and not taken:
        notes += ("qform is unusable: spacing alone taken",)
    if len(found) == len(forms) and _disagree(found["sform"], found["qform"], fields.get_data_shape()):
        notes += ("sform and qform disagree: sform taken",)
    if taken != "sform" and not usable.all():
        notes += ("no usable spacing: 1 mm assumed",)
    unit = int(fields["xyzt_units"]) & _UNIT_BITS
    if unit not in _MM_PER_UNIT:
        notes += (f"unit of length {unit} is not known: mm assumed",)
    affine = found[taken] if taken else LPS_TO_RAS @ affine_of(np.diag(spacing))
    scale = _MM_PER_UNIT.get(unit, 1.0)
    is_sound = bool(usable.all()) and len(found) == sum(forms.values())
    return np.diag([scale, scale, scale, 1.0]) @ affine, notes, is_sound


def _form(fields: Any, name: str) -> NDArray[np.float64] | None:
    """Compute one of the two forms; None if it is not finite, or flat."""
    try:
        form = np.asarray(fields.get_sform() if name == "sform" else fields.get_qform(), np.float64)
    except (ValueError, ArithmeticError, np.linalg.LinAlgError, nibabel.spatialimages.HeaderDataError):
        return None
    lengths = np.linalg.norm(form[:N_AXES, :N_AXES], axis=0)
    if not np.isfinite(form).all() or not lengths.all():
        return None
    return form if abs(np.linalg.det(form[:N_AXES, :N_AXES] / lengths)) > _SINGULAR else None


def _disagree(one: NDArray[np.float64], other: NDArray[np.float64], shape: tuple[int, ...]) -> bool:
    """Whether two affines put a corner of the volume more than half a voxel apart."""
    last = np.array((*shape, 1, 1, 1)[:N_AXES]) - 1.0
    corners = np.array(list(np.ndindex(2, 2, 2))) * last
    apart = corners @ (one - other)[:N_AXES, :N_AXES].T + (one - other)[:N_AXES, N_AXES]
    smallest = np.linalg.norm(one[:N_AXES, :N_AXES], axis=0).min()
    return bool(np.linalg.norm(apart, axis=1).max() > _DISAGREE * smallest)
