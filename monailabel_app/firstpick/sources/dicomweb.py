"""Studies in a PACS: its series, by QIDO; those of a folder and those of a PACS are the same studies."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from firstpick.sources import notes
from firstpick.sources.connection import DicomWeb, checked_address, connected, is_uid
from firstpick.sources.eligibility import (
    FLAT_MODALITIES,
    Eligibility,
    Facts,
    facts_of_instances,
    why_left_out,
)
from firstpick.sources.group import series_id
from firstpick.sources.names import printable
from firstpick.sources.series import NO_RULE, SeriesRule, joined
from firstpick.studies import LeftOut, Study
from firstpick.voxels import dicom
from firstpick.voxels.dicom import Instance, Place
from firstpick.voxels.dicom_seg import DESCRIPTION

logger = logging.getLogger(__name__)

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
_NO_IMAGE_KNOWN = Place(0.0)

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
    series : SeriesRule
        Which series are one study.

    Raises
    ------
    ValueError
        If the address is none, or a library is missing.
    """

    when_empty = "May this login not see them any more?"

    def __init__(
        self,
        address: str,
        eligibility: Eligibility,
        access: DicomWeb,
        known_facts: Callable[[], KnownFacts],
        series: SeriesRule = NO_RULE,
    ) -> None:
        self.address = checked_address(address)
        if not importlib.util.find_spec("dicomweb_client"):
            msg = "Studies in a PACS need dicomweb-client. Type: pip install 'firstpick[dicomweb]'"
            raise ValueError(msg)
        self.name = f"The PACS at {self.address}"
        self._eligibility = eligibility
        self._access = access
        self._known_facts = known_facts
        self._series = series
        self._found: list[tuple[Study, Facts]] = []
        self._odd: list[LeftOut] = []
        self._seen: set[tuple[str, ...]] = set()
        self._notes: list[str] = []

    def look(self) -> tuple[list[Study], list[LeftOut]]:
        """List the studies, and what is none or not wanted, by one paged search; `SourceError` if that fails."""
        rows = self._rows()
        if len(rows) > _PAGE and self._seen - rows.keys():
            rows = self._rows() | rows  # series that come while pages are turned may hide others
        self._seen, self._odd = {*rows}, []
        found: dict[str, tuple[Study, Facts]] = {}
        for row in rows.values():
            if (row["Modality"], row["SeriesDescription"]) == ("SEG", DESCRIPTION):
                continue  # what we sent ourselves
            study, facts = _study_of(row, self.address)
            if not (is_uid(row["SeriesInstanceUID"]) and is_uid(row["StudyInstanceUID"])):
                reason = "its SeriesInstanceUID or StudyInstanceUID is none"
                self._odd.append(LeftOut(study.study_id, reason, study.title))
            elif study.study_id in found:
                self._odd.append(LeftOut(study.study_id, "by chance, another series has its id", study.title))
            else:
                found[study.study_id] = study, facts
        self._found = list(found.values())
        return self._judged()

    def _rows(self) -> dict[tuple[str, ...], Mapping[str, str]]:
        return _search(self.address, self._eligibility.modalities, self._access)

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
        single, said = notes.without_placeholders(kept)
        # Of visit and description both tell the same; only the search has told of all.
        told_of = {study.study_id: told for study, told in self._found}
        studies, apart, also = joined([(study, told_of[study.study_id]) for study in single], self._series)
        left_out += apart
        said += also
        for note in said:
            if note not in self._notes:
                logger.warning("%s", note)
        self._notes = said
        return studies, sorted(left_out, key=lambda entry: (entry.study_id, entry.reason))


# -- listing


def _search(address: str, modalities: Collection[str], access: DicomWeb) -> dict[tuple[str, ...], Mapping[str, str]]:
    """Find all series of some modalities, by UIDs and patient."""
    found: dict[tuple[str, ...], Mapping[str, str]] = {}
    with connected(address, access, limit_s=_LISTING_S, limit_bytes=_LISTING_BYTES) as client:
        for modality in sorted({modality.upper() for modality in modalities}) or [""]:
            wanted = {"Modality": modality} if modality else None
            found |= _all_pages(client.search_for_series, search_filters=wanted, fields=list(_TAGS.values()))
        if any(not row["PatientID"] for row in found.values()):  # not every PACS tells of it with a series
            visits = _all_pages(client.search_for_studies, fields=["PatientID", "StudyInstanceUID"])
            patients = {row["StudyInstanceUID"]: row["PatientID"] for row in visits.values()}
            for key, row in [*found.items()]:
                told = {**row, "PatientID": row["PatientID"] or patients.get(row["StudyInstanceUID"], "")}
                del found[key]
                found[_key(told)] = told
    return found


def _all_pages(search: Callable[..., Any], **options: Any) -> dict[tuple[str, ...], Mapping[str, str]]:
    """Search page by page; a server may give fewer at once than it is asked for."""
    found: dict[tuple[str, ...], Mapping[str, str]] = {}
    offset = 0
    while True:
        page = [_row(item) for item in search(limit=_PAGE, offset=offset, **options)]
        new = {_key(row): row for row in page if _key(row) not in found}
        if not new:  # none is left, or the server knows no offset
            return found
        found |= new
        offset += len(page)


def _row(item: Mapping[str, Any]) -> Mapping[str, str]:
    """Read what a search says; empty where it says nothing."""
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
    n_told = row["NumberOfSeriesRelatedInstances"]
    n_files = int(n_told) if n_told.isdecimal() else 0
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
