"""Where the voxels of a file lie, and how one file lies on the grid of another: flipped, exchanged or padded."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstpick.voxels.itk import itk_reader
from firstpick.voxels.stored import N_AXES

EXACT = 1e-3
"""Of a voxel: what is off by less lies on a grid as it is."""
_TOLERANCE = 0.1  # of a voxel, at every corner


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a file lie, as the programs of readers see it.

    Attributes
    ----------
    size : tuple of 3 ints
    affine : ndarray of shape (4, 4), float64
        Index of a voxel to its place in mm, LPS+.
    is_picture : bool
        True for a flat picture, whose spacing and place mean nothing.
    """

    size: tuple[int, int, int]
    affine: NDArray[np.float64]
    is_picture: bool = False


@dataclass(frozen=True)
class Fit:
    """How an array lies on a grid: which of its axes is x, y and z, which run backwards, where it begins."""

    axes: tuple[int, ...]
    flipped: tuple[bool, ...]
    start: tuple[int, ...]
    is_exact: bool = False


def read_grid(path: Path) -> Grid:
    """Read from its header where the voxels of a file lie; raises what the library raises."""
    reader = itk_reader(path)
    size = (*reader.GetSize(), 1)[:N_AXES]
    return Grid((size[0], size[1], size[2]), itk_affine(reader), is_picture=reader.GetDimension() < N_AXES)


def itk_affine(image: Any) -> NDArray[np.float64]:
    """Affine of an image, or of a reader that has read the header; a flat one lies at 0."""
    n = min(image.GetDimension(), N_AXES)
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape([image.GetDimension()] * 2)[:n, :n]
    affine[:n, :n] = direction * np.array(image.GetSpacing()[:n])
    affine[:n, 3] = image.GetOrigin()[:n]
    return affine


def find_fit(size: Sequence[int], affine: NDArray[np.float64], grid: Grid, *, is_crop: bool) -> Fit | None:
    """Find how voxels lie on a grid, all of which they fill unless they are a crop; None if they do not."""
    if grid.is_picture:
        return _fit_picture(size, affine, grid)
    return _fit_affine(size, affine, grid, is_crop=is_crop) or _fit_sheared(size, affine, grid)


def _fit_affine(size: Sequence[int], affine: NDArray[np.float64], grid: Grid, *, is_crop: bool) -> Fit | None:
    to_grid = np.linalg.inv(grid.affine) @ affine
    for axis in (axis for axis in range(N_AXES) if size[axis] == 1):  # one slice: its thickness means nothing
        along = int(np.argmax(np.abs(to_grid[:N_AXES, axis])))
        if grid.size[along] == 1 and to_grid[along, axis]:
            to_grid[:, axis] /= abs(to_grid[along, axis])
    turn, shift = np.rint(to_grid[:N_AXES, :N_AXES]), np.rint(to_grid[:N_AXES, 3])
    if (np.abs(turn).sum(0) != 1).any() or (np.abs(turn).sum(1) != 1).any():
        return None
    away = to_grid[:N_AXES] - np.column_stack([turn, shift])
    error = _largest_error(away, size)
    first, last = shift, turn @ (np.asarray(size) - 1) + shift
    low, high = np.minimum(first, last), np.maximum(first, last)
    is_inside = bool((low >= 0).all() and (high < grid.size).all())
    is_whole = bool((low == 0).all() and (high == np.asarray(grid.size) - 1).all())
    if error > _TOLERANCE or not (is_whole or (is_crop and is_inside)):
        return None
    axes = tuple(int(axis) for axis in np.argmax(np.abs(turn), axis=1))
    flipped = tuple(bool(turn[row, axis] < 0) for row, axis in enumerate(axes))
    is_exact = is_whole and axes == (0, 1, 2) and not any(flipped) and error < EXACT
    return Fit(axes, flipped, tuple(int(n) for n in low), is_exact)


def _fit_picture(size: Sequence[int], affine: NDArray[np.float64], grid: Grid) -> Fit | None:
    """Of a picture only size and direction count: each program gives it a place of its own."""
    directions = np.eye(4)
    directions[:N_AXES, :N_AXES] = affine[:N_AXES, :N_AXES] / np.linalg.norm(affine[:N_AXES, :N_AXES], axis=0)
    first = directions[:N_AXES, :N_AXES] @ (np.asarray(size) - 1)
    directions[:N_AXES, 3] = np.where(np.rint(first) < 0, -np.rint(first), 0)
    return _fit_affine(size, directions, Grid(grid.size, np.eye(4)), is_crop=False)


