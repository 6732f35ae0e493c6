"""What all 3-D networks share: the body's box at the network's own spacing, in [0, 1]; rows out."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from firstpick.encoders import EncoderError, EncoderSpec
from firstpick.encoders.network import device
from firstpick.voxels.views import ViewSpec, crop
from firstpick.voxels.volumes import Volume

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class CropSpec:
    """Which part of a volume a 3-D network sees.

    Attributes
    ----------
    shape : tuple of 3 int
        Voxels along x, y and z at most: what is larger is cropped around its middle.
    spacing_mm : tuple of 3 floats
        Their distance.
    window : tuple of 2 floats
        HU that become 0 and 1. What is not CT lies between the percentiles that views are stretched to.
    least : tuple of 3 int
        Voxels at least: what is smaller is padded with zeros, so that small volumes are fast.
    multiple : int
        Voxels along each axis are padded to a multiple of this.
    """

    shape: Triple
    spacing_mm: tuple[float, float, float]
    window: tuple[float, float]
    least: Triple
    multiple: int = 1


class CropEncoder:
    """The volume itself, as one crop, through a torch network; on a GPU in half precision.

    Parameters
    ----------
    spec : EncoderSpec
        Resolved.
    network : torch.nn.Module
        Maps crops (n, x, y, z) with values in [0, 1] to rows (n, dim).
    seen : CropSpec

    Raises
    ------
    EncoderError
        If the network cannot encode its least crop, which is tried at once.
    """

    def __init__(self, spec: EncoderSpec, network: nn.Module, seen: CropSpec) -> None:
        # The crop, shape (1, x, y, z), float32 in [0, 1]; a process that only reads takes this without the network.
        self.parts = functools.partial(cut, views=spec.views, seen=seen)
        self._device, self._dtype = device()
        self._network = network.eval().to(self._device, self._dtype)
        try:
            self.dim = self.encode(np.zeros((1, *seen.least), np.float32)).shape[1]
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            msg = f"encoder '{spec.name}' cannot encode {seen.least} voxels: {' '.join(str(error).split())[:200]}"
            raise EncoderError(msg) from error

    @torch.inference_mode()
    def encode(self, parts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return one row for each crop, shape (n, dim), float32."""
        rows = [self._network(torch.from_numpy(part[None]).to(self._device, self._dtype)) for part in parts]
        array: NDArray[np.float32] = torch.cat(rows).float().cpu().numpy()
        return array


def cut(volume: Volume, *, views: ViewSpec, seen: CropSpec) -> NDArray[np.float32]:
    """Return the crop, shape (1, x, y, z), float32 in [0, 1]; x, y and z are the volume's own."""
    box, (low, high) = crop(volume, views, window=seen.window)
    unit = (np.clip(box, low, high) - low) / (high - low) if high > low else np.zeros_like(box)
    sizes = [n * mm for n, mm in zip(unit.shape, volume.spacing, strict=True)]
    shape = [max(1, round(size / mm)) for size, mm in zip(sizes, seen.spacing_mm, strict=True)]
    resized = functional.interpolate(torch.from_numpy(unit)[None, None], shape, mode="trilinear")[0]
    return _fit(resized.numpy(), seen)


def _fit(crops: NDArray[np.float32], seen: CropSpec) -> NDArray[np.float32]:
    """Crop each axis around its middle to what the network wants at most, pad it with zeros to what it needs."""
    for axis, (least, most) in enumerate(zip(seen.least, seen.shape, strict=True), start=1):
        start = max(0, (crops.shape[axis] - most) // 2)
        crops = crops.take(range(start, min(start + most, crops.shape[axis])), axis=axis)
        n = crops.shape[axis]
        lacking = max(least, -(-n // seen.multiple) * seen.multiple) - n
        pad = [(0, 0)] * crops.ndim
        pad[axis] = (lacking // 2, lacking - lacking // 2)
        crops = np.pad(crops, pad)
    return np.ascontiguousarray(crops)
