"""What a worker process does: read, cut and encode the studies of one chunk."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from firstpick.embedding.cache import Embedded
from firstpick.embedding.series import grid_text
from firstpick.encoders import EncoderError, EncoderSpec, build_encoder, hub_id, pool_parts
from firstpick.encoders.memory import Patient, is_out_of_memory
from firstpick.encoders.ready import gpus_for
from firstpick.sources.connection import SourceError
from firstpick.sources.eligibility import Facts
from firstpick.sources.source import at_hand, keep_served
from firstpick.studies import Slice, Study
from firstpick.voxels.served import served_ending
from firstpick.voxels.views import thumbnail, view_slices
from firstpick.voxels.volumes import Volume, VolumeError, read_volume

logger = logging.getLogger(__name__)

STAGES = ("starting", "reading", "viewing", "encoding", "storing")
"""Of a run; *starting* is until the first worker encodes, the others are summed over the workers."""
Parts = NDArray[np.float32]
Cutter = Callable[[Volume], Parts]
"""`Encoder.parts` alone, which a process can have without the network."""

_BATCH_PARTS = 32
_BATCH_BYTES = 256 * 2**20


@dataclass
class ChunkResult:
    """What came of a chunk, in any order, and the seconds of each stage.

    Attributes
    ----------
    embedded : list of Embedded
    failed : list of (Study, str)
    stages : dict
    facts : list of (Study, Facts)
        What headers say, of those that were fetched.
    missed : list of (Study, SourceError)
        What could not be had, through no fault of its own.
    n_parts : int
        How many were encoded.
    began : float
        When the first of them was, in seconds since the epoch; 0 if none was.
    """

    embedded: list[Embedded]
    failed: list[tuple[Study, str]]
    stages: dict[str, float]
    facts: list[tuple[Study, Facts]] = field(default_factory=list)
    missed: list[tuple[Study, SourceError]] = field(default_factory=list)
    n_parts: int = 0
    began: float = 0.0


@dataclass(frozen=True)
class _Cut:
    """One study on its way: its parts, or why there are none."""

    study: Study
    parts: Parts = field(default_factory=lambda: np.empty(0, np.float32))
    slices: tuple[Slice, ...] = ()  # of the parts, where the recipe needs to know
    thumbnail: bytes = b""
    notes: tuple[str, ...] = ()
    is_picture: bool = False
    served: str = ""
    grid: str = ""
    failure: str = ""
    facts: Facts | None = None
    missed: SourceError | None = None


@dataclass(frozen=True)
class CutChunk:
    """A chunk between the process that read it and the one that encodes it."""

    cuts: list[_Cut]
    stages: dict[str, float]


@functools.lru_cache(maxsize=1)
def _warm(spec: EncoderSpec) -> Patient:
    """The encoder of this worker, kept between chunks."""
    return Patient(build_encoder(spec))


def build(spec: EncoderSpec) -> None:
    """Build the encoder of this worker, if it is not; EncoderError if that is not possible."""
    _warm(spec)


def build_ahead(spec: EncoderSpec) -> None:
    """Import what studies will need, and build the encoder, before there is a study.

    It is not built where a GPU would run it, which one process does, nor where its weights have to be fetched first.
    """
    if not (gpus_for(spec) or hub_id(spec)):
        _warm(spec)


def cutter(spec: EncoderSpec) -> Cutter:
    """What cuts volumes for this encoder."""
    return _warm(spec).encoder.parts


def embed_chunk(studies: Sequence[Study], spec: EncoderSpec) -> ChunkResult:
    """Read and encode some studies; the next is read while one is encoded.

    Parts of several studies go through the encoder together, within a bound on their number and bytes.
    A study that cannot be read does not disturb the others.

    Raises
    ------
    EncoderError
        If the encoder cannot be built, fails on any study, or cannot tell slices apart.
    """
    stages = dict.fromkeys(STAGES, 0.0)
    return _encode_all(_read_ahead(studies, spec, cutter(spec), stages), spec, stages)


def cut_chunk(studies: Sequence[Study], spec: EncoderSpec, parts: Cutter) -> CutChunk:
    """Read and cut some studies in a process without an encoder; the first half of `embed_chunk`."""
    stages = dict.fromkeys(STAGES, 0.0)
    return CutChunk(list(_read_ahead(studies, spec, parts, stages)), stages)


def encode_chunk(chunk: CutChunk, spec: EncoderSpec) -> ChunkResult:
    """Encode what was cut elsewhere; the second half of `embed_chunk`."""
    return _encode_all(chunk.cuts, spec, chunk.stages)


# -- reading


def _read_ahead(studies: Sequence[Study], spec: EncoderSpec, parts: Cutter, stages: dict[str, float]) -> Iterator[_Cut]:
    """Yield each study's parts; one study at most is read ahead, and its volume is dropped once cut."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        coming = reader.submit(_cut, studies[0], spec, parts, stages)
        for study in studies[1:]:
            cut, coming = coming.result(), reader.submit(_cut, study, spec, parts, stages)
            yield cut
        yield coming.result()


