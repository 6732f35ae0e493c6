"""The voxels of a segmentation, looked at where they lie: layer by layer, without a copy of the grid a segment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from .geometry import affineOf

_SAME_MM = 1e-3


@dataclass(frozen=True)
class Layer:
    """Segments that share a label map and so cannot overlap.

    Attributes
    ----------
    array : ndarray of shape (k, j, i)
        The part of the volume's grid on which anything may be drawn: a view, not a copy, where the grids are the same.
    start : tuple of 3 ints
        Where that part begins: i, j, k of the volume.
    values : dict
        The value of each segment, by its id.
    """

    array: np.ndarray
    start: tuple
    values: dict


def layers(segmentation, volume) -> list:
    """Return the layers of a segmentation on a volume's grid; those on which nothing is drawn are left out."""
    inner = segmentation.GetSegmentation()
    kind = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    found = []
    for number in range(inner.GetNumberOfLayers(kind)):
        image = inner.GetLayerDataObject(number, kind)
        if image is None or image.IsEmpty():
            continue
        ids = inner.GetSegmentIDsForLayer(number, kind)
        found.append(_layer(image, {name: inner.GetSegment(name).GetLabelValue() for name in ids}, volume))
    return [layer for layer in found if layer is not None]


def _layer(image, values: dict, volume):
    """Make a layer of a label map; it is resampled where it lies on another grid than the volume."""
    toWorld = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(toWorld)
    if not np.allclose(slicer.util.arrayFromVTKMatrix(toWorld), affineOf(volume), rtol=0, atol=_SAME_MM):
        image = _onGrid(image, volume)
    extent, size = image.GetExtent(), volume.GetImageData().GetDimensions()
    scalars = image.GetPointData().GetScalars()
    if scalars is None:
        return None
    array = vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1])
    first = [max(extent[2 * axis], 0) for axis in range(3)]
    end = [min(extent[2 * axis + 1] + 1, size[axis]) for axis in range(3)]
    if any(a >= b for a, b in zip(first, end)):
        return None
    part = tuple(slice(first[axis] - extent[2 * axis], end[axis] - extent[2 * axis]) for axis in (2, 1, 0))
    return Layer(array[part], tuple(first), values)


def _onGrid(image, volume):
    reference = slicer.vtkSlicerSegmentationsModuleLogic.CreateOrientedImageDataFromVolumeNode(volume)
    reference.UnRegister(None)
    moved = slicer.vtkOrientedImageData()
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(image, reference, moved)
    return moved


def countVoxels(found: list) -> dict:
    """Count the voxels of each segment."""
    counts = {}
    for layer in found:
        ofValue = np.zeros(max(layer.values.values(), default=0) + 1, np.int64)
        for slab in layer.array:
            some = np.bincount(slab.ravel(), minlength=len(ofValue))
            ofValue += some[: len(ofValue)]
        counts.update({name: int(ofValue[value]) for name, value in layer.values.items()})
    return counts


def countOverlap(found: list, names: set) -> int:
    """Count the voxels that more than one of some segments has."""
    taken = [layer for layer in found if names & layer.values.keys()]
    if len(taken) < 2:
        return 0
    low = np.min([layer.start for layer in taken], axis=0)
    high = np.max([np.add(layer.start, layer.array.shape[::-1]) for layer in taken], axis=0)
    total = 0
    for k in range(low[2], high[2]):
        times = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        for layer in taken:
            i, j = layer.start[0] - low[0], layer.start[1] - low[1]
            if 0 <= k - layer.start[2] < len(layer.array):
                slab = layer.array[k - layer.start[2]]
                mine = np.isin(slab, [value for name, value in layer.values.items() if name in names])
                times[j : j + slab.shape[0], i : i + slab.shape[1]] += mine
        total += int(np.count_nonzero(times > 1))
    return total


def isDrawnOn(found: list, axis: int, index: int) -> bool:
    """Tell whether anything is drawn on a slice of the volume."""
    for layer in found:
        place = index - layer.start[axis]
        if 0 <= place < layer.array.shape[2 - axis] and layer.array.take(place, axis=2 - axis).any():
            return True
    return False
