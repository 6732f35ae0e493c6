"""Networks out of a file of the user's: an ONNX graph, or TorchScript."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from firstpick.encoders import EncoderError, EncoderSpec, encoder_row
from firstpick.encoders.network import NetworkEncoder, preprocessing


class OnnxNetwork(nn.Module):
    """An ONNX graph in ONNX Runtime, called like a torch network.

    Parameters
    ----------
    path : str
    output : str
        Name of the output to take; empty for the first.

    Raises
    ------
    EncoderError
        If the file is missing, damaged, or has no such output.
    """

    def __init__(self, path: str, output: str = "") -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else it begins to send when it is imported
        import onnxruntime  # noqa: PLC0415 - TorchScript files do without it

        super().__init__()
        try:
            available = onnxruntime.get_available_providers()
            wanted = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores are shared with other work
            self._session: Any = onnxruntime.InferenceSession(path, options, providers=wanted)
        except Exception as error:  # ONNX Runtime's own kinds of errors have no common base
            raise EncoderError(_unreadable(path, error)) from error
        names = [item.name for item in self._session.get_outputs()]
        if output and output not in names:
            msg = f"'{Path(path).name}' has no output '{output}'. Choose one of {', '.join(names)}."
            raise EncoderError(msg)
        self._input = self._session.get_inputs()[0]
        self._output = output or names[0]

    @property
    def size(self) -> int:
        """Side of the picture that the graph wants; 0 for any."""
        side = self._input.shape[-1]
        return side if isinstance(side, int) else 0

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (n, channels, side, side) to the output; one by one where the graph's batch is fixed."""
        array = pictures.float().cpu().contiguous().numpy()
        n_at_once = self._input.shape[0] if isinstance(self._input.shape[0], int) else len(array)
        pieces = [array[start : start + n_at_once] for start in range(0, len(array), n_at_once)]
        outputs = [self._session.run([self._output], {self._input.name: piece})[0] for piece in pieces]
        return torch.cat([torch.from_numpy(output) for output in outputs])


def onnx_file(spec: EncoderSpec) -> NetworkEncoder:
    """Any ONNX graph that takes pictures: ``onnx:FILE`` or ``onnx:FILE#OUTPUT``."""
    path, output = split(spec.argument)
    network = OnnxNetwork(path, output)
    ready = preprocessing(encoder_row(spec.name), Path(path).parent, size=network.size)
    return NetworkEncoder(spec, network, ready)


def torchscript_file(spec: EncoderSpec) -> NetworkEncoder:
    """Any TorchScript network that takes pictures: ``torchscript:FILE``; its code runs, so take trusted files only."""
    try:
        network = torch.jit.load(spec.argument, map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        raise EncoderError(_unreadable(spec.argument, error)) from error
    return NetworkEncoder(spec, network, preprocessing(encoder_row(spec.name), Path(spec.argument).parent))


def split(argument: str) -> tuple[str, str]:
    """Separate ``FILE#OUTPUT``.

    Examples
    --------
    >>> split("model.onnx#features"), split("model.onnx")
    (('model.onnx', 'features'), ('model.onnx', ''))
    """
    path, mark, output = argument.rpartition("#")
    return (path, output) if mark else (argument, "")


def _unreadable(path: str, error: Exception) -> str:
    """One sentence about a file that could not be loaded."""
    if not Path(path).is_file():
        return f"The weights '{path}' do not exist."
    reason = " ".join(str(error).split())[:200]
    return f"The weights '{path}' cannot be read, they are damaged, incomplete or of another kind: {reason}"
