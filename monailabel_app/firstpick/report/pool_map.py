"""The pool as points in a plane, and who looks like whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from firstpick.board.board import OPEN, Status
from firstpick.proposal import Pick
from firstpick.selection.geometry import distances, in_blocks, nearest, unit_rows
from firstpick.studies import Pool

N_LOOKALIKES = 5


@dataclass(frozen=True, kw_only=True)
class Point:
    """A study in the plane of the first two principal components.

    Attributes
    ----------
    study_id, title : str
    x, y : float
    status : {'open', 'reserved', 'done', 'skipped'}
    rank : int or None
        None unless picked.
    nearest_pick : int or None
        Rank of the pick that it is most like, the first of several; None without picks.
    group : str
        Its patient by number, or what ``groups.by`` says; empty where not known.
    stratum : str
        What ``strata.by`` says; empty where not known.
    """

    study_id: str
    title: str
    x: float
    y: float
    status: str
    rank: int | None
    nearest_pick: int | None
    group: str
    stratum: str


def pool_map(
    pool: Pool,
    plane: Mapping[str, tuple[float, float]],
    picks: Sequence[Pick],
    statuses: Mapping[str, Status],
    *,
    groups_are_patients: bool,
) -> list[Point]:
    """Return what a map of the pool shows.

    Parameters
    ----------
    pool : Pool
    plane : mapping of str to (float, float)
        Place of each study.
    picks : sequence of Pick
        Those that are not in the pool are passed over.
    statuses : mapping of str to Status
    groups_are_patients : bool
        Number the groups instead of naming them: a patient's hash is not for others.

    Returns
    -------
    list of Point
        One for each study, in the order of the pool.
    """
    row_of = {study_id: row for row, study_id in enumerate(pool.study_ids)}
    ranks = {pick.study_id: pick.rank for pick in picks if pick.study_id in row_of}
    owners: list[int | None] = [None] * len(pool)
    if ranks:
        unit = unit_rows(pool.vectors)
        index, _ = nearest(unit, unit[[row_of[study_id] for study_id in ranks]])
        in_order = list(ranks.values())
        owners = [in_order[i] for i in index]
    groups = _numbered(pool.groups) if groups_are_patients else pool.groups
    blank = [""] * len(pool)
    rows = zip(pool.study_ids, owners, groups or blank, pool.strata or blank, strict=True)
    return [
        Point(
            study_id=study_id,
            title=pool.title_of(study_id),
            x=plane[study_id][0],
            y=plane[study_id][1],
            status=statuses.get(study_id, OPEN).status,
            rank=ranks.get(study_id),
            nearest_pick=ranks.get(study_id, owner),
            group=group,
            stratum=stratum,
        )
        for study_id, owner, group, stratum in rows
    ]


def lookalikes(pool: Pool, rows: Sequence[int]) -> list[list[int]]:
    """Find the studies nearest to some of a pool.

    Parameters
    ----------
    pool : Pool
    rows : sequence of int

    Returns
    -------
    list of list of int
        For each of the rows up to five others, nearest first; of several at the same distance, the lowest.

    Examples
    --------
    >>> from firstpick.studies import Sample
    >>> vectors = np.array([[9, 0], [9, 1], [9, 2], [0, 9]], dtype=np.float32)
    >>> lookalikes(Pool(tuple(Sample(name) for name in "abcd"), vectors), [0, 3])
    [[1, 2, 3], [2, 1, 0]]
    """
    unit = unit_rows(pool.vectors)
    n_others = min(N_LOOKALIKES, len(unit) - 1)
    if n_others < 1:
        return [[] for _ in rows]
    wanted, found = np.asarray(rows, dtype=np.intp), []
    for block in in_blocks(len(wanted), len(unit)):
        for row, distance in zip(wanted[block], distances(unit[wanted[block]], unit), strict=True):
            distance[row] = np.inf
            close = np.flatnonzero(distance <= np.partition(distance, n_others - 1)[n_others - 1])
            found.append(close[np.argsort(distance[close], kind="stable")][:n_others].tolist())
    return found


def _numbered(groups: Sequence[str]) -> list[str]:
    """Name groups by number, in the order in which they occur."""
    numbers: dict[str, int] = {}
    return [f"patient {numbers.setdefault(group, len(numbers) + 1)}" if group else "" for group in groups]
