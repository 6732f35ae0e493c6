"""Embed on a Dask cluster: chunks go out to its workers, results come back as they finish."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Generator, Mapping
from concurrent.futures import CancelledError, Future
from typing import Any
from weakref import WeakSet

import distributed
from distributed import Client, KilledWorker, Security

from firstpick.cluster import Cluster, ClusterError
from firstpick.embedding.chunk import ChunkResult
from firstpick.embedding.dask_worker import Assignment, Embedding, RefusedError, embed_on_worker, what_decides
from firstpick.embedding.start import Step
from firstpick.encoders import EncoderSpec
from firstpick.studies import Study
from firstpick.workers import WorkersLostError

logger = logging.getLogger(__name__)

_DEATHS = 2
"""Workers that may be lost with one chunk before it is given up."""
_COUNT_S = 1.0
_CONNECT_S = 10.0


def connect(cluster: Cluster) -> Client:
    """Connect to a scheduler.

    Raises
    ------
    ClusterError
        If it does not answer, or the certificates are not those of its cluster.
    """
    security = (
        Security(
            require_encryption=True,
            tls_ca_file=cluster.ca,
            tls_client_cert=cluster.cert,
            tls_client_key=cluster.key,
        )
        if cluster.is_encrypted
        else None
    )
    if not cluster.is_encrypted:
        logger.warning(
            "The cluster at %s is not encrypted: whoever reaches its ports sees all pictures, and runs what they like.",
            cluster.scheduler,
        )
    try:
        return Client(cluster.scheduler, security=security, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        msg = (
            f"The cluster's scheduler at {cluster.scheduler} cannot be reached ({_root(error)}). Does it run there, "
            "with certificates of the same authority?"
        )
        raise ClusterError(msg) from error


class DaskWorkers:
    """The workers of a Dask cluster, as the executor of `embed`; they may come and go.

    A worker hands what it is sent to processes of its own, one for each of its threads (see `dask_worker`). What was
    under way on a worker that is lost is sent to another one. One that would give other numbers is dismissed.

    Parameters
    ----------
    cluster : Cluster
        Connected to once there is something to embed.
    limits : mapping
        Keywords of `LocalPool`, for each worker's own.
    name : str
        Of these workers' plugin, the same for each run of one caller: the next run ends what one that was killed has
        left behind.
    """

    def __init__(self, cluster: Cluster, limits: Mapping[str, Any], *, name: str = "firstpick") -> None:
        self._cluster = cluster
        self._limits = limits
        self._name = name
        self._begun: EncoderSpec | None = None
        self._sent: WeakSet[distributed.Future[ChunkResult]] = WeakSet()
        self._n_processes, self._counted_at = 0, 0.0

    @functools.cached_property
    def _client(self) -> Client:
        return connect(self._cluster)

    @property
    def n_workers(self) -> int:
        """Processes that embed, of all workers together, as of a second ago at most."""
        if time.monotonic() - self._counted_at > _COUNT_S:
            self._n_processes = sum(self._asked(self._client.nthreads).values())
            self._counted_at = time.monotonic()
        return self._n_processes

    def start(self, spec: EncoderSpec) -> Generator[None, None, list[Step]]:
        """Have every worker, now and later, know what is embedded how; return the only step of a chunk.

        Raises
        ------
        EncoderError
            If the weights cannot be read here.
        ClusterError
            If the scheduler cannot be reached, or a worker cannot load FirstPick.
        """
        if self._begun != spec:  # else encoders are kept from the last run
            self._begin(spec)
        return [self._submit]
        yield

    def _begin(self, spec: EncoderSpec) -> None:
        plugin = Embedding(spec, what_decides(spec), self._limits)
        most = _DEATHS - 1  # Dask's own default is three
        self._asked(  # a lambda is sent as it is: the scheduler needs no FirstPick
            self._client.run_on_scheduler, lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", most)
        )
        self._asked(self._client.register_plugin, plugin, name=self._name)
        self._begun = spec

    def close(self) -> None:
        """End what is under way, and the processes of the workers."""
        if "_client" not in vars(self):  # nothing was to be done
            return
        with contextlib.suppress(Exception):  # there may be nobody who listens
            self._client.cancel(list(self._sent))
            if self._begun:
                self._client.unregister_worker_plugin(self._name)
        self._client.close()

    def __enter__(self) -> DaskWorkers:  # noqa: PYI034 - Self came with Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _submit(self, studies: tuple[Study, ...]) -> Future[ChunkResult]:
        answer: Future[ChunkResult] = Future()
        self._send(Assignment.of(studies), answer)
        return answer

    def _send(self, assignment: Assignment, answer: Future[ChunkResult]) -> None:
        sent = self._client.submit(embed_on_worker, self._name, assignment, pure=False)
        self._sent.add(sent)
        sent.add_done_callback(lambda done: self._take(done, assignment, answer))

    def _take(self, done: distributed.Future[ChunkResult], assignment: Assignment, answer: Future[ChunkResult]) -> None:
        """Hand on what came of a chunk; in a thread of the client's."""
        try:
            answer.set_result(done.result())
        except RefusedError as refused:
            self._send_elsewhere(refused, assignment, answer)
        except KilledWorker:
            answer.set_exception(WorkersLostError())
        except BaseException as error:  # noqa: BLE001 - whatever it is, who waits has to know
            answer.set_exception(error if done.status == "error" else self._lost(error))

    def _send_elsewhere(self, refused: RefusedError, assignment: Assignment, answer: Future[ChunkResult]) -> None:
        again = Assignment.of(assignment.studies)
        try:
            if again == assignment:  # else the file went away meanwhile, or was written anew
                self._dismiss(*refused.args)
            self._send(again, answer)
        except Exception as error:  # noqa: BLE001 - as above
            answer.set_exception(error)

    def _dismiss(self, address: str, reason: str) -> None:
        """Have a worker end that cannot embed for this run; ClusterError where none is left."""
        logger.warning("Worker %s is dismissed: it %s", address, reason)
        self._client.retire_workers([address])
        if not self._client.nthreads():
            msg = f"No worker of the cluster is left. The last one, {address}, was dismissed: it {reason}"
            raise ClusterError(msg)

    def _asked(self, ask: Any, *args: Any, **keywords: Any) -> Any:
        """Ask the scheduler for something, and say in a sentence if it cannot be had."""
        try:
            return ask(*args, **keywords)
        except ImportError as error:
            msg = f"A worker of the cluster cannot load FirstPick ({error}). Install there what is installed here."
            raise ClusterError(msg) from error
        except (OSError, RuntimeError, ValueError, CancelledError) as error:
            raise self._lost(error) from error

    def _lost(self, error: BaseException | None = None) -> ClusterError:
        why = f" ({_root(error)})" if error else ""
        return ClusterError(
            f"The cluster's scheduler was lost{why}. What was embedded is kept; embed again once it is there."
        )


def _root(error: BaseException) -> str:
    """What was wrong in the first place, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
