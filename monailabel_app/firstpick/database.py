"""SQLite files: opened, checked, written in transactions; what goes wrong is said in one sentence."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)

_FOLDER, _FILE, _OTHERS = 0o700, 0o600, 0o077
_FILES_OF_OURS = (
    "*.sqlite*",
    "*.partial*",
    "*.corrupt-*",
    "*.outdated-*",
    "embedding.lock",
    "server.lock",
    "server.txt",
    "demo.log",
)
_FOLDERS_OF_OURS = ("app", "datastore", "fetched", "served")


class StoreError(Exception):
    """State cannot be read or written; the text says which folder, why and what to do."""


class LockedError(StoreError):
    """Another process has the folder."""


class OutdatedError(StoreError):
    """A file has the tables of an older version; only what can be made again may be set aside for that."""

    def __init__(self, path: Path, found: int, version: int) -> None:
        super().__init__(
            f"{path} was written by an older FirstPick (schema {found}; this one writes {version}). "
            "Choose another folder with --state, or take the FirstPick that wrote it."
        )
        self.found = found


def open_database(path: Path, *, tables: str, version: int, durable: bool) -> sqlite3.Connection:
    """Open or create one SQLite file in WAL mode.

    Parameters
    ----------
    path : Path
    tables : str
        ``create table if not exists`` statements.
    version : int
        Schema number; kept in the file's ``user_version``.
    durable : bool
        Whether each commit is forced to the disk.

    Raises
    ------
    StoreError
        If the file was written by a newer version, or its folder cannot be written; `OutdatedError` if it was
        written by an older one.
    sqlite3.DatabaseError
        If the file is not a database.
    """
    try:
        path.parent.mkdir(mode=_FOLDER, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, _FILE))  # SQLite gives its journals the same rights
        connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    except (sqlite3.OperationalError, OSError) as error:
        raise _unusable(path.parent, error) from error
    try:
        _prepare(connection, path, tables=tables, version=version, durable=durable)
    except BaseException:
        connection.close()
        raise
    return connection


def _unusable(folder: Path, error: Exception) -> StoreError:
    return StoreError(f"The state folder {folder} cannot be used: {error}. Choose another with --state or state_dir.")


def _prepare(connection: sqlite3.Connection, path: Path, *, tables: str, version: int, durable: bool) -> None:
    """Check a file that may be of any origin, and bring it up to date."""
    with explain_errors(path):
        found = int(connection.execute("pragma user_version").fetchone()[0])
        if found > version:
            msg = (
                f"{path} was written by a newer FirstPick (schema {found}; this one knows {version}). "
                "Upgrade FirstPick, or choose another folder with --state."
            )
            raise StoreError(msg)
        if 0 < found < version:  # 0: a new file
            raise OutdatedError(path, found, version)
        problem = connection.execute("pragma quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise sqlite3.DatabaseError(problem)
        connection.execute("pragma journal_mode = wal")
        connection.execute(f"pragma synchronous = {'full' if durable else 'normal'}")
        connection.executescript(tables)
        connection.execute(f"pragma user_version = {version}")


_locks: dict[Path, FileLock] = {}  # a lock is given up with its object


def lock_folder(folder: Path, who: str) -> None:
    """Keep a state folder for this process until it ends, and say there who has it; what it writes is its owner's.

    Raises
    ------
    LockedError
        If another process has it; the text says who.
    """
    lock = _locks.setdefault(folder, FileLock(folder / "server.lock", timeout=0, mode=_FILE, thread_local=False))
    holder = folder / "server.txt"
    try:
        folder.mkdir(mode=_FOLDER, parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        held = holder.read_text(encoding="utf-8") if holder.exists() else "another process"
        msg = f"The state folder {folder} is in use by {held}. Stop it first, or choose another folder with --state."
        raise LockedError(msg) from error
    except OSError as error:
        raise _unusable(folder, error) from error
    os.umask(_OTHERS)  # all that this process writes is its owner's alone
    holder.write_text(who, encoding="utf-8")
    for leftover in folder.glob(".copy-*/copy.sqlite*"):  # of versions that copied the log, and were killed
        leftover.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it holds more
            leftover.parent.rmdir()


def keep_private(folder: Path) -> None:
    """Make a state folder, and narrow the rights of what is ours in it to its owner.

    A folder that holds other things as well keeps its own rights, and so do those.
    """
    try:
        folder.mkdir(mode=_FOLDER, parents=True, exist_ok=True)
        files = {path for name in _FILES_OF_OURS for path in folder.glob(name)}
        folders = {folder / name for name in _FOLDERS_OF_OURS if files and (folder / name).is_dir()}
        strange = sorted(path.name for path in {*folder.iterdir()} - files - folders if path.name[0] != ".")
        if strange:
            text = "The state folder %s holds other things too, such as %s: give the state a folder of its own."
            logger.warning(text, folder, strange[0])
        below = [path for inner in folders if not inner.is_symlink() for path in inner.rglob("*")]
        n_narrowed = sum(_narrow(path) for path in (*files, *folders, *below, *([] if strange else [folder])))
    except OSError as error:
        raise _unusable(folder, error) from error
    if n_narrowed:
        text = "Others could see into the state folder %s: their rights to %d files and folders were taken away."
        logger.warning(text, folder, n_narrowed)


def _narrow(path: Path) -> bool:
    """Take a file's or a folder's rights from everyone but its owner, if others have any."""
    with contextlib.suppress(FileNotFoundError):  # gone meanwhile
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode) and mode & _OTHERS:
            path.chmod(stat.S_IMODE(mode) & ~_OTHERS)
            return True
    return False


@contextlib.contextmanager
def explain_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors about a full or read-only disk into one sentence."""
    try:
        yield
    except sqlite3.OperationalError as error:
        free = shutil.disk_usage(path.parent).free // 2**20 if path.parent.exists() else 0
        msg = f"The state in {path.parent} cannot be written: {error} ({free} MB free). Nothing done so far is lost."
        raise StoreError(msg) from error


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Write all of a block or nothing, before any other process writes."""
    with explain_errors(path):
        connection.execute("begin immediate")
        try:
            yield
            connection.execute("commit")
        except BaseException:
            if connection.in_transaction:  # SQLite itself rolls back on a full disk
                connection.execute("rollback")
            raise


def set_aside(path: Path, why: str = "corrupt") -> Path:
    """Rename a database that is corrupt or outdated (and drop its journal) so that nothing is deleted for good."""
    aside = path.with_suffix(f".{why}-{time.time_ns()}")
    path.rename(aside)
    drop_journal(path)
    return aside


def drop_journal(path: Path) -> None:
    """Delete the journal of a database that is gone: SQLite would apply it to the next one of that name."""
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
