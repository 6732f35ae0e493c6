"""The label files on the disk: where they lie, whose they are, and what the board has to be told of them."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from firstpick.board.board import OPEN, Board
from firstpick.board.events import FINAL, READING, Event, Labelled, Named, SavedLabel, Unlabelled, reader_of_tag
from firstpick.database import StoreError
from firstpick.server.filing import copy_durably, flush_folder, rename_durably
from firstpick.sources.label_files import first_free, is_label, match_labels, spelled, split_label
from firstpick.studies import Study
from firstpick.voxels.labels import checksum

logger = logging.getLogger(__name__)

VERSIONS = "versions"
_NO_TAGS = (VERSIONS, "lost+found")
_MARK = ".firstpick"


class LabelFolder:
    """Label files as ``<tag>/<name><ending>``, earlier final ones as ``versions/<name>/<number>-<time><ending>``.

    A hidden file marks the folder: an empty mount point in its place is told from one whose files were deleted.

    Parameters
    ----------
    root : Path
    n_versions : int
        Earlier final labels that are kept of a study.
    is_new : bool
        Whether nothing was ever decided: then the folder may be made.

    Attributes
    ----------
    unmatched : list of str
        Label files that are nobody's, or could be several studies', as ``tag/path``.
    """

    def __init__(self, root: Path, *, n_versions: int, is_new: bool) -> None:
        self._root = root
        self._n_versions = n_versions
        self.unmatched: list[str] = []
        self._same: dict[Path, str] = {}  # stamps of files that hold what the board knows under another stamp
        if is_new or not root.parent.exists():
            root.mkdir(parents=True, exist_ok=True)
            (root / _MARK).touch()

    def check(self) -> None:
        """Raise StoreError if the folder is not the one that labels were written to."""
        if not (self._root / _MARK).exists():
            msg = (
                f"{self._root} is not the folder that labels were written to: its hidden file {_MARK} is missing. "
                "Is a disk not mounted? No label is taken or given up meanwhile. "
                "If you restored the folder yourself, put an empty file of that name there."
            )
            raise StoreError(msg)

    def path(self, tag: str, file: str) -> Path:
        """Return where a label file lies or will lie."""
        return Path(self._root, tag, file)

    def name_for(self, study: Study, board: Board) -> str:
        """Return the name of a study's label files; one that it has, it keeps."""
        if study.study_id in board.names:
            return board.names[study.study_id]
        taken = {spelled(name) for name in board.names.values()}
        taken |= {spelled(split_label(file.split("/", 1)[1])[0]) for file in self.unmatched}
        return first_free(study, taken)

    def files_of(self, name: str, tag: str) -> list[Path]:
        """List a study's label files under a tag, in whatever formats."""
        place = self.path(tag, name)
        if not name or not place.parent.is_dir():
            return []
        beside = (path for path in place.parent.iterdir() if is_label(path.name))
        return [path for path in beside if split_label(path.name)[0] == place.name]

    def versions(self, name: str) -> dict[int, Path]:
        """Return the earlier final labels of a study, by number."""
        folder = self._root / VERSIONS / name
        if not name or not folder.is_dir():
            return {}
        return {_number(path): path for path in folder.iterdir() if path.is_file() and _number(path)}

    # -- filing

    @contextlib.contextmanager
    def filed(self, checked: Path, tag: str, name: str) -> Iterator[SavedLabel]:
        """Put a file that is on the disk in its place; what was there is put back if the block fails.

        An earlier final label stays as a version.
        """
        self.check()
        target = self.path(tag, f"{name}{split_label(checked.name)[1]}")
        before = self.files_of(name, tag)  # also in other formats
        kept: list[tuple[Path, Path]] = []
        try:
            kept.extend((path, self._keep(path, name)) for path in before)
            rename_durably(checked, target)
            os.utime(target)  # finer than the clock of the file system
            for path in before:
                if path != target:  # it would come back when this one is deleted
                    path.unlink()
            yield SavedLabel(split_label(target.name)[1], stamp_of(target))
        except BaseException:
            for path, version in kept:
                if path.exists() and path.samefile(version):
                    version.unlink()
                else:
                    rename_durably(version, path)  # onto the new one: a label is there at any moment
            if target not in before:
                target.unlink(missing_ok=True)
            raise
        self._trim(name, [version for _, version in kept], is_final=tag == FINAL)

    def _keep(self, path: Path, name: str) -> Path:
        """Give a file a second name among the versions."""
        folder = self._root / VERSIONS / name
        folder.mkdir(parents=True, exist_ok=True)
        number = max((_number(version) for version in folder.iterdir()), default=0) + 1
        version = folder / f"{number:06d}-{time.strftime('%Y%m%dT%H%M%S')}{split_label(path.name)[1]}"
        try:
            version.hardlink_to(path)
        except OSError:  # not every file system has links
            copy_durably(path, version)
        flush_folder(folder)
        return version

    def _trim(self, name: str, versions: list[Path], *, is_final: bool) -> None:
        """Drop the oldest versions; of a label that is not final none is kept."""
        for version in versions if not is_final else []:
            version.unlink(missing_ok=True)
        folder = self._root / VERSIONS / name
        files = sorted((path for path in folder.glob("*") if path.is_file()), key=_number)
        for path in files[: max(0, len(files) - self._n_versions)]:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty, or not there
            folder.rmdir()

    def delete(self, name: str, tag: str) -> None:
        """Delete a study's label under a tag; a final one stays as a version."""
        self.check()
        for path in self.files_of(name, tag):
            versions = [self._keep(path, name)]
            path.unlink(missing_ok=True)
            self._trim(name, versions, is_final=tag == FINAL)

    # -- looking

    def find(self) -> dict[str, dict[str, SavedLabel]]:
        """Look what is on the disk: for each tag the newest file of each name. An error if nothing can be told."""
        self.check()
        found: dict[str, dict[str, SavedLabel]] = {}
        for folder in (entry for entry in self._root.iterdir() if entry.is_dir()):
            if folder.name in _NO_TAGS or folder.name.startswith("."):
                continue
            for mtime_ns, path, stamp in sorted(_label_files(folder)):
                name, ending = split_label(path.relative_to(folder).as_posix())
                label = SavedLabel(ending, stamp, {"ts": mtime_ns // 10**9})
                found.setdefault(folder.name, {})[name] = label
        self.check()  # or the disk went meanwhile
        return found

    def events(self, board: Board, studies: Iterable[Study]) -> list[Event]:
        """Tell what the board does not know: files that came, changed or went without a request, and whose they are."""
        found, studies = self.find(), list(studies)
        events: list[Event] = [Named(study_id=i, name=name) for i, name in self._owners(found, board, studies).items()]
        names = {**board.names, **{event.study_id: event.name for event in events if isinstance(event, Named)}}
        for study_id, name in names.items():
            known = board.statuses.get(study_id, OPEN).labels
            here = {tag: files[name] for tag, files in found.items() if name in files}
            events += [Unlabelled(study_id=study_id, tag=tag) for tag in known.keys() - here.keys()]
            for tag, label in here.items():
                if tag not in known or self._has_changed(known[tag], label, self.path(tag, f"{name}{label.ending}")):
                    events.append(_found(study_id, tag, label, known.get(tag)))
        return events

    def _has_changed(self, known: SavedLabel, here: SavedLabel, path: Path) -> bool:
        """Tell whether a file is another one than the board knows; one that was only copied back is not."""
        if known.ending == here.ending and here.stamp in (known.stamp, self._same.get(path)):
            return False
        if not known.checksum or known.ending != here.ending:
            return True
        is_same = known.checksum == checksum(path)
        if is_same:
            self._same[path] = here.stamp
        return not is_same

    def still_holds(self, event: Event, board: Board) -> bool:
        """Tell whether what `events` found is still so, for whoever has kept others from filing since."""
        known = board.statuses.get(event.study_id, OPEN).labels
        match event:
            case Labelled(tag=tag, label=label):
                path = self.path(tag, f"{board.names.get(event.study_id, '')}{label.ending}")
                is_known = tag in known and not self._has_changed(known[tag], label, path)
                return stamp_of(path) == label.stamp and not is_known
            case Unlabelled(tag=tag):
                self.check()
                return tag in known and not self.files_of(board.names.get(event.study_id, ""), tag)
            case Named(name=name):
                taken = {spelled(other) for other in board.names.values()}
                return event.study_id not in board.names and spelled(name) not in taken
            case _:
                return True

    def _owners(
        self, found: Mapping[str, Mapping[str, SavedLabel]], board: Board, studies: list[Study]
    ) -> Mapping[str, str]:
        """Find whose the files are that have no owner yet."""
        orphans = {name for files in found.values() for name in files} - set(board.names.values())
        if not studies:
            return {}
        matched = match_labels(orphans, studies) if orphans else {}
        new = {study_id: name for study_id, name in matched.items() if study_id not in board.names}
        orphans -= set(new.values())
        files = ((f"{tag}/{name}{label.ending}", name) for tag, some in found.items() for name, label in some.items())
        unmatched = sorted(file for file, name in files if name in orphans)
        if unmatched != self.unmatched:
            logger.warning("%d label files belong to no study, such as %s.", len(unmatched), unmatched[:1])
        self.unmatched = unmatched
        return new


def _found(study_id: str, tag: str, label: SavedLabel, known: SavedLabel | None) -> Labelled:
    """Tell of a file that came or changed; a reading is its reader's whoever put it there."""
    reader = ""
    if tag.startswith(READING):
        reader = str(known.info.get("client_id") or "") if known else reader_of_tag(tag)
        label = replace(label, info={**label.info, "client_id": reader})
    return Labelled(study_id=study_id, tag=tag, client=reader, label=label)


def _label_files(folder: Path) -> Iterator[tuple[int, Path, str]]:
    """Yield modification times, paths and stamps of the labels in a folder; an error if it cannot be looked through."""
    for place, _, names in os.walk(folder, onerror=_raise):
        for path in (Path(place, name) for name in names if is_label(name)):
            with contextlib.suppress(FileNotFoundError):  # gone just now
                stat = path.stat()
                yield stat.st_mtime_ns, path, _stamp(stat)


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def stamp_of(path: Path) -> str:
    """Size and modification time of a file; empty if it is gone."""
    try:
        return _stamp(path.stat())
    except OSError:
        return ""


def _stamp(stat: os.stat_result) -> str:
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def _number(version: Path) -> int:
    """Which version of a label it is; clocks do not tell, they jump."""
    number = version.name.partition("-")[0]
    return int(number) if number.isdecimal() else 0


def copy_labels(studies_dir: Path, folder: Path) -> None:
    """Take over labels that lay in the studies folder before FirstPick (``labels/<tag>/``), at the first start.

    Copies, not links: MONAI Label overwrites and deletes label files.
    """
    target, partial = folder / "labels", folder / "labels.partial"
    shutil.rmtree(partial, ignore_errors=True)
    if target.exists() or not (studies_dir / "labels" / FINAL).is_dir():
        return
    shutil.copytree(studies_dir / "labels", partial)
    partial.rename(target)
