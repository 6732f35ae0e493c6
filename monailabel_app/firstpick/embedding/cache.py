"""What was read and embedded, in one SQLite file that can always be made again."""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from firstpick.database import OutdatedError, explain_errors, keep_private, open_database, set_aside, transaction
from firstpick.embedding.series import pool_series, same_grid
from firstpick.sources.eligibility import Facts
from firstpick.studies import LeftOut, Pool, Sample, Slice, Study

logger = logging.getLogger(__name__)

_FACTS = TypeAdapter(Facts)

CACHE_VERSION = 2
_CACHE_TABLES = """
create table if not exists embeddings (
    fingerprint text, study_id text, stamp text, vector blob not null,
    primary key (fingerprint, study_id, stamp)
) without rowid;
create table if not exists slices (
    fingerprint text, study_id text, stamp text, slices text not null,
    primary key (fingerprint, study_id, stamp)
) without rowid;
create table if not exists failures (
    fingerprint text, study_id text, stamp text, reason text not null, at real not null,
    primary key (fingerprint, study_id, stamp)
) without rowid;
create table if not exists pictures (
    study_id text primary key, stamp text not null, thumbnail blob not null, notes text not null, served text not null
) without rowid;
create index if not exists served_as on pictures (study_id, stamp, served);
create index if not exists noted on pictures (study_id, notes) where notes != '';
create table if not exists grids (
    study_id text primary key, stamp text not null, grid text not null
) without rowid;
create table if not exists facts (
    study_id text primary key, stamp text not null, facts text not null
) without rowid;
"""


@dataclass(frozen=True)
class Embedded:
    """What a worker made of one study.

    Attributes
    ----------
    study : Study
    vectors : ndarray of shape (n_samples, dim), float32
        One row for the whole study, or one for each of ``slices``.
    slices : tuple of Slice
        Sorted, unique; empty for the whole study.
    thumbnail : bytes
        PNG.
    notes : tuple of str
        What was done to the data while reading.
    served : str
        Ending of the file that readers open, see `firstpick.voxels.served.served_ending`.
    grid : str
        Where its voxels lie, see `firstpick.embedding.series.grid_text`.
    """

    study: Study
    vectors: NDArray[np.float32]
    slices: tuple[Slice, ...]
    thumbnail: bytes
    notes: tuple[str, ...]
    served: str
    grid: str = ""


