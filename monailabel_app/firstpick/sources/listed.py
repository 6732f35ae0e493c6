"""Studies that another program lists: it says which files there are and what they are called."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from firstpick.sources.eligibility import Eligibility, why_left_out
from firstpick.sources.names import printable
from firstpick.sources.plain import Plain, read_plain, studies_of, with_facts
from firstpick.sources.walk import Folder, Stat, lies_in, shown
from firstpick.studies import LeftOut, Study
from firstpick.voxels.formats import ENDINGS, ending_of

Listing = tuple[str | os.PathLike[str], Mapping[str, str]]
"""A folder, and the absolute path of each study's file, by its id."""


class Listed:
    """Files that another program lists, under its own ids; nothing outside of its folder is read.

    Parameters
    ----------
    name : str
        Of the program, as the begin of a sentence.
    listing : callable
        Asks the program.
    eligibility : Eligibility
    """

    when_empty = "Is a disk not mounted?"

    def __init__(self, name: str, listing: Callable[[], Listing], eligibility: Eligibility) -> None:
        self.name = name
        self._listing = listing
        self._eligibility = eligibility
        self._known: dict[str, Plain] = {}
        self._left_out: list[LeftOut] = []

    def look(self) -> tuple[list[Study], list[LeftOut]]:
        """List the studies; headers of files that are as they were are not read again."""
        folder, paths = self._listing()
        root = Path(os.path.realpath(folder))
        os.stat(root)  # noqa: PTH116 - an OSError says what is wrong with it
        ids, left_out = self._readable(root, paths)
        self._known = self._read(root, ids)
        studies = []
        for _, found, facts in studies_of(root, self._known):
            path = os.path.normpath(found.source)
            study_id = ids[path]
            study = replace(found, study_id=study_id, source=path, title=printable(study_id))
            if reason := why_left_out(study, facts, self._eligibility):
                left_out[study_id] = reason
            else:
                studies.append(study)
        gone = set(ids.values()).difference(left_out, (study.study_id for study in studies))
        left_out |= dict.fromkeys(gone, "its file does not exist")
        self._left_out = [LeftOut(study_id, left_out[study_id], printable(study_id)) for study_id in sorted(left_out)]
        return sorted(studies), self._left_out

    def still_there(self, studies: Collection[Study]) -> tuple[list[Study], list[LeftOut]]:
        """Return those studies whose files have not vanished."""
        return [study for study in studies if Path(study.source).exists()], self._left_out

    def _readable(self, root: Path, paths: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        """Sort out what is not read: ids by the path of their file, and reasons by id."""
        ids: dict[str, str] = {}
        left_out = {}
        for study_id, given in sorted(paths.items()):
            path = given and os.path.normpath(given)
            if reason := self._why_not(root, path):
                left_out[shown(study_id)] = reason
            elif (other := ids.setdefault(path, study_id)) != study_id:
                left_out[study_id] = f"its file is that of {printable(other)}"
        return ids, left_out

    def _why_not(self, root: Path, path: str) -> str:
        ending = ending_of(Path(path).name)
        if not path:
            return "no file is given of it"
        if shown(path) != path:
            return "its name is not UTF-8: rename it"
        if Path(path).is_dir():
            return "a folder, not a file"
        if ending not in ENDINGS:
            return f"files ending in {ending} are not read" if ending else "its file has no ending that is known"
        if not self._eligibility.follow_links and not lies_in(os.path.realpath(path), str(root)):
            return "its file lies outside of the folder: it is not read, unless eligible.follow_links is true"
        return ""

    def _read(self, root: Path, paths: Iterable[str]) -> dict[str, Plain]:
        """Read the heads of files that have changed, by path below the root."""
        by_folder: defaultdict[str, list[str]] = defaultdict(list)
        for path in paths:
            folder, name = os.path.split(path)
            by_folder[folder].append(name)
        found: dict[str, Plain] = {}
        follow_links = self._eligibility.follow_links
        for folder, names in by_folder.items():
            here = _looked_into(Path(folder), root)
            there = [name for name in names if name in here.files]
            found |= read_plain(here, there, self._known, root=root, follow_links=follow_links)
        return with_facts(root, found, None) if self._eligibility.needs_geometry else found


def _looked_into(path: Path, root: Path) -> Folder:
    """Look what lies in one folder."""
    relative = os.path.relpath(path, root).replace(os.sep, "/")
    folder = Folder(path, "" if relative == "." else relative)
    with contextlib.suppress(FileNotFoundError), os.scandir(path) as entries:
        for entry in entries:
            if entry.is_file():
                stat = entry.stat()
                folder.files[entry.name] = Stat(stat.st_size, stat.st_mtime_ns, (stat.st_dev, stat.st_ino))
    return folder
