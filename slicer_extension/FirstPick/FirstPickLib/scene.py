"""What FirstPick puts into the MRML scene: one volume and its segmentation; it touches no other node."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

AXES = {"sagittal": 0, "coronal": 1, "axial": 2}


def loadVolume(path: str, name: str):
    """Load a study's file as one volume, whatever lies beside it."""
    volume = slicer.util.loadVolume(path, {"name": name, "singleFile": True, "show": False})
    volume.SetName(name)
    return volume


def makeSegmentation(volume, labels: list):
    """Make a segmentation on a volume's grid with an empty segment for each of the server's labels."""
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{volume.GetName()} segmentation")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    addSegments(segmentation, labels)
    return segmentation


def addSegments(segmentation, labels: list) -> None:
    """Add the segments that are missing, in the server's order and colours."""
    inner = segmentation.GetSegmentation()
    for label in labels:
        if not inner.GetSegmentIdBySegmentName(label["name"]):
            inner.AddEmptySegment(label["name"], label["name"], _color(label))


def loadLabel(path: str, segmentation, labels: list) -> None:
    """Fill a segmentation from a label file: each value becomes the segment of its name."""
    labelmap = slicer.util.loadLabelVolume(path, {"name": "FirstPick label", "show": False})
    table = None
    try:
        values = sorted({int(value) for value in np.unique(slicer.util.arrayFromVolume(labelmap))} - {0})
        known = {label["value"] for label in labels}
        strangers = [{"name": f"Label {value}", "value": value, "color": "#808080"} for value in values]
        used = [label for label in labels if label["value"] in values]
        used += [label for label in strangers if label["value"] not in known]
        inner = segmentation.GetSegmentation()
        for label in used:
            inner.RemoveSegment(inner.GetSegmentIdBySegmentName(label["name"]))
        if used:
            table = _colorTable(used)
            labelmap.CreateDefaultDisplayNodes()
            labelmap.GetDisplayNode().SetAndObserveColorNodeID(table.GetID())
            slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labelmap, segmentation)
        order = [label["name"] for label in labels]
        for place, name in enumerate(order):
            segmentId = inner.GetSegmentIdBySegmentName(name)
            if segmentId:
                inner.SetSegmentIndex(segmentId, place)
    finally:
        removeNodes([labelmap, table])


def problems(segmentation, volume, labels: list) -> list:
    """Say what to look at before submitting: nothing drawn, overlaps, segments that the server has no value for."""
    inner = segmentation.GetSegmentation()
    names = {inner.GetNthSegment(i).GetName() for i in range(inner.GetNumberOfSegments())}
    strangers = sorted(names - {label["name"] for label in labels})
    counts, overlap = _voxels(segmentation, volume, labels)
    found = []
    if not any(counts.values()):
        found.append(_("Nothing is drawn."))
    if overlap:
        text = _("Segments overlap in {n} voxels; a label file holds only one of them there.")
        found.append(text.format(n=overlap))
    drawn = [name for name in strangers if not _isEmpty(segmentation, name)]
    if drawn:
        found.append(_("The server has no label {names}: it will not be sent.").format(names=", ".join(drawn)))
    return found


def exportLabel(segmentation, volume, labels: list, path: str) -> None:
    """Write the segmentation on the volume's grid; each voxel has the value that the server gave the segment's name."""
    inner = segmentation.GetSegmentation()
    segmentIds = vtk.vtkStringArray()
    for label in labels:
        segmentId = inner.GetSegmentIdBySegmentName(label["name"])
        if segmentId and not _isEmpty(segmentation, label["name"]):
            segmentIds.InsertNextValue(segmentId)
    tablesBefore = slicer.util.getNodesByClass("vtkMRMLColorTableNode")
    labelmap = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "FirstPick label")
    table = _colorTable(labels)
    try:
        if segmentIds.GetNumberOfValues():
            slicer.modules.segmentations.logic().ExportSegmentsToLabelmapNode(
                segmentation, segmentIds, labelmap, volume, slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY, table
            )
        else:
            empty = np.zeros(slicer.util.arrayFromVolume(volume).shape[:3], np.uint8)
            slicer.util.updateVolumeFromArray(labelmap, empty)
            geometry = vtk.vtkMatrix4x4()
            volume.GetIJKToRASMatrix(geometry)
            labelmap.SetIJKToRASMatrix(geometry)
        if not slicer.util.saveNode(labelmap, path, {"useCompression": 1}):
            msg = _("Slicer could not write {path}. Is the disk full?")
            raise OSError(msg.format(path=path))
    finally:
        tables = slicer.util.getNodesByClass("vtkMRMLColorTableNode")  # Slicer's export adds one of its own
        removeNodes([labelmap, *(node for node in tables if node not in tablesBefore)])


