"""Strategy ``repdiv``: MedCAL-Bench's mixture of typical and far rows, as published."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.facility_location import cosine_similarity, facility_location
from firstpick.selection.geometry import in_blocks, unit_rows
from firstpick.selection.greedy import tied_for_best
from firstpick.selection.result import Selection


def repdiv(
    X: NDArray[np.float32],
    n_select: int,
    *,
    labelled: NDArray[np.intp],
    candidates: NDArray[np.intp],
    rng: np.random.Generator,
    share: float = 0.7,
) -> Selection:
    """Pick typical studies first, then ones far from some pick (RepDiv).

    Parameters
    ----------
    share : float
        From 0 to 1: the part of the batch, at least one pick, that facility location chooses.

    Returns
    -------
    Selection
        The score is that of facility location for its part, and for the rest the largest dissimilarity,
        ``(1 - cosine) / 2``, to a row that is labelled or picked.

    Notes
    -----
    MedCAL-Bench (arXiv 2508.03441), its best on average for classification, written from the formula: greedy facility
    location on cosine for 70 % of the batch, then one by one ``argmax_i max_{j in picks} (1 - cosine(i, j))``. The
    second part is odd, and kept for comparison. Diversity would be the largest *smallest* dissimilarity, as in
    ``kcenter``; the largest *largest* one is that to the most distant pick, whatever lies beside the row already. So
    the two ends of the pool are picked again and again, copies of picks included, and outliers draw it.
    ``facility_location`` alone does without. Here labelled rows count as picked.

    Examples
    --------
    Of two picks one is typical, the other as far as can be from it.

    >>> X = np.array([[1.0, -0.2], [1.0, 0.0], [1.0, 0.2], [-1.0, 0.0]])
    >>> nobody, all_rows = np.array([], dtype=int), np.arange(4)
    >>> picked = repdiv(X, 2, labelled=nobody, candidates=all_rows, rng=np.random.default_rng(0))
    >>> picked.indices.tolist(), picked.scores.round(2).tolist()
    ([1, 3], [0.75, 1.0])
    """
    if not 0 <= share <= 1:
        msg = f"share must be from 0 to 1; got {share}."
        raise ValueError(msg)
    n_typical = max(1, int(share * n_select + 0.5))
    typical = facility_location(X, n_typical, labelled=labelled, candidates=candidates, rng=rng)
    picks, scores = typical.indices.tolist(), typical.scores.tolist()
    free = np.setdiff1d(candidates, picks)
    farthest = _largest_dissimilarity(X, free, [*labelled, *picks])
    while len(picks) < n_select:
        best = tied_for_best(farthest)[0]
        picks.append(free[best])
        scores.append(farthest[best])
        free, farthest = np.delete(free, best), np.delete(farthest, best)
        farthest = np.maximum(farthest, _largest_dissimilarity(X, free, picks[-1:]))
    return Selection(np.array(picks, dtype=np.intp), np.array(scores, dtype=np.float64))


def _largest_dissimilarity(X: NDArray[np.float32], rows: NDArray[np.intp], to: Sequence[int]) -> NDArray[np.float64]:
    others, largest = unit_rows(X[[*to]]), np.empty(len(rows))
    for block in in_blocks(len(rows), max(len(others), X.shape[1])):
        largest[block] = 1.0 - cosine_similarity(unit_rows(X[rows[block]]), others).min(axis=1).astype(np.float64)
    return largest
