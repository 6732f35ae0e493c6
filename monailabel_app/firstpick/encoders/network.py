"""What all 2-D torch networks share: views in, normalised pictures, batches, rows out."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from firstpick.encoders import EncoderError, EncoderSpec
from firstpick.encoders.pictures import PictureEncoder, Preprocessing, first_line

_MOST_AT_ONCE = 1024
_WRAPPERS = ("state_dict", "model")  # what training code puts around the tensors


class NetworkEncoder(PictureEncoder):
    """Views through a torch network; on a GPU in half precision.

    Parameters
    ----------
    spec : EncoderSpec
        Resolved.
    network : torch.nn.Module
        Maps pictures (n, channels, side, side) to rows, maps or tokens.
    ready : Preprocessing
    n_first : int
        Tokens before the patches: the class token, and registers.

    Raises
    ------
    EncoderError
        If the network cannot encode a view of this size, which is tried at once.
    """

    def __init__(self, spec: EncoderSpec, network: nn.Module, ready: Preprocessing, *, n_first: int = 1) -> None:
        super().__init__(spec, ready, n_first=n_first)
        self._mean = torch.tensor(ready.mean, dtype=torch.float32).view(1, -1, 1, 1)
        self._std = torch.tensor(ready.std, dtype=torch.float32).view(1, -1, 1, 1)
        self._device, self._dtype = device()
        # Views come with channels last; convolutions that are laid out so are a tenth to a fifth faster on a CPU.
        self._network = network.eval().to(self._device, self._dtype)
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dim = self._tried()
        if self._device == "cuda":
            self._batch = self._fitting()

    def prepare(self, parts: NDArray[np.float32]) -> Tensor:
        """Return what the network sees of some views, shape (n, channels, side, side), float32."""
        pictures = torch.from_numpy(parts).permute(0, 3, 1, 2)
        if self._ready.size:
            pictures = resized(pictures, self._ready.size)
        if self._mean.shape[1] == 1:
            pictures = pictures.mean(dim=1, keepdim=True)
        return (pictures - self._mean) / self._std

    @torch.inference_mode()
    def _output(self, parts: NDArray[np.float32]) -> Tensor:
        pictures = self.prepare(parts).to(self._dtype)
        if self._device == "cuda":  # from pinned memory, so that this process need not wait for the copy
            pictures = pictures.pin_memory().to(self._device, non_blocking=True)
        output: Tensor = self._network(pictures).float()
        return output

    def _fitting(self) -> int:
        """How many pictures take half of the GPU's free memory at once, by what a few take."""
        few, side = self._batch, self._views.size
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        self.encode(np.zeros((few, side, side, 3), np.float32))
        return n_fitting(torch.cuda.mem_get_info()[0], (torch.cuda.max_memory_allocated() - held) / few)

    @staticmethod
    def _array(rows: Tensor) -> NDArray[np.float32]:
        array: NDArray[np.float32] = rows.cpu().numpy()
        return array


def n_fitting(free: int, each: float) -> int:
    """How many pictures fit in half of the free memory, in bytes, and at most 1,024; a power of two.

    Memory that runs out later halves what goes in at once: `firstpick.encoders.memory.Patient`.

    >>> n_fitting(8_000_000_000, 30e6), n_fitting(80_000_000_000, 30e6), n_fitting(10, 30e6)
    (128, 1024, 1)
    """
    fitting = int(free / 2 / max(each, 1.0))
    return min(_MOST_AT_ONCE, 1 << max(0, fitting.bit_length() - 1))


def resized(pictures: Tensor, side: int) -> Tensor:
    """Bring pictures, (n, channels, height, width), to a network's own side."""
    if pictures.shape[-1] == side:
        return pictures
    return functional.interpolate(pictures, (side, side), mode="bilinear", antialias=True)


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
    return f"The weights '{path.name}' are damaged or incomplete: {first_line(error)}"


def load_into(network: nn.Module, state: dict[str, Tensor], *, name: str) -> None:
    """Give a network its weights, every one of them; EncoderError if any is missing or too many."""
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        msg = f"The weights of encoder '{name}' are those of another network: {' '.join(str(error).split())[:200]}"
        raise EncoderError(msg) from error
