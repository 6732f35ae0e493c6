"""Label files, read and written: NIfTI, what ITK reads, and Slicer's segmentations."""

from __future__ import annotations

import mmap
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK
from numpy.typing import NDArray

from firstpick.voxels.bounds import why_too_large
from firstpick.voxels.formats import ending_of
from firstpick.voxels.grids import EXACT, Grid, itk_affine, times
from firstpick.voxels.itk import ITK_FORMATS, itk_reader, itk_voxel_bytes
from firstpick.voxels.stored import LPS_TO_RAS, N_AXES

sitk: Any = SimpleITK  # has no types
_nibabel: Any = nibabel

_MAX_LAYERS = 64
_NRRD_END = re.compile(rb"\n\r?\n")
_NRRD_NAMES = re.compile(rb"(?i)[\r\n]data ?file *:")
_META_NAMES = re.compile(rb"ElementDataFile(?! *= *LOCAL *\r?\n)")
_NIFTI = (".nii", ".nii.gz")
SEGMENTATION = ".seg.nrrd"
_ITK_FORMATS = {
    SEGMENTATION: ITK_FORMATS[".nrrd"],
    ".nrrd": ITK_FORMATS[".nrrd"],
    ".mha": ITK_FORMATS[".mha"],
    ".png": "PNGImageIO",
    ".bmp": "BMPImageIO",
    ".tif": "TIFFImageIO",
    ".tiff": "TIFFImageIO",
}
LABEL_ENDINGS = (SEGMENTATION, *_NIFTI, *(ending for ending in _ITK_FORMATS if ending != SEGMENTATION))
"""Of the files that are taken as labels."""


class LabelError(Exception):
    """A file is no label of its study; the text says why not, what was got and what was expected."""


@dataclass(frozen=True)
class SentLabel:
    """A label as it was sent: axes as stored, then the layers."""

    array: NDArray[Any]
    affines: Sequence[NDArray[np.float64]]
    segments: Mapping[str, str] = field(default_factory=dict)


def label_ending(name: str) -> str:
    """Return the ending of a label file's name, lower case.

    >>> label_ending("case.seg.nrrd"), label_ending("Case.v2.NII.GZ"), label_ending("case")
    ('.seg.nrrd', '.nii.gz', '')
    """
    return SEGMENTATION if name.lower().endswith(SEGMENTATION) else ending_of(name)


def read_label(path: Path, n_expected: int | None) -> SentLabel:
    """Read a label file; `n_expected` is how many voxels its study has.

    Raises
    ------
    LabelError
        If it is of no format for labels, names another file, or has far too many voxels or too many axes. What the
        libraries raise about a damaged file comes through.
    """
    ending = label_ending(path.name)
    if path.stat().st_size == 0:
        msg = "The label is empty (0 bytes)."
        raise LabelError(msg)
    if ending not in LABEL_ENDINGS:
        msg = f"The label's ending '{ending}' is no format for labels. Send one of {', '.join(LABEL_ENDINGS)}."
        raise LabelError(msg)
    return _read_nifti(path, n_expected) if ending in _NIFTI else _read_itk(path, ending, n_expected)


def _check_size(size: Sequence[int], n_expected: int | None, n_bytes_each: int, *, n_layers: int = 1) -> None:
    """Refuse what is far larger than the study, or too large for any, before it is unpacked: a small file may be."""
    if 0 in size:
        msg = f"The label holds no voxel (size {times(size)})."
        raise LabelError(msg)
    if n_layers > _MAX_LAYERS or (n_expected is not None and int(np.prod(size)) > 2 * n_expected + 1000):
        layers = f" in {n_layers} layers" if n_layers > 1 else ""
        expected = "" if n_expected is None else f"; its study has {n_expected} voxels"
        msg = f"The label is too large: {times(size)} voxels{layers}{expected}."
        raise LabelError(msg)
    if why := why_too_large((*size, n_layers), n_bytes_each):
        msg = f"The label is too large: {why}."
        raise LabelError(msg)