def _fit_sheared(size: Sequence[int], affine: NDArray[np.float64], grid: Grid) -> Fit | None:
    """Find the grid of a sheared study in a file that cannot carry the shear: ITK makes NIfTI's axes orthogonal."""
    columns = grid.affine[:N_AXES, :N_AXES]
    directions = columns / np.linalg.norm(columns, axis=0)
    if np.abs(directions.T @ directions - np.eye(N_AXES)).max() < EXACT:
        return None
    for axes, signs in itertools.product(itertools.permutations(range(N_AXES)), itertools.product((1, -1), repeat=3)):
        turned = np.eye(4)  # the study's grid with its axes exchanged and reversed, then made orthogonal
        start = [grid.size[axis] - 1 if sign < 0 else 0 for axis, sign in zip(axes, signs, strict=True)]
        turned[:N_AXES, :N_AXES] = columns[:, axes] * signs
        turned[:N_AXES, 3] = grid.affine[:N_AXES, 3] + columns[:, axes] @ np.asarray(start)
        lengths = np.linalg.norm(turned[:N_AXES, :N_AXES], axis=0)
        left, _, right = np.linalg.svd(turned[:N_AXES, :N_AXES] / lengths)
        turned[:N_AXES, :N_AXES] = left @ right * lengths
        turned_size = tuple(grid.size[axis] for axis in axes)
        away = np.linalg.inv(turned) @ affine - np.eye(4)
        if turned_size == tuple(size) and _largest_error(away[:N_AXES], size) < _TOLERANCE:
            own = tuple(axes.index(axis) for axis in range(N_AXES))
            return Fit(own, tuple(signs[place] < 0 for place in own), (0, 0, 0))
    return None


def _largest_error(away: NDArray[np.float64], size: Sequence[int]) -> float:
    """How far off the corners of a label are, in voxels."""
    corners = np.array([[*corner, 1] for corner in itertools.product(*[(0, n - 1) for n in size])])
    return float(np.abs(corners @ away.T).max())


def described(size: Sequence[int], affine: NDArray[np.float64]) -> str:
    """Describe a grid in words: size, spacing, place of the first voxel, directions of the axes."""
    spacing = np.linalg.norm(affine[:N_AXES, :N_AXES], axis=0)
    columns = affine[:N_AXES, :N_AXES] / np.where(spacing > 0, spacing, 1)
    axes = "; ".join(" ".join(f"{x + 0.0:.3g}" for x in np.round(column, 3)) for column in columns.T)
    place = ", ".join(f"{x + 0.0:.4g}" for x in np.round(affine[:N_AXES, 3], 3))
    return f"{times(size)} voxels of {times(f'{x:.4g}' for x in spacing)} mm from ({place}) along ({axes})"


def times(numbers: Any) -> str:
    """Write a size as people do.

    >>> times((10, 12, 8))
    '10 x 12 x 8'
    """
    return " x ".join(map(str, numbers))


def placed(array: NDArray[Any], fit: Fit, grid: Grid) -> NDArray[Any]:
    """Put voxels (and their layers) where they belong; background elsewhere."""
    turned = array.transpose(*fit.axes, N_AXES)
    turned = np.flip(turned, [axis for axis, is_flipped in enumerate(fit.flipped) if is_flipped])
    whole = np.zeros((*grid.size, array.shape[-1]), _smallest_type(array))
    place = tuple(slice(first, first + n) for first, n in zip(fit.start, turned.shape, strict=False))
    whole[place] = turned
    return whole


def _smallest_type(array: NDArray[Any]) -> np.dtype[Any]:
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    types = (np.dtype(np.uint8), np.dtype(np.int16), np.dtype(np.int32), np.dtype(np.int64))
    return next(kind for kind in types if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)


def what_was_done(fit: Fit, shape: Sequence[int], grid: Grid) -> str:
    """Say in a few words what was done to voxels that were put on a grid."""
    flipped = ", ".join(axis for axis, is_flipped in zip("xyz", fit.flipped, strict=True) if is_flipped)
    is_padded = tuple(shape[axis] for axis in fit.axes) != grid.size
    done = [
        f"flipped along {flipped}" if flipped else "",
        "axes exchanged" if fit.axes != (0, 1, 2) else "",
        "padded to the whole grid" if is_padded else "",
    ]
    return ", ".join(filter(None, done)) or "given the study's own geometry"
