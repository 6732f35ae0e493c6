"""The file that readers open: the voxels and the geometry of `read_volume`, always.

A file is handed out as it lies where SimpleITK reads it as we do. Any other study is written anew from its `Volume`.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, cast

import nibabel
import numpy as np
from numpy.typing import NDArray

from firstpick.studies import Study
from firstpick.voxels.formats import ending_of
from firstpick.voxels.itk import itk_affine, itk_reader
from firstpick.voxels.nifti import PICTURE_MARK
from firstpick.voxels.stored import LPS_TO_RAS, N_AXES
from firstpick.voxels.volumes import Volume, read_volume

#: Part of what served files are keyed by: to be raised when the same study would be written otherwise.
SERVED_RECIPE = 1
_ENDINGS = (".nii.gz", ".nrrd")  # of what is written
_MOST_SHEAR = 5e-5  # cosine between axes: ITK refuses NIfTI files from 1e-4 on
_MOST_VOXELS = 32_767  # along an axis of NIfTI
_SAME_MM = 1e-3
_MAX_NAME_BYTES = 200
_UNFIT = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\s]+')  # for a name on some system or other
_COMPRESSION = 1  # 3 times as fast as the default, 5 % larger
_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32")  # smallest first
_NRRD_TYPES = {"float32": "float"}

_orientations: Any = nibabel.orientations  # has no types
_Header: Any = nibabel.nifti1.Nifti1Header


def served_ending(study: Study, volume: Volume) -> str:
    """Say how a study is served.

    Parameters
    ----------
    study : Study
        As listed.
    volume : Volume
        As `read_volume` reads it.

    Returns
    -------
    str
        Empty if its file is handed out as it lies; else what the name of a file written anew ends with: ``.nii.gz``,
        or ``.nrrd`` where the grid is sheared (ITK reads no such NIfTI) or longer than NIfTI can say.

    Notes
    -----
    The voxels are not decoded again: what the reader of each format knows is `Volume.as_stored`, and SimpleITK is
    asked for what it makes of the header.
    """
    if not study.is_series and volume.as_stored and _itk_agrees(Path(study.source), volume):
        return ""
    axes = volume.affine[:N_AXES, :N_AXES] / volume.spacing
    cosines = axes.T @ axes - np.eye(N_AXES)
    fits = float(np.abs(cosines).max()) <= _MOST_SHEAR and max(volume.array.shape) <= _MOST_VOXELS
    return ".nii.gz" if fits else ".nrrd"


def served_path(study: Study, ending: str, folder: Path) -> Path:
    """Say where the file that readers open lies, or will lie.

    Parameters
    ----------
    study : Study
        As listed.
    ending : str
        From `served_ending`.
    folder : Path
        Of all served files.

    Returns
    -------
    Path
        Of a file handed out as it lies, its real path. Else a path below `folder` that no other study has, nor this
        one with other voxels or another recipe; with a name that people recognise, at most 200 bytes of UTF-8.
    """
    if not ending:
        return Path(os.path.realpath(study.source))
    digest = served_digest(study)
    return folder / digest[:2] / digest / f"{_readable(study.title or study.study_id, len(ending))}{ending}"


def served_digest(study: Study) -> str:
    """Name the folder of the file that readers open, if it is made: no other study's, nor of other voxels of it."""
    key = "\0".join((study.study_id, study.stamp, str(SERVED_RECIPE)))
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:32]


def serve_file(study: Study, folder: Path, *, read: Callable[[Study], Volume] = read_volume) -> Path:
    """Make sure that the file that readers open is there; meant for a worker process.

    Parameters
    ----------
    study : Study
        As listed.
    folder : Path
        Of all served files; need not exist.
    read : callable
        Reads its voxels.

    Returns
    -------
    Path
        As `served_path`. A file that is written appears only when it is complete.

    Raises
    ------
    VolumeError
        If the study cannot be read.
    OSError
        If the file cannot be written.
    """
    for ending in _ENDINGS:
        path = served_path(study, ending, folder)
        if path.exists():
            return path
    volume = read(study)
    ending = served_ending(study, volume)
    path = served_path(study, ending, folder)
    if ending:
        write_volume(volume, path)
    return path


