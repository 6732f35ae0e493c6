"""Read the voxels of each format as they are stored: NIfTI, NRRD, MetaImage, DICOM and plain pictures."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK
from numpy.typing import NDArray
from PIL import Image

from firstpick.voxels import dicom
from firstpick.voxels.dicom import N_AXES

sitk: Any = SimpleITK  # it says that it has types, but has none
# ITK writes what it finds odd in a file to stderr, past Python's logging.
sitk.ProcessObject_SetGlobalWarningDisplay(False)

#: What a study's file name may end with. Of two files that differ in their ending only, the first keeps the bare id.
ENDINGS = (
    ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp",
)  # fmt: skip
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601: red, green, blue
_N_COLOURS = (3, 4)  # with or without alpha
_MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}  # of NIfTI; all else is taken as mm
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


class VolumeError(Exception):
    """A study cannot be read; the text says which file and what was wrong, in one sentence."""


@dataclass(frozen=True)
class Stored:
    """The voxels of one study, axes as stored.

    Attributes
    ----------
    array : ndarray of shape (nx, ny, nz), float32
        Rescaled, one value for each voxel; may hold NaN and infinity.
    affine : ndarray of shape (3, 3), float64
        One step along each axis of `array` as a column, in mm; RAS+ unless it is a picture.
    is_picture : bool
        True for a 2-D picture.
    modality : str
        DICOM modality, or empty.
    notes : tuple of str
        What was done to the data.
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    is_picture: bool = False
    modality: str = ""
    notes: tuple[str, ...] = ()


def ending_of(name: str) -> str:
    """Return the ending in `ENDINGS` that a file name has, lower case; else the last one it has.

    >>> ending_of("scan.v2.NII.GZ"), ending_of("notes.txt"), ending_of("IM0001")
    ('.nii.gz', '.txt', '')
    """
    lower = name.lower()
    return next((ending for ending in ENDINGS if lower.endswith(ending)), Path(lower).suffix)


def read_stored(path: Path, files: Sequence[str] = ()) -> Stored:
    """Read the voxels of a file or of a DICOM series, axes as stored.

    Parameters
    ----------
    path : Path
        File, or folder with a DICOM series.
    files : sequence of str
        Instances of the series, as paths below the folder; empty for all in the folder, if they are of one series.

    Returns
    -------
    Stored
        Colour as luminance, of several frames the first.

    Raises
    ------
    VolumeError
        Where we can say what is wrong.
    Exception
        Whatever the libraries raise on a damaged file.
    """
    if path.is_dir():
        return _read_series(path, files)
    with path.open("rb") as file:
        if not file.read(1):
            msg = f"{path.name} is empty (0 bytes)."
            raise VolumeError(msg)
    read = _READERS.get(ending_of(path.name)) or (_read_dicom if dicom.may_be_dicom(path) else None)
    if read is None:
        msg = f"{path.name} is not DICOM, nor does its name end with one of {' '.join(ENDINGS)}."
        raise VolumeError(msg)
    return read(path)


def read_geometry(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]] | None:
    """Read from its header the size of a NIfTI, NRRD or MetaImage file in voxels, and its spacing in mm.

    Axes are in the order of the file. None for other files; raises what the libraries raise.
    """
    ending = ending_of(path.name)
    if ending in {".nii", ".nii.gz"}:
        image: Any = nibabel.load(path)
        shape = image.shape[:N_AXES]
        return shape, tuple(np.linalg.norm(_nifti_affine(image), axis=0).tolist()[: len(shape)])
    if ending in _ITK_FORMATS:
        reader = _itk_reader(path)
        return reader.GetSize()[:N_AXES], reader.GetSpacing()[:N_AXES]
    return None


