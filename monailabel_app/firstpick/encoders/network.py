"""What all 2-D torch networks share: views in, normalised pictures, batches, rows out."""

from __future__ import annotations

import functools
import io
import json
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from firstpick.encoders import EncoderError, EncoderRow, EncoderSpec
from firstpick.encoders.weights import PREPROCESSING
from firstpick.voxels.views import ViewSpec, make_views

_BATCH_PIXELS = {"cpu": 8 * 112 * 112, "cuda": 64 * 112 * 112}  # what is larger leaves a processor's cache
_WRAPPERS = ("state_dict", "model")  # what training code puts around the tensors


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


class NetworkEncoder:
    """Views through a torch network; on a GPU in half precision.

    Parameters
    ----------
    spec : EncoderSpec
        Resolved.
    network : torch.nn.Module
        Maps pictures (n, channels, side, side) to one of: rows (n, dim); maps (n, dim, height, width), which are
        averaged; tokens (n, n_tokens, dim), of which ``spec.tokens`` says what is taken.
    ready : Preprocessing
        Normalisation, number of channels, and the side if the network takes only one.
    n_first : int
        Tokens before the patches: the class token, and registers.

    Raises
    ------
    EncoderError
        If the network cannot encode a view of this size, which is tried at once.
    """

    def __init__(self, spec: EncoderSpec, network: nn.Module, ready: Preprocessing, *, n_first: int = 1) -> None:
        self._spec = spec
        self._views = _sized(spec.views, ready.size)
        # Views, (n_views, size, size, 3), float32 in [0, 1]; a process that only reads takes this without the network.
        self.parts = functools.partial(make_views, spec=self._views)
        self._size = ready.size
        self._n_first = n_first
        self._mean = torch.tensor(ready.mean, dtype=torch.float32).view(1, -1, 1, 1)
        self._std = torch.tensor(ready.std, dtype=torch.float32).view(1, -1, 1, 1)
        self._device, self._dtype = device()
        # Views come with channels last; convolutions that are laid out so are a tenth to a fifth faster on a CPU.
        self._network = network.eval().to(self._device, self._dtype)
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._batch = max(1, _BATCH_PIXELS[self._device] // (self._size or self._views.size) ** 2)
        side = self._views.size
        try:
            self.dim = self.encode(np.zeros((1, side, side, 3), np.float32)).shape[1]
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            msg = f"encoder '{spec.name}' cannot encode views of {side} x {side} pixels: {_first_line(error)}"
            raise EncoderError(msg) from error

    def prepare(self, parts: NDArray[np.float32]) -> Tensor:
        """Return what the network sees of some views, shape (n, channels, side, side), float32."""
        pictures = torch.from_numpy(parts).permute(0, 3, 1, 2)
        if self._size and self._size != pictures.shape[-1]:
            shape = (self._size, self._size)
            pictures = functional.interpolate(pictures, shape, mode="bilinear", antialias=True)
        if self._mean.shape[1] == 1:
            pictures = pictures.mean(dim=1, keepdim=True)
        return (pictures - self._mean) / self._std

    def encode(self, parts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return one row for each view, shape (n, dim), float32."""
        starts = range(0, len(parts), self._batch)
        return np.concatenate([self._encode(parts[start : start + self._batch]) for start in starts])

    def patch_rows(self, parts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a row for each patch (or place of the map) of some views, from the top left, (n, n_patches, dim).

        Raises
        ------
        ValueError
            If the network gives one row for each picture.
        """
        output = self._output(parts)
        if output.ndim == 2:  # noqa: PLR2004 - rows
            msg = f"encoder '{self._spec.name}' gives one row for each picture, none for its patches."
            raise ValueError(msg)
        patches = output[:, self._n_first :] if output.ndim == 3 else output.flatten(2).transpose(1, 2)  # noqa: PLR2004
        array: NDArray[np.float32] = patches.cpu().numpy()
        return array

    def _encode(self, parts: NDArray[np.float32]) -> NDArray[np.float32]:
        array: NDArray[np.float32] = self._pool(self._output(parts)).cpu().numpy()
        return array

    @torch.inference_mode()
    def _output(self, parts: NDArray[np.float32]) -> Tensor:
        output: Tensor = self._network(self.prepare(parts).to(self._device, self._dtype)).float()
        return output

    def _pool(self, output: Tensor) -> Tensor:
        """Turn what a network gave into one row for each picture."""
        if output.ndim == 4:  # noqa: PLR2004 - maps
            return output.mean(dim=(2, 3))
        if output.ndim == 2:  # noqa: PLR2004 - rows
            return output
        patch = output[:, self._n_first :].mean(dim=1)
        if self._spec.tokens == "patch":
            return patch
        if not self._n_first:
            msg = f"the network has no class token; key tokens must be patch, not '{self._spec.tokens}'."
            raise ValueError(msg)
        first = output[:, 0]
        return first if self._spec.tokens == "class" else torch.cat([first, patch], dim=1)


def _sized(views: ViewSpec, size: int) -> ViewSpec:
    """Views of the network's own size where neither the configuration nor the row has one."""
    return views if views.size else replace(views, size=size)


def device() -> tuple[str, torch.dtype]:
    """Where networks run: a GPU, in the half precision that it has, or the CPU in float32."""
    if not torch.cuda.is_available():
        return "cpu", torch.float32
    return "cuda", torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def load_state(path: Path, *more: Path, whole: type[nn.Module] | None = None) -> dict[str, Tensor]:
    """Read a state dict from ``.safetensors`` or a file that torch saved, in one or more pieces; runs no code in it.

    ``whole`` is a network that the file may hold instead, inside `torch.serialization.safe_globals` of its classes.

    Raises
    ------
    EncoderError
        If the file is missing, truncated, or holds a whole pickled model.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        file = io.BytesIO(b"".join(piece.read_bytes() for piece in (path, *more))) if more else path
        state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        msg = f"The weights '{path}' cannot be read: {error.strerror or error}."
        raise EncoderError(msg) from error
    except Exception as error:
        raise EncoderError(_refusal(path, error)) from error
    if whole is not None and isinstance(state, whole):
        state = dict(state.state_dict())
    for key in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        msg = f"The weights '{path.name}' hold a {type(state).__name__}, not tensors by name (a state dict)."
        raise EncoderError(msg)
    return state


def _refusal(path: Path, error: Exception) -> str:
    """One sentence about a file that torch would not read."""
    if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
        return (
            f"The weights '{path.name}' hold a whole pickled model, which could run any code when it is read: refused. "
            "Save its state_dict, or better a .safetensors or .onnx file."
        )
    return f"The weights '{path.name}' are damaged or incomplete: {_first_line(error)}"


def load_into(network: nn.Module, state: dict[str, Tensor], *, name: str) -> None:
    """Give a network its weights, every one of them; EncoderError if any is missing or too many."""
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        msg = f"The weights of encoder '{name}' are those of another network: {' '.join(str(error).split())[:200]}"
        raise EncoderError(msg) from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no reason given'}"