def removeNodes(nodes: list) -> None:
    """Take nodes and what belongs to them alone out of the scene."""
    for node in nodes:
        if node is None or not slicer.mrmlScene.IsNodePresent(node):
            continue
        own = [node.GetNthDisplayNode(i) for i in range(node.GetNumberOfDisplayNodes())] if _isShown(node) else []
        own.append(node.GetStorageNode() if node.IsA("vtkMRMLStorableNode") else None)
        slicer.mrmlScene.RemoveNode(node)
        for part in own:
            if part is not None and slicer.mrmlScene.IsNodePresent(part):
                slicer.mrmlScene.RemoveNode(part)


def show(volume) -> None:
    """Show a volume in the slice views."""
    slicer.util.setSliceViewerLayers(background=volume, label=None, fit=True)


def jumpTo(volume, one: dict) -> list:
    """Move the slice views to a proposed slice, and return the place in RAS.

    The slice's index counts from right to left, back to front or bottom to top, along the axis of the volume
    that is nearest to that of the body: oblique volumes have such slices, too.
    """
    place = slicePlace(volume, one)
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *place, slicer.vtkMRMLSliceNode.OffsetJumpSlice)
    return place


def slicePlace(volume, one: dict) -> list:
    """Return the middle of a proposed slice in RAS."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    affine = slicer.util.arrayFromVTKMatrix(matrix)
    size = np.array(volume.GetImageData().GetDimensions())
    bodyAxis = AXES[one["plane"]]
    axis = closestAxes(affine)[bodyAxis]
    place = (size - 1) / 2
    forwards = affine[bodyAxis, axis] > 0
    place[axis] = one["index"] if forwards else size[axis] - 1 - one["index"]
    return (affine @ [*place, 1])[:3].tolist()


def closestAxes(affine: np.ndarray) -> list:
    """For each of right, anterior and superior the axis of the volume that runs along it; each axis once."""
    steps = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    axes = [0, 0, 0]
    for _axis in range(3):
        body, axis = np.unravel_index(steps.argmax(), steps.shape)
        axes[body] = int(axis)
        steps[body, :] = steps[:, axis] = -1
    return axes


def _isShown(node) -> bool:
    return node.IsA("vtkMRMLDisplayableNode")


def _color(label: dict) -> list:
    return [int(label["color"][i : i + 2], 16) / 255 for i in (1, 3, 5)]


def _colorTable(labels: list):
    """A colour table that gives each name its value."""
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", "FirstPick labels")
    table.SetTypeToUser()
    table.SetHideFromEditors(True)
    table.SetNumberOfColors(max(label["value"] for label in labels) + 1)
    table.SetColor(0, "background", 0, 0, 0, 0)
    for label in labels:
        table.SetColor(label["value"], label["name"], *_color(label), 1)
    return table


def _array(segmentation, name: str, volume):
    segmentId = segmentation.GetSegmentation().GetSegmentIdBySegmentName(name)
    return slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segmentId, volume)


def _isEmpty(segmentation, name: str) -> bool:
    segmentId = segmentation.GetSegmentation().GetSegmentIdBySegmentName(name)
    image = slicer.vtkOrientedImageData()
    segmentation.GetBinaryLabelmapRepresentation(segmentId, image)
    return image.IsEmpty() or image.GetScalarRange()[1] == 0


def _voxels(segmentation, volume, labels: list) -> tuple:
    """Count the voxels of each label, and those that more than one label has."""
    inner = segmentation.GetSegmentation()
    names = [label["name"] for label in labels if inner.GetSegmentIdBySegmentName(label["name"])]
    drawn = [name for name in names if not _isEmpty(segmentation, name)]
    counts = dict.fromkeys(names, 0)
    taken, overlap = None, None
    for name in drawn:
        mask = _array(segmentation, name, volume) != 0
        counts[name] = int(mask.sum())
        if taken is None:
            taken, overlap = mask.copy(), np.zeros_like(mask)
        else:
            overlap |= taken & mask
            taken |= mask
    return counts, 0 if overlap is None else int(overlap.sum())
