"""What a good answer looks like: the type and shape of JSON, and how each kind of file begins."""

from __future__ import annotations

import math
import re

PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
HEAD = 352  # bytes of a file that tell its kind: a NIfTI header and its mark
_STARTS = {
    ".gz": (b"\x1f\x8b\x08",),
    ".nrrd": (b"NRRD",),
    ".nhdr": (b"NRRD",),
    ".png": (PNG_START,),
    ".jpg": (b"\xff\xd8\xff",),
    ".jpeg": (b"\xff\xd8\xff",),
    ".tif": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    ".tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
_NIFTI = re.compile(rb".{344}(n\+1|ni1)\0|.{4}(n\+2|ni2)\0", re.DOTALL)
_META_IMAGE = re.compile(rb"[\w\s=.:+-]*(ObjectType|NDims)\s*=", re.DOTALL)


class Maybe:
    """A key that an object may lack, or a value that may be null."""

    def __init__(self, shape) -> None:
        self.shape = shape


class OrEmpty:
    """An object that may say by being empty that there is nothing."""

    def __init__(self, shape) -> None:
        self.shape = shape


class Picture:
    """A whole PNG."""


class File:
    """A file, whose kind its name tells; ``size`` in bytes and SHA-256 ``checksum`` where they are known."""

    def __init__(self, size: int = 0, checksum: str = "") -> None:
        self.size, self.checksum = size, checksum.rpartition(":")[2].lower()


def isOf(value: object, shape: object) -> bool:
    """Tell whether JSON has a shape; keys that the shape does not name are fine: a newer server has more.

    A shape is a type; a text that must be just that, or a pattern that it must match; a list with the shape of its
    entries; or an object with the shapes of its keys, `Maybe` for those that may lack. ``float`` is any finite number.

    >>> isOf({"n": 3, "more": None}, {"n": int, "x": Maybe(str)}), isOf([{"n": True}], [{"n": int}])
    (True, False)
    """
    if isinstance(shape, (Maybe, OrEmpty)):
        return value == (None if isinstance(shape, Maybe) else {}) or isOf(value, shape.shape)
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(
            isOf(value[key], one) if key in value else isinstance(one, Maybe) for key, one in shape.items()
        )
    if isinstance(shape, list):
        return isinstance(value, list) and all(isOf(one, shape[0]) for one in value)
    if isinstance(shape, str):
        return value == shape
    if isinstance(shape, re.Pattern):
        return isinstance(value, str) and shape.fullmatch(value) is not None
    if shape is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, shape) and (shape is bool or not isinstance(value, bool))


def isPicture(body: bytes) -> bool:
    """Tell whether this is a PNG from its first to its last byte."""
    return body.startswith(PNG_START) and body.endswith(PNG_END)


def isPage(body: bytes) -> bool:
    """Tell whether this is a page for people, such as a login or a proxy's own."""
    return re.match(rb"\s*(<!doctype|<html|<head|<body|<\?xml|<!--)", body[:HEAD], re.IGNORECASE) is not None


def fits(head: bytes, name: str) -> bool:
    """Tell whether a file begins as the ending of its name says; of an unknown ending all but JSON and pages may be.

    >>> fits(b"NRRD0004", "a.nrrd"), fits(b"<html>", "a.nii.gz"), fits(b"<html>", "a"), fits(b"voxels", "a")
    (True, False, False, True)
    """
    ending = re.search(r"(\.\w+)?\Z", name.lower())[0]
    if ending in _STARTS:
        return head.startswith(_STARTS[ending])
    if ending in (".nii", ".hdr"):
        return _NIFTI.match(head) is not None
    if ending in (".mha", ".mhd"):
        return _META_IMAGE.match(head) is not None
    return bool(head) and not isPage(head) and not re.match(rb'\s*(\{\s*["}]|\[\s*[\[{"])', head)
