"""Before any study's clock starts: libraries are imported, weights fetched, and each process gets its part."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from concurrent import futures
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from itertools import cycle
from typing import Any, Protocol, runtime_checkable

from firstpick.embedding.chunk import build, build_ahead, cut_chunk, cutter, embed_chunk, encode_chunk
from firstpick.encoders import EncoderError, EncoderSpec, hub_id, is_third_party
from firstpick.encoders.gpu import see_only
from firstpick.encoders.ready import fetch_weights, gpus_for
from firstpick.workers import Executor, LocalPool, MemoryLimitError, ProcessExpired

logger = logging.getLogger(__name__)

Step = Callable[[Any], Future[Any]]
"""What a chunk goes through: the first takes studies, the last gives a `ChunkResult`."""


@runtime_checkable
class Workers(Protocol):
    """Workers that get ready by themselves, on whatever machines: `firstpick.embedding.dask.DaskWorkers`."""

    @property
    def n_workers(self) -> int:
        """Processes that embed now; they may come and go."""
        ...

    def start(self, spec: EncoderSpec) -> Generator[None, None, list[Step]]:
        """Make ready, yield while that takes time, and return the steps of every chunk."""
        ...


def start_ahead(spec: EncoderSpec, executor: Executor | Workers) -> None:
    """Have the workers of this machine start, import and build while studies are listed.

    What goes wrong is left for `start` to find and say.
    """
    if isinstance(executor, LocalPool):
        for _ in range(executor.n_workers):
            executor.submit_slow(build_ahead, spec)


def start(
    spec: EncoderSpec, executor: Executor | Workers, stack: ExitStack, *, apart: int | None, n_chunks: int
) -> Generator[None, None, list[Step]]:
    """Make ready, yield while that takes time, and return the steps of every chunk.

    Parameters
    ----------
    spec : EncoderSpec
    executor : Executor or Workers
        One that is neither `Workers` nor a `LocalPool` builds encoders as it needs them; it has no clock.
    stack : ExitStack
        Ends the processes that encode, where they are apart.
    apart : int or None
        How many of them there are, each with a GPU of its own; 0 if the executor's encode. None for one a GPU, which
        one process fills. An encoder of someone else reads there too: nothing is known of how it cuts.
    n_chunks : int
        No more processes are started.

    Raises
    ------
    EncoderError
        If weights cannot be fetched, or a library cannot be imported.
    """
    if isinstance(executor, Workers):
        return (yield from executor.start(spec))
    if not isinstance(executor, LocalPool):
        return [lambda chunk: executor.submit(embed_chunk, chunk, spec)]
    imported = [executor.submit_slow(gpus_for, spec) for _ in range(min(n_chunks, executor.n_workers))]
    n_gpus = yield from _first(spec, imported)
    if remote := hub_id(spec):
        logger.info("Encoder '%s': its weights (%s) are fetched where they are not here yet.", spec.name, remote)
        spec = yield from _first(spec, [executor.submit_slow(fetch_weights, spec)])
    first = (build, spec)
    n_apart = n_gpus if apart is None else int(apart)
    if not n_apart:
        return [lambda chunk: executor.submit_after(first, embed_chunk, chunk, spec)]
    encoding = [stack.enter_context(executor.alike(n_workers=1, prepare=(see_only, gpu))) for gpu in range(n_apart)]
    turns = cycle(encoding)  # chunks are about alike, and so are GPUs
    if is_third_party(spec):
        return [lambda chunk: next(turns).submit_after(first, embed_chunk, chunk, spec)]
    parts = yield from _first(spec, [pool.submit_slow(cutter, spec) for pool in encoding])
    return [
        lambda chunk: executor.submit(cut_chunk, chunk, spec, parts),
        lambda cuts: next(turns).submit_after(first, encode_chunk, cuts, spec),
    ]


def _first(spec: EncoderSpec, answers: Sequence[Future[Any]]) -> Generator[None, None, Any]:
    """Wait for the first of some answers."""
    while not (done := wait(answers, timeout=1.0, return_when=FIRST_COMPLETED).done):
        yield
    try:
        return done.pop().result()
    except Exception as error:
        raise not_ready(spec, error) from error


def not_ready(spec: EncoderSpec, error: BaseException | None) -> EncoderError:
    """Say in a sentence why there is no encoder."""
    if isinstance(error, EncoderError):
        return error
    reason = f"it cannot be built ({type(error).__name__}: {error})"
    if isinstance(error, futures.TimeoutError):
        reason = "it was not built within the time that is allowed for that"
    if isinstance(error, MemoryLimitError):
        reason = f"it takes more than {error.limit} of memory to build. Raise worker_memory_gb, or take a smaller one"
    elif isinstance(error, ProcessExpired):
        reason = (
            f"the process that builds it died (exit code {error.exitcode}), perhaps of too little memory. "
            "Take fewer processes (n_workers: 1) or a smaller encoder"
        )
    return EncoderError(f"encoder '{spec.name}': {reason}.")
