"""Worker processes: a time limit for each task, and a crash ends one task only."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from pebble import ProcessPool


class Executor(Protocol):
    """Where chunks run: a `LocalPool`, or a Dask client's executor."""

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Run ``function(*args)`` somewhere and return its future."""
        ...


class LocalPool:
    """Worker processes on this machine with a time limit per task.

    Parameters
    ----------
    n_workers : int
        0 for one for each core.
    time_limit_s : float
        A task that takes longer is ended together with its process.
    background : bool
        Run at low priority, beside a server.
    """

    def __init__(self, *, n_workers: int = 0, time_limit_s: float = 300.0, background: bool = False) -> None:
        n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = n_workers or n_cores
        _make_importable()
        self.time_limit_s = time_limit_s
        self._pool = ProcessPool(
            max_workers=workers,
            initializer=_start_worker,
            initargs=(max(1, n_cores // workers), background),
            context=multiprocessing.get_context("spawn"),
        )

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Run ``function(*args)`` in a worker and return its future."""
        future: Future[Any] = self._pool.schedule(function, args=args, timeout=self.time_limit_s)
        return future

    def __enter__(self) -> LocalPool:  # noqa: PYI034 - Self came with Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()


def _make_importable() -> None:
    """Let workers import this package where it is not installed.

    MONAI Label takes the app folder off ``sys.path`` once ``main.py`` has run; a spawned process gets
    its parent's path.
    """
    folder = str(Path(__file__).parents[1])
    if folder not in sys.path:
        sys.path.append(folder)


def _start_worker(n_threads: int, background: bool) -> None:  # noqa: FBT001 - pebble passes by position
    """Prepare a worker: threads, priority, and an end together with its parent."""
    os.environ["OMP_NUM_THREADS"] = str(n_threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if background and hasattr(os, "nice"):
        os.nice(10)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
