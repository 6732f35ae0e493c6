"""All that was drawn of a study in one file, as Slicer itself writes segmentations: names, colours, overlaps."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

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
        raise OSError(_("Slicer could not write {path}. Is the disk full?").format(path=path))


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
        raise RuntimeError(_("Slicer cannot read {path}.").format(path=path))
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
