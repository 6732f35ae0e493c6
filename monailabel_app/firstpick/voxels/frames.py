"""Frames of one DICOM file: where each lies, how its values are rescaled, and whether they follow in time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.tag import Tag

from firstpick.voxels.dicom import number, numbers, read_header, text
from firstpick.voxels.stacks import MARKS, Place

_TAGS = [
    "SOPClassUID",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "FrameIncrementPointer",
    "FrameTime",
    "FrameTimeVector",
    "CineRate",
    "RescaleSlope",
    "RescaleIntercept",
]
#: Where the functional groups of a frame say what `MARKS` say of a slice.
_FRAME_MARKS = {
    "StackID": ("FrameContentSequence", "StackID"),
    "AcquisitionNumber": ("FrameContentSequence", "FrameAcquisitionNumber"),
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "InversionTime": ("MRModifierSequence", "InversionTimes"),
    "TemporalPositionIdentifier": ("FrameContentSequence", "TemporalPositionIndex"),
    "TriggerTime": ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    "DiffusionBValue": ("MRDiffusionSequence", "DiffusionBValue"),
}
_FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")
#: SOP classes of which GDCM looks for a rescale in the functional groups; of others at the top alone.
_GROUPED = {
    f"1.2.840.10008.5.1.4.1.1.{end}"
    for end in ("2.1", "2.2", "4.1", "4.4", "128.1", "130", "13.1.1", "13.1.2", "13.1.3")
}
_TIME_TAGS = {Tag("FrameTime"), Tag("FrameTimeVector")}


@dataclass(frozen=True)
class Frames:
    """What a file says of its frames.

    Attributes
    ----------
    places : tuple of Place
        One for each frame, in order; empty if the file does not say.
    spacing : tuple of 2 floats, or ()
        Distance of neighbours along x, then y, in mm.
    thickness : float
        Distance of slices in mm; 0 if not stated.
    scaling : tuple of (slope, intercept)
        Of each frame, as `places`.
    common : tuple of (slope, intercept)
        The one that GDCM applies to all frames.
    is_cine : bool
        Whether they follow in time.
    """

    places: tuple[Place, ...]
    spacing: tuple[float, ...]
    thickness: float
    scaling: tuple[tuple[float, float], ...]
    common: tuple[float, float]
    is_cine: bool


def read_frames(path: Path) -> Frames:
    """Read what a file of several frames says of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = read_header(path, _TAGS)
        shared = [*(header.get("SharedFunctionalGroupsSequence") or [])][:1]
        frames = [*(header.get("PerFrameFunctionalGroupsSequence") or [])]
        own = [[frame, *shared] for frame in frames]
        spacing = _of(own[0] if own else shared, "PixelMeasuresSequence", "PixelSpacing", 2)[::-1]
        measures = own[0] if own else shared
        thickness = [
            *_of(measures, "PixelMeasuresSequence", "SpacingBetweenSlices", 1),
            *_of(measures, "PixelMeasuresSequence", "SliceThickness", 1),
        ]
        plain = (number(header, "RescaleSlope") or 1.0, number(header, "RescaleIntercept"))
        return Frames(
            places=tuple(_place(index, groups) for index, groups in enumerate(own)),
            spacing=spacing if min(spacing, default=0) > 0 else (),
            thickness=next((abs(mm) for mm in thickness if mm), 0.0),
            scaling=tuple(_scaling(groups) or plain for groups in own),
            common=(text(header, "SOPClassUID") in _GROUPED and (_scaling(shared) or _scaling(frames[:1]))) or plain,
            is_cine=_is_cine(header),
        )


def _place(index: int, groups: Sequence[pydicom.Dataset]) -> Place:
    marks = [_text_of(groups, *_FRAME_MARKS[keyword]) if keyword in _FRAME_MARKS else "" for keyword in MARKS]
    types = (_text_of(groups, sequence, "FrameType") for sequence in _FRAME_TYPES)
    marks[[*MARKS].index("ImageType")] = next(filter(None, types), "")
    return Place(
        index,
        _of(groups, "PlanePositionSequence", "ImagePositionPatient", 3),
        _of(groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6),
        tuple(marks),
    )


def _scaling(groups: Sequence[pydicom.Dataset]) -> tuple[float, float] | None:
    slope = _of(groups, "PixelValueTransformationSequence", "RescaleSlope", 1)
    intercept = _of(groups, "PixelValueTransformationSequence", "RescaleIntercept", 1)
    return (slope[0], intercept[0] if intercept else 0.0) if slope and slope[0] else None


def _is_cine(header: pydicom.Dataset) -> bool:
    pointer: Any = header.get("FrameIncrementPointer")
    if pointer is not None:
        return any(Tag(tag) in _TIME_TAGS for tag in (pointer if isinstance(pointer, list) else [pointer]))
    return any(header.get(keyword) for keyword in ("FrameTime", "FrameTimeVector", "CineRate"))


def _of(groups: Sequence[pydicom.Dataset], sequence: str, keyword: str, n: int) -> tuple[float, ...]:
    """Read numbers of the first group that has a sequence."""
    return next((numbers(items[0], keyword, n) for group in groups if (items := group.get(sequence))), ())


def _text_of(groups: Sequence[pydicom.Dataset], sequence: str, keyword: str) -> str:
    return next((text(items[0], keyword) for group in groups if (items := group.get(sequence))), "")
