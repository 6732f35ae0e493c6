"""How much of a batch is chance."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from firstpick.proposal.make import choose
from firstpick.proposal.nouns import Advice, Proposal
from firstpick.studies import Pool


def advise(
    proposal: Proposal,
    pool: Pool,
    *,
    labelled: Collection[str] = (),
    excluded: Collection[str] = (),
    n_repeats: int = 10,
    **choice: Any,
) -> Advice:
    """Advise on a proposal.

    Parameters
    ----------
    proposal : Proposal
    pool, labelled, excluded, **choice
        What it was made with, see `firstpick.proposal.propose`.
    n_repeats : int
        Other seeds, and bootstrap samples, to try.

    Returns
    -------
    Advice

    Notes
    -----
    The overlap of two batches is Jaccard's: the studies that both have, over those that either has. A bootstrap
    sample has as many draws as there are unlabelled studies, and so about 63 % of them; of the batch only those in
    the sample are compared, and the sample's batch is as large as what is left of it.
    """
    seed = int(choice.pop("seed", 0))
    ids = pool.study_ids
    batch = {pick.study_id: len(pick.slices) or 1 for pick in proposal.picks}
    n_batch = sum(batch.values())
    free = sorted(set(ids) - set(labelled) - set(excluded))

    def again(n_select: int, seed: int, without: Collection[str] = ()) -> list[str]:
        out = {*excluded, *without}
        chosen = choose(pool, n_select, labelled=labelled, excluded=out, seed=seed, **choice)
        return [ids[row] for row in chosen.indices]

    by_seed = [_jaccard(batch, again(n_batch, seed + 1 + i)) for i in range(n_repeats)]
    by_sample = [
        _jaccard(kept, again(sum(batch[study_id] for study_id in kept), seed, out))
        for kept, out in _samples(free, [*batch], n_repeats)
    ]
    return Advice(
        jaccard_seeds=statistics.fmean(by_seed),
        jaccard_bootstrap=statistics.fmean(by_sample) if by_sample else 1.0,
        jaccard_chance=_by_chance(len(batch), len(free)),
    )


def _samples(free: Sequence[str], batch: Sequence[str], n_samples: int) -> Iterator[tuple[list[str], set[str]]]:
    """Yield what a bootstrap sample has of the batch, and what it lacks of the pool; samples with none are passed."""
    rng = np.random.default_rng(0)
    for _ in range(n_samples):
        sample = {free[place] for place in rng.integers(len(free), size=len(free))}
        kept = [study_id for study_id in batch if study_id in sample]
        if kept:
            yield kept, set(free) - sample


def sentence(advice: Advice) -> str:
    """Put advice into one plain sentence.

    Examples
    --------
    >>> print(sentence(Advice(0.45, 0.3, 0.03)))
    In common with this batch: other seeds 45 %, bootstrap samples of the pool 30 %, random batches 3 %.
    """
    return (
        f"In common with this batch: other seeds {_percent(advice.jaccard_seeds)}, bootstrap samples of the "
        f"pool {_percent(advice.jaccard_bootstrap)}, random batches {_percent(advice.jaccard_chance)}."
    )


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"


def _jaccard(one: Collection[str], other: Collection[str]) -> float:
    return len({*one} & {*other}) / len({*one} | {*other})


def _by_chance(n_select: int, n_free: int) -> float:
    """Overlap that two random batches have, from the mean number of common studies."""
    common = n_select**2 / n_free
    return common / (2 * n_select - common)
