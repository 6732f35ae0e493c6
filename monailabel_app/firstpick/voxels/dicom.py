"""DICOM headers: which file is DICOM, what an instance says of itself, and how slices stack up to a volume.

Pixels are not read here. Of the patient only PatientID is, and kept as a hash alone.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

DICOM_ENDINGS = (".dcm", ".ima")
#: A file with one of these endings is never opened to see whether it is DICOM.
OTHER_ENDINGS = frozenset({
    ".7z", ".avi", ".bak", ".bat", ".bval", ".bvec", ".bz2", ".cfg", ".csv", ".db", ".doc", ".docx", ".exe", ".gif",
    ".gz", ".h5", ".hdr", ".htm", ".html", ".img", ".ini", ".ipynb", ".json", ".lock", ".log", ".mat", ".md", ".mp4",
    ".npy", ".npz", ".obj", ".onnx", ".part", ".pdf", ".pkl", ".ply", ".ppt", ".pptx", ".pt", ".pth", ".py", ".raw",
    ".sh", ".sqlite", ".stl", ".svg", ".tar", ".tmp", ".toml", ".tsv", ".txt", ".vtk", ".webp", ".xls", ".xlsx",
    ".xml", ".xz", ".yaml", ".yml", ".zip", ".zraw", ".zst",
})  # fmt: skip
#: What tools write into PatientID where they take the patient out; compared without case, blanks and punctuation.
#: Nor do any number of zeros, or of x, name anyone.
NO_PATIENT = frozenset({
    "", "anon", "anonanon", "anonymised", "anonymized", "anonymous", "anonymousanonymous", "anonymouspatient",
    "default", "deid", "deidentified", "dummy", "empty", "id", "na", "nan", "nil", "noid", "noname", "none",
    "nopatient", "nopatientid", "notapplicable", "notavailable", "null", "patient", "patientid", "pseudonymized",
    "redacted", "removed", "subject", "test", "testpatient", "undefined", "unidentified", "unknown", "unknownpatient",
    "unnamed", "unspecified",
})  # fmt: skip
N_AXES = 3  # of space
_SAME_POSITION_MM = 0.01
_SAME_ORIENTATION = 0.01  # of a unit vector: about half a degree
_UNEVEN = 0.1  # of the median gap
_MAGIC_OFFSET = 128
_TAGS = [
    "SpecificCharacterSet",
    "ImageType",
    "SOPClassUID",
    "Modality",
    "ConversionType",
    "SeriesDescription",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "PatientID",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceThickness",
    "SpacingBetweenSlices",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "PixelSpacing",
]
_FRAME_TAGS = ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"]


@dataclass(frozen=True)
class Place:
    """Where a slice lies: what sorts the slices of a series, or the frames of a file.

    Attributes
    ----------
    number : float
        ``InstanceNumber``, or the frame's number in its file.
    position : tuple of 3 floats, or ()
        Centre of the first voxel in mm, LPS+; empty when not stated.
    orientation : tuple of 6 floats, or ()
        Direction along a row, then down a column, LPS+; empty when not stated.
    """

    number: float
    position: tuple[float, ...] = ()
    orientation: tuple[float, ...] = ()


@dataclass(frozen=True)
class Instance:
    """What one DICOM file says of itself; empty or 0 where it says nothing.

    Attributes
    ----------
    name : str
        File name, without its folder.
    series_uid, study_uid, sop_class, modality, description, conversion : str
        ``SeriesInstanceUID``, ``StudyInstanceUID``, ``SOPClassUID``, ``Modality``, ``SeriesDescription``,
        ``ConversionType``.
    patient : str
        Hash of ``PatientID``: the same for all studies of a patient.
    names_patient : bool
        Whether ``PatientID`` names someone: it is neither empty nor one of `NO_PATIENT`.
    image_type : tuple of str
        ``ImageType``, upper case.
    n_columns, n_rows, n_frames : int
        Size of the pixel matrix; 0 columns means that the object is no image.
    spacing : tuple of 2 floats, or ()
        Distance of neighbours along x (columns), then y (rows), in mm.
    thickness : float
        ``SpacingBetweenSlices``, or else ``SliceThickness``, in mm.
    place : Place
        Position, orientation and number of the slice.
    """

    name: str
    series_uid: str
    study_uid: str
    sop_class: str
    modality: str
    description: str
    conversion: str
    patient: str
    names_patient: bool
    image_type: tuple[str, ...]
    n_columns: int
    n_rows: int
    n_frames: int
    spacing: tuple[float, ...]
    thickness: float
    place: Place

    @property
    def is_localizer(self) -> bool:
        """Whether ``ImageType`` calls it a localizer."""
        return "LOCALIZER" in self.image_type


@dataclass(frozen=True)
class Stack:
    """How slices stack up to a volume.

    Attributes
    ----------
    order : ndarray of shape (n_slices,), intp, unique
        Which of the slices to take, from the first to the last.
    orientation : ndarray of shape (2, 3), float64, unit rows
        Direction along a row, then down a column; LPS+.
    step : ndarray of shape (3,), float64
        From one slice to the next in mm, LPS+.
    notes : tuple of str
        What was unusual.
    """

    order: NDArray[np.intp]
    orientation: NDArray[np.float64]
    step: NDArray[np.float64]
    notes: tuple[str, ...] = ()


def may_be_dicom(path: str | os.PathLike[str]) -> bool:
    """Tell from its ending, or else from its first bytes, whether a file is DICOM; False if it cannot be opened."""
    ending = Path(path).suffix.lower()
    if ending in DICOM_ENDINGS:
        return True
    if ending in OTHER_ENDINGS or Path(path).name.upper() == "DICOMDIR":
        return False
    try:
        with Path(path).open("rb") as file:
            file.seek(_MAGIC_OFFSET)
            return file.read(4) == b"DICM"
    except OSError:
        return False


def read_instances(paths: Iterable[str | os.PathLike[str]]) -> list[Instance | None]:
    """Read the headers of DICOM files.

    Parameters
    ----------
    paths : iterable of path
        Files for which `may_be_dicom` is true.

    Returns
    -------
    list of Instance or None
        One for each path, in order; None where the header cannot be read.
    """
    with warnings.catch_warnings():
        # pydicom warns of each value that breaks the standard, and quotes it.
        warnings.simplefilter("ignore")
        return [_read_instance(Path(path)) for path in paths]


def read_frames(path: str | os.PathLike[str]) -> tuple[list[Place], tuple[float, ...]]:
    """Read where the frames of an enhanced multi-frame file lie.

    Parameters
    ----------
    path : path
        DICOM file.

    Returns
    -------
    places : list of Place
        One for each frame, in order; empty if the file does not say.
    spacing : tuple of 2 floats, or ()
        Distance of neighbours along x, then y, in mm.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=_FRAME_TAGS)
        shared = list(header.get("SharedFunctionalGroupsSequence") or [])[:1]
        frames = list(header.get("PerFrameFunctionalGroupsSequence") or [])
        places = [
            Place(
                number,
                _frame_numbers([frame, *shared], "PlanePositionSequence", "ImagePositionPatient", 3),
                _frame_numbers([frame, *shared], "PlaneOrientationSequence", "ImageOrientationPatient", 6),
            )
            for number, frame in enumerate(frames)
        ]
        return places, _frame_numbers([*shared, *frames[:1]], "PixelMeasuresSequence", "PixelSpacing", 2)[::-1]


