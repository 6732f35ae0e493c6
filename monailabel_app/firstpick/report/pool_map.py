"""The pool as points in a plane, and who looks like whom."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from firstpick.proposal import Pick
from firstpick.selection.geometry import as_distance
from firstpick.selection.space import Space
from firstpick.studies import Pool

N_LOOKALIKES = 5
_AT_ONCE = 64
_OPEN = ("open", "", "")
NOT_KNOWN: Mapping[str, int] = MappingProxyType({})


class Standing(Protocol):
    """Where a study stands: open, reserved, done or skipped, by whom and why."""

    @property
    def status(self) -> str: ...  # noqa: D102
    @property
    def client(self) -> str: ...  # noqa: D102
    @property
    def reason(self) -> str: ...  # noqa: D102


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


class Drawing:
    """A pool laid out in the plane: what no pick and no status changes, made once; the rest is added when asked for.

    Parameters
    ----------
    pool : Pool
        Of whole studies, see `firstpick.studies.Pool.by_study`.
    plane : mapping of str to (float, float)
        Place of each study.
    groups_are_patients : bool
        Number the groups instead of naming them: a patient's hash is not for others.

    Examples
    --------
    >>> from firstpick.studies import Sample
    >>> pool = Pool((Sample("a"), Sample("b")), np.array([[9, 0], [0, 9]], dtype=np.float32))
    >>> drawing = Drawing(pool, {"a": (0.0, 0.5), "b": (1.0, 0.5)}, groups_are_patients=True)
    >>> [(point.study_id, point.nearest_pick) for point in drawing.points([Pick(1, "b", 0.0)], {})]
    [('a', 1), ('b', 1)]
    """

    def __init__(self, pool: Pool, plane: Mapping[str, tuple[float, float]], *, groups_are_patients: bool) -> None:
        self._pool, self._plane = pool, plane
        self._groups = _numbered(pool.groups) if groups_are_patients else pool.groups

    def points(self, picks: Sequence[Pick], statuses: Mapping[str, Standing]) -> list[Point]:
        """Return a point for each study, in the order of the pool; picks that are not in the pool are passed over."""
        ranks, owners = self._owners(picks)
        return [
            Point(
                **fixed,
                status=statuses[study_id].status if study_id in statuses else "open",
                rank=ranks.get(study_id),
                nearest_pick=ranks.get(study_id, owner),
            )
            for study_id, fixed, owner in zip(self._pool.study_ids, self._fixed(), owners, strict=True)
        ]

    def json(
        self, picks: Sequence[Pick], statuses: Mapping[str, Standing], unsure: Mapping[str, int] = NOT_KNOWN
    ) -> bytes:
        """Return ``{"points": [...]}``: the fields of `points`, and with each of them four more.

        Those are ``client`` and ``reason`` of its status, ``stands_with``, the study of its nearest pick, and
        ``unsure``, the quarter of the studies that it is of, 1 for those that the labels so far leave most unsure; None
        where that is not known. Plain ASCII, so a name that is no text harms nothing.
        """
        ranks, owners = self._owners(picks)
        of_rank = {rank: study_id for study_id, rank in ranks.items()}

        @cache
        def rest(
            rank: int | None, owner: int | None, quarter: int | None, status: str, client: str, reason: str
        ) -> str:
            with_whom = {"rank": rank, "nearest_pick": owner, "stands_with": of_rank.get(owner or 0, "")}
            return _json({**with_whom, "unsure": quarter, "status": status, "client": client, "reason": reason})[1:]

        rows = zip(self._texts, owners, map(unsure.get, self._pool.study_ids), strict=True)
        texts = [fixed + rest(None, owner, quarter, *_OPEN) for fixed, owner, quarter in rows]
        for study_id in {*ranks, *statuses}:
            now = statuses.get(study_id)
            standing = (now.status, now.client, now.reason) if now else _OPEN
            for row in self._pool.rows_at(study_id):
                rank = ranks.get(study_id)
                owner = owners[row] if rank is None else rank
                texts[row] = self._texts[row] + rest(rank, owner, unsure.get(study_id), *standing)
        return f'{{"points":[{",".join(texts)}]}}'.encode("ascii")

    def _fixed(self) -> Iterator[dict[str, Any]]:
        """Yield the fields of each point that neither picks nor statuses change."""
        pool, blank = self._pool, [""] * len(self._pool)
        rows = zip(
            pool.study_ids, pool.titles or pool.study_ids, self._groups or blank, pool.strata or blank, strict=True
        )
        for study_id, title, group, stratum in rows:
            x, y = self._plane[study_id]
            yield {"study_id": study_id, "title": title, "x": x, "y": y, "group": group, "stratum": stratum}

    @cached_property
    def _texts(self) -> list[str]:
        """JSON of each, but for the brace at its end."""
        return [f"{_json(fixed)[:-1]}," for fixed in self._fixed()]

    def _owners(self, picks: Sequence[Pick]) -> tuple[dict[str, int], list[int | None]]:
        """Return the rank of each pick, and for each row that of the pick which it is most like, the first of several.

        None without picks.
        """
        row_of = {pick.study_id: row for pick in picks for row in self._pool.rows_at(pick.study_id)[:1]}
        ranks = {pick.study_id: pick.rank for pick in picks if pick.study_id in row_of}
        if not ranks:
            return {}, [None] * len(self._pool)
        index = self._pool.kept(Space).nearest([row_of[study_id] for study_id in ranks])[0]
        in_order = list(ranks.values())
        return ranks, [in_order[place] for place in index.tolist()]


def pool_map(
    pool: Pool,
    plane: Mapping[str, tuple[float, float]],
    picks: Sequence[Pick],
    statuses: Mapping[str, Standing],
    *,
    groups_are_patients: bool,
) -> list[Point]:
    """Return what a map of the pool shows once, see `Drawing`."""
    return Drawing(pool, plane, groups_are_patients=groups_are_patients).points(picks, statuses)


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
    n_others = min(N_LOOKALIKES, len(pool) - 1)
    if n_others < 1:
        return [[] for _ in rows]
    space, wanted = pool.kept(Space), np.asarray(rows, dtype=np.intp)
    found = []
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        for row, distance in zip(some, as_distance(space.measured(some)), strict=True):
            distance[row] = np.inf
            close = np.flatnonzero(distance <= np.partition(distance, n_others - 1)[n_others - 1])
            found.append(close[np.argsort(distance[close], kind="stable")][:n_others].tolist())
    return found


def _numbered(groups: Sequence[str]) -> list[str]:
    """Name groups by number, in the order in which they occur."""
    numbers: dict[str, int] = {}
    return [f"patient {numbers.setdefault(group, len(numbers) + 1)}" if group else "" for group in groups]


def _json(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, allow_nan=False, separators=(",", ":"))
