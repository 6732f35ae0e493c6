"""List the studies of a folder; the one lister for the command line and the server."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

from firstpick.sources.eligibility import (
    FLAT_MODALITIES,
    Eligibility,
    Facts,
    facts_of_file,
    facts_of_instances,
    why_left_out,
)
from firstpick.studies import LeftOut, Study
from firstpick.voxels import dicom
from firstpick.voxels.dicom import Instance
from firstpick.voxels.formats import ENDINGS, ending_of

__all__ = ["Eligibility", "final_labels", "list_studies"]

_HEADER_ENDINGS = {".mhd", ".nhdr"}  # voxels lie in a second file
_DATA_ENDINGS = (".raw", ".zraw", ".raw.gz", ".img")
_NO_FACTS = Facts()
_LAST = len(ENDINGS)  # in line for a bare id


@dataclass
class _Folder:
    """One folder's files with their stats, sorted by name; `error` if it cannot be read."""

    path: Path
    relative: PurePosixPath
    mtime_ns: int = 0
    files: dict[str, os.stat_result] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class _Candidate:
    """Something that may be a study, before ids are given."""

    ids: tuple[str, ...]  # that it would like, the best first
    rank: int  # of two that want the same id, the lower one gets it
    stamp: str
    source: str
    files: tuple[str, ...] = ()
    facts: Facts = _NO_FACTS


def list_studies(
    folder: str | os.PathLike[str],
    eligibility: Eligibility = Eligibility(),  # noqa: B008  frozen
    *,
    known: MutableMapping[str, Any] | None = None,
) -> tuple[list[Study], list[LeftOut]]:
    """List the studies in a folder and all folders below it.

    Parameters
    ----------
    folder : path
        Is only read, never written to.
    eligibility : Eligibility
        Which studies to keep.
    known : mutable mapping, optional
        What headers said at the last call. Hand in an empty dict at first and the same one, for the same
        folder, from then on: the headers of files that are unchanged in time, size and number are not
        read again. It holds plain data, and forgets what is gone.

    Returns
    -------
    studies : list of Study
        Sorted by their ids, which are unique. A file's id is its path below `folder` without its ending,
        a DICOM series' that of its folder (with its UID if the folder holds several). Of two files that
        differ in their ending only, the one whose ending comes first in `ENDINGS` has the bare id, the
        other keeps its ending. Ids do not depend on `eligibility`.
    left_out : list of LeftOut
        What looks like a study but is none, and what `eligibility` rules out; sorted by id.

    Raises
    ------
    FileNotFoundError, NotADirectoryError, PermissionError
        If `folder` is missing, is not a folder, or must not be read.

    Notes
    -----
    A file that cannot be read stays a study: reading its voxels will say what is wrong with it.
    Hidden files and folders are passed over, as are MONAI Label's own (``labels/`` at the top).
    Folders that are symbolic links are followed once, after all real ones.
    """
    root = _checked(folder)
    known = {} if known is None else known
    fresh: dict[str, Any] = {}
    candidates: list[_Candidate] = []
    left_out: list[LeftOut] = []
    for directory in _walk(root):
        if directory.error:
            left_out.append(LeftOut(str(directory.relative), f"cannot be read: {directory.error}"))
            continue
        candidates += _plain_files(directory, eligibility, known, fresh)
        candidates += _dicom_studies(root, directory, known, fresh)
    known.clear()
    known.update(fresh)

    studies: list[Study] = []
    for study_id, found in _with_ids(candidates):
        reason = why_left_out(study_id, found.facts, eligibility)
        if reason:
            left_out.append(LeftOut(study_id, reason))
        else:
            facts = found.facts
            studies.append(
                Study(
                    study_id,
                    found.stamp,
                    found.source,
                    title=study_id,
                    files=found.files,
                    modality=facts.modality,
                    patient=facts.patient,
                )
            )
    return sorted(studies), sorted(left_out, key=lambda entry: entry.study_id)


def final_labels(folder: str | os.PathLike[str]) -> dict[str, float]:
    """Find the labels that MONAI Label keeps as final below a folder, in ``labels/final/``.

    Returns
    -------
    dict
        Id of the study to the time when its label was written, in seconds since the epoch.
    """
    root = Path(folder, "labels", "final")
    files = [path for path in root.rglob("*") if path.is_file()] if root.is_dir() else []
    names = {path.relative_to(root).as_posix(): path.stat().st_mtime for path in files}
    return {name[: len(name) - len(ending_of(name))]: at for name, at in names.items()}


def _checked(folder: str | os.PathLike[str]) -> Path:
    root = Path(os.path.abspath(folder))  # noqa: PTH100  Path.resolve would follow links
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


def _walk(root: Path) -> Iterator[_Folder]:
    """Visit each folder once, links after all real folders, so that a link never takes a real folder's id."""
    waiting, links = [_Folder(root, PurePosixPath())], list[_Folder]()
    visited: set[tuple[int, int]] = set()
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop(0)
        try:
            stat = folder.path.stat()
            if (stat.st_dev, stat.st_ino) in visited:
                continue
            visited.add((stat.st_dev, stat.st_ino))
            folder.mtime_ns = stat.st_mtime_ns
            with os.scandir(folder.path) as entries:
                visible = sorted((entry for entry in entries if _is_ours(entry, folder)), key=lambda entry: entry.name)
        except FileNotFoundError:
            continue
        except OSError as error:
            folder.error = error.strerror or type(error).__name__
            yield folder
            continue
        for entry in visible:
            _sort_in(entry, folder, waiting, links)
        yield folder


def _is_ours(entry: os.DirEntry[str], folder: _Folder) -> bool:
    if entry.name.startswith("."):
        return False
    is_labels = entry.name == "labels" and folder.relative == PurePosixPath()
    return not (is_labels and any(Path(entry.path, tag).is_dir() for tag in ("final", "original")))


