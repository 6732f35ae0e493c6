"""The log: one append-only SQLite table of events, replayed at the start; this is what is backed up."""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from firstpick.board.board import Board
from firstpick.board.events import Event, Renewed, Restored, from_text, to_text
from firstpick.database import StoreError, drop_journal, open_database, set_aside, transaction

logger = logging.getLogger(__name__)

LOG_VERSION = 2

_TABLES = """
create table if not exists events (
    id integer primary key, at real not null, tick real not null, kind text not null, facts text not null
);
create table if not exists renewed (
    study_id text primary key, at real not null, tick real not null, facts text not null
) without rowid;
"""

_EVENTS = "select at, tick, kind, facts from events order by id"
_RENEWED = "select at, tick, 'renewed', facts from renewed order by tick"


class Log:
    """Events in the order in which they were decided; each append is one transaction and one fsync.

    A renewed reservation overwrites the renewal before it, and does not wait for the disk: a power cut may undo it, a
    killed server does not. Batches that another replaced are dropped at the next start.
    A file that is missing, empty or corrupt is restored from its copy; where that is no better, nothing starts anew by
    itself.

    Parameters
    ----------
    folder : Path
        The state folder, on a local disk.
    has_labels : bool
        Whether labels lie there: without a log, they must have had one.

    Attributes
    ----------
    board : Board
        After all events.
    tick : float
        Seconds that servers have run on this log, as far as events tell.
    notice : str
        What an administrator should know; empty if nothing.

    Raises
    ------
    StoreError
        If the folder cannot be used, was written by another version, or what was decided is lost.
    """

    def __init__(self, folder: Path, *, has_labels: bool = False) -> None:
        self.path = folder / "decisions.sqlite"
        self._backup = folder / "decisions.backup.sqlite"
        self._is_backed_up = False  # what was decided before a kill is not in the copy
        for leftover in folder.glob("decisions.backup.partial*"):
            leftover.unlink()
        restored = self._restore(has_labels=has_labels)
        self._connection = self._open(self.path)
        self._compact()
        self.board, self.tick = self._replay()
        if restored is not None:
            self.append(Restored(at=time.time(), tick=self.tick, known_until=restored))
        self.notice = self._notice(is_restored=restored is not None)
        if self.notice:
            logger.warning("%s", self.notice)

    # -- open and restore

    def _restore(self, *, has_labels: bool) -> float | None:
        """Put the copy in the place of a file that is not usable; return until when decisions are known then."""
        if not check_log(self.path.parent, has_labels=has_labels):
            return None
        if self.path.exists():
            logger.warning("%s is damaged; it is kept as %s.", self.path, set_aside(self.path).name)
        drop_journal(self.path)
        with contextlib.closing(sqlite3.connect(self._backup)) as source:
            known_until = float(source.execute("select coalesce(max(at), 0) from events").fetchone()[0])
            _copy(source, self.path)
        return known_until

    def _notice(self, *, is_restored: bool) -> str:
        aside = ", ".join(sorted(path.name for path in self.path.parent.glob("decisions.corrupt-*")))
        if not is_restored and not (aside and self.board.known_until):
            return ""
        known = "nothing was decided by then"
        if self.board.known_until:
            known = "decisions are known up to "
            known += time.strftime("%Y-%m-%d %H:%M", time.localtime(self.board.known_until))
        look = f" Look at {aside}, then remove it." if aside else ""
        return (
            f"decisions.sqlite was damaged or missing and was restored from its copy: {known}; "
            f"labels on the disk that are newer count.{look}"
        )

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        return open_database(path, tables=_TABLES, version=LOG_VERSION, durable=True)

    def _compact(self) -> None:
        """Drop batches that another one replaced: mending writes one with every skip."""
        rows = self._connection.execute("select id, facts from events where kind = 'proposed' order by id")
        standing: dict[str, int] = {}
        superseded = []
        for number, facts in rows:
            strategy = json.loads(facts)["proposal"]["strategy"]
            if strategy in standing:
                superseded.append((standing[strategy],))
            standing[strategy] = number
        if superseded:
            with transaction(self._connection, self.path):
                self._connection.executemany("delete from events where id = ?", superseded)
            self._connection.execute("vacuum")

    def _replay(self) -> tuple[Board, float]:
        events = [from_text(*row) for query in (_EVENTS, _RENEWED) for row in self._connection.execute(query)]
        board = Board().replayed(events)
        return board, max((event.tick for event in events), default=0.0)

    # -- what the desk asks

    def append(self, *events: Event) -> Board:
        """Keep events that the board allows; return the board after them. StoreError if they could not be kept."""
        board = self.board.replayed(events)
        waits = not all(isinstance(event, Renewed) for event in events)
        self._connection.execute(f"pragma synchronous = {'full' if waits else 'normal'}")
        with transaction(self._connection, self.path):
            for event in events:
                row = (event.at, event.tick, to_text(event))
                if isinstance(event, Renewed):
                    key = event.study_id.encode("utf-8", "backslashreplace").decode()
                    self._connection.execute("insert or replace into renewed values (?, ?, ?, ?)", (key, *row))
                else:
                    self._connection.execute(
                        "insert into events (at, tick, facts, kind) values (?, ?, ?, ?)", (*row, event.kind)
                    )
        self.board, self._is_backed_up = board, False
        return board

    def history(self) -> Iterator[Event]:
        """Who did what when, oldest first."""
        with contextlib.closing(self._reading()) as connection:
            for row in connection.execute(_EVENTS):
                yield from_text(*row)

    def back_up(self) -> None:
        """Copy the file beside itself if anything changed since; what was decided stands even if that fails."""
        if self._is_backed_up:
            return
        self._is_backed_up = True
        try:
            with contextlib.closing(self._reading()) as source:
                _copy(source, self._backup)
        except (sqlite3.Error, OSError) as error:
            self._is_backed_up = False
            logger.warning("%s could not be written: %s", self._backup, error)

    def _reading(self) -> sqlite3.Connection:
        """Connect once more: what reads long holds up nobody who decides."""
        return sqlite3.connect(self.path, timeout=30)

    def close(self) -> None:
        """Copy what changed and close the file; the object cannot be used afterwards."""
        self.back_up()
        self._connection.close()


