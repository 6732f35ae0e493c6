"""Which voxels of a labelled study are learnt from, and which it is judged by; never all of a large one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from firstpick.learning.features import Seen

N_SLICES = 12
N_PIXELS = 4096
N_BOUNDARY = 300
"""Of a slice, at most: slices, pixels of a regular grid, and pixels at the boundary of a label besides."""
_NEAR = 2  # pixels


@dataclass(frozen=True)
class Sampled:
    """Voxels of one labelled study.

    Attributes
    ----------
    X : ndarray of shape (n, n_features), float32
    y : ndarray of shape (n,), intp
        Which class each voxel is, 0 for background, in the order of the classes.
    weights : ndarray of shape (n,), float32
        Voxels of the study that each stands for; 0 for those at a boundary besides, which are only learnt from.
    """

    X: NDArray[np.float32]
    y: NDArray[np.intp]
    weights: NDArray[np.float32]


def sample(seen: Seen, label: NDArray[np.uint8], slices: Collection[int], rng: np.random.Generator) -> Sampled:
    """Take voxels of a study.

    Parameters
    ----------
    seen : Seen
    label : ndarray of shape (n_slices, n_rows, n_columns), uint8
        Class of each voxel, as `Stack.of` shows it.
    slices : collection of int
        Those that are labelled.
    rng : Generator
        Draws what is taken at boundaries.

    Notes
    -----
    Half of at most 12 slices come from between the first and the last that hold foreground, evenly spaced, half from
    the others; in each every so many rows and columns.
    """
    chosen = _chosen(label, sorted(slices))
    step = max(1, int(np.ceil(np.sqrt(label[0].size / N_PIXELS))))
    X, y, weights = [], [], []
    for index, weight in chosen.items():
        whole = seen.features(index) if label[index].any() or step == 1 else None
        grid = seen.features(index, step) if whole is None else whole[::step, ::step]
        X.append(grid.reshape(-1, grid.shape[-1]))
        y.append(label[index, ::step, ::step].ravel().astype(np.intp))
        weights.append(np.full(len(y[-1]), weight * step**2, np.float32))
        if whole is not None and step > 1:
            edge = np.flatnonzero(_boundary(label[index]))
            some = np.sort(rng.choice(edge, min(N_BOUNDARY, len(edge)), replace=False))
            X.append(whole.reshape(-1, whole.shape[-1])[some])
            y.append(label[index].ravel()[some].astype(np.intp))
            weights.append(np.zeros(len(some), np.float32))
    return Sampled(np.concatenate(X), np.concatenate(y), np.concatenate(weights))


def _chosen(label: NDArray[np.uint8], slices: list[int]) -> dict[int, float]:
    """Return slices, and how many each stands for."""
    holds = [index for index in slices if label[index].any()]
    within = [index for index in slices if holds and holds[0] <= index <= holds[-1]]
    without = [index for index in slices if not holds or not holds[0] <= index <= holds[-1]]
    n_without = min(len(without), N_SLICES // 2)
    n_within = min(len(within), N_SLICES - n_without)
    n_without = min(len(without), N_SLICES - n_within)
    chosen = {}
    for some, n in ((within, n_within), (without, n_without)):
        for place in np.linspace(0, len(some) - 1, n).round().astype(int) if n else ():
            chosen[some[place]] = len(some) / n
    return dict(sorted(chosen.items()))


def _boundary(label: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Mark the pixels near another class."""
    low = ndimage.minimum_filter(label, size=2 * _NEAR + 1, mode="nearest")
    high = ndimage.maximum_filter(label, size=2 * _NEAR + 1, mode="nearest")
    edge: NDArray[np.bool_] = low != high
    return edge
