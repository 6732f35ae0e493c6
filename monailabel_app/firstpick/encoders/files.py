"""Networks out of a file of the user's: an ONNX graph, or TorchScript."""

from __future__ import annotations

from pathlib import Path

from firstpick.encoders import EncoderError, EncoderSpec, encoder_row
from firstpick.encoders.graph import Graph, GraphEncoder, unreadable
from firstpick.encoders.pictures import PictureEncoder, preprocessing


def onnx_file(spec: EncoderSpec) -> GraphEncoder:
    """Any ONNX graph that takes pictures: ``onnx:FILE`` or ``onnx:FILE#OUTPUT``."""
    path, output = split(spec.argument)
    graph = Graph(path, output)
    ready = preprocessing(encoder_row(spec.name), Path(path).parent, size=graph.size)
    return GraphEncoder(spec, graph, ready)


def torchscript_file(spec: EncoderSpec) -> PictureEncoder:
    """Any TorchScript network that takes pictures: ``torchscript:FILE``; its code runs, so take trusted files only."""
    import torch  # noqa: PLC0415 - graphs do without it

    from firstpick.encoders.network import NetworkEncoder  # noqa: PLC0415 - imports torch

    try:
        network = torch.jit.load(spec.argument, map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        raise EncoderError(unreadable(spec.argument, error)) from error
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
