"""DICOM voxels: a series of slices, a file of one picture or of several frames, and mosaics of Siemens."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import UID

from firstpick.voxels import dicom
from firstpick.voxels.content import what_is
from firstpick.voxels.dicom import Instance
from firstpick.voxels.frames import Frames, read_frames
from firstpick.voxels.itk import itk_affine, itk_array, itk_image, itk_reader, itk_view
from firstpick.voxels.mosaic import read_mosaic
from firstpick.voxels.stacks import Stack
from firstpick.voxels.stored import N_AXES, Stored, VolumeError, fill, grey, one_sentence

_GDCM = "GDCMImageIO"
#: Transfer syntaxes that GDCM decodes; others are named when it fails.
_SYNTAXES = {
    f"1.2.840.10008.1.2{end}"
    for end in (
        "", ".1", ".1.99", ".2", ".5", ".4.50", ".4.51", ".4.57", ".4.70", ".4.80", ".4.81", ".4.90", ".4.91",
    )
}  # fmt: skip


def read_series(path: Path, files: Sequence[str] = ()) -> Stored:
    """Read a DICOM series slice by slice.

    Parameters
    ----------
    path : Path
        Folder.
    files : sequence of str
        Instances of the series, as paths below the folder; empty for all in the folder, if they are of one series.
    """
    instances = _slices_of(path, files)
    slices = _without_localizers(instances)
    n_dropped = len(instances) - len(slices)
    notes: tuple[str, ...] = (f"{n_dropped} localizers among the slices left out",) if n_dropped else ()
    if any(instance.is_mosaic for instance in slices):
        first = min(slices, key=lambda instance: instance.place.number)
        notes += (f"first of {len(slices)} mosaics taken",) if len(slices) > 1 else ()
        found = read_dicom(path / first.name)
        return replace(found, notes=notes + found.notes, as_stored=False)
    sorted_ = _sort(path.name, slices)
    spacing, notes_on_spacing = _spacing(path, sorted_.slices[0])
    array = _read_slices(path, sorted_.slices)
    return Stored(
        array,
        sorted_.stack.affine(spacing),
        modality=slices[0].modality,
        notes=notes + sorted_.stack.notes + notes_on_spacing,
    )


def slices_in_order(path: Path, files: Sequence[str]) -> tuple[list[Path], NDArray[np.float64]]:
    """Tell which files of a series the slices of its volume are, the first to the last, and the affine as stored."""
    slices = _without_localizers(_slices_of(path, files))
    if any(instance.is_mosaic for instance in slices):
        msg = f"{path.name} is a mosaic: its files are no slices."
        raise VolumeError(msg)
    sorted_ = _sort(path.name, slices)
    spacing, _ = _spacing(path, sorted_.slices[0])
    return [path / instance.name for instance in sorted_.slices], sorted_.stack.affine(spacing)


def _without_localizers(instances: list[Instance]) -> list[Instance]:
    return [instance for instance in instances if not instance.is_localizer] or instances


def read_dicom(path: Path) -> Stored:
    """Read one DICOM file: a picture, a mosaic, or frames that make a volume; of a film the first frame."""
    instance = dicom.read_instances([path])[0]
    if instance is not None and not instance.n_columns:
        msg = f"{path.name} is DICOM without an image."
        raise VolumeError(msg)
    try:
        image = _open(path, path.name)
    except RuntimeError as error:
        if instance is not None or what_is(path) != "DICOM":
            raise
        msg = f"{path.name} is DICOM without an image."
        raise VolumeError(msg) from error
    array, notes, is_whole = itk_array(path.name, image)
    found = Stored(
        array,
        itk_affine(image),
        is_picture=array.shape[2] == 1,
        modality=instance.modality if instance else "",
        notes=notes,
        as_stored=is_whole,
    )
    if instance is None:
        return found
    if instance.is_mosaic:
        return read_mosaic(path, instance, found)
    if array.shape[2] > 1:
        return _arrange(found, read_frames(path))
    if instance.spacing and not instance.imager_spacing:
        affine = found.affine.copy()
        steps = affine[:N_AXES, :2]
        affine[:N_AXES, :2] = steps / np.linalg.norm(steps, axis=0) * instance.spacing
        return replace(found, affine=affine)
    return found


def _arrange(found: Stored, frames: Frames) -> Stored:
    """Put frames in the order of their places, each with its own rescale."""
    n_frames = found.array.shape[2]
    if len(frames.places) != n_frames or not any(place.position for place in frames.places):
        if not frames.is_cine:
            return found
        notes = (*found.notes, f"a film: first of {n_frames} frames taken")
        array = np.asfortranarray(found.array[:, :, :1])
        return replace(found, array=array, is_picture=True, notes=notes, as_stored=False)
    # GDCM knows neither spacing nor direction of frames that are not in the order of their positions.
    spacing = np.linalg.norm(found.affine[:N_AXES, :N_AXES], axis=0)
    stack = dicom.stack(frames.places, thickness=frames.thickness or float(spacing[2]))
    array, is_rescaled = _rescale(found.array, frames)
    is_reordered = not np.array_equal(stack.order, np.arange(n_frames))
    return replace(
        found,
        array=array[:, :, stack.order] if is_reordered else array,
        affine=stack.affine(frames.spacing or spacing.tolist()),
        is_picture=len(stack.order) == 1,
        notes=found.notes + stack.notes,
        as_stored=found.as_stored and not is_rescaled and not is_reordered,
    )


def _rescale(array: NDArray[np.float32], frames: Frames) -> tuple[NDArray[np.float32], bool]:
    """Undo the one rescale that GDCM gave to all frames, where each has its own; return whether that was so."""
    if all(scaling == frames.common for scaling in frames.scaling):
        return array, False
    common_slope, common_intercept = frames.common
    for index, (slope, intercept) in enumerate(frames.scaling):
        values = array[:, :, index].astype(np.float64)
        stored = np.rint((values - common_intercept) / common_slope)
        array[:, :, index] = stored * slope + intercept
    return array, True


@dataclass(frozen=True)
class _Sorted:
    """The slices of a series in the order of their places."""

    stack: Stack
    slices: list[Instance]


def _sort(name: str, slices: Sequence[Instance]) -> _Sorted:
    try:
        stack = dicom.stack([instance.place for instance in slices], thickness=slices[0].thickness)
    except ValueError as error:
        msg = f"{name} cannot be stacked up: {error}."
        raise VolumeError(msg) from error
    found = [slices[index] for index in stack.order]
    sizes = Counter((instance.n_columns, instance.n_rows) for instance in found)
    (usual, _), *others = sizes.most_common()
    if others:
        odd = next(instance for instance in found if (instance.n_columns, instance.n_rows) != usual)
        msg = (
            f"{name}: slices differ in size ({usual[0]} x {usual[1]} and {odd.n_columns} x {odd.n_rows} voxels; "
            f"{odd.name} is the first that differs)."
        )
        raise VolumeError(msg)
    return _Sorted(stack, found)


def _spacing(path: Path, first: Instance) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Find the distance of neighbours in the plane: as stated, or what GDCM makes of other elements."""
    if first.spacing:
        return first.spacing, ()
    reader = itk_reader(path / first.name, _GDCM)
    spacing = reader.GetSpacing()[:2]
    return spacing, ("slices state no usable PixelSpacing: 1 mm assumed",) if spacing == (1, 1) else ()


