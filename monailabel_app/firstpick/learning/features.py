"""Numbers of each pixel of a slice: what the encoder saw there, how bright it is and its surroundings are, where it is.

Tokens are reduced before they are interpolated: the 384 numbers of a DINOv2 token at each of 256³ voxels would take
26 GB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from firstpick.learning.stack import Stack
from firstpick.learning.tokens import SIZE, Tokens
from firstpick.selection.patches import Floats

N_COMPONENTS = 16
SIGMAS = (1.0, 2.0, 4.0)
_MAX_ROWS = 20_000


@dataclass(frozen=True)
class Reduction:
    """Principal components of tokens, of equal spread.

    Attributes
    ----------
    mean : ndarray of shape (dim,), float32
    axes : ndarray of shape (dim, n_components), float32
    """

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]

    def of(self, rows: NDArray[np.float16]) -> NDArray[np.float32]:
        """Project rows, shape (..., dim) to (..., n_components), float32."""
        reduced: NDArray[np.float32] = (rows.astype(np.float32) - self.mean) @ self.axes
        return reduced


def fit_reduction(tokens: Sequence[Tokens]) -> Reduction:
    """Find the 16 principal components of some studies' tokens, an equal number of each study's."""
    share = max(1, _MAX_ROWS // len(tokens))
    rows = []
    for one in tokens:
        flat = one.rows.reshape(-1, one.rows.shape[-1])
        rows.append(flat[np.linspace(0, len(flat) - 1, min(share, len(flat))).astype(np.intp)].astype(np.float32))
    return reduced_to(np.concatenate(rows), N_COMPONENTS)


def reduced_to(rows: Floats, n_components: int) -> Reduction:
    """Find the principal components of some rows, shape (n, dim), or as many as there are.

    The sign of each is such that its largest entry is positive.
    """
    sample = rows.astype(np.float64)
    mean = sample.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(sample - mean, rowvar=False))
    first = np.argsort(values)[::-1][:n_components]
    axes = vectors[:, first]
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    axes /= np.sqrt(np.maximum(values[first], 1e-12))
    return Reduction(mean.astype(np.float32), axes.astype(np.float32))


@dataclass(frozen=True)
class Seen:
    """A study, slice by slice, as a model sees it.

    Attributes
    ----------
    stack : Stack
    slices : ndarray of shape (n,), intp
        Those that tokens are of.
    tokens : ndarray of shape (n, side, side, n_components), float32, or None
        Reduced; None for an encoder without patches.
    size : int
        Side of the pictures that tokens are of, in pixels.
    """

    stack: Stack
    slices: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    tokens: NDArray[np.float32] | None = None
    size: int = SIZE

    def features(self, index: int, step: int = 1) -> NDArray[np.float32]:
        """Return the features of every pixel of a slice, or of every `step`-th row and column.

        Returns
        -------
        ndarray of shape (n_rows, n_columns, n_features), float32
        """
        grey = self.stack.grey(index)
        parts = [*grey]
        mean = grey.mean(axis=0)
        parts += [ndimage.gaussian_filter(mean, sigma, mode="nearest") for sigma in SIGMAS]
        parts += [ndimage.gaussian_gradient_magnitude(mean, sigma, mode="nearest") for sigma in SIGMAS[:2]]
        n_slices, n_rows, n_columns = self.stack.shape
        rows, columns = np.mgrid[0:n_rows, 0:n_columns].astype(np.float32)
        depth = np.full((n_rows, n_columns), (index + 0.5) / n_slices, np.float32)
        parts += [depth, (rows + 0.5) / n_rows, (columns + 0.5) / n_columns]
        plain = np.stack([part[::step, ::step] for part in parts], axis=-1)
        if self.tokens is None:
            return np.asarray(plain, np.float32)
        whole: NDArray[np.float32] = np.concatenate([plain, self._tokens_at(index, step)], axis=-1)
        return whole

    def _tokens_at(self, index: int, step: int) -> NDArray[np.float32]:
        """Interpolate tokens between slices, then between places, shape (n_rows, n_columns, n_components)."""
        tokens = self.tokens
        assert tokens is not None  # noqa: S101 - asked before
        place = float(np.interp(index, self.slices, np.arange(len(self.slices))))
        below, share = int(place), place - int(place)
        plane = tokens[below] if not share else (1 - share) * tokens[below] + share * tokens[below + 1]
        down, right = self._between[0][::step], self._between[1][::step]
        n_rows, side = down.shape
        rows = down @ plane.reshape(side, -1)  # linear along both axes, one after the other
        mixed: NDArray[np.float32] = right @ rows.reshape(n_rows, side, -1)
        return np.asarray(mixed, np.float32)

    @cached_property
    def _between(self) -> tuple[NDArray[np.float32], ...]:
        """How much each token of a row of them counts for each pixel, along rows and columns, (n_pixels, side)."""
        tokens = self.tokens
        assert tokens is not None  # noqa: S101 - asked before
        side, counts = tokens.shape[1], []
        for where, n in zip(self.stack.place(self.size), self.stack.shape[1:], strict=True):
            pixel = where.start + (np.arange(n) + 0.5) / n * (where.stop - where.start)
            at = np.clip(pixel / self.size * side - 0.5, 0, side - 1)
            counts.append(np.maximum(0, 1 - np.abs(at[:, None] - np.arange(side))).astype(np.float32))
        return tuple(counts)
