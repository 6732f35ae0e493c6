"""ONNX graphs, called like torch networks: the user's own, and those that are made of a torch network to run faster."""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from firstpick.encoders import EncoderError
from firstpick.encoders.network import device

logger = logging.getLogger(__name__)


class OnnxNetwork(nn.Module):
    """An ONNX graph in ONNX Runtime, called like a torch network.

    Parameters
    ----------
    source : str or bytes
        A file, or what would be in it.
    output : str
        Name of the output to take; empty for the first.

    Raises
    ------
    EncoderError
        If the file is missing, damaged, or has no such output.
    """

    def __init__(self, source: str | bytes, output: str = "") -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else it begins to send when it is imported
        import onnxruntime  # noqa: PLC0415 - TorchScript files do without it

        super().__init__()
        try:
            available = onnxruntime.get_available_providers()
            wanted = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores are shared with other work
            self._session: Any = onnxruntime.InferenceSession(source, options, providers=wanted)
        except Exception as error:  # ONNX Runtime's own kinds of errors have no common base
            if isinstance(source, bytes):
                raise
            raise EncoderError(unreadable(source, error)) from error
        names = [item.name for item in self._session.get_outputs()]
        if output and output not in names:
            file = Path(source).name if isinstance(source, str) else "the graph"
            msg = f"'{file}' has no output '{output}'. Choose one of {', '.join(names)}."
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


def on_processor(network: nn.Module, *, size: int) -> nn.Module:
    """Turn a network into a graph of the same weights, for ONNX Runtime to run.

    It takes about a second, so this is for networks that save more in a worker's share of the views: small
    convolutions do (`tests/benchmarks/encoder_paths.py` compares). The graph is kept in memory alone.

    Parameters
    ----------
    network : torch.nn.Module
        Maps pictures (n, 3, side, side), float32, to an output with n first.
    size : int
        Side of the pictures.

    Returns
    -------
    torch.nn.Module
        The network itself where torch has a GPU, ONNX Runtime is not installed, or no graph can be made, which is
        logged.
    """
    if device()[0] != "cpu" or importlib.util.find_spec("onnxruntime") is None:
        return network
    try:
        return OnnxNetwork(_graph(network, size))
    except Exception as error:  # noqa: BLE001 - of torch's exporter, which is about to change, or of ONNX Runtime
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        logger.warning("The encoder runs in torch, which is slower than ONNX Runtime: no graph of it (%s).", reason)
        return network


@torch.inference_mode()
def _graph(network: nn.Module, size: int) -> bytes:
    """What an ONNX file of the network would hold, for any number of pictures."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a tracer: for pictures of this size alone
        torch.onnx.export(
            network.eval(),
            (torch.zeros(2, 3, size, size),),
            file,  # type: ignore[arg-type]  # with dynamo=False it may be an open one
            input_names=["pictures"],
            dynamic_axes={"pictures": {0: "n"}},
            dynamo=False,  # the other exporter needs one more library
        )
    return file.getvalue()


def unreadable(path: str, error: Exception) -> str:
    """One sentence about a file that could not be loaded."""
    if not Path(path).is_file():
        return f"The weights '{path}' do not exist."
    reason = " ".join(str(error).split())[:200]
    return f"The weights '{path}' cannot be read, they are damaged, incomplete or of another kind: {reason}"