def write_volume(volume: Volume, path: Path) -> None:
    """Write a volume as ``.nii.gz`` or ``.nrrd``, in the smallest type that holds its values exactly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    volume = volume if volume.is_picture else _turned(volume)
    dtype = _smallest_type(volume.array)
    with _appearing(path) as file:
        header = _nrrd_header(volume, dtype) if path.suffix == ".nrrd" else _nifti_header(volume, dtype)
        if path.suffix == ".nrrd":  # its header is not packed
            file.write(header)
            header = b""
        with gzip.GzipFile(filename="", mode="wb", compresslevel=_COMPRESSION, fileobj=file, mtime=0) as packed:
            packed.write(header)
            for slab in np.moveaxis(volume.array, 2, 0):
                packed.write(slab.T.astype(dtype).tobytes())  # x fastest


def _turned(volume: Volume) -> Volume:
    """Turn a volume's axes to Left and Posterior, as DICOM and ITK store them."""
    n_x, n_y, _ = volume.array.shape
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    flip[:2, N_AXES] = n_x - 1, n_y - 1
    return replace(volume, array=volume.array[::-1, ::-1], affine=volume.affine @ flip)


@contextmanager
def _appearing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file beside a path, to be moved there once all of it is on the disk."""
    partial = path.with_name(f".{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _itk_agrees(path: Path, volume: Volume) -> bool:
    """Whether SimpleITK, left to itself, makes the same size and geometry of a file's header."""
    try:
        reader = itk_reader(path)
    except RuntimeError:
        return False
    if reader.GetDimension() > N_AXES:
        return False
    size, affine = (*reader.GetSize(), 1)[:N_AXES], itk_affine(reader)
    if not np.isfinite(affine).all():
        return False
    if not volume.is_picture:
        turn = _orientations.io_orientation(affine)
        if np.isnan(turn).any():
            return False
        affine = affine @ _orientations.inv_ornt_aff(turn, size)
        size = tuple(size[axis] for axis in np.argsort(turn[:, 0]))
    same = _SAME_MM * min(1.0, *volume.spacing)
    return size == volume.array.shape and np.allclose(affine, volume.affine, rtol=0, atol=same)


def _readable(title: str, n_ending: int) -> str:
    """Make a file name of a title, without its ending."""
    known = ending_of(title)
    name = title.encode(errors="replace").decode()
    name = _UNFIT.sub("_", name[: len(name) - len(known)]).strip("._") or "study"
    return name.encode()[: _MAX_NAME_BYTES - n_ending].decode(errors="ignore")


def _smallest_type(array: NDArray[np.float32]) -> np.dtype[Any]:
    """Choose the smallest integer type that holds all values exactly; float32 if some are not whole."""
    for slab in np.moveaxis(array, 2, 0):
        if not np.array_equal(slab, np.rint(slab)):
            return np.dtype("<f4")
    low, high = float(array.min()), float(array.max())
    fitting = (np.iinfo(name) for name in _TYPES)
    found = next((info.dtype for info in fitting if info.min <= low and high <= info.max), np.dtype(np.float32))
    return found.newbyteorder("<")


def _nifti_header(volume: Volume, dtype: np.dtype[Any]) -> bytes:
    header = _Header(endianness="<")
    header.set_data_dtype(dtype)
    header.set_data_shape(volume.array.shape)
    header.set_qform(volume.affine, code=1)
    header.set_sform(volume.affine, code=1)
    header.set_xyzt_units("mm")
    header.set_slope_inter(1, 0)
    header.set_data_offset(header.single_vox_offset)
    header["magic"] = header.single_magic
    if volume.is_picture:
        header["descrip"] = PICTURE_MARK
    return cast("bytes", header.binaryblock) + bytes(4)  # no extensions


def _nrrd_header(volume: Volume, dtype: np.dtype[Any]) -> bytes:
    lps = LPS_TO_RAS @ volume.affine
    vectors = ["({})".format(",".join(repr(float(value)) for value in column)) for column in lps[:N_AXES].T]
    fields = (
        "NRRD0004",
        f"type: {_NRRD_TYPES.get(dtype.name, dtype.name)}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, volume.array.shape))}",
        f"space directions: {' '.join(vectors[:N_AXES])}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {vectors[N_AXES]}",
    )
    return ("\n".join(fields) + "\n\n").encode()
