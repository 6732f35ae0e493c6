"""Choose the next batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from firstpick import __version__
from firstpick.proposal.facts import pool_hash, with_facts
from firstpick.proposal.nouns import Duplicate, Pick, Proposal, n_chosen
from firstpick.proposal.outlook import outlook
from firstpick.selection import LARGEST_FIRST, Guards, Patches, Selection, check_strategy, select
from firstpick.selection.space import Space
from firstpick.studies import Pool, Slice


def propose(
    pool: Pool,
    *,
    strategy: str,
    batch_size: int,
    labelled: Collection[str] = (),
    excluded: Collection[str] = (),
    seed: int = 0,
    starts: int = 6,
    scaling: str = "l2",
    n_components: int = 32,
    guards: Guards = Guards(),  # noqa: B008 - frozen
    n_jobs: int = 0,
    encoder: str = "",
    fingerprint: str = "",
    partial: bool = False,
    keep: Sequence[Pick] = (),
    patches: Patches | None = None,
    **params: Any,
) -> Proposal:
    """Choose the next batch and say why.

    Parameters
    ----------
    pool : Pool
        With its groups and strata, if they are to matter.
    strategy, seed, starts, scaling, n_components, guards, n_jobs, patches, **params
        See `firstpick.selection.select`.
    batch_size : int
        How many studies, or slices, 1 or more. Where fewer are left, the proposal has fewer, and a note.
    labelled, excluded : collection of str
        Studies that are done, and that were skipped: never picked. Those not in the pool are ignored.
        Excluded ones count neither in shares nor in coverage. All slices in the pool of a labelled study are taken
        for labelled: of one that was annotated in part, see `firstpick.studies.Pool.trimmed`.
    encoder, fingerprint, partial
        Passed on to the proposal.
    keep : sequence of Pick
        Picks that stay on top in this order, since somebody holds their studies. For the selection of the others
        they count as labelled, and nothing else of their studies is picked. Those labelled, excluded or not in the
        pool are dropped; none is dropped for want of room.

    Returns
    -------
    Proposal
        The picks as the strategy ordered them; by share, the largest first, of a strategy that takes the largest
        cluster first.

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
    here = {*pool.study_ids}
    done = here & {*labelled}
    out = here & {*excluded} - done
    kept = list({pick.study_id: pick for pick in keep if pick.study_id in here - done - out}.values())
    left = here - done - out - {pick.study_id for pick in kept}
    if not left and not kept:
        why = f"all {pool.n_studies} studies are labelled or skipped" if here else "no study has an embedding"
        msg = f"Nothing left to choose: {why}."
        raise ValueError(msg)
    duplicates: list[Duplicate] = []
    picks = [Pick(rank, pick.study_id, 0.0, pick.slices) for rank, pick in enumerate(kept, start=1)]
    n_more = batch_size - n_chosen(kept)
    if left and n_more > 0:
        chosen = choose(
            pool,
            n_more,
            labelled=done,
            excluded=out,
            keep=kept,
            strategy=strategy,
            seed=seed,
            starts=starts,
            scaling=scaling,
            n_components=n_components,
            guards=guards,
            n_jobs=n_jobs,
            patches=patches,
            **params,
        )
        duplicates = _duplicates(pool, chosen)
        picks += _picks(pool, chosen, first_rank=len(kept) + 1)
    proposal = Proposal(
        strategy=strategy,
        encoder=encoder,
        batch_size=batch_size,
        partial=partial,
        picks=tuple(picks),
        duplicates=tuple(duplicates),
        unusual=tuple(_unusual(pool, out)),
        outlook=pool.kept(outlook),
        provenance={
            "fingerprint": fingerprint,
            "pool_hash": pool_hash(pool),
            "strategy": strategy,
            "params": dict(params),
            "seed": seed,
            "starts": starts,
            "scaling": scaling,
            "n_components": n_components,
            "guards": asdict(guards),
            "version": __version__,
        },
    )
    told = with_facts(proposal, pool, labelled=done, excluded=out)
    if strategy not in LARGEST_FIRST:
        return told
    ordered = _by_share(told, pool, n_kept=len(kept), is_odd_last=guards.outliers == "last")
    return with_facts(replace(told, picks=ordered), pool, labelled=done, excluded=out)


