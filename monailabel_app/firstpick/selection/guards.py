"""Safeguards around every strategy: patients, strata, slices of a study, copies and outliers.

A strategy only ever sees rows and which of them are labelled or may be picked. All that a hospital asks of
a batch besides is kept here, by choosing which rows a strategy sees, and by asking it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.constraints import Constraints, Metadata, Rows
from firstpick.selection.duplicates import near_duplicates
from firstpick.selection.geometry import unit_rows
from firstpick.selection.outliers import unusual
from firstpick.selection.result import Selection
from firstpick.selection.shares import SHARES, interleave, share_out
from firstpick.selection.starts import most_like_all

OUTLIERS = ("keep", "last", "leave out")

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
    max_per_study : int
        Slices of one study, where rows are slices; 0 for any number. Whatever the number, no study gives one more
        while another that may be picked has given fewer.
    min_distance_mm : float
        Least distance of two slices of one study in the same plane. Unlike the number of studies of a patient,
        these two are kept to even if the batch gets smaller.
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
    max_per_study: int = 0
    min_distance_mm: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.duplicates <= 1:
            msg = f"duplicates must be a cosine from 0 (no search) to 1; got {self.duplicates}."
            raise ValueError(msg)
        for name, least in (
            ("max_per_group", self.max_per_group),
            ("max_per_study", self.max_per_study),
            ("min_distance_mm", self.min_distance_mm),
        ):
            if not 0 <= least < float("inf"):
                msg = f"{name} must be 0 (any number) or more; got {least}."
                raise ValueError(msg)
        for name, value, allowed in (("share", self.share, SHARES), ("outliers", self.outliers, OUTLIERS)):
            if value not in allowed:
                msg = f"{name} {value!r} is not known. Choose one of {', '.join(allowed)}."
                raise ValueError(msg)


def choose(
    starts: Sequence[Strategy],
    X: NDArray[np.float32],
    n_select: int,
    metadata: Metadata,
    guards: Guards,
    *,
    is_nested: bool,
) -> Selection:
    """Ask a strategy for a batch that keeps to the safeguards.

    Parameters
    ----------
    starts : sequence of callable
        The strategy, once for each state of its generator that is to be tried; of the batches, the one that is most
        like the pool is returned, see `firstpick.selection.starts.most_like_all`.
    X : ndarray of shape (n_rows, dim), float32
        In an order of their own content, not scaled; what copies and outliers are told by.
    n_select : int
        At most the number of rows that are not labelled.
    is_nested : bool
        Whether a smaller batch of the strategy is the start of a larger one: then it is asked again as soon as
        a pick is refused, so that this stays true.

    Returns
    -------
    Selection
        Rows that are neither copies nor set aside come first, then outliers (with ``last``), then copies. Fewer
        than ``n_select`` only if outliers are left out, or too few slices keep their distance.
    """
    original, is_aside = _told_apart(X, metadata.is_labelled, guards)
    is_copy = original != np.arange(len(X))
    tiers = [~is_copy & ~is_aside, ~is_copy & is_aside, is_copy & ~is_aside, is_copy & is_aside]
    if guards.outliers == "leave out":
        tiers = [tiers[0], tiers[2]]
    batches = [_batch(strategy, tiers, n_select, metadata, guards, is_nested=is_nested) for strategy in starts]
    labelled = np.flatnonzero(metadata.is_labelled)
    best = most_like_all(X, [np.concatenate([labelled, picks]) for picks, _ in batches])
    return Selection(
        *batches[best], duplicates=tuple((int(row), int(original[row])) for row in np.flatnonzero(is_copy))
    )


def _told_apart(
    X: NDArray[np.float32], is_labelled: NDArray[np.bool_], guards: Guards
) -> tuple[Rows, NDArray[np.bool_]]:
    """Return the row that each row repeats (itself, if none), and which rows are outliers to be set aside."""
    original, is_aside = np.arange(len(X)), np.zeros(len(X), np.bool_)
    unit = unit_rows(X, np.float32) if guards.duplicates or guards.outliers != "keep" else X
    if guards.duplicates:
        original = near_duplicates(unit, guards.duplicates, first=np.flatnonzero(is_labelled))
    if guards.outliers != "keep":
        is_copy = original != np.arange(len(X))
        is_aside = unusual(unit, unit[~is_copy] if is_copy.any() else unit) & ~is_labelled
    return original, is_aside


def _batch(
    strategy: Strategy,
    tiers: Sequence[NDArray[np.bool_]],
    n_select: int,
    metadata: Metadata,
    guards: Guards,
    *,
    is_nested: bool,
) -> tuple[Rows, NDArray[np.float64]]:
    """Return one batch with its scores: rows of the first tier, then of the next."""
    constraints = Constraints(metadata, max_per_study=guards.max_per_study, min_distance_mm=guards.min_distance_mm)
    picks: list[int] = []
    scores: list[float] = []
    for tier in tiers:
        rows = np.flatnonzero(tier)
        while found := _from_tier(
            strategy, rows, n_select - len(picks), metadata, guards, constraints, is_nested=is_nested
        ):
            picks += [row for row, _ in found]
            scores += [score for _, score in found]
            is_labelled = metadata.is_labelled.copy()
            is_labelled[picks] = True
            metadata = replace(metadata, is_labelled=is_labelled)  # again only if a stratum could not fill its share
    return np.array(picks, np.intp), np.array(scores, np.float64)


def _from_tier(
    strategy: Strategy,
    rows: Rows,
    n_select: int,
    metadata: Metadata,
    guards: Guards,
    constraints: Constraints,
    *,
    is_nested: bool,
) -> list[tuple[int, float]]:
    """Return picks of some rows with their scores, shared out among the strata, so that every prefix is, too."""
    rows_left = rows[~metadata.is_labelled[rows]]
    rows_left = rows_left[constraints.allow_slice(rows_left)]
    strata = np.unique(metadata.strata[rows_left])
    parts = [rows[metadata.strata[rows] == stratum] for stratum in strata]
    sizes = [int(np.count_nonzero(metadata.strata[rows_left] == stratum)) for stratum in strata]
    counts = share_out(min(n_select, sum(sizes)), sizes, guards.share)
    batches = [
        _fill(strategy(part), part, count, metadata, guards.max_per_group, constraints, stops=is_nested)
        for part, count in zip(parts, counts, strict=True)
        if count
    ]
    turns = [iter(batch) for batch in batches]
    return [next(turns[turn]) for turn in interleave([len(batch) for batch in batches])]


def _fill(
    ask: Callable[[int, Rows, Rows], Selection],
    rows: Rows,
    n_select: int,
    metadata: Metadata,
    max_per_group: int,
    constraints: Constraints,
    *,
    stops: bool,
) -> list[tuple[int, float]]:
    """Ask for rows, and again for as many as were not allowed; fewer if no row is allowed at all.

    Of the studies that are allowed, those with the fewest slices so far come first.
    """
    labelled, left = np.flatnonzero(metadata.is_labelled[rows]), np.flatnonzero(~metadata.is_labelled[rows])
    limit = max_per_group or int(np.iinfo(np.intp).max)
    found: list[tuple[int, float]] = []
    while len(found) < n_select:
        left = left[constraints.allow_slice(rows[left])]
        if not len(left):
            break
        open_ = left[constraints.allow_study(rows[left], limit)]
        if not len(open_):
            limit = constraints.fewest_studies(rows[left]) + 1
            continue
        n_slices = constraints.n_slices(rows[open_])
        fewest = n_slices.min()
        open_ = open_[n_slices == fewest]
        picked = ask(min(n_select - len(found), len(open_)), labelled, open_)
        accepted = []
        for place, score in zip(picked.indices.tolist(), picked.scores.tolist(), strict=True):
            row = rows[[place]]
            is_allowed = constraints.allow_slice(row) & constraints.allow_study(row, limit)
            if (is_allowed & (constraints.n_slices(row) == fewest))[0]:
                constraints.count(int(row[0]))
                accepted.append(place)
                found.append((int(row[0]), score))
            elif stops:
                break
        labelled = np.sort(np.concatenate([labelled, np.array(accepted, np.intp)]))
        left = np.setdiff1d(left, accepted)
    return found
