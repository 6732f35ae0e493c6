"""What the picks stand for, and how much of the pool they cover: facts first, one sentence last.

The facts come from geometry, not from the strategy, so that every strategy gets the same ones and batches
of different strategies can be compared. Distances are Euclidean between rows of length 1 (which order
studies as the cosine does), whatever scaling the strategy used.

*Share* and *coverage* are two things. Shares divide the unlabelled pool among the picks: each study goes
to its nearest pick, however far, and the shares of a batch sum to 1. Coverage counts the studies that have
something labelled or picked close by; it grows with every batch.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import ArrayLike, NDArray

from firstpick.selection.geometry import as_distance
from firstpick.selection.space import Space
from firstpick.studies import Slice

_MAX_LOOKALIKES = 5
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Reason:
    """Why a pick is worth annotating.

    Attributes
    ----------
    share : float
        Part of the unlabelled pool that is nearer to this pick than to any other, itself included;
        the shares of a batch sum to 1.
    n_stands_for : int
        The same as a number of studies.
    n_unlabelled : int
        Studies in the unlabelled pool.
    lookalikes : tuple of int
        Rows of up to five studies that it stands for, nearest first, not itself.
    unusual : bool
        True if it is far from everything, see `firstpick.selection.outliers.Reference.unusual`.
    """

    share: float
    n_stands_for: int
    n_unlabelled: int
    lookalikes: tuple[int, ...]
    unusual: bool


@dataclass(frozen=True)
class Coverage:
    """Part of the pool that is close to something labelled or picked.

    Attributes
    ----------
    before : float
        With the labelled studies alone.
    after : tuple of float
        With the first 1, 2, ... n picks as well; never falls.
    radius : float
        What counts as close, see `coverage_radius`.
    """

    before: float
    after: tuple[float, ...]
    radius: float


def explain(
    X: ArrayLike | Space, picks: Sequence[int], *, labelled: Collection[int] = (), excluded: Collection[int] = ()
) -> tuple[Reason, ...]:
    """Say for each pick which unlabelled studies it stands for.

    Parameters
    ----------
    X : array_like of shape (n_rows, dim), or Space
        Embeddings, not scaled; or the space that they make, where it is there already.
    picks : sequence of int
        Unique rows of ``X``. They belong to the unlabelled pool, even if one has been labelled since.
    labelled : collection of int
        Rows that are labelled; nobody stands for them.
    excluded : collection of int
        Rows that take no part at all.

    Returns
    -------
    tuple of Reason
        One per pick, in their order. Of several picks at the same distance, the first takes the study;
        of several lookalikes, the lowest row comes first.

    Examples
    --------
    >>> X = [[10, 0], [10, 1], [10, 2], [0, 10]]
    >>> [(reason.share, reason.lookalikes) for reason in explain(X, [1, 3])]
    [(0.75, (2, 0)), (0.25, ())]
    """
    space = _space(X)
    chosen = np.asarray(picks, dtype=np.intp)
    if len(chosen) == 0:
        return ()
    is_out = _mask(excluded, len(space))
    is_open = ~(is_out | _mask(labelled, len(space)))
    is_open[chosen] = True
    members = np.flatnonzero(is_open)
    owner, distance = (found[members] for found in space.nearest(chosen))
    owner[np.searchsorted(members, chosen)] = np.arange(len(chosen))  # a copy of another pick owns itself
    is_unusual = space.unusual(chosen, excluded=is_out)
    reasons = []
    for i, pick in enumerate(chosen):
        mine = np.flatnonzero((owner == i) & (members != pick))
        lookalikes = members[mine[np.argsort(distance[mine], kind="stable")]][:_MAX_LOOKALIKES]
        n_mine = len(mine) + 1
        reasons.append(
            Reason(
                share=n_mine / len(members),
                n_stands_for=n_mine,
                n_unlabelled=len(members),
                lookalikes=tuple(int(row) for row in lookalikes),
                unusual=bool(is_unusual[i]),
            )
        )
    return tuple(reasons)


def merged(reasons: Sequence[Reason]) -> Reason:
    """Add up the reasons of the slices of one study; the nearest lookalikes of each come first.

    Examples
    --------
    >>> merged([Reason(0.5, 4, 8, (2, 3), unusual=False), Reason(0.25, 2, 8, (7,), unusual=True)])
    Reason(share=0.75, n_stands_for=6, n_unlabelled=8, lookalikes=(2, 7, 3), unusual=True)
    """
    turns = zip_longest(*(reason.lookalikes for reason in reasons))
    return Reason(
        share=sum(reason.share for reason in reasons),
        n_stands_for=sum(reason.n_stands_for for reason in reasons),
        n_unlabelled=reasons[0].n_unlabelled,
        lookalikes=tuple(row for turn in turns for row in turn if row is not None)[:_MAX_LOOKALIKES],
        unusual=any(reason.unusual for reason in reasons),
    )


def sentence(reason: Reason, lookalikes: Sequence[str], *, slices: Sequence[Slice] = ()) -> str:
    """Put a reason into one plain sentence; ``lookalikes`` are titles of the studies that are most like this one.

    Examples
    --------
    >>> sentence(Reason(0.75, 3, 4, (0, 2), unusual=False), ["a", "c"])
    'Stands for 3 of the 4 unlabelled studies (75 %); most like a, c.'
    >>> sentence(Reason(0.25, 1, 4, (), unusual=True), [])
    'Unusual: unlike most other studies; stands for itself alone.'
    >>> sentence(Reason(0.75, 9, 12, (3,), unusual=False), ["b"], slices=[Slice("axial", 7, 35.0)])
    'Axial 7: stands for 9 of the 12 unlabelled slices (75 %); most like b.'
    """
    unit = "slices" if slices else "studies"
    if reason.n_stands_for == 1:
        facts = "stands for itself alone."
    else:
        percent = f"{reason.share:.0%}".replace("%", " %") if reason.share >= 0.01 else "under 1 %"  # noqa: PLR2004
        like = f"; most like {', '.join(lookalikes[:2])}" if lookalikes else ""
        facts = f"stands for {reason.n_stands_for} of the {reason.n_unlabelled} unlabelled {unit} ({percent}){like}."
    if reason.unusual:
        facts = f"unusual: unlike most other {unit}; {facts}"
    if slices:
        facts = f"{_listed(slices)}: {facts}"
    return facts[0].upper() + facts[1:]


_PARTS = ((0.1, "tenth"), (0.25, "quarter"), (0.5, "half"))


def unsure_sentence(part: float) -> str:
    """Say how unsure the labels so far leave a study, of which they leave that part of the studies more unsure.

    >>> unsure_sentence(0.03)
    'The labels so far leave it unsure: it is of the tenth of studies that they say least about.'
    >>> unsure_sentence(0.7)
    'It shows what the labels so far leave unsure in others.'
    """
    for most, name in _PARTS:
        if part < most:
            return f"The labels so far leave it unsure: it is of the {name} of studies that they say least about."
    return "It shows what the labels so far leave unsure in others."


def _listed(slices: Sequence[Slice]) -> str:
    """Name slices plane by plane."""
    planes = dict.fromkeys(where.plane for where in slices)
    return ", ".join(
        f"{plane} {', '.join(str(where.index) for where in slices if where.plane == plane)}" for plane in planes
    )


def coverage(
    X: ArrayLike | Space,
    picks: Sequence[int],
    *,
    labelled: Collection[int] = (),
    excluded: Collection[int] = (),
    radius: float | None = None,
) -> Coverage:
    """Measure how much of the pool is close to something labelled or picked.

    Parameters
    ----------
    X : array_like of shape (n_rows, dim), or Space
        Embeddings, not scaled; or the space that they make, where it is there already.
    picks : sequence of int
        Rows in the order in which they will be labelled.
    labelled : collection of int
        Rows that are labelled: they cover, and are counted.
    excluded : collection of int
        Rows that are not counted.
    radius : float, optional
        What counts as close; `coverage_radius` of ``X`` if not given.

    Returns
    -------
    Coverage
        Parts of all rows that are not excluded, labelled ones and picks included.

    Examples
    --------
    >>> X = [[10, 0], [10, 1], [10, 2], [0, 10]]
    >>> coverage(X, [1, 3]).after
    (0.75, 1.0)
    """
    space = _space(X)
    close = coverage_radius(space) if radius is None else radius
    limit = close + _ROUNDING
    is_counted = ~_mask(excluded, len(space))
    is_covered = as_distance(space.nearest_squared(labelled)[is_counted]) <= limit
    before = _part(is_covered)
    after = []
    for squared in space.squared(picks):
        is_covered |= as_distance(squared[is_counted]) <= limit
        after.append(_part(is_covered))
    return Coverage(before, tuple(after), close)


def coverage_radius(X: ArrayLike | Space) -> float:
    """Measure how close two studies of a pool are to count as alike.

    Parameters
    ----------
    X : array_like of shape (n_rows, dim), or Space
        The whole pool, whatever is labelled, excluded or picked.

    Returns
    -------
    float
        Median, over the distinct rows, of the distance to the ``floor(sqrt(n))``-th nearest of the
        other ``n - 1``; 0 if there are no two distinct ones.

    Notes
    -----
    The radius belongs to the pool: it depends on no pick, label, batch size or strategy, so coverages on
    one pool can be compared. The square root is the usual rule for the number of neighbours, and sets how
    fast coverage grows: in a pool of 240 a typical study covers 15 others (6 %), in one of 10,000 100 (1 %),
    so neither does the first pick cover everything nor a batch nothing. Copies count once, or a pool with
    many would have radius 0; the median ignores outliers. Above 2,000 distinct rows it is estimated from
    a fixed sample, with the number of neighbours reduced alike.

    Examples
    --------
    Five directions 10 degrees apart; most have their second neighbour 10 degrees away, a chord of 0.174.

    >>> angles = np.radians([0, 10, 20, 30, 40])
    >>> round(coverage_radius(np.column_stack([np.cos(angles), np.sin(angles)])), 3)
    0.174
    """
    space = _space(X)
    n_reference = len(space.reference)
    if n_reference <= 1:
        return 0.0
    k = max(1, round(math.isqrt(space.n_distinct) * n_reference / space.n_distinct))
    return float(np.median(space.reference.neighbour(k)))


def _space(X: ArrayLike | Space) -> Space:
    return X if isinstance(X, Space) else Space(X)


def _mask(rows: Collection[int], n_rows: int) -> NDArray[np.bool_]:
    mask = np.zeros(n_rows, dtype=np.bool_)
    mask[list(rows)] = True
    return mask


def _part(mask: NDArray[np.bool_]) -> float:
    return float(mask.mean()) if len(mask) else 0.0
