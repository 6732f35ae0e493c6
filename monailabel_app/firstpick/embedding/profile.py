"""Where the time of a run went, beside what the encoder alone would have taken."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from firstpick.embedding.chunk import Parts, build, cut_chunk, cutter
from firstpick.embedding.plan import chunks
from firstpick.encoders import EncoderSpec, build_encoder
from firstpick.encoders.ready import gpus_for
from firstpick.studies import Study
from firstpick.workers import LocalPool

_SECONDS = 2.0
_N_STUDIES = 8


def bare_seconds(studies: Sequence[Study], spec: EncoderSpec, pool: LocalPool, *, n_parts: int) -> float:
    """Seconds that the encoder alone would take for so many parts, in as many processes as encode in a run.

    Measured on the parts of a few of the studies, which lie in memory and are encoded again and again for two seconds,
    in all processes at once; each has its encoder built and has encoded before.
    """
    if not n_parts:
        return 0.0
    some = chunks(studies[:: max(1, len(studies) // _N_STUDIES)])[0]
    n_processes = pool.submit_slow(gpus_for, spec).result() or pool.n_workers
    answers = [pool.submit_after((build, spec), seconds_a_part, some, spec) for _ in range(n_processes)]
    rates: list[float] = [1 / answer.result() for answer in answers]
    return n_parts / sum(rates)


def seconds_a_part(studies: Sequence[Study], spec: EncoderSpec) -> float:
    """Time the encoder of this process on the parts of some studies, as large batches."""
    cuts = cut_chunk(studies, spec, cutter(spec)).cuts
    found = sorted((cut.parts for cut in cuts if cut.parts.size), key=_shape)
    batches = [np.concatenate(list(alike)) for _, alike in groupby(found, key=_shape)]
    encoder = build_encoder(spec)
    for batch in batches:
        encoder.encode(batch)
    start, n_encoded = time.perf_counter(), 0
    while time.perf_counter() - start < _SECONDS:
        for batch in batches:
            encoder.encode(batch)
            n_encoded += len(batch)
    return (time.perf_counter() - start) / n_encoded


def _shape(parts: Parts) -> tuple[int, ...]:
    return parts.shape[1:]
