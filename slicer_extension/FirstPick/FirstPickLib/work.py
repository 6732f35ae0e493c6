"""All that was drawn of a study in one file, as Slicer itself writes segmentations: names, colours, overlaps."""

from __future__ import annotations

import slicer

from . import scene
from .layers import drawnCopy

ENDING = ".seg.nrrd"


def writeWork(segmentation, path: str, isSmall: bool = False) -> None:
    """Write all segments, whatever the server knows of them; only the part of the grid on which anything is drawn.

    Parameters
    ----------
    path : str
        Ends with ``.seg.nrrd``.
    isSmall : bool
        Whether time is taken to compress it.
    """
    copy = drawnCopy(segmentation)  # Slicer's writer joins layers in place, even on the grid of an empty one
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(path)
    storage.SetUseCompression(isSmall)
    storage.SetCropToMinimumExtent(True)
    if not storage.WriteData(copy):
        msg = f"Slicer could not write {path}. Is the disk full?"
        raise OSError(msg)


def loadDrawn(path: str, segmentation, volume, labels: list) -> None:
    """Fill a segmentation with what was drawn before, in whatever format; RuntimeError if Slicer cannot read it."""
    segmentation.GetSegmentation().RemoveAllSegments()
    if path.lower().endswith(ENDING):
        _readWork(path, segmentation, volume)
        scene.addSegments(segmentation, labels)
        scene.orderSegments(segmentation, labels)
    else:
        scene.addSegments(segmentation, labels)
        scene.loadLabel(path, segmentation, labels)


def _readWork(path: str, segmentation, volume) -> None:
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(path)
    if not storage.ReadData(segmentation):
        msg = f"Slicer cannot read {path}."
        raise RuntimeError(msg)
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
