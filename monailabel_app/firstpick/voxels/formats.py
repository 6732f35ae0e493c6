"""Which files are studies by their ending, and which reader each format has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstpick.voxels import dicom, itk
from firstpick.voxels.brain import nibabel_geometry, read_by_nibabel, read_mgh, read_pair
from firstpick.voxels.content import what_is
from firstpick.voxels.itk import ITK_FORMATS, itk_affine, itk_reader, read_hdf5, read_itk, read_nrrd
from firstpick.voxels.nifti import beside, nifti_geometry, read_nifti
from firstpick.voxels.pictures import read_picture
from firstpick.voxels.series import read_dicom, read_series
from firstpick.voxels.stored import N_AXES, Stored, VolumeError, one_sentence

__all__ = [
    "DATA_ENDINGS",
    "ENDINGS",
    "VolumeError",
    "data_files",
    "ending_of",
    "n_frames",
    "one_sentence",
    "read_geometry",
    "read_stored",
]


@dataclass(frozen=True)
class _Format:
    """How files with one ending are read.

    Attributes
    ----------
    name : str
        As people call it.
    read : function
        Of a path, to `Stored`.
    looks_like : frozenset of str
        What `what_is` may call a good one.
    """

    name: str
    read: Callable[[Path], Stored]
    looks_like: frozenset[str] = frozenset()


_PACKED = frozenset({"gzip", "bzip2"})
_NIFTI = _Format("NIfTI", read_nifti, _PACKED | {"NIfTI"})
_PICTURE = _Format("a picture", read_picture, frozenset({"PNG", "JPEG", "GIF", "TIFF", "BMP"}))
_MGH = _Format("MGH", read_mgh, _PACKED)
_NRRD = _Format("NRRD", read_nrrd, frozenset({"NRRD"}))
_META = _Format("MetaImage", partial(read_itk, image_io=ITK_FORMATS[".mha"]), frozenset({"MetaImage"}))
_GIPL = _Format("GIPL", partial(read_itk, image_io=ITK_FORMATS[".gipl"]), frozenset({"gzip"}))
_HDF5 = _Format("HDF5", read_hdf5, frozenset({"HDF5"}))
_PAIR = _Format("NIfTI or Analyze", read_pair, _PACKED | {"NIfTI"})
_DICOM = _Format("DICOM", read_dicom, frozenset({"DICOM"}))


def _read_minc(path: Path) -> Stored:
    """Read MINC 2, which is HDF5, by ITK, and MINC 1 by nibabel."""
    return read_itk(path, ITK_FORMATS[".mnc"]) if what_is(path) == "HDF5" else read_by_nibabel(path)


#: What a study's file name may end with, and how it is read. Voxels may lie in a second file: see `data_files`.
_FORMATS: dict[str, _Format] = {
    ".nii.gz": _NIFTI,
    ".nii.bz2": _NIFTI,
    ".nii": _NIFTI,
    ".nrrd": _NRRD,
    ".nhdr": _NRRD,
    ".mha": _META,
    ".mhd": _META,
    ".gipl": _GIPL,
    ".gipl.gz": _GIPL,
    ".vtk": _Format("VTK", partial(read_itk, image_io=ITK_FORMATS[".vtk"]), frozenset({"VTK"})),
    ".mrc": _Format("MRC", partial(read_itk, image_io=ITK_FORMATS[".mrc"])),
    ".h5": _HDF5,
    ".hdf5": _HDF5,
    ".mnc": _Format("MINC", _read_minc, frozenset({"HDF5"})),
    ".mgz": _MGH,
    ".mgh": _MGH,
    ".mgh.gz": _MGH,
    ".hdr": _PAIR,
    ".hdr.gz": _PAIR,
    ".par": _Format("PAR/REC", read_by_nibabel, frozenset({"text"})),
    ".head": _Format("AFNI", read_by_nibabel, frozenset({"text"})),
    ".dcm": _DICOM,
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"), _PICTURE),
}
ENDINGS = tuple(_FORMATS)
#: Of formats whose headers do not name the file with the voxels: endings of the header, and of that file.
DATA_ENDINGS: dict[str, tuple[str, ...]] = {
    ".hdr": (".img", ".img.gz", ".mat"),
    ".hdr.gz": (".img.gz",),
    ".par": (".rec",),
    ".head": (".brik", ".brik.gz"),
}


def ending_of(name: str) -> str:
    """Return the ending in `ENDINGS` that a file name has, lower case; else the last one it has.

    >>> ending_of("scan.v2.NII.GZ"), ending_of("notes.txt"), ending_of("IM0001")
    ('.nii.gz', '.txt', '')
    """
    lower = name.lower()
    parts = lower.rsplit(".", 2)
    endings = (f".{'.'.join(parts[first:])}" for first in range(1, len(parts)))
    return next((ending for ending in endings if ending in _FORMATS), None) or Path(lower).suffix


def data_files(path: Path) -> list[str]:
    """Find the files that hold the voxels of a study beside its header.

    Parameters
    ----------
    path : Path
        With an ending in `ENDINGS`; only what is text is read of it.

    Returns
    -------
    list of str
        Their names as the header states them, relative to its folder or absolute, whether they exist or not; of
        formats whose headers state none those that lie beside it. Empty if the voxels are in the file itself.
    """
    ending = ending_of(path.name)
    if ending in {".nrrd", ".nhdr", ".mha", ".mhd"}:
        return itk.data_files(path)
    found = [beside(path, (data,)) for data in DATA_ENDINGS.get(ending, ())]
    return [file.name for file in found if file]


def read_stored(path: Path, files: Sequence[str] = (), frame: int = -1) -> Stored:
    """Read the voxels of a file or of a DICOM series, axes as stored.

    Parameters
    ----------
    path : Path
        File, or folder with a DICOM series.
    files : sequence of str
        Instances of the series, as paths below the folder; empty for all in the folder, if they are of one series.
    frame : int
        Which frame of a NIfTI file is read; -1 for the first, with a note if there are others.

    Returns
    -------
    Stored
        Colour as luminance, of several frames one.

    Raises
    ------
    VolumeError
        Where we can say what is wrong.
    Exception
        Whatever the libraries raise on a damaged file.
    """
    if not all(_is_utf8(name) for name in (str(path), *files)):
        msg = f"{path.name} cannot be opened: names that are not UTF-8 are not read. Rename it."
        raise VolumeError(msg.encode(errors="replace").decode())
    if path.is_dir():
        return read_series(path, files)
    with path.open("rb") as file:
        if not file.read(1):
            msg = f"{path.name} is empty (0 bytes)."
            raise VolumeError(msg)
    known = _format_of(path)
    if known is None:
        msg = f"{path.name} is not DICOM, nor does its name end with one of {' '.join(ENDINGS)}."
        raise VolumeError(msg)
    try:
        return known.read(path) if frame < 0 else read_nifti(path, frame)
    except Exception as error:
        what = what_is(path)
        if what and known.looks_like and what not in known.looks_like:
            msg = f"{path.name} is {what}, not {known.name}."
            raise VolumeError(msg) from error
        if isinstance(error, VolumeError):
            raise
        missing = next((name for name in data_files(path) if "%" not in name and not (path.parent / name).exists()), "")
        if missing:
            msg = f"{path.name} cannot be read: its file {missing} does not exist."
            raise VolumeError(msg) from error
        raise


def n_frames(path: Path) -> int:
    """Count from its header the frames of a NIfTI file; 1 for any other, and for one whose header cannot be read."""
    if _FORMATS.get(ending_of(path.name)) is not _NIFTI:
        return 1
    try:
        shape = nifti_geometry(path)[0]
    except Exception:  # noqa: BLE001  whatever is wrong with it, the one who reads the voxels says so
        return 1
    return int(np.prod(shape[N_AXES:], dtype=int))


def _is_utf8(name: str) -> bool:
    """Whether native code can be given a name; it would end the process."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _format_of(path: Path) -> _Format | None:
    ending = ending_of(path.name)
    if ending in {".img", ".hdr", *dicom.DICOM_ENDINGS} or ending not in _FORMATS:
        if dicom.may_be_dicom(path):
            return _DICOM
        if ending == ".img":
            return _PAIR
    return _FORMATS.get(ending)


def read_geometry(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]] | None:
    """Read from its header the size of a volume in voxels, and its spacing in mm.

    Axes are in the order of the file. None for pictures and DICOM; raises what the libraries raise.
    """
    ending = ending_of(path.name)
    found: tuple[Sequence[int], NDArray[np.float64]]
    if _FORMATS.get(ending) is _NIFTI:
        found = nifti_geometry(path)
    elif ending in ITK_FORMATS and (ending != ".mnc" or what_is(path) == "HDF5"):
        reader: Any = itk_reader(path, ITK_FORMATS[ending])
        found = reader.GetSize(), itk_affine(reader)
    elif ending in {".hdr", ".hdr.gz", ".par", ".head", ".mgh", ".mgz", ".mgh.gz", ".mnc"}:
        found = nibabel_geometry(path)
    else:
        return None
    shape = tuple(found[0])[:N_AXES]
    return shape, tuple(np.linalg.norm(found[1][:N_AXES, :N_AXES], axis=0).tolist()[: len(shape)])
