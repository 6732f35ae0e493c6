"""What people decided: statuses, reservations, skips and proposals, in a small file that is backed up."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstpick.database import explain_errors, open_database, set_aside, transaction
from firstpick.proposal import LivePick, LiveProposal, Proposal
from firstpick.studies import Slice

logger = logging.getLogger(__name__)

DECISIONS_VERSION = 1
RESERVED_SECONDS = 30 * 60.0
"""How long a study stays reserved without a heartbeat."""

_TABLES = """
create table if not exists statuses (
    study_id text primary key, status text not null, client text not null, reason text not null,
    since real not null, until real not null, reopened_at real not null
) without rowid;
create table if not exists events (
    id integer primary key, at real not null, study_id text not null, kind text not null,
    client text not null, detail text not null
);
create table if not exists proposals (
    id integer primary key, at real not null, strategy text not null, client text not null, proposal text not null
);
create table if not exists slices (
    study_id text primary key, slices text not null
) without rowid;
create table if not exists label_names (
    study_id text primary key, name text not null unique
) without rowid;
create index if not exists standing on proposals (strategy, id);
"""


class ConflictError(Exception):
    """Somebody else was faster; the text says who holds the study, ``status`` is where it stands."""

    def __init__(self, study_id: str, status: Status) -> None:
        super().__init__(held_by(study_id, status))
        self.status = status


@dataclass(frozen=True)
class Status:
    """Where a study stands.

    Attributes
    ----------
    status : {'open', 'reserved', 'done', 'skipped'}
    client : str
        Who reserved, finished or skipped it.
    reason : str
        Why it was skipped.
    since, until : float
        Seconds since the epoch; ``until`` is 0 unless reserved.
    reopened_at : float
        When a done study was last reopened: a label counts only if it is newer. 0 for never.
    """

    status: str = "open"
    client: str = ""
    reason: str = ""
    since: float = 0.0
    until: float = 0.0
    reopened_at: float = 0.0


OPEN = Status()


class Decisions:
    """Statuses of studies and standing proposals; each change is one durable transaction.

    After every change the file is copied to ``decisions.backup.sqlite``; a corrupt file is kept aside
    and the copy takes its place.

    Parameters
    ----------
    folder : Path
        The state folder, on a local disk.

    Attributes
    ----------
    notice : str
        What an administrator should know, until the corrupt file is removed; else empty.

    Raises
    ------
    StoreError
        If the folder cannot be used, or was written by a newer version.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "decisions.sqlite"
        self._backup = folder / "decisions.backup.sqlite"
        self._lock = threading.Lock()
        try:
            self._connection = self._open()
        except sqlite3.DatabaseError as error:
            logger.warning("%s is corrupt: %s", self.path, error)
            self._connection = self._restore()
        aside = ", ".join(sorted(path.name for path in folder.glob("decisions.corrupt-*")))
        restored = f"decisions.sqlite was corrupt and was restored from its copy. Look at {aside}, then remove it."
        self.notice = restored if aside else ""

    def _restore(self) -> sqlite3.Connection:
        """Put the copy in the place of the corrupt file; begin anew if there is none, or it is corrupt too."""
        set_aside(self.path)
        try:
            if self._backup.exists():
                shutil.copyfile(self._backup, self.path)
            return self._open()
        except sqlite3.DatabaseError as error:
            logger.warning("Its copy is corrupt too (%s): statuses begin anew from the labels.", error)
            set_aside(self.path)
            return self._open()

    def _open(self) -> sqlite3.Connection:
        return open_database(self.path, tables=_TABLES, version=DECISIONS_VERSION, durable=True)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            with transaction(self._connection, self.path):
                yield self._connection
            self._copy()

    def _copy(self) -> None:
        """Copy the file beside itself; the decision stands even if that fails."""
        try:
            with tempfile.TemporaryDirectory(dir=self.path.parent, prefix=".copy-") as folder:
                partial = Path(folder, "copy.sqlite")
                with contextlib.closing(sqlite3.connect(partial)) as copy:
                    self._connection.backup(copy)
                partial.replace(self._backup)
        except (sqlite3.Error, OSError) as error:
            logger.warning("%s could not be written: %s", self._backup, error)

    def _rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self._lock, explain_errors(self.path):
            return self._connection.execute(query, parameters).fetchall()

    # -- statuses

    def statuses(self) -> dict[str, Status]:
        """Every study that anything was ever decided about; all others are open."""
        now = time.time()
        rows = self._rows("select * from statuses")
        return {row[0]: _as_of(Status(*row[1:]), now) for row in rows}

    def status(self, study_id: str) -> Status:
        """Where one study stands."""
        with self._lock, explain_errors(self.path):
            return _read(self._connection, study_id)

    def reserve(self, study_id: str, client: str) -> Status:
        """Reserve a study for a client, or renew the client's own reservation.

        Raises
        ------
        ConflictError
            If it is done, skipped, or reserved by someone else.
        """
        with self._transaction() as connection:
            status = _read(connection, study_id)
            if status.status != "open" and (status.status, status.client) != ("reserved", client):
                raise ConflictError(study_id, status)
            return _reserve(connection, study_id, client, status)

    def reserve_first(self, study_ids: Iterable[str], client: str) -> str | None:
        """Reserve the first open study of a ranked list; None if none is open."""
        with self._transaction() as connection:
            for study_id in study_ids:
                status = _read(connection, study_id)
                if status.status == "open":
                    _reserve(connection, study_id, client, status)
                    return study_id
        return None

    def heartbeat(self, study_id: str, client: str) -> Status:
        """Renew a reservation; one that ran out is taken again if nobody else came.

        Raises
        ------
        ConflictError
            If the study is no longer this client's; the text says whose it is.
        """
        return self.reserve(study_id, client)

    def release(self, study_id: str, client: str) -> Status:
        """Give back a reserved study; ConflictError if it is someone else's."""
        with self._transaction() as connection:
            status = _read(connection, study_id)
            if status.status != "reserved":
                return status
            if status.client != client:
                raise ConflictError(study_id, status)
            return _write(connection, study_id, "released", client, Status(reopened_at=status.reopened_at))

    def skip(self, study_id: str, client: str, reason: str) -> Status:
        """Take a study out for everyone; ConflictError if it is done or reserved by someone else."""
        with self._transaction() as connection:
            status = _read(connection, study_id)
            if status.status == "done" or (status.status == "reserved" and status.client != client):
                raise ConflictError(study_id, status)
            skipped = Status("skipped", client, reason, time.time(), 0.0, status.reopened_at)
            return _write(connection, study_id, "skipped", client, skipped, reason)

    def unskip(self, study_id: str, client: str) -> Status:
        """Undo a skip."""
        with self._transaction() as connection:
            status = _read(connection, study_id)
            if status.status != "skipped":
                return status
            return _write(connection, study_id, "unskipped", client, Status(reopened_at=status.reopened_at))

    def mark_done(self, annotators: Mapping[str, str]) -> None:
        """Close studies: whoever uploads a label (``annotators[study_id]``) closes it, whoever held it."""
        if not annotators:
            return
        now = time.time()
        with self._transaction() as connection:
            for study_id, client in annotators.items():
                before = _read(connection, study_id)
                if before.status != "done":
                    done = Status("done", client, "", now, 0.0, before.reopened_at)
                    _write(connection, study_id, "done", client, done)

    def reopen(self, study_id: str, client: str, *, detail: str = "") -> Status:
        """Open a done study again; only a newer label closes it."""
        with self._transaction() as connection:
            status = _read(connection, study_id)
            if status.status != "done":
                return status
            return _write(connection, study_id, "reopened", client, Status(reopened_at=time.time()), detail)

    def events(self) -> list[dict[str, str | float]]:
        """Who did what when, oldest first."""
        rows = self._rows("select at, study_id, kind, client, detail from events order by id")
        return [dict(zip(("at", "study_id", "kind", "client", "detail"), row, strict=True)) for row in rows]

    # -- names of label files

    def label_names(self) -> dict[str, str]:
        """Return the name of each study's label files: given once, kept for ever, whatever studies come or go."""
        return {str(row[0]): str(row[1]) for row in self._rows("select study_id, name from label_names")}

    def name_labels(self, names: Mapping[str, str]) -> None:
        """Give studies names for their label files; one that has a name keeps it."""
        with self._transaction() as connection:
            connection.executemany("insert or ignore into label_names values (?, ?)", names.items())

    # -- proposals

    def put_proposal(self, strategy: str, proposal: Mapping[str, Any], client: str) -> None:
        """Make this the standing proposal of its strategy; earlier ones are kept for the record."""
        slices = [(pick["study_id"], json.dumps(pick["slices"])) for pick in proposal["picks"] if pick.get("slices")]
        with self._transaction() as connection:
            connection.execute(
                "insert into proposals (at, strategy, client, proposal) values (?, ?, ?, ?)",
                (time.time(), strategy, client, json.dumps(proposal)),
            )
            connection.executemany("insert or replace into slices values (?, ?)", slices)

    def annotated(self) -> dict[str, tuple[Slice, ...]]:
        """Return the slices of done studies that were annotated: those last proposed; all of them, where none were."""
        done = [study_id for study_id, status in self.statuses().items() if status.status == "done"]
        slices = dict(self._rows("select study_id, slices from slices"))
        return {i: tuple(Slice(**where) for where in json.loads(slices.get(i, "[]"))) for i in done}

    def strategies(self) -> list[str]:
        """Return the strategies that have a standing proposal."""
        return [str(row[0]) for row in self._rows("select distinct strategy from proposals order by strategy")]

    def proposal(self, strategy: str) -> dict[str, Any] | None:
        """Return the standing proposal of a strategy as JSON, or None."""
        rows = self._rows("select proposal from proposals where strategy = ? order by id desc limit 1", strategy)
        return json.loads(rows[0][0]) if rows else None

    def close(self) -> None:
        """Close the file; the object cannot be used afterwards."""
        with self._lock:
            self._connection.close()


