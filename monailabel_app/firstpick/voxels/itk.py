"""Formats that SimpleITK reads: NRRD, MetaImage, GIPL, VTK, MINC, MRC and its own HDF5."""

from __future__ import annotations

import bz2
import contextlib
import locale
import math
import mmap
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from firstpick.voxels.hdf5 import check_holds_all
from firstpick.voxels.stored import (
    LPS_TO_RAS,
    N_AXES,
    N_COLOURS,
    Stored,
    VolumeError,
    affine_of,
    check_size,
    fill,
    grey,
    note_complex,
    note_first,
)

sitk: Any = SimpleITK  # it says that it has types, but has none
# ITK writes what it finds odd in a file to stderr, past Python's logging.
sitk.ProcessObject_SetGlobalWarningDisplay(False)

#: Ending to the part of ITK that reads it.
ITK_FORMATS = {
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
    ".gipl": "GiplImageIO",
    ".gipl.gz": "GiplImageIO",
    ".vtk": "VTKImageIO",
    ".mnc": "MINCImageIO",
    ".mrc": "MRCImageIO",
    ".h5": "HDF5ImageIO",
    ".hdf5": "HDF5ImageIO",
}
_DETACHABLE = {"NrrdImageIO", "MetaImageIO"}  # whose voxels may lie in files of their own
_FRAME_BY_FRAME = {"MetaImageIO", "HDF5ImageIO", "VTKImageIO", "MRCImageIO"}  # the others read all to give one
_HEADER_BYTES, _LONGEST_HEADER = 2**16, 2**24
_BLOCK_BYTES = 2**20
_NRRD_END = re.compile(rb"\r?\n\r?\n")
_NRRD_DATA_FILE = re.compile(rb"(?<=[\r\n])data ?file[ \t]*:[ \t]*([^\r\n\0]*)", re.IGNORECASE)
_META_KEY = b"ElementDataFile"
_META_DATA_FILE = re.compile(_META_KEY + rb"[\s:=]*([^\r\n\0]*)")
_OF_HDF5 = {"HDF5ImageIO", "MINCImageIO"}
_HDF5_GROUP = b"ITKImage"
_BZIP2 = re.compile(rb"^encoding:[ \t]*(?:bzip2|bz2)[ \t\r]*$", re.IGNORECASE | re.MULTILINE)


def read_nrrd(path: Path) -> Stored:
    """Read NRRD; where its voxels are packed by bzip2, which ITK does not know, unpacked beforehand."""
    header = _header(path)
    if not header.startswith(b"NRRD") or not _BZIP2.search(header):
        return read_itk(path, ITK_FORMATS[".nrrd"])
    names = data_files(path)
    with TemporaryDirectory() as folder, (path.parent / names[0] if names else path).open("rb") as packed:
        packed.seek(0 if names else len(header))
        unpacked = Path(folder, path.name).with_suffix(".nrrd")
        unpacked.write_bytes(_NRRD_DATA_FILE.sub(b"", _BZIP2.sub(b"encoding: raw", header)).rstrip(b"\r\n") + b"\n\n")
        reader = itk_reader(unpacked, ITK_FORMATS[".nrrd"])
        check_size(path.name, reader.GetSize(), itk_voxel_bytes(reader))
        n_left = math.prod(reader.GetSize()) * itk_voxel_bytes(reader)
        with unpacked.open("ab") as file, bz2.open(packed) as voxels:
            while n_left and (block := voxels.read(min(n_left, _BLOCK_BYTES))):
                n_left -= file.write(block)
        return replace(read_itk(unpacked, ITK_FORMATS[".nrrd"]), as_stored=False)


def read_hdf5(path: Path) -> Stored:
    """Read HDF5 that ITK wrote; of others ITK would complain at length."""
    with path.open("rb") as file:
        if _HDF5_GROUP not in file.read(_HEADER_BYTES):
            msg = f"{path.name} is not HDF5 that ITK wrote, and no other HDF5 is read."
            raise VolumeError(msg)
    return read_itk(path, ITK_FORMATS[".h5"])


