"""Strategy ``entropy_coverage``: what is most like the places that the labels so far leave unsure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.geometry import unit_rows
from firstpick.selection.greedy import SAMPLE_ROWS, sampled, tied_for_best
from firstpick.selection.patches import Patches
from firstpick.selection.result import Selection


def entropy_coverage(
    X: NDArray[np.float32],  # noqa: ARG001 - patches say more
    n_select: int,
    *,
    labelled: NDArray[np.intp],
    candidates: NDArray[np.intp],
    rng: np.random.Generator,
    patches: Patches,
) -> Selection:
    """Pick studies that show what the labels so far leave unsure (entropy coverage).

    Parameters
    ----------
    patches : Patches
        Of the rows of ``X``, sorted by owner. Their weights are the entropy of what a model of the labels so far says
        of each. A row without a patch covers nothing, and is picked when nothing else is left to gain.

    Returns
    -------
    Selection
        The score is the part of all entropy that the pick newly covers.

    Notes
    -----
    Greedily ``argmax_u sum_j H_j max(0, M(u, j) - c(j))``, where ``H_j`` is the weight of patch ``j``, ``M(u, j)`` the
    largest cosine, 0 at least, of a patch of ``u`` to ``j``, and ``c(j)`` the same for all that is labelled or picked.
    With equal weights it is facility location on patches. A large mean entropy alone would not do: it finds what no
    label will teach, and the same thing again and again; here a place counts once, and only for what is like it.

    Our own, from two known parts: coverage by the best match of patches (as ColBERT scores passages, arXiv 2004.12832),
    and weights by entropy. The greedy maximiser of a monotone submodular function, as in
    `firstpick.selection.greedy.cover`. Of more than 10,000 patches that weigh anything, 10,000 random ones are to be
    covered; with the same ``rng`` these are the same for every batch. Cosines are computed in float64 and kept in
    float32: 40 kB for each candidate.

    Examples
    --------
    The second study shows both things that are unsure; the third shows one, which is covered then.

    >>> rows, owner = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]), np.array([0, 1, 1, 2])
    >>> picked = entropy_coverage(
    ...     np.empty((3, 1), np.float32), 2, labelled=np.array([], int), candidates=np.arange(3),
    ...     rng=np.random.default_rng(0), patches=Patches(rows, owner, np.array([0.2, 0.4, 0.2, 0.2])),
    ... )  # fmt: skip
    >>> picked.indices.tolist(), picked.scores.round(3).tolist()
    ([1, 0], [0.8, 0.2])
    """
    rows = unit_rows(patches.rows)
    weights = np.ones(len(rows)) if patches.weights is None else patches.weights.astype(np.float64)
    if not weights.any():
        weights = np.ones(len(rows))
    wanted = sampled(np.flatnonzero(weights), SAMPLE_ROWS, rng)
    targets, weights = rows[wanted], weights[wanted] / max(weights[wanted].sum(), np.finfo(float).tiny)
    starts, ends = (np.searchsorted(patches.owner, candidates, side) for side in ("left", "right"))
    has_some = ends > starts
    seen, unseen = candidates[has_some], candidates[~has_some]
    likeness = np.empty((len(seen), len(targets)), np.float32)
    for own, start, end in zip(likeness, starts[has_some], ends[has_some], strict=True):
        own[:] = _most_alike(rows[start:end], targets)
    covered = np.zeros(len(targets), np.float32)
    for row in labelled:
        start, end = np.searchsorted(patches.owner, row, "left"), np.searchsorted(patches.owner, row, "right")
        covered = np.maximum(covered, _most_alike(rows[start:end], targets))
    picks, scores = _greedily(likeness, covered, weights, min(n_select, len(seen)))
    n_left = n_select - len(picks)
    return Selection(np.array([*seen[picks], *unseen[:n_left]], np.intp), np.array([*scores, *n_left * [0.0]]))


def _most_alike(own: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest cosine of some patches to each target; 0 at least."""
    return np.asarray((own @ targets.T).max(axis=0, initial=0.0), np.float32)


def _greedily(
    likeness: NDArray[np.float32], covered: NDArray[np.float32], weights: NDArray[np.float64], n_select: int
) -> tuple[list[int], list[float]]:
    """Pick the rows of a matrix that raise the weighted mean of the largest value in each column most."""
    free = np.arange(len(likeness))
    picks: list[int] = []
    scores: list[float] = []
    for _ in range(n_select):
        gains = np.array([np.maximum(likeness[row] - covered, 0.0) @ weights for row in free])
        best = free[tied_for_best(gains)[0]]
        picks.append(int(best))
        scores.append(float(gains.max()))
        covered = np.maximum(covered, likeness[best])
        free = free[free != best]
    return picks, scores