def with_statuses(proposal: Proposal, statuses: Mapping[str, Status]) -> LiveProposal:
    """Return a proposal with the live status of each pick's study."""
    picks = []
    for pick in proposal.picks:
        status = statuses.get(pick.study_id, OPEN)
        picks.append(LivePick(**vars(pick), status=status.status, client=status.client, until=status.until))
    return LiveProposal(**{**vars(proposal), "picks": tuple(picks)})


def with_newer_label(labelled_at: Mapping[str, float], statuses: Mapping[str, Status]) -> set[str]:
    """Return the studies whose final label is newer than their last reopening: those are done."""
    return {study_id for study_id, at in labelled_at.items() if at > statuses.get(study_id, OPEN).reopened_at}


def held_by(title: str, status: Status) -> str:
    """Say who holds a study, as a sentence."""
    if status.status == "reserved":
        until = time.strftime("%H:%M", time.localtime(status.until))
        return f"Study '{title}' is in progress by {status.client} until {until}."
    return f"Study '{title}' was {status.status} by {status.client or 'somebody before'}."


def _as_of(status: Status, now: float) -> Status:
    """Open again once a reservation has run out."""
    expired = status.status == "reserved" and status.until <= now
    return Status(reopened_at=status.reopened_at) if expired else status


def _read(connection: sqlite3.Connection, study_id: str) -> Status:
    row = connection.execute("select * from statuses where study_id = ?", (study_id,)).fetchone()
    return _as_of(Status(*row[1:]), time.time()) if row else OPEN


def _reserve(connection: sqlite3.Connection, study_id: str, client: str, before: Status) -> Status:
    now = time.time()
    renewed = before.status == "reserved"
    since = before.since if renewed else now
    status = Status("reserved", client, "", since, now + RESERVED_SECONDS, before.reopened_at)
    return _write(connection, study_id, "" if renewed else "reserved", client, status)


def _write(
    connection: sqlite3.Connection, study_id: str, kind: str, client: str, status: Status, detail: str = ""
) -> Status:
    """Write a status, with an event unless ``kind`` is empty."""
    connection.execute(
        "insert or replace into statuses values (?, ?, ?, ?, ?, ?, ?)",
        (study_id, status.status, status.client, status.reason, status.since, status.until, status.reopened_at),
    )
    if kind:
        connection.execute(
            "insert into events (at, study_id, kind, client, detail) values (?, ?, ?, ?, ?)",
            (time.time(), study_id, kind, client, detail),
        )
    return status
