"""Where a volume's slices lie, and the views that show them: turned to the volume's own planes while it is open."""

from __future__ import annotations

import numpy as np
import slicer
import vtk

AXES = {"sagittal": 0, "coronal": 1, "axial": 2}


def show(volume) -> list:
    """Show a volume in the slice views, turned to its own planes; return how the views stood, for `turnBack`."""
    views = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    before = []
    for view in views:
        matrix = vtk.vtkMatrix4x4()
        matrix.DeepCopy(view.GetSliceToRAS())
        before.append((view, matrix))
        view.RotateToVolumePlane(volume)
    slicer.util.setSliceViewerLayers(background=volume, label=None, fit=True)
    return before


def bringToFront(volume) -> None:
    """Show another volume in the slice views, which stay where they are."""
    slicer.util.setSliceViewerLayers(background=volume)


def turnBack(before: list) -> None:
    """Put the slice views back as they stood: a picture turns all of them to its one plane."""
    for view, matrix in before:
        if slicer.mrmlScene.IsNodePresent(view):
            view.GetSliceToRAS().DeepCopy(matrix)
            view.UpdateMatrices()


def jumpTo(volume, one: dict) -> list:
    """Move the slice views to a proposed slice, and return its middle in RAS."""
    place = slicePlace(volume, one)
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *place, slicer.vtkMRMLSliceNode.OffsetJumpSlice)
    return place


def slicePlace(volume, one: dict) -> list:
    """Return the middle of a proposed slice in RAS."""
    affine = affineOf(volume)
    place = (np.array(volume.GetImageData().GetDimensions()) - 1) / 2
    axis, index = sliceIndex(volume, one)
    place[axis] = index
    return (affine @ [*place, 1])[:3].tolist()


def sliceIndex(volume, one: dict) -> tuple:
    """Return the axis of the volume that a proposed slice counts along, and its index on it.

    The server counts from right to left, back to front or bottom to top, along the axis of the volume
    that is nearest to that of the body: oblique volumes have such slices, too.
    """
    affine = affineOf(volume)
    bodyAxis = AXES[one["plane"]]
    axis = closestAxes(affine)[bodyAxis]
    isForwards = affine[bodyAxis, axis] > 0
    last = volume.GetImageData().GetDimensions()[axis] - 1
    return axis, one["index"] if isForwards else last - one["index"]


def closestAxes(affine: np.ndarray) -> list:
    """For each of right, anterior and superior the axis of the volume that runs along it; each axis once."""
    steps = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    axes = [0, 0, 0]
    for _ in range(3):
        body, axis = np.unravel_index(steps.argmax(), steps.shape)
        axes[body] = int(axis)
        steps[body, :] = steps[:, axis] = -1
    return axes


def affineOf(volume) -> np.ndarray:
    """Matrix from a volume's indices to RAS."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)
