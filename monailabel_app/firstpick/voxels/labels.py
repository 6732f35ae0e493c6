"""A saved label on the grid of its study: flipped, exchanged or padded where that is all it takes, never resampled."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK
from numpy.typing import NDArray

from firstpick.voxels.formats import ending_of, one_sentence

sitk: Any = SimpleITK  # has no types
_nibabel: Any = nibabel

_N_AXES = 3
_TOLERANCE = 0.1  # of a voxel, at every corner
_EXACT = 1e-3  # of a voxel: closer than this, the file stays as it is
_MAX_LAYERS = 64
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_NIFTI = (".nii", ".nii.gz")
SEGMENTATION = ".seg.nrrd"
LABEL_ENDINGS = (SEGMENTATION, *_NIFTI, ".nrrd", ".mha", ".png", ".bmp", ".tif", ".tiff")
"""Of the files that are taken as labels."""


class LabelError(Exception):
    """A file is no label of its study; the text says why not, what was got and what was expected."""


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a file lie, as the programs of readers see it.

    Attributes
    ----------
    size : tuple of 3 ints
    affine : ndarray of shape (4, 4), float64
        Index of a voxel to its place in mm, LPS+.
    is_picture : bool
        True for a flat picture, whose spacing and place mean nothing.
    """

    size: tuple[int, int, int]
    affine: NDArray[np.float64]
    is_picture: bool = False


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


@dataclass(frozen=True)
class _Read:
    """A label as it was sent: axes as stored, then the layers."""

    array: NDArray[Any]
    affines: Sequence[NDArray[np.float64]]
    segments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Fit:
    """How a label lies on a grid: which of its axes is x, y and z, which run backwards, where it begins."""

    axes: tuple[int, ...]
    flipped: tuple[bool, ...]
    start: tuple[int, ...]
    is_exact: bool = False


def label_ending(name: str) -> str:
    """Return the ending of a label file's name, lower case.

    >>> label_ending("case.seg.nrrd"), label_ending("Case.v2.NII.GZ"), label_ending("case")
    ('.seg.nrrd', '.nii.gz', '')
    """
    return SEGMENTATION if name.lower().endswith(SEGMENTATION) else ending_of(name)


def read_grid(path: Path) -> Grid:
    """Read from its header where the voxels of a file lie; raises what the library raises."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    size = (*reader.GetSize(), 1)[:_N_AXES]
    return Grid((size[0], size[1], size[2]), _itk_affine(reader), is_picture=reader.GetDimension() < _N_AXES)


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
        read = _read(source, None if grid is None else int(np.prod(grid.size)))
        fit = None if grid is None else _fit(read, grid)
        _check_whole(read.array)
    except LabelError:
        raise
    except (MemoryError, EOFError) as error:
        why = "it ends before its last voxel" if isinstance(error, EOFError) else "it does not fit into memory"
        msg = f"The label cannot be read: {why}."
        raise LabelError(msg) from error
    except Exception as error:  # the libraries raise whatever a damaged file makes them stumble over
        msg = f"The label cannot be read, it may be damaged or no image: {one_sentence(error, source)}."
        raise LabelError(msg) from error
    values = _values(read)
    changes = ""
    if grid is None or fit is None or fit.is_exact:
        shutil.copyfile(source, target)
    else:
        _write(_placed(read.array, fit, grid), grid, read.segments, target)
        changes = _what_was_done(fit, read.array.shape, grid)
    return Label(f"SHA256:{_flushed(target)}", sum(value.n_voxels for value in values), values, changes)


def _flushed(path: Path) -> str:
    """Force a file to the disk and return its digest."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        os.fsync(file.fileno())
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# -- reading


def _read(path: Path, n_expected: int | None) -> _Read:
    ending = label_ending(path.name)
    if path.stat().st_size == 0:
        msg = "The label is empty (0 bytes)."
        raise LabelError(msg)
    if ending not in LABEL_ENDINGS:
        msg = f"The label's ending '{ending}' is no format for labels. Send one of {', '.join(LABEL_ENDINGS)}."
        raise LabelError(msg)
    return _read_nifti(path, n_expected) if ending in _NIFTI else _read_itk(path, ending, n_expected)


