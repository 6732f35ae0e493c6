"""Astra's 3-D CT backbone: the volume itself, not views of it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from firstpick.encoders import EncoderSpec, encoder_row
from firstpick.encoders.network import device, load_into, load_state
from firstpick.encoders.weights import weights_files
from firstpick.views import crop
from firstpick.volumes import Volume

_BLOCKS = (3, 8, 36, 3)
_LEAST = (32, 32, 16)  # voxels along each axis: what the strides come to


class Bottleneck(nn.Module):
    """ResNet's bottleneck, inflated to 3-D."""

    def __init__(self, n_in: int, dim: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv3d(n_in, dim, 1, bias=False), nn.BatchNorm3d(dim)
        self.conv2, self.bn2 = nn.Conv3d(dim, dim, 3, stride, 1, bias=False), nn.BatchNorm3d(dim)
        self.conv3, self.bn3 = nn.Conv3d(dim, 4 * dim, 1, bias=False), nn.BatchNorm3d(4 * dim)
        if n_in == 4 * dim:
            self.downsample = nn.Sequential()
        else:
            self.downsample = nn.Sequential(nn.Conv3d(n_in, 4 * dim, 1, stride, bias=False), nn.BatchNorm3d(4 * dim))

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, n_in, z, x, y) to (n, 4 * dim, ...), each axis divided by the stride."""
        inner = functional.relu(self.bn1(self.conv1(maps)))
        inner = functional.relu(self.bn2(self.conv2(inner)))
        return functional.relu(self.bn3(self.conv3(inner)) + self.downsample(maps))


class InflatedResNet(nn.Module):
    """ResNet-152 whose kernels were inflated to 3-D (Merlin, arXiv 2406.06512), without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv3d(3, 64, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False), nn.BatchNorm3d(64)
        n_in = 64
        for number, n_blocks in enumerate(_BLOCKS):
            dim = 64 * 2**number
            strides = [min(number, 1) + 1] + [1] * (n_blocks - 1)
            blocks = [Bottleneck(4 * dim if i else n_in, dim, stride) for i, stride in enumerate(strides)]
            setattr(self, f"layer{number + 1}", nn.Sequential(*blocks))
            n_in = 4 * dim

    def forward(self, crops: Tensor) -> Tensor:
        """Map crops (n, x, y, z) to rows (n, 2048)."""
        maps = crops.permute(0, 3, 1, 2)[:, None].expand(-1, 3, -1, -1, -1)
        maps = functional.max_pool3d(functional.relu(self.bn1(self.conv1(maps))), 3, 2, 1)
        for number in range(len(_BLOCKS)):
            maps = getattr(self, f"layer{number + 1}")(maps)
        return maps.mean(dim=(2, 3, 4))


class Astra:
    """Astra's image backbone (derived from Stanford's Merlin, arXiv 2406.06512), 2048 numbers a volume.

    Sees the body's box at 1.5 x 1.5 x 3 mm, cropped around its middle to at most 224 x 224 x 160 voxels and not padded
    beyond 32 x 32 x 16, so that small volumes are fast. CT between -1000 and 200 HU; what is not CT, between the
    percentiles that views are stretched to: it was never trained on that.
    """

    dim = 2048

    def __init__(self, spec: EncoderSpec) -> None:
        self._spec, self._row = spec, encoder_row(spec.name)
        network = InflatedResNet()
        state = load_state(*weights_files(spec.name, self._row, spec.weights))
        load_into(network, {name: tensor.float() for name, tensor in state.items()}, name=spec.name)
        self._device, self._dtype = device()
        self._network = network.eval().to(self._device, self._dtype)

    def parts(self, volume: Volume) -> NDArray[np.float32]:
        """Return the crop, shape (1, x, y, z), float32 in [0, 1]; x, y and z are the volume's own."""
        cut, (low, high) = crop(volume, self._spec.views, window=self._row.window)
        unit = (np.clip(cut, low, high) - low) / (high - low) if high > low else np.zeros_like(cut)
        sizes = [n * mm for n, mm in zip(unit.shape, volume.spacing, strict=True)]
        shape = [max(1, round(size / mm)) for size, mm in zip(sizes, self._row.spacing_mm, strict=True)]
        resized = functional.interpolate(torch.from_numpy(unit)[None, None], shape, mode="trilinear")[0]
        return _fit(resized.numpy(), _LEAST, self._row.shape)

    @torch.inference_mode()
    def encode(self, parts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return one row for each crop, shape (n, 2048), float32."""
        rows = [self._network(torch.from_numpy(part[None]).to(self._device, self._dtype)) for part in parts]
        array: NDArray[np.float32] = torch.cat(rows).float().cpu().numpy()
        return array


def _fit(crops: NDArray[np.float32], least: tuple[int, ...], most: tuple[int, ...]) -> NDArray[np.float32]:
    """Crop each axis around its middle to what the network wants at most, pad it with zeros to what it needs."""
    for axis, (low, high) in enumerate(zip(least, most, strict=True), start=1):
        n = crops.shape[axis]
        start = max(0, (n - high) // 2)
        crops = crops.take(range(start, start + min(n, high)), axis=axis)
        lacking = max(0, low - n)
        pad = [(0, 0)] * crops.ndim
        pad[axis] = (lacking // 2, lacking - lacking // 2)
        crops = np.pad(crops, pad)
    return np.ascontiguousarray(crops)
