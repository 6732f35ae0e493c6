"""Embed studies in worker processes; the caller's process alone writes the cache."""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pebble import ProcessExpired, ProcessPool

from firstpick.encoders import Encoder, EncoderError, EncoderSpec, build_encoder, pool_parts
from firstpick.store import Cache, Embedded
from firstpick.studies import Study
from firstpick.views import thumbnail
from firstpick.volumes import VolumeError, read_volume

logger = logging.getLogger(__name__)

STAGES = ("reading", "viewing", "encoding", "storing")
_CHUNK_STUDIES = 8
_CHUNK_BYTES = 64 * 2**20
_BATCH_PARTS = 32


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes
    ----------
    n_total, n_done, n_failed : int
        Studies asked for, embedded (now or earlier), and not readable.
    seconds : float
        Since the run began.
    rate : float
        Studies per second of this run; 0 before the first.
    seconds_left : float or None
        None while unknown.
    stages : dict
        Seconds spent in each of `STAGES`, summed over the workers.
    """

    n_total: int
    n_done: int
    n_failed: int
    seconds: float = 0.0
    rate: float = 0.0
    seconds_left: float | None = None
    stages: dict[str, float] = field(default_factory=dict)


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


# -- in a worker


@dataclass(frozen=True)
class ChunkResult:
    """What came of a chunk, in any order, and the seconds of each stage."""

    embedded: list[Embedded]
    failed: list[tuple[Study, str]]
    stages: dict[str, float]


@dataclass(frozen=True)
class _Cut:
    """One study on its way: its parts, or why there are none."""

    study: Study
    parts: NDArray[np.float32] | None = None
    thumbnail: bytes = b""
    notes: tuple[str, ...] = ()
    failure: str = ""


@functools.lru_cache(maxsize=1)
def _warm(spec: EncoderSpec) -> Encoder:
    """The encoder of this worker, kept between chunks."""
    return build_encoder(spec)


def embed_chunk(studies: Sequence[Study], spec: EncoderSpec) -> ChunkResult:
    """Read and encode some studies; the next is read while one is encoded.

    Parts of several studies go through the encoder together. A study that cannot be read does not
    disturb the others.

    Raises
    ------
    EncoderError
        If the encoder cannot be built, which no other study could mend.
    """
    encoder = _warm(spec)
    result = ChunkResult([], [], dict.fromkeys(STAGES, 0.0))
    waiting: list[_Cut] = []
    for cut in _read_ahead(studies, encoder, result.stages):
        if cut.parts is None:
            result.failed.append((cut.study, cut.failure))
            continue
        waiting.append(cut)
        if sum(len(other.parts) for other in waiting if other.parts is not None) >= _BATCH_PARTS:
            _encode(waiting, encoder, spec, result)
            waiting = []
    if waiting:
        _encode(waiting, encoder, spec, result)
    return result


def _read_ahead(studies: Sequence[Study], encoder: Encoder, stages: dict[str, float]) -> Iterator[_Cut]:
    """Yield each study's parts; one study at most is read ahead, and its volume is dropped once cut."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        coming = reader.submit(_cut, studies[0], encoder, stages)
        for study in studies[1:]:
            cut, coming = coming.result(), reader.submit(_cut, study, encoder, stages)
            yield cut
        yield coming.result()


def _cut(study: Study, encoder: Encoder, stages: dict[str, float]) -> _Cut:
    """Read one study and cut it; whatever goes wrong is that study's failure alone."""
    try:
        start = time.perf_counter()
        volume = read_volume(study.source, series_uid=study.series_uid)
        read = time.perf_counter()
        parts, picture = encoder.parts(volume), thumbnail(volume)
    except VolumeError as error:
        return _Cut(study, failure=str(error))
    except MemoryError:
        return _Cut(study, failure="It needs more memory than this machine has free.")
    except Exception as error:
        logger.debug("Study %s failed", study.study_id, exc_info=True)
        return _Cut(study, failure=f"It cannot be read ({type(error).__name__}: {error}).")
    stages["reading"] += read - start
    stages["viewing"] += time.perf_counter() - read
    return _Cut(study, parts, picture, volume.notes)


def _encode(cuts: Sequence[_Cut], encoder: Encoder, spec: EncoderSpec, result: ChunkResult) -> None:
    """Encode the parts of several studies at once and pool them study by study."""
    start = time.perf_counter()
    parts = [cut.parts for cut in cuts if cut.parts is not None]
    rows = encoder.encode(np.concatenate(parts))
    ends = np.cumsum([len(some) for some in parts])
    for cut, own in zip(cuts, np.split(rows, ends[:-1]), strict=True):
        vector = pool_parts(own, spec.pooling)
        if np.isfinite(vector).all():
            result.embedded.append(Embedded(cut.study, vector, cut.thumbnail, cut.notes))
        else:
            result.failed.append((cut.study, "The encoder gave no finite numbers for it."))
    result.stages["encoding"] += time.perf_counter() - start


# -- in the caller's process