class Cache:
    """Embeddings, thumbnails and failures; rebuilds itself when corrupt or of an older version.

    Of a study of several series, each is kept as if it were a study, under its own id: whatever makes them one, none is
    embedded twice. Embeddings are keyed by fingerprint, study and stamp: a changed recipe or file is a new key, so
    nothing is ever invalidated. Used from several threads of one process; other processes may read
    and write the same file.

    Raises
    ------
    StoreError
        If the folder cannot be used, or was written by a newer version.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "cache.sqlite"
        self._lock = threading.Lock()
        self._failed_now: defaultdict[str, set[tuple[object, ...]]] = defaultdict(set)
        keep_private(folder)
        try:
            self._connection = self._open()
        except OutdatedError as error:
            aside = set_aside(self.path, "outdated")
            text = "%s was written by an older FirstPick (schema %d): kept aside as %s and built anew."
            logger.warning(text, self.path, error.found, aside.name)
            self._connection = self._open()
        except sqlite3.DatabaseError as error:
            logger.warning("%s is corrupt (%s): kept aside as *.corrupt and built anew.", self.path, error)
            set_aside(self.path)
            self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        return open_database(self.path, tables=_CACHE_TABLES, version=CACHE_VERSION, durable=False)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, transaction(self._connection, self.path):
            yield self._connection

    def _rows(self, query: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with self._lock, explain_errors(self.path):
            return self._connection.execute(query, parameters).fetchall()

    def put(self, fingerprint: str, results: Iterable[Embedded]) -> None:
        """Store what workers made, all or nothing."""
        with self._transaction() as connection:
            for item in results:
                key = (fingerprint, item.study.study_id, item.study.stamp)
                vectors = np.ascontiguousarray(item.vectors, dtype="<f4").tobytes()
                connection.execute("insert or replace into embeddings values (?, ?, ?, ?)", (*key, vectors))
                if item.slices:
                    slices = json.dumps([astuple(where) for where in item.slices])
                    connection.execute("insert or replace into slices values (?, ?, ?, ?)", (*key, slices))
                connection.execute("delete from failures where fingerprint = ? and study_id = ? and stamp = ?", key)
                connection.execute(
                    "insert or replace into pictures values (?, ?, ?, ?, ?)",
                    (item.study.study_id, item.study.stamp, item.thumbnail, "\n".join(item.notes), item.served),
                )
                grid = (item.study.study_id, item.study.stamp, item.grid)
                connection.execute("insert or replace into grids values (?, ?, ?)", grid)

    def put_failure(self, fingerprint: str, study: Study, reason: str) -> None:
        """Remember that a study could not be embedded, and why."""
        with self._transaction() as connection:
            connection.execute(
                "insert or replace into failures values (?, ?, ?, ?, ?)",
                (fingerprint, study.study_id, study.stamp, reason, time.time()),
            )
        self._failed_now[fingerprint].add((study.study_id, study.stamp))

    def put_facts(self, found: Iterable[tuple[Study, Facts]]) -> None:
        """Store what headers said of studies that were fetched."""
        with self._transaction() as connection:
            for study, facts in found:
                row = (study.study_id, study.stamp, _FACTS.dump_json(facts).decode())
                connection.execute("insert or replace into facts values (?, ?, ?)", row)

    def facts(self) -> dict[tuple[str, str], Facts]:
        """What headers said, by study and stamp, of studies that were fetched."""
        rows = self._rows("select study_id, stamp, facts from facts")
        return {(str(row[0]), str(row[1])): _FACTS.validate_json(str(row[2])) for row in rows}

    def missing(self, fingerprint: str, studies: Iterable[Study], *, retry_failed: bool = False) -> list[Study]:
        """Studies that still have to be embedded, in the order given; of those of several series, the series.

        ``retry_failed`` asks for those too that failed before this cache was opened: once in every process.
        """
        query = "select study_id, stamp from embeddings where fingerprint = ?"
        embedded = set(self._rows(query, (fingerprint,)))
        if retry_failed:
            failed = self._failed_now[fingerprint]
        else:
            failed = set(self._rows(query.replace("embeddings", "failures"), (fingerprint,)))
        gridded = set(self._rows("select study_id, stamp from grids"))  # by which series are compared
        return [
            one
            for study in studies
            for one in study.members
            if _key(one) not in failed and not (_key(one) in embedded and (not study.series or _key(one) in gridded))
        ]

    def _reasons(self, fingerprint: str) -> dict[tuple[object, ...], str]:
        query = "select study_id, stamp, reason from failures where fingerprint = ?"
        return {row[:2]: str(row[2]) for row in self._rows(query, (fingerprint,))}

    def failures(self, fingerprint: str, studies: Iterable[Study]) -> list[LeftOut]:
        """Studies that could not be embedded as they are now, with the reason; of several series, by the primary."""
        reasons = self._reasons(fingerprint)
        return [
            LeftOut(study.study_id, reasons[_key(study.primary)], study.title)
            for study in studies
            if _key(study.primary) in reasons
        ]

    def odd_series(self, fingerprint: str, studies: Iterable[Study]) -> dict[str, dict[str, str]]:
        """What is wrong with series of studies of several, by study and name: not readable, or on another grid."""
        studies = [study for study in studies if study.series]
        if not studies:
            return {}
        reasons = self._reasons(fingerprint)
        grids = {row[:2]: str(row[2]) for row in self._rows("select study_id, stamp, grid from grids")}
        found: dict[str, dict[str, str]] = {}
        for study in studies:
            own = grids.get(_key(study.primary), "")
            for one in study.series:
                if _key(one) in reasons:
                    found.setdefault(study.study_id, {})[one.name] = f"cannot be read: {reasons[_key(one)]}"
                elif not same_grid(own, grids.get(_key(one), "")):
                    found.setdefault(study.study_id, {})[one.name] = f"has another grid than {study.primary.name}"
        return found

    def pool(self, fingerprint: str, studies: Iterable[Study], *, series_pool: str = "join") -> Pool:
        """Embeddings of those studies that have one, sorted by study and slice.

        Parameters
        ----------
        fingerprint : str
        studies : iterable of Study
            One of several series has an embedding once its primary has and the others have one or have failed.
        series_pool : {'join', 'mean'}
            How those of its series become one, see `firstpick.embedding.series.pool_series`. Slices are the primary's.
        """
        embedded = set(self._rows("select study_id, stamp from embeddings where fingerprint = ?", (fingerprint,)))
        rows = self._rows("select study_id, stamp, slices from slices where fingerprint = ?", (fingerprint,))
        slices = {row[:2]: str(row[2]) for row in rows}
        failed = self._reasons(fingerprint)
        found = sorted(
            study
            for study in studies
            if _key(study.primary) in embedded
            and all(_key(one) in embedded or _key(one) in failed for one in study.series)
        )
        if not found:
            return Pool((), np.empty((0, 0), dtype=np.float32))
        samples_of = [_samples(study, slices.get(_key(study.primary))) for study in found]
        samples = tuple(sample for own in samples_of for sample in own)
        if not slices and any(study.series for study in found):
            vectors = {key: _row(blob) for key, blob in self._vectors(fingerprint)}
            each = [
                {one.name.casefold(): vectors[_key(one)] for one in study.members if _key(one) in vectors}
                for study in found
            ]
            return Pool(samples, pool_series(each, series_pool))
        ends = np.cumsum([len(own) for own in samples_of]).tolist()
        place = {
            _key(study.primary): slice(end - len(own), end)
            for study, own, end in zip(found, samples_of, ends, strict=True)
        }
        return Pool(samples, _gathered(self._vectors(fingerprint), place, len(samples)))

    def _vectors(self, fingerprint: str) -> Iterator[tuple[tuple[str, str], bytes]]:
        """Yield study, stamp and vectors of all that is embedded, one by one."""
        query = "select study_id, stamp, vector from embeddings where fingerprint = ?"
        with self._lock, explain_errors(self.path):
            for study_id, stamp, blob in self._connection.execute(query, (fingerprint,)):
                yield (study_id, stamp), blob

    def thumbnail(self, study: Study) -> bytes | None:
        """PNG of a study, of several series of the primary; or None."""
        rows = self._rows("select thumbnail from pictures where study_id = ?", (study.primary.study_id,))
        return rows[0][0] if rows else None  # type: ignore[return-value]

    def served(self, studies: Iterable[Study]) -> dict[tuple[str, str], str]:
        """Endings of the files that readers open, by id and stamp of each series that was read as it is now."""
        endings = {row[:2]: str(row[2]) for row in self._rows("select study_id, stamp, served from pictures")}
        keys = (_key(one) for study in studies for one in study.members)
        return {key: endings[key] for key in keys if key in endings}

    def notes(self, studies: Iterable[Study]) -> dict[str, tuple[str, ...]]:
        """What was done to the data while reading, for the studies where something was."""
        rows = self._rows("select study_id, notes from pictures where notes != ''")
        of = {str(row[0]): tuple(str(row[1]).split("\n")) for row in rows}
        found = {
            study.study_id: tuple(
                f"{one.name}: {note}" if study.series else note
                for one in study.members
                for note in of.get(one.study_id, ())
            )
            for study in studies
        }
        return {study_id: notes for study_id, notes in found.items() if notes}

    def close(self) -> None:
        """Close the file; the object cannot be used afterwards."""
        with self._lock:
            self._connection.close()


def _key(study: Study) -> tuple[str, str]:
    return study.study_id, study.stamp


def _row(blob: bytes) -> NDArray[np.float32]:
    return np.frombuffer(blob, dtype="<f4").astype(np.float32)


def _gathered(
    vectors: Iterable[tuple[tuple[str, str], bytes]], place: Mapping[tuple[str, str], slice], n_rows: int
) -> NDArray[np.float32]:
    """Read vectors straight into one array, each to its place; those without a place are passed over."""
    rows: NDArray[np.float32] | None = None
    for key, blob in vectors:
        if key in place:
            where = place[key]
            own = np.frombuffer(blob, dtype="<f4").reshape(where.stop - where.start, -1)
            rows = np.empty((n_rows, own.shape[1]), np.float32) if rows is None else rows
            rows[where] = own
    return np.empty((0, 0), np.float32) if rows is None else rows


def _samples(study: Study, slices: str | None) -> list[Sample]:
    """Return what the rows of one study stand for."""
    if slices is None:
        return [Sample(study.study_id)]
    return [Sample(study.study_id, Slice(*where)) for where in json.loads(slices)]
