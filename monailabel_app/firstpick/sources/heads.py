"""What the beginning of a file says: whether it is a mask, and which other files hold its voxels."""

from __future__ import annotations

import contextlib
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from firstpick.sources.masks import is_mask_by_header
from firstpick.voxels.formats import VolumeError, data_files

_N_BYTES = 64 * 2**10  # of a header of text
_N_BYTES_PACKED = 4096
_MOST_FILES = 10_000
_HEADERS_OF_TEXT = (".nrrd", ".nhdr", ".mha", ".mhd")
_OTHERS = (".nii", ".nii.gz", ".hdr", ".hdr.gz")


class Head(NamedTuple):
    """What is known of a file from its beginning.

    Attributes
    ----------
    is_mask : bool
        Whether it says so itself.
    voxels_in : tuple of str
        Other files that it names as those with its voxels, relative to its folder or absolute.
    """

    is_mask: bool = False
    voxels_in: tuple[str, ...] = ()


NO_HEAD = Head()


def read_head(path: Path, ending: str) -> Head:
    """Read what a file says of itself; nothing if it cannot be read, which whoever reads its voxels will say."""
    is_text = ending in _HEADERS_OF_TEXT
    if not is_text and ending not in _OTHERS:
        return NO_HEAD
    try:
        with path.open("rb") as file:
            head = file.read(_N_BYTES if is_text else _N_BYTES_PACKED)
        named = data_files(path) if is_text else []
    except (OSError, VolumeError):
        return NO_HEAD
    return Head(is_mask_by_header(head), tuple(name for text in named for name in _numbered(text))[:_MOST_FILES])


def _numbered(name: str) -> list[str]:
    """Write out a pattern such as ``slice%03d.raw 1 60 1``; any other name as it is."""
    pattern, *numbers = name.split()
    if "%" not in pattern:
        return [name]
    with contextlib.suppress(TypeError, ValueError):
        start, stop, step = (int(number) for number in (*numbers, "1")[:3])
        return [pattern % number for number in islice(range(start, stop + 1, step), _MOST_FILES)]
    return [name]
