"""What people do without a strategy where slices are chosen: every so many-th, or the middle ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest

import numpy as np

from firstpick.studies import Sample

_PLANES = ("axial", "coronal", "sagittal")


def strided(n_select: int, samples: Sequence[Sample], *, seed: int) -> list[int]:
    """Take slices in steps of equal length through all studies, one after the other, from a place drawn by the seed.

    Parameters
    ----------
    n_select : int
        At most the number of samples.
    samples : sequence of Sample
        Slices, sorted.
    seed : int

    Returns
    -------
    list of int
        Unique places among the samples.

    Examples
    --------
    >>> found = strided(2, [Sample("a")] * 3 + [Sample("b")] * 3, seed=0)
    >>> abs(found[0] - found[1])
    3
    """
    start = int(np.random.default_rng(seed).integers(len(samples)))
    return [(start + place * len(samples) // n_select) % len(samples) for place in range(n_select)]


def middle(n_select: int, samples: Sequence[Sample], *, seed: int) -> list[int]:
    """Take the middle axial slice of each study, the studies in an order drawn by the seed; then the ones next to it.

    Where a study has no axial slices (any more), its coronal and then its sagittal ones follow, from the middle on.

    Parameters
    ----------
    n_select : int
        At most the number of samples.
    samples : sequence of Sample
        Slices; each has a place in its study.
    seed : int

    Returns
    -------
    list of int
        Unique places among the samples; a smaller batch is the start of a larger one.
    """
    by_study: dict[str, dict[str, list[int]]] = {}
    for row, sample in enumerate(samples):
        if sample.at is not None:
            by_study.setdefault(sample.study_id, {}).setdefault(sample.at.plane, []).append(row)
    queues = [
        list(chain.from_iterable(_from_the_middle(planes.get(plane, []), samples) for plane in _PLANES))
        for planes in by_study.values()
    ]
    order = np.random.default_rng(seed).permutation(len(queues))
    rounds = zip_longest(*(queues[place] for place in order))
    return [row for row in chain.from_iterable(rounds) if row is not None][:n_select]


def _from_the_middle(rows: Sequence[int], samples: Sequence[Sample]) -> list[int]:
    """Sort slices of one plane by their distance from the middle between the first and the last."""
    where = {row: at.position_mm for row in rows if (at := samples[row].at) is not None}
    if not where:
        return []
    centre = (min(where.values()) + max(where.values())) / 2
    return sorted(where, key=lambda row: (abs(where[row] - centre), row))