def _cut(study: Study, spec: EncoderSpec, cutter: Cutter, stages: dict[str, float]) -> _Cut:
    """Read one study and cut it; what goes wrong is that study's failure, if it is not the encoder's."""
    facts = None
    try:
        start = time.perf_counter()
        with at_hand(study) as (here, facts):
            volume = read_volume(here)
        keep_served(study, volume)
        read = time.perf_counter()
        picture = thumbnail(volume)
        slices = view_slices(volume, spec.views) if spec.needs_slices else ()
    except SourceError as error:
        return _Cut(study, missed=error)
    except VolumeError as error:
        return _Cut(study, failure=str(error), facts=facts)
    except MemoryError:
        return _Cut(study, failure=_NO_MEMORY, facts=facts)
    except Exception as error:
        logger.debug("Study %s failed", study.study_id, exc_info=True)
        return _Cut(study, failure=f"It cannot be read ({type(error).__name__}: {error}).", facts=facts)
    try:
        parts = cutter(volume)
    except Exception as error:  # noqa: BLE001 - an encoder may be anyone's
        reason = _fault(error, spec, lambda: cutter(_blank(is_picture=volume.is_picture)))
        return _Cut(study, failure=reason, facts=facts)
    stages["reading"] += read - start
    stages["viewing"] += time.perf_counter() - read
    if spec.needs_slices and len(parts) != len(slices):
        msg = (
            f"Encoder '{spec.name}' does not look at single slices: it cannot embed or pool them by plane. "
            "Take unit: volume with pooling: mean."
        )
        raise EncoderError(msg)
    if spec.unit == "slice":
        parts, slices = _distinct(parts, slices)
    ending = served_ending(study, volume)
    grid = grid_text(volume)
    return _Cut(study, parts, slices, picture, volume.notes, volume.is_picture, ending, grid, facts=facts)


def _distinct(parts: Parts, slices: Sequence[Slice]) -> tuple[Parts, tuple[Slice, ...]]:
    """Drop slices that repeat, as they do where a volume has fewer than are asked for; sort the others."""
    place_of = {where: place for place, where in reversed(list(enumerate(slices)))}
    kept = sorted(place_of)
    return parts[[place_of[where] for where in kept]], tuple(kept)


# -- encoding


def _encode_all(cuts: Iterable[_Cut], spec: EncoderSpec, stages: dict[str, float]) -> ChunkResult:
    """Encode the parts of several studies at once, within the bounds."""
    result = ChunkResult([], [], stages)
    waiting: list[_Cut] = []
    for cut in cuts:
        if cut.facts is not None:
            result.facts.append((cut.study, cut.facts))
        if cut.missed is not None:
            result.missed.append((cut.study, cut.missed))
            continue
        if cut.failure:
            result.failed.append((cut.study, cut.failure))
            continue
        if waiting and waiting[0].parts.shape[1:] != cut.parts.shape[1:]:  # crops may be of different sizes
            _encode(waiting, spec, result)
            waiting = []
        waiting.append(cut)
        n_parts, n_bytes = sum(len(some.parts) for some in waiting), sum(some.parts.nbytes for some in waiting)
        if n_parts >= _BATCH_PARTS or n_bytes >= _BATCH_BYTES:
            _encode(waiting, spec, result)
            waiting = []
    _encode(waiting, spec, result)
    return result