def _read_slices(path: Path, slices: Sequence[Instance]) -> NDArray[np.float32]:
    size = slices[0].n_columns, slices[0].n_rows

    def slabs() -> Iterator[NDArray[Any]]:
        for instance in slices:
            image = _open(path / instance.name, instance.name, of=path.name)
            yield grey(itk_view(image)[0]).T

    return fill(path.name, (*size, len(slices)), slabs())


def _slices_of(path: Path, files: Sequence[str]) -> list[Instance]:
    """Read the headers of a series' instances: of those that are given, or of all in the folder."""
    names = files or [file.name for file in path.iterdir() if file.is_file() and dicom.may_be_dicom(file)]
    read = dicom.read_instances(path / name for name in names)
    found = [
        replace(instance, name=name)
        for name, instance in sorted(zip(names, read, strict=True), key=lambda pair: pair[0])
        if instance and instance.n_columns
    ]
    damaged = next((name for name, instance in zip(files, read, strict=False) if instance is None), "")
    if damaged:
        state = "cannot be read" if (path / damaged).is_file() else "does not exist"
        msg = f"{path.name}: its slice {damaged} {state}."
        raise VolumeError(msg)
    n_series = len({dicom.series_key(instance) for instance in found})
    if n_series != 1 and not (files and found):
        msg = f"{path.name} holds {n_series} DICOM series where one is wanted."
        raise VolumeError(msg)
    if any(instance.n_frames > 1 for instance in found):
        msg = f"{path.name} holds files of several frames: read each by itself."
        raise VolumeError(msg)
    return found


def _open(path: Path, name: str, of: str = "") -> Any:
    """Read the pixels of one file; say so if it is their transfer syntax that cannot be read."""
    who = f"{of}: its slice {name}" if of else name
    try:
        return _execute(path, who)
    except RuntimeError as error:
        syntax = _transfer_syntax(path)
        if syntax and str(syntax) not in _SYNTAXES:
            known_as = f" ({syntax.name})" if syntax.name != syntax else ""
            msg = f"{who}: its transfer syntax {syntax}{known_as} cannot be read."
        elif of:
            msg = f"{who} cannot be read ({one_sentence(error, path)})."
        else:
            raise
        raise VolumeError(msg) from error


def _execute(path: Path, name: str) -> Any:
    try:
        return itk_image(name, itk_reader(path, _GDCM))
    except RuntimeError as error:
        if "Zero-valued spacing" not in str(error):
            raise
    # Frames that all lie at one place: ITK takes them without their places.
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = pydicom.dcmread(path, force=True)
        for frame in whole.get("PerFrameFunctionalGroupsSequence", ()):
            frame.pop("PlanePositionSequence", None)
        copy = Path(folder, "frames.dcm")
        whole.save_as(copy)
        return itk_image(name, itk_reader(copy, _GDCM))


def _transfer_syntax(path: Path) -> UID | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = dicom.read_header(path, ["Rows"])
    found: UID | None = getattr(header, "file_meta", {}).get("TransferSyntaxUID")
    return found
