"""Run many small independent pieces of work, once each, whatever interrupts."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from firstpick.database import StoreError, explain_errors, open_database
from firstpick.workers import Executor, ProcessExpired

_TABLES = "create table if not exists cells (key text primary key, recipe text not null, result text not null);"


@dataclass(frozen=True)
class Cell:
    """One piece of work.

    Attributes
    ----------
    recipe : mapping
        Plain data: all that decides the result. Equal recipes are worked out once.
    function : callable
        A function of a module, without side effects, that gives plain data.
    arguments : callable
        Makes its arguments when they are needed, so that few of them are in memory at a time.
    """

    recipe: Mapping[str, Any]
    function: Callable[..., Any]
    arguments: Callable[[], tuple[Any, ...]]

    @property
    def key(self) -> str:
        """Hash of the recipe."""
        return hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode()).hexdigest()


class Cells:
    """Finished cells in one SQLite file; each is written whole or not at all.

    Raises
    ------
    StoreError
        If the folder cannot be used, another run is using it, or the file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "cells.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / "cells.lock", timeout=0)
            self._lock.acquire()
        except Timeout as error:
            msg = f"Another comparison is running in {folder}. Wait for it, or choose another --out."
            raise StoreError(msg) from error
        except OSError as error:
            msg = f"The folder {folder} cannot be used: {error.strerror}. Choose another --out."
            raise StoreError(msg) from error
        try:
            self._connection = open_database(self.path, tables=_TABLES, version=1, durable=False)
        except sqlite3.DatabaseError as error:
            self._lock.release()
            msg = f"{self.path} is damaged ({error}). Delete it to begin anew."
            raise StoreError(msg) from error

    def get(self, cell: Cell) -> Any:
        """Result of a finished cell, or None."""
        with explain_errors(self.path):
            row = self._connection.execute("select result from cells where key = ?", (cell.key,)).fetchone()
        return json.loads(row[0]) if row else None

    def put(self, cell: Cell, result: Any) -> None:
        """Keep a result."""
        row = (cell.key, json.dumps(cell.recipe, sort_keys=True), json.dumps(result))
        with explain_errors(self.path):
            self._connection.execute("insert or replace into cells values (?, ?, ?)", row)

    def close(self) -> None:
        """Close the file and let others use it."""
        self._connection.close()
        self._lock.release()


def complete(cells: Iterable[Cell], store: Cells, executor: Executor, *, n_waiting: int) -> Iterator[tuple[int, int]]:
    """Work out what is missing, and yield how many of how many are done.

    Parameters
    ----------
    cells : iterable of Cell
    store : Cells
    executor : Executor
    n_waiting : int
        Cells that may lie at the executor at a time.

    Yields
    ------
    (int, int)
        Done (now or earlier) and all; different cells only.

    Raises
    ------
    OSError
        If a worker process died.
    """
    wanted = {cell.key: cell for cell in cells}
    missing = [cell for cell in wanted.values() if store.get(cell) is None]
    n_done = len(wanted) - len(missing)
    yield n_done, len(wanted)
    todo = iter(missing)
    running: dict[Future[Any], Cell] = {}
    while True:
        for cell in islice(todo, n_waiting - len(running)):
            running[executor.submit(cell.function, *cell.arguments())] = cell
        if not running:
            return
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            store.put(running.pop(future), result_of(future))
            n_done += 1
        yield n_done, len(wanted)


def result_of(future: Future[Any]) -> Any:
    """Return what a worker made; OSError, with what to do, if its process died."""
    try:
        return future.result()
    except ProcessExpired as error:
        msg = (
            f"A worker process died (exit code {error.exitcode}), perhaps of too little memory. What was done is kept: "
            "start again, with fewer workers (--conf n_workers 1)."
        )
        raise OSError(msg) from error
