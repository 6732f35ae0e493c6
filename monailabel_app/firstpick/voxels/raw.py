"""Voxels that lie in a file one after the other, packed by gzip or bzip2 or not at all."""

from __future__ import annotations

import bz2
import contextlib
import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from firstpick.voxels.stored import VolumeError, fill, grey

open_gzip: Callable[..., Any] = gzip.open
with contextlib.suppress(ImportError):
    from firstpick.voxels.isal import open_gzip

_PACKED: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": open_gzip, b"BZh": bz2.open}


def open_packed(path: Path) -> IO[bytes]:
    """Open a file for reading what is packed in it, whatever its ending says."""
    with path.open("rb") as file:
        start = file.read(3)
    opener = next((opener for magic, opener in _PACKED.items() if start.startswith(magic)), None)
    return cast("IO[bytes]", opener(path, "rb")) if opener else path.open("rb")


def read_raw(
    path: Path, size: tuple[int, int, int], dtype: np.dtype[Any], *, offset: int, slope: float = 1, intercept: float = 0
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Read voxels slice by slice: besides the result, only one slice is ever in memory.

    Parameters
    ----------
    path : Path
        File with the voxels, x fastest.
    size : tuple of 3 ints
    dtype : dtype
        Of one voxel; colour as fields.
    offset : int
        Where the first voxel begins, in what is packed.
    slope, intercept : float
        Applied to each value.

    Returns
    -------
    array : ndarray of shape `size`, float32
    notes : tuple of str

    Raises
    ------
    VolumeError
        If the file ends before its last voxel.
    """
    notes: tuple[str, ...] = ()

    def slabs() -> Iterator[NDArray[Any]]:
        nonlocal notes
        n_bytes = size[0] * size[1] * dtype.itemsize
        with open_packed(path) as file:
            file.seek(offset)
            for _ in range(size[2]):
                data = file.read(n_bytes)
                if len(data) < n_bytes:
                    raise EOFError
                slab = grey(np.frombuffer(data, dtype).reshape(size[:2], order="F"))
                yield slab if (slope, intercept) == (1, 0) else np.multiply(slab, slope, dtype=np.float64) + intercept
            notes = _check_end(file)

    try:
        return fill(path.name, size, slabs()), notes
    except EOFError as error:
        msg = f"{path.name} is truncated: it ends before its last voxel."
        raise VolumeError(msg) from error


def _check_end(file: IO[bytes]) -> tuple[str, ...]:
    """Read on, so that gzip compares its checksum; bytes that are no gzip behind it do not matter."""
    try:
        file.read(1)
    except gzip.BadGzipFile as error:
        if "Not a gzipped file" not in str(error):
            raise
        return ("bytes behind the packed data ignored",)
    return ()
