"""Pick and Proposal; their JSON is their fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from firstpick.studies import LeftOut, Slice

SCHEMA = 1


@dataclass(frozen=True)
class Pick:
    """One chosen study, or some of its slices.

    Attributes
    ----------
    rank : int
        1 for the most useful.
    study_id : str
    title : str
        What people read instead of the id.
    score : float
        The strategy's own criterion (of slices, the first chosen one's); that of the pick it replaces; 0 for a
        kept pick.
    slices : tuple of Slice
        Which slices of it to annotate, sorted; empty for the whole study.
    share : float
        Part of the unlabelled pool that is nearest to this pick; the shares of a proposal sum to 1.
    stands_for : int
        The same as a number of studies, or of slices, itself included.
    lookalikes : tuple of str
        Up to five studies that it stands for, nearest first.
    unusual : bool
        Far from everything, see `firstpick.proposal.explain.explain`.
    reason : str
        All that in one sentence; it names studies by their titles.
    replaces : str
        The study that it took the place of; empty if none.
    unsure : float or None
        Part of the studies that the labels so far leave more unsure than this one; None where that is not known.
    """

    rank: int
    study_id: str
    title: str = field(default="", kw_only=True)
    score: float
    slices: tuple[Slice, ...] = ()
    share: float = 0.0
    stands_for: int = 0
    lookalikes: tuple[str, ...] = ()
    unusual: bool = False
    reason: str = ""
    replaces: str = ""
    unsure: float | None = None


@dataclass(frozen=True)
class Duplicate:
    """A study that repeats another, and which."""

    study_id: str
    duplicate_of: str


@dataclass(frozen=True)
class Outlook:
    """What the embeddings alone say of a pool of which nothing is labelled, see `firstpick.proposal.outlook`.

    Attributes
    ----------
    suggested_batch_size, low, high : int
        How many picks are worth while, and from where to where that is nearly as true.
    n_kinds : int
        Kinds of studies that lie clearly apart; 1 where none do.
    random_equivalent : float
        How many random studies cover the pool as well as that many well-chosen ones.
    clumping : float
        How much better twenty well-chosen studies cover the pool than twenty random ones, as a part of the latter's
        mean distance, beyond what they would in a cloud without clumps.
    text : str
        All this in plain sentences.
    """

    suggested_batch_size: int
    low: int
    high: int
    n_kinds: int
    random_equivalent: float
    clumping: float
    text: str = ""


@dataclass(frozen=True)
class Advice:
    """How much of a proposal is chance.

    Attributes
    ----------
    jaccard_seeds : float
        Mean overlap with the batches of other seeds; 1 where the seed does not matter.
    jaccard_bootstrap : float
        Mean overlap with the batches chosen from bootstrap samples of the pool, among the studies of the sample.
    jaccard_chance : float
        What two random batches of this size overlap on average: what the other two are to be compared with.
    """

    jaccard_seeds: float
    jaccard_bootstrap: float
    jaccard_chance: float


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """An ordered batch of picks, and all that is needed to make it again.

    Attributes
    ----------
    schema : int
        Version of its JSON.
    strategy, encoder : str
        Names. Of the strategy, what was asked for: a later round may have been chosen by another one, see `chosen_by`.
    batch_size : int
        What was asked for: studies, or slices.
    round : int
        1 for the first batch, one more for each that labels came before.
    note : str
        Why there are fewer picks than asked for, and what else is to be known; empty if nothing is.
    n_pool, n_labelled : int
        Studies that have an embedding, and how many of them are labelled, picks not counted.
    covered_before : float
        Coverage by the labelled studies alone, see `firstpick.proposal.explain.coverage`.
    coverage : tuple of float
        Coverage by these and the first 1, 2, ... n picks.
    partial : bool
        True if it was made before every study was embedded.
    picks : tuple of Pick
        Most useful first.
    duplicates : tuple of Duplicate
        Studies that count together with another one, ``duplicate_of``; see `firstpick.selection.duplicates`.
    unusual : tuple of str
        Studies that are far from everything; see `firstpick.selection.outliers`.
    outlook : Outlook or None
        What the embeddings say of the pool; None of fewer than eight distinct studies.
    advice : Advice or None
        Only if it was asked for.
    provenance : mapping
        ``fingerprint`` of the encoder's recipe, ``pool_hash`` of the embeddings, ``strategy``, ``params``,
        ``seed``, ``starts``, ``scaling``, ``n_components``, ``guards`` (see `firstpick.selection.guards.Guards`:
        ``duplicates``, ``max_per_group``, ``share``, ``outliers``, ``max_per_study``, ``min_distance_mm``),
        ``version`` of FirstPick; ``remark``, what the note says besides a shortage; and ``taught``, a hash of the
        labels of which a later round's strategy knows what they leave unsure.
    """

    schema: int = SCHEMA
    strategy: str
    encoder: str
    batch_size: int
    round: int = 1
    note: str = ""
    n_pool: int = 0
    n_labelled: int = 0
    covered_before: float = 0.0
    coverage: tuple[float, ...] = ()
    partial: bool
    picks: tuple[Pick, ...]
    duplicates: tuple[Duplicate, ...] = ()
    unusual: tuple[str, ...] = ()
    outlook: Outlook | None = None
    advice: Advice | None = None
    provenance: Mapping[str, Any]

    @property
    def chosen_by(self) -> str:
        """The strategy that really chose."""
        return str(self.provenance.get("strategy", self.strategy))


@dataclass(frozen=True)
class LivePick(Pick):
    """A pick, and where its study stands now.

    Attributes
    ----------
    status : {'open', 'reserved', 'done', 'skipped'}
    client : str
        Who reserved, finished or skipped it.
    until : float
        When the reservation ends, in seconds since the epoch; 0 for none.
    read_by : tuple of str
        Readers whose label counts already, where a study needs several: it is not theirs to read again.
    series : tuple of str
        Names of the series of a study of several, the primary first; empty for any other.
    """

    status: str = "open"
    client: str = ""
    until: float = 0.0
    read_by: tuple[str, ...] = ()
    series: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LiveProposal(Proposal):
    """A proposal, and what is true now: where the study of each pick stands, and which studies cannot be picked.

    Attributes
    ----------
    failed, left_out : tuple of LeftOut
        Studies that could not be read, and that are not eligible: ``study_id``, ``reason`` and ``title``. A server
        names the first thousand of each.
    """

    picks: tuple[LivePick, ...]
    failed: tuple[LeftOut, ...]
    left_out: tuple[LeftOut, ...]


_PROPOSAL = TypeAdapter(Proposal)


def read_proposal(data: Mapping[str, Any]) -> Proposal:
    """Read the plain JSON that `pydantic_core.to_jsonable_python` makes of a proposal; other keys are ignored.

    Raises
    ------
    ValueError
        If it has another schema, or a key is missing or wrong.
    """
    schema = data.get("schema")
    if schema != SCHEMA:
        newer = isinstance(schema, int) and schema > SCHEMA
        what_to_do = "Update FirstPick." if newer else "Make a new proposal."
        msg = f"The proposal has schema {schema}; this FirstPick reads schema {SCHEMA}. {what_to_do}"
        raise ValueError(msg)
    try:
        return _PROPOSAL.validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        msg = f"The proposal cannot be read: {key}: {first['msg']}. Make a new proposal."
        raise ValueError(msg) from error


def n_chosen(picks: Iterable[Pick]) -> int:
    """Count what picks add up to, in studies or in slices."""
    return sum(len(pick.slices) or 1 for pick in picks)
