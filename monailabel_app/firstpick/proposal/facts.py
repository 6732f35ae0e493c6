"""What is said about the picks of a proposal, worked out from the pool."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from firstpick.proposal.explain import Reason, coverage, explain, merged, sentence, unsure_sentence
from firstpick.proposal.nouns import Pick, Proposal, n_chosen
from firstpick.selection.space import Space
from firstpick.studies import Pool


def with_facts(proposal: Proposal, pool: Pool, *, labelled: Collection[str], excluded: Collection[str]) -> Proposal:
    """Work out a proposal's shares, reasons, coverage, counts and note as they are now.

    Parameters
    ----------
    proposal : Proposal
        Of its picks, rank, study, slices, score and ``replaces`` stay. One whose embedding is gone keeps its title
        and stands for nobody.
    pool : Pool
    labelled, excluded : collection of str
        Studies; those not in the pool are ignored, and a pick is neither.

    Returns
    -------
    Proposal
    """
    ids = pool.study_ids
    picked = {pick.study_id for pick in proposal.picks}
    rows_of = [pool.rows_at(pick.study_id, pick.slices) for pick in proposal.picks]
    rows = [row for own in rows_of for row in own]
    done = pool.rows({*labelled} - picked)
    out = pool.rows({*excluded} - {*labelled} - picked)
    space = pool.kept(Space)
    reasons = dict(zip(rows, explain(space, rows, labelled=done, excluded=out), strict=True))
    covered = coverage(space, rows, labelled=done, excluded=out)
    after = dict(zip(rows, covered.after, strict=True))
    picks: list[Pick] = []
    curve = [covered.before]
    for pick, own in zip(proposal.picks, rows_of, strict=True):
        if not own:
            picks.append(replace(pick, share=0.0, stands_for=0, lookalikes=()))
            curve.append(curve[-1])
            continue
        picks.append(_with_reason(pick, merged([reasons[row] for row in own]), pool))
        curve.append(after[own[-1]])
    n_asked, n_found = proposal.batch_size, n_chosen(picks)
    notes = [proposal.provenance.get("remark", "")]
    if n_found < n_asked:
        notes.insert(0, _shortage(n_found, n_asked, are_slices=any(pick.slices for pick in picks)))
    return replace(
        proposal,
        note=" ".join(filter(None, notes)),
        n_pool=pool.n_studies,
        n_labelled=len({ids[row] for row in done}),
        covered_before=covered.before,
        coverage=tuple(curve[1:]),
        picks=tuple(picks),
    )


def prepare(proposal: Proposal, pool: Pool, *, labelled: Collection[str]) -> None:
    """Measure in a pool what `with_facts` will ask of it, so that whoever mends the proposal next need not wait."""
    rows = [row for pick in proposal.picks for row in pool.rows_at(pick.study_id, pick.slices)]
    coverage(pool.kept(Space), rows, labelled=pool.rows({*labelled} - {pick.study_id for pick in proposal.picks}))


def _with_reason(pick: Pick, reason: Reason, pool: Pool) -> Pick:
    """Say what a pick stands for; of slices, name the studies in which others lie."""
    ids = pool.study_ids
    others = dict.fromkeys(ids[row] for row in reason.lookalikes if ids[row] != pick.study_id)
    text = sentence(reason, [pool.title_of(other) for other in others], slices=pick.slices)
    return replace(
        pick,
        title=pool.title_of(pick.study_id),
        share=reason.share,
        stands_for=reason.n_stands_for,
        lookalikes=tuple(others),
        unusual=reason.unusual,
        reason=text if pick.unsure is None else f"{text} {unsure_sentence(pick.unsure)}",
    )


def _shortage(n_found: int, n_asked: int, *, are_slices: bool) -> str:
    why = "no more unlabelled slices far enough from these" if are_slices else "no more unlabelled studies"
    return f"Only {n_found} of the {n_asked} asked for: {why}."


def pool_hash(pool: Pool) -> str:
    """Return 16 hexadecimal digits that change when a study, a slice or a bit of an embedding does."""
    names = [s.study_id if s.at is None else f"{s.study_id} {s.at.plane} {s.at.index}" for s in pool.samples]
    digest = hashlib.sha256("\0".join(names).encode())
    digest.update(repr(pool.vectors.shape).encode())
    digest.update(np.ascontiguousarray(pool.vectors, dtype="<f4").reshape(-1).data)
    return digest.hexdigest()[:16]
