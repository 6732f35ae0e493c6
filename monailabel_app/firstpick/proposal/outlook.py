"""What the embeddings alone say about choosing from a pool: how large a batch is worth while, and how many kinds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from firstpick.proposal.nouns import Outlook
from firstpick.selection.facility_location import facility_location
from firstpick.selection.geometry import content_order, distinct_rows, squared_distances, unit_rows

_MAX_ROWS = 1_000
_MAX_PICKS = 50  # with more labels even an oracle of classes gains little, see evaluate/README.md
_MAX_KINDS = 30
_LEAST_ROWS = 8
_WORTH = 1.5
_WITHIN = 1.0
_COVERED = 0.05
_ADVANCE_AT = 20
_N_NULLS = 4
CLUMPED = 0.08
"""From here on a pool lies in clumps; among ours none is between .06 and .09, see evaluate/README.md."""

_STRUCTURE = 0.25
_AS_GOOD = 0.02


def outlook(X: NDArray[np.float32]) -> Outlook | None:
    """Say how large a batch is worth while in a pool of which nothing is labelled.

    Parameters
    ----------
    X : ndarray of shape (n_rows, dim), float32
        Embeddings, not scaled.

    Returns
    -------
    Outlook or None
        None of fewer than eight distinct rows.

    Notes
    -----
    Distances are squared ones between unit rows. A batch covers a pool the better, the less is the mean distance of
    all rows to the nearest in the batch. That of random batches of n rows is known exactly: the k-th nearest of N rows
    is the nearest one in the batch with the chance ``C(N-k, n-1) / C(N, n)``. That of chosen ones is the greedy
    batch's of `firstpick.selection.facility_location`, whose smaller batches are the starts of larger ones. So n picks
    do the work of ``m(n)`` random ones, those of the same mean distance.

    The suggested size is the n up to 50 (half of a small pool) with the largest ``m(n) - 1.5 n``: a further pick does
    the work of less than one and a half random ones. It ends where the mean distance is a twentieth of what a single
    pick leaves: no more is to be covered. The range holds the sizes for which that difference is within one
    of the largest.

    Kinds that are clearly apart are Ward's clusters: of 2 to 30, the fewest whose mean silhouette is within .02 of the
    best; one kind, where the best is below .25 ("no substantial structure", Kaufman & Rousseeuw 1990). Neither the
    size nor its range is below that number.

    Clumping is by how much twenty greedy picks (half of a small pool) lie nearer to all rows than twenty random rows
    do, as a part of the latter, less the same in Gaussian clouds with the pool's mean and covariance (mean of four).
    Where it is .08 or more, the studies are said to lie in clumps. What that says of the gain on labelled pools, and
    how often it errs: evaluate/README.md.

    Of more than 1,000 rows, every second, third, ... in the order of their content is looked at. Copies count once.

    Examples
    --------
    Three directions, four rows each: three kinds, and three picks, which do the work of nine random ones.

    >>> angles = np.radians([a + b for a in (0, 90, 180) for b in (0, 1, 2, 3)])
    >>> found = outlook(np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32))
    >>> found.n_kinds, found.suggested_batch_size
    (3, 3)
    >>> print(found.text)  # doctest: +NORMALIZE_WHITESPACE
    These studies lie in clumps: choosing is worth it here. A batch of 3 can cover the pool as well as 8.9 random
    picks; 3 kinds lie clearly apart.
    """
    order = content_order(X)
    rows = distinct_rows(unit_rows(X[order[:: max(1, -(-len(X) // _MAX_ROWS))]]))
    n_rows = len(rows)
    if n_rows < _LEAST_ROWS:
        return None
    squared = squared_distances(rows, rows)
    chosen, by_chance = _curves(rows, squared)
    n_useful = 1 + np.count_nonzero(chosen > _COVERED * chosen[0])
    does = np.interp(-chosen, -by_chance, np.arange(1, n_rows + 1))[:n_useful]
    gain = does - _WORTH * np.arange(1, len(does) + 1)
    near = np.flatnonzero(gain >= gain.max() - _WITHIN) + 1
    n_kinds = _n_kinds(rows, squared)
    size, low, high = (max(n_kinds, int(n)) for n in (gain.argmax() + 1, near[0], near[-1]))
    clumping = _advance(chosen, by_chance) - np.mean([_advance(*_curves(null)) for null in _nulls(rows)])
    random_equivalent = does[min(size, len(does)) - 1]
    found = Outlook(size, low, high, n_kinds, round(float(random_equivalent), 1), round(float(clumping), 3))
    return replace(found, text=sentences(found))


def _curves(
    rows: NDArray[np.float64], squared: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean distance of all rows to the nearest of 1, 2, ... greedy picks, and of as many random rows."""
    squared = squared_distances(rows, rows) if squared is None else squared
    n_picks = min(len(rows) // 2, _MAX_PICKS)
    nobody, everybody = np.array([], np.intp), np.arange(len(rows))
    picks = facility_location(
        rows.astype(np.float32), n_picks, labelled=nobody, candidates=everybody, rng=np.random.default_rng(0)
    ).indices
    return np.minimum.accumulate(squared[:, picks], axis=1).mean(axis=0), _by_chance(squared)


def _advance(chosen: NDArray[np.float64], by_chance: NDArray[np.float64]) -> float:
    """Return by which part twenty picks lie nearer to all rows than twenty random rows do."""
    n_picks = min(_ADVANCE_AT, len(chosen))
    return float(1 - chosen[n_picks - 1] / by_chance[n_picks - 1])


def _nulls(rows: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yield as many rows of a Gaussian cloud with the same mean and covariance, again of length 1."""
    middle = rows.mean(axis=0)
    _, deviations, axes = np.linalg.svd(rows - middle, full_matrices=False)
    for seed in range(_N_NULLS):
        drawn = np.random.default_rng(seed).normal(size=(len(rows), len(deviations)))
        yield unit_rows(middle + (drawn * deviations / np.sqrt(len(rows))) @ axes)


def _by_chance(squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean distance to the nearest of 1, 2, ... n random rows, as is to be expected."""
    n_rows = len(squared)
    nearest = np.sort(squared, axis=1).mean(axis=0)
    chance = np.full(n_rows, 1.0 / n_rows)  # that the k-th nearest row is the nearest of those drawn, one by one more
    found = np.empty(n_rows)
    for n_drawn in range(1, n_rows + 1):
        found[n_drawn - 1] = nearest @ chance
        k = np.arange(1, n_rows + 1)
        chance = chance * np.maximum(n_rows - k - n_drawn + 1, 0) / n_drawn * (n_drawn + 1) / max(1, n_rows - n_drawn)
    return found


def _n_kinds(rows: NDArray[np.float64], squared: NDArray[np.float64]) -> int:
    """Count Ward's clusters where they are apart, see `outlook`."""
    from scipy.cluster.hierarchy import cut_tree, linkage  # noqa: PLC0415 - a server must start without it
    from sklearn.metrics import silhouette_score  # noqa: PLC0415

    away = np.sqrt(squared)
    numbers = range(2, min(_MAX_KINDS, len(rows) - 1) + 1)
    labels = cut_tree(linkage(rows, "ward"), numbers)
    scores = [float(silhouette_score(away, label, metric="precomputed")) for label in labels.T]
    best = max(scores)
    if best < _STRUCTURE:
        return 1
    return next(n for n, score in zip(numbers, scores, strict=True) if score >= best - _AS_GOOD)


def sentences(outlook: Outlook) -> str:
    """Put an outlook into two plain sentences.

    Examples
    --------
    >>> print(sentences(Outlook(14, 9, 25, 1, 31.0, 0.03)))  # doctest: +NORMALIZE_WHITESPACE
    No clumps are seen: choosing may gain little here. A batch of 14 (9 to 25) can cover the pool as well as 31 random
    picks; a further one does less.
    """
    verdict = "No clumps are seen: choosing may gain little here."
    if outlook.clumping >= CLUMPED:
        verdict = "These studies lie in clumps: choosing is worth it here."
    why = "a further one does less"
    if outlook.n_kinds >= outlook.suggested_batch_size:
        why = f"{outlook.n_kinds} kinds lie clearly apart"
    between = f" ({outlook.low} to {outlook.high})" if outlook.low < outlook.high else ""
    return (
        f"{verdict} A batch of {outlook.suggested_batch_size}{between} can cover the pool as well as "
        f"{outlook.random_equivalent:g} random picks; {why}."
    )