def one_sentence(error: Exception, path: Path) -> str:
    """Shorten a library's text, which may have many lines and addresses of objects, to its gist."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("Exception thrown", "Reason: Success"))]
    causes = [line for line in lines if line.startswith("[nrrd]")][-1:]  # a trace, its cause comes last
    noise = r"(?i)s?itk(::| )error:\s*|\w+ImageIO\(0x\w+\):\s*|\[nrrd\]\s*"
    text = re.sub(noise, "", " ".join(causes or lines)).replace(f"{path.parent}{os.sep}", "")
    return text.rstrip(". ")[:200] or type(error).__name__


def _read_nifti(path: Path) -> Stored:
    """Read slice by slice: besides the result, only one slice is ever in memory."""
    image: Any = nibabel.load(path)
    dtype = image.header.get_data_dtype()
    nx, ny, nz = size = (*image.shape, 1, 1, 1)[:N_AXES]

    def slabs() -> Iterator[NDArray[Any]]:
        slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
        n_bytes = nx * ny * dtype.itemsize
        with image.file_map["image"].get_prepare_fileobj("rb") as file:
            file.seek(image.dataobj.offset)
            for _ in range(nz):
                data = file.read(n_bytes)
                if len(data) < n_bytes:
                    raise EOFError
                slab = _grey(np.frombuffer(data, dtype).reshape((nx, ny), order="F"))
                yield slab if (slope, intercept) == (1, 0) else np.multiply(slab, slope, dtype=np.float64) + intercept
            file.read(1)  # at its end, gzip compares the checksum

    try:
        array = _fill(path, size, slabs())
    except EOFError as error:
        msg = f"{path.name} is truncated: it ends before its last voxel."
        raise VolumeError(msg) from error
    notes = _note_first(image.shape[N_AXES:], "frames") + _note_complex(dtype)
    return Stored(array, _nifti_affine(image), notes=notes)


def _nifti_affine(image: Any) -> NDArray[np.float64]:
    unit = image.header.get_xyzt_units()[0]
    return np.asarray(image.affine[:N_AXES, :N_AXES], np.float64) * _MM_PER_UNIT.get(unit, 1.0)


def _read_itk(path: Path) -> Stored:
    reader = _itk_reader(path)
    size, n_axes = reader.GetSize(), reader.GetDimension()
    if n_axes > N_AXES:
        reader.SetExtractSize([*size[:N_AXES], *[0] * (n_axes - N_AXES)])
    array, notes = _itk_array(path, reader.Execute())
    return Stored(array, _itk_affine(reader), notes=_note_first(size[N_AXES:], "frames") + notes)


def _read_dicom(path: Path) -> Stored:
    image = _itk_reader(path).Execute()
    array, notes = _itk_array(path, image)
    header = dicom.read_instances([path])[0]
    modality = header.modality if header else ""
    spacing = image.GetSpacing()
    if array.shape[2] == 1:
        return Stored(array, np.diag(spacing), is_picture=True, modality=modality, notes=notes)
    places, in_plane = dicom.read_frames(path)
    if len(places) != array.shape[2] or not all(place.position and place.orientation for place in places):
        return Stored(array, _itk_affine(image), modality=modality, notes=notes)
    # GDCM knows neither spacing nor direction of frames that are not in the order of their positions.
    stack = dicom.stack(places, thickness=spacing[2])
    affine = _stack_affine(stack, in_plane or spacing)
    return Stored(array[:, :, stack.order], affine, modality=modality, notes=notes + stack.notes)


def convert_series(source: str, target: Path, files: Sequence[str] = ()) -> None:
    """Write a DICOM series as NIfTI, with its geometry, for programs that open single files.

    Parameters
    ----------
    source : str
        Folder with the series.
    target : Path
        A ``.nii.gz``; appears only when it is complete.
    files : sequence of str
        As in `read_stored`.

    Raises
    ------
    VolumeError
        If the series cannot be read.
    """
    path = Path(source)
    names = _sorted_slices(path, files).names
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path / name) for name in names])
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        sitk.WriteImage(reader.Execute(), str(partial), useCompression=True, compressionLevel=1)
        partial.replace(target)
    except RuntimeError as error:
        msg = f"{path.name} cannot be converted ({one_sentence(error, path)})."
        raise VolumeError(msg) from error
    finally:
        partial.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Slices:
    """The slices of a series in the order of their places."""

    stack: dicom.Stack
    names: list[str]
    modality: str
    notes: tuple[str, ...]


def _sorted_slices(path: Path, files: Sequence[str]) -> _Slices:
    instances = _slices_of(path, files)
    slices = [instance for instance in instances if not instance.is_localizer] or instances
    n_dropped = len(instances) - len(slices)
    notes = (f"{n_dropped} localizers among the slices left out",) if n_dropped else ()
    stack = dicom.stack([instance.place for instance in slices], thickness=slices[0].thickness)
    return _Slices(stack, [slices[index].name for index in stack.order], slices[0].modality, notes + stack.notes)


def _read_series(path: Path, files: Sequence[str]) -> Stored:
    found = _sorted_slices(path, files)
    stack, names = found.stack, found.names
    first = _read_slice(path / names[0])
    n_columns, n_rows = first.GetSize()[:2]

    def slabs() -> Iterator[NDArray[Any]]:
        for name in names:
            image = _read_slice(path / name)
            if image.GetSize() != first.GetSize():
                sizes = f"{n_columns} x {n_rows} and {image.GetWidth()} x {image.GetHeight()}"
                msg = f"{path.name}: slices differ in size ({sizes} voxels; {name} is the first that differs)."
                raise VolumeError(msg)
            yield _grey(_itk_view(image)[0]).T

    array = _fill(path, (n_columns, n_rows, len(names)), slabs())
    affine = _stack_affine(stack, first.GetSpacing())
    return Stored(array, affine, modality=found.modality, notes=found.notes)


def _slices_of(path: Path, files: Sequence[str]) -> list[dicom.Instance]:
    """Read the headers of a series' instances: of those that are given, or of all in the folder."""
    names = files or [file.name for file in path.iterdir() if file.is_file() and dicom.may_be_dicom(file)]
    read = dicom.read_instances(path / name for name in names)
    found = [
        replace(instance, name=name)
        for name, instance in sorted(zip(names, read, strict=True), key=lambda pair: pair[0])
        if instance and instance.n_columns
    ]
    n_series = len({instance.series_uid for instance in found})
    if n_series != 1:
        msg = f"{path.name} holds {n_series} DICOM series where one is wanted."
        raise VolumeError(msg)
    if any(instance.n_frames > 1 for instance in found):
        msg = f"{path.name} holds files of several frames: read each by itself."
        raise VolumeError(msg)
    return found


