"""PNG, JPEG, TIFF and BMP, by their content, whatever they are named.

Pillow reads what it reads exactly, SimpleITK the others (signed, 32-bit and colour of 16 bits); and colour JPEG, which
no two decoders read alike, so that what is embedded is what readers see.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from firstpick.voxels.itk import is_colour, itk_affine, itk_image, itk_reader, itk_view
from firstpick.voxels.stored import Stored, VolumeError, check_size, fill, grey, note_first, pixel_grid

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit, which speaks of attacks
_BYTES_EACH = 24  # of a pixel, colour or grey: what reading and viewing a picture was found to take
_PLAIN = {
    "PNG": {"1", "L", "P", "RGB", "RGBA", "I;16"},
    "BMP": {"L", "P", "RGB", "RGBA"},
    "JPEG": {"L", "RGB"},
    "MPO": {"L", "RGB"},
}
_IMAGE_IO = {"PNG": "PNGImageIO", "TIFF": "TIFFImageIO", "JPEG": "JPEGImageIO", "MPO": "JPEGImageIO"}
_AS_RGB = {"P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "La", "RGBa"}
_MM_PER_DENSITY = {1: 25.4, 2: 10.0}  # of JPEG: dots per inch, per cm
_IHDR_DEPTH, _DEEP = 24, 16
_ORIENTATION, _PHOTOMETRIC, _BITS, _SAMPLES = 274, 262, 258, 277  # of TIFF
_GREY_OR_RGB = {1, 2}
_SOLE_SAMPLES = {1, 3, 4}


def read_picture(path: Path) -> Stored:
    """Read a picture as stored: no EXIF turn, of several pages the first, alpha ignored."""
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")  # of metadata that does not matter here
            check_size(path.name, image.size, _BYTES_EACH)
            if _is_for_itk(path, image):
                return _read_by_itk(path, _IMAGE_IO[image.format])
            return _read_by_pillow(path, image)
    except UnidentifiedImageError:
        if path.suffix.lower() not in {".tif", ".tiff"}:
            raise
        return _read_by_itk(path, _IMAGE_IO["TIFF"])


def _is_for_itk(path: Path, image: Any) -> bool:
    if image.format == "TIFF":
        tags = image.tag_v2
        bits = tags.get(_BITS, (1,))
        return (
            tags.get(_PHOTOMETRIC) in _GREY_OR_RGB
            and tags.get(_ORIENTATION, 1) == 1
            and min(bits) >= 8  # noqa: PLR2004  whole bytes
            and tags.get(_SAMPLES, 1) in _SOLE_SAMPLES
        )
    if image.format in {"JPEG", "MPO"}:
        return bool(image.mode == "RGB")
    if image.format == "PNG" and image.mode in {"RGB", "RGBA"}:
        with path.open("rb") as file:
            return file.read(_IHDR_DEPTH + 1)[_IHDR_DEPTH] == _DEEP
    return False


def _read_by_pillow(path: Path, image: Any) -> Stored:
    notes = note_first((getattr(image, "n_frames", 1),), "pages")
    is_plain = image.mode in _PLAIN.get(image.format, ()) and not (image.mode == "L" and "transparency" in image.info)
    density = image.info.get("jfif_density", (0, 0)) if image.format in {"JPEG", "MPO"} else (0, 0)
    mm = _MM_PER_DENSITY.get(image.info.get("jfif_unit", 0), 1.0)
    spacing = (mm / density[0], mm / density[1]) if mm != 1 and all(density) else (1.0, 1.0)
    if image.mode == "1":
        pixels = np.asarray(image.convert("L"))
    elif image.mode in _AS_RGB:
        pixels = np.asarray(image.convert("RGB"))
    else:
        pixels = np.asarray(image)
    array = _as_volume(path, pixels)
    return Stored(array, pixel_grid(spacing), is_picture=True, notes=notes, as_stored=is_plain and not notes)


def _read_by_itk(path: Path, image_io: str) -> Stored:
    reader = itk_reader(path, image_io)
    size = reader.GetSize()
    check_size(path.name, size[:2], _BYTES_EACH)
    if size[2:]:
        reader.SetExtractSize([*size[:2], *[0] * len(size[2:])])
    if image_io == _IMAGE_IO["JPEG"]:
        _check_end(path)
    notes = note_first(size[2:], "pages")
    image = itk_image(path.name, reader)
    view = itk_view(image)[0]
    if view.ndim > 2 and not is_colour(view):  # noqa: PLR2004  rows and columns
        notes += note_first(view.shape[2:], "components")
        view = view[..., 0]
    spacing = np.abs(np.diag(itk_affine(image)))[:2]
    array = _as_volume(path, view)
    return Stored(array, pixel_grid((*spacing.tolist(),)), is_picture=True, notes=notes, as_stored=not notes)


def _check_end(path: Path) -> None:
    """Refuse a JPEG that ends within its picture: ITK would fill the rest with grey."""
    data = path.read_bytes()
    if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        msg = f"{path.name} is truncated: it ends before its last pixel."
        raise VolumeError(msg)


def _as_volume(path: Path, pixels: NDArray[Any]) -> NDArray[np.float32]:
    values = grey(pixels)
    return fill(path.name, (*values.shape[::-1], 1), [values.T])
