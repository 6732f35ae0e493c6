"""Which round a batch is of, and what is said of it: a round is a batch and the labels that came of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from firstpick.proposal.explain import unsure_sentence
from firstpick.proposal.nouns import Pick, Proposal


def round_of(former: Proposal | None, labelled: Collection[str]) -> int:
    """Return the round of the batch after a former one: the next if labels came since that was made.

    Parameters
    ----------
    former : Proposal or None
        None for the first batch.
    labelled : collection of str
        Studies of the pool that are labelled now.
    """
    if former is None:
        return 1
    picked = {pick.study_id for pick in former.picks}
    came = {*labelled} & picked or len({*labelled} - picked) > former.n_labelled
    return former.round + bool(came)


def in_round(
    proposal: Proposal,
    number: int,
    *,
    asked: str,
    remark: str = "",
    taught: str = "",
    unsure: Mapping[str, float] | None = None,
) -> Proposal:
    """Say of a batch which round it is of, and what strategy was asked for.

    Parameters
    ----------
    proposal : Proposal
        As the strategy that chose made it.
    number : int
    asked : str
        The strategy that was asked for.
    remark : str
        Sentences for its note.
    taught : str
        A hash of the labels that its strategy was told of.
    unsure : mapping of str to float, optional
        Of studies, see `firstpick.proposal.Pick`.
    """
    told = replace(
        proposal,
        strategy=asked,
        round=number,
        picks=tuple(_with_doubt(pick, (unsure or {}).get(pick.study_id)) for pick in proposal.picks),
    )
    more = {key: value for key, value in (("remark", remark), ("taught", taught)) if value}
    return replace(told, note=f"{told.note} {remark}".strip(), provenance={**told.provenance, **more})


def _with_doubt(pick: Pick, part: float | None) -> Pick:
    return pick if part is None else replace(pick, unsure=part, reason=f"{pick.reason} {unsure_sentence(part)}")
