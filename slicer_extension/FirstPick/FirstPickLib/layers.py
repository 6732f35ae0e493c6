"""The voxels of a segmentation, looked at where they lie: layer by layer, without a copy of the grid a segment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from .geometry import affineOf

MOST_COUNTED = 1 << 16  # values that are counted without sorting
_SAME = 1e-3  # of a voxel
_TYPES = (np.uint8, np.int16, np.int32)  # that every program reads


@dataclass(frozen=True)
class Layer:
    """Segments that share a label map and so cannot overlap.

    Attributes
    ----------
    array : ndarray of shape (k, j, i)
        The part of the volume's grid on which anything is drawn: a view, not a copy, where the grids are the same.
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
    grid, size = _gridIn(segmentation, volume), volume.GetImageData().GetDimensions()
    found = [_layer(image, values, grid, size) for image, values in _labelMaps(segmentation)]
    return [layer for layer in found if layer is not None]


def drawnCopy(segmentation):
    """Copy what is drawn and no more: neither empty segments nor the parts of the grid on which nothing is.

    Slicer's own writer goes over the whole grid several times for each segment.
    """
    inner, copy = segmentation.GetSegmentation(), slicer.vtkMRMLSegmentationNode()
    copy.GetSegmentation().SetSourceRepresentationName(_kind())
    places = {}
    for image, values in _labelMaps(segmentation):
        box = drawnBox(_arrayOf(image))
        if box is not None:
            small, drawn = _cut(image, box), valuesIn(_arrayOf(image)[box])
            places.update({name: small for name, value in values.items() if value in drawn})
    for number in range(inner.GetNumberOfSegments()):
        name = inner.GetNthSegmentID(number)
        if name in places:
            segment = slicer.vtkSegment()
            segment.DeepCopyMetadata(inner.GetSegment(name))
            segment.SetLabelValue(inner.GetSegment(name).GetLabelValue())
            segment.AddRepresentation(_kind(), places[name])
            copy.GetSegmentation().AddSegment(segment, name)
    return copy


def _kind() -> str:
    return slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()


def _labelMaps(segmentation):
    """Give the label map of each layer and its segments' values by their ids; those without a voxel are left out."""
    inner = segmentation.GetSegmentation()
    for number in range(inner.GetNumberOfLayers(_kind())):
        image = inner.GetLayerDataObject(number, _kind())
        if image is not None and not image.IsEmpty() and image.GetPointData().GetScalars() is not None:
            ids = inner.GetSegmentIDsForLayer(number, _kind())
            yield image, {name: inner.GetSegment(name).GetLabelValue() for name in ids}


def _arrayOf(image) -> np.ndarray:
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def _cut(image, box: tuple):
    """Copy a part of a label map, which stays where it is."""
    small, toWorld, extent = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4(), image.GetExtent()
    cut = zip(extent[::2], box[::-1])
    small.SetExtent(*(place for first, part in cut for place in (first + part.start, first + part.stop - 1)))
    image.GetImageToWorldMatrix(toWorld)
    small.SetGeometryFromImageToWorldMatrix(toWorld)
    voxels = np.ascontiguousarray(_arrayOf(image)[box]).ravel()
    small.GetPointData().SetScalars(numpy_to_vtk(voxels, deep=True, array_type=image.GetScalarType()))
    return small


def _gridIn(segmentation, volume) -> np.ndarray:
    """The volume's matrix in the frame of the segmentation: somebody may have moved one of them."""
    between = vtk.vtkMatrix4x4()
    transforms = volume.GetParentTransformNode(), segmentation.GetParentTransformNode()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(*transforms, between)
    return slicer.util.arrayFromVTKMatrix(between) @ affineOf(volume)


def _layer(image, values: dict, grid: np.ndarray, size: tuple):
    """Make a layer of a label map; it is resampled where its voxels are not the volume's."""
    shift = _shift(image, grid)
    if shift is None:
        image, shift = _onGrid(image, grid, size), np.zeros(3, int)
    if image.GetPointData().GetScalars() is None:
        return None
    array = _arrayOf(image)
    start = shift + image.GetExtent()[::2]
    inside = [slice(max(-first, 0), max(n - first, 0)) for first, n in zip(start, size)]
    array = array[tuple(inside[::-1])]
    box = drawnBox(array)
    if box is None:
        return None
    first = [part.start + cut.start for part, cut in zip(box[::-1], inside)]
    return Layer(array[box], tuple(int(n) for n in start + first), values)


def _shift(image, grid: np.ndarray):
    """How far a label map's indices are from the volume's; None if they do not lie on the same grid."""
    toWorld = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(toWorld)
    toVolume = np.linalg.inv(grid) @ slicer.util.arrayFromVTKMatrix(toWorld)
    shift = np.rint(toVolume[:3, 3])
    expected = np.eye(4)
    expected[:3, 3] = shift
    return shift.astype(int) if np.abs(toVolume - expected).max() < _SAME else None


