"""Where a volume lies."""

from __future__ import annotations

import slicer
import vtk


def affineOf(volume):
    """The volume's matrix from voxels to RAS."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)
