"""Where studies come from: a folder or a PACS, and their voxels from wherever they are."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Protocol

from firstpick.sources.connection import DicomWeb, is_address
from firstpick.sources.dicomweb import KnownFacts, Pacs
from firstpick.sources.eligibility import Eligibility, Facts
from firstpick.sources.fetching import Fetching, fetch_by, fetched, fetching
from firstpick.sources.folder import list_studies
from firstpick.sources.series import NO_RULE, SeriesRule
from firstpick.studies import LeftOut, Study
from firstpick.voxels.bounds import allow_gb
from firstpick.voxels.served import serve_file
from firstpick.voxels.volumes import Volume, read_volume


class Source(Protocol):
    """Lists studies; ``name`` begins a sentence about it, ``when_empty`` asks what has become of them."""

    name: str
    when_empty: str

    def look(self) -> tuple[list[Study], list[LeftOut]]:
        """List the studies, sorted by id, and what is left out; OSError, if that is not possible just now."""
        ...

    def still_there(self, studies: Collection[Study]) -> tuple[list[Study], list[LeftOut]]:
        """Return those of the last look's studies that are still there once their voxels were read, and the rest."""
        ...


class Folder:
    """The studies in a folder and all folders below it, see `list_studies`."""

    when_empty = "Is a disk not mounted?"

    def __init__(self, folder: Path, eligibility: Eligibility, series: SeriesRule = NO_RULE) -> None:
        self.name = f"The studies folder {folder}"
        self._folder = folder
        self._eligibility = eligibility
        self._series = series
        self._known: dict[str, Any] = {}
        self._left_out: list[LeftOut] = []

    def look(self) -> tuple[list[Study], list[LeftOut]]:
        """List the studies; headers of files that are as they were are not read again."""
        studies, self._left_out = list_studies(self._folder, self._eligibility, series=self._series, known=self._known)
        return studies, self._left_out

    def still_there(self, studies: Collection[Study]) -> tuple[list[Study], list[LeftOut]]:
        """Return those studies whose files have not vanished."""
        return [study for study in studies if Path(study.source).exists()], self._left_out


def open_source(
    studies: str | os.PathLike[str],
    eligibility: Eligibility,
    access: DicomWeb,
    known_facts: Callable[[], KnownFacts],
    series: SeriesRule = NO_RULE,
) -> Source:
    """Return the source that a folder or an address names.

    Raises
    ------
    ValueError
        If it is no address to be used.
    """
    if is_address(studies):
        return Pacs(str(studies), eligibility, access, known_facts, series)
    return Folder(Path(studies), eligibility, series)


def make_ready(max_study_gb: float, fetching: Fetching) -> None:
    """Set in a worker process, before all else, what it may read and how it fetches."""
    allow_gb(max_study_gb)
    fetch_by(fetching)


@contextlib.contextmanager
def at_hand(study: Study) -> Iterator[tuple[Study, Facts | None]]:
    """Yield a study with its files on this machine, and what its headers say if it was fetched for that."""
    if study.is_remote:
        with fetched(study) as found:
            yield found
    else:
        yield study, None


def keep_served(study: Study, volume: Volume) -> None:
    """Keep the file that readers open of a study that was fetched, if that is wanted here and there is room."""
    folder = fetching().served
    if study.is_remote and folder and _size(Path(folder)) < fetching().served_bytes:
        with contextlib.suppress(OSError):  # it is made again when somebody asks for it
            serve_file(study, Path(folder), read=lambda _: volume)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


def read_study(study: Study) -> Volume:
    """Read the voxels of a study, wherever it is; `SourceError` if they cannot be had just now."""
    with at_hand(study) as (here, _):
        return read_volume(here)


def serve_study(study: Study, folder: Path) -> Path:
    """Make sure that the file that readers open is there, wherever the study is; see `serve_file`."""
    return serve_file(study, folder, read=read_study)
