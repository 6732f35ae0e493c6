"""CXR Foundation and REMEDIS, two of the seed paper's encoders: SavedModels of TensorFlow."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from firstpick.encoders import EncoderError, EncoderSpec, encoder_row
from firstpick.encoders.hub import said_in_one_sentence
from firstpick.voxels.views import make_views
from firstpick.voxels.volumes import Volume

_BATCH = 8

Rows = NDArray[np.float32]


class SavedModelEncoder:
    """Views through a function of TensorFlow; maps are averaged.

    Parameters
    ----------
    spec : EncoderSpec
        Resolved.
    rows : callable
        Maps grey pictures (n, side, side) in [0, 1] to rows (n, dim) or maps (n, height, width, dim).
    """

    def __init__(self, spec: EncoderSpec, rows: Callable[[Rows], Rows]) -> None:
        self._views, self._rows = spec.views, rows
        self.dim = encoder_row(spec.name).dim

    def parts(self, volume: Volume) -> NDArray[np.float32]:
        """Return the views, shape (n_views, size, size, 3), float32 in [0, 1]."""
        return make_views(volume, self._views)

    def encode(self, parts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return one row for each view, shape (n, dim), float32."""
        grey = parts.mean(axis=-1)
        outputs = [self._rows(grey[start : start + _BATCH]) for start in range(0, len(grey), _BATCH)]
        rows: Rows = np.concatenate(outputs)
        means: Rows = rows.reshape(len(rows), -1, rows.shape[-1]).mean(axis=1)
        return means


def remedis(spec: EncoderSpec) -> SavedModelEncoder:
    """REMEDIS: pictures of 448 pixels, three equal channels in [0, 1]; its map is averaged to 2,048 numbers."""
    model = _load(spec)

    def rows(grey: Rows) -> Rows:
        output = model(tf.constant(np.repeat(grey[..., None], 3, axis=-1)))
        array: Rows = np.asarray(output, np.float32)
        return array

    return _checked(spec, rows)


def cxr_foundation(spec: EncoderSpec) -> SavedModelEncoder:
    """ELIXR-C: each picture a PNG of 16 bit inside a ``tf.train.Example``; its map is averaged to 1,376 numbers."""
    infer = _load(spec).signatures["serving_default"]

    def rows(grey: Rows) -> Rows:
        maps = [infer(input_example=tf.constant([_example(picture)]))["feature_maps_0"] for picture in grey]
        array: Rows = np.concatenate([np.asarray(item, np.float32) for item in maps])
        return array

    return _checked(spec, rows)


def _example(picture: Rows) -> bytes:
    """Pack a picture as the model's card says: stretched to 16 bit, as PNG, under ``image/encoded``."""
    shifted = picture - picture.min()
    grey = np.rint(shifted * (65535 / max(float(shifted.max()), 1e-6))).astype(np.uint16)
    png = io.BytesIO()
    Image.fromarray(grey).save(png, "PNG")
    features = {"image/encoded": png.getvalue(), "image/format": b"png"}
    example = tf.train.Example()
    for name, value in features.items():
        example.features.feature[name].bytes_list.value.append(value)
    packed: bytes = example.SerializeToString()
    return packed


def _load(spec: EncoderSpec) -> Any:
    folder = Path(spec.weights)
    if not spec.weights or not (folder / "saved_model.pb").is_file():
        msg = (
            f"encoder '{spec.name}' needs key weights: the folder with its saved_model.pb, which its owner gives out "
            f"({encoder_row(spec.name).licence}); got '{spec.weights}'."
        )
        raise EncoderError(msg)
    with said_in_one_sentence(spec, folder):
        return tf.saved_model.load(str(folder))


def _checked(spec: EncoderSpec, rows: Callable[[Rows], Rows]) -> SavedModelEncoder:
    """Try the model once, so that another model's folder is refused at once."""
    encoder, side = SavedModelEncoder(spec, rows), spec.views.size
    with said_in_one_sentence(spec, Path(spec.weights)):
        got = encoder.encode(np.zeros((1, side, side, 3), np.float32)).shape[1]
        if got != encoder.dim:
            msg = f"it gives {got} numbers instead of {encoder.dim}"
            raise ValueError(msg)
    return encoder