def check_log(folder: Path, *, has_labels: bool) -> bool:
    """Tell whether the log has to be restored from its copy; StoreError if what was decided is lost."""
    path, backup = folder / "decisions.sqlite", folder / "decisions.backup.sqlite"
    problem = _problem(path)
    if problem is None:
        return False
    copy = _problem(backup)
    if copy is None:
        return True
    if not has_labels and {problem, copy} <= {"missing", "empty"}:
        return False  # the first start, or one that was killed in its first moment
    msg = (
        f"What was decided is lost: {path} is {problem} and its copy {backup.name} is {copy}. Restore one of them from "
        "a backup; or begin anew with --new-state: labels are kept and count as done, both files are set aside."
    )
    raise StoreError(msg)


def read_log(folder: Path) -> tuple[Board, list[Event]]:
    """Read the board and the events of a state folder, oldest first, without changing anything.

    Where nothing was decided both are empty.

    Raises
    ------
    StoreError
        If what was decided is lost or has to be restored first, or another version wrote it.
    """
    path = folder / "decisions.sqlite"
    if check_log(folder, has_labels=False):
        msg = f"{path} is damaged or missing. Start the server once: it restores what was decided from its copy."
        raise StoreError(msg)
    if not path.exists():
        return Board(), []
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
        version = int(connection.execute("pragma user_version").fetchone()[0])
        if version == 0:  # nothing was written yet
            return Board(), []
        if version != LOG_VERSION:
            msg = f"{path} was written by another FirstPick (schema {version}; this one reads {LOG_VERSION})."
            raise StoreError(msg)
        events = [from_text(*row) for row in connection.execute(_EVENTS)]
        renewed = [from_text(*row) for row in connection.execute(_RENEWED)]
    return Board().replayed([*events, *renewed]), events


def new_state(folder: Path) -> None:
    """Set aside what was decided: the next start begins anew from the labels."""
    for path in (folder / "decisions.sqlite", folder / "decisions.backup.sqlite"):
        if path.exists():
            logger.warning("%s is kept as %s.", path, set_aside(path, "former").name)


def _problem(path: Path) -> str | None:
    """Say what is wrong with a database file in one word; None if it can be opened."""
    if not path.exists():
        return "missing"
    if not path.stat().st_size:
        return "empty"
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection:
            if connection.execute("pragma quick_check(1)").fetchone()[0] != "ok":
                return "corrupt"
            has_version = connection.execute("pragma user_version").fetchone()[0]
            return None if has_version else "empty"
    except sqlite3.OperationalError as error:
        msg = f"{path} cannot be opened: {error}. Choose another folder with --state or state_dir."
        raise StoreError(msg) from error
    except sqlite3.DatabaseError:
        return "corrupt"


def _copy(source: sqlite3.Connection, target: Path) -> None:
    """Copy a database by SQLite's own means, beside its place; then rename."""
    partial = target.with_name("decisions.backup.partial")
    with contextlib.closing(sqlite3.connect(partial)) as copy:
        source.backup(copy)
        copy.execute("pragma journal_mode = delete")
    partial.replace(target)
