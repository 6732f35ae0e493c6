"""What people and tables call a study: its title, and all names that may stand for its id."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from firstpick.studies import Study
from firstpick.voxels import dicom
from firstpick.voxels.formats import ENDINGS, ending_of
from firstpick.voxels.label_formats import label_ending

_LONGEST_TITLE = 200
_DIGITS = re.compile(r"-[0-9a-f]{6}$")  # behind the UID of a series


def printable(text: str) -> str:
    r"""Write a text in one line of at most 200 characters, with what cannot be seen as escapes such as ``\n``."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return line if len(line) <= _LONGEST_TITLE else f"{line[: _LONGEST_TITLE - 80]}\N{HORIZONTAL ELLIPSIS}{line[-79:]}"


def bare(path: str) -> str:
    """Take off the ending of a path, if it is one of a study; a name that merely holds a dot keeps it.

    >>> bare("a/scan.v2.nii.gz"), bare("a/scan.v2")
    ('a/scan.v2', 'a/scan.v2')
    """
    ending = ending_of(path.rpartition("/")[2])
    is_known = ending in ENDINGS or ending in dicom.DICOM_ENDINGS
    return path[: -len(ending)] if is_known and not path.endswith(f"/{ending}") and path != ending else path


def names_of(study: Study) -> set[str]:
    """Collect the names that a table, a label or a mask may give a study.

    A file's path, with its ending and without; a series' id, its UID, the folder with its slices, that folder and the
    UID, and its title; of several series id and title, and all names of each.
    """
    if study.series:
        return {study.study_id, study.title}.union(*map(names_of, study.series))
    if not study.is_series:
        return {study.study_id, bare(study.study_id), study.title}
    uid = _DIGITS.sub("", study.study_id)
    return {study.study_id, study.title, uid, study.folder, f"{study.folder}/{uid}"} - {""}


def ids_by_name(studies: Iterable[Study]) -> Mapping[str, str]:
    """Map each name to the id of the only study that has it; an id is always the name of its own study."""
    owners: defaultdict[str, set[str]] = defaultdict(set)
    ids = set()
    for study in studies:
        ids.add(study.study_id)
        for name in names_of(study):
            owners[name].add(study.study_id)
    single = {name: next(iter(found)) for name, found in owners.items() if len(found) == 1}
    return single | {study_id: study_id for study_id in ids}


def id_of(name: str, by_name: Mapping[str, str]) -> str:
    """Find the id for a name, with any ending or none, in what `ids_by_name` returned; empty if there is none."""
    return by_name.get(name) or by_name.get(bare(name)) or ""


def final_labels(
    folder: Path, studies: Iterable[Study], given: Mapping[str, str] = MappingProxyType({})
) -> tuple[dict[str, float], list[str]]:
    """Find the labels that MONAI Label keeps as final below a folder, in ``labels/final/``.

    Parameters
    ----------
    folder : Path
        Of the studies, or a server's own.
    studies : iterable of Study
        A label belongs to the study that has its name, ending off, as one of `names_of`, if only one has.
    given : mapping of str to str
        Study id to the name that a server gave its label files; goes before.

    Returns
    -------
    times : dict
        Id of the study to the time when its newest label was written, in seconds since the epoch.
    unmatched : list of str
        Labels that belong to no study, or could to several, as paths below ``labels/final/``; sorted.
    """
    root = folder / "labels" / "final"
    by_name = ids_by_name(studies)
    owners = {name: study_id for study_id, name in given.items()}
    times: dict[str, float] = {}
    unmatched = []
    for path in sorted(root.rglob("*")) if root.is_dir() else []:
        name = path.relative_to(root).as_posix()
        if not path.is_file() or any(part.startswith(".") for part in name.split("/")):
            continue
        stem = name[: len(name) - len(label_ending(name))]
        if study_id := owners.get(stem) or by_name.get(stem):
            times[study_id] = max(times.get(study_id, 0.0), path.stat().st_mtime)
        else:
            unmatched.append(printable(name))
    return times, unmatched
