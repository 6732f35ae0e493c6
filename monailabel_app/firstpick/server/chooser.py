"""Which strategy chooses a batch: in the first round the one that was asked for, later what is configured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from firstpick.config import SAME, Config
from firstpick.learning.uncertainty import Uncertainty
from firstpick.selection import LATER, Patches
from firstpick.studies import Pool

Unsure = Callable[[], Uncertainty | str]
"""What the labels so far leave unsure, or a sentence that says why that is not known."""


def nothing_learnt() -> str:
    """Say that this server learns nothing from labels."""
    return "This server learns nothing from labels: that needs drafts.enabled and next_round."


@dataclass(frozen=True)
class Chooser:
    """What chooses a batch.

    Attributes
    ----------
    strategy : str
    patches : Patches or None
        Of the pool, for a strategy that needs them.
    remark : str
        What is to be said of it in the batch's note; empty if nothing is.
    taught : str
        A hash of the labels that it knows of, beyond which studies are labelled.
    unsure : mapping of str to float
        Of studies, see `firstpick.proposal.Pick`.
    """

    strategy: str
    patches: Patches | None = None
    remark: str = ""
    taught: str = ""
    unsure: Mapping[str, float] = field(default_factory=dict)


def chooser(config: Config, asked: str, number: int, pool: Pool, unsure: Unsure, free: frozenset[str]) -> Chooser:
    """Say what chooses a batch.

    Parameters
    ----------
    config : Config
    asked : str
        Strategy whose batch it is.
    number : int
        Its round.
    pool : Pool
    unsure : callable
    free : frozenset of str
        Studies that are neither labelled nor shut.

    Returns
    -------
    Chooser
        The configured first strategy, with a remark, where what another one needs is not known.
    """
    is_later = asked == config.strategy and number > 1 and config.next_round != SAME
    wanted = config.next_round if is_later else asked
    if wanted not in LATER:
        return Chooser(wanted)
    known = unsure()
    if isinstance(known, str):
        return Chooser(config.strategy, remark=f"Chosen by {config.strategy}, not yet by {wanted}: {known}")
    n_known, n_studies = len(known.of_study), pool.n_studies
    remark = "" if n_known >= n_studies else f"Chosen among {n_known} of the {n_studies} studies, which were looked at."
    return Chooser(wanted, known.patches(pool), remark, known.taught, known.ranked(free))
