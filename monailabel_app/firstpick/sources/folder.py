"""List the studies of a folder; the one lister for the command line and the server."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from firstpick.sources import notes
from firstpick.sources.eligibility import Eligibility, Facts, why_left_out
from firstpick.sources.group import Read, group, read_dicom, studies_of_files, studies_of_series
from firstpick.sources.masks import why_no_folder_of_studies
from firstpick.sources.names import printable
from firstpick.sources.notes import n_files
from firstpick.sources.plain import Plain, read_plain, studies_of, voxels_in, with_facts
from firstpick.sources.series import NO_RULE, SeriesRule, joined
from firstpick.sources.walk import shown, walk
from firstpick.studies import LeftOut, Study
from firstpick.voxels import dicom
from firstpick.voxels.dicom import Instance
from firstpick.voxels.formats import ENDINGS, ending_of
from firstpick.workers import Executor

__all__ = ["Eligibility", "list_studies"]

logger = logging.getLogger(__name__)

_PLAIN_ENDINGS = frozenset(ENDINGS).difference(dicom.DICOM_ENDINGS, {".img"})  # an .img may be DICOM
_COUNTED_ENDING = re.compile(r"\.(?=.*[a-z])[a-z0-9_+~-]{1,10}")


@dataclass
class _Headers:
    """What headers said."""

    dicom: dict[str, dict[str, Read]] = field(default_factory=dict)  # by folder, then name
    plain: dict[str, Plain] = field(default_factory=dict)  # by path
    files: dict[str, tuple[Plain, Study, Facts]] = field(default_factory=dict)  # by path
    series: dict[str, tuple[Study, Facts]] = field(default_factory=dict)  # by id
    notes: list[str] = field(default_factory=list)  # that followed from them


@dataclass
class _Tree:
    """What a walk found; all paths are below the root."""

    headers: _Headers = field(default_factory=_Headers)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)  # folder and reason to its number of files
    left_out: list[LeftOut] = field(default_factory=list)


def list_studies(
    folder: str | os.PathLike[str],
    eligibility: Eligibility = Eligibility(),  # noqa: B008  frozen
    *,
    series: SeriesRule = NO_RULE,
    known: MutableMapping[str, Any] | None = None,
    executor: Executor | None = None,
) -> tuple[list[Study], list[LeftOut]]:
    """List the studies in a folder and all folders below it.

    Parameters
    ----------
    folder : path
        Is only read, never written to.
    eligibility : Eligibility
        Which files and DICOM series to keep.
    series : SeriesRule
        Which of them are one study.
    known : mutable mapping, optional
        What headers said at the last call. Hand in an empty dict at first and the same one, for the same folder and
        `eligibility`, from then on: the headers of files that are unchanged in time and size are not read again. It
        forgets what is gone.
    executor : Executor, optional
        Where headers are read that native code parses; a process of its own by default, if there are any.

    Returns
    -------
    studies : list of Study
        Sorted by their ids, which are unique. The id of a DICOM series, whatever folders its slices lie in, is told by
        `firstpick.sources.group.series_id`; that of any other file is its path below `folder`, with its ending. Ids
        depend neither on `eligibility` nor on what else lies in the folder.
    left_out : list of LeftOut
        What is no study, folders and endings once for all their files; and what `eligibility` rules out. Sorted by id.

    Raises
    ------
    FileNotFoundError, NotADirectoryError, PermissionError, OSError
        If `folder` is missing, is not a folder, must not be read, or has a name that is not UTF-8.

    Notes
    -----
    A file that cannot be read stays a study: reading its voxels will say what is wrong with it. Hidden files and
    folders are passed over. Which links are followed is told by `firstpick.sources.walk.walk`.

    What is odd about all studies together, such as placeholders instead of patients, is logged; with `known`, once.
    """
    root = _checked(folder)
    known = {} if known is None else known
    before: _Headers = known.get("headers") or _Headers()
    tree = _survey(root, eligibility, before)
    if eligibility.needs_geometry:
        tree.headers.plain = with_facts(root, tree.headers.plain, executor)
    of_dicom = group(_dicom_files(tree))
    of_series = studies_of_series(root, of_dicom, before.series, with_geometry=eligibility.needs_geometry)
    for study, facts in of_series:
        if study.study_id in tree.headers.series:
            tree.left_out.append(_without(study, "by chance, another series has its id"))
        tree.headers.series.setdefault(study.study_id, (study, facts))
    tree.headers.files = {one[1].study_id: one for one in studies_of(root, tree.headers.plain, before.files)}
    of_files = [(study, facts) for _, study, facts in tree.headers.files.values()]
    kept = []
    for study, facts in (*of_files, *studies_of_files(root, _dicom_files(tree)), *tree.headers.series.values()):
        if reason := why_left_out(study, facts, eligibility):
            tree.left_out.append(_without(study, reason))
        else:
            kept.append((study, facts))
    single, tree.headers.notes = notes.without_placeholders(kept)
    tree.headers.notes += notes.series_of_one_slice(of_dicom)
    studies, apart, said = joined([(study, facts) for study, (_, facts) in zip(single, kept, strict=True)], series)
    tree.left_out += apart
    tree.headers.notes += said
    for note in tree.headers.notes:
        if note not in before.notes:
            logger.warning("%s", note)
    known["headers"] = tree.headers
    left_out = tree.left_out + _others(root, tree)
    return studies, sorted(left_out, key=lambda entry: (entry.study_id, entry.reason))


def _without(study: Study, reason: str) -> LeftOut:
    where = f": {n_files(len(study.files))} in {study.folder or 'the top folder'}" if study.files else ""
    return LeftOut(study.study_id, reason + where, study.title)


def _no_study(path: str, reason: str) -> LeftOut:
    return LeftOut(path, reason, printable(path))


def _checked(folder: str | os.PathLike[str]) -> Path:
    root = Path(os.path.abspath(folder))  # noqa: PTH100  Path.resolve would follow links
    if shown(str(root)) != str(root):
        msg = f"The path of the studies folder {shown(str(root))} is not UTF-8. Rename it, or give a link to it."
        raise OSError(msg)
    if not root.exists():
        msg = f"The studies folder {root} does not exist. Create it or give another one."
        raise FileNotFoundError(msg)
    if not root.is_dir():
        msg = f"The studies folder {root} is a file. Give the folder that holds the studies."
        raise NotADirectoryError(msg)
    if not os.access(root, os.R_OK | os.X_OK):
        msg = f"The studies folder {root} may not be read: permission denied. Allow it or give another one."
        raise PermissionError(msg)
    return root


def _survey(root: Path, eligibility: Eligibility, before: _Headers) -> _Tree:
    """Walk the tree and read the headers of what has changed."""
    tree, shared = _Tree(), dict[Instance, Instance]()
    why_not = partial(why_no_folder_of_studies, masks=eligibility.masks, system_folders=eligibility.system_folders)
    for folder in walk(root, why_not, follow_links=eligibility.follow_links):
        if folder.error:
            tree.left_out.append(_no_study(shown(folder.below("")), f"cannot be read: {folder.error}"))
        if folder.refused:
            tree.refused[folder.refused] += len(folder.files) + len(folder.odd)
            continue
        tree.left_out += [_no_study(folder.below(shown(name)), reason) for name, reason in folder.odd.items()]
        plain = [name for name in folder.files if ending_of(name) in _PLAIN_ENDINGS]
        read_here = read_plain(folder, plain, before.plain, root=root, follow_links=eligibility.follow_links)
        tree.headers.plain.update(read_here)
        read = read_dicom(
            folder,
            folder.files.keys() - plain,
            before.dicom.get(folder.relative, {}),
            shared,
            with_places=eligibility.needs_geometry,
        )
        if read:
            tree.headers.dicom[folder.relative] = read
    return tree


def _dicom_files(tree: _Tree) -> Iterator[tuple[str, Read]]:
    for folder, files in tree.headers.dicom.items():
        for name, read in files.items():
            if read.is_dicom:
                yield f"{folder}/{name}" if folder else name, read


def _others(root: Path, tree: _Tree) -> list[LeftOut]:
    """Say what is neither a study nor part of one: a folder or an ending once, with its number of files."""
    found = [_no_study(path, f"{reason}: {n_files(n)}") for (path, reason), n in tree.refused.items() if n]
    belong = voxels_in(root, tree.headers.plain)
    endings: Counter[str] = Counter()
    for folder, files in tree.headers.dicom.items():
        for name, read in files.items():
            path = f"{folder}/{name}" if folder else name
            if read.is_dicom or path in belong:
                continue
            if not os.access(root / path, os.R_OK):
                found.append(_no_study(path, "cannot be read: Permission denied"))
            elif name.upper() == "DICOMDIR":
                found.append(_no_study(path, "an index of DICOM files, not an image"))
            else:
                ending = ending_of(name)
                endings[ending if _COUNTED_ENDING.fullmatch(ending) else ""] += 1
    for ending, n in endings.items():
        verb = "is" if n == 1 else "are"
        if ending:
            found.append(LeftOut(f"*{ending}", f"{n_files(n)} ending in {ending} {verb} not read"))
        else:
            found.append(LeftOut("*", f"{n_files(n)} without a known ending {verb} not DICOM"))
    return found
