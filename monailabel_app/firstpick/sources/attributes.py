"""What is known of a study besides its voxels: its patient, its modality, a column of a table."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import replace

from firstpick.sources.names import id_of, ids_by_name
from firstpick.sources.tables import read_column
from firstpick.studies import Pool, Study

RULES = "patient, modality, folder, id:REGEX or csv:FILE#COLUMN"


def read_attribute(studies: Iterable[Study], rule: str) -> dict[str, str]:
    """Read one attribute of every study.

    Parameters
    ----------
    studies : iterable of Study
    rule : str
        ``patient`` or ``modality``, of DICOM headers; ``folder``, the first folder on the way to the study's files;
        ``id:REGEX``, the first group of a regular expression that is found in the id, or else in the title (or all it
        matches); ``csv:FILE#COLUMN``, a column (by default the second) of a table whose first column holds study ids
        or other names of theirs (`firstpick.sources.names.names_of`) and whose first line names the columns; or empty
        for nothing.

    Returns
    -------
    dict
        Study id to the attribute's value; empty where nothing is known.

    Raises
    ------
    ValueError
        If the rule is none of these, or the expression or the column is wrong.
    OSError
        If the table cannot be read.

    Examples
    --------
    >>> studies = [Study("sub-1/t1", "", ""), Study("sub-1/t2", "", ""), Study("phantom", "", "")]
    >>> read_attribute(studies, "id:^(sub-[0-9]+)")
    {'sub-1/t1': 'sub-1', 'sub-1/t2': 'sub-1', 'phantom': ''}
    """
    kind, _, rest = rule.partition(":")
    if not rule:
        return {study.study_id: "" for study in studies}
    if rule in ("patient", "modality"):
        return {study.study_id: getattr(study, rule) for study in studies}
    if rule == "folder":
        return {study.study_id: study.folder.partition("/")[0] for study in studies}
    if kind == "id" and rest:
        pattern = _compiled(rest)
        return {
            study.study_id: _found(pattern.search(study.study_id) or pattern.search(study.title)) for study in studies
        }
    if kind == "csv" and rest:
        studies = list(studies)
        by_name = ids_by_name(studies)
        values = {id_of(name, by_name): value for name, value in read_column(rest)}
        return {study.study_id: values.get(study.study_id, "") for study in studies}
    msg = f"{rule!r} is no attribute of a study. Take {RULES}, or nothing."
    raise ValueError(msg)


def with_attributes(pool: Pool, studies: Collection[Study], *, groups_by: str, strata_by: str) -> Pool:
    """Give a pool the titles of its studies, and their groups and strata, read by two rules of `read_attribute`."""
    titles = {study.study_id: study.title for study in studies}
    groups, strata = read_attribute(studies, groups_by), read_attribute(studies, strata_by)
    return replace(
        pool,
        groups=tuple(groups[study_id] for study_id in pool.study_ids) if groups_by else (),
        strata=tuple(strata[study_id] for study_id in pool.study_ids) if strata_by else (),
        titles=tuple(titles[study_id] for study_id in pool.study_ids),
    )


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        msg = f"{pattern!r} is not a regular expression: {error}."
        raise ValueError(msg) from error


def _found(match: re.Match[str] | None) -> str:
    """Return the first group of a match, or all of it if it has none."""
    return "" if match is None else (match.group(1) or "") if match.re.groups else match.group(0)