def drawnBox(array: np.ndarray):
    """Return the part of a label that holds all that is not background, as slices; None if nothing is drawn."""
    flat = array.any(axis=0)
    drawn = [np.flatnonzero(some) for some in (array.any(axis=(1, 2)), flat.any(axis=1), flat.any(axis=0))]
    return tuple(slice(int(some[0]), int(some[-1]) + 1) for some in drawn) if len(drawn[0]) else None


def _onGrid(image, grid: np.ndarray, size: tuple):
    reference, moved = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    reference.SetDimensions(*size)
    reference.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(grid))
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(image, reference, moved)
    return moved


def countVoxels(found: list) -> dict:
    """Count the voxels of each segment."""
    counts = {}
    for layer in found:
        ofValue = _count(layer.array)
        counts.update({name: ofValue.get(value, 0) for name, value in layer.values.items()})
    return counts


def valuesIn(array: np.ndarray) -> set:
    """Return the values other than 0 of a label."""
    return set(_count(array)) - {0}


def _count(array: np.ndarray) -> dict:
    """Count each value slice by slice: without sorting where values are small, and without a copy of all."""
    counts = {}
    for slab in array:
        if array.dtype.kind in "iu" and slab.min() >= 0 and slab.max() < MOST_COUNTED:
            found = np.bincount(slab.ravel())
            pairs = zip(np.flatnonzero(found), found[found > 0])
        else:
            pairs = zip(*np.unique(slab, return_counts=True))
        for value, n in pairs:
            counts[int(value)] = counts.get(int(value), 0) + int(n)
    return counts


def merge(found: list, values: dict, shape: tuple) -> np.ndarray:
    """Make one label of all layers.

    Parameters
    ----------
    found : list of Layer
    values : dict
        The value that each segment gets, by its id; where segments overlap the later one counts, as in Slicer.
        What is not named is left out.
    shape : tuple
        Of the volume's array: (k, j, i).
    """
    ranks = {name: rank for rank, name in enumerate(values, 1)}
    ofRank = np.array([0, *values.values()])
    ofRank = ofRank.astype(next(kind for kind in _TYPES if ofRank.max() <= np.iinfo(kind).max))
    merged = np.zeros(shape, ofRank.dtype)
    for place, parts in _slabs(found, ranks):
        highest = np.zeros(merged[place].shape, np.uint16)
        for part, ranked in parts:
            np.maximum(highest[part], ranked, out=highest[part])
        merged[place] = ofRank[highest]
    return merged


def overlaps(found: list, names: dict) -> tuple:
    """Count the voxels that segments of different names share, and tell which names those are.

    Parameters
    ----------
    found : list of Layer
    names : dict
        Of the segments to look at, by their ids.
    """
    ranks = {name: rank for rank, name in enumerate(sorted(set(names.values())), 1)}
    ofSegment = {segmentId: ranks[name] for segmentId, name in names.items()}
    total, involved = 0, set()
    for (_k, rows, columns), parts in _slabs(found, ofSegment):
        if len(parts) < 2:
            continue
        first = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint16)
        shared = np.zeros(first.shape, bool)
        for part, ranked in parts:
            both = (first[part] > 0) & (ranked > 0) & (first[part] != ranked)
            if both.any():
                involved.update(np.unique(first[part][both]).tolist(), np.unique(ranked[both]).tolist())
                shared[part] |= both
            first[part] = np.where(first[part] > 0, first[part], ranked)
        total += int(np.count_nonzero(shared))
    return total, {name for name, rank in ranks.items() if rank in involved}


def _slabs(found: list, ranks: dict):
    """Go through the slices on which anything is drawn.

    Gives the place of each in the volume's array; and for each layer that has something there, its place in that and
    the ranks of its segments.
    """
    if not found:
        return
    low = np.min([layer.start for layer in found], axis=0)
    high = np.max([np.add(layer.start, layer.array.shape[::-1]) for layer in found], axis=0)
    tables = [_rankTable(layer, ranks) for layer in found]
    for k in range(low[2], high[2]):
        parts = []
        for layer, table in zip(found, tables):
            i, j, _first = np.subtract(layer.start, low)
            if 0 <= k - layer.start[2] < len(layer.array):
                slab = layer.array[k - layer.start[2]]
                parts.append(((slice(j, j + slab.shape[0]), slice(i, i + slab.shape[1])), table[slab]))
        yield (k, slice(low[1], high[1]), slice(low[0], high[0])), parts


def _rankTable(layer: Layer, ranks: dict) -> np.ndarray:
    """Tell for each value of a layer's array the rank of its segment; 0 for what is not asked for."""
    table = np.zeros(max(int(layer.array.max()), *layer.values.values()) + 1, np.uint16)
    for name, value in layer.values.items():
        table[value] = ranks.get(name, 0)
    return table


def isDrawnOn(found: list, axis: int, index: int) -> bool:
    """Tell whether anything is drawn on a slice of the volume."""
    for layer in found:
        place = index - layer.start[axis]
        if 0 <= place < layer.array.shape[2 - axis] and layer.array.take(place, axis=2 - axis).any():
            return True
    return False
