"""Strategy ``consensus``: the rows on which several strategies agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.geometry import squared_distances
from firstpick.selection.greedy import tied_for_best
from firstpick.selection.result import Selection

_LONGER = 2


def consensus(
    X: NDArray[np.float32],
    n_select: int,
    *,
    labelled: NDArray[np.intp],
    candidates: NDArray[np.intp],
    rng: np.random.Generator,
    of: Sequence[str] = ("facility_location", "kmeans", "maxherding"),
) -> Selection:
    """Pick the studies on which several strategies agree (consensus).

    Parameters
    ----------
    of : sequence of str
        Names of strategies, at least one, each with its default parameters and a generator of its own.

    Returns
    -------
    Selection
        Each row is proposed by at least one of the strategies. The score is the part of all votes that the pick
        newly answers.

    Notes
    -----
    Each strategy proposes a list twice as long as the batch, and a proposal is a vote: the first of ``m`` weighs 1,
    the last ``1/m`` (Borda's count). Two strategies rarely name the very same row, so a vote counts for rows nearby
    too, see `nearness`: the list itself says how far one of its picks speaks for others. Then the proposed rows are
    chosen greedily, each for what it adds to ``sum_v weight(v) max_{i in picks} nearness(v, i)``. A vote answered by
    one pick is spent, so that near-copies, named by different strategies, are not both taken.

    Our own, after Borda's count and greedy facility location. The default joins the mean of clusters, the density,
    and the distance to the nearest pick, each the best of its kind in published comparisons; none of the three seeks
    outliers. It takes as long as its strategies together.

    Examples
    --------
    Five rows around one direction and three around the opposite: the strategies meet in the middle of the larger
    group, then in the other one.

    >>> X = np.column_stack([[1.0] * 5 + [-1.0] * 3, [0.0, 0.1, 0.2, 0.3, 0.4, 0.0, 0.1, 0.2]])
    >>> nobody, all_rows = np.array([], dtype=int), np.arange(8)
    >>> picked = consensus(X, 2, labelled=nobody, candidates=all_rows, rng=np.random.default_rng(0))
    >>> int(picked.indices[0]), bool(picked.indices[1] > 4)
    (2, True)
    """
    from firstpick.selection import STRATEGIES, check_strategy  # noqa: PLC0415 - the table holds this function too

    if isinstance(of, str) or len(of) == 0 or "consensus" in of:
        msg = f"of must list one or more strategies other than 'consensus'; got {of!r}."
        raise ValueError(msg)
    for name in of:
        check_strategy(name)
    n_votes = min(_LONGER * n_select, len(candidates))
    lists = [
        STRATEGIES[name](X, n_votes, labelled=labelled, candidates=candidates, rng=own).indices
        for name, own in zip(of, rng.spawn(len(of)), strict=True)
    ]
    proposed = np.unique(np.concatenate(lists))
    weight = np.tile(1.0 - np.arange(n_votes) / n_votes, len(of))
    credit = weight[:, None] * np.concatenate([nearness(X, votes, proposed) for votes in lists])
    return _answer(credit / weight.sum(), proposed, n_select)


def nearness(X: NDArray[np.float32], votes: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Say how much each vote of one list speaks for each row: 1 for itself, 0 from the list's nearest other vote on.

    Parameters
    ----------
    votes, rows : ndarray of intp
        Rows of ``X``; votes are unique.

    Returns
    -------
    ndarray of shape (n_votes, n_some_rows), float64
        Falls linearly with the distance. Copies of a vote have 1.

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [4.0]])
    >>> nearness(X, np.array([0, 2]), np.arange(3)).tolist()
    [[1.0, 0.75, 0.0], [0.0, 0.25, 1.0]]
    """
    voted = X[votes].astype(np.float64)
    among = squared_distances(voted, voted)
    np.fill_diagonal(among, np.inf)
    reach = np.sqrt(among.min(axis=1, keepdims=True))
    away = np.sqrt(squared_distances(voted, X[rows].astype(np.float64)))
    inside = (away > 0) & np.isfinite(reach) & (reach > 0)
    fading = 1.0 - np.divide(away, reach, out=np.ones_like(away), where=inside)
    return np.where(away == 0, 1.0, np.maximum(fading, 0.0))


def _answer(credit: NDArray[np.float64], proposed: NDArray[np.intp], n_select: int) -> Selection:
    """Take the rows that add most to what each vote is credited at best."""
    best_yet = np.zeros(len(credit))
    free = np.arange(len(proposed))
    picks, scores = [], []
    for _ in range(n_select):
        gains = np.maximum(credit[:, free] - best_yet[:, None], 0.0).sum(axis=0)
        best = free[tied_for_best(gains)[0]]
        picks.append(proposed[best])
        scores.append(gains.max())
        best_yet = np.maximum(best_yet, credit[:, best])
        free = free[free != best]
    return Selection(np.array(picks, dtype=np.intp), np.array(scores, dtype=np.float64))
