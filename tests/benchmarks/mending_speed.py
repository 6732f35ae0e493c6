"""What a decision and a look at the map cost the processor, in milliseconds, without a server.

Run by hand: ``python tests/benchmarks/mending_speed.py``; 5,000 studies of 1,024 numbers, a batch of 20 and 300 labels
unless ``--studies``, ``--dim``, ``--batch`` and ``--labelled`` say otherwise. With ``--slices N`` every study has so
many rows. Each line is the median of ``--repeats``; what is made once for a pool is made anew each time, with a new
pool. Seconds of the processor do not mind what else the machine does.
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import json
import statistics
import time
import zlib
from dataclasses import dataclass, replace

import numpy as np
from pydantic_core import to_jsonable_python

from firstpick.proposal import pool_hash, prepare, propose, read_proposal, with_replacement
from firstpick.report import Drawing, lookalikes
from firstpick.selection.geometry import principal_plane
from firstpick.studies import Pool, Sample, Slice

BOUNDS = {"a skip": 50, "the map, JSON and zlib level 1": 20}


@dataclass
class Decided:
    status: str
    client: str = "reader"
    reason: str = ""


def main():
    parser = argparse.ArgumentParser(description="Processor milliseconds of a decision and of the map.")
    parser.add_argument("--studies", type=int, default=5000, help="default 5000")
    parser.add_argument("--dim", type=int, default=1024, help="default 1024")
    parser.add_argument("--batch", type=int, default=20, help="default 20")
    parser.add_argument("--labelled", type=int, default=300, help="default 300")
    parser.add_argument("--slices", type=int, default=0, help="rows of each study (default: one, the study itself)")
    parser.add_argument("--repeats", type=int, default=9, help="default 9")
    options = parser.parse_args()
    pool = make_pool(options.studies, options.dim, options.slices)
    proposal = propose(pool, strategy="random", batch_size=options.batch)
    picked = {pick.study_id for pick in proposal.picks}
    labelled = [study_id for study_id in dict.fromkeys(pool.study_ids) if study_id not in picked][: options.labelled]
    print(f"{pool.n_studies:,} studies, {len(pool):,} rows of {options.dim}, batch {options.batch}, ", end="")
    print(f"{len(labelled)} labelled; median of {options.repeats}\n\n| what | processor, ms |\n|---|---|")
    for name, cost in costs(pool, proposal, labelled, options.repeats):
        bound = f" (at most {BOUNDS[name]})" if name in BOUNDS else ""
        print(f"| {name}{bound} | {cost:.1f} |", flush=True)


def make_pool(n_studies, dim, n_slices):
    """Rows around forty centres, as embeddings lie."""
    rng = np.random.default_rng(0)
    places = [Slice("axial", i, 5.0 * i) for i in range(n_slices)] or [None]
    samples = tuple(Sample(f"study_{i:06d}.nii.gz", at) for i in range(n_studies) for at in places)
    centres = rng.normal(size=(40, dim)).astype(np.float32)
    vectors = centres[rng.integers(40, size=len(samples))]
    vectors += 0.5 * rng.standard_normal(vectors.shape, dtype=np.float32)
    return Pool(samples, vectors, groups=tuple(f"patient-{i // 3}" for i in range(len(samples))))


def costs(pool, proposal, labelled, n_repeats):
    """Yield what is measured and its median."""

    def median(act, before=lambda: None):
        taken = []
        for _ in range(n_repeats):
            given = [made for made in [before()] if made is not None]
            start = time.process_time()
            act(*given)
            taken.append(1000 * (time.process_time() - start))
        return statistics.median(taken)

    fresh = lambda: replace(pool)  # noqa: E731 - nothing is kept with it yet
    yield "a pool made (its samples are looked through)", median(fresh)
    yield "hash of the pool", median(lambda: pool_hash(pool))
    yield "`prepare` after a pool is made", median(lambda new: prepare(proposal, new, labelled=labelled), fresh)
    prepare(proposal, pool, labelled=labelled)
    yield "a skip", median(skips(pool, proposal, labelled))
    yield "a skip after a label", median(skips(pool, proposal, labelled, with_label=True))
    as_json = json.dumps(to_jsonable_python(proposal))
    yield "a proposal to JSON", median(lambda: json.dumps(to_jsonable_python(proposal)))
    yield "a proposal from JSON", median(lambda: read_proposal(json.loads(as_json)))
    yield "slices of labelled studies alone (`trimmed`)", median(lambda: pool.trimmed(annotated(pool, labelled)))
    yield "one row a study (`by_study`)", median(Pool.by_study, fresh)
    yield from map_costs(pool.by_study(), proposal, labelled, median)


def skips(pool, proposal, labelled, *, with_label=False):
    """Return what mends the proposal again and again, each time in place of another pick."""
    now, gone, done = [proposal], set(), set(labelled)
    others = iter([study_id for study_id in reversed(pool.study_ids) if study_id not in done])

    def skip():
        picks = now[0].picks
        skipped = picks[len(gone) % len(picks)].study_id
        gone.add(skipped)
        if with_label:
            done.add(next(others))
        now[0] = with_replacement(now[0], pool, skipped, labelled=done, excluded=gone)

    return skip


def annotated(pool, labelled):
    """Of each labelled study its first slice; none, where the studies have no slices."""
    found = {}
    for study_id in labelled:
        at = pool.samples[pool.rows_at(study_id)[0]].at
        found[study_id] = (at,) if at else ()
    return found


def map_costs(pool, proposal, labelled, median):
    """Yield what is measured of the map; of slices, study by study."""
    yield "the plane, once a pool", median(lambda: principal_plane(pool.vectors))
    places = principal_plane(pool.vectors).round(5).tolist()
    plane = {study_id: (x, y) for study_id, (x, y) in zip(pool.study_ids, places, strict=True)}
    statuses = {study_id: Decided("done") for study_id in labelled}
    new = lambda: Drawing(pool, plane, groups_are_patients=True)  # noqa: E731 - nothing is drawn yet
    yield "the first map of a pool, JSON", median(lambda drawing: drawing.json(proposal.picks, statuses), new)
    drawing = new()
    text = drawing.json(proposal.picks, statuses)
    yield "the map, JSON", median(lambda: drawing.json(proposal.picks, statuses))
    for level in (6, 1):
        size = f"{len(text) / 1e6:.2f} MB to {len(zlib.compress(text, level)) / 1e6:.2f}"
        yield f"zlib level {level}, {size}", median(lambda level=level: zlib.compress(text, level))
    yield "the map, JSON and zlib level 1", median(lambda: zlib.compress(drawing.json(proposal.picks, statuses), 1))
    yield "look-alikes of a study", median(lambda: lookalikes(pool, [7]))


if __name__ == "__main__":
    main()