def stack(places: Sequence[Place], *, thickness: float = 0.0) -> Stack:
    """Sort slices along their normal, and take the first of those that share a position.

    Parameters
    ----------
    places : sequence of Place
        At least one. If one lacks its position or orientation, all are sorted by their number alone.
    thickness : float
        Distance in mm to assume where positions do not tell; 0 if not known.

    Returns
    -------
    Stack
        Slices that lie at one position (several phases or echoes) are thinned to the one with the
        lowest number. The step is the median one, so that a missing slice does not stretch the volume.

    Raises
    ------
    ValueError
        If the slices have different orientations.
    """
    thickness = thickness if thickness > 0 else 1.0
    numbers = np.array([place.number for place in places])
    if any(len(place.position) != N_AXES or not _spans_a_plane(place.orientation) for place in places):
        notes = _note(len(places) > 1, "slices state no position: sorted by their number")
        return Stack(np.argsort(numbers, kind="stable"), np.eye(N_AXES)[:2], np.array([0, 0, thickness]), notes)
    orientations = np.array([place.orientation for place in places])
    if np.abs(orientations - orientations[0]).max() > _SAME_ORIENTATION:
        msg = "its slices have different orientations"
        raise ValueError(msg)
    directions = orientations[0].reshape(2, N_AXES)
    normal = np.cross(*directions)
    positions = np.array([place.position for place in places])
    depths = positions @ normal
    # Rounded, so that the number decides between slices that share a position.
    order = np.lexsort((numbers, np.round(depths / _SAME_POSITION_MM)))
    kept = order[np.diff(depths[order], prepend=-np.inf) > _SAME_POSITION_MM]
    notes = _note(len(kept) < len(places), f"{len(places)} slices share {len(kept)} positions: first of each taken")
    if len(kept) == 1:
        return Stack(kept, directions, normal * thickness, notes)
    gaps = np.diff(depths[kept])
    median = float(np.median(gaps))
    uneven = f"slices are {gaps.min():.4g} to {gaps.max():.4g} mm apart: some may be missing"
    notes += _note(float(np.ptp(gaps)) > _UNEVEN * median, uneven)
    # Along the positions, not the normal: a tilted gantry shears the stack.
    step = (positions[kept[-1]] - positions[kept[0]]) * median / gaps.sum()
    return Stack(kept, directions, step, notes)


