"""Studies in a PACS: its series by QIDO, their files by WADO; a folder's series and a PACS's are the same study."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from firstpick.sources import notes
from firstpick.sources.connection import DicomWeb, SourceError, checked_address
from firstpick.sources.eligibility import (
    FLAT_MODALITIES,
    Eligibility,
    Facts,
    facts_of_instances,
    is_slice,
    why_left_out,
)
from firstpick.sources.group import series_id
from firstpick.sources.names import printable
from firstpick.studies import LeftOut, Study
from firstpick.voxels import dicom
from firstpick.voxels.bounds import limit_bytes
from firstpick.voxels.dicom import Instance, Place
from firstpick.voxels.dicom_seg import DESCRIPTION
from firstpick.voxels.stored import VolumeError

logger = logging.getLogger(__name__)

_FIELDS = (
    "Modality",
    "SeriesDescription",
    "StudyDescription",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "NumberOfSeriesRelatedInstances",
    "SeriesDate",
    "SeriesTime",
)
_TAGS = {
    "00080060": "Modality",
    "0008103E": "SeriesDescription",
    "00081030": "StudyDescription",
    "00100020": "PatientID",
    "0020000D": "StudyInstanceUID",
    "0020000E": "SeriesInstanceUID",
    "00201209": "NumberOfSeriesRelatedInstances",
    "00080021": "SeriesDate",
    "00080031": "SeriesTime",
}
_PAGE = 1000
_LISTING_S, _LISTING_BYTES = 300.0, 1e9
_ASKING_BYTES = 1e8
_MOST_FILES = 20_000
_NO_IMAGE_KNOWN = Place(0.0)
_UID = re.compile(r"[0-9.]{1,64}")

KnownFacts = Mapping[tuple[str, str], Facts]
"""What headers said of series that were fetched, by study and stamp."""


class Pacs:
    """The series of a PACS.

    Parameters
    ----------
    address : str
        Of its DICOMweb.
    eligibility : Eligibility
        Which studies to keep; modalities are asked for, the rest is judged here.
    access : DicomWeb
    known_facts : callable
        Gives what the headers said of those series that were fetched: a search tells less.

    Raises
    ------
    ValueError
        If the address is none, or a library is missing.
    """

    def __init__(
        self, address: str, eligibility: Eligibility, access: DicomWeb, known_facts: Callable[[], KnownFacts]
    ) -> None:
        self.address = checked_address(address)
        if not importlib.util.find_spec("dicomweb_client"):
            msg = "Studies in a PACS need dicomweb-client. Type: pip install 'firstpick[dicomweb]'"
            raise ValueError(msg)
        self.name = f"The PACS at {self.address}"
        self._eligibility = eligibility
        self._access = access
        self._known_facts = known_facts
        self._found: list[tuple[Study, Facts]] = []
        self._odd: list[LeftOut] = []
        self._notes: list[str] = []

    def look(self) -> tuple[list[Study], list[LeftOut]]:
        """List the studies, and what is none or not wanted, by one paged search; `SourceError` if that fails."""
        rows = _search(self.address, self._eligibility.modalities, self._access)
        found: dict[str, tuple[Study, Facts]] = {}
        self._odd = []
        for row in rows:
            if (row["Modality"], row["SeriesDescription"]) == ("SEG", DESCRIPTION):
                continue  # what we sent ourselves
            study, facts = _study_of(row, self.address)
            if study.study_id in found:
                self._odd.append(LeftOut(study.study_id, "by chance, another series has its id", study.title))
            found.setdefault(study.study_id, (study, facts))
        self._found = list(found.values())
        return self._judged()

    def still_there(self, studies: Collection[Study]) -> tuple[list[Study], list[LeftOut]]:  # noqa: ARG002
        """Judge the studies of the last look again, now that more headers were read."""
        return self._judged()

    def _judged(self) -> tuple[list[Study], list[LeftOut]]:
        known, left_out, kept = self._known_facts(), list(self._odd), []
        for study, told in self._found:
            facts = known.get((study.study_id, study.stamp), told)
            if reason := why_left_out(study, facts, self._eligibility):
                left_out.append(LeftOut(study.study_id, reason, study.title))
            else:
                kept.append((study, facts))
        studies, said = notes.without_placeholders(kept)
        for note in said:
            if note not in self._notes:
                logger.warning("%s", note)
        self._notes = said
        return sorted(studies), sorted(left_out, key=lambda entry: (entry.study_id, entry.reason))


def _connected(address: str, access: DicomWeb, *, limit_s: float, limit_bytes: float) -> Any:
    """Begin a conversation; its libraries take a second, which folders need not wait for."""
    from firstpick.sources.conversation import connected  # noqa: PLC0415

    return connected(address, access, limit_s=limit_s, limit_bytes=limit_bytes)


# -- listing


def _search(address: str, modalities: Collection[str], access: DicomWeb) -> list[Mapping[str, str]]:
    """Find all series of some modalities, page by page; a server may give fewer at once than it is asked for."""
    found: dict[tuple[str, ...], Mapping[str, str]] = {}
    with _connected(address, access, limit_s=_LISTING_S, limit_bytes=_LISTING_BYTES) as client:
        for modality in sorted({modality.upper() for modality in modalities}) or [""]:
            offset = 0
            while True:
                page = [
                    _row(item)
                    for item in client.search_for_series(
                        search_filters={"Modality": modality} if modality else None,
                        fields=list(_FIELDS),
                        limit=_PAGE,
                        offset=offset,
                    )
                ]
                new = {_key(row): row for row in page if _key(row) not in found}
                if not new:  # none is left, or the server knows no offset
                    break
                found |= new
                offset += len(page)
    return list(found.values())


def _row(item: Mapping[str, Any]) -> Mapping[str, str]:
    """Read what a search says of one series; empty where it says nothing."""
    values = {name: (item.get(tag) or {}).get("Value") or [""] for tag, name in _TAGS.items()}
    return {name: str(value[0] if value[0] is not None else "").strip(" \0") for name, value in values.items()}


def _key(row: Mapping[str, str]) -> tuple[str, ...]:
    return row["SeriesInstanceUID"], row["StudyInstanceUID"], row["PatientID"]


def _study_of(row: Mapping[str, str], address: str) -> tuple[Study, Facts]:
    """Make a study of what a search says, and facts as if a header had said so."""
    said = Instance(
        name="",
        series_uid=row["SeriesInstanceUID"],
        study_uid=row["StudyInstanceUID"],
        sop_class="",
        modality=row["Modality"].upper(),
        description=row["SeriesDescription"],
        conversion="",
        patient=dicom.hashed_patient(row["PatientID"]),
        names_patient=dicom.names_someone(row["PatientID"]),
        image_type=(),
        n_columns=1,  # or it would count as no image
        n_rows=1,
        n_frames=1,
        spacing=(),
        imager_spacing=False,
        thickness=0.0,
        place=_NO_IMAGE_KNOWN,
    )
    n_files = int(row["NumberOfSeriesRelatedInstances"] or 0)
    facts = replace(facts_of_instances([said]), shape=())
    if not facts.no_study and said.modality in FLAT_MODALITIES and n_files > 1:
        pictures = f"a series of {n_files} pictures: of a PACS only series of one are read. Export it to a folder"
        facts = replace(facts, no_study=pictures)
    stamp = hashlib.sha256(json.dumps([row["SeriesDate"], row["SeriesTime"]]).encode()).hexdigest()[:8]
    texts = (row["StudyDescription"], row["SeriesDescription"])
    title = "/".join(filter(None, (text.replace("/", "-").strip(". ") for text in texts)))
    study = Study(
        series_id(said, ""),
        f"{n_files}-{stamp}",
        f"{address}/studies/{said.study_uid}/series/{said.series_uid}",
        printable(title or said.series_uid or "a DICOM series"),
        (),
        facts.modality,
        facts.patient,
        said.study_uid,
    )
    return study, facts


# -- fetching


@dataclass(frozen=True)
class Fetching:
    """What a process that fetches must know.

    Attributes
    ----------
    access : DicomWeb
    folder : str
        Where files lie while they are read; private.
    limit_s : float
        For all files of one series.
    served : str
        Folder of the files that readers open, where those of all studies are kept that are fetched; empty for nowhere.
    served_bytes : float
        From which size of that folder on no more are.
    """

    access: DicomWeb = DicomWeb()
    folder: str = ""
    limit_s: float = 150.0
    served: str = ""
    served_bytes: float = 0.0


_fetching = Fetching()  # of this process


def fetch_by(settings: Fetching) -> None:
    """Set how this process fetches, from now on."""
    global _fetching  # noqa: PLW0603 - a setting of the process, as its limits
    _fetching = settings


def fetching() -> Fetching:
    """How this process fetches."""
    return _fetching


@contextlib.contextmanager
def fetched(study: Study) -> Iterator[tuple[Study, Facts]]:
    """Yield a study of a PACS with its files in a folder of this machine, and what they say; they are gone then.

    Raises
    ------
    SourceError
        If they cannot be had just now.
    VolumeError
        If they are too many or too large, or no study.
    """
    with _private_folder() as folder:
        place = folder / (study.source.rpartition("/")[2] or "series")
        try:
            place.mkdir()
            _fetch(study, place)
        except SourceError as error:
            error.is_down = error.is_down and is_down(study)
            raise
        except OSError as error:
            msg = f"Files of the PACS cannot be written to {folder}: {error.strerror or error}."
            raise SourceError(msg) from None
        yield _arranged(study, place)


def _fetch(study: Study, place: Path) -> None:
    """Write all files of a series into a folder, one after the other as they arrive."""
    address, uids = split_source(study.source)
    with (
        _connected(address, fetching().access, limit_s=fetching().limit_s, limit_bytes=limit_bytes()) as client,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # pydicom warns of each value that breaks the standard, and quotes it
        as_stored = (("application/dicom", "*"),)  # not unpacked: the files are a folder's
        n_files = 0
        for n_files, dataset in enumerate(client.iter_series(*uids, media_types=as_stored), start=1):
            if n_files > _MOST_FILES:
                msg = f"Its series has more than {_MOST_FILES} files."
                raise VolumeError(msg)
            uid = str(dataset.get("SOPInstanceUID", ""))
            name = uid if _UID.fullmatch(uid) and uid.strip(".") else f"{n_files:05d}"
            dataset.save_as(place / f"{name}.dcm")
    n_listed = int(study.stamp.partition("-")[0])
    if n_files < n_listed:
        msg = f"The PACS at {address} sent {n_files} of the {n_listed} files of a series."
        raise SourceError(msg, is_down=False)


def _arranged(study: Study, place: Path) -> tuple[Study, Facts]:
    """Tell which of the files are the study, just as in a folder: the slices, or the only picture."""
    files = sorted(path.name for path in place.iterdir())
    read = dicom.read_instances(place / name for name in files)
    own = [(name, one) for name, one in zip(files, read, strict=True) if one and series_id(one, "") == study.study_id]
    if not own:
        msg = "The PACS sent no file of this series, patient and visit."
        raise VolumeError(msg)
    slices = [(name, one) for name, one in own if is_slice(one)]
    local = replace(study, source=str(place), folder="")
    if slices:
        names = tuple(name for name, _ in slices)
        return replace(local, files=names), facts_of_instances([one for _, one in slices])
    facts = facts_of_instances([one for _, one in own])
    if len(own) > 1 and not facts.no_study:
        facts = replace(facts, no_study=f"a series of {len(own)} pictures or films: of a PACS only one is read")
    return replace(local, source=str(place / own[0][0])), facts


def split_source(source: str) -> tuple[str, tuple[str, str]]:
    """Take the address of a series apart: of the PACS, and study and series UID."""
    address, _, rest = source.rpartition("/studies/")
    study_uid, _, series_uid = rest.partition("/series/")
    return address, (study_uid, series_uid)


def ask(address: str) -> Any:
    """Begin a conversation with small answers."""
    return _connected(address, fetching().access, limit_s=fetching().limit_s, limit_bytes=_ASKING_BYTES)


def is_down(study: Study) -> bool:
    """Whether the PACS does not answer a small question either."""
    address, _ = split_source(study.source)
    try:
        with ask(address) as client:
            client.search_for_series(limit=1)
    except (SourceError, VolumeError):
        return True
    return False


@contextlib.contextmanager
def _private_folder() -> Iterator[Path]:
    """Yield a folder of this process alone; those of processes that were ended are deleted."""
    root = Path(fetching().folder or tempfile.gettempdir(), "fetched")
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in root.iterdir():
        number = folder.name.partition("-")[0]
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{os.getpid()}-", dir=root, ignore_cleanup_errors=True) as own:
        yield Path(own)
