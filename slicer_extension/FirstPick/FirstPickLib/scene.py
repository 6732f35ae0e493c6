"""What FirstPick puts into the MRML scene: one volume and its segmentation; it touches no other node."""

from __future__ import annotations

import os

import slicer
import vtk

from .layers import countOverlap, countVoxels, drawnBox, layers, merge, valuesIn


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
        order = [label["name"] for label in labels]
        for place, name in enumerate(order):
            segmentId = inner.GetSegmentIdBySegmentName(name)
            if segmentId:
                inner.SetSegmentIndex(segmentId, place)
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


def problems(segmentation, volume, labels: list) -> list:
    """Say what to look at before submitting: nothing drawn, overlaps, segments that the server has no value for."""
    inner = segmentation.GetSegmentation()
    found = layers(segmentation, volume)
    drawn, known = {name for name, n in countVoxels(found).items() if n}, set(_values(segmentation, labels))
    said = []
    if not drawn & known:
        said.append("Nothing is drawn.")
    overlap = countOverlap(found, known)
    if overlap:
        said.append(f"Segments overlap in {overlap} voxels; a label file holds only one of them there.")
    strangers = sorted(inner.GetSegment(segmentId).GetName() for segmentId in drawn - known)
    if strangers:
        said.append(f"The server has no label {', '.join(strangers)}: it will not be sent.")
    return said


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
            msg = f"Slicer could not write {path}. Is the disk full?"
            raise OSError(msg)
        os.replace(partial, path)
    finally:
        removeNodes([labelmap])


def _values(segmentation, labels: list) -> dict:
    """The server's value for each segment that it knows, by the segment's id, in the order of the labels."""
    inner = segmentation.GetSegmentation()
    ids = [inner.GetNthSegmentID(number) for number in range(inner.GetNumberOfSegments())]
    names = {segmentId: inner.GetSegment(segmentId).GetName() for segmentId in ids}
    return {segmentId: label["value"] for label in labels for segmentId in ids if names[segmentId] == label["name"]}


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
