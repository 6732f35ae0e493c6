"""DINOv2's vision transformer, and its real weights out of an ONNX file."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from firstpick.encoders import EncoderError, EncoderSpec, encoder_row
from firstpick.encoders.network import NetworkEncoder
from firstpick.encoders.pictures import check_patches, preprocessing


class Block(nn.Module):
    """One pre-norm transformer block with layer scale (arXiv 2010.11929; 2304.07193)."""

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)
        self.scale1 = nn.Parameter(torch.ones(dim))
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.scale2 = nn.Parameter(torch.ones(dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens of shape (n, n_tokens, dim) to the same shape."""
        n, length, dim = tokens.shape
        normed = self.norm1(tokens)
        query, key, value = (
            layer(normed).view(n, length, self.n_heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        attended = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.scale1 * self.output(attended.transpose(1, 2).reshape(n, length, dim))
        result: Tensor = tokens + self.scale2 * self.fc2(functional.gelu(self.fc1(self.norm2(tokens))))
        return result


class VisionTransformer(nn.Module):
    """A ViT up to the block that is asked for, with DINOv2's resizable position grid."""

    def __init__(self, *, n_blocks: int, dim: int = 384, n_heads: int = 6, patch: int = 14, grid: int = 37) -> None:
        super().__init__()
        self.patch = patch
        self.projection = nn.Conv2d(3, dim, kernel_size=patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.class_position = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, dim, grid, grid) * 0.02)
        self.blocks = nn.ModuleList(Block(dim, n_heads) for _ in range(n_blocks))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self._resized: dict[tuple[int, int], Tensor] = {}

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (n, 3, h, w), sides a multiple of the patch, to normed tokens (n, 1 + n_patches, dim)."""
        patches = self.projection(pictures)
        tokens = (patches + self._positions(patches.shape[-2], patches.shape[-1])).flatten(2).transpose(1, 2)
        first = (self.class_token + self.class_position).expand(len(tokens), -1, -1)
        tokens = torch.cat([first, tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        normed: Tensor = self.norm(tokens)
        return normed

    def _positions(self, height: int, width: int) -> Tensor:
        """Position grid for that many patches, interpolated once."""
        if (height, width) not in self._resized:
            resized = functional.interpolate(self.positions.float(), size=(height, width), mode="bicubic")
            self._resized[height, width] = resized.to(self.positions.dtype)
        return self._resized[height, width]


def trained(path: Path, *, n_blocks: int) -> VisionTransformer:
    """DINOv2 ViT-S/14 with the weights of a file that `read_onnx_weights` takes."""
    network = VisionTransformer(n_blocks=n_blocks)
    network.load_state_dict(read_onnx_weights(path, n_blocks=n_blocks))
    return network


def random_init(spec: EncoderSpec) -> NetworkEncoder:
    """The same network with untrained weights: what the architecture alone gives (a control)."""
    row = encoder_row(spec.name)
    network = VisionTransformer(n_blocks=int(spec.layer))
    check_patches(spec, network.patch)
    generator = torch.Generator().manual_seed(row.settings["seed"])
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            nn.init.trunc_normal_(parameter, std=0.02, generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    return NetworkEncoder(spec, network, preprocessing(row))


def read_onnx_weights(path: Path, *, n_blocks: int) -> dict[str, Tensor]:
    """Read DINOv2's backbone out of an exported graph, as a state dict of `VisionTransformer`.

    A linear layer's bias keeps its name in the export; its matrix is the nameless initialiser of the
    product that feeds the addition of that bias, stored transposed.

    Parameters
    ----------
    path : Path
        ONNX file whose initialisers are named ``backbone.embeddings...`` and ``backbone.encoder.layer.N...``.
    n_blocks : int
        How many blocks to read.

    Raises
    ------
    EncoderError
        If the graph lacks one of them.
    """
    graph = onnx.load(str(path)).graph
    arrays = {item.name: item for item in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        bias, other = sorted(node.input, key=lambda name: name not in arrays)[:2] if len(node.input) > 1 else ("", "")
        product = producers.get(other)
        if node.op_type == "Add" and bias.endswith(".bias") and product is not None and product.op_type == "MatMul":
            arrays[bias.removesuffix("bias") + "weight"] = arrays[product.input[1]]
    positions = [name for name, item in arrays.items() if list(item.dims) == [1, 37 * 37, 384]]
    class_positions = [n for n, item in arrays.items() if list(item.dims) == [1, 1, 384] and not n.endswith("token")]
    try:
        return _rename(arrays, positions[0], class_positions[0], n_blocks)
    except (KeyError, IndexError) as error:
        msg = f"'{path.name}' is not the expected network: {error} is missing."
        raise EncoderError(msg) from error


def _rename(arrays: dict[str, onnx.TensorProto], positions: str, class_position: str, n: int) -> dict[str, Tensor]:
    """Map the export's names to ours."""

    def read(name: str) -> Tensor:
        return torch.from_numpy(numpy_helper.to_array(arrays[name]).copy())

    projection = "backbone.embeddings.patch_embeddings.projection"
    state = {
        "projection.weight": read(f"{projection}.weight"),
        "projection.bias": read(f"{projection}.bias"),
        "class_token": read("backbone.embeddings.cls_token"),
        "class_position": read(class_position),
        "positions": read(positions).reshape(1, 37, 37, -1).permute(0, 3, 1, 2).contiguous(),
        "norm.weight": read("backbone.layernorm.weight"),
        "norm.bias": read("backbone.layernorm.bias"),
    }
    linears = {
        "query": "attention.attention.query",
        "key": "attention.attention.key",
        "value": "attention.attention.value",
        "output": "attention.output.dense",
        "fc1": "mlp.fc1",
        "fc2": "mlp.fc2",
    }
    for i in range(n):
        theirs, ours = f"backbone.encoder.layer.{i}", f"blocks.{i}"
        for name, source in linears.items():
            state[f"{ours}.{name}.weight"] = read(f"{theirs}.{source}.weight").T.contiguous()
            state[f"{ours}.{name}.bias"] = read(f"{theirs}.{source}.bias")
        for k in "12":
            state[f"{ours}.norm{k}.weight"] = read(f"{theirs}.norm{k}.weight")
            state[f"{ours}.norm{k}.bias"] = read(f"{theirs}.norm{k}.bias")
            state[f"{ours}.scale{k}"] = read(f"{theirs}.layer_scale{k}.lambda1")
    return state
