"""The voxels of one study as they are stored, and what all readers share in getting there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstpick.voxels.bounds import why_too_large

N_AXES = 3  # of space
N_COLOURS = (3, 4)  # with or without alpha
#: From DICOM's and ITK's axes (Left, Posterior, Superior) to ours (Right, Anterior, Superior), and back.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601: red, green, blue


class VolumeError(Exception):
    """A study cannot be read; the text says which file and what was wrong, in one sentence."""


@dataclass(frozen=True)
class Stored:
    """The voxels of one study, axes as stored.

    Attributes
    ----------
    array : ndarray of shape (nx, ny, nz), float32
        Rescaled, one value for each voxel; may hold NaN and infinity.
    affine : ndarray of shape (4, 4), float64
        From indices of `array` to mm, RAS+; of a picture without directions from its columns to Left and its
        rows to Posterior, as ITK sees it.
    is_picture : bool
        True for a 2-D picture.
    modality : str
        DICOM modality, or empty.
    notes : tuple of str
        What was done to the data.
    as_stored : bool
        True if `array` holds the voxels of a single file just as SimpleITK reads them: all of them (of colour the
        luminance), in their order, nothing replaced.
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    is_picture: bool = False
    modality: str = ""
    notes: tuple[str, ...] = ()
    as_stored: bool = False


def affine_of(columns: NDArray[np.float64], origin: Iterable[float] = (0.0, 0.0, 0.0)) -> NDArray[np.float64]:
    """Make an affine of one step along each axis as a column, and the place of the first voxel."""
    affine = np.eye(N_AXES + 1)
    affine[:N_AXES, :N_AXES] = columns
    affine[:N_AXES, N_AXES] = [*origin]
    return affine


def pixel_grid(spacing: tuple[float, ...] = (1.0, 1.0)) -> NDArray[np.float64]:
    """Make the affine of a picture that knows no directions: columns to Left, rows to Posterior."""
    return LPS_TO_RAS @ affine_of(np.diag([*spacing, 1.0][:N_AXES]))


def grey(pixels: NDArray[Any]) -> NDArray[Any]:
    """Make one value of each pixel: luminance of colour (a third axis, or fields R, G, B), magnitude of complex."""
    if pixels.dtype.names:
        pixels = np.stack([pixels[name] for name in pixels.dtype.names[:3]], axis=-1)
    if pixels.dtype.kind == "c":
        pixels = np.abs(pixels)
    if pixels.ndim == 2:  # noqa: PLR2004  rows and columns
        return pixels
    # Without three colours it is grey with alpha.
    return pixels[..., :3] @ _LUMINANCE if pixels.shape[2] in N_COLOURS else pixels[..., 0]


def check_size(name: str, size: Sequence[int], n_bytes_each: int = 4) -> None:
    """Raise VolumeError where `firstpick.voxels.bounds.why_too_large` says why a file is too large."""
    if why := why_too_large(size, n_bytes_each):
        msg = f"{name} is too large: {why}."
        raise VolumeError(msg)


def fill(name: str, size: Iterable[int], slabs: Iterable[NDArray[Any]]) -> NDArray[np.float32]:
    """Make a float32 volume of its slices along z; raise if there would be no voxel, or too many."""
    size = tuple(int(n) for n in size)
    if min(size) <= 0:
        msg = f"{name} holds no voxel (size {' x '.join(map(str, size))})."
        raise VolumeError(msg)
    check_size(name, size)
    array = np.empty(size, np.float32, order="F")
    with np.errstate(over="ignore", invalid="ignore"):  # too large for float32 becomes infinite
        for index, slab in enumerate(slabs):
            array[:, :, index] = slab
    return array


def note_first(sizes: Iterable[int], what: str) -> tuple[str, ...]:
    """Say that of several frames, pages or components the first was taken; nothing if there is one."""
    n = int(np.prod(list(sizes)))
    return (f"first of {n} {what} taken",) if n > 1 else ()


def note_complex(dtype: np.dtype[Any]) -> tuple[str, ...]:
    """Say what became of complex values; nothing if they are none."""
    return ("values are complex: magnitude taken",) if dtype.kind == "c" else ()


def one_sentence(error: Exception, path: Path) -> str:
    """Shorten a library's text, which may have many lines and addresses of objects, to its gist."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("Exception thrown", "Reason: Success"))]
    causes = [line for line in lines if line.startswith("[nrrd]")][-1:]  # a trace, its cause comes last
    noise = r"(?i)s?itk(::| )error:\s*|\w+ImageIO\(0x\w+\):\s*|\[nrrd\]\s*"
    text = re.sub(noise, "", " ".join(causes or lines)).replace(f"{path.parent}{os.sep}", "")
    return text.rstrip(". ")[:200] or type(error).__name__
