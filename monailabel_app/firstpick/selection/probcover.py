"""Strategy ``probcover``: the row with the most uncovered rows within a radius."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.geometry import squared_distances
from firstpick.selection.greedy import cover
from firstpick.selection.radius import pure_radius
from firstpick.selection.result import Selection


def probcover(
    X: NDArray[np.float32],
    n_select: int,
    *,
    labelled: NDArray[np.intp],
    candidates: NDArray[np.intp],
    rng: np.random.Generator,
    radius: float | None = None,
    purity: float = 0.95,
    n_classes: int = 10,
) -> Selection:
    """Pick the study with the most uncovered ones within a radius (ProbCover).

    Parameters
    ----------
    radius : float, optional
        Above 0. Where it is not given, `firstpick.selection.radius.pure_radius` finds it.
    purity : float
        From 0 to 1, for `firstpick.selection.radius.pure_radius`.
    n_classes : int
        2 or more: about how many kinds of study there may be.

    Returns
    -------
    Selection
        The score is the part of all rows that the pick newly covers, 0 once all is covered. Of candidates that newly
        cover as much, the one with the most rows within the radius in all comes first; when nothing is left to cover,
        the one farthest from what is labelled or picked; then the lowest row.

    Notes
    -----
    Yehuda et al., NeurIPS 2022 (arXiv 2205.11320): greedy maximum coverage with balls of one radius. Purity 0.95 is
    theirs. They take the true number of classes, which nobody knows here: 10 by default, and never the size of the
    batch, as MedCAL-Bench (arXiv 2508.03441) has it, whose radius shrinks as the batch grows, until most picks cover
    themselves alone. The published code leaves out the last ``n mod 500`` rows and takes the rest of a batch in file
    order; this looks at every row. Above 20,000 rows, a radius within which a row has a few neighbours only costs up
    to a tenth of the coverage, since they are counted in a sample; the radius found by purity costs nothing.

    Examples
    --------
    The row in the middle covers three, then 9 and 10 cover two each, and 20 itself.

    >>> X = np.array([[0.0], [1.0], [2.0], [9.0], [10.0], [20.0]])
    >>> nobody, all_rows, rng = np.array([], dtype=int), np.arange(6), np.random.default_rng(0)
    >>> picked = probcover(X, 3, labelled=nobody, candidates=all_rows, rng=rng, radius=1.0)
    >>> picked.indices.tolist(), picked.scores.round(3).tolist()
    ([1, 3, 5], [0.5, 0.333, 0.167])
    """
    if (radius is not None and not radius > 0) or not 0 <= purity <= 1 or n_classes < 2:  # noqa: PLR2004
        msg = (
            "radius must be above 0, purity from 0 to 1, and n_classes 2 or more; "
            f"got {radius}, {purity} and {n_classes}."
        )
        raise ValueError(msg)
    reach = pure_radius(X, purity=purity, n_classes=n_classes, rng=rng) if radius is None else radius

    def is_within(A: NDArray[np.float64], B: NDArray[np.float64]) -> NDArray[np.float32]:
        return (squared_distances(A, B) <= reach**2).astype(np.float32)

    return cover(X, n_select, is_within, labelled=labelled, candidates=candidates, rng=rng, break_ties=True)
