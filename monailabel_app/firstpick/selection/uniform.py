"""Strategy ``random``: the baseline that every other strategy has to beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.result import Selection


def uniform(
    X: NDArray[np.float32],  # noqa: ARG001 - every strategy is called in the same way
    n_select: int,
    *,
    labelled: NDArray[np.intp],  # noqa: ARG001
    candidates: NDArray[np.intp],
    rng: np.random.Generator,
) -> Selection:
    """Draw studies at random, each with the same chance.

    Returns
    -------
    Selection
        Without replacement, in the order of the draw. The score is the chance that each row had at the first draw, the
        same for all.

    Notes
    -----
    The baseline: neither ``X`` nor ``labelled`` matters.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> picked = uniform(np.zeros((4, 1)), 3, labelled=np.array([1]), candidates=np.array([0, 2, 3]), rng=rng)
    >>> sorted(picked.indices.tolist())
    [0, 2, 3]
    """
    picks = rng.permutation(candidates)[:n_select]
    return Selection(picks.astype(np.intp), np.full(n_select, 1.0 / len(candidates)))
