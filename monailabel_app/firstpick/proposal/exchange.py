"""Replace a pick that cannot be annotated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from firstpick.proposal.facts import with_facts
from firstpick.proposal.nouns import Pick, Proposal
from firstpick.selection.geometry import distances, nearest, unit_rows
from firstpick.studies import Pool


def replacement(pool: Pool, picks: Sequence[str], skipped: str, *, unavailable: Collection[str]) -> str | None:
    """Return the next best of what a skipped pick stood for.

    Parameters
    ----------
    pool : Pool
    picks : sequence of str
        All picks, the skipped one among them.
    skipped : str
    unavailable : collection of str
        Studies that may not be taken.

    Returns
    -------
    str or None
        Of the available studies nearer to the skipped pick than to any other, the one nearest to it. If there
        are none, the available study nearest to it. If its own embedding is gone, the available study farthest
        from the other picks. Ties go to the first study. None if no study is available.
    """
    ids = pool.study_ids
    row_of = {study_id: row for row, study_id in enumerate(ids)}
    taken = {*picks, *unavailable, skipped}
    free = [row for study_id, row in row_of.items() if study_id not in taken]
    if not free:
        return None
    unit = unit_rows(pool.vectors)
    others = [row_of[study_id] for study_id in picks if study_id in row_of and study_id != skipped]
    to_others = nearest(unit[free], unit[others])[1] if others else np.full(len(free), np.inf)
    if skipped not in row_of:
        return ids[free[int(to_others.argmax())]]
    to_skipped = distances(unit[free], unit[[row_of[skipped]]])[:, 0]
    return ids[free[int(np.lexsort((to_skipped, to_skipped > to_others))[0])]]


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
    found = replacement(pool, ids, skipped, unavailable=taken | _to_avoid(proposal, pool, skipped, labelled))
    found = found or replacement(pool, ids, skipped, unavailable=taken)
    picks: list[Pick] = []
    for pick in proposal.picks:
        if pick.study_id != skipped:
            picks.append(replace(pick, rank=len(picks) + 1))
        elif found is not None:
            picks.append(Pick(len(picks) + 1, found, pick.score, replaces=skipped))
    return with_facts(replace(proposal, picks=tuple(picks)), pool, labelled=labelled, excluded=out)


def _to_avoid(proposal: Proposal, pool: Pool, skipped: str, labelled: Collection[str]) -> set[str]:
    """Return copies, and the studies of patients of whom as many as allowed are labelled or picked."""
    avoid = {duplicate.study_id for duplicate in proposal.duplicates}
    limit = proposal.provenance.get("guards", {}).get("max_per_group", 0)
    if limit and pool.groups:
        group_of = dict(zip(pool.study_ids, pool.groups, strict=True))
        stays = {*labelled, *(pick.study_id for pick in proposal.picks)} - {skipped}
        n_of = Counter(group_of[study_id] for study_id in stays if study_id in group_of)
        avoid |= {study_id for study_id, group in group_of.items() if group and n_of[group] >= limit}
    return avoid