def _encode(cuts: Sequence[_Cut], spec: EncoderSpec, result: ChunkResult) -> None:
    """Encode studies together; where that fails each alone, so that only the guilty one does."""
    if not cuts:
        return
    result.began = result.began or time.time()
    start = time.perf_counter()
    try:
        pooled = _pooled(cuts, spec)
    except Exception as error:  # noqa: BLE001 - an encoder may be anyone's
        result.stages["encoding"] += time.perf_counter() - start
        if len(cuts) == 1:
            result.failed.append((cuts[0].study, _fault(error, spec, lambda: _probe(spec, cuts[0]))))
            return
        for cut in cuts:
            _encode([cut], spec, result)
        return
    result.stages["encoding"] += time.perf_counter() - start
    result.n_parts += sum(len(cut.parts) for cut in cuts)
    for cut, (vectors, slices) in zip(cuts, pooled, strict=True):
        result.embedded.append(Embedded(cut.study, vectors, slices, cut.thumbnail, cut.notes, cut.served, cut.grid))


def _pooled(cuts: Sequence[_Cut], spec: EncoderSpec) -> list[tuple[Parts, tuple[Slice, ...]]]:
    """Encode the parts of several studies at once; pool them study by study, unless each is a row of its own."""
    parts = np.concatenate([cut.parts for cut in cuts])
    rows = _rows(parts, spec)
    ends = np.cumsum([len(cut.parts) for cut in cuts])
    owns = zip(cuts, np.split(rows, ends[:-1]), strict=True)
    if spec.unit == "slice":
        return [(own, cut.slices) for cut, own in owns]
    shown = [[where.plane for where in cut.slices] for cut in cuts]
    return [
        (pool_parts(own, spec.pooling, shown=of, planes=spec.views.planes)[None], ())
        for (_, own), of in zip(owns, shown, strict=True)
    ]


def _rows(parts: Parts, spec: EncoderSpec) -> Parts:
    rows = _warm(spec).encode(parts)
    if rows.ndim != 2 or len(rows) != len(parts):  # noqa: PLR2004 - rows of numbers
        msg = f"it gives an array of shape {rows.shape} for {len(parts)} parts"
        raise ValueError(msg)
    if not np.isfinite(rows).all():
        msg = "it gives numbers that are not finite"
        raise ValueError(msg)
    return rows


# -- blame

_NO_MEMORY = "It needs more memory than this machine has free."


def _fault(error: Exception, spec: EncoderSpec, probe: Callable[[], object]) -> str:
    """Say why a study failed, if the encoder does its part on a blank one; else the encoder is at fault.

    Raises
    ------
    EncoderError
        If the probe fails as well, or the error is one already.
    """
    if isinstance(error, EncoderError):
        raise error
    said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    logger.debug("Encoder %s failed", spec.name, exc_info=error)
    try:
        probe()
    except Exception as again:
        msg = f"encoder '{spec.name}' fails on every study, a blank one too ({said})."
        raise EncoderError(msg) from again
    return _NO_MEMORY if is_out_of_memory(error) else f"The encoder fails on it ({said})."


def _probe(spec: EncoderSpec, cut: _Cut) -> None:
    """Do with a blank study what failed with another."""
    _rows(cutter(spec)(_blank(is_picture=cut.is_picture)), spec)


def _blank(*, is_picture: bool) -> Volume:
    return Volume(np.zeros((32, 32, 1 if is_picture else 32), np.float32), (1.0, 1.0, 1.0), is_picture=is_picture)
