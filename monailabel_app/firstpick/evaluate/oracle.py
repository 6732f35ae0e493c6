"""Arms that look at the labels: what choosing could gain at most, and a baseline. Of a comparison alone.

Nobody has these labels before the first batch, so none of this is a strategy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from firstpick.evaluate.segmentation import Example
from firstpick.selection import Guards, select

_PART_OF_FOREGROUND = 2 / 3  # of a batch, as in nnU-Net's crops and nnActive's stronger baseline
_TERTILES = (1 / 3, 2 / 3)


@dataclass(frozen=True)
class Truth:
    """What labels say of each study.

    Attributes
    ----------
    strata : tuple of str
        What a balanced batch is balanced over: the class, or how large the foreground is and which labels there are.
    foreground : tuple of float
        Volume of what is labelled, in cubic mm (square pixels for pictures); empty for classes.
    """

    strata: tuple[str, ...]
    foreground: tuple[float, ...] = ()

    def of(self, rows: NDArray[np.intp]) -> Truth:
        """The same of some of the studies."""
        return Truth(
            tuple(self.strata[row] for row in rows),
            tuple(self.foreground[row] for row in rows) if self.foreground else (),
        )


def truth_of_masks(examples: Sequence[Example]) -> Truth:
    """Say in which tertile of the foreground's volume each study lies, and which labels it has.

    Examples
    --------
    >>> masks = [np.array([[0, 0]]), np.array([[0, 1]]), np.array([[1, 2]])]
    >>> found = truth_of_masks([Example(np.zeros((1, 2)), mask, (2.0, 1.0)) for mask in masks])
    >>> found.strata, found.foreground
    (('0: ', '1: 1', '2: 1 2'), (0.0, 2.0, 4.0))
    """
    volumes = [float((example.label > 0).sum() * np.prod(example.spacing)) for example in examples]
    tertiles = np.searchsorted(np.quantile(volumes, _TERTILES), volumes, side="left")
    labels = (" ".join(str(value) for value in np.unique(example.label) if value) for example in examples)
    return Truth(tuple(f"{third}: {found}" for third, found in zip(tertiles, labels, strict=True)), tuple(volumes))


def balanced(
    X: NDArray[np.float32],
    n_select: int,
    truth: Truth,
    *,
    groups: Sequence[str],
    seed: int,
    guards: Guards,
    slices: Sequence[tuple[str, str, float]] | None = None,
) -> list[int]:
    """Choose the same number of each stratum, and in each the rows nearest to the centres of k-means on unit rows.

    Parameters
    ----------
    X : ndarray of shape (n_rows, dim), float32
    n_select : int
        Where there are more strata than this, one of each of the largest.
    truth : Truth
        Of the rows of ``X``.
    groups : sequence of str
        The patient of each row; or ``()``.
    seed : int
    guards : Guards
        Kept to, but for how strata share the batch.
    slices : sequence of (str, str, float), optional
        As `firstpick.selection.select` has it.

    Returns
    -------
    list of int
        Rows of ``X``.
    """
    chosen = select(
        "kmeans",
        X,
        n_select,
        seed=seed,
        groups=groups or None,
        strata=truth.strata,
        slices=slices,
        guards=replace(guards, share="equal"),
        n_jobs=1,
    )
    return [int(row) for row in chosen.indices]


def draw_foreground(n_select: int, truth: Truth, *, groups: Sequence[str], seed: int, max_per_group: int) -> list[int]:
    """Draw two of three rows with a chance that grows with their foreground, the others with the same chance each.

    To draw a labelled voxel of the pool at random and take its study, as foreground-aware baselines do with crops,
    is to draw studies in proportion to their foreground.

    Parameters
    ----------
    n_select : int
        At most the number of rows.
    truth : Truth
        With ``foreground``.
    groups : sequence of str
        The patient of each row; or ``()``.
    seed : int
    max_per_group : int
        Rows of one patient, while others remain; 0 for any number.

    Returns
    -------
    list of int
        Unique rows, in the order drawn. A smaller batch is the start of a larger one.
    """
    rng = np.random.default_rng(seed)
    foreground = np.asarray(truth.foreground)
    is_left = np.ones(len(foreground), np.bool_)
    names = np.array([group or f" {row}" for row, group in enumerate(groups or [""] * len(foreground))])
    limit = max_per_group or len(foreground)
    chosen: list[int] = []
    while len(chosen) < n_select:
        counts = np.array([np.count_nonzero(names[chosen] == name) for name in names])
        while not (allowed := is_left & (counts < limit)).any():
            limit += 1
        by_foreground = rng.random() < _PART_OF_FOREGROUND and foreground[allowed].any()
        weights = np.where(allowed, foreground if by_foreground else 1.0, 0.0)
        row = int(rng.choice(len(weights), p=weights / weights.sum()))
        is_left[row] = False
        chosen.append(row)
    return chosen
