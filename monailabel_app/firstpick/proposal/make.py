"""Choose the next batch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from firstpick import __version__
from firstpick.proposal.facts import pool_hash, with_facts
from firstpick.proposal.nouns import Duplicate, Pick, Proposal
from firstpick.selection import Guards, Selection, check_strategy, select
from firstpick.selection.geometry import unit_rows
from firstpick.selection.outliers import unusual
from firstpick.studies import LeftOut, Pool


def propose(
    pool: Pool,
    *,
    strategy: str,
    batch_size: int,
    labelled: Collection[str] = (),
    excluded: Collection[str] = (),
    seed: int = 0,
    scaling: str = "l2",
    n_components: int = 32,
    guards: Guards = Guards(),  # noqa: B008 - frozen
    n_jobs: int = 0,
    encoder: str = "",
    fingerprint: str = "",
    failed: Collection[LeftOut] = (),
    left_out: Collection[LeftOut] = (),
    partial: bool = False,
    keep: Sequence[str] = (),
    **params: Any,
) -> Proposal:
    """Choose the next batch and say why.

    Parameters
    ----------
    pool : Pool
        With its groups and strata, if they are to matter.
    strategy, seed, scaling, n_components, guards, n_jobs, **params
        See `firstpick.selection.select`.
    batch_size : int
        How many picks, 1 or more. Where fewer studies are left, the proposal has fewer, and a note.
    labelled, excluded : collection of str
        Studies that are done, and that were skipped: never picked. Those not in the pool are ignored.
        Excluded ones count neither in shares nor in coverage.
    encoder, fingerprint, failed, left_out, partial
        Passed on to the proposal.
    keep : sequence of str
        Studies that stay on top in this order, since somebody holds them. For the selection of the others
        they count as labelled. Those labelled, excluded or not in the pool are dropped; none is dropped for
        want of room.

    Returns
    -------
    Proposal

    Raises
    ------
    ValueError
        If ``batch_size`` is below 1, a name is not known, or nothing is left to choose.

    Examples
    --------
    >>> import numpy as np
    >>> from firstpick.studies import Sample
    >>> vectors = np.array([[9, 0], [9, 1], [9, 2], [0, 9]], dtype=np.float32)
    >>> pool = Pool(tuple(Sample(name) for name in "abcd"), vectors)
    >>> [pick.reason for pick in propose(pool, strategy="kmeans", batch_size=2).picks]
    ['Stands for 3 of the 4 unlabelled studies (75 %); most like c, a.', 'Stands for itself alone.']
    """
    check_strategy(strategy, params)
    if batch_size < 1:
        msg = f"batch_size must be 1 or more; got {batch_size}."
        raise ValueError(msg)
    row_of = {study_id: row for row, study_id in enumerate(pool.study_ids)}
    done = row_of.keys() & set(labelled)
    out = row_of.keys() & set(excluded) - done
    kept = [study_id for study_id in dict.fromkeys(keep) if study_id in row_of.keys() - done - out]
    n_left = len(pool) - len(done) - len(out) - len(kept)
    if n_left == 0 and not kept:
        why = f"all {len(pool)} studies are labelled or skipped" if len(pool) else "no study has an embedding"
        msg = f"Nothing left to choose: {why}."
        raise ValueError(msg)
    duplicates: list[Duplicate] = []
    picks = [Pick(rank, study_id, 0.0) for rank, study_id in enumerate(kept, start=1)]
    if n_left > 0 and batch_size > len(kept):
        chosen = choose(
            pool,
            batch_size - len(kept),
            labelled={*done, *kept},
            excluded=out,
            strategy=strategy,
            seed=seed,
            scaling=scaling,
            n_components=n_components,
            guards=guards,
            n_jobs=n_jobs,
            **params,
        )
        ids = pool.study_ids
        duplicates = [Duplicate(ids[row], ids[original]) for row, original in chosen.duplicates]
        for rank, (row, score) in enumerate(zip(chosen.indices, chosen.scores, strict=True), start=len(kept) + 1):
            picks.append(Pick(rank, pool.samples[row].study_id, float(score)))
    proposal = Proposal(
        strategy=strategy,
        encoder=encoder,
        batch_size=batch_size,
        partial=partial,
        picks=tuple(picks),
        duplicates=tuple(duplicates),
        unusual=tuple(_unusual(pool, out)),
        failed=tuple(failed),
        left_out=tuple(left_out),
        provenance={
            "fingerprint": fingerprint,
            "pool_hash": pool_hash(pool),
            "strategy": strategy,
            "params": dict(params),
            "seed": seed,
            "scaling": scaling,
            "n_components": n_components,
            "guards": asdict(guards),
            "version": __version__,
        },
    )
    return with_facts(proposal, pool, labelled=done, excluded=out)


def choose(
    pool: Pool, n_select: int, *, strategy: str, labelled: Collection[str], excluded: Collection[str], **choice: Any
) -> Selection:
    """Choose rows of a pool, see `firstpick.selection.select`; studies that are not in the pool are ignored."""
    row_of = {study_id: row for row, study_id in enumerate(pool.study_ids)}
    return select(
        strategy,
        pool.vectors,
        n_select,
        labelled=[row_of[study_id] for study_id in row_of.keys() & {*labelled}],
        excluded=[row_of[study_id] for study_id in row_of.keys() & {*excluded}],
        groups=pool.groups or None,
        strata=pool.strata or None,
        **choice,
    )


def _unusual(pool: Pool, excluded: Collection[str]) -> Iterator[str]:
    """Yield the studies that are far from everything."""
    rows = [row for row, study_id in enumerate(pool.study_ids) if study_id not in excluded]
    unit = unit_rows(pool.vectors[rows])
    yield from (pool.study_ids[row] for row, is_odd in zip(rows, unusual(unit, unit), strict=True) if is_odd)