def _sort_in(entry: os.DirEntry[str], folder: _Folder, waiting: list[_Folder], links: list[_Folder]) -> None:
    try:
        if entry.is_dir():
            below = _Folder(Path(entry.path), folder.relative / entry.name)
            (links if entry.is_symlink() else waiting).append(below)
        elif entry.is_file():
            folder.files[entry.name] = entry.stat()
    except OSError:  # vanished meanwhile, or a link in a circle
        return


def _plain_files(
    folder: _Folder, eligibility: Eligibility, known: MutableMapping[str, Any], fresh: dict[str, Any]
) -> Iterator[_Candidate]:
    for name, stat in folder.files.items():
        ending = ending_of(name)
        if ending not in ENDINGS or ending in dicom.DICOM_ENDINGS:
            continue
        path = folder.path / name
        stats = [stat]
        if ending in _HEADER_ENDINGS:
            data_files = tuple(name[: -len(ending)] + data for data in _DATA_ENDINGS)
            stats += [folder.files[data] for data in data_files if data in folder.files]
        stamp = _stamp(stats)
        facts = _NO_FACTS
        if eligibility.needs_geometry:
            before = known.get(str(path))
            facts = before[1] if before and before[0] == stamp else facts_of_file(path)
            fresh[str(path)] = (stamp, facts)
        yield _of_file(folder, name, stamp, facts)


def _dicom_studies(
    root: Path, folder: _Folder, known: MutableMapping[str, Any], fresh: dict[str, Any]
) -> list[_Candidate]:
    """Find the DICOM studies of one folder, from `known` if none of its files has changed."""
    maybe = {
        name: stat
        for name, stat in folder.files.items()
        if ending_of(name) not in dicom.OTHER_ENDINGS.union(ENDINGS).difference(dicom.DICOM_ENDINGS)
    }
    if not maybe:
        return []
    state = (folder.mtime_ns, len(maybe), _stamp(maybe.values()))
    before = known.get(str(folder.path))
    if before and before[0] == state:
        found: list[_Candidate] = before[1]
    else:
        names = [name for name in maybe if dicom.may_be_dicom(folder.path / name)]
        found = _group(root, folder, names)
    fresh[str(folder.path)] = (state, found)
    return found


def _group(root: Path, folder: _Folder, names: list[str]) -> list[_Candidate]:
    found: list[_Candidate] = []
    series: dict[str, list[Instance]] = {}
    for name, instance in zip(names, dicom.read_instances(folder.path / name for name in names), strict=True):
        if instance is None and not (folder.path / name).exists():
            continue  # vanished meanwhile
        if instance is None:
            found.append(_of_file(folder, name, _stamp([folder.files[name]])))
        else:
            series.setdefault(instance.series_uid, []).append(instance)
    stacks: dict[str, list[Instance]] = {}
    for uid, instances in series.items():
        slices = [instance for instance in instances if _is_slice(instance)]
        if len(slices) > 1:
            stacks[uid] = slices
        for instance in instances:
            if len(slices) <= 1 or not _is_slice(instance):
                stamp = _stamp([folder.files[instance.name]])
                found.append(_of_file(folder, instance.name, stamp, facts_of_instances([instance])))
    for uid, instances in stacks.items():
        stamp = f"{uid}-{len(instances)}-{_stamp(folder.files[instance.name] for instance in instances)}"
        ids = _series_ids(root, folder, uid, is_only=len(stacks) == 1)
        facts = facts_of_instances(instances)
        files = tuple(sorted(instance.name for instance in instances))
        found.append(_Candidate(ids, _LAST, stamp, str(folder.path), files, facts=facts))
    return found


def _is_slice(instance: Instance) -> bool:
    """Tell whether an instance is one slice of a volume, rather than a study of its own, or no image."""
    return bool(instance.n_columns) and instance.n_frames == 1 and instance.modality not in FLAT_MODALITIES


def _series_ids(root: Path, folder: _Folder, uid: str, *, is_only: bool) -> tuple[str, ...]:
    if folder.relative == PurePosixPath():
        return (uid or root.name or "series",)
    with_uid = str(folder.relative / (uid or "series"))
    return (str(folder.relative), with_uid) if is_only else (with_uid,)


def _of_file(folder: _Folder, name: str, stamp: str, facts: Facts = _NO_FACTS) -> _Candidate:
    ending = ending_of(name)
    is_image = ending in ENDINGS or ending in dicom.DICOM_ENDINGS
    bare = name[: -len(ending)] if is_image else name
    rank = ENDINGS.index(ending) if ending in ENDINGS else _LAST
    ids = (str(folder.relative / (bare or name)), str(folder.relative / name))
    return _Candidate(ids, rank, stamp, str(folder.path / name), facts=facts)


def _with_ids(candidates: Iterable[_Candidate]) -> Iterator[tuple[str, _Candidate]]:
    """Give each candidate the first of its ids that is free, or its last one with a number."""
    taken: set[str] = set()
    for candidate in sorted(candidates, key=lambda found: (found.rank, found.source, found.files)):
        numbered = (f"{candidate.ids[-1]}-{number}" for number in count(2))
        study_id = next((wanted for wanted in candidate.ids if wanted not in taken), "")
        study_id = study_id or next(wanted for wanted in numbered if wanted not in taken)
        taken.add(study_id)
        yield study_id, candidate


def _stamp(stats: Iterable[os.stat_result]) -> str:
    """Sum up the sizes, and take the latest time."""
    pairs = [(stat.st_size, stat.st_mtime_ns) for stat in stats]
    return f"{sum(size for size, _ in pairs)}-{max(time for _, time in pairs)}"