def _read_nifti(path: Path, n_expected: int | None) -> SentLabel:
    image: Any = nibabel.load(path)
    size = (*image.shape, 1, 1)[: max(N_AXES, len(image.shape))]
    if any(n != 1 for n in size[N_AXES:]):
        msg = f"The label has {len(size)} axes (size {times(size)}); a label has one value for each voxel of space."
        raise LabelError(msg)
    is_scaled = image.header.get_slope_inter() != (None, None)
    _check_size(size[:N_AXES], n_expected, 8 if is_scaled else image.header.get_data_dtype().itemsize)
    if image.header.get_data_dtype().kind not in "iuf":
        msg = f"The label's values are of type {image.header.get_data_dtype()}, not whole numbers."
        raise LabelError(msg)
    array = np.asanyarray(image.dataobj).reshape(size[:N_AXES])[..., np.newaxis]
    affines = [form for form in (image.get_sform(coded=True)[0], image.get_qform(coded=True)[0]) if form is not None]
    return SentLabel(array, [LPS_TO_RAS @ affine for affine in affines or [image.affine]])


def _read_itk(path: Path, ending: str, n_expected: int | None) -> SentLabel:
    _refuse_detached(path)
    reader = itk_reader(path, _ITK_FORMATS[ending])  # bound to it: what is of another format may name other files
    size, n_layers = (*reader.GetSize(), 1, 1)[: max(N_AXES, reader.GetDimension())], reader.GetNumberOfComponents()
    keys = [key for key in reader.GetMetaDataKeys() if re.match(r"Segment(\d+|ation)_", key)]
    segments = {key: reader.GetMetaData(key) for key in keys}
    if len(size) > N_AXES or (n_layers > 1 and not segments and ending != SEGMENTATION):
        what = f"{len(size)} axes" if len(size) > N_AXES else f"{n_layers} values at each voxel"
        msg = f"The label has {what}; a label has one value for each voxel of space."
        raise LabelError(msg)
    _check_size(size, n_expected, itk_voxel_bytes(reader) // n_layers, n_layers=n_layers)
    image = reader.Execute()
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() == 1 and array.ndim == image.GetDimension():
        array = array[..., np.newaxis]
    if image.GetDimension() < N_AXES:
        array = array[np.newaxis]
    return SentLabel(np.moveaxis(array, (0, 1, 2), (2, 1, 0)), [itk_affine(image)], segments)


def _refuse_detached(path: Path) -> None:
    """Refuse a header that names another file: what that holds is nobody's to send.

    ITK reads more spellings than the formats allow, and headers of any length.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = _NRRD_END.search(content)
        named = _NRRD_NAMES.search(content, 0, end.start() if end else len(content))
        if (content[:4] == b"NRRD" and named) or _META_NAMES.search(content):
            msg = "The label names another file for its voxels. Send one file that holds all."
            raise LabelError(msg)


def write_label(array: NDArray[Any], grid: Grid, segments: Mapping[str, str], target: Path) -> None:
    """Write voxels (the last axis: layers) that fill a grid, in the format of the target's ending."""
    if label_ending(target.name) in _NIFTI:
        affine = LPS_TO_RAS @ grid.affine
        image: Any = _nibabel.Nifti1Image(array[..., 0], affine, dtype=array.dtype)
        image.set_sform(affine, 1)
        columns = affine[:N_AXES, :N_AXES] / np.linalg.norm(affine[:N_AXES, :N_AXES], axis=0)
        is_sheared = np.abs(columns.T @ columns - np.eye(N_AXES)).max() > EXACT
        image.set_qform(affine, 0 if is_sheared else 1)
        nibabel.save(image, target)
        return
    voxels = np.ascontiguousarray(np.moveaxis(array, (0, 1, 2), (2, 1, 0)))
    n_axes = 2 if grid.is_picture else N_AXES
    voxels = voxels[0] if grid.is_picture else voxels
    image = sitk.GetImageFromArray(voxels if voxels.shape[-1] > 1 else voxels[..., 0], isVector=voxels.shape[-1] > 1)
    columns = grid.affine[:n_axes, :n_axes]
    spacing = np.linalg.norm(columns, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((columns / spacing).ravel().tolist())
    image.SetOrigin(grid.affine[:n_axes, 3].tolist())
    extent = " ".join(f"0 {n - 1}" for n in grid.size)
    for key, value in segments.items():
        whole = {"Extent": extent, "ReferenceImageExtentOffset": "0 0 0"}
        image.SetMetaData(key, whole.get(key.split("_", 1)[1], value))
    sitk.WriteImage(image, str(target), useCompression=True)