def choose(
    pool: Pool,
    n_select: int,
    *,
    strategy: str,
    labelled: Collection[str],
    excluded: Collection[str],
    keep: Sequence[Pick] = (),
    **choice: Any,
) -> Selection:
    """Choose rows of a pool, see `firstpick.selection.select`; studies that are not in the pool are ignored."""
    kept = {row for pick in keep for row in pool.rows_at(pick.study_id, pick.slices)}
    rest = set(pool.rows([pick.study_id for pick in keep])) - kept
    return select(
        strategy,
        pool.vectors,
        n_select,
        labelled={*pool.rows(labelled), *kept},
        excluded={*pool.rows(excluded), *rest},
        groups=pool.groups or None,
        strata=pool.strata or None,
        slices=[(s.study_id, s.at.plane, s.at.position_mm) for s in pool.samples if s.at] or None,
        **choice,
    )


def _picks(pool: Pool, chosen: Selection, *, first_rank: int) -> Iterator[Pick]:
    """Yield a pick for each study that something was chosen of, in the order of the first that was."""
    scores: dict[str, float] = {}
    slices: dict[str, list[Slice]] = {}
    for row, score in zip(chosen.indices, chosen.scores, strict=True):
        sample = pool.samples[row]
        scores.setdefault(sample.study_id, float(score))
        slices.setdefault(sample.study_id, []).extend([sample.at] if sample.at else [])
    for rank, (study_id, score) in enumerate(scores.items(), start=first_rank):
        yield Pick(rank, study_id, score, tuple(sorted(slices[study_id])))


def _by_share(proposal: Proposal, pool: Pool, *, n_kept: int, is_odd_last: bool) -> tuple[Pick, ...]:
    """Put the picks in the order of their shares, the largest first; what is kept stays on top.

    Each stratum keeps its ranks, copies stay behind all others, and so does what is unusual, if it is to come last.
    """
    copies = {duplicate.study_id for duplicate in proposal.duplicates}
    odd = {*proposal.unusual} if is_odd_last else set()
    kinds: dict[Any, list[Pick]] = {}
    for pick in proposal.picks:
        stratum = pool.strata[pool.rows([pick.study_id])[0]] if pool.strata else ""
        kind = pick.rank <= n_kept and pick.rank, stratum, pick.study_id in copies, pick.study_id in odd
        kinds.setdefault(kind, []).append(pick)
    ordered = list(proposal.picks)
    for picks in kinds.values():
        for place, pick in zip(picks, sorted(picks, key=lambda pick: -pick.share), strict=True):
            ordered[place.rank - 1] = replace(pick, rank=place.rank)
    return tuple(ordered)


def _duplicates(pool: Pool, chosen: Selection) -> list[Duplicate]:
    """Return the studies that repeat another; one with slices, if most of them repeat slices of the same study."""
    ids = pool.study_ids
    n_rows = Counter(ids)
    pairs = Counter((ids[row], ids[original]) for row, original in chosen.duplicates)
    return [Duplicate(one, other) for (one, other), n in sorted(pairs.items()) if one != other and 2 * n > n_rows[one]]


def _unusual(pool: Pool, excluded: Collection[str]) -> Iterator[str]:
    """Yield the studies that are far from everything, or most of whose slices are."""
    is_out = np.zeros(len(pool), np.bool_)
    is_out[pool.rows(excluded)] = True
    rows = np.flatnonzero(~is_out)
    is_odd = pool.kept(Space).unusual(rows, excluded=is_out)
    n_rows = Counter(pool.study_ids)
    n_odd = Counter(pool.study_ids[row] for row in rows[is_odd])
    yield from (study_id for study_id, n in sorted(n_odd.items()) if 2 * n > n_rows[study_id])
