"""A volume as the slices of its sharpest plane, each as it stands on a screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from firstpick.voxels.stored import N_AXES
from firstpick.voxels.views import ViewSpec, draw, in_square, windows_of
from firstpick.voxels.volumes import Volume

AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Axis of the volume that the slices of each plane are stacked along."""
_THICK = 1.5  # times the next spacing, from which on slices are taken along an axis

AnyType = TypeVar("AnyType", bound=np.generic)


@dataclass(frozen=True)
class Stack:
    """Slices of a volume, rows from top to bottom and columns from left to right as in `make_views`.

    Attributes
    ----------
    volume : Volume
    spec : ViewSpec
        ``intensity`` and ``percentiles`` have the meaning that they have for `make_views`.
    along : int, optional
        Axis of the volume to stack slices along, instead of that of its sharpest plane.
    """

    volume: Volume
    spec: ViewSpec
    along: int | None = None

    @cached_property
    def axis(self) -> int:
        """Axis that slices are stacked along: that of thick or single slices, else z."""
        if self.along is not None:
            return self.along
        shape, spacing = self.volume.array.shape, self.volume.spacing
        if self.volume.is_picture:
            return 2
        if 1 in shape:
            return max(axis for axis, n in enumerate(shape) if n == 1)
        thickest = int(np.argmax(spacing))
        return thickest if spacing[thickest] > _THICK * sorted(spacing)[1] else 2

    @cached_property
    def windows(self) -> tuple[tuple[float, float], ...]:
        """Values shown as 0 and as 1, for each channel."""
        return windows_of(self.volume, self.spec)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of slices, rows and columns in mm."""
        across, along = (axis for axis in range(N_AXES) if axis != self.axis)
        mm = self.volume.spacing
        return mm[self.axis], mm[along], mm[across]

    def of(self, array: NDArray[AnyType]) -> NDArray[AnyType]:
        """Return a view of an array on the volume's grid, shape (n_slices, n_rows, n_columns)."""
        slices = np.moveaxis(array, self.axis, 0).transpose(0, 2, 1)
        return slices if self.volume.is_picture else slices[:, ::-1, ::-1]

    def back(self, slices: NDArray[AnyType]) -> NDArray[AnyType]:
        """Return an array of slices on the volume's grid again, the inverse of `of`."""
        turned = slices if self.volume.is_picture else slices[:, ::-1, ::-1]
        return np.moveaxis(turned.transpose(0, 2, 1), 0, self.axis)

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns."""
        n_slices, n_rows, n_columns = self.of(self.volume.array).shape
        return n_slices, n_rows, n_columns

    def grey(self, index: int) -> NDArray[np.float32]:
        """Return a slice through each window, shape (n_windows, n_rows, n_columns), float32 in [0, 1]."""
        pixels = self.of(self.volume.array)[index].astype(np.float32)
        return np.stack([np.clip((pixels - low) / ((high - low) or 1.0), 0, 1) for low, high in self.windows])

    def pictures(self, indices: Sequence[int], size: int) -> NDArray[np.float32]:
        """Draw slices for an encoder, shape (n, size, size, 3), float32 in [0, 1]."""
        shown = np.zeros((len(indices), size, size, 3), np.float32)
        for picture, index in zip(shown, indices, strict=True):
            draw(picture, self.of(self.volume.array)[index], self.spacing[1:], windows=self.windows)
        return shown

    def place(self, size: int) -> tuple[slice, slice]:
        """Return the rows and columns that a slice fills in its picture."""
        return in_square(self.shape[1:], self.spacing[1:], size)
