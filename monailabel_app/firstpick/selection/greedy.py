"""What the greedy strategies share: the best of several rows, a sample of many, and covering rows step by step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.geometry import in_blocks, nearest_squared
from firstpick.selection.result import Selection

EXACT_ROWS = 20_000
SAMPLE_ROWS = 10_000
_KEPT_BYTES = 512 * 2**20
_TIE = 1e-6
_NOTHING = 1e-9

#: Takes two arrays of rows, float64, and returns float32 of shape (n_rows, n_others), 0 or more.
Similarity = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float32]]

#: Takes some rows, float32, and returns them as a similarity is to see them, float64.
Prepared = Callable[[NDArray[np.float32]], NDArray[np.float64]]


def as_they_are(X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return rows in double precision."""
    return X.astype(np.float64)


def tied_for_best(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Find the places of the largest value, lowest first.

    A millionth less than the largest is a tie, so that what is equal on paper is equal here; where the largest is
    below 1e-9, all are. Values are 0 or more, and may be infinite.

    Examples
    --------
    >>> tied_for_best(np.array([0.1, 0.3, 0.1 + 0.2])).tolist()
    [1, 2]
    """
    best = values.max()
    return np.flatnonzero(values >= (best * (1.0 - _TIE) if best > _NOTHING else -np.inf))


def sampled(rows: NDArray[np.intp], n_rows: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw rows without replacement and sort them, or take all of them where there are no more.

    The generator is used in the same way whatever ``n_rows`` is, so a smaller draw is part of a larger one.

    Examples
    --------
    >>> sampled(np.array([3, 5, 8]), 9, np.random.default_rng(0)).tolist()
    [3, 5, 8]
    """
    return np.sort(rng.permutation(rows)[:n_rows])


def cover(
    X: NDArray[np.float32],
    n_select: int,
    similarity: Similarity,
    *,
    labelled: NDArray[np.intp],
    candidates: NDArray[np.intp],
    rng: np.random.Generator,
    prepared: Prepared = as_they_are,
    break_ties: bool = False,
) -> Selection:
    """Pick, one after the other, the candidate that raises most how similar every row is to its nearest pick.

    Parameters
    ----------
    similarity : callable
        Of two arrays of rows. An uncovered row has 0.
    rng : numpy.random.Generator
        Draws the sample of a large pool, see Notes; otherwise not used.
    prepared : callable
        Makes of some rows what the similarity is to see of them, row by row; of all at once only in a small pool.
    break_ties : bool
        Of candidates that add as much, take the one most similar to all rows, covered or not, then the lowest; once
        nothing is added, the one farthest from all labelled and picked rows.

    Returns
    -------
    Selection
        The score is ``mean_j max(0, s(j, i) - m(j))``, where ``m(j)`` is the largest similarity of row ``j`` to a
        labelled or picked row, before pick ``i``.

    Notes
    -----
    The greedy maximiser of a monotone submodular function, at least 1 - 1/e of the best possible (Nemhauser et al.
    1978). All rows are to be covered, labelled ones cover from the start.

    After a pick only the rows that it is nearest to change, and with them the gains: a pass over those rows instead
    of over all. On average about ``n_rows / t`` rows change at pick ``t``, so that 100 picks cost about five passes.
    The similarities are computed in float64 and kept in float32, up to 512 MB, or else computed again when needed;
    so neither the number of threads nor the size of a block shows in the result.

    Exact up to 20,000 rows. Of more, 10,000 random rows are to be covered and 10,000 random candidates (or
    ``n_select``, whichever is more) may be picked; with the same ``rng`` these are the same for every batch below.
    What the picks reach on 25,000 rows is within 1 % of the exact result, if the surroundings of a row hold many
    others; where each row is like about twenty others only and unlike the rest, it is up to a tenth less.

    Examples
    --------
    Similarity falls from 1 to 0 over a distance of 2; the row in the middle is similar to all.

    >>> rows = np.array([[0.0], [1.0], [2.0]], np.float32)
    >>> def near(A, B): return np.maximum(0, 1 - np.abs(A - B.T) / 2).astype(np.float32)
    >>> all_rows, nobody = np.arange(3), np.array([], dtype=int)
    >>> picked = cover(rows, 2, near, labelled=nobody, candidates=all_rows, rng=np.random.default_rng(0))
    >>> picked.indices.tolist(), picked.scores.round(3).tolist()
    ([1, 0], [0.667, 0.167])
    """
    rows = np.concatenate([candidates, np.setdiff1d(np.arange(len(X)), candidates)])  # their order does not matter
    if len(X) > EXACT_ROWS:
        rows = sampled(np.arange(len(X)), SAMPLE_ROWS, rng)
        candidates = sampled(candidates, max(SAMPLE_ROWS, n_select), rng)
    to_cover = prepared(X[rows])
    table = _Similarities(similarity, to_cover, prepared(X[candidates]))
    covered = _nearest_label(similarity, to_cover, prepared(X[labelled]))
    gains = table.added(np.arange(len(rows)), covered, np.full(len(rows), np.inf, np.float32))
    typical = table.added(np.arange(len(rows)), np.zeros_like(covered), np.ones_like(covered)) if break_ties else None
    free = np.arange(len(candidates))
    picks: list[np.intp] = []
    scores: list[float] = []
    while len(picks) < n_select:
        added = np.maximum(gains[free], 0.0) / len(rows)
        if break_ties and added.max() <= _NOTHING:
            break
        tied = free[tied_for_best(added)]
        best = tied[0] if typical is None else tied[tied_for_best(typical[tied])[0]]
        picks.append(candidates[best])
        scores.append(max(0.0, gains[best]) / len(rows))
        free = free[free != best]
        now = np.maximum(covered, table.of(best))
        changed = np.flatnonzero(now > covered)
        gains -= table.added(changed, covered[changed], now[changed])
        covered = now
    n_left = n_select - len(picks)
    if n_left:
        chosen, free = np.array([*labelled, *picks], np.intp), candidates[free]
        picks += [free[place] for place in _farthest_first(prepared(X[free]), prepared(X[chosen]), n_left)]
    return Selection(np.array(picks, dtype=np.intp), np.array(scores + n_left * [0.0], dtype=np.float64))


class _Similarities:
    """Similarities of rows to candidates: kept where they fit into memory, computed when asked for where not."""

    def __init__(self, similarity: Similarity, X: NDArray[np.float64], candidates: NDArray[np.float64]) -> None:
        self._similarity, self._X, self._candidates = similarity, X, candidates
        self._kept: NDArray[np.float32] | None = None
        if 4 * len(X) * len(candidates) <= _KEPT_BYTES:
            self._kept = np.empty((len(X), len(candidates)), np.float32)
            self._fill(self._kept)

    def _fill(self, table: NDArray[np.float32]) -> None:
        """Compute all similarities; where the first rows are the candidates, each pair of those only once."""
        n_mirrored = table.shape[1]
        if not np.array_equal(self._X[:n_mirrored], self._candidates):
            n_mirrored = 0
        for block in in_blocks(n_mirrored, n_mirrored):
            part = self._similarity(self._X[block], self._candidates[block.start :])
            table[block, block.start :] = part
            table[block.stop : n_mirrored, block] = part[:, block.stop - block.start :].T
        rest = table[n_mirrored:]
        for block in in_blocks(*rest.shape):
            rest[block] = self._similarity(self._X[n_mirrored:][block], self._candidates)

    def of(self, candidate: np.intp) -> NDArray[np.float32]:
        """Return the similarity of every row to one candidate."""
        if self._kept is not None:
            return self._kept[:, candidate]
        return self._similarity(self._X, self._candidates[[candidate]])[:, 0]

    def added(self, rows: NDArray[np.intp], low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.float64]:
        """Sum over some rows, for every candidate, the part of the similarity between two bounds of each row."""
        total = np.zeros(len(self._candidates))
        for block in in_blocks(len(rows), len(self._candidates)):
            some = rows[block]
            part = self._similarity(self._X[some], self._candidates) if self._kept is None else self._kept[some]
            np.minimum(part, high[block, None], out=part)
            np.maximum(part, low[block, None], out=part)
            total += part.sum(axis=0, dtype=np.float64)
        return np.asarray(total - low.sum(dtype=np.float64))


def _nearest_label(
    similarity: Similarity, X: NDArray[np.float64], labelled: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return the largest similarity of every row to a labelled one; 0 where there is none."""
    largest = np.zeros(len(X), np.float32)
    if len(labelled):
        for block in in_blocks(len(X), len(labelled)):
            largest[block] = similarity(X[block], labelled).max(axis=1)
    return largest


def _farthest_first(free: NDArray[np.float64], chosen: NDArray[np.float64], n_select: int) -> list[np.intp]:
    """Pick, one after the other, the place of the free row farthest from all chosen ones."""
    picks: list[np.intp] = []
    left, away = np.arange(len(free)), np.full(len(free), np.inf)
    for _ in range(n_select):
        away = np.minimum(away, nearest_squared(free[left], free[picks[-1:]] if picks else chosen)[1])
        best = tied_for_best(away)[0]
        picks.append(left[best])
        left, away = np.delete(left, best), np.delete(away, best)
    return picks
