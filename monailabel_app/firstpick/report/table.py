"""A proposal as a table for the terminal."""

from __future__ import annotations

from collections import Counter

from firstpick.proposal import Proposal


def table(proposal: Proposal, *, n_failed: int, n_left_out: int) -> str:
    """A proposal as text for a terminal; picks of the same title are told apart by their ids."""
    picks = proposal.picks
    n_of = Counter(pick.title for pick in picks)
    names = [pick.title if n_of[pick.title] == 1 else f"{pick.title} [{pick.study_id}]" for pick in picks]
    width = max([*map(len, names), 5])
    lines = [f"{'rank':>4}  {'study':{width}}  {'share':>6}  why"]
    lines += [
        f"{pick.rank:>4}  {name:{width}}  {pick.share:>6.1%}  {pick.reason}"
        for pick, name in zip(picks, names, strict=True)
    ]
    covered = proposal.coverage[-1] if proposal.coverage else 0.0
    n_slices = sum(len(pick.slices) for pick in picks)
    of_slices = f"{n_slices} slices in " if n_slices else ""
    lines.append(
        f"{of_slices}{len(picks)} of {proposal.n_pool} studies by {proposal.chosen_by} on {proposal.encoder}; "
        f"with what is labelled they cover {covered:.0%}. {len(proposal.duplicates)} copies, "
        f"{len(proposal.unusual)} unusual, {n_failed} failed, {n_left_out} left out."
    )
    return "\n".join(lines)