def _check_size(size: Sequence[int], n_expected: int | None, *, n_layers: int = 1) -> None:
    """Refuse what is far larger than the study before its voxels are read: a small file may claim any size."""
    if 0 in size:
        msg = f"The label holds no voxel (size {_times(size)})."
        raise LabelError(msg)
    if n_layers > _MAX_LAYERS or (n_expected is not None and int(np.prod(size)) > 2 * n_expected + 1000):
        layers = f" in {n_layers} layers" if n_layers > 1 else ""
        expected = "" if n_expected is None else f"; its study has {n_expected} voxels"
        msg = f"The label is too large: {_times(size)} voxels{layers}{expected}."
        raise LabelError(msg)


def _read_nifti(path: Path, n_expected: int | None) -> _Read:
    image: Any = nibabel.load(path)
    size = (*image.shape, 1, 1)[: max(_N_AXES, len(image.shape))]
    if any(n != 1 for n in size[_N_AXES:]):
        msg = f"The label has {len(size)} axes (size {_times(size)}); a label has one value for each voxel of space."
        raise LabelError(msg)
    _check_size(size[:_N_AXES], n_expected)
    if image.header.get_data_dtype().kind not in "iuf":
        msg = f"The label's values are of type {image.header.get_data_dtype()}, not whole numbers."
        raise LabelError(msg)
    array = np.asanyarray(image.dataobj).reshape(size[:_N_AXES])[..., np.newaxis]
    affines = [form for form in (image.get_sform(coded=True)[0], image.get_qform(coded=True)[0]) if form is not None]
    return _Read(array, [_LPS_TO_RAS @ affine for affine in affines or [image.affine]])


