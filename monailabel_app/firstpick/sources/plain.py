"""Files that are not DICOM: what their headers say, and which other files belong to them."""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from firstpick.sources.eligibility import Facts, facts_of_file
from firstpick.sources.heads import Head, read_head
from firstpick.sources.masks import is_mask_by_name
from firstpick.sources.names import bare, printable
from firstpick.sources.walk import Folder, Stat, lies_in, stamp_of
from firstpick.studies import Study
from firstpick.voxels.formats import DATA_ENDINGS, ending_of
from firstpick.voxels.itk import ITK_FORMATS
from firstpick.workers import Executor, LocalPool

_NO_FACTS = Facts()
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_HEADER_LIMIT_S = 60.0


class Plain(NamedTuple):
    """What was read of a file.

    Attributes
    ----------
    stat : Stat
        At that time.
    head : Head
    beside : tuple of str
        Files in its folder that by their names hold its voxels.
    stamp : str
        Of the file and of those that hold its voxels.
    facts : Facts or None
        None if they were not asked for.
    outside : str
        One of the files with its voxels that lies outside of the studies folder; empty if none does.
    """

    stat: Stat
    head: Head
    beside: tuple[str, ...]
    stamp: str
    facts: Facts | None = None
    outside: str = ""


def read_plain(
    folder: Folder, names: Iterable[str], before: Mapping[str, Plain], *, root: Path, follow_links: bool
) -> dict[str, Plain]:
    """Read the heads of those of a folder's files that have changed.

    Parameters
    ----------
    folder : Folder
    names : iterable of str
    before : mapping
        What the last call returned.
    root : Path
        The studies folder.
    follow_links : bool
        Whether links may lead out of it.

    Returns
    -------
    dict
        By path below the root; without facts, but for those that were known.
    """
    found: dict[str, Plain] = {}
    by_lower = {name.lower(): name for name in (*folder.odd, *folder.files)}
    for name in names:
        path, stat, ending = folder.below(name), folder.files[name], ending_of(name)
        old = before.get(path)
        if old and old.stat == stat and not old.head.voxels_in and ending not in DATA_ENDINGS:
            found[path] = old  # nothing else belongs to it
            continue
        head = old.head if old and old.stat == stat else read_head(folder.path / name, ending)
        pair = ((name[: -len(ending)] + other).lower() for other in DATA_ENDINGS.get(ending, ()))
        beside = tuple(by_lower[other] for other in pair if other in by_lower)
        voxels_in = (*head.voxels_in, *beside)
        outside = next((name for name in voxels_in if _is_outside(name, folder, root, follow_links=follow_links)), "")
        stamp = stamp_of([stat, *_stats_of(folder, () if outside else voxels_in)])
        found[path] = Plain(stat, head, beside, stamp, old.facts if old and old.stamp == stamp else None, outside)
    return found


def _is_outside(name: str, folder: Folder, root: Path, *, follow_links: bool) -> bool:
    """Whether a file that is named in a folder lies outside of the studies folder, by its path or by a link."""
    if name in folder.files:
        return False
    path = os.path.normpath(folder.path / name)
    return not lies_in(path, str(root)) or not (follow_links or lies_in(os.path.realpath(path), os.path.realpath(root)))


def with_facts(root: Path, files: Mapping[str, Plain], executor: Executor | None) -> dict[str, Plain]:
    """Read the headers of those files whose facts are missing; in another process, where native code parses them."""
    missing = [path for path, plain in files.items() if plain.facts is None]
    others = [path for path in missing if ending_of(path) in ITK_FORMATS]
    found = {path: facts_of_file(root / path) for path in {*missing}.difference(others)}
    with contextlib.ExitStack() as stack:
        if others and executor is None:
            executor = stack.enter_context(LocalPool(n_workers=1, time_limit_s=_HEADER_LIMIT_S))
        futures = {path: executor.submit(facts_of_file, root / path) for path in others} if executor else {}
        for path, future in futures.items():
            try:
                found[path] = future.result()
            except Exception:  # noqa: BLE001  a file that ends its worker has no facts; whoever reads its voxels says so
                found[path] = _NO_FACTS
    told = {path: files[path]._replace(facts=found.get(path, _NO_FACTS)) for path in missing}
    return {path: told.get(path, plain) for path, plain in files.items()}


def studies_of(
    root: Path, files: Mapping[str, Plain], before: Mapping[str, tuple[Plain, Study, Facts]] = _NOTHING
) -> Iterator[tuple[Plain, Study, Facts]]:
    """Make a study of each file; `before` holds, by path, what came of the last call."""
    for path, plain in files.items():
        old = before.get(path)
        if old and old[0] == plain:
            yield old
            continue
        facts = plain.facts or _NO_FACTS
        folder, _, name = path.rpartition("/")
        if is_mask_by_name(bare(name)):
            facts = replace(facts, mask="a mask by its name, not a study")
        elif plain.head.is_mask:
            facts = replace(facts, mask="a mask by its header, not a study")
        if plain.outside:
            where = f"its voxels lie outside of the studies folder ({printable(plain.outside)}): they are not read"
            facts = replace(facts, no_study=where)
        yield plain, Study(path, plain.stamp, str(root / path), printable(path), folder=folder), facts


def voxels_in(root: Path, files: Mapping[str, Plain]) -> set[str]:
    """Collect the files that hold the voxels of others, as paths below the root."""
    found = set()
    for path, plain in files.items():
        for name in (*plain.head.voxels_in, *plain.beside):
            absolute = os.path.normpath(root / posixpath.dirname(path) / name)
            found.add(os.path.relpath(absolute, root).replace(os.sep, "/"))
    return found


def _stats_of(folder: Folder, names: Iterable[str]) -> Iterator[Stat]:
    for name in names:
        if name in folder.files:
            yield folder.files[name]
            continue
        with contextlib.suppress(OSError, ValueError):  # it is missing, which whoever reads the voxels will say
            stat = (folder.path / name).stat()
            yield Stat(stat.st_size, stat.st_mtime_ns, (stat.st_dev, stat.st_ino))
