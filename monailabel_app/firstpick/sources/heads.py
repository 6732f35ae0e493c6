"""What the first bytes of a file say: whether it is a mask, and which other files hold its voxels."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from firstpick.sources.masks import is_mask_by_header

_MOST_BYTES = 64 * 2**10  # of a header of text
_MOST_FILES = 10_000
_VOXELS_IN = re.compile(r"(?:data ?file:|ElementDataFile\s*=)\s*(.*)", re.IGNORECASE)
_HERE = {"local", "[inline]", ""}  # behind the header
#: Formats of two files, by name: ending of the header to that of the voxels.
_PAIRS = {".hdr": (".img", ".img.gz"), ".hdr.gz": (".img.gz",), ".par": (".rec",)}
_HEADERS_OF_TEXT = (".nrrd", ".nhdr", ".mhd")
_WITH_HEAD = (*_HEADERS_OF_TEXT, ".nii", ".nii.gz", *_PAIRS)


class Head(NamedTuple):
    """What is known of a file from its first bytes.

    Attributes
    ----------
    is_mask : bool
        Whether it says so itself.
    voxels_in : tuple of str
        Other files that hold its voxels, as paths from its folder.
    """

    is_mask: bool = False
    voxels_in: tuple[str, ...] = ()


NO_HEAD = Head()


def has_head(ending: str) -> bool:
    """Whether `read_head` looks into files with this ending."""
    return ending in _WITH_HEAD


def read_head(path: Path, ending: str) -> Head:
    """Read what a file says of itself; nothing if it cannot be read, which whoever reads its voxels will say."""
    try:
        with path.open("rb") as file:
            head = file.read(_MOST_BYTES if ending in _HEADERS_OF_TEXT else 4096)
    except OSError:
        return NO_HEAD
    bare = path.name[: -len(ending)]
    voxels_in = tuple(bare + other for other in _PAIRS.get(ending, ()))
    if ending in _HEADERS_OF_TEXT:
        voxels_in = tuple(islice(_named(head.decode("utf-8", "replace")), _MOST_FILES))
    return Head(is_mask_by_header(head), voxels_in)


def _named(header: str) -> list[str]:
    """Find the files that a NRRD or MetaImage header names: one, a pattern with numbers, or a list."""
    lines = [line.strip() for line in header.partition("\n\n")[0].splitlines()]
    for number, line in enumerate(lines):
        found = _VOXELS_IN.match(line)
        if not found or found[1].lower() in _HERE:
            continue
        first, *rest = found[1].split()
        if first.upper() == "LIST":
            return [name for name in lines[number + 1 :] if name]
        if "%" in first:
            return _numbered(first, rest)
        return [found[1]]
    return []


def _numbered(pattern: str, numbers: list[str]) -> list[str]:
    try:
        start, stop, step = (int(number) for number in (*numbers, "1")[:3])
        return [pattern % number for number in islice(range(start, stop + 1, step), _MOST_FILES)]
    except (TypeError, ValueError):
        return []
