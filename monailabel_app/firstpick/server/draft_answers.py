"""What the routes of drafts answer: their JSON is their fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ListedDraft:
    """A draft that can be fetched.

    Attributes
    ----------
    study_id, title : str
    n_labels : int
        That it was learnt from; 0 of a model of another app.
    dice : float or None
        On labels that were not learnt from; None of such a model.
    unsure : float or None
        Mean entropy of the classes' probabilities where the mask is, in bits; None where that is not known.
    ts : float
        When it was made, in seconds since the epoch.
    """

    study_id: str
    title: str
    n_labels: int
    dice: float | None
    unsure: float | None
    ts: float


@dataclass(frozen=True, kw_only=True)
class LabelWarning:
    """A final label that disagrees with all others, and how."""

    study_id: str
    title: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What a reader made of a study that had a draft.

    Attributes
    ----------
    study_id, title, client : str
    ts : float
        When the final label was saved, in seconds since the epoch.
    is_taken : bool
        Whether somebody had fetched the draft.
    dice : float
        Between draft and final label, the mean of the classes that either has.
    distance_mm : float or None
        95th percentile of the distances of their surfaces; None where one of them is empty.
    n_changed, n_voxels : int
        Voxels that differ, and those of the final label.
    seconds : float
        How long the reader was at it, as far as the client says.
    """

    study_id: str
    title: str
    client: str
    ts: float
    is_taken: bool
    dice: float
    distance_mm: float | None
    n_changed: int
    n_voxels: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class DraftsStatus:
    """How the drafts stand.

    Attributes
    ----------
    state : {'waiting', 'learning', 'drafting', 'ready', 'below', 'problem'}
    message : str
        One sentence for people.
    n_labels : int
        Learnt from so far.
    dice : float or None
        On labels that were not learnt from, leaving one study out after the other; None before.
    dice_of : mapping of str to float
        The same of each class.
    drafts : list of ListedDraft
        The first pick's first.
    warnings : list of LabelWarning
    corrections : list of Correction
        The oldest first.
    stop : str
        That the next drafts may be checked only; empty while there is no reason to say so.
    next_round : str
        How far it is known what the labels leave unsure; empty where the next round does not need that.
    """

    state: str
    message: str
    n_labels: int
    dice: float | None
    dice_of: Mapping[str, float]
    drafts: list[ListedDraft]
    warnings: list[LabelWarning]
    corrections: list[Correction]
    stop: str
    next_round: str
