"""Astra's 3-D CT backbone: the volume itself, not views of it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from firstpick.encoders import EncoderSpec, encoder_row
from firstpick.encoders.crops import CropEncoder, CropSpec
from firstpick.encoders.network import load_into, load_state
from firstpick.encoders.weights import weights_files

_BLOCKS = (3, 8, 36, 3)
LEAST = (32, 32, 16)  # voxels along each axis: what the strides come to


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


def build(spec: EncoderSpec) -> CropEncoder:
    """Astra's image backbone (derived from Stanford's Merlin, arXiv 2406.06512), 2048 numbers a volume."""
    row = encoder_row(spec.name)
    network = InflatedResNet()
    state = load_state(*weights_files(spec.name, row, spec.weights))
    load_into(network, {name: tensor.float() for name, tensor in state.items()}, name=spec.name)
    return CropEncoder(spec, network, CropSpec(row.shape, row.spacing_mm, row.window, LEAST))