def embed(
    studies: Sequence[Study],
    spec: EncoderSpec,
    cache: Cache,
    *,
    executor: Executor | None = None,
    retry_failed: bool = False,
) -> Iterator[Progress]:
    """Embed what is missing, and yield the progress after each chunk.

    Resumes where an earlier run stopped: a study in the cache is never embedded again. One run at a
    time writes a state folder; a second one waits and shows the first one's progress.

    Parameters
    ----------
    studies : sequence of Study
    spec : EncoderSpec
    cache : Cache
    executor : Executor, optional
        A `LocalPool` by default.
    retry_failed : bool
        Try studies again that failed earlier as they are now.

    Yields
    ------
    Progress

    Raises
    ------
    EncoderError
        If the encoder cannot be built.
    StoreError
        If the cache cannot be written.
    """
    fingerprint = spec.fingerprint()
    lock = FileLock(cache.path.with_name("embedding.lock"))
    while not _acquired(lock):
        yield _count(studies, fingerprint, cache)
    try:
        yield _count(studies, fingerprint, cache)
        missing = cache.missing(fingerprint, studies, retry_failed=retry_failed)
        if not missing:
            return
        run = _Run(studies, missing, spec, cache)
        if executor is not None:
            yield from run.on(executor)
        else:
            with LocalPool() as pool:
                yield from run.on(pool)
    finally:
        lock.release()


def _acquired(lock: FileLock) -> bool:
    """Take the lock within a second, or say that another process has it."""
    try:
        lock.acquire(timeout=1.0)
    except Timeout:
        return False
    return True


def _count(studies: Sequence[Study], fingerprint: str, cache: Cache) -> Progress:
    """How far the cache is, without a run."""
    n_failed = len(cache.failures(fingerprint, studies))
    n_missing = len(cache.missing(fingerprint, studies))
    return Progress(len(studies), len(studies) - n_missing - n_failed, n_failed)


class _Run:
    """One run over the missing studies: chunks out, results in, dead chunks study by study."""

    def __init__(self, studies: Sequence[Study], missing: Sequence[Study], spec: EncoderSpec, cache: Cache) -> None:
        self._n_total = len(studies)
        self._missing = missing
        self._spec = spec
        self._cache = cache
        self._fingerprint = spec.fingerprint()
        self._todo: deque[tuple[tuple[Study, ...], int]] = deque((chunk, 1) for chunk in chunks(missing))
        self._n_before = self._n_total - len(missing)
        self._failed = {item.study_id for item in cache.failures(self._fingerprint, studies)}
        self._failed -= {study.study_id for study in missing}
        self._n_done = self._n_before - len(self._failed)
        self._stages = dict.fromkeys(STAGES, 0.0)
        self._start = time.monotonic()

    def on(self, executor: Executor) -> Iterator[Progress]:
        """Run on an executor; few chunks wait there, so that a run can be stopped at any yield."""
        running: dict[Future[ChunkResult], tuple[tuple[Study, ...], int]] = {}
        while self._todo or running:
            while self._todo and len(running) < 2 * (os.cpu_count() or 1) + 1:
                chunk, attempt = self._todo.popleft()
                running[executor.submit(embed_chunk, chunk, self._spec)] = (chunk, attempt)
            finished, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in finished:
                self._collect(future, *running.pop(future))
            yield self._progress()

    def _collect(self, future: Future[ChunkResult], chunk: tuple[Study, ...], attempt: int) -> None:
        """Store a chunk's results; retry a dead one study by study, a study whose process died once more."""
        try:
            result = future.result()
        except EncoderError:
            raise
        except Exception as error:  # noqa: BLE001 - a worker may die of anything
            if len(chunk) > 1:
                self._todo.extend(((study,), 1) for study in chunk)
            elif attempt == 1 and not isinstance(error, futures.TimeoutError):
                self._todo.append((chunk, attempt + 1))
            else:
                self._fail(chunk[0], _why(error))
            return
        start = time.perf_counter()
        self._cache.put(self._fingerprint, result.embedded)
        for study, reason in result.failed:
            self._fail(study, reason)
        self._n_done += len(result.embedded)
        for stage, seconds in result.stages.items():
            self._stages[stage] += seconds
        self._stages["storing"] += time.perf_counter() - start

    def _fail(self, study: Study, reason: str) -> None:
        logger.warning("Study %s cannot be embedded: %s", study.study_id, reason)
        self._cache.put_failure(self._fingerprint, study, reason)
        self._failed.add(study.study_id)

    def _progress(self) -> Progress:
        seconds = time.monotonic() - self._start
        n_now = self._n_done + len(self._failed)
        rate = (n_now - self._n_before) / seconds if n_now > self._n_before else 0.0
        left = (self._n_total - n_now) / rate if rate else None
        return Progress(self._n_total, self._n_done, len(self._failed), seconds, rate, left, dict(self._stages))


def chunks(studies: Sequence[Study]) -> list[tuple[Study, ...]]:
    """Cut a list into chunks of a few small studies; a large one, or a series, goes alone.

    A chunk has the time limit of one study, which small files share easily.
    """
    result: list[list[Study]] = []
    room = 0
    for study in studies:
        size = _CHUNK_BYTES if study.is_series else _size(study.source)
        if not result or len(result[-1]) == _CHUNK_STUDIES or size > room:
            result.append([])
            room = _CHUNK_BYTES
        result[-1].append(study)
        room -= size
    return [tuple(chunk) for chunk in result]


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0  # the reader will say what is wrong


def _why(error: BaseException) -> str:
    """One sentence about how a worker ended."""
    if isinstance(error, futures.TimeoutError):
        return "Reading and encoding it took longer than the time limit for one study."
    if isinstance(error, ProcessExpired):
        return (
            f"The process that read it died twice (exit code {error.exitcode}): the file is broken, or memory ran out."
        )
    return f"It cannot be embedded ({type(error).__name__}: {error})."
