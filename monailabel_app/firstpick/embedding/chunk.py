"""What a worker process does: read, cut and encode the studies of one chunk."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from firstpick.embedding.cache import Embedded
from firstpick.encoders import Encoder, EncoderError, EncoderSpec, build_encoder, pool_parts
from firstpick.studies import Slice, Study
from firstpick.voxels.served import served_ending
from firstpick.voxels.views import thumbnail, view_slices
from firstpick.voxels.volumes import VolumeError, read_volume

logger = logging.getLogger(__name__)

STAGES = ("reading", "viewing", "encoding", "storing")
_BATCH_PARTS = 32
_BATCH_BYTES = 256 * 2**20


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
    parts: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    slices: tuple[Slice, ...] = ()  # of the parts, where the recipe needs to know
    thumbnail: bytes = b""
    notes: tuple[str, ...] = ()
    served: str = ""
    failure: str = ""


@functools.lru_cache(maxsize=1)
def _warm(spec: EncoderSpec) -> Encoder:
    """The encoder of this worker, kept between chunks."""
    return build_encoder(spec)


def embed_chunk(studies: Sequence[Study], spec: EncoderSpec) -> ChunkResult:
    """Read and encode some studies; the next is read while one is encoded.

    Parts of several studies go through the encoder together, within a bound on their number and bytes.
    A study that cannot be read does not disturb the others.

    Raises
    ------
    EncoderError
        If the encoder cannot be built, or cannot tell slices apart, which no other study could mend.
    """
    encoder = _warm(spec)
    result = ChunkResult([], [], dict.fromkeys(STAGES, 0.0))
    waiting: list[_Cut] = []
    for cut in _read_ahead(studies, spec, encoder, result.stages):
        if cut.failure:
            result.failed.append((cut.study, cut.failure))
            continue
        if waiting and waiting[0].parts.shape[1:] != cut.parts.shape[1:]:  # crops may be of different sizes
            _encode(waiting, encoder, spec, result)
            waiting = []
        waiting.append(cut)
        n_parts, n_bytes = sum(len(some.parts) for some in waiting), sum(some.parts.nbytes for some in waiting)
        if n_parts >= _BATCH_PARTS or n_bytes >= _BATCH_BYTES:
            _encode(waiting, encoder, spec, result)
            waiting = []
    if waiting:
        _encode(waiting, encoder, spec, result)
    return result


def _read_ahead(
    studies: Sequence[Study], spec: EncoderSpec, encoder: Encoder, stages: dict[str, float]
) -> Iterator[_Cut]:
    """Yield each study's parts; one study at most is read ahead, and its volume is dropped once cut."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        coming = reader.submit(_cut, studies[0], spec, encoder, stages)
        for study in studies[1:]:
            cut, coming = coming.result(), reader.submit(_cut, study, spec, encoder, stages)
            yield cut
        yield coming.result()


def _cut(study: Study, spec: EncoderSpec, encoder: Encoder, stages: dict[str, float]) -> _Cut:
    """Read one study and cut it; whatever goes wrong is that study's failure alone."""
    try:
        start = time.perf_counter()
        volume = read_volume(study)
        read = time.perf_counter()
        parts, picture = encoder.parts(volume), thumbnail(volume)
        slices = view_slices(volume, spec.views) if spec.needs_slices else ()
    except EncoderError:
        raise
    except VolumeError as error:
        return _Cut(study, failure=str(error))
    except MemoryError:
        return _Cut(study, failure="It needs more memory than this machine has free.")
    except Exception as error:
        logger.debug("Study %s failed", study.study_id, exc_info=True)
        return _Cut(study, failure=f"It cannot be read ({type(error).__name__}: {error}).")
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
    return _Cut(study, parts, slices, picture, volume.notes, served_ending(study, volume))


def _distinct(parts: NDArray[np.float32], slices: Sequence[Slice]) -> tuple[NDArray[np.float32], tuple[Slice, ...]]:
    """Drop slices that repeat, as they do where a volume has fewer than are asked for; sort the others."""
    place_of = {where: place for place, where in reversed(list(enumerate(slices)))}
    kept = sorted(place_of)
    return parts[[place_of[where] for where in kept]], tuple(kept)


def _encode(cuts: Sequence[_Cut], encoder: Encoder, spec: EncoderSpec, result: ChunkResult) -> None:
    """Encode the parts of several studies at once; pool them study by study, unless each is a row of its own."""
    start = time.perf_counter()
    rows = encoder.encode(np.concatenate([cut.parts for cut in cuts]))
    ends = np.cumsum([len(cut.parts) for cut in cuts])
    for cut, own in zip(cuts, np.split(rows, ends[:-1]), strict=True):
        if spec.unit == "slice":
            vectors, slices = own, cut.slices
        else:
            shown = [where.plane for where in cut.slices]
            vectors, slices = pool_parts(own, spec.pooling, shown=shown, planes=spec.views.planes)[None], ()
        if np.isfinite(vectors).all():
            result.embedded.append(Embedded(cut.study, vectors, slices, cut.thumbnail, cut.notes, cut.served))
        else:
            result.failed.append((cut.study, "The encoder gave no finite numbers for it."))
    result.stages["encoding"] += time.perf_counter() - start
