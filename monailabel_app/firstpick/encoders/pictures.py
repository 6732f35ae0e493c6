"""What all encoders of pictures share, whatever runs them: views in, one row for each out; imports no such library."""

from __future__ import annotations

import functools
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstpick.encoders import EncoderError, EncoderRow, EncoderSpec
from firstpick.encoders.weights import PREPROCESSING
from firstpick.voxels.views import ViewSpec, make_views

BATCH_PIXELS = 8 * 112 * 112
"""What goes through a network at once on a processor; more leaves its cache."""


@dataclass(frozen=True)
class Preprocessing:
    """How pictures with values in [0, 1] are made ready for a network.

    Attributes
    ----------
    mean, std : tuples of floats, one for each channel
    size : int
        Side that the network wants; 0 for any.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int = 0


def preprocessing(row: EncoderRow, folder: Path | None = None, *, size: int = 0) -> Preprocessing:
    """Take an encoder's preprocessing from ``preprocessor_config.json`` in a folder, or else from its row.

    Understands what image processors of Hugging Face write: ``image_mean``, ``image_std``, ``do_normalize``,
    ``rescale_factor``, ``do_rescale``, ``crop_size`` and ``size``; a side that the network itself fixes wins.

    Raises
    ------
    EncoderError
        If the file is there and cannot be read.
    """
    path = folder / PREPROCESSING if folder else None
    if path is None or not path.is_file():
        return Preprocessing(row.mean, row.std, size)
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
        return _stated(stated, row, size)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        msg = f"'{path}' cannot be read ({type(error).__name__}: {error})."
        raise EncoderError(msg) from error


def _stated(stated: dict[str, Any], row: EncoderRow, wanted: int) -> Preprocessing:
    """Translate an image processor's settings for pictures that are already in [0, 1]."""
    mean, std = tuple(stated.get("image_mean", row.mean)), tuple(stated.get("image_std", row.std))
    if not stated.get("do_normalize", True):
        mean, std = (0.0,) * len(mean), (1.0,) * len(std)
    # They multiply grey levels of 0..255; ours are 0..1.
    scale = 255 * (stated.get("rescale_factor", 1 / 255) if stated.get("do_rescale", True) else 1.0)
    mean, std = tuple(value / scale for value in mean), tuple(value / scale for value in std)
    size = wanted or (stated.get("crop_size") if stated.get("do_center_crop") else None)
    size = size or stated.get("size") or 0
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge") or size.get("longest_edge") or 0
    return Preprocessing(mean, std, int(size))


class PictureEncoder(ABC):
    """Views through a network.

    The network's output is one of: rows (n, dim); maps (n, dim, height, width), which are averaged; tokens
    (n, n_tokens, dim), of which ``spec.tokens`` says what is taken.

    Parameters
    ----------
    spec : EncoderSpec
        Resolved.
    ready : Preprocessing
        Normalisation, number of channels, and the side if the network takes only one.
    n_first : int
        Tokens before the patches: the class token, and registers.
    """

    def __init__(self, spec: EncoderSpec, ready: Preprocessing, *, n_first: int = 1) -> None:
        self._spec = spec
        self._views = _sized(spec.views, ready.size)
        # Views, (n_views, size, size, 3), float32 in [0, 1]; a process that only reads takes this without the network.
        self.parts = functools.partial(make_views, spec=self._views)
        self._ready = ready
        self._n_first = n_first
        self._batch = max(1, BATCH_PIXELS // (ready.size or self._views.size) ** 2)

    @abstractmethod
    def _output(self, parts: NDArray[np.float32]) -> Any:
        """What the network gives for some views, as an array of any library, float32."""

    @staticmethod
    def _array(rows: Any) -> NDArray[np.float32]:
        """The same as an array of numpy; on a GPU this waits until it is done."""
        array: NDArray[np.float32] = rows
        return array

    def encode(self, parts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return one row for each view, (n, dim), float32; a GPU works on one batch while the next is prepared."""
        starts = range(0, len(parts), self._batch)
        pooled = [self._pool(self._output(parts[start : start + self._batch])) for start in starts]
        return np.concatenate([np.concatenate([*map(self._array, pieces)], axis=1) for pieces in pooled])

    def patch_rows(self, parts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a row for each patch (or place of the map) of some views, from the top left, (n, n_patches, dim).

        Raises
        ------
        ValueError
            If the network gives one row for each picture.
        """
        output = self._array(self._output(parts))
        if output.ndim == 2:  # noqa: PLR2004 - rows
            msg = f"encoder '{self._spec.name}' gives one row for each picture, none for its patches."
            raise ValueError(msg)
        if output.ndim == 3:  # noqa: PLR2004 - tokens
            return output[:, self._n_first :]
        return output.reshape(*output.shape[:2], -1).swapaxes(1, 2)

    def _tried(self) -> int:
        """How many numbers are in a row; EncoderError if the network cannot encode a view of this size."""
        side = self._views.size
        try:
            return self.encode(np.zeros((1, side, side, 3), np.float32)).shape[1]
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            msg = f"encoder '{self._spec.name}' cannot encode views of {side} x {side} pixels: {first_line(error)}"
            raise EncoderError(msg) from error

    def _pool(self, output: Any) -> tuple[Any, ...]:
        """Turn what a network gave into one row for each picture, in one or two pieces; it is done where that runs."""
        if output.ndim == 4:  # noqa: PLR2004 - maps
            return (output.mean(axis=(2, 3)),)
        if output.ndim == 2:  # noqa: PLR2004 - rows
            return (output,)
        patch = output[:, self._n_first :].mean(axis=1)
        if self._spec.tokens == "patch":
            return (patch,)
        if not self._n_first:
            msg = f"the network has no class token; key tokens must be patch, not '{self._spec.tokens}'."
            raise ValueError(msg)
        first = output[:, 0]
        return (first,) if self._spec.tokens == "class" else (first, patch)


def _sized(views: ViewSpec, size: int) -> ViewSpec:
    """Views of the network's own size where neither the configuration nor the row has one."""
    return views if views.size else replace(views, size=size)


def check_patches(spec: EncoderSpec, patch: int) -> None:
    """Refuse views whose side is no multiple of a patch's, in pixels; EncoderError names the nearest that is."""
    if spec.views.size % patch:
        msg = (
            f"encoder '{spec.name}' sees patches of {patch} pixels: views.size must be a multiple of it; "
            f"got {spec.views.size}. Take {max(1, round(spec.views.size / patch)) * patch}."
        )
        raise EncoderError(msg)


def first_line(error: Exception) -> str:
    """Kind and first line of an error."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no reason given'}"
