"""A label of a DICOM series as DICOM SEG: each of its slices belongs to one file of the series."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from firstpick.voxels.grids import Grid, find_fit, placed
from firstpick.voxels.label_formats import LabelError, read_label
from firstpick.voxels.labels import Value, values_of
from firstpick.voxels.series import slices_in_order
from firstpick.voxels.stored import LPS_TO_RAS, N_AXES

DESCRIPTION = "FirstPick final label"
"""By which a search knows our own series."""
_SERIES_NUMBER = 9101
_MOST_FRAMES = 2048  # with those that hold nothing
_EMPTY_WHERE_MISSING = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
_NO_NAME = re.compile(r"[\\^=\x00-\x1f]+")  # parts of a name, and what no value may hold


@dataclass(frozen=True)
class SegNames:
    """What a SEG is called.

    Attributes
    ----------
    series_uid, instance_uid : str
    number : int
        The how-manieth label of its series it is: the highest is the one that holds.
    creator : str
        Who drew it.
    software : str
    """

    series_uid: str
    instance_uid: str
    number: int
    creator: str
    software: str


def make_seg(folder: Path, files: Sequence[str], label: Path, classes: Mapping[int, str], names: SegNames) -> Any:
    """Make a DICOM SEG of a label.

    Parameters
    ----------
    folder : Path
    files : sequence of str
        Of the series, as paths below it.
    label : Path
        On the grid of its study; it may hold layers.
    classes : mapping of int to str
        Names of the values.
    names : SegNames

    Returns
    -------
    pydicom.Dataset
        A frame for each class and each slice of the series that was read, also where it holds nothing; but only those
        that hold something, if the others would make more than 2048. A label without a voxel has every class.

    Raises
    ------
    LabelError
        If the label does not lie on the slices.
    VolumeError
        If the series cannot be read.
    """
    import highdicom  # noqa: PLC0415 - a second, which only this needs

    paths, affine = slices_in_order(folder, files)
    sources = [_header(path, np.linalg.norm(affine[:N_AXES, :N_AXES], axis=0)) for path in paths]
    size = (int(sources[0].Columns), int(sources[0].Rows), len(paths))
    grid = Grid(size, LPS_TO_RAS @ affine)
    sent = read_label(label, int(np.prod(size)))
    fit = next((fit for own in sent.affines if (fit := find_fit(sent.array.shape[:3], own, grid, is_crop=True))), None)
    if fit is None:
        msg = "it does not lie on the slices of its series."
        raise LabelError(msg)
    found = values_of(sent) or tuple(Value(value, 0, name) for value, name in sorted(classes.items()))
    seg = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=_pixels(placed(sent.array, fit, grid), found),
        segmentation_type="BINARY",
        segment_descriptions=[_segment(number, value, classes) for number, value in enumerate(found, start=1)],
        series_instance_uid=names.series_uid,
        series_number=_SERIES_NUMBER,
        sop_instance_uid=names.instance_uid,
        instance_number=names.number,
        manufacturer="FirstPick",
        manufacturer_model_name="FirstPick",
        software_versions=names.software,
        device_serial_number="0",
        content_label="FINAL",
        content_description=f"Final label {names.number}",
        content_creator_name=f"{_NO_NAME.sub(' ', names.creator)[:63]}^" if names.creator else None,
        omit_empty_frames=len(found) * len(paths) > _MOST_FRAMES,
    )
    seg.SeriesDescription = DESCRIPTION
    return seg


def _header(path: Path, spacing: NDArray[np.float64]) -> Any:
    """Read a header, with what a SEG takes over even where the file leaves it out."""
    header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    for keyword in _EMPTY_WHERE_MISSING:
        if keyword not in header:
            setattr(header, keyword, "")
    x, y, z = (f"{mm:.10g}" for mm in spacing)
    header.PixelSpacing = header.get("PixelSpacing") or [y, x]
    header.SliceThickness = header.get("SliceThickness") or z
    if not header.get("FrameOfReferenceUID"):
        header.FrameOfReferenceUID = header.SeriesInstanceUID  # none is stated: the series is a frame of its own
    return header


def _pixels(array: NDArray[Any], found: Sequence[Value]) -> NDArray[Any]:
    """Make frames of rows of columns: numbers of segments, or a layer for each segment where they may overlap."""
    frames = array.transpose(2, 1, 0, 3)
    if frames.shape[-1] > 1:
        masks = [frames[..., value.layer] == value.value for value in found]
        return np.stack(masks, axis=-1, dtype=np.uint8, casting="unsafe")
    numbers = np.zeros(frames.shape[:3], np.uint16 if len(found) > np.iinfo(np.uint8).max else np.uint8)
    for number, value in enumerate(found, start=1):
        numbers[frames[..., 0] == value.value] = number
    return numbers


def _segment(number: int, value: Value, classes: Mapping[int, str]) -> Any:
    import highdicom  # noqa: PLC0415

    tissue = highdicom.sr.CodedConcept("85756007", "SCT", "Tissue")
    name = value.name or classes.get(value.value) or f"value {value.value}"
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=tissue,
        segmented_property_type=tissue,
        algorithm_type="MANUAL",
    )
