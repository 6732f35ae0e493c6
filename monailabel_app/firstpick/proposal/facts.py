"""What is said about the picks of a proposal, worked out from the pool."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from firstpick.explain import coverage, explain, sentence
from firstpick.proposal.nouns import Pick, Proposal
from firstpick.studies import Pool


def with_facts(proposal: Proposal, pool: Pool, *, labelled: Collection[str], excluded: Collection[str]) -> Proposal:
    """Work out a proposal's shares, reasons, coverage, counts and note as they are now.

    Parameters
    ----------
    proposal : Proposal
        Of its picks, rank, study, score and ``replaces`` stay. One whose embedding is gone stands for nobody.
    pool : Pool
    labelled, excluded : collection of str
        Studies; those not in the pool are ignored, and a pick is neither.

    Returns
    -------
    Proposal
    """
    ids = pool.study_ids
    row_of = {study_id: row for row, study_id in enumerate(ids)}
    picked = {pick.study_id for pick in proposal.picks}
    rows = [row_of[pick.study_id] for pick in proposal.picks if pick.study_id in row_of]
    done = [row_of[study_id] for study_id in row_of.keys() & set(labelled) - picked]
    out = [row_of[study_id] for study_id in row_of.keys() & set(excluded) - set(labelled) - picked]
    reasons = dict(zip(rows, explain(pool.vectors, rows, labelled=done, excluded=out), strict=True))
    covered = coverage(pool.vectors, rows, labelled=done, excluded=out)
    after = dict(zip(rows, covered.after, strict=True))
    picks: list[Pick] = []
    curve = [covered.before]
    for pick in proposal.picks:
        row = row_of.get(pick.study_id)
        if row is None:
            picks.append(replace(pick, share=0.0, stands_for=0, lookalikes=()))
            curve.append(curve[-1])
            continue
        reason = reasons[row]
        picks.append(
            replace(
                pick,
                share=reason.share,
                stands_for=reason.n_stands_for,
                lookalikes=tuple(ids[like] for like in reason.lookalikes),
                unusual=reason.unusual,
                reason=sentence(reason, ids),
            )
        )
        curve.append(after[row])
    n_asked = proposal.batch_size
    is_short = len(picks) < n_asked
    return replace(
        proposal,
        note=f"Only {len(picks)} of the {n_asked} asked for: no more unlabelled studies." if is_short else "",
        n_pool=len(pool),
        n_labelled=len(done),
        covered_before=covered.before,
        coverage=tuple(curve[1:]),
        picks=tuple(picks),
    )


def pool_hash(pool: Pool) -> str:
    """Return 16 hexadecimal digits that change when a study or a bit of an embedding does."""
    digest = hashlib.sha256("\0".join(pool.study_ids).encode())
    digest.update(repr(pool.vectors.shape).encode())
    digest.update(np.ascontiguousarray(pool.vectors, dtype="<f4").tobytes())
    return digest.hexdigest()[:16]
