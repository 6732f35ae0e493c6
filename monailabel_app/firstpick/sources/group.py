"""Group the DICOM instances of a tree by series, and name each series for ever."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from firstpick.sources.eligibility import Facts, facts_of_instances, is_slice
from firstpick.sources.names import printable
from firstpick.sources.uids import UID, digits_of, plain_uid
from firstpick.sources.walk import Folder, Stat, stamp_of
from firstpick.studies import Study
from firstpick.voxels import dicom
from firstpick.voxels.dicom import Instance, Place
from firstpick.voxels.formats import ending_of

_INDEX = "DICOMDIR"  # of the files on a disk: it is DICOM, but nothing to see
_NOWHERE = Place(0.0)
_SERIES_ID = re.compile(rf"{UID.pattern}-[0-9a-f]{{6}}")


class Read(NamedTuple):
    """What was read of a file that may be DICOM: small, since there are many.

    Attributes
    ----------
    stat : Stat
        At that time.
    is_dicom : bool
    head : Instance or None
        Without name and place, so that all slices of a series share it; None if the header cannot be read.
    is_slice : bool
        Whether it belongs to a series, rather than being a study of its own, or none.
    place : Place
        Of the slice, if it was asked for.
    """

    stat: Stat
    is_dicom: bool
    head: Instance | None = None
    is_slice: bool = False
    place: Place = _NOWHERE


@dataclass
class Series:
    """The slices of one series.

    Attributes
    ----------
    series_id : str
        See `series_id`.
    slices : list of (str, Read)
        Path of each below the root.
    """

    series_id: str
    slices: list[tuple[str, Read]] = field(default_factory=list)


def read_dicom(
    folder: Folder,
    names: Iterable[str],
    before: Mapping[str, Read],
    shared: MutableMapping[Instance, Instance],
    *,
    with_places: bool,
) -> dict[str, Read]:
    """Read those of a folder's files that may be DICOM and have changed; files that vanished meanwhile are missing.

    Parameters
    ----------
    folder : Folder
    names : iterable of str
    before : mapping
        What the last call returned.
    shared : mutable mapping
        Heads that are alike, for one of each to be kept.
    with_places : bool
        Whether places of slices are wanted.
    """
    found: dict[str, Read] = {}
    kinds: dict[Instance, bool] = {}
    changed: list[str] = []
    for name in names:
        stat = folder.files[name]
        if name in before and before[name].stat == stat:
            found[name] = before[name]
        elif name.upper() != _INDEX and (
            ending_of(name) in dicom.DICOM_ENDINGS or dicom.may_be_dicom(folder.path / name)
        ):
            changed.append(name)
        else:
            found[name] = Read(stat, is_dicom=False)
    for name, instance in zip(changed, dicom.read_instances(folder.path / name for name in changed), strict=True):
        if instance is None:
            if (folder.path / name).exists():
                found[name] = Read(folder.files[name], is_dicom=True)
            continue
        head = replace(instance, name="", place=_NOWHERE)
        head = shared.setdefault(head, head)
        if head not in kinds:
            kinds[head] = is_slice(head)
        place = instance.place if with_places else _NOWHERE
        found[name] = Read(folder.files[name], True, head, kinds[head], place)
    return found


def group(tree: Iterable[tuple[str, Read]]) -> list[Series]:
    """Group slices by series, study and patient, wherever they lie; those without series UID by folder as well.

    Parameters
    ----------
    tree : iterable of (str, Read)
        Path below the root of each DICOM file, and what was read of it.

    Returns
    -------
    list of Series
        Slices sorted by path; of several paths to one file, the first.
    """
    found: dict[tuple[str, ...], Series] = {}
    seen: set[Stat] = set()
    for path, read in sorted(tree, key=lambda pair: pair[0]):
        if not read.is_slice or read.head is None or read.stat in seen:
            continue
        if read.stat.place[1]:  # not all file systems have inodes
            seen.add(read.stat)
        head, folder = read.head, path.rpartition("/")[0]
        key = (head.series_uid, head.study_uid, head.patient, "" if head.series_uid else folder)
        if key not in found:
            found[key] = Series(series_id(head, folder))
        found[key].slices.append((path, read))
    return list(found.values())


def studies_of_series(
    root: Path, found: Iterable[Series], before: Mapping[str, tuple[Study, Facts]], *, with_geometry: bool
) -> Iterator[tuple[Study, Facts]]:
    """Make a study of each series; `before` holds, by id, what came of the last call."""
    for series in found:
        paths, reads = zip(*series.slices, strict=True)
        heads = list({id(read.head): read.head for read in reads if read.head}.values())
        stamp, old = stamp_of(read.stat for read in reads), before.get(series.series_id)
        if old and old[0].stamp == stamp:
            facts = old[1]
        elif with_geometry:
            facts = facts_of_instances([replace(read.head, place=read.place) for read in reads if read.head])
        else:
            facts = facts_of_instances(heads)
        folder = lowest_folder(paths)
        study = Study(
            series.series_id,
            stamp,
            str(root / folder),
            _title(folder, heads[0]),
            tuple(path.removeprefix(f"{folder}/") for path in paths),
            facts.modality,
            facts.patient,
            folder,
        )
        yield study, facts


def studies_of_files(root: Path, files: Iterable[tuple[str, Read]]) -> Iterator[tuple[Study, Facts]]:
    """Make a study of each DICOM file that is no slice: of several frames, a projection, no image or damaged."""
    for path, read in files:
        if read.is_slice:
            continue
        facts = facts_of_instances([read.head]) if read.head else Facts()
        if _SERIES_ID.fullmatch(path):
            facts = replace(facts, no_study="its name could be the id of a DICOM series: rename it")
        folder, title = path.rpartition("/")[0], printable(path)
        stamp = stamp_of([read.stat])
        yield Study(path, stamp, str(root / path), title, (), facts.modality, facts.patient, folder), facts


def _title(folder: str, head: Instance) -> str:
    """Folder and description of a series; where it lies at the top, the description or its UID."""
    description = head.description.replace("/", "-").strip(". ")
    if folder:
        return printable(f"{folder}/{description}" if description else folder)
    return printable(description or head.series_uid or "a DICOM series")


def series_id(instance: Instance, folder: str) -> str:
    """Name the series of an instance.

    Its SeriesInstanceUID (`firstpick.sources.uids.plain_uid`), ``-`` and `firstpick.sources.uids.digits_of`. Without
    any series UID it is the folder that holds the slices, ``/.series-`` and the same digits: it depends on nothing
    beside, and no study's path, since hidden files are none.
    """
    digits = digits_of(instance)
    if not instance.series_uid:
        return f"{folder}/.series-{digits}".removeprefix("/")
    return f"{plain_uid(instance.series_uid)}-{digits}"


def lowest_folder(paths: Iterable[str]) -> str:
    """Lowest folder that holds all paths; empty for the root."""
    return posixpath.commonpath([path.rpartition("/")[0] or "." for path in paths])
