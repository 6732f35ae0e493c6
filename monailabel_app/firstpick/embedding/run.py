"""Embed studies in worker processes; the caller's process alone writes the cache."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from filelock import FileLock, Timeout

from firstpick.cluster import ClusterError
from firstpick.embedding.cache import Cache
from firstpick.embedding.chunk import STAGES, ChunkResult
from firstpick.embedding.plan import chunks
from firstpick.embedding.start import Step, Workers, not_ready, start
from firstpick.encoders import EncoderError, EncoderSpec
from firstpick.sources.connection import SourceError
from firstpick.studies import Study
from firstpick.workers import Executor, LocalPool, NotReadyError, WorkersLostError, why_failed

logger = logging.getLogger(__name__)

_Task = tuple[tuple[Study, ...], int]
"""A chunk, and which attempt at it this is."""

_PAUSES_S = (2.0, 5.0, 15.0)
"""Before what could not be had is asked for again."""
_NO_WORKER = "No worker of the cluster is there; FirstPick waits for one."


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes
    ----------
    n_total, n_done, n_failed : int
        Studies asked for, embedded (now or earlier), and not readable. One of several series is either once nothing of
        it is missing: not readable if its primary is not.
    seconds : float
        Since the run began.
    rate : float
        Studies per second of this run; 0 before the first.
    seconds_left : float or None
        None while unknown.
    n_workers : int
        Processes that embed now; 0 before and after a run, and while a cluster has none.
    notice : str
        Why nothing can be had just now, and when it is asked for again; empty if that is not so.
    stages : dict
        Seconds spent in each of `STAGES`.
    n_parts : int
        Parts (views, crops) that this run encoded.
    """

    n_total: int
    n_done: int
    n_failed: int
    seconds: float = 0.0
    rate: float = 0.0
    seconds_left: float | None = None
    stages: dict[str, float] = field(default_factory=dict)
    notice: str = ""
    n_workers: int = 0
    n_parts: int = 0


def embed(
    studies: Sequence[Study],
    spec: EncoderSpec,
    cache: Cache,
    *,
    executor: Executor | Workers | None = None,
    apart: int | None = None,
) -> Iterator[Progress]:
    """Embed what is missing, and yield the progress after each chunk.

    Resumes where an earlier run stopped: a study in the cache is never embedded again, and one that failed in an
    earlier process is tried once more in this one. One run at a time writes a state folder; a second one waits and
    shows the first one's progress. The encoder is built before any study's clock starts.

    Parameters
    ----------
    studies : sequence of Study
    spec : EncoderSpec
    cache : Cache
    executor : Executor or Workers, optional
        A `LocalPool` by default; or the workers of a cluster, `firstpick.embedding.dask.DaskWorkers`.
    apart : int, optional
        How many processes encode what the executor's read; 0 if each of these does both. None takes one for each GPU;
        only a `LocalPool` has the choice.

    Yields
    ------
    Progress

    Raises
    ------
    EncoderError
        If the encoder cannot be built, or fails on whatever it is given. No study is marked as failed for it.
    SourceError
        If studies cannot be had any more, after some pauses. Nor is one for that.
    ClusterError
        If the scheduler of a cluster is lost, or no worker is fit. Nor for that.
    StoreError
        If the cache cannot be written.
    """
    fingerprint = spec.fingerprint()
    lock = FileLock(cache.path.with_name("embedding.lock"), mode=0o600)
    while not _acquired(lock):
        yield _count(studies, fingerprint, cache)
    try:
        yield _count(studies, fingerprint, cache)
        missing = cache.missing(fingerprint, studies, retry_failed=True)
        if not missing:
            return
        with ExitStack() as stack:
            pool = stack.enter_context(LocalPool()) if executor is None else executor
            run = _Run(studies, missing, spec, cache, n_workers=lambda: getattr(pool, "n_workers", 1))
            yield from run.through(start(spec, pool, stack, apart=apart, n_chunks=len(chunks(missing))))
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
    missing = {one.study_id for one in cache.missing(fingerprint, studies)}
    settled = [study for study in studies if not any(one.study_id in missing for one in study.members)]
    n_failed = len(cache.failures(fingerprint, settled))
    return Progress(len(studies), len(settled) - n_failed, n_failed)


