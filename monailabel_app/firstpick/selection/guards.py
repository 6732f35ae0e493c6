"""Safeguards around every strategy: patients, strata, copies and outliers.

A strategy only ever sees rows and which of them are labelled or may be picked. All that a hospital asks of
a batch besides is kept here, by choosing which rows a strategy sees, and by asking it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.duplicates import near_duplicates
from firstpick.selection.outliers import unusual
from firstpick.selection.result import Selection
from firstpick.selection.scaling import directions
from firstpick.selection.shares import SHARES, interleave, share_out

OUTLIERS = ("keep", "last", "leave out")

Rows = NDArray[np.intp]
#: Given some rows of the pool, a function ``(n_select, labelled, candidates) -> Selection`` over these.
Strategy = Callable[[Rows], Callable[[int, Rows, Rows], Selection]]


@dataclass(frozen=True)
class Guards:
    """What is kept to, whatever the strategy; the defaults ask for nothing.

    Attributes
    ----------
    duplicates : float
        Cosine from which on two studies count as one; 0 for no such search.
    max_per_group : int
        Studies of one patient in all batches together, while others remain; 0 for any number. Where none
        remain, one more of each is allowed, and so on.
    share : {'proportional', 'equal'}
        How strata share the batch.
    outliers : {'keep', 'last', 'leave out'}
        Unusual studies are picked like others, or when no others are left, or never. In the last two cases
        they do not shape the choice of the others either.

    Raises
    ------
    ValueError
        If a value is not allowed.
    """

    duplicates: float = 0.0
    max_per_group: int = 0
    share: str = "proportional"
    outliers: str = "keep"

    def __post_init__(self) -> None:
        if not 0 <= self.duplicates <= 1:
            msg = f"duplicates must be a cosine from 0 (no search) to 1; got {self.duplicates}."
            raise ValueError(msg)
        if self.max_per_group < 0:
            msg = f"max_per_group must be 0 (any number) or more; got {self.max_per_group}."
            raise ValueError(msg)
        for name, value, allowed in (("share", self.share, SHARES), ("outliers", self.outliers, OUTLIERS)):
            if value not in allowed:
                msg = f"{name} {value!r} is not known. Choose one of {', '.join(allowed)}."
                raise ValueError(msg)


@dataclass(frozen=True)
class Labels:
    """What is known of the rows besides their features.

    Attributes
    ----------
    is_labelled : ndarray of shape (n_rows,), bool
    groups : ndarray of shape (n_rows,), intp
        Rows of one patient have the same number.
    strata : ndarray of shape (n_rows,), intp
    """

    is_labelled: NDArray[np.bool_]
    groups: Rows
    strata: Rows


def choose(
    strategy: Strategy, X: NDArray[np.float32], n_select: int, labels: Labels, guards: Guards, *, is_nested: bool
) -> Selection:
    """Ask a strategy for a batch that keeps to the safeguards.

    Parameters
    ----------
    strategy : callable
    X : ndarray of shape (n_rows, dim), float32
        In an order of their own content, not scaled; what copies and outliers are told by.
    n_select : int
        At most the number of rows that are not labelled.
    labels : Labels
    guards : Guards
    is_nested : bool
        Whether a smaller batch of the strategy is the start of a larger one: then it is asked again as soon as
        a pick is refused, so that this stays true.

    Returns
    -------
    Selection
        Rows that are neither copies nor set aside come first, then outliers (with ``last``), then copies. Fewer
        than ``n_select`` only if outliers are left out.
    """
    everything = np.arange(len(X))
    original = everything
    unit = directions(X) if guards.duplicates or guards.outliers != "keep" else X
    if guards.duplicates:
        original = near_duplicates(unit, guards.duplicates, first=np.flatnonzero(labels.is_labelled))
    is_copy = original != everything
    is_aside = np.zeros(len(X), np.bool_)
    if guards.outliers != "keep":
        is_aside = unusual(unit, unit[~is_copy]) & ~labels.is_labelled
    tiers = [~is_copy & ~is_aside, ~is_copy & is_aside, is_copy & ~is_aside, is_copy & is_aside]
    if guards.outliers == "leave out":
        tiers = [tiers[0], tiers[2]]
    taken = np.bincount(labels.groups[labels.is_labelled], minlength=int(labels.groups.max()) + 1)
    picks: list[int] = []
    scores: list[float] = []
    for tier in tiers:
        rows = np.flatnonzero(tier)
        for row, score in _from_tier(strategy, rows, n_select - len(picks), labels, guards, taken, is_nested=is_nested):
            picks.append(row)
            scores.append(score)
    return Selection(
        np.array(picks, np.intp),
        np.array(scores, np.float64),
        duplicates=tuple((int(row), int(original[row])) for row in np.flatnonzero(is_copy)),
    )


def _from_tier(
    strategy: Strategy, rows: Rows, n_select: int, labels: Labels, guards: Guards, taken: Rows, *, is_nested: bool
) -> Iterator[tuple[int, float]]:
    """Yield picks of some rows with their scores, shared out among the strata, so that every prefix is, too."""
    strata = np.unique(labels.strata[rows][~labels.is_labelled[rows]])
    parts = [rows[labels.strata[rows] == stratum] for stratum in strata]
    sizes = [int(np.count_nonzero(~labels.is_labelled[part])) for part in parts]
    counts = share_out(min(n_select, sum(sizes)), sizes, guards.share)
    batches = [
        _fill(strategy(part), part, count, labels, guards.max_per_group, taken, stops=is_nested)
        for part, count in zip(parts, counts, strict=True)
        if count
    ]
    turns = [iter(batch) for batch in batches]
    for turn in interleave([count for count in counts if count]):
        yield next(turns[turn])


def _fill(
    ask: Callable[[int, Rows, Rows], Selection],
    rows: Rows,
    n_select: int,
    labels: Labels,
    max_per_group: int,
    taken: Rows,
    *,
    stops: bool,
) -> list[tuple[int, float]]:
    """Ask for rows, and again for as many as were refused since their patient had enough; counts in ``taken``."""
    groups = labels.groups[rows]
    labelled, left = np.flatnonzero(labels.is_labelled[rows]), np.flatnonzero(~labels.is_labelled[rows])
    limit = max_per_group or int(np.iinfo(np.intp).max)
    found: list[tuple[int, float]] = []
    while len(found) < n_select:
        room = left[taken[groups[left]] < limit]
        if not len(room):
            limit = int(taken[groups[left]].min()) + 1
            continue
        picked = ask(min(n_select - len(found), len(room)), labelled, room)
        accepted = []
        for place, score in zip(picked.indices.tolist(), picked.scores.tolist(), strict=True):
            if taken[groups[place]] < limit:
                taken[groups[place]] += 1
                accepted.append(place)
                found.append((int(rows[place]), score))
            elif stops:
                break
        labelled = np.sort(np.concatenate([labelled, np.array(accepted, np.intp)]))
        left = np.setdiff1d(left, accepted)
    return found
