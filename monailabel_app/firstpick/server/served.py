"""The files that readers open: the studies' own, or made of them in a worker; never in a request."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent import futures
from concurrent.futures import Future
from pathlib import Path

from fastapi import HTTPException

from firstpick.sources.connection import SourceError
from firstpick.sources.series import series_name
from firstpick.sources.source import serve_study
from firstpick.studies import Study
from firstpick.voxels.served import served_digest, served_path
from firstpick.voxels.volumes import VolumeError
from firstpick.workers import Executor, why_failed

logger = logging.getLogger(__name__)

_MADE_ENDINGS = (".nii.gz", ".nrrd")
_RETRY_AFTER_S = 2
_LEAST_PAUSE_S, _MOST_PAUSE_S = 2.0, 60.0  # while a source gives nothing
_KEPT_WHILE_SENT_S = 30.0
_KEPT_FOR_REPEAT_S = 600.0


class ServedFiles:
    """Knows from memory which file a reader opens; makes those that must be made, one after the other.

    What somebody asked for comes first, then what is wanted ahead. The folder is a cache: it may be emptied. Of a study
    of several series, each has a file of its own; where none is named, the primary's is meant.

    Parameters
    ----------
    folder : Path
        Where made files lie; nothing else may.
    limit_bytes : float
        The files not opened for the longest time go first; never a reserved study's, nor one that is being sent.
    executor : Executor
        Of processes.
    """

    def __init__(self, folder: Path, limit_bytes: float, executor: Executor) -> None:
        self.folder = folder
        self._limit_bytes = limit_bytes
        self._executor = executor
        self._lock = threading.RLock()
        self._studies: Mapping[str, Study] = {}
        self._of: Mapping[str, str] = {}  # of each primary the study
        self._endings: dict[tuple[str, str], str] = {}  # by study and stamp
        self._refused: dict[tuple[str, str], str] = {}
        self._trouble: dict[str, HTTPException] = {}
        self._asked: OrderedDict[str, Study] = OrderedDict()
        self._ahead: Sequence[str] = ()
        self._reserved: Collection[str] = ()
        self._no_room: set[Path] = set()
        self._kept_until: dict[Path, float] = {}
        self._used: dict[Path, float] = {}
        self._running: Study | None = None
        self._outage, self._n_outages, self._resume_at = "", 0, 0.0  # while a source gives nothing
        self._is_tidy = True
        self._are_all_own: bool | None = None

    # -- what the background thread says

    def take_listing(self, studies: Mapping[str, Study], endings: Mapping[tuple[str, str], str]) -> None:
        """Take over which studies there are, and how those that were read are served; drop what is out of date.

        `endings` go by id and stamp of each file or series, as `firstpick.embedding.cache.Cache.served` has them.
        """
        with self._lock:
            stamps = {_key(one) for study in studies.values() for one in study.members}
            self._refused = {key: why for key, why in self._refused.items() if key in stamps}
            known = {key: ending for key, ending in self._endings.items() if key in stamps}
            self._endings = known | dict(endings)
            self._are_all_own = None
            is_new = studies != self._studies
            self._studies = studies
            self._of = {study.primary.study_id: study_id for study_id, study in studies.items()}
            if is_new:
                self._is_tidy = False
                self._tidy()

    def take_wanted(self, ahead: Iterable[str], reserved: Collection[str]) -> None:
        """Take over for which studies files are made before anybody asks, the first first, and which must stay."""
        with self._lock:
            wanted = tuple(ahead)
            if wanted != self._ahead:
                self._no_room.clear()
            self._ahead, self._reserved = wanted, reserved
        self._make_next()

    # -- what requests ask

    def place(self, study_id: str, series: str = "") -> Path | None:
        """Where a study's file lies, or will lie; None while that is not known."""
        one = self._one(study_id, series)
        return None if one is None else self._place(one)

    def is_ready(self, study_id: str) -> bool:
        """Whether a study's file can be opened at once."""
        one = self._one(study_id)
        return one is not None and self._is_ready(one)

    def is_settled(self, study_id: str) -> bool:
        """Whether nothing more will be done for a study before somebody asks: it is there, or it cannot be now."""
        one = self._one(study_id)
        return bool(self._outage) or (one is not None and self._is_over(one))

    def is_own(self, study_id: str, series: str = "") -> bool:
        """Whether a study's own file is served, as it lies."""
        one = self._one(study_id, series)
        return one is not None and self._is_own(one)

    def are_all_own(self) -> bool:
        """Whether every study's own file is served, so that none is to be made."""
        if self._are_all_own is None:
            self._are_all_own = all(self._is_own(one) for study in self._studies.values() for one in study.members)
        return self._are_all_own

    def refusal(self, study_id: str) -> str:
        """Why a study cannot be opened as it is now; empty if it can, or nobody tried."""
        one = self._one(study_id)
        return "" if one is None else self._refused.get(_key(one), "")

    def refused(self) -> set[str]:
        """Studies that cannot be opened as they are now."""
        found = [(self._studies.get(self._of.get(i, "")), stamp) for i, stamp in [*self._refused]]
        return {study.study_id for study, stamp in found if study and study.primary.stamp == stamp}

    def ask(self, study_id: str, series: str = "") -> None:
        """Have a study's file made before those that are only wanted ahead."""
        with self._lock:
            one = self._one(study_id, series)
            if one is not None and not self._is_ready(one) and _key(one) not in self._refused:
                self._asked[one.study_id] = one
                if place := self._place(one):
                    self._kept_until[place] = time.monotonic() + _KEPT_FOR_REPEAT_S
        self._make_next()

    def open(self, study_id: str, series: str = "") -> Path:
        """Return the file of a listed study, or of one of its series.

        Raises
        ------
        HTTPException
            503 while it is being made or cannot be fetched, 422 if it cannot be, 507 if there is no room for it.
        """
        with self._lock:
            one = self._one(study_id, series) or self._studies[study_id].primary
            place = self._place(one)
            if place is not None and self._is_ready(one):
                if not self._is_own(one):
                    self._used[place] = time.time()
                    self._kept_until[place] = time.monotonic() + _KEPT_WHILE_SENT_S
                return Path(os.path.realpath(place))
            what = f"Series '{series}' of study '{study_id}'" if series else f"Study '{study_id}'"
            if why := self._refused.get(_key(one)):
                raise HTTPException(422, f"{what} cannot be opened: {why}")
            trouble = self._trouble.pop(one.study_id, None)
        self.ask(study_id, series)
        if trouble:
            raise trouble
        raise self.being_prepared(study_id)

    def being_prepared(self, study_id: str) -> HTTPException:
        """Say that a file comes soon; or why it cannot be had just now."""
        return _unavailable(f"Study '{study_id}' is being prepared.", self._outage)

    # -- inside

    def _one(self, study_id: str, series: str = "") -> Study | None:
        """Return the file or series that a study is opened by, or that is named; None if there is none."""
        return next((one for one in self._members(study_id) if series in ("", series_name(one))), None)

    def _is_ready(self, one: Study) -> bool:
        place = self._place(one)
        return place is not None and (self._is_own(one) or place.exists())

    def _is_over(self, one: Study) -> bool:
        cannot = _key(one) in self._refused or one.study_id in self._trouble or self._place(one) in self._no_room
        return cannot or self._is_ready(one)

    def _place(self, study: Study) -> Path | None:
        ending = self._endings.get(_key(study))
        return None if ending is None else served_path(study, ending, self.folder)

    def _is_own(self, study: Study) -> bool:
        return self._endings.get(_key(study)) == ""

    def _make_next(self) -> None:
        """Have the next file made, if none is being made."""
        with self._lock:
            study = None if self._running or time.monotonic() < self._resume_at else self._next()
            if study is None:
                return
            self._running = study
        try:
            self._executor.submit(serve_study, study, self.folder).add_done_callback(
                lambda made: self._take(study, made)
            )
        except BaseException:
            self._running = None
            raise

    def _next(self) -> Study | None:
        while self._asked:
            one = self._asked.popitem(last=False)[1]
            if not self._is_ready(one) and _key(one) not in self._refused:
                return one
        for study_id in self._ahead:
            for one in self._members(study_id):
                if not self._is_over(one):
                    return one
        return None

    def _members(self, study_id: str) -> tuple[Study, ...]:
        study = self._studies.get(study_id)
        return study.members if study else ()

    def _take(self, study: Study, made: Future[Path]) -> None:
        """Take over what a worker made, or why it could not."""
        with self._lock:
            self._running = None
            try:
                self._made(study, made.result())
                self._outage, self._n_outages = "", 0
            except SourceError as error:
                self._miss(study, error)
            except Exception as error:  # noqa: BLE001 - a worker may die of anything
                self._is_tidy = False  # a worker that was ended leaves what it was writing
                # a time-out is an OSError since Python 3.11, but no fault of the disk
                if isinstance(error, OSError) and not isinstance(error, futures.TimeoutError):
                    text = f"The file of study '{study.study_id}' cannot be made: {error.strerror or error}"
                    self._trouble[study.study_id] = HTTPException(507, text)
                    logger.warning("The file of study %s cannot be made: %s", study.study_id, error)
                else:
                    why = str(error) if isinstance(error, VolumeError) else why_failed(error, "Reading it")
                    self._refused[_key(study)] = why
                    logger.warning("Study %s cannot be opened: %s", study.study_id, why)
            self._tidy()
            self._trim()
        self._make_next()

    def _miss(self, study: Study, error: SourceError) -> None:
        """Ask a source again after a pause that grows; it is not the study's fault."""
        logger.warning("Study %s cannot be fetched: %s", study.study_id, error)
        if not error.is_down:  # others can be had
            self._trouble[study.study_id] = _unavailable(f"Study '{study.study_id}' cannot be fetched.", str(error))
            return
        self._outage = str(error)
        self._resume_at = time.monotonic() + min(_LEAST_PAUSE_S * 2**self._n_outages, _MOST_PAUSE_S)
        self._n_outages += 1

    def _made(self, study: Study, path: Path) -> None:
        made_as = {served_path(study, ending, self.folder): ending for ending in _MADE_ENDINGS}
        before, self._endings[_key(study)] = self._endings.get(_key(study)), made_as.get(path, "")
        self._are_all_own = None
        self._trouble.pop(study.study_id, None)
        if before is None:  # only now it is known where the file lies that somebody waits for
            self._kept_until[path] = time.monotonic() + _KEPT_FOR_REPEAT_S

    def _tidy(self) -> None:
        """Delete files of studies that changed or went, of former recipes, and what a killed worker left."""
        if self._is_tidy or self._running:
            return
        self._is_tidy = True
        files = self._files()
        ones = (one for study in self._studies.values() for one in study.members) if files else ()
        by_digest = {served_digest(one): one for one in ones}
        for path in files:
            one = by_digest.get(path.parent.name)
            if one is None or path not in {served_path(one, ending, self.folder) for ending in _MADE_ENDINGS}:
                self._drop(path)

    def _places(self, study_id: str) -> list[Path]:
        return [place for one in self._members(study_id) if (place := self._place(one))]

    def _drop(self, path: Path) -> None:
        """Delete a file, and the folders that it leaves empty."""
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty
            for folder in path.relative_to(self.folder).parents[:-1]:
                (self.folder / folder).rmdir()

    def _files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()] if self.folder.is_dir() else []

    def _trim(self) -> None:
        """Delete files until the rest keeps to the limit."""
        sizes = {path: stat.st_size for path in self._files() if (stat := _stat(path))}
        total = sum(sizes.values())
        if total <= self._limit_bytes:
            return
        now = time.monotonic()
        kept = {path for path, until in self._kept_until.items() if until > now}
        kept |= {place for study_id in self._reserved for place in self._places(study_id)}
        wanted = {place: -rank for rank, study_id in enumerate(self._ahead) for place in self._places(study_id)}

        def turn(path: Path) -> tuple[bool, float]:
            stat = _stat(path)
            last_used = self._used.get(path, stat.st_mtime if stat else 0.0)
            return (True, wanted[path]) if path in wanted else (False, last_used)

        for path in sorted(sizes.keys() - kept, key=turn):
            self._drop(path)
            total -= sizes[path]
            if path in wanted:
                self._no_room.add(path)
            if total <= self._limit_bytes:
                return
        logger.warning("The files of reserved studies alone take %.1f GB: raise served_gb.", total / 1e9)


def _unavailable(*sentences: str) -> HTTPException:
    text = " ".join(filter(None, (*sentences, "Ask again in a few seconds.")))
    return HTTPException(503, text, headers={"Retry-After": str(_RETRY_AFTER_S)})


def _key(study: Study) -> tuple[str, str]:
    return study.study_id, study.stamp


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