def _read_slice(path: Path) -> Any:
    try:
        return _itk_reader(path).Execute()
    except RuntimeError as error:
        msg = f"{path.parent.name}: its slice {path.name} cannot be read ({one_sentence(error, path)})."
        raise VolumeError(msg) from error


def _stack_affine(stack: dicom.Stack, spacing: tuple[float, ...]) -> NDArray[np.float64]:
    rows, columns = stack.orientation
    return np.asarray(_LPS_TO_RAS @ np.stack([rows * spacing[0], columns * spacing[1], stack.step], axis=1))


def _read_picture(path: Path) -> Stored:
    with warnings.catch_warnings(), Image.open(path) as image:
        warnings.simplefilter("ignore")  # of metadata that does not matter here
        notes = _note_first((getattr(image, "n_frames", 1),), "pages")
        if image.mode == "1":
            pixels = np.asarray(image.convert("L"))
        elif image.mode in {"P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "La", "RGBa"}:
            pixels = np.asarray(image.convert("RGB"))
        else:
            pixels = np.asarray(image)
    grey = _grey(pixels)
    return Stored(_fill(path, (*grey.shape[::-1], 1), [grey.T]), np.eye(N_AXES), is_picture=True, notes=notes)


def _itk_reader(path: Path) -> Any:
    """Return a reader that has read the header, bound to the format so that no other one tries its luck."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_ITK_FORMATS.get(ending_of(path.name), "GDCMImageIO"))
    reader.ReadImageInformation()
    return reader


def _itk_affine(source: Any) -> NDArray[np.float64]:
    """Compute the affine of an image, or of a reader that has read the header."""
    n_axes = source.GetDimension()
    columns = np.array(source.GetDirection()).reshape(n_axes, n_axes) * source.GetSpacing()
    affine = np.eye(N_AXES)
    affine[:n_axes, :n_axes] = columns[:N_AXES, :N_AXES]
    return np.asarray(_LPS_TO_RAS @ affine)


def _itk_view(image: Any) -> NDArray[Any]:
    """View the voxels as (nz, ny, nx[, n_components]); valid while `image` lives."""
    view: NDArray[Any] = sitk.GetArrayViewFromImage(image)
    return view if image.GetDimension() == N_AXES else view[np.newaxis]


def _itk_array(path: Path, image: Any) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    view = _itk_view(image)
    notes = _note_complex(view.dtype)
    if image.GetNumberOfComponentsPerPixel() > 1 and not (
        view.shape[-1] in _N_COLOURS and view.dtype in {np.dtype(np.uint8), np.dtype(np.uint16)}
    ):
        notes += _note_first(view.shape[N_AXES:], "components")
        view = view[..., 0]
    return _fill(path, view.shape[2::-1], (_grey(slab).T for slab in view)), notes


def _grey(pixels: NDArray[Any]) -> NDArray[Any]:
    """Make one value of each pixel: luminance of colour (a third axis, or fields R, G, B), magnitude of complex."""
    if pixels.dtype.names:
        pixels = np.stack([pixels[name] for name in pixels.dtype.names[:3]], axis=-1)
    if pixels.dtype.kind == "c":
        pixels = np.abs(pixels)
    if pixels.ndim == 2:  # noqa: PLR2004  rows and columns
        return pixels
    # Without three colours it is grey with alpha.
    return pixels[..., :3] @ _LUMINANCE if pixels.shape[2] in _N_COLOURS else pixels[..., 0]


def _fill(path: Path, size: Iterable[int], slabs: Iterable[NDArray[Any]]) -> NDArray[np.float32]:
    """Make a float32 volume of its slices along z; raise if there would be no voxel."""
    size = tuple(int(n) for n in size)
    if 0 in size:
        msg = f"{path.name} holds no voxel (size {' x '.join(map(str, size))})."
        raise VolumeError(msg)
    array = np.empty(size, np.float32, order="F")
    with np.errstate(over="ignore", invalid="ignore"):  # too large for float32 becomes infinite
        for index, slab in enumerate(slabs):
            array[:, :, index] = slab
    return array


def _note_first(sizes: Iterable[int], what: str) -> tuple[str, ...]:
    n = int(np.prod(list(sizes)))
    return (f"first of {n} {what} taken",) if n > 1 else ()


def _note_complex(dtype: np.dtype[Any]) -> tuple[str, ...]:
    return ("values are complex: magnitude taken",) if dtype.kind == "c" else ()


_ITK_FORMATS = {".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}
_READERS: dict[str, Callable[[Path], Stored]] = {
    ".nii": _read_nifti,
    ".nii.gz": _read_nifti,
    **dict.fromkeys(_ITK_FORMATS, _read_itk),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"), _read_picture),
    **dict.fromkeys(dicom.DICOM_ENDINGS, _read_dicom),
}
