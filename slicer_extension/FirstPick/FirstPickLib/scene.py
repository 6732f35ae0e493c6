"""What FirstPick puts into the MRML scene: a study's volumes and its segmentation; it touches no other node."""

from __future__ import annotations

import os

import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from .layers import drawnBox, layers, merge, valuesIn


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
        values = sorted(_cropped(labelmap))
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


def _cropped(labelmap) -> set:
    """Cut a label to where anything is drawn, for Slicer's import goes over all of it; return its values."""
    array = slicer.util.arrayFromVolume(labelmap)
    box = drawnBox(array)
    if box is None:
        return set()
    toWorld = vtk.vtkMatrix4x4()
    labelmap.GetIJKToRASMatrix(toWorld)
    start = toWorld.MultiplyPoint([*(float(part.start) for part in box[::-1]), 1.0])
    part = array[box].copy()
    slicer.util.updateVolumeFromArray(labelmap, part)
    labelmap.SetOrigin(start[:3])
    return valuesIn(part)


def exportLabel(segmentation, volume, labels: list, path: str) -> None:
    """Write the segmentation on the volume's grid; each voxel has the value that the server gave the segment's name.

    Where segments overlap, the later label is on top. The file is there only when it is whole. With ``.gz`` at its end
    it is compressed at once; `tasks.sendLabel` does that to ``.nii`` without a pause.
    """
    shape = slicer.util.arrayFromVolume(volume).shape[:3]
    array = merge(layers(segmentation, volume), _values(segmentation, labels), shape)
    labelmap = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "FirstPick label")
    try:
        slicer.util.updateVolumeFromArray(labelmap, array)
        toWorld = vtk.vtkMatrix4x4()
        volume.GetIJKToRASMatrix(toWorld)
        labelmap.SetIJKToRASMatrix(toWorld)
        folder, name = os.path.split(path)
        partial = os.path.join(folder, f"partial-{name}")  # Slicer goes by the ending
        if not slicer.util.saveNode(labelmap, partial, {"useCompression": int(path.endswith(".gz"))}):
            raise OSError(_("Slicer could not write {path}. Is the disk full?").format(path=path))
        os.replace(partial, path)
    finally:
        removeNodes([labelmap])


def _values(segmentation, labels: list) -> dict:
    """The server's value for each segment that it knows, by the segment's id, in the order of the labels."""
    inner = segmentation.GetSegmentation()
    ids = [inner.GetNthSegmentID(number) for number in range(inner.GetNumberOfSegments())]
    names = {segmentId: inner.GetSegment(segmentId).GetName() for segmentId in ids}
    return {segmentId: label["value"] for label in labels for segmentId in ids if names[segmentId] == label["name"]}


def isEmpty(segmentation, segmentId: str) -> bool:
    """Tell whether nothing is drawn on a segment."""
    kind = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    segment = segmentation.GetSegmentation().GetSegment(segmentId)
    image = segment.GetRepresentation(kind)
    if image is None or image.IsEmpty() or image.GetPointData().GetScalars() is None:
        return True
    return not (vtk_to_numpy(image.GetPointData().GetScalars()) == segment.GetLabelValue()).any()


def makeFolder(name: str) -> int:
    """Make a folder in the list of all that is in the scene, and return its number."""
    hierarchy = _hierarchy()
    return hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), name)


def putInto(folder: int, node) -> None:
    """Put a node into such a folder."""
    hierarchy = _hierarchy()
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.SetItemParent(item, folder)
    else:
        hierarchy.CreateItem(folder, node)


def removeFolder(folder: int) -> None:
    """Remove a folder, unless somebody put something of theirs into it; 0 is none."""
    if not folder:
        return
    hierarchy, items = _hierarchy(), vtk.vtkIdList()
    hierarchy.GetItemChildren(folder, items, True)
    if not any(hierarchy.GetItemDataNode(items.GetId(number)) for number in range(items.GetNumberOfIds())):
        hierarchy.RemoveItem(folder)


def _hierarchy():
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)


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