def _read_itk(path: Path, ending: str, n_expected: int | None) -> _Read:
    _refuse_detached(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    size, n_layers = (*reader.GetSize(), 1, 1)[: max(_N_AXES, reader.GetDimension())], reader.GetNumberOfComponents()
    keys = [key for key in reader.GetMetaDataKeys() if re.match(r"Segment(\d+|ation)_", key)]
    segments = {key: reader.GetMetaData(key) for key in keys}
    if len(size) > _N_AXES or (n_layers > 1 and not segments and ending != SEGMENTATION):
        what = f"{len(size)} axes" if len(size) > _N_AXES else f"{n_layers} values at each voxel"
        msg = f"The label has {what}; a label has one value for each voxel of space."
        raise LabelError(msg)
    _check_size(size, n_expected, n_layers=n_layers)
    image = reader.Execute()
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() == 1 and array.ndim == image.GetDimension():
        array = array[..., np.newaxis]
    if image.GetDimension() < _N_AXES:
        array = array[np.newaxis]
    return _Read(np.moveaxis(array, (0, 1, 2), (2, 1, 0)), [_itk_affine(image)], segments)


def _refuse_detached(path: Path) -> None:
    """Refuse a header that names another file: what that holds is nobody's to send."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    is_nrrd = head.startswith(b"NRRD")
    header = re.split(rb"\r?\n\r?\n", head)[0] if is_nrrd else head
    named = re.search(rb"(?im)^data ?file *: *(.+)" if is_nrrd else rb"(?m)^ElementDataFile *= *(\S+)", header)
    if named and (is_nrrd or named[1] != b"LOCAL"):
        msg = "The label names another file for its voxels. Send one file that holds all."
        raise LabelError(msg)


def _itk_affine(image: Any) -> NDArray[np.float64]:
    """Affine of an image, or of a reader that has read the header; a flat one lies at 0."""
    n = min(image.GetDimension(), _N_AXES)
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape([image.GetDimension()] * 2)[:n, :n]
    affine[:n, :n] = direction * np.array(image.GetSpacing()[:n])
    affine[:n, 3] = image.GetOrigin()[:n]
    return affine


def _check_whole(array: NDArray[Any]) -> None:
    if array.dtype.kind in "iub":
        return
    wrong = ~(np.isfinite(array) & (array == np.rint(array))) if array.dtype.kind == "f" else np.ones(1, bool)
    if wrong.any():
        example = f" such as {array[wrong][0]:.6g}" if array.dtype.kind == "f" else f" but {array.dtype}"
        msg = f"The label's values are no whole numbers{example}: it is an image or a probability map, not a mask."
        raise LabelError(msg)


def _values(read: _Read) -> tuple[Value, ...]:
    """Count each value; a segmentation file says what each is called."""
    names = {}
    numbers = sorted(int(key[7:-3]) for key in read.segments if re.fullmatch(r"Segment\d+_ID", key))
    for number in numbers:
        said = {what: read.segments.get(f"Segment{number}_{what}", "") for what in ("Layer", "LabelValue", "Name")}
        layer, value = (int(said[what]) if said[what].isdigit() else default for what, default in _DEFAULTS)
        names[layer, value] = said["Name"]
    found = []
    for layer in range(read.array.shape[-1]):
        counts: dict[int, int] = {}
        for slab in np.moveaxis(read.array[..., layer], 2, 0):
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


# -- fitting


def _fit(read: _Read, grid: Grid) -> _Fit:
    """Find how a label lies on a grid; LabelError if it does not."""
    size = read.array.shape[:_N_AXES]
    usable = [a for a in read.affines if np.isfinite(a).all() and abs(np.linalg.det(a[:_N_AXES, :_N_AXES])) > 0]
    for affine in usable:
        if grid.is_picture:
            fit = _fit_picture(size, affine, grid)
        else:
            fit = _fit_affine(size, affine, grid, is_crop=bool(read.segments)) or _fit_sheared(size, affine, grid)
        if fit is not None:
            return fit
    got = _described(size, usable[0]) if usable else f"{_times(size)} voxels and no usable place"
    msg = (
        f"The label does not lie on the grid of its study. It has {got}; "
        f"the study has {_described(grid.size, grid.affine)}. Save it on the study's own grid."
    )
    raise LabelError(msg)


def _fit_affine(size: Sequence[int], affine: NDArray[np.float64], grid: Grid, *, is_crop: bool) -> _Fit | None:
    to_grid = np.linalg.inv(grid.affine) @ affine
    for axis in (axis for axis in range(_N_AXES) if size[axis] == 1):  # one slice: its thickness means nothing
        along = int(np.argmax(np.abs(to_grid[:_N_AXES, axis])))
        if grid.size[along] == 1 and to_grid[along, axis]:
            to_grid[:, axis] /= abs(to_grid[along, axis])
    turn, shift = np.rint(to_grid[:_N_AXES, :_N_AXES]), np.rint(to_grid[:_N_AXES, 3])
    if (np.abs(turn).sum(0) != 1).any() or (np.abs(turn).sum(1) != 1).any():
        return None
    away = to_grid[:_N_AXES] - np.column_stack([turn, shift])
    error = _largest_error(away, size)
    first, last = shift, turn @ (np.asarray(size) - 1) + shift
    low, high = np.minimum(first, last), np.maximum(first, last)
    is_inside = bool((low >= 0).all() and (high < grid.size).all())
    is_whole = bool((low == 0).all() and (high == np.asarray(grid.size) - 1).all())
    if error > _TOLERANCE or not (is_whole or (is_crop and is_inside)):
        return None
    axes = tuple(int(axis) for axis in np.argmax(np.abs(turn), axis=1))
    flipped = tuple(bool(turn[row, axis] < 0) for row, axis in enumerate(axes))
    is_exact = is_whole and axes == (0, 1, 2) and not any(flipped) and error < _EXACT
    return _Fit(axes, flipped, tuple(int(n) for n in low), is_exact)


def _fit_picture(size: Sequence[int], affine: NDArray[np.float64], grid: Grid) -> _Fit | None:
    """Of a picture only size and direction count: each program gives it a place of its own."""
    directions = np.eye(4)
    directions[:_N_AXES, :_N_AXES] = affine[:_N_AXES, :_N_AXES] / np.linalg.norm(affine[:_N_AXES, :_N_AXES], axis=0)
    first = directions[:_N_AXES, :_N_AXES] @ (np.asarray(size) - 1)
    directions[:_N_AXES, 3] = np.where(np.rint(first) < 0, -np.rint(first), 0)
    return _fit_affine(size, directions, Grid(grid.size, np.eye(4)), is_crop=False)


def _fit_sheared(size: Sequence[int], affine: NDArray[np.float64], grid: Grid) -> _Fit | None:
    """Find the grid of a sheared study in a file that cannot carry the shear: ITK makes NIfTI's axes orthogonal."""
    columns = grid.affine[:_N_AXES, :_N_AXES]
    directions = columns / np.linalg.norm(columns, axis=0)
    if np.abs(directions.T @ directions - np.eye(_N_AXES)).max() < _EXACT:
        return None
    for axes, signs in itertools.product(itertools.permutations(range(_N_AXES)), itertools.product((1, -1), repeat=3)):
        turned = np.eye(4)  # the study's grid with its axes exchanged and reversed, then made orthogonal
        start = [grid.size[axis] - 1 if sign < 0 else 0 for axis, sign in zip(axes, signs, strict=True)]
        turned[:_N_AXES, :_N_AXES] = columns[:, axes] * signs
        turned[:_N_AXES, 3] = grid.affine[:_N_AXES, 3] + columns[:, axes] @ np.asarray(start)
        lengths = np.linalg.norm(turned[:_N_AXES, :_N_AXES], axis=0)
        left, _, right = np.linalg.svd(turned[:_N_AXES, :_N_AXES] / lengths)
        turned[:_N_AXES, :_N_AXES] = left @ right * lengths
        turned_size = tuple(grid.size[axis] for axis in axes)
        away = np.linalg.inv(turned) @ affine - np.eye(4)
        if turned_size == tuple(size) and _largest_error(away[:_N_AXES], size) < _TOLERANCE:
            own = tuple(axes.index(axis) for axis in range(_N_AXES))
            return _Fit(own, tuple(signs[place] < 0 for place in own), (0, 0, 0))
    return None


def _largest_error(away: NDArray[np.float64], size: Sequence[int]) -> float:
    """How far off the corners of a label are, in voxels."""
    corners = np.array([[*corner, 1] for corner in itertools.product(*[(0, n - 1) for n in size])])
    return float(np.abs(corners @ away.T).max())


def _described(size: Sequence[int], affine: NDArray[np.float64]) -> str:
    spacing = np.linalg.norm(affine[:_N_AXES, :_N_AXES], axis=0)
    columns = affine[:_N_AXES, :_N_AXES] / np.where(spacing > 0, spacing, 1)
    axes = "; ".join(" ".join(f"{x + 0.0:.3g}" for x in np.round(column, 3)) for column in columns.T)
    place = ", ".join(f"{x + 0.0:.4g}" for x in np.round(affine[:_N_AXES, 3], 3))
    return f"{_times(size)} voxels of {_times(f'{x:.4g}' for x in spacing)} mm from ({place}) along ({axes})"


def _times(numbers: Any) -> str:
    return " x ".join(map(str, numbers))


# -- writing


def _placed(array: NDArray[Any], fit: _Fit, grid: Grid) -> NDArray[Any]:
    """Put the voxels of a label where they belong; background elsewhere."""
    turned = array.transpose(*fit.axes, _N_AXES)
    turned = np.flip(turned, [axis for axis, is_flipped in enumerate(fit.flipped) if is_flipped])
    whole = np.zeros((*grid.size, array.shape[-1]), _smallest_type(array))
    place = tuple(slice(first, first + n) for first, n in zip(fit.start, turned.shape, strict=False))
    whole[place] = turned
    return whole


def _smallest_type(array: NDArray[Any]) -> np.dtype[Any]:
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    types = (np.dtype(np.uint8), np.dtype(np.int16), np.dtype(np.int32), np.dtype(np.int64))
    return next(kind for kind in types if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)


def _write(array: NDArray[Any], grid: Grid, segments: Mapping[str, str], target: Path) -> None:
    if label_ending(target.name) in _NIFTI:
        affine = _LPS_TO_RAS @ grid.affine
        image: Any = _nibabel.Nifti1Image(array[..., 0], affine, dtype=array.dtype)
        image.set_sform(affine, 1)
        columns = affine[:_N_AXES, :_N_AXES] / np.linalg.norm(affine[:_N_AXES, :_N_AXES], axis=0)
        is_sheared = np.abs(columns.T @ columns - np.eye(_N_AXES)).max() > _EXACT
        image.set_qform(affine, 0 if is_sheared else 1)
        nibabel.save(image, target)
        return
    voxels = np.ascontiguousarray(np.moveaxis(array, (0, 1, 2), (2, 1, 0)))
    n_axes = 2 if grid.is_picture else _N_AXES
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


def _what_was_done(fit: _Fit, shape: Sequence[int], grid: Grid) -> str:
    """Say in a few words what was done to a label."""
    flipped = ", ".join(axis for axis, is_flipped in zip("xyz", fit.flipped, strict=True) if is_flipped)
    is_padded = tuple(shape[axis] for axis in fit.axes) != grid.size
    done = [
        f"flipped along {flipped}" if flipped else "",
        "axes exchanged" if fit.axes != (0, 1, 2) else "",
        "padded to the whole grid" if is_padded else "",
    ]
    return ", ".join(filter(None, done)) or "given the study's own geometry"
