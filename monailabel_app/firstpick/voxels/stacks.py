"""How slices, or the frames of a file, stack up to one volume; and which of them belong to the first one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from firstpick.voxels.stored import LPS_TO_RAS, N_AXES, affine_of

#: What may tell slices of one series apart that belong to different volumes, and what to call it.
MARKS = {
    "Rows": "sizes",
    "StackID": "stacks",
    "AcquisitionNumber": "acquisitions",
    "EchoNumbers": "echoes",
    "EchoTime": "echo times",
    "InversionTime": "inversion times",
    "TemporalPositionIdentifier": "time points",
    "TriggerTime": "time points",
    "DiffusionBValue": "b-values",
    "ImageType": "image types",
}
_SIZE = 0  # the mark that alone must agree
_SAME_POSITION_MM = 0.01
_SAME_ORIENTATION = 0.01  # of a unit vector: about half a degree
_UNEVEN = 0.1  # of the usual gap
_MIN_STACK = 2  # slices


@dataclass(frozen=True)
class Place:
    """Where a slice lies: what sorts the slices of a series, or the frames of a file.

    Attributes
    ----------
    number : float
        ``InstanceNumber``, or the frame's number in its file.
    position : tuple of 3 floats, or ()
        Centre of the first voxel in mm, LPS+; empty when not stated.
    orientation : tuple of 6 floats, or ()
        Direction along a row, then down a column, LPS+; empty when not stated.
    marks : tuple of str
        What it states for each of `MARKS`; or empty.
    """

    number: float
    position: tuple[float, ...] = ()
    orientation: tuple[float, ...] = ()
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stack:
    """How slices stack up to a volume.

    Attributes
    ----------
    order : ndarray of shape (n_slices,), intp, unique
        Which of the slices to take, from the first to the last.
    orientation : ndarray of shape (2, 3), float64, unit rows
        Direction along a row, then down a column; LPS+.
    step : ndarray of shape (3,), float64
        From one slice to the next in mm, LPS+.
    origin : ndarray of shape (3,), float64
        Centre of the first voxel of the first slice in mm, LPS+.
    notes : tuple of str
        What was unusual.
    """

    order: NDArray[np.intp]
    orientation: NDArray[np.float64]
    step: NDArray[np.float64]
    origin: NDArray[np.float64]
    notes: tuple[str, ...] = ()

    def affine(self, spacing: Sequence[float]) -> NDArray[np.float64]:
        """Compute the affine, RAS+, for a distance of neighbours along x and y in mm."""
        rows, columns = self.orientation
        steps = np.stack([rows * spacing[0], columns * spacing[1], self.step], axis=1)
        return LPS_TO_RAS @ affine_of(steps, self.origin)


def stack(places: Sequence[Place], *, thickness: float = 0.0) -> Stack:
    """Sort the slices of the first volume along their normal, and take the first of those that share a position.

    Parameters
    ----------
    places : sequence of Place
        At least one. If one lacks its position, or its orientation, all are sorted by their number alone.
    thickness : float
        Distance in mm to assume where positions do not tell; 0 if not known.

    Returns
    -------
    Stack
        Of several acquisitions, echoes, time points, orientations, ... in one series the first stack alone. Slices
        that lie at one position are thinned to the one with the lowest number. The step is the one that most
        slices are apart, so that missing ones do not stretch the volume.

    Raises
    ------
    ValueError
        If single slices have another orientation than the others.
    """
    chosen, mixed = _first_volume(places, thickness)
    found = _stack([places[index] for index in chosen], thickness if thickness > 0 else 1.0)
    return Stack(np.array(chosen)[found.order], found.orientation, found.step, found.origin, mixed + found.notes)


def _stack(places: Sequence[Place], thickness: float) -> Stack:
    numbers = np.array([place.number for place in places])
    has_orientation = all(_spans_a_plane(place.orientation) for place in places)
    has_positions = all(len(place.position) == N_AXES for place in places)
    axial = tuple(np.eye(N_AXES)[:2].ravel())
    orientations = np.array([place.orientation if has_orientation else axial for place in places])
    if np.abs(orientations - orientations[0]).max() > _SAME_ORIENTATION:
        msg = "its slices have different orientations"
        raise ValueError(msg)
    directions = orientations[0].reshape(2, N_AXES)
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    normal = np.cross(*directions)
    positions = np.array([place.position if has_positions else (0.0,) * N_AXES for place in places])
    depths = positions @ normal
    # Without orientation positions still tell the order, unless they lie side by side.
    if not has_positions or (not has_orientation and not np.ptp(depths)):
        missing = "orientation" if has_positions else "position"
        notes = _note(len(places) > 1, f"slices state no {missing}: sorted by their number")
        order = np.argsort(numbers, kind="stable")
        return Stack(order, directions, normal * thickness, positions[order[0]], notes)
    notes = _note(not has_orientation and len(places) > 1, "slices state no orientation: axial assumed")
    # Rounded, so that the number decides between slices that share a position.
    order = np.lexsort((numbers, np.round(depths / _SAME_POSITION_MM)))
    kept = order[np.diff(depths[order], prepend=-np.inf) > _SAME_POSITION_MM]
    notes += _note(len(kept) < len(places), f"{len(places)} slices share {len(kept)} positions: first of each taken")
    origin = positions[kept[0]]
    if len(kept) == 1:
        return Stack(kept, directions, normal * thickness, origin, notes)
    gaps = np.diff(depths[kept])
    gap = _usual(gaps)
    uneven = f"slices are {gaps.min():.4g} to {gaps.max():.4g} mm apart: some may be missing"
    notes += _note(float(np.ptp(gaps)) > _UNEVEN * gap, uneven)
    # Along the positions, not the normal: a tilted gantry shears the stack.
    step = (positions[kept[-1]] - positions[kept[0]]) * gap / gaps.sum()
    return Stack(kept, directions, step, origin, notes)


def _usual(gaps: NDArray[np.float64]) -> float:
    """Find the gap that most of them are, all but alike; of several the smallest."""
    alike = np.abs(gaps - gaps[:, np.newaxis]) <= _UNEVEN * gaps[:, np.newaxis]
    counts = alike.sum(axis=1)
    most = np.flatnonzero(counts == counts.max())
    return float(np.median(gaps[alike[most[gaps[most].argmin()]]]))


def _first_volume(places: Sequence[Place], thickness: float) -> tuple[list[int], tuple[str, ...]]:
    """Choose the slices of the first volume among several that one series holds, and say so."""
    kept, notes = [*range(len(places))], list[str]()
    groups = _by_orientation(places)
    if len(groups) > 1 and min(map(len, groups)) >= _MIN_STACK:
        kept = groups[0]
        notes.append(f"{len(groups)} orientations in one series: the first taken")
    for mark, what in enumerate(MARKS.values()):
        groups = _by_mark(places, kept, mark)
        if len(groups) < _MIN_STACK or min(map(len, groups)) < _MIN_STACK:
            continue
        if mark == _SIZE or _are_mixed(places, groups, thickness):
            kept = groups[0]
            notes.append(f"{len(groups)} {what} in one series: the first taken")
    return kept, tuple(notes)


def _by_orientation(places: Sequence[Place]) -> list[list[int]]:
    """Group slices that lie parallel, the one with the lowest number first."""
    groups: list[list[int]] = []
    for index in sorted(range(len(places)), key=lambda index: places[index].number):
        own = places[index].orientation
        same = (group for group in groups if _are_parallel(places[group[0]].orientation, own))
        group = next(same, None)
        if group is None:
            groups.append([index])
        else:
            group.append(index)
    return groups


def _are_parallel(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    if len(one) != len(other):
        return False
    return not one or float(np.abs(np.subtract(one, other)).max()) <= _SAME_ORIENTATION


def _by_mark(places: Sequence[Place], kept: Sequence[int], mark: int) -> list[list[int]]:
    """Group slices by what they state; numbers rising, texts by the lowest number of their slices."""
    groups: dict[str, list[int]] = {}
    for index in sorted(kept, key=lambda index: places[index].number):
        groups.setdefault(places[index].marks[mark] if places[index].marks else "", []).append(index)
    try:
        return [groups[value] for value in sorted(groups, key=float)]
    except ValueError:
        return [*groups.values()]


def _are_mixed(places: Sequence[Place], groups: Sequence[Sequence[int]], thickness: float) -> bool:
    """Whether groups of slices lie among each other, rather than one behind the other."""
    all_slices = [index for group in groups for index in group]
    if not all(
        len(places[index].position) == N_AXES and _spans_a_plane(places[index].orientation) for index in all_slices
    ):
        return False
    normal = np.cross(*np.reshape(places[all_slices[0]].orientation, (2, N_AXES)))
    depths = [np.sort([np.dot(places[index].position, normal) for index in group]) for group in groups]
    depths.sort(key=lambda own: (own[0], own[-1]))
    if not any(
        after[0] < before[-1] - _SAME_POSITION_MM or after[0] == after[-1] == before[0] == before[-1]
        for before, after in pairwise(depths)
    ):
        return False
    return not _interleave(depths, thickness)


def _interleave(depths: Sequence[NDArray[np.float64]], thickness: float) -> bool:
    """Whether each group leaves gaps that the others fill: one volume, acquired in several passes."""
    together = np.diff(np.sort(np.concatenate(depths)))
    gap, gap_alone = float(np.median(together)), float(np.median(np.diff(depths[0])))
    is_even = float(np.ptp(together)) <= _UNEVEN * gap
    return is_even and min(gap, thickness) > 0 and abs(gap - thickness) < abs(gap_alone - thickness)


def _spans_a_plane(orientation: tuple[float, ...]) -> bool:
    return len(orientation) == 2 * N_AXES and bool(np.any(np.cross(orientation[:3], orientation[3:])))


def _note(condition: bool, text: str) -> tuple[str, ...]:  # noqa: FBT001
    return (text,) if condition else ()
