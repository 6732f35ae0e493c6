"""What FirstPick puts into the MRML scene: one volume and its segmentation; it touches no other node."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

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
            inner.AddEmptySegment(label["name"], label["name"], color(label))


def orderSegments(segmentation, labels: list) -> None:
    """Put the server's labels first, in the server's order."""
    inner = segmentation.GetSegmentation()
    for place, label in enumerate(labels):
        segmentId = inner.GetSegmentIdBySegmentName(label["name"])
        if segmentId:
            inner.SetSegmentIndex(segmentId, place)


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
        orderSegments(segmentation, labels)
    finally:
        removeNodes([labelmap, table])


def exportLabel(segmentation, volume, labels: list, path: str) -> None:
    """Write the segmentation on the volume's grid; each voxel has the value that the server gave the segment's name.

    Where segments overlap, the later label is on top.
    """
    inner = segmentation.GetSegmentation()
    ids = [inner.GetNthSegmentID(number) for number in range(inner.GetNumberOfSegments())]
    segmentIds = vtk.vtkStringArray()
    for label in labels:
        for segmentId in ids:
            if inner.GetSegment(segmentId).GetName() == label["name"] and not isEmpty(segmentation, segmentId):
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
            msg = f"Slicer could not write {path}. Is the disk full?"
            raise OSError(msg)
    finally:
        tables = slicer.util.getNodesByClass("vtkMRMLColorTableNode")  # Slicer's export adds one of its own
        removeNodes([labelmap, *(node for node in tables if node not in tablesBefore)])


def isEmpty(segmentation, segmentId: str) -> bool:
    """Tell whether nothing is drawn on a segment."""
    kind = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    segment = segmentation.GetSegmentation().GetSegment(segmentId)
    image = segment.GetRepresentation(kind)
    if image is None or image.IsEmpty() or image.GetPointData().GetScalars() is None:
        return True
    return not (vtk_to_numpy(image.GetPointData().GetScalars()) == segment.GetLabelValue()).any()


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


def readView(volume) -> dict:
    """Window, level and layout as the reader left them; window and level only if they were changed by hand."""
    view = {"layout": _layout()}
    display = volume.GetScalarVolumeDisplayNode() if volume.IsA("vtkMRMLScalarVolumeNode") else None
    if display is not None and not display.GetAutoWindowLevel():
        view["window"], view["level"] = display.GetWindow(), display.GetLevel()
    return view


def restoreView(volume, view: dict) -> None:
    """Show a volume as the last one of its modality was shown."""
    display = volume.GetScalarVolumeDisplayNode()
    if display is not None and "window" in view:
        display.AutoWindowLevelOff()
        display.SetWindowLevel(view["window"], view["level"])
    manager = slicer.app.layoutManager()
    if manager is not None and view.get("layout") is not None and manager.layout != view["layout"]:
        manager.setLayout(view["layout"])


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
    for _ in range(3):
        body, axis = np.unravel_index(steps.argmax(), steps.shape)
        axes[body] = int(axis)
        steps[body, :] = steps[:, axis] = -1
    return axes


def _layout():
    manager = slicer.app.layoutManager()
    return None if manager is None else manager.layout


def _isShown(node) -> bool:
    return node.IsA("vtkMRMLDisplayableNode")


def color(label: dict) -> list:
    """Red, green and blue of one of the server's labels, from 0 to 1."""
    return [int(label["color"][i : i + 2], 16) / 255 for i in (1, 3, 5)]


def _colorTable(labels: list):
    """A colour table that gives each name its value."""
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", "FirstPick labels")
    table.SetTypeToUser()
    table.SetHideFromEditors(True)
    table.SetNumberOfColors(max(label["value"] for label in labels) + 1)
    table.SetColor(0, "background", 0, 0, 0, 0)
    for label in labels:
        table.SetColor(label["value"], label["name"], *color(label), 1)
    return table
