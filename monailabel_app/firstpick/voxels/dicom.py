"""DICOM headers: which file is DICOM, and what an instance says of itself.

Pixels are not read here. Of the patient only PatientID is, and kept as a hash alone.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.multival import MultiValue
from pydicom.valuerep import VR

from firstpick.voxels.stacks import MARKS, Place, Stack, stack

__all__ = [
    "DICOM_ENDINGS", "NO_PATIENT", "Instance", "Place", "Stack", "hashed_patient", "may_be_dicom", "names_someone",
    "number", "numbers", "read_header", "read_instances", "series_key", "stack", "starts_like_dicom", "text",
]  # fmt: skip

logger = logging.getLogger(__name__)

DICOM_ENDINGS = (".dcm", ".ima")
#: What tools write into PatientID where they take the patient out; compared without case, blanks and punctuation.
#: Nor do any number of zeros, or of x, name anyone.
NO_PATIENT = frozenset({
    "", "anon", "anonanon", "anonymised", "anonymized", "anonymous", "anonymousanonymous", "anonymouspatient",
    "default", "deid", "deidentified", "dummy", "empty", "id", "na", "nan", "nil", "noid", "noname", "none",
    "nopatient", "nopatientid", "notapplicable", "notavailable", "null", "patient", "patientid", "pseudonymized",
    "redacted", "removed", "subject", "test", "testpatient", "undefined", "unidentified", "unknown", "unknownpatient",
    "unnamed", "unspecified",
})  # fmt: skip
_START_BYTES = 1024  # of a file that may be DICOM, to be looked at
_MAGIC_OFFSET = 128
_HEADER_BYTES = 2**24  # in which the header of a deflated file must end
_DEFLATED, _EXPLICIT = b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.1"
_FIRST_GROUPS = {0x0002, 0x0008}  # one of them begins a file without preamble
_VRS = {vr.value.encode() for vr in VR if len(vr.value) == 2}  # noqa: PLR2004  not "OB or OW"
_LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_DECIMAL_VRS = {"DS", "IS"}  # numbers written as text
_TAGS = [
    "SpecificCharacterSet",
    "ImageType",
    "SOPClassUID",
    "Modality",
    "ConversionType",
    "SeriesDescription",
    "StudyInstanceUID",
    "SeriesInstanceUID",
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
    "ImagerPixelSpacing",
    *MARKS,
]


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
        Distance of neighbours along x (columns), then y (rows), in mm, from ``PixelSpacing``; positive.
    imager_spacing : bool
        Whether it states ``ImagerPixelSpacing``, at the detector.
    thickness : float
        ``SpacingBetweenSlices``, or else ``SliceThickness``, in mm.
    place : Place
        Position, orientation, number and marks of the slice.
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
    imager_spacing: bool
    thickness: float
    place: Place

    @property
    def is_localizer(self) -> bool:
        """Whether ``ImageType`` calls it a localizer."""
        return "LOCALIZER" in self.image_type

    @property
    def is_mosaic(self) -> bool:
        """Whether its slices lie side by side in one picture, as Siemens does."""
        return "MOSAIC" in self.image_type


def series_key(instance: Instance) -> tuple[str, str, str]:
    """Name the series that an instance belongs to: its UID alone may be shared by several patients or visits."""
    return instance.series_uid, instance.study_uid, instance.patient


def may_be_dicom(path: str | os.PathLike[str]) -> bool:
    """Tell from its ending, or else from its first bytes, whether a file is DICOM; False if it cannot be opened."""
    if Path(path).suffix.lower() in DICOM_ENDINGS:
        return True
    if Path(path).name.upper() == "DICOMDIR":
        return False
    try:
        with Path(path).open("rb", buffering=0) as file:
            return starts_like_dicom(file.read(_START_BYTES))
    except OSError:
        return False


def starts_like_dicom(start: bytes) -> bool:
    """Tell from the first bytes of a file, up to a kB, whether it is DICOM, with or without its preamble."""
    if start[_MAGIC_OFFSET : _MAGIC_OFFSET + 4] == b"DICM":
        return True
    first = _element(start, 0)
    if first is None or first[0] >> 16 not in _FIRST_GROUPS:
        return False
    second = _element(start, first[1])
    return second is not None and second[0] > first[0] and second[0] >> 16 <= 0x0010  # noqa: PLR2004


def _element(data: bytes, offset: int) -> tuple[int, int] | None:
    """Parse a little-endian element, its VR explicit or implied: its tag, and where the next one begins."""
    head = data[offset : offset + 12]
    if len(head) < 12:  # noqa: PLR2004  tag, VR and length
        return None
    group, element = struct.unpack_from("<HH", head)
    vr = head[4:6]
    if vr in _LONG_VRS:
        length, n_head = struct.unpack_from("<I", head, 8)[0], 12
    elif vr in _VRS:
        length, n_head = struct.unpack_from("<H", head, 6)[0], 8
    else:
        length, n_head = struct.unpack_from("<I", head, 4)[0], 8
    return group << 16 | element, offset + n_head + length


def read_header(path: str | os.PathLike[str], tags: list[Any]) -> pydicom.Dataset:
    """Read some elements of a file's header, and its file meta information; raise what pydicom raises.

    Read them inside ``warnings.catch_warnings``: pydicom warns of each value that breaks the standard, and quotes it.
    """
    with Path(path).open("rb") as file:
        is_deflated = _DEFLATED in file.read(_START_BYTES)
        file.seek(0)
        source = BytesIO(_inflated(file)) if is_deflated else file
        return pydicom.dcmread(source, stop_before_pixels=True, force=True, specific_tags=tags)


def _inflated(file: IO[bytes]) -> bytes:
    """Unpack the beginning of a deflated file: pydicom would unpack all of it, and a small one may be a bomb."""
    head = file.read(_MAGIC_OFFSET + 16)
    meta = head + file.read(int.from_bytes(head[-4:], "little") % _HEADER_BYTES)
    unpacked = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(_HEADER_BYTES), _HEADER_BYTES)
    return meta.replace(_DEFLATED, _EXPLICIT.ljust(len(_DEFLATED), b"\0")) + unpacked


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


def _read_instance(path: Path) -> Instance | None:
    try:
        header = read_header(path, _TAGS)
        if not any(tag in header for tag in ("SOPClassUID", "Modality", "Rows")):
            return None
        spacing = numbers(header, "PixelSpacing", 2)
        size = f"{number(header, 'Columns'):.0f} x {number(header, 'Rows'):.0f}"
        marks = (size, *(_mark(header, keyword) for keyword in MARKS if keyword != "Rows"))
        return Instance(
            name=path.name,
            series_uid=text(header, "SeriesInstanceUID"),
            study_uid=text(header, "StudyInstanceUID"),
            sop_class=text(header, "SOPClassUID"),
            modality=text(header, "Modality").upper(),
            description=text(header, "SeriesDescription"),
            conversion=text(header, "ConversionType"),
            patient=hashed_patient(text(header, "PatientID")),
            names_patient=names_someone(text(header, "PatientID")),
            image_type=tuple(text(header, "ImageType").upper().split("\\")),
            n_columns=int(number(header, "Columns")),
            n_rows=int(number(header, "Rows")),
            n_frames=int(number(header, "NumberOfFrames")) or 1,
            spacing=spacing[::-1] if min(spacing, default=0) > 0 else (),
            imager_spacing=bool(numbers(header, "ImagerPixelSpacing", 2)),
            thickness=abs(number(header, "SpacingBetweenSlices")) or abs(number(header, "SliceThickness")),
            place=Place(
                number(header, "InstanceNumber"),
                numbers(header, "ImagePositionPatient", 3),
                numbers(header, "ImageOrientationPatient", 6),
                marks,
            ),
        )
    except Exception:  # noqa: BLE001  pydicom raises whatever a damaged file makes it stumble over
        logger.debug("The DICOM header of %s cannot be read.", path.name)
        return None


def hashed_patient(patient: str) -> str:
    """Make of a PatientID what stands for it; empty if there is none."""
    return hashlib.sha256(patient.encode(errors="replace")).hexdigest()[:12] if patient else ""


def names_someone(patient_id: str) -> bool:
    """Tell whether a PatientID is neither empty nor one of `NO_PATIENT`."""
    plain = re.sub(r"[\W_]+", "", patient_id.casefold())
    return plain not in NO_PATIENT and len({*plain} - {"0", "x"}) > 0


def _mark(header: pydicom.Dataset, keyword: str) -> str:
    value = numbers(header, keyword, 1)
    return f"{value[0]:g}" if value else text(header, keyword)


def text(header: pydicom.Dataset, keyword: str) -> str:
    """Read a value as text, several of them with a backslash between; empty if there is none."""
    try:
        value = header.get(keyword)
    except ValueError:  # no number where one must be
        value = header.get_item(keyword).value.decode(errors="replace")
    if value is None:
        return ""
    values: Iterable[Any] = value if isinstance(value, MultiValue) else [value]
    return "\\".join(str(part) for part in values).strip(" \0")


def numbers(header: pydicom.Dataset, keyword: str, n: int) -> tuple[float, ...]:
    """Read exactly `n` finite numbers, or nothing; of texts a comma is taken as the decimal point."""
    element = header.get_item(keyword)
    if element is None:
        return ()
    try:
        if isinstance(element.value, bytes) and (element.VR or dictionary_VR(keyword)) in _DECIMAL_VRS:
            parts: Any = element.value.decode("ascii").strip(" \0").replace(",", ".").split("\\")
        else:
            value = header.get(keyword)
            parts = [value] if n == 1 else value
        found = tuple(float(part) for part in parts)
    except (TypeError, ValueError, OverflowError):  # empty, or not a number
        return ()
    return found if len(found) == n and bool(np.isfinite(found).all()) else ()


def number(header: pydicom.Dataset, keyword: str) -> float:
    """Read a number; 0 if there is none."""
    return next(iter(numbers(header, keyword, 1)), 0.0)
