"""Slicer's Segment Editor inside the module, with an editor node of its own."""

from __future__ import annotations

import slicer

EDITOR_TAG = "FirstPick"


class SegmentEditor:
    """Embeds the editor and lets go of nodes before they are removed."""

    def __init__(self, frame) -> None:
        self._widget = slicer.qMRMLSegmentEditorWidget()
        self._widget.setMaximumNumberOfUndoStates(10)
        self._setEditorNode()
        self._widget.setMRMLScene(slicer.mrmlScene)
        self._widget.setSegmentationNodeSelectorVisible(False)
        self._widget.setSourceVolumeNodeSelectorVisible(False)
        frame.layout().addWidget(self._widget)
        self._shown = self._source = None

    def _setEditorNode(self) -> None:
        node = slicer.mrmlScene.GetSingletonNode(EDITOR_TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)
            node.SetSingletonTag(EDITOR_TAG)
            node = slicer.mrmlScene.AddNode(node)
        self._widget.setMRMLSegmentEditorNode(node)

    def setNodes(self, reading) -> bool:
        """Edit the open study, or nothing; return whether that changed.

        What looks at intensities, such as Threshold, looks at the series in front; the grid is always the primary's.
        """
        source = reading and reading.sequences.frontVolume
        if reading is self._shown:
            if source is not self._source:
                self._widget.setSourceVolumeNode(source)
                self._source = source
            return False
        self._shown, self._source = reading, source
        if reading is None:
            self._widget.setActiveEffect(None)
            self._widget.setSegmentationNode(None)
            self._widget.removeViewObservations()
        else:
            self._setEditorNode()
            self._widget.setSegmentationNode(reading.segmentation)
            self._widget.setSourceVolumeNode(source)
        return True

    def enter(self) -> None:
        """Take the editor's keys."""
        self._widget.installKeyboardShortcuts()
        self._widget.updateWidgetFromMRML()

    def exit(self) -> None:
        """Give the keys back."""
        self._widget.setActiveEffect(None)
        self._widget.uninstallKeyboardShortcuts()
        self._widget.removeViewObservations()

    def cleanup(self) -> None:
        """Let go of all nodes."""
        self.setNodes(None)
        self._widget.setMRMLSegmentEditorNode(None)
