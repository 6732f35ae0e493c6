"""What a good answer looks like: the type and shape of JSON, and how each kind of file begins."""

from __future__ import annotations

import re

PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
MOST = 1e15  # no count, place or time is beyond
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
    entries; or an object with the shapes of its keys, `Maybe` for those that may lack. ``float`` is any number but NaN.

    >>> isOf({"n": 3, "more": None}, {"n": int, "x": Maybe(str)}), isOf([{"n": True}], [{"n": int}])
    (True, False)
    """
    return _areOf([value], shape)


def _areOf(values: list, shape: object) -> bool:
    """Tell whether all of these have a shape; key by key, since a map has 10,000 points."""
    if isinstance(shape, type):
        areTyped = set(map(type, values)) <= ({int, float} if shape is float else {shape})
        return areTyped and (shape not in (int, float) or all(-MOST < value < MOST for value in values))
    if isinstance(shape, (Maybe, OrEmpty)):
        nothing = None if isinstance(shape, Maybe) else {}
        return _areOf([value for value in values if value != nothing], shape.shape)
    if isinstance(shape, dict):
        return _areOf(values, dict) and all(_haveKey(values, key, one) for key, one in shape.items())
    if isinstance(shape, list):
        return _areOf(values, list) and all(_areOf(value, shape[0]) for value in values)
    if isinstance(shape, re.Pattern):
        return _areOf(values, str) and all(map(shape.fullmatch, values))
    return all(value == shape for value in values)


def _haveKey(values: list, key: str, shape: object) -> bool:
    found = [value[key] for value in values if key in value]
    return (len(found) == len(values) or isinstance(shape, Maybe)) and _areOf(found, shape)


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
