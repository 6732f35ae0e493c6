"""What is odd about all studies together, so that people hear of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from firstpick.sources.eligibility import Facts
from firstpick.sources.group import Series
from firstpick.sources.names import printable
from firstpick.studies import Study

_LEAST = 4  # studies or series, for it to be no chance


def without_placeholders(found: Sequence[tuple[Study, Facts]]) -> tuple[list[Study], list[str]]:
    """Take away a patient that most studies share, as a placeholder, and say how many name none.

    Parameters
    ----------
    found : sequence of (Study, Facts)

    Returns
    -------
    studies : list of Study
        Without the patient that more than half of them, and at least four, share while there are others.
    notes : list of str
    """
    studies, notes = [study for study, _ in found], []
    if n := sum(facts.names_nobody for _, facts in found):
        notes.append(
            f"The PatientID of {n} DICOM {'study' if n == 1 else 'studies'} is empty or a placeholder (Anonymous ...): "
            "it is not known which of them are of one patient."
        )
    patients = Counter(study.patient for study in studies if study.patient)
    patient, n = next(iter(patients.most_common(1)), ("", 0))
    if len(patients) > 1 and n >= _LEAST and 2 * n > len(studies):
        notes.append(
            f"{n} of {len(studies)} studies state one PatientID, which is taken for a placeholder: "
            "it is not known which of them are of one patient."
        )
        studies = [replace(study, patient="") if study.patient == patient else study for study in studies]
    return studies, notes


def series_of_one_slice(found: Iterable[Series]) -> list[str]:
    """Name the folders that hold many series of one slice each of the same visit, which may be one volume."""
    single = [series for series in found if len(series.slices) == 1]
    visits = Counter(_visit(series) for series in single)
    return [
        f"{printable(folder) or 'The top folder'} holds {n} DICOM series of one slice each, all of one visit; "
        "each is a study. If they are one volume, a tool gave each slice a SeriesInstanceUID of its own: give them one."
        for (folder, *_), n in sorted(visits.items())
        if n >= _LEAST
    ]


def _visit(series: Series) -> tuple[str, str, str, str]:
    ((path, read),) = series.slices
    folder = path.rpartition("/")[0]
    return (
        (folder, read.head.study_uid, read.head.patient, read.head.description) if read.head else (folder, "", "", "")
    )


def n_files(count: int) -> str:
    """Write a number of files.

    >>> n_files(1), n_files(4)
    ('1 file', '4 files')
    """
    return f"{count} file{'s' if count != 1 else ''}"