def _spans_a_plane(orientation: tuple[float, ...]) -> bool:
    return len(orientation) == 2 * N_AXES and bool(np.any(np.cross(orientation[:3], orientation[3:])))


def _note(condition: bool, text: str) -> tuple[str, ...]:  # noqa: FBT001
    return (text,) if condition else ()


def _read_instance(path: Path) -> Instance | None:
    try:
        # A .dcm without preamble is read too; other files have been seen to have one.
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=_TAGS)
        if not any(tag in header for tag in ("SOPClassUID", "Modality", "Rows")):
            return None
        return Instance(
            name=path.name,
            series_uid=_text(header, "SeriesInstanceUID"),
            study_uid=_text(header, "StudyInstanceUID"),
            sop_class=_text(header, "SOPClassUID"),
            modality=_text(header, "Modality").upper(),
            description=_text(header, "SeriesDescription"),
            conversion=_text(header, "ConversionType"),
            patient=_hashed(_text(header, "PatientID")),
            names_patient=_names_someone(_text(header, "PatientID")),
            image_type=tuple(_text(header, "ImageType").upper().split("\\")),
            n_columns=int(_number(header, "Columns")),
            n_rows=int(_number(header, "Rows")),
            n_frames=int(_number(header, "NumberOfFrames")) or 1,
            spacing=_numbers(header, "PixelSpacing", 2)[::-1],
            thickness=abs(_number(header, "SpacingBetweenSlices")) or abs(_number(header, "SliceThickness")),
            place=Place(
                _number(header, "InstanceNumber"),
                _numbers(header, "ImagePositionPatient", 3),
                _numbers(header, "ImageOrientationPatient", 6),
            ),
        )
    except Exception:  # noqa: BLE001  pydicom raises whatever a damaged file makes it stumble over
        logger.debug("The DICOM header of %s cannot be read.", path.name)
        return None


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""


def _names_someone(patient_id: str) -> bool:
    plain = re.sub(r"[\W_]+", "", patient_id.casefold())
    return plain not in NO_PATIENT and len({*plain} - {"0", "x"}) > 0


def _frame_numbers(groups: Sequence[pydicom.Dataset], sequence: str, keyword: str, n: int) -> tuple[float, ...]:
    for group in groups:
        items = group.get(sequence)
        if items:
            return _numbers(items[0], keyword, n)
    return ()


def _text(header: pydicom.Dataset, keyword: str) -> str:
    value = header.get(keyword)
    if value is None:
        return ""
    values: Iterable[Any] = [value] if isinstance(value, str) else value
    return "\\".join(str(part) for part in values).strip(" \0")


def _numbers(header: pydicom.Dataset, keyword: str, n: int) -> tuple[float, ...]:
    """Read exactly `n` finite numbers, or nothing."""
    try:
        value = header.get(keyword)
        numbers = tuple(float(part) for part in ([value] if n == 1 else value))
    except (TypeError, ValueError, OverflowError):  # empty, or not a number
        return ()
    return numbers if len(numbers) == n and bool(np.isfinite(numbers).all()) else ()


def _number(header: pydicom.Dataset, keyword: str) -> float:
    return next(iter(_numbers(header, keyword, 1)), 0.0)
