"""What a worker of a Dask cluster does: it hands chunks to processes of its own machine, under the usual limits.

So a study that hangs, crashes or takes too much memory ends one process there, and never the worker.
"""

from __future__ import annotations

import multiprocessing
import stat
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from distributed import Worker, WorkerPlugin, get_worker

import firstpick
from firstpick.embedding.chunk import ChunkResult
from firstpick.embedding.start import Step, not_ready, start
from firstpick.encoders import RECIPE, EncoderError, EncoderSpec, encoder_row
from firstpick.libraries import settle_libraries
from firstpick.studies import Study
from firstpick.workers import LocalPool, NotReadyError

_LIBRARIES = ("numpy", "scipy", "torch", "onnxruntime", "nibabel", "SimpleITK", "pydicom", "pillow", "h5py")
"""Those that read voxels and make numbers of them; besides, those that the encoder asks for."""

Done = TypeVar("Done")
Witness = tuple[str, int]


@dataclass(frozen=True)
class Assignment:
    """Studies that a worker is to embed together.

    Attributes
    ----------
    studies : tuple of Study
    witness : tuple of (str, int) or None
        Path of a study's file or folder, and its size in bytes, by which the worker can tell whether it sees the very
        files that the caller does; None where there is none, as with studies in a PACS.
    """

    studies: tuple[Study, ...]
    witness: Witness | None

    @classmethod
    def of(cls, studies: tuple[Study, ...]) -> Assignment:
        """Assign studies, with the first of them that is here as the witness."""
        seen = (_witness(study.source) for study in studies if not study.is_remote)
        return cls(studies, next(filter(None, seen), None))

    def unseen(self) -> str:
        """Say in a sentence that this machine does not see what the caller does; empty if it does."""
        if self.witness is None or (found := _witness(self.witness[0])) == self.witness:
            return ""
        is_what = "another file there" if found else "not there"
        return f"does not see the studies ({self.witness[0]} is {is_what}): mount their folder under the same path."


class RefusedError(Exception):
    """A worker cannot embed for this caller: its address, and why in one sentence."""


class Embedding(WorkerPlugin):
    """What one run needs on each worker: the encoder, built once in each of its processes.

    Parameters
    ----------
    spec : EncoderSpec
    expected : mapping of str to str
        What `what_decides` says at the caller.
    limits : mapping
        Keywords of `LocalPool`, which has one process for each thread of the worker.
    """

    def __init__(self, spec: EncoderSpec, expected: Mapping[str, str], limits: Mapping[str, Any]) -> None:
        self._spec = spec
        self._expected = expected
        self._limits = limits

    def setup(self, worker: Worker) -> None:
        """Begin on a worker; processes are started with the first chunk."""
        settle_libraries()
        self._address = worker.address
        self._n_processes = worker.state.nthreads
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._steps: list[Step] = []

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - Dask's signature
        """End the processes."""
        self._stack.close()

    def embed(self, assignment: Assignment) -> ChunkResult:
        """Embed a chunk in the worker's processes; the first one compares and makes ready, while others wait.

        Raises
        ------
        RefusedError
            If this worker would give other numbers, or does not see the studies.
        EncoderError
            If the encoder cannot be built, or fails on whatever it is given.
        """
        self._refuse_if(assignment.unseen())
        with self._lock:
            if not self._steps:
                self._refuse_if(_daemon() or _unlike(self._expected, self._spec))
                pool = self._stack.enter_context(LocalPool(n_workers=self._n_processes, **self._limits))
                starting = start(self._spec, pool, self._stack, apart=None, n_chunks=self._n_processes)
                self._steps = self._blamed(lambda: _last(starting))
        return self._blamed(lambda: self._through(assignment.studies))

    def _through(self, studies: tuple[Study, ...]) -> ChunkResult:
        given: Any = studies
        for step in self._steps:
            given = step(given).result()
        result: ChunkResult = given
        return result

    def _refuse_if(self, reason: str) -> None:
        if reason:
            raise RefusedError(self._address, reason)

    def _blamed(self, do: Callable[[], Done]) -> Done:
        """Do something, and say of what the encoder did wrong on which worker it was."""
        try:
            return do()
        except NotReadyError as error:
            text = str(not_ready(self._spec, error.__cause__))
        except EncoderError as error:
            text = str(error)
        msg = f"{text} So says worker {self._address}."
        raise EncoderError(msg)


def embed_on_worker(name: str, assignment: Assignment) -> ChunkResult:
    """Embed a chunk by the plugin of that name; what is sent to a worker."""
    worker = get_worker()
    plugin = worker.plugins.get(name)
    if not isinstance(plugin, Embedding):
        raise RefusedError(worker.address, "was not told what to embed: start it anew.")
    return plugin.embed(assignment)


def what_decides(spec: EncoderSpec) -> dict[str, str]:
    """What makes the numbers of an embedding on this machine: versions, our recipe, the settings and weights.

    Of a version what follows a ``+`` is left out: it names the hardware that torch was built for.
    """
    names = dict.fromkeys((*_LIBRARIES, *encoder_row(spec.name).requires))
    return {
        "firstpick": firstpick.__version__,
        "recipe": str(RECIPE),
        **{name: _version(name) for name in names},
        "fingerprint": spec.fingerprint(),
    }


def difference(expected: Mapping[str, str], got: Mapping[str, str]) -> str:
    """Say in a sentence what would make other numbers; empty if nothing would.

    >>> difference({"torch": "2.13.0", "fingerprint": "a"}, {"torch": "2.12.0", "fingerprint": "a"})
    'has torch 2.12.0, and 2.13.0 is needed: install the same versions there.'
    """
    for name, wanted in expected.items():
        if got.get(name) != wanted and name == "fingerprint":
            return "has other weights or settings for this encoder: put the same files there."
        if got.get(name) != wanted:
            return (
                f"has {name} {got.get(name) or 'not at all'}, and {wanted} is needed: install the same versions there."
            )
    return ""


def _unlike(expected: Mapping[str, str], spec: EncoderSpec) -> str:
    try:
        return difference(expected, what_decides(spec))
    except (EncoderError, OSError) as error:
        return f"cannot read the encoder's weights: {error}"


def _version(name: str) -> str:
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return ""


def _witness(path: str) -> Witness | None:
    try:
        facts = Path(path).stat()
    except OSError:
        return None
    return path, facts.st_size if stat.S_ISREG(facts.st_mode) else 0


def _daemon() -> str:
    """Dask's nanny lets workers start no processes, unless told."""
    if multiprocessing.current_process().daemon:
        return "may start no processes: start it with DASK_DISTRIBUTED__WORKER__DAEMON=False in its environment."
    return ""


def _last(generator: Generator[None, None, list[Step]]) -> list[Step]:
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return list(end.value)