@contextlib.contextmanager
def kept_locale() -> Iterator[None]:
    """Put back the locale of the process, which ITK's VTK reader sets to C: text would be ASCII from then on."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


@kept_locale()
def read_itk(path: Path, image_io: str) -> Stored:
    """Read a volume by one part of ITK; of several frames or components the first."""
    if image_io == ITK_FORMATS[".mha"]:
        _check_names_one(path)
    reader = itk_reader(path, image_io)
    size, n_axes = reader.GetSize(), reader.GetDimension()
    if n_axes > N_AXES:
        reader.SetExtractSize([*size[:N_AXES], *[0] * (n_axes - N_AXES)])
    array, notes, is_whole = itk_array(path.name, itk_image(path.name, reader))
    return Stored(
        array,
        itk_affine(reader),
        notes=note_first(size[N_AXES:], "frames") + notes,
        as_stored=is_whole and n_axes <= N_AXES and not (image_io in _DETACHABLE and data_files(path)),
    )


@kept_locale()
def itk_reader(path: Path, image_io: str = "") -> Any:
    """Return a reader that has read the header, bound to a format so that no other one tries its luck."""
    if image_io in _OF_HDF5:
        check_holds_all(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(image_io)
    reader.ReadImageInformation()
    return reader


def itk_image(name: str, reader: Any) -> Any:
    """Read the voxels, once the header says that they are not too many."""
    size = reader.GetSize()[:N_AXES] if reader.GetImageIO() in _FRAME_BY_FRAME else reader.GetSize()
    check_size(name, size, itk_voxel_bytes(reader))
    return reader.Execute()


def itk_voxel_bytes(reader: Any) -> int:
    """Bytes of one voxel, all its components, of a reader that has read the header."""
    n_components: int = reader.GetNumberOfComponents()
    like = sitk.Image([1] * reader.GetDimension(), reader.GetPixelID(), n_components)
    return n_components * int(like.GetSizeOfPixelComponent())


def itk_affine(source: Any) -> NDArray[np.float64]:
    """Compute the affine, RAS+, of an image, or of a reader that has read the header; of its first three axes."""
    n_axes = source.GetDimension()
    columns, origin = np.eye(max(n_axes, N_AXES)), np.zeros(max(n_axes, N_AXES))
    columns[:n_axes, :n_axes] = np.array(source.GetDirection()).reshape(n_axes, n_axes) * source.GetSpacing()
    origin[:n_axes] = source.GetOrigin()
    return LPS_TO_RAS @ affine_of(columns[:N_AXES, :N_AXES], origin[:N_AXES])


def itk_view(image: Any) -> NDArray[Any]:
    """View the voxels as (nz, ny, nx[, n_components]); valid while `image` lives."""
    view: NDArray[Any] = sitk.GetArrayViewFromImage(image)
    return view if image.GetDimension() == N_AXES else view[np.newaxis]


def itk_array(name: str, image: Any) -> tuple[NDArray[np.float32], tuple[str, ...], bool]:
    """Make the voxels of an image (x, y, z), notes, and whether all of it was taken."""
    view = itk_view(image)
    notes = note_complex(view.dtype)
    if image.GetNumberOfComponentsPerPixel() > 1 and not is_colour(view):
        notes += note_first(view.shape[N_AXES:], "components")
        view = view[..., 0]
    return fill(name, view.shape[2::-1], (grey(slab).T for slab in view)), notes, not notes


def is_colour(view: NDArray[Any]) -> bool:
    """Whether the components of each voxel are red, green and blue."""
    return view.shape[-1] in N_COLOURS and view.dtype in {np.dtype(np.uint8), np.dtype(np.uint16)}


def data_files(path: Path) -> list[str]:
    """Read from the header of a NRRD or MetaImage file in which other files, by their names, the voxels lie.

    Names are as written there; empty if the voxels follow the header. A pattern such as ``slice%03d.raw`` is
    one name.

    Raises
    ------
    VolumeError
        If the header goes on and on.
    """
    text = _header(path)
    found = (_NRRD_DATA_FILE if text.startswith(b"NRRD") else _META_DATA_FILE).search(text)
    named = found[1].strip() if found else b""
    if found is None or named.upper() in {b"", b"LOCAL"}:
        return []
    if not named.upper().startswith(b"LIST"):
        return [named.decode(errors="replace")]
    with path.open("rb") as file:
        file.seek(found.end())
        names = re.split(rb"[\r\n\0]+", file.read(_LONGEST_HEADER))
    return [name.strip().decode(errors="replace") for name in names if name.strip()]


def _header(path: Path) -> bytes:
    """Read the header of a NRRD file, its empty line too; of other files as much as names the file with the voxels."""
    with path.open("rb") as file:
        text = file.read(_HEADER_BYTES)
        end = _NRRD_END if text.startswith(b"NRRD") else _META_DATA_FILE
        found = end.search(text)
        if len(text) == _HEADER_BYTES and (found is None or found.end() == len(text)):
            text += file.read(_LONGEST_HEADER)
            found = end.search(text)
    if found is None and len(text) > _LONGEST_HEADER:
        msg = f"{path.name} cannot be read: its header does not end within {_LONGEST_HEADER // 10**6} MB."
        raise VolumeError(msg)
    return text[: found.end()] if found and end is _NRRD_END else text


def _check_names_one(path: Path) -> None:
    """Refuse a MetaImage that names the file with its voxels twice: ITK might take the other name than `data_files`."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(_META_KEY, content.find(_META_KEY) + 1) >= 0:
            msg = f"{path.name} cannot be read: its header holds {_META_KEY.decode()} twice."
            raise VolumeError(msg)
