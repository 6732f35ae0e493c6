"""Replace a pick that cannot be annotated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from firstpick.proposal.facts import with_facts
from firstpick.proposal.nouns import Pick, Proposal
from firstpick.selection.geometry import as_distance
from firstpick.selection.space import Space
from firstpick.studies import Pool, Sample


def replacement(
    pool: Pool, picks: Sequence[Pick], skipped: str, *, unavailable: Collection[str], min_distance_mm: float = 0.0
) -> tuple[Sample, ...]:
    """Return the next best of what a skipped pick stood for.

    Parameters
    ----------
    pool : Pool
    picks : sequence of Pick
        The skipped one among them.
    skipped : str
        Its study.
    unavailable : collection of str
        Studies that may not be taken.
    min_distance_mm : float
        Least distance of two slices in the same plane.

    Returns
    -------
    tuple of Sample
        Of the available studies nearer to the skipped pick than to any other, the one nearest to it. If there
        are none, the available study nearest to it. If its own embedding is gone, the available study farthest
        from the other picks. Ties go to the first study. For the first slice of a pick a slice is found in that way,
        and for each other one the nearest that is left in the same study. Empty if no study is available.
    """
    rows_of = {pick.study_id: pool.rows_at(pick.study_id, pick.slices) for pick in picks}
    taken = {*rows_of, *unavailable, skipped}
    is_free = np.ones(len(pool), np.bool_)
    is_free[pool.rows(taken)] = False
    if not is_free.any():
        return ()
    space = pool.kept(Space)
    others = [row for study_id, rows in rows_of.items() if study_id != skipped for row in rows]
    to_others = space.nearest(others)[1]
    gone = rows_of.get(skipped, [])
    if not gone:
        return (pool.samples[int(np.where(is_free, to_others, -1.0).argmax())],)
    first, *more = map(as_distance, space.squared(gone))
    is_own = is_free & (first <= to_others)
    found = [int(np.where(is_own if is_own.any() else is_free, first, np.inf).argmin())]
    same_study = pool.rows_at(pool.samples[found[0]].study_id)
    for distance in more:
        left = [
            row for row in same_study if _has_room(pool.samples[row], [pool.samples[i] for i in found], min_distance_mm)
        ]
        if left:
            found.append(left[int(distance[left].argmin())])
    return tuple(pool.samples[row] for row in sorted(found))


def _has_room(sample: Sample, found: Sequence[Sample], min_distance_mm: float) -> bool:
    """Tell whether a slice is none of some others of its study, and far enough from them."""
    return not any(
        sample.at is None
        or other.at is None
        or sample == other
        or (sample.at.plane == other.at.plane and abs(sample.at.position_mm - other.at.position_mm) < min_distance_mm)
        for other in found
    )


def with_replacement(
    proposal: Proposal,
    pool: Pool,
    skipped: str,
    *,
    labelled: Collection[str],
    excluded: Collection[str],
    unavailable: Collection[str] = (),
) -> Proposal:
    """Put another study in the place of a pick that cannot be annotated.

    Parameters
    ----------
    proposal : Proposal
        Not modified.
    pool : Pool
    skipped : str
        A pick of the proposal.
    labelled, excluded : collection of str
        As for `propose`, as they are now; ``skipped`` is excluded in any case.
    unavailable : collection of str
        Studies that may not be taken but count as unlabelled, such as those somebody holds.

    Returns
    -------
    Proposal
        With `replacement` in its place, of the same rank and score; a copy of another study, or a patient of
        whom there are enough, only if there is nobody else. If there is nobody, the ranks close up.
        All reasons, shares and coverages are those of now. A pick whose embedding is gone keeps its place and
        stands for nobody.

    Raises
    ------
    ValueError
        If ``skipped`` is not a pick.
    """
    ids = [pick.study_id for pick in proposal.picks]
    if skipped not in ids:
        msg = f"study {skipped!r} is not among the {len(ids)} picks of the proposal."
        raise ValueError(msg)
    out = {*excluded, skipped}
    taken = {*labelled, *out, *unavailable}
    distance = proposal.provenance.get("guards", {}).get("min_distance_mm", 0.0)
    for avoided in (_to_avoid(proposal, pool, skipped, labelled), set()):
        found = replacement(pool, proposal.picks, skipped, unavailable=taken | avoided, min_distance_mm=distance)
        if found:
            break
    picks: list[Pick] = []
    for pick in proposal.picks:
        if pick.study_id != skipped:
            picks.append(replace(pick, rank=len(picks) + 1))
        elif found:
            slices = tuple(sample.at for sample in found if sample.at)
            picks.append(Pick(len(picks) + 1, found[0].study_id, pick.score, slices, replaces=skipped))
    return with_facts(replace(proposal, picks=tuple(picks)), pool, labelled=labelled, excluded=out)


def _to_avoid(proposal: Proposal, pool: Pool, skipped: str, labelled: Collection[str]) -> set[str]:
    """Return copies, and the studies of patients of whom as many as allowed are labelled or picked."""
    avoid = {duplicate.study_id for duplicate in proposal.duplicates}
    limit = proposal.provenance.get("guards", {}).get("max_per_group", 0)
    if limit and pool.groups:
        stays = {*labelled, *(pick.study_id for pick in proposal.picks)} - {skipped}
        n_of = Counter(map(pool.group_of, stays))
        avoid |= {study_id for group, n in n_of.items() if group and n >= limit for study_id in pool.studies_of(group)}
    return avoid
