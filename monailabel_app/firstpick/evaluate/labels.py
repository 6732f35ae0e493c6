"""Read the labels of an old project: a class of each study from a table, or a mask of each from a folder."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from firstpick.sources.folder import Eligibility, list_studies
from firstpick.sources.names import bare, id_of, ids_by_name
from firstpick.sources.tables import read_column, split_column
from firstpick.studies import Study


def read_classes(table: str, studies: Iterable[Study], *, left_out: Collection[str] = ()) -> dict[str, str]:
    """Read the class of each study.

    Parameters
    ----------
    table : str
        ``FILE`` or ``FILE#COLUMN``: a CSV file whose first line names the columns. The first column holds study ids
        or other names of theirs (`firstpick.sources.names.names_of`); the class is in the second or in the one named.
    studies : iterable of Study
    left_out : collection of str
        Ids that may have a label though they are not among the studies.

    Returns
    -------
    dict
        Study id to class, for the studies that have one.

    Raises
    ------
    ValueError
        If the table has no such column, two classes for one study, a label for a study that does not exist, no label
        for any study, or fewer than two classes.
    OSError
        If the table cannot be read.
    """
    path, _ = split_column(table)
    studies = list(studies)
    by_name = ids_by_name(studies)
    found: dict[str, str] = {}
    unknown = set()
    for name, label in read_column(table):
        study_id = id_of(name, by_name)
        if not study_id:
            unknown.add(name)
        elif found.setdefault(study_id, label) != label:
            msg = f"{path} gives study {study_id!r} two classes: {found[study_id]!r} and {label!r}."
            raise ValueError(msg)
    _check(found, unknown, studies, left_out, what=path)
    if len(set(found.values())) < 2:  # noqa: PLR2004 - nothing to tell apart
        msg = f"{path} gives all {len(found)} studies one class ({next(iter(found.values()))!r}); two are needed."
        raise ValueError(msg)
    return found


def find_masks(folder: Path, studies: Iterable[Study], *, left_out: Collection[str] = ()) -> dict[str, Study]:
    """Find the mask of each study: the file of the same path but for its ending, in another folder.

    A mask of a DICOM series has one of its names (`firstpick.sources.names.names_of`).

    Returns
    -------
    dict
        Study id to its mask, for the studies that have one.

    Raises
    ------
    ValueError
        If a mask belongs to no study, or no study has one.
    OSError
        If the folder cannot be read.
    """
    masks = list_studies(folder, Eligibility(masks=True))[0]
    studies = list(studies)
    by_name = ids_by_name(studies)
    found, unknown = {}, []
    for mask in masks:
        name = mask.folder if mask.is_series else mask.study_id
        study_id = by_name.get(bare(name), "")
        if study_id and study_id not in found:
            found[study_id] = mask
        else:
            unknown.append(name)
    _check(found, unknown, studies, left_out, what=str(folder))
    return found


def _check(
    labelled: Collection[str],
    unknown: Iterable[str],
    studies: Collection[Study],
    left_out: Collection[str],
    *,
    what: Path | str,
) -> None:
    """Raise ValueError if a label has no study, or no study a label."""
    expected = {name for study_id in left_out for name in (study_id, bare(study_id))}
    unknown = sorted(name for name in unknown if not expected & {name, bare(name)})
    ids = [study.study_id for study in studies]
    if unknown:
        msg = (
            f"{what} labels {len(unknown)} studies that the folder does not hold, such as {unknown[0]!r}. "
            f"A study there is called {min(ids, default='?')!r}: correct the names, or take these labels out."
        )
        raise ValueError(msg)
    if not labelled:
        msg = f"{what} has no label for any of the {len(ids)} studies, such as {min(ids, default='?')!r}."
        raise ValueError(msg)
