"""Read the labels of an old project: a class of each study from a table, or a mask of each from a folder."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from firstpick.sources.folder import list_studies
from firstpick.sources.tables import read_column, split_column
from firstpick.studies import Study
from firstpick.voxels.formats import ENDINGS, ending_of


def read_classes(table: str, studies: Iterable[Study], *, left_out: Collection[str] = ()) -> dict[str, str]:
    """Read the class of each study.

    Parameters
    ----------
    table : str
        ``FILE`` or ``FILE#COLUMN``: a CSV file whose first line names the columns. The first column holds study ids,
        or their file names; the class is in the second or in the one named.
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
    classes: dict[str, str] = {}
    for name, label in read_column(table):
        study_id = _bare(name)
        if classes.setdefault(study_id, label) != label:
            msg = f"{path} gives study {study_id!r} two classes: {classes[study_id]!r} and {label!r}."
            raise ValueError(msg)
    ids = {study.study_id for study in studies}
    _check(classes, ids, left_out, what=str(path))
    found = {study_id: label for study_id, label in classes.items() if study_id in ids}
    if len(set(found.values())) < 2:  # noqa: PLR2004 - nothing to tell apart
        msg = f"{path} gives all {len(found)} studies one class ({next(iter(found.values()))!r}); two are needed."
        raise ValueError(msg)
    return found


def find_masks(folder: Path, studies: Iterable[Study], *, left_out: Collection[str] = ()) -> dict[str, Study]:
    """Find the mask of each study: the file of the same id, of any format, in another folder.

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
    masks = {mask.study_id: mask for mask in list_studies(folder)[0]}
    ids = {study.study_id for study in studies}
    _check(masks, ids, left_out, what=str(folder))
    return {study_id: mask for study_id, mask in masks.items() if study_id in ids}


def _bare(name: str) -> str:
    """Take a known ending off a file name; an id that merely holds a dot keeps it."""
    ending = ending_of(name)
    return name[: -len(ending)] if ending in ENDINGS else name


def _check(labelled: Collection[str], ids: Collection[str], left_out: Collection[str], *, what: str) -> None:
    """Raise ValueError if a label has no study, or no study a label."""
    unknown = sorted(set(labelled) - set(ids) - set(left_out))
    if unknown:
        msg = (
            f"{what} labels {len(unknown)} studies that the folder does not hold, such as {unknown[0]!r}. "
            f"A study there is called {min(ids, default='?')!r}: correct the names, or take these labels out."
        )
        raise ValueError(msg)
    if not set(labelled) & set(ids):
        msg = f"{what} has no label for any of the {len(ids)} studies, such as {min(ids, default='?')!r}."
        raise ValueError(msg)
