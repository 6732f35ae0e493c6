"""ONNX graphs, run without torch: the user's own, and those that run a built-in network faster."""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from firstpick.encoders import EncoderError, EncoderSpec
from firstpick.encoders.gpu import n_gpus
from firstpick.encoders.pictures import PictureEncoder, Preprocessing
from firstpick.workers import n_cores

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)


class Graph:
    """An ONNX graph in ONNX Runtime: arrays in, an array out.

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
        import onnxruntime  # noqa: PLC0415 - only after that

        try:
            available = onnxruntime.get_available_providers()
            wanted = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0")) or n_cores()
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

    def __call__(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map pictures (n, channels, side, side) to the output; one by one where the graph's batch is fixed."""
        n_at_once = self._input.shape[0] if isinstance(self._input.shape[0], int) else len(pictures)
        pieces = [pictures[start : start + n_at_once] for start in range(0, len(pictures), n_at_once)]
        outputs = [self._session.run([self._output], {self._input.name: piece})[0] for piece in pieces]
        array: NDArray[np.float32] = np.concatenate(outputs).astype(np.float32, copy=False)
        return array


class GraphEncoder(PictureEncoder):
    """Views through a graph, without torch, which takes a process over a second to import.

    Parameters
    ----------
    spec : EncoderSpec
        Resolved.
    graph : Graph
        Maps pictures to rows, maps or tokens.
    ready : Preprocessing
    n_first : int
        Tokens before the patches: the class token, and registers.

    Raises
    ------
    EncoderError
        If the graph cannot encode a view of this size, which is tried at once.
    """

    def __init__(self, spec: EncoderSpec, graph: Graph, ready: Preprocessing, *, n_first: int = 1) -> None:
        super().__init__(spec, ready, n_first=n_first)
        self._graph = graph
        self._mean, self._std = (
            np.array(numbers, np.float32).reshape(1, -1, 1, 1) for numbers in (ready.mean, ready.std)
        )
        self.dim = self._tried()

    def prepare(self, parts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the graph sees of some views, shape (n, channels, side, side), float32."""
        pictures = parts.transpose(0, 3, 1, 2)
        if self._ready.size not in {0, pictures.shape[-1]}:
            import torch  # noqa: PLC0415 - few graphs see views of another size than their own

            from firstpick.encoders.network import resized  # noqa: PLC0415 - imports torch

            pictures = resized(torch.from_numpy(parts).permute(0, 3, 1, 2), self._ready.size).numpy()
        if self._mean.shape[1] == 1:
            pictures = pictures.mean(axis=1, keepdims=True)
        return np.ascontiguousarray((pictures - self._mean) / self._std)

    def _output(self, parts: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._graph(self.prepare(parts))


def runs_graphs() -> bool:
    """Whether graphs are the fastest way to run a network here: ONNX Runtime is installed, and torch has no GPU."""
    return importlib.util.find_spec("onnxruntime") is not None and not n_gpus()


def as_graph(network: nn.Module, *, size: int) -> Graph | None:
    """Turn a torch network into a graph of the same weights, for ONNX Runtime to run.

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
    Graph or None
        None where torch has a GPU, ONNX Runtime is not installed, or no graph can be made, which is logged.
    """
    if not runs_graphs():
        return None
    try:
        return Graph(_exported(network, size))
    except Exception as error:  # noqa: BLE001 - of torch's exporter, which is about to change, or of ONNX Runtime
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        logger.warning("The encoder runs in torch, which is slower than ONNX Runtime: no graph of it (%s).", reason)
        return None


def _exported(network: nn.Module, size: int) -> bytes:
    """What an ONNX file of the network would hold, for any number of pictures."""
    import torch  # noqa: PLC0415 - graphs that are there already do without it

    file = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
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
