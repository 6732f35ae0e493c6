"""Worker processes: a limit on the time of each task and on memory, and a crash ends one task only.

Each process belongs to one thread of this one, which hands it a task and waits. So a process is started only where
there is a task for it, a dead one is known by its own pipe, and what a process must do before its tasks has a clock of
its own.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from firstpick.memory import machine_bytes, resident_bytes

_LOOK_S = 0.1  # between two looks at the memory of a process, in which it takes a few hundred MB at most
_SPAWN = multiprocessing.get_context("spawn")

Call = tuple[Any, ...]
"""A function and its arguments."""


class Executor(Protocol):
    """Where tasks run: a `LocalPool`, or any executor of Python's own kind."""

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Run ``function(*args)`` somewhere and return its future."""
        ...


class ProcessExpired(Exception):  # noqa: N818 - what happened, as with TimeoutError
    """A worker process ended in the middle of a task; ``exitcode`` is negative for a signal."""

    def __init__(self, exitcode: int | None) -> None:
        super().__init__(exitcode)  # as it is: so it can be sent to another process
        self.exitcode = exitcode

    def __str__(self) -> str:
        return f"the process ended with exit code {self.exitcode}"


class MemoryLimitError(ProcessExpired):
    """A worker process took more memory than it may, and was ended."""

    def __init__(self, n_bytes: int) -> None:
        super().__init__(None)
        self.args = (n_bytes,)
        self.limit = f"{n_bytes / 1e9:.2g} GB"

    def __str__(self) -> str:
        return f"the process had more than {self.limit} of memory and was ended"


class WorkersLostError(Exception):
    """Two workers of a cluster were lost with a task, one after the other."""


class NotReadyError(Exception):
    """What a worker must do before its tasks went wrong; the cause says how."""


def why_failed(error: BaseException, doing: str) -> str:
    """Say in a sentence why a task on a file gave nothing; `doing` begins it.

    >>> why_failed(ProcessExpired(-9), "Reading it")
    'Reading it ended the process (exit code -9): the file is broken, or memory ran out.'
    """
    if isinstance(error, futures.TimeoutError):
        return f"{doing} took longer than the time limit."
    if isinstance(error, MemoryLimitError):
        return (
            f"{doing} took more than {error.limit} of memory, which is all that a worker may have. "
            "Raise worker_memory_gb if the machine has more."
        )
    if isinstance(error, ProcessExpired):
        return f"{doing} ended the process (exit code {error.exitcode}): the file is broken, or memory ran out."
    if isinstance(error, WorkersLostError):
        return f"{doing} ended two workers of the cluster: the file is broken, or memory ran out."
    return f"{doing} failed ({type(error).__name__}: {error})."


class _RemoteError(Exception):
    """The traceback of an error in a worker, as text."""


@dataclass(frozen=True)
class _Task:
    call: Call
    first: Call = ()
    is_slow: bool = False
    future: Future[Any] = field(default_factory=Future)


def n_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LocalPool:
    """Worker processes on this machine with limits on their time and memory.

    Parameters
    ----------
    n_workers : int
        0 for one for each core.
    time_limit_s : float
        A task that takes longer is ended together with its process.
    start_limit_s : float
        The same for what is done once, before tasks: see `submit_slow` and `submit_after`.
    memory_gb : float
        A process that has more gigabytes of memory in the middle of a task is ended; 0 for half of the machine's.
    prepare : tuple
        A function and its arguments, called in each process before all else.
    background : bool
        Run at low priority, beside a server.
    """

    def __init__(
        self,
        *,
        n_workers: int = 0,
        time_limit_s: float = 300.0,
        start_limit_s: float = 3600.0,
        memory_gb: float = 0.0,
        prepare: Call = (),
        background: bool = False,
    ) -> None:
        self.n_workers = n_workers or n_cores()
        self.time_limit_s = time_limit_s
        self.start_limit_s = start_limit_s
        self.memory_gb = memory_gb or machine_bytes() / 2e9
        self._prepare = prepare
        self._background = background
        self._n_threads = max(1, n_cores() // self.n_workers)
        self._changed = threading.Condition()
        self._tasks: deque[_Task] = deque()
        self._tenders: list[threading.Thread] = []
        self._n_idle = 0
        self._workers: list[_Worker] = []
        self._closed = False
        _make_importable()
        atexit.register(self.close)

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Run ``function(*args)`` in a worker and return its future."""
        return self._put(_Task((function, *args)))

    def submit_slow(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Do the same under ``start_limit_s``."""
        return self._put(_Task((function, *args), is_slow=True))

    def submit_after(self, first: Call, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Run ``function(*args)`` in a worker that has run the call ``first``, or runs it now on a clock of its own.

        The future raises `NotReadyError` where ``first`` fails, takes too long or ends its process.
        """
        return self._put(_Task((function, *args), first))

    def alike(self, *, n_workers: int, prepare: Call = ()) -> LocalPool:
        """Return another pool with these limits and this priority, prepared like this one and then by `prepare`."""
        return LocalPool(
            n_workers=n_workers,
            time_limit_s=self.time_limit_s,
            start_limit_s=self.start_limit_s,
            memory_gb=self.memory_gb,
            prepare=(_call_each, self._prepare, prepare),
            background=self._background,
        )

    def close(self) -> None:
        """End all workers at once; tasks that wait are cancelled."""
        with self._changed:
            self._closed = True
            while self._tasks:
                self._tasks.popleft().future.cancel()
            for worker in self._workers:
                worker.process.kill()
            self._changed.notify_all()
        for worker in self._workers:
            worker.process.join()
        for tender in self._tenders:
            tender.join()
        atexit.unregister(self.close)

    def __enter__(self) -> LocalPool:  # noqa: PYI034 - Self came with Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, task: _Task) -> Future[Any]:
        with self._changed:
            if self._closed:
                msg = "The pool is closed: it takes no more tasks."
                raise RuntimeError(msg)
            self._tasks.append(task)
            if len(self._tasks) > self._n_idle and len(self._tenders) < self.n_workers:
                self._tenders.append(threading.Thread(target=self._tend, name="firstpick-worker", daemon=True))
                self._tenders[-1].start()
            self._changed.notify()
        return task.future

    def _tend(self) -> None:
        """Hand tasks to one process after the other, each until it ends."""
        if hasattr(signal, "pthread_sigmask"):  # inherited, so that Ctrl-C does not reach a process that still starts
            resource_tracker.ensure_running()  # before: where it starts with a process, it lifts what is blocked
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        worker: _Worker | None = None
        while (task := self._next()) is not None:
            if task.future.set_running_or_notify_cancel():
                try:
                    worker = worker if worker and worker.process.is_alive() else self._start(worker)
                    task.future.set_result(self._run(worker, task))
                except BaseException as error:  # noqa: BLE001 - whatever it is, who waits has to know
                    task.future.set_exception(error)
            del task  # it may hold much, and the next may be long in coming

    def _next(self) -> _Task | None:
        with self._changed:
            self._n_idle += 1
            self._changed.wait_for(lambda: self._tasks or self._closed)
            self._n_idle -= 1
            return self._tasks.popleft() if self._tasks else None

    def _start(self, former: _Worker | None) -> _Worker:
        with self._changed:  # `close` must not miss a process that is just being started
            if former is not None:
                self._workers.remove(former)
            if self._closed:
                raise futures.CancelledError
            worker = _Worker(int(self.memory_gb * 1e9), self._prepare, self._n_threads, background=self._background)
            self._workers.append(worker)
            return worker

    def _run(self, worker: _Worker, task: _Task) -> Any:
        if task.first and worker.ready != task.first:
            try:
                worker.run(task.first, self.start_limit_s)
            except Exception as error:
                raise NotReadyError from error
            worker.ready = task.first
        return worker.run(task.call, self.start_limit_s if task.is_slow else self.time_limit_s)


class _Worker:
    """One process, its pipe, and the call that it has made itself ready with."""

    def __init__(self, most_bytes: int, prepare: Call, n_threads: int, *, background: bool) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._most_bytes = most_bytes
        self.ready: Call = ()
        arguments = (theirs, prepare, n_threads, background)
        self.process = _SPAWN.Process(target=_work, args=arguments, name="firstpick-worker")
        self.process.start()
        theirs.close()

    def run(self, call: Call, limit_s: float) -> Any:
        """Return what a call gives in the process, or raise what it raises."""
        try:
            self._pipe.send(call)
            if error := self._overrun(limit_s):
                self.process.kill()
                self.process.join()
                raise error
            value, error, text = self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            self.process.join()
            raise ProcessExpired(self.process.exitcode) from error
        if error is not None:
            raise error from _RemoteError(text)
        return value

    def _overrun(self, limit_s: float) -> Exception | None:
        """Wait until the process answers or ends, or has used up its time or its memory."""
        end = time.monotonic() + limit_s
        while not self._pipe.poll(max(0.0, min(_LOOK_S, end - time.monotonic()))):
            if time.monotonic() >= end:
                return futures.TimeoutError()
            if resident_bytes(self.process.pid or 0) > self._most_bytes:
                return MemoryLimitError(self._most_bytes)
        return None


def _make_importable() -> None:
    """Let workers import this package where it is not installed.

    MONAI Label takes the app folder off ``sys.path`` once ``main.py`` has run; a spawned process gets
    its parent's path.
    """
    folder = str(Path(__file__).parents[1])
    if folder not in sys.path:
        sys.path.append(folder)


# -- in the worker


def _call_each(*calls: Call) -> None:
    """Call functions with their arguments, one after the other."""
    for call in calls:
        if call:
            call[0](*call[1:])


def _work(pipe: Connection, prepare: Call, n_threads: int, background: bool) -> None:  # noqa: FBT001 - of a process
    """Answer calls until the pool closes the pipe or ends the process."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    prepare_process(n_threads, background=background)
    _call_each(prepare)
    answer: tuple[Any, BaseException | None, str] | None
    while True:
        try:
            function, *args = pipe.recv()
            answer = function(*args), None, ""
        except EOFError:
            return
        except BaseException as error:  # noqa: BLE001 - told to the pool
            answer = None, _picklable(error), traceback.format_exc()
        try:
            pipe.send(answer)
        except (pickle.PicklingError, TypeError, AttributeError, ValueError) as error:
            pipe.send((None, RuntimeError(f"the result cannot be sent: {error}"), ""))
        function = args = answer = None  # they may hold much, and the next call may be long in coming


def prepare_process(n_threads: int, *, background: bool) -> None:
    """Share the cores: so many threads, which sleep while they wait, at low priority in the background.

    Threads that spin while they wait for each other, as OpenMP's do by default, take the core from the one that they
    wait for as soon as something else runs on the machine.
    """
    os.environ.update(OMP_NUM_THREADS=str(n_threads), OMP_WAIT_POLICY="PASSIVE")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if background and hasattr(os, "nice"):
        os.nice(10)


def _picklable(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - an error may refuse in any way
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _end_with_parent(parent_id: int) -> None:
    """End this process within a second of its parent, whatever it is doing."""
    parent = multiprocessing.parent_process()
    while parent is not None and parent.is_alive() and os.getppid() == parent_id:
        parent.join(1.0)  # asked again: another process may have inherited the pipe that this waits for
    os._exit(1)