class _Run:
    """One run over what is missing, files and series: chunks out, results in, dead chunks one by one."""

    def __init__(
        self,
        studies: Sequence[Study],
        missing: Sequence[Study],
        spec: EncoderSpec,
        cache: Cache,
        *,
        n_workers: Callable[[], int],
    ) -> None:
        self._studies = studies
        self._spec = spec
        self._cache = cache
        self._fingerprint = spec.fingerprint()
        self._n_workers, self._waits = n_workers, False
        self._todo: deque[_Task] = deque((chunk, 1) for chunk in chunks(missing))
        self._suspects: deque[_Task] = deque()  # of those lost with workers: who is to blame shows when alone
        self._of = {one.study_id: study for study in studies for one in study.members}
        self._open = Counter(self._of[one.study_id].study_id for one in missing)  # how much of each study is missing
        self._failed = {item.study_id for item in cache.failures(self._fingerprint, studies)}
        self._failed -= {study.study_id for study in map(self._study_of_primary, missing) if study}
        self._n_before = len(studies) - len(self._open)
        self._stages = dict.fromkeys(STAGES, 0.0)
        self._misses: Counter[str] = Counter()
        self._later: list[tuple[float, Study]] = []
        self._n_downs, self._resume_at, self._notice = 0, 0.0, ""  # while nothing can be had
        self._start, self._began = time.monotonic(), time.time()
        self._n_parts = 0

    def through(self, starting: Generator[None, None, list[Step]]) -> Iterator[Progress]:
        """Make ready, and take every chunk through the steps; few wait at a time, so that a run can be stopped."""
        steps = yield from self._until(starting)
        running: dict[Future[Any], tuple[_Task, int]] = {}
        while self._todo or running or self._later or self._suspects:
            self._take_up_again()
            if self._suspects and not (self._todo or running or self._later):
                self._todo.append(self._suspects.popleft())
            while self._todo and len(running) < self._most_running():
                task = self._todo.popleft()
                running[steps[0](task[0])] = task, 1
            finished = wait(running, timeout=1.0, return_when=FIRST_COMPLETED).done if running else _nothing_yet()
            for future in finished:
                task, n_steps = running.pop(future)
                result = self._result(future, *task)
                if result is not None and n_steps < len(steps):
                    running[steps[n_steps](result)] = task, n_steps + 1
                elif result is not None:
                    self._store(result)
            yield self._progress()

    def _until(self, starting: Generator[None, None, list[Step]]) -> Generator[Progress, None, list[Step]]:
        """Yield progress while something else is waited for; return what it gives."""
        while True:
            try:
                next(starting)
            except StopIteration as ready:
                steps: list[Step] = ready.value
                return steps
            yield self._progress()

    def _result(self, future: Future[Any], chunk: tuple[Study, ...], attempt: int) -> Any:
        """What a step gave; for a dead chunk None: it is retried study by study, a study that was alone once more.

        Of what was lost with workers of a cluster, none is to blame for sure, as they did other things as well: each
        study is tried again at the end, while nothing else runs.
        """
        try:
            return future.result()
        except (EncoderError, ClusterError):
            raise
        except NotReadyError as error:
            raise not_ready(self._spec, error.__cause__) from error
        except Exception as error:  # noqa: BLE001 - a worker may die of anything
            if isinstance(error, WorkersLostError) and attempt == 1:
                self._suspects.extend(_one_by_one([(chunk, attempt + 1)]))
            elif len(chunk) > 1:
                if isinstance(error, futures.TimeoutError):  # with a slow encoder, others would run out of time as well
                    self._todo = _one_by_one(self._todo)
                self._todo.extend(_one_by_one([(chunk, attempt)]))
            elif attempt == 1 and not isinstance(error, futures.TimeoutError):
                self._todo.append((chunk, attempt + 1))
            else:
                self._fail(chunk[0], why_failed(error, "Reading and encoding it"))
            return None

    def _store(self, result: ChunkResult) -> None:
        start = time.perf_counter()
        if result.n_parts and not self._n_parts:
            self._stages["starting"] = max(0.0, result.began - self._began)
        self._n_parts += result.n_parts
        self._cache.put(self._fingerprint, result.embedded)
        if result.facts:
            self._cache.put_facts(result.facts)
        for study, reason in result.failed:
            self._fail(study, reason)
        if result.embedded or result.failed:
            self._n_downs, self._notice = 0, ""
        for study, error in result.missed:
            self._miss(study, error)
        for item in result.embedded:
            self._settle(item.study)
        for stage, seconds in result.stages.items():
            self._stages[stage] += seconds
        self._stages["storing"] += time.perf_counter() - start

    def _miss(self, study: Study, error: SourceError) -> None:
        """Have a study asked for again later; after some pauses it is its own fault, unless nothing can be had."""
        now = time.monotonic()
        if error.is_down:
            self._todo.appendleft(((study,), 1))
            if now < self._resume_at:  # asked for before that was known
                return
            if self._n_downs == len(_PAUSES_S):
                raise error
            self._notice = f"{error} FirstPick asks again in {_PAUSES_S[self._n_downs]:.0f} s."
            logger.warning("%s", self._notice)
            self._resume_at = now + _PAUSES_S[self._n_downs]
            self._n_downs += 1
        elif self._misses[study.study_id] < len(_PAUSES_S):
            self._later.append((now + _PAUSES_S[self._misses[study.study_id]], study))
            self._misses[study.study_id] += 1
        else:
            self._fail(study, str(error))

    def _most_running(self) -> int:
        """How many chunks may be under way: after a time when nothing could be had, one to try it."""
        if time.monotonic() < self._resume_at:
            return 0
        return 1 if self._n_downs else 2 * self._n_workers() + 1

    def _take_up_again(self) -> None:
        """Queue those studies again whose pause is over."""
        now = time.monotonic()
        self._todo.extend(((study,), 1) for at, study in self._later if at <= now)
        self._later = [(at, study) for at, study in self._later if at > now]

    def _fail(self, study: Study, reason: str) -> None:
        logger.warning("Study %s cannot be embedded: %s", study.title, reason)
        self._cache.put_failure(self._fingerprint, study, reason)
        if whole := self._study_of_primary(study):
            self._failed.add(whole.study_id)
        self._settle(study)

    def _settle(self, one: Study) -> None:
        """Count down what is missing of the study that a file or series belongs to."""
        study_id = self._of[one.study_id].study_id
        self._open[study_id] -= 1
        if not self._open[study_id]:
            del self._open[study_id]

    def _study_of_primary(self, one: Study) -> Study | None:
        """Return the study whose primary a file or series is; None if it is none's."""
        study = self._of[one.study_id]
        return study if study.primary.study_id == one.study_id else None

    def _progress(self) -> Progress:
        seconds = time.monotonic() - self._start
        n_total = len(self._studies)
        n_now = n_total - len(self._open)
        n_failed = len(self._failed - self._open.keys())
        rate = (n_now - self._n_before) / seconds if n_now > self._n_before else 0.0
        left = (n_total - n_now) / rate if rate else None
        counts = (n_total, n_now - n_failed, n_failed)
        n_workers = self._n_workers()
        if not n_workers and not self._waits:
            logger.warning("%s", _NO_WORKER)
        self._waits = not n_workers
        notice = self._notice or (_NO_WORKER if self._waits else "")
        return Progress(*counts, seconds, rate, left, dict(self._stages), notice, n_workers, self._n_parts)


def _nothing_yet() -> set[Future[Any]]:
    time.sleep(0.2)
    return set()


def _one_by_one(todo: Iterable[_Task]) -> deque[_Task]:
    """Make each study a chunk of its own."""
    return deque(((study,), attempt) for chunk, attempt in todo for study in chunk)
