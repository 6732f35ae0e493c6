"""Pick and Proposal, and their JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

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
        Far from everything, see `firstpick.explain.explain`.
    reason : str
        All that in one sentence; it names studies by their titles.
    replaces : str
        The study that it took the place of; empty if none.
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


@dataclass(frozen=True)
class Duplicate:
    """A study that repeats another, and which."""

    study_id: str
    duplicate_of: str


@dataclass(frozen=True)
class Advice:
    """What to make of a proposal.

    Attributes
    ----------
    suggested_batch_size : int or None
        The knee of the coverage curve, in picks: more of them add less from there on. None while coverage rises evenly.
    coverage_at_suggestion : float or None
        Coverage with so many picks.
    jaccard_seeds : float
        Mean overlap with the batches of other seeds; 1 where the seed does not matter.
    jaccard_bootstrap : float
        Mean overlap with the batches chosen from bootstrap samples of the pool, among the studies of the sample.
    jaccard_chance : float
        What two random batches of this size overlap on average: what the other two are to be compared with.
    """

    suggested_batch_size: int | None
    coverage_at_suggestion: float | None
    jaccard_seeds: float
    jaccard_bootstrap: float
    jaccard_chance: float


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """An ordered batch of picks, and all that is needed to make it again.

    Attributes
    ----------
    strategy, encoder : str
        Names.
    batch_size : int
        What was asked for: studies, or slices.
    note : str
        Why there are fewer picks than that; empty if there are not.
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
    advice : Advice or None
        Only if it was asked for.
    failed, left_out : tuple of LeftOut
        Studies that could not be read, and that are not eligible: ``study_id``, ``reason`` and ``title``.
    provenance : mapping
        ``fingerprint`` of the encoder's recipe, ``pool_hash`` of the embeddings, ``strategy``, ``params``,
        ``seed``, ``scaling``, ``n_components``, ``guards`` (see `firstpick.selection.guards.Guards`:
        ``duplicates``, ``max_per_group``, ``share``, ``outliers``, ``max_per_study``, ``min_distance_mm``),
        ``version`` of FirstPick.
    """

    strategy: str
    encoder: str
    batch_size: int
    note: str = ""
    n_pool: int = 0
    n_labelled: int = 0
    covered_before: float = 0.0
    coverage: tuple[float, ...] = ()
    partial: bool
    picks: tuple[Pick, ...]
    duplicates: tuple[Duplicate, ...] = ()
    unusual: tuple[str, ...] = ()
    advice: Advice | None = None
    failed: tuple[LeftOut, ...]
    left_out: tuple[LeftOut, ...]
    provenance: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON: ``schema``, its version, and the attributes by name; tuples become lists."""
        return {"schema": SCHEMA, **_plain(asdict(self))}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Proposal:
        """Read what `to_dict` wrote; other keys are ignored.

        Raises
        ------
        ValueError
            If it has another schema or lacks a key.
        """
        schema = data.get("schema")
        if schema != SCHEMA:
            newer = isinstance(schema, int) and schema > SCHEMA
            what_to_do = "Update FirstPick." if newer else "Make a new proposal."
            msg = f"The proposal has schema {schema}; this FirstPick reads schema {SCHEMA}. {what_to_do}"
            raise ValueError(msg)
        try:
            values = {field.name: data[field.name] for field in fields(cls)}
            values["coverage"] = tuple(values["coverage"])
            values["picks"] = tuple(_pick(entry) for entry in values["picks"])
            values["duplicates"] = tuple(
                Duplicate(entry["study_id"], entry["duplicate_of"]) for entry in values["duplicates"]
            )
            values["advice"] = Advice(**values["advice"]) if values["advice"] else None
            values["unusual"] = tuple(values["unusual"])
            for key in ("failed", "left_out"):
                values[key] = tuple(
                    LeftOut(entry["study_id"], entry["reason"], entry["title"]) for entry in values[key]
                )
        except KeyError as error:
            msg = f"The proposal lacks {error}. Make a new proposal."
            raise ValueError(msg) from error
        return cls(**values)


def n_chosen(picks: Iterable[Mapping[str, Any]]) -> int:
    """Count what the picks of a proposal's JSON add up to, in studies or in slices."""
    return sum(len(pick.get("slices", ())) or 1 for pick in picks)


def _pick(entry: Mapping[str, Any]) -> Pick:
    entry = {"slices": [], **entry}  # written before there were slices
    values = {field.name: entry[field.name] for field in fields(Pick)}
    slices = tuple(Slice(**where) for where in values["slices"])
    return Pick(**{**values, "slices": slices, "lookalikes": tuple(values["lookalikes"])})


def _plain(value: Any) -> Any:
    """Turn tuples into lists, at any depth."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value
