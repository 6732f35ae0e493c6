"""How a study is shown, kept from one study to the next of its kind."""

from __future__ import annotations

from dataclasses import dataclass

import slicer

ALIKE = 0.5  # of the intensities of both


@dataclass(frozen=True)
class Kind:
    """What kind of picture a volume is.

    Attributes
    ----------
    modality : str
        DICOM's, or empty where the file does not say: then the intensities tell CT from MR.
    form : str
        ``color``, ``2-D`` or ``3-D``.
    series : str
        Which one of the study's series it is; empty in a study of one.
    low, high : float
        The intensities, where there is no modality.
    """

    modality: str
    form: str
    series: str = ""
    low: float = 0.0
    high: float = 0.0

    def isLike(self, other: Kind) -> bool:
        """Whether what suits the one suits the other."""
        if (self.modality, self.form, self.series) != (other.modality, other.form, other.series):
            return False
        if self.modality:
            return True
        common = min(self.high, other.high) - max(self.low, other.low)
        return common >= ALIKE * (max(self.high, other.high) - min(self.low, other.low))


def kindOf(volume, modality: str, series: str = "") -> Kind:
    """Tell what kind of picture a volume is."""
    image = volume.GetImageData()
    form = "color" if image.GetNumberOfScalarComponents() > 1 else "2-D" if 1 in image.GetDimensions() else "3-D"
    return Kind(modality, form, series) if modality else Kind(modality, form, series, *image.GetScalarRange())


class Views:
    """What the reader set last for each kind of picture."""

    def __init__(self) -> None:
        self._known = []

    def remember(self, reading) -> None:
        """Keep how a study is shown, unless somebody took apart what shows it."""
        if reading.volume.GetImageData() is None or reading.segmentation.GetDisplayNode() is None:
            return
        manager = slicer.app.layoutManager()
        view = {"layout": None if manager is None else manager.layout, "segments": _readSegments(reading.segmentation)}
        sequences = reading.sequences
        self._keep(kindOf(reading.volume, reading.modality, sequences.primary.name), reading.volume, view)
        for one in sequences.others:
            self._keep(kindOf(one.volume, one.modality, one.name), one.volume, {})

    def _keep(self, kind, volume, view) -> None:
        self._known = [(other, before) for other, before in self._known if not other.isLike(kind)]
        self._known.append((kind, {**_readWindow(volume), **view}))

    def restore(self, reading) -> None:
        """Show a study as the last one of its kind was shown."""
        view = self.restoreVolume(reading.volume, reading.modality, reading.sequences.primary.name)
        if "segments" in view:
            _restoreLayout(view["layout"])
            _restoreSegments(reading.segmentation, view["segments"])

    def restoreVolume(self, volume, modality: str, series: str) -> dict:
        """Give one volume its window and level, and return all that is known of how its kind is shown."""
        kind = kindOf(volume, modality, series)
        view = next((view for other, view in reversed(self._known) if other.isLike(kind)), {})
        _restoreWindow(volume, view)
        return view


def _readWindow(volume) -> dict:
    """Window and level, if they were changed by hand."""
    view = {}
    display = volume.GetScalarVolumeDisplayNode()
    if display is not None and not display.GetAutoWindowLevel():
        view["window"], view["level"] = display.GetWindow(), display.GetLevel()
    return view


def _restoreWindow(volume, view: dict) -> None:
    display = volume.GetScalarVolumeDisplayNode()
    if display is not None and "window" in view:
        display.AutoWindowLevelOff()
        display.SetWindowLevel(view["window"], view["level"])


def _restoreLayout(layout) -> None:
    manager = slicer.app.layoutManager()
    if manager is not None and layout is not None and manager.layout != layout:
        manager.setLayout(layout)


def _readSegments(segmentation) -> dict:
    """Visibility and opacities of the whole, under an empty name, and of each segment by name."""
    display = segmentation.GetDisplayNode()
    whole = display.GetVisibility(), display.GetOpacity2DFill(), display.GetOpacity2DOutline(), display.GetOpacity3D()
    read = {"": whole}
    for segmentId, name in _segments(segmentation):
        read[name] = (
            display.GetSegmentVisibility(segmentId),
            display.GetSegmentOpacity2DFill(segmentId),
            display.GetSegmentOpacity2DOutline(segmentId),
            display.GetSegmentOpacity3D(segmentId),
        )
    return read


def _restoreSegments(segmentation, view: dict) -> None:
    display = segmentation.GetDisplayNode()
    isVisible, fill, outline, solid = view[""]
    display.SetVisibility(isVisible)
    display.SetOpacity2DFill(fill)
    display.SetOpacity2DOutline(outline)
    display.SetOpacity3D(solid)
    for segmentId, name in _segments(segmentation):
        if name in view:
            isVisible, fill, outline, solid = view[name]
            display.SetSegmentVisibility(segmentId, isVisible)
            display.SetSegmentOpacity2DFill(segmentId, fill)
            display.SetSegmentOpacity2DOutline(segmentId, outline)
            display.SetSegmentOpacity3D(segmentId, solid)


def _segments(segmentation) -> list:
    inner = segmentation.GetSegmentation()
    ids = [inner.GetNthSegmentID(number) for number in range(inner.GetNumberOfSegments())]
    return [(segmentId, inner.GetSegment(segmentId).GetName()) for segmentId in ids]
