"""TinyViT as LiteMedSAM uses it: a small medical segmentation encoder, features from any layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from firstpick.encoders import EncoderSpec, encoder_row
from firstpick.encoders.network import NetworkEncoder, load_into, load_state
from firstpick.encoders.pictures import preprocessing
from firstpick.encoders.weights import weights_files

_DIMS, _DEPTHS, _HEADS, _WINDOWS = (64, 128, 160, 320), (2, 2, 6, 2), (2, 4, 5, 10), (7, 7, 14, 7)
_STRIDES = (2, 2, 1)  # of the merging after each stage
_PREFIX = "image_encoder."  # beside it, the file holds the prompt encoder and the mask decoder


class ConvNorm(nn.Sequential):
    """A convolution without bias, and batch norm; `fold` makes them one."""

    def __init__(self, n_in: int, n_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(n_out)


def fold(network: nn.Module) -> None:
    """Put every batch norm's numbers into its convolution's: the same function of pictures, faster."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, ConvNorm):
                setattr(module, name, fuse_conv_bn_eval(child.c.eval(), child.bn.eval()))


class Bottleneck(nn.Module):
    """Pointwise, depthwise, pointwise convolution, and the input added."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, 4 * dim)
        self.conv2 = ConvNorm(4 * dim, 4 * dim, 3, groups=4 * dim)
        self.conv3 = ConvNorm(4 * dim, dim)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, dim, h, w) to the same shape."""
        inner = functional.gelu(self.conv2(functional.gelu(self.conv1(maps))))
        return functional.gelu(maps + self.conv3(inner))


class Merging(nn.Module):
    """Goes from one stage to the next."""

    def __init__(self, dim: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, n_out)
        self.conv2 = ConvNorm(n_out, n_out, 3, stride, groups=n_out)
        self.conv3 = ConvNorm(n_out, n_out)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, dim, h, w) to (n, n_out, h / stride, w / stride)."""
        result: Tensor = self.conv3(functional.gelu(self.conv2(functional.gelu(self.conv1(maps)))))
        return result


class Attention(nn.Module):
    """Attention inside one window, with a learned bias for each distance."""

    distance: Tensor

    def __init__(self, dim: int, n_heads: int, window: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(n_heads, window**2))
        place = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        apart = (place[:, None] - place[None, :]).abs()
        self.register_buffer("distance", apart[..., 0] * window + apart[..., 1], persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map the tokens of windows (n, window * window, dim) to the same shape."""
        n, length, dim = tokens.shape
        heads = self.qkv(self.norm(tokens)).view(n, length, self.n_heads, 3, -1).permute(3, 0, 2, 1, 4)
        query, key, value = heads
        bias = self.attention_biases[:, self.distance]
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        result: Tensor = self.proj(mixed.transpose(1, 2).reshape(n, length, dim))
        return result


class Mlp(nn.Module):
    """Two linear layers after a norm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., dim) to the same shape."""
        result: Tensor = self.fc2(functional.gelu(self.fc1(self.norm(tokens))))
        return result


class Block(nn.Module):
    """Attention in windows, a depthwise convolution, two linear layers."""

    def __init__(self, dim: int, n_heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = Attention(dim, n_heads, window)
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)
        self.mlp = Mlp(dim)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, dim, h, w) to the same shape."""
        maps = self.local_conv(maps + self._attend(maps))
        result: Tensor = maps + self.mlp(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return result

    def _attend(self, maps: Tensor) -> Tensor:
        """Cut into windows, padded with zeros at the right and at the bottom, attend, and put together again."""
        (n, dim, height, width), side = maps.shape, self.window
        padded = functional.pad(maps, (0, -width % side, 0, -height % side))
        rows, columns = padded.shape[2] // side, padded.shape[3] // side
        windows = padded.view(n, dim, rows, side, columns, side).permute(0, 2, 4, 3, 5, 1)
        tokens = self.attn(windows.reshape(-1, side * side, dim))
        together: Tensor = tokens.view(n, rows, columns, side, side, dim).permute(0, 5, 1, 3, 2, 4)
        return together.reshape(n, dim, rows * side, columns * side)[:, :, :height, :width]


class Stage(nn.Module):
    """Some blocks, and the way to the next stage."""

    def __init__(self, index: int) -> None:
        super().__init__()
        dim, heads, window = _DIMS[index], _HEADS[index], _WINDOWS[index]
        blocks = (Block(dim, heads, window) if index else Bottleneck(dim) for _ in range(_DEPTHS[index]))
        self.blocks = nn.ModuleList(blocks)
        last = index == len(_STRIDES)
        self.downsample = nn.Identity() if last else Merging(dim, _DIMS[index + 1], _STRIDES[index])

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, dim, h, w) to the next stage's input."""
        for block in self.blocks:
            maps = block(maps)
        result: Tensor = self.downsample(maps)
        return result


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of maps."""

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, dim, h, w) to the same shape."""
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class TinyVit(nn.Module):
    """TinyViT (arXiv 2207.10666) without strides in its stem, and the neck of SAM's decoder."""

    def __init__(self) -> None:
        super().__init__()
        half, dim = _DIMS[0] // 2, _DIMS[0]
        self.patch_embed = nn.ModuleDict({"seq": nn.Sequential(ConvNorm(3, half), nn.GELU(), ConvNorm(half, dim))})
        self.layers = nn.ModuleList(Stage(index) for index in range(len(_DIMS)))
        neck = (nn.Conv2d(_DIMS[-1], 256, 1, bias=False), ChannelNorm(256, eps=1e-6))
        self.neck = nn.Sequential(*neck, nn.Conv2d(256, 256, 3, padding=1, bias=False), ChannelNorm(256, eps=1e-6))

    def cut(self, layer: str) -> None:
        """Drop what comes after the n-th layer; ``neck`` keeps all."""
        if layer != "neck":
            self.layers, self.neck = self.layers[: int(layer)], nn.Sequential()

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (n, 3, h, w), sides a multiple of 4, to maps (n, dim, h / 4, w / 4)."""
        maps = self.patch_embed["seq"](pictures)
        for stage in self.layers:
            maps = stage(maps)
        result: Tensor = self.neck(maps)
        return result


def medsam_lite(spec: EncoderSpec) -> NetworkEncoder:
    """LiteMedSAM's image encoder (Ma et al., Nature Communications 2024, distilled), 320 numbers a view.

    The maps after the third layer, averaged, measured better than those of the last one and of the neck.
    """
    row = encoder_row(spec.name)
    state = load_state(*weights_files(spec.name, row, spec.weights))
    network = TinyVit()
    own = {name.removeprefix(_PREFIX): tensor for name, tensor in state.items() if name.startswith(_PREFIX)}
    load_into(network, own, name=spec.name)
    network.cut(spec.layer)
    fold(network)
    return NetworkEncoder(spec, network, preprocessing(row))
