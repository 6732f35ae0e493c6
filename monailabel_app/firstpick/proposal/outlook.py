"""What the embeddings alone say about choosing from a pool: how large a batch is worth while, and how many kinds."""

from __future__ import annotations

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

    Of more than 1,000 rows, every second, third, ... in the order of their content is looked at. Copies count once.

    Examples
    --------
    Three directions, four rows each: three kinds, and three picks, which do the work of nine random ones.

    >>> angles = np.radians([a + b for a in (0, 90, 180) for b in (0, 1, 2, 3)])
    >>> found = outlook(np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32))
    >>> found.n_kinds, found.suggested_batch_size
    (3, 3)
    >>> found.text
    'A batch of 3 is worth while: it can cover the pool as well as 8.9 random picks; 3 kinds lie clearly apart.'
    """
    order = content_order(X)
    rows = distinct_rows(unit_rows(X[order[:: max(1, -(-len(X) // _MAX_ROWS))]]))
    n_rows = len(rows)
    if n_rows < _LEAST_ROWS:
        return None
    squared = squared_distances(rows, rows)
    does = _random_ones(squared, rows)
    gain = does - _WORTH * np.arange(1, len(does) + 1)
    near = np.flatnonzero(gain >= gain.max() - _WITHIN) + 1
    n_kinds = _n_kinds(rows, squared)
    size, low, high = (max(n_kinds, int(n)) for n in (gain.argmax() + 1, near[0], near[-1]))
    found = Outlook(size, low, high, n_kinds, float(np.round(does[min(size, len(does)) - 1], 1)))
    return replace(found, text=sentence(found))


def _random_ones(squared: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many random rows do the work of the first 1, 2, ... of a greedy batch."""
    n_rows = len(rows)
    n_picks = min(n_rows // 2, _MAX_PICKS)
    nobody, everybody = np.array([], np.intp), np.arange(n_rows)
    picks = facility_location(
        rows.astype(np.float32), n_picks, labelled=nobody, candidates=everybody, rng=np.random.default_rng(0)
    ).indices
    chosen = np.minimum.accumulate(squared[:, picks], axis=1).mean(axis=0)
    chosen = chosen[: 1 + np.count_nonzero(chosen > _COVERED * chosen[0])]
    return np.asarray(np.interp(-chosen, -_by_chance(squared), np.arange(1, n_rows + 1)))


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


def sentence(outlook: Outlook) -> str:
    """Put an outlook into one plain sentence.

    Examples
    --------
    >>> print(sentence(Outlook(14, 9, 25, 1, 31.0)))
    A batch of 14 (9 to 25) is worth while: it can cover the pool as well as 31 random picks; a further one does less.
    """
    why = "a further one does less"
    if outlook.n_kinds >= outlook.suggested_batch_size:
        why = f"{outlook.n_kinds} kinds lie clearly apart"
    between = f" ({outlook.low} to {outlook.high})" if outlook.low < outlook.high else ""
    return (
        f"A batch of {outlook.suggested_batch_size}{between} is worth while: it can cover the pool as well as "
        f"{outlook.random_equivalent:g} random picks; {why}."
    )
