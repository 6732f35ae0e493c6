"""The files of a series in a PACS, fetched by WADO into a folder of this machine while they are read."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from firstpick.sources.connection import DicomWeb, SourceError, connected, is_uid
from firstpick.sources.eligibility import Facts, facts_of_instances, is_slice
from firstpick.sources.group import series_id
from firstpick.studies import Study
from firstpick.voxels import dicom
from firstpick.voxels.bounds import limit_bytes
from firstpick.voxels.stored import VolumeError

_ASKING_BYTES = 1e8
_MOST_FILES = 20_000


@dataclass(frozen=True)
class Fetching:
    """What a process that fetches must know.

    Attributes
    ----------
    access : DicomWeb
    folder : str
        Where files lie while they are read; private.
    limit_s : float
        For all files of one series.
    served : str
        Folder of the files that readers open, where those of all studies are kept that are fetched; empty for nowhere.
    served_bytes : float
        From which size of that folder on no more are.
    """

    access: DicomWeb = DicomWeb()
    folder: str = ""
    limit_s: float = 150.0
    served: str = ""
    served_bytes: float = 0.0


_fetching = Fetching()  # of this process


def fetch_by(settings: Fetching) -> None:
    """Set how this process fetches, from now on."""
    global _fetching  # noqa: PLW0603 - a setting of the process, as its limits
    _fetching = settings


def fetching() -> Fetching:
    """How this process fetches."""
    return _fetching


@contextlib.contextmanager
def fetched(study: Study) -> Iterator[tuple[Study, Facts]]:
    """Yield a study of a PACS with its files in a folder of this machine, and what they say; they are gone then.

    Raises
    ------
    SourceError
        If they cannot be had just now.
    VolumeError
        If they are too many or too large, or no study.
    """
    with _private_folder() as folder:
        place = folder / (study.source.rpartition("/")[2] or "series")
        try:
            place.mkdir()
            _fetch(study, place)
        except SourceError as error:
            error.is_down = error.is_down and is_down(study)
            raise
        except OSError as error:
            msg = f"Files of the PACS cannot be written to {folder}: {error.strerror or error}."
            raise SourceError(msg) from None
        yield _arranged(study, place)


def _fetch(study: Study, place: Path) -> None:
    """Write all files of a series into a folder, one after the other as they arrive."""
    address, uids = split_source(study.source)
    with (
        connected(address, fetching().access, limit_s=fetching().limit_s, limit_bytes=limit_bytes()) as client,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # pydicom warns of each value that breaks the standard, and quotes it
        as_stored = (("application/dicom", "*"),)  # not unpacked: the files are a folder's
        n_files = 0
        for n_files, dataset in enumerate(client.iter_series(*uids, media_types=as_stored), start=1):
            if n_files > _MOST_FILES:
                msg = f"Its series has more than {_MOST_FILES} files."
                raise VolumeError(msg)
            uid = str(dataset.get("SOPInstanceUID", ""))
            name = uid if is_uid(uid) else f"{n_files:05d}"
            dataset.save_as(place / f"{name}.dcm")
    n_listed = int(study.stamp.partition("-")[0])
    if n_files < n_listed:
        msg = f"The PACS at {address} sent {n_files} of the {n_listed} files of a series."
        raise SourceError(msg, is_down=False)


def _arranged(study: Study, place: Path) -> tuple[Study, Facts]:
    """Tell which of the files are the study, just as in a folder: the slices, or the only picture."""
    files = sorted(path.name for path in place.iterdir())
    read = dicom.read_instances(place / name for name in files)
    own = [(name, one) for name, one in zip(files, read, strict=True) if one and series_id(one, "") == study.study_id]
    if not own:
        msg = "The PACS sent no file of this series, patient and visit."
        raise VolumeError(msg)
    slices = [(name, one) for name, one in own if is_slice(one)]
    local = replace(study, source=str(place), folder="")
    if slices:
        names = tuple(name for name, _ in slices)
        return replace(local, files=names), facts_of_instances([one for _, one in slices])
    facts = facts_of_instances([one for _, one in own])
    if len(own) > 1 and not facts.no_study:
        facts = replace(facts, no_study=f"a series of {len(own)} pictures or films: of a PACS only one is read")
    return replace(local, source=str(place / own[0][0])), facts


def split_source(source: str) -> tuple[str, tuple[str, str]]:
    """Take the address of a series apart: of the PACS, and study and series UID."""
    address, _, rest = source.rpartition("/studies/")
    study_uid, _, series_uid = rest.partition("/series/")
    return address, (study_uid, series_uid)


def ask(address: str) -> Any:
    """Begin a conversation with small answers."""
    return connected(address, fetching().access, limit_s=fetching().limit_s, limit_bytes=_ASKING_BYTES)


def is_down(study: Study) -> bool:
    """Whether the PACS does not answer a small question either."""
    address, _ = split_source(study.source)
    limit_s = fetching().limit_s / 4  # or a worker's time would be over, and the study blamed
    try:
        with connected(address, fetching().access, limit_s=limit_s, limit_bytes=_ASKING_BYTES) as client:
            client.search_for_series(limit=1)
    except (SourceError, VolumeError):
        return True
    return False


@contextlib.contextmanager
def _private_folder() -> Iterator[Path]:
    """Yield a folder of this process alone; those of processes that were ended are deleted."""
    root = Path(fetching().folder or tempfile.gettempdir(), "fetched")
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in root.iterdir():
        number = folder.name.partition("-")[0]
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{os.getpid()}-", dir=root, ignore_cleanup_errors=True) as own:
        yield Path(own)
