"""Cut 2-D views out of a volume, as an encoder or a reader's eye wants them.

Everything that needs the whole volume (what is body, where it lies, how bright it is) is read from a coarse
grid of it; of the full volume only single slices are ever copied. All views follow from the voxels' logical
order, never from their layout in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from math import prod

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from firstpick.studies import Slice
from firstpick.voxels.volumes import Volume

PLANES = ("axial", "coronal", "sagittal")
INTENSITIES = ("auto", "ct", "percentile")

_AXIS = {"axial": 2, "coronal": 1, "sagittal": 0}  # the volume's axis that a plane's slices are stacked along
_MAX_SIZE = 4096
_N_COARSE = 64**3  # voxels of the coarse grid, at most

# Lowest and highest value of each window: centre -600 width 1500, 40/400 and 400/1800 HU.
_LUNG, _SOFT_TISSUE, _BONE = (-1350.0, 150.0), (-160.0, 240.0), (-500.0, 1300.0)
_BODY_HU = -500.0  # halfway from air to water
_LOWEST_HU, _HIGHEST_HU = -4096.0, 3000.0  # what scanners write outside their circle; metal apart
_WATERY_HU, _MIN_WATERY = 200.0, 0.02  # soft tissue lies this near to 0 HU, and every body holds this much of it
_ROBUST = (0.5, 99.5)  # percentiles taken as the darkest and the brightest, where no spec says otherwise
_BODY_FRACTION = 0.15  # of the way from the darkest to the brightest: above noise, below fat-suppressed tissue
_MIN_BODY = 0.01  # less foreground than this is a spot, not a body: show what surrounds it
_MIN_OCCUPIED = 0.02  # slices emptier than this, against the fullest, hold specks

_Window = tuple[float, float]


def _check_size(size: int) -> None:
    if not isinstance(size, int) or not 1 <= size <= _MAX_SIZE:
        msg = f"size must be a whole number of pixels from 1 to {_MAX_SIZE}; got {size}."
        raise ValueError(msg)


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values)) if values else "nothing"


@dataclass(frozen=True)
class ViewSpec:
    """Say which views are cut from a volume, and how they look.

    Raises
    ------
    ValueError
        If a value is not one of those allowed; the message lists them.
    """

    planes: tuple[str, ...] = PLANES
    """Planes in which a volume is cut: axial, coronal, sagittal."""
    per_plane: int = 3
    """Slices in each plane."""
    every_mm: float = 0.0
    """Distance of neighbouring slices in mm, instead of per_plane; 0 for per_plane."""
    size: int = 0
    """Side of a view in pixels; 0 for the encoder's own."""
    intensity: str = "auto"
    """auto (CT windows for CT, percentiles for the rest), ct, or percentile."""
    percentiles: tuple[float, float] = _ROBUST
    """Percentiles of the foreground that become black and white."""

    def __post_init__(self) -> None:
        known = set(self.planes) <= set(PLANES)
        if not self.planes or not known or len(set(self.planes)) < len(self.planes):
            msg = f"planes must be one or more of {', '.join(PLANES)}, each once; got {_listed(self.planes)}."
            raise ValueError(msg)
        if not isinstance(self.per_plane, int) or self.per_plane < 1:
            msg = f"per_plane must be a whole number of slices, 1 or more; got {self.per_plane}."
            raise ValueError(msg)
        if not 0 <= self.every_mm < float("inf"):
            msg = f"every_mm must be a distance in mm, or 0 for per_plane slices; got {self.every_mm}."
            raise ValueError(msg)
        if self.size != 0:
            _check_size(self.size)
        if self.intensity not in INTENSITIES:
            msg = f"intensity {self.intensity!r} is not known. Choose one of {', '.join(INTENSITIES)}."
            raise ValueError(msg)
        if len(self.percentiles) != 2 or not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:  # noqa: PLR2004 two ends, per cent
            msg = f"percentiles must be two rising numbers between 0 and 100; got {_listed(self.percentiles)}."
            raise ValueError(msg)


_DEFAULT = ViewSpec(size=112)


def make_views(volume: Volume, spec: ViewSpec = _DEFAULT) -> NDArray[np.float32]:
    """Cut the slices that show a volume best, as square pictures.

    Parameters
    ----------
    volume : Volume
        Not changed.
    spec : ViewSpec
        Which planes, how many slices in each, their size (not 0) and intensities.

    Returns
    -------
    ndarray of shape (n_views, size, size, 3), float32, in [0, 1]
        Rows from top to bottom, columns from left to right. Planes in the order of ``spec.planes``, in each plane
        ``per_plane`` slices from the lowest coordinate to the highest (slices repeat where the volume has fewer),
        or one slice every ``every_mm``. A picture gives one view, as stored and whole. `view_slices` says which
        slices they are.

    Notes
    -----
    *Orientation*, as on a radiologist's screen. Axial: anterior up, the patient's right on the left. Coronal:
    superior up, the patient's right on the left. Sagittal: superior up, anterior on the left.

    *Where.* The foreground is what lies above -500 HU, or, without windows, above 15 % of the way between the
    0.5th and the 99.5th percentile. Views are cut to its box, at the quantiles ``1 / (per_plane + 1), ...`` of its
    voxel count along each axis (25, 50 and 75 % for three); with ``every_mm``, at steps of that length (of one slice
    at least), as far from one end of the box as from the other. Where hardly anything or everything is foreground,
    it is the whole volume. Planes that would show a line are left out; if no plane of ``spec.planes`` remains, all
    others are tried, and a single row of voxels gives one view.

    *Scale.* A plane's square is the longer side of the box in that plane, in mm; the rest is padded with 0, never
    stretched. Views of one plane share their mm per pixel; planes do not, because a long scan would otherwise shrink
    its own axial slices.

    *Intensity.* CT fills three channels with the lung (-600/1500), soft tissue (40/400) and bone window (400/1800
    HU, centre/width). Everything else is stretched between ``spec.percentiles`` of its foreground, equal in all
    channels. With ``"auto"``, the modality decides; where it is unknown, values are taken for HU if the 0.5th
    percentile is air (-4096 to -500), the 99.5th is not air and below 3000, and 2 % or more lie within 200 HU of water.
    A crop of a CT without air in it is not recognised: set ``intensity`` to ``"ct"`` for such a folder.
    """
    _check_size(spec.size)
    coarse = _Coarse.of(volume.array)
    windowed = _is_windowed(volume, coarse, spec.intensity)
    mask = _foreground(volume, coarse, windowed=windowed)
    windows = (_LUNG, _SOFT_TISSUE, _BONE) if windowed else (_stretch(coarse.sample, mask, spec.percentiles),)
    box = coarse.box(mask)
    cuts = _cuts(volume, spec, coarse, mask, box)
    views = np.zeros((len(cuts), spec.size, spec.size, 3), np.float32)
    for view, (plane, index) in zip(views, cuts, strict=True):
        draw(view, *_cut(volume, plane, index, box), windows=windows)
    return views


def crop(
    volume: Volume, spec: ViewSpec = _DEFAULT, *, window: tuple[float, float] = (-1000.0, 1000.0)
) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Cut out the box of the foreground, for encoders that see the volume itself.

    Parameters
    ----------
    volume : Volume
        Not changed.
    spec : ViewSpec
        ``intensity`` and ``percentiles`` have the meaning that they have for `make_views`.
    window : (float, float)
        HU to show as 0 and as 1, for CT.

    Returns
    -------
    ndarray of shape (nx, ny, nz), float32
        A view of the volume's array, in its own units.
    (float, float)
        The values to show as 0 and as 1: ``window`` for CT, percentiles of the foreground for everything else.
    """
    coarse = _Coarse.of(volume.array)
    windowed = _is_windowed(volume, coarse, spec.intensity)
    mask = _foreground(volume, coarse, windowed=windowed)
    ends = window if windowed else _stretch(coarse.sample, mask, spec.percentiles)
    return volume.array[coarse.box(mask)], ends


def windows_of(volume: Volume, spec: ViewSpec = _DEFAULT) -> tuple[tuple[float, float], ...]:
    """Return the values that `make_views` shows as 0 and as 1, for each channel: three windows of CT, or one."""
    coarse = _Coarse.of(volume.array)
    windowed = _is_windowed(volume, coarse, spec.intensity)
    if windowed:
        return _LUNG, _SOFT_TISSUE, _BONE
    return (_stretch(coarse.sample, _foreground(volume, coarse, windowed=windowed), spec.percentiles),)


def view_slices(volume: Volume, spec: ViewSpec = _DEFAULT) -> tuple[Slice, ...]:
    """Say which slices `make_views` shows, in the order of its views.

    Examples
    --------
    Five slices of 2 mm, all foreground; every 3 mm there is one, at 2, 5 and 8 of the 10 mm. Between two slices
    it is the upper one.

    >>> volume = Volume(np.ones((4, 4, 5), np.float32), (1.0, 1.0, 2.0))
    >>> [(cut.index, cut.position_mm) for cut in view_slices(volume, ViewSpec(planes=("axial",), every_mm=3))]
    [(1, 2.0), (2, 4.0), (4, 8.0)]
    """
    coarse = _Coarse.of(volume.array)
    mask = _foreground(volume, coarse, windowed=_is_windowed(volume, coarse, spec.intensity))
    cuts = _cuts(volume, spec, coarse, mask, coarse.box(mask))
    return tuple(Slice(plane, index, index * volume.spacing[_AXIS[plane]]) for plane, index in cuts)


def thumbnail(volume: Volume, *, size: int = 160) -> bytes:
    """Draw the one slice that tells a reader which study this is.

    Parameters
    ----------
    volume : Volume
        Not changed.
    size : int, default 160
        Pixels along each side, up to 4096.

    Returns
    -------
    bytes
        A PNG, 8-bit grey: the middle slice of the plane in which that slice holds most foreground in mm², oriented
        and scaled as by `make_views`. CT in the soft-tissue window. A picture as it is.

    Raises
    ------
    ValueError
        If ``size`` is not a whole number from 1 to 4096.
    """
    _check_size(size)
    coarse = _Coarse.of(volume.array)
    windowed = _is_windowed(volume, coarse, "auto")
    mask = _foreground(volume, coarse, windowed=windowed)
    window = _SOFT_TISSUE if windowed else _stretch(coarse.sample, mask, _ROBUST)
    box = coarse.box(mask)
    plane, index = _fullest(volume, coarse, mask, box)
    grey = np.zeros((size, size, 1), np.float32)
    draw(grey, *_cut(volume, plane, index, box), windows=(window,))
    png = BytesIO()
    Image.fromarray(np.rint(grey[:, :, 0] * 255).astype(np.uint8)).save(
        png, "PNG", compress_level=3
    )  # twice as fast as the default, 2 % larger
    return png.getvalue()


@dataclass(frozen=True)
class _Coarse:
    """A volume seen on every n-th voxel, and the way back to its own indices.

    Coarse cell ``i`` of an axis stands for voxels ``i * stride`` to ``(i + 1) * stride``, and was read in their middle.
    """

    sample: NDArray[np.float32]
    strides: tuple[int, int, int]
    shape: tuple[int, int, int]  # of the volume
    dark: float  # the sample's robust darkest and brightest
    bright: float

    @classmethod
    def of(cls, array: NDArray[np.float32]) -> _Coarse:
        """Thin out the axis with most samples until they are few."""
        n_x, n_y, n_z = array.shape
        strides, counts = [1, 1, 1], [n_x, n_y, n_z]
        while prod(counts) > _N_COARSE:
            axis = counts.index(max(counts))
            strides[axis] += 1
            counts[axis] = -(-array.shape[axis] // strides[axis])
        s_x, s_y, s_z = strides
        sample = np.ascontiguousarray(array[s_x // 2 :: s_x, s_y // 2 :: s_y, s_z // 2 :: s_z])
        return cls(sample, (s_x, s_y, s_z), (n_x, n_y, n_z), *_percentiles(sample, _ROBUST))

    def box(self, mask: NDArray[np.bool_]) -> tuple[slice, ...]:
        """Return the voxels along each axis that hold the foreground, half a stride wider than seen."""
        box = []
        for axis, (stride, n) in enumerate(zip(self.strides, self.shape, strict=True)):
            counts = _profile(mask, axis)
            filled = np.flatnonzero(counts >= _MIN_OCCUPIED * counts.max())
            start, last = int(filled[0]), int(filled[-1])
            stop = n if last == len(counts) - 1 else (last + 1) * stride + stride // 2
            box.append(slice(max(start * stride - stride // 2, 0), min(stop, n)))
        return tuple(box)

    def quantiles(self, mask: NDArray[np.bool_], box: tuple[slice, ...], axis: int, n_slices: int) -> list[int]:
        """Return the slices of an axis that divide the foreground into equal shares, rising, inside the box."""
        n, counts = self.shape[axis], _profile(mask, axis)
        edges = np.append(np.arange(len(counts)) * self.strides[axis], n)
        below = np.append(0, np.cumsum(counts))
        shares = np.arange(1, n_slices + 1) / (n_slices + 1)
        positions = np.interp(shares * below[-1], below, edges)
        return [int(i) for i in np.clip(np.floor(positions), box[axis].start, box[axis].stop - 1)]


def _profile(mask: NDArray[np.bool_], axis: int) -> NDArray[np.int64]:
    """Count the foreground in each slice along an axis."""
    others = tuple(other for other in range(3) if other != axis)
    counts: NDArray[np.int64] = mask.sum(axis=others, dtype=np.int64)
    return counts


def _is_windowed(volume: Volume, coarse: _Coarse, intensity: str) -> bool:
    """Decide whether values are shown through the CT windows."""
    if intensity != "auto" or volume.modality:
        return intensity == "ct" or (intensity == "auto" and volume.modality == "CT")
    has_air_and_body = _LOWEST_HU <= coarse.dark <= _BODY_HU < coarse.bright <= _HIGHEST_HU
    n_watery = np.count_nonzero(np.abs(coarse.sample) <= _WATERY_HU)
    return has_air_and_body and n_watery >= _MIN_WATERY * coarse.sample.size


def _foreground(volume: Volume, coarse: _Coarse, *, windowed: bool) -> NDArray[np.bool_]:
    """Mark the body; everything, where there is no telling (or in a picture, which is shown whole)."""
    everything = np.ones(coarse.sample.shape, np.bool_)
    if volume.is_picture:
        return everything
    threshold = _BODY_HU if windowed else coarse.dark + _BODY_FRACTION * (coarse.bright - coarse.dark)
    mask: NDArray[np.bool_] = coarse.sample > np.float32(threshold)
    return mask if np.count_nonzero(mask) >= _MIN_BODY * mask.size else everything


def _stretch(sample: NDArray[np.float32], mask: NDArray[np.bool_], percentiles: _Window) -> _Window:
    """Return the values to show as 0 and as 1: of the foreground; if that is flat, of everything."""
    for values, ends in ((sample[mask], percentiles), (sample, percentiles), (sample, (0.0, 100.0))):
        low, high = _percentiles(values, ends)
        if low < high:
            break
    return low, high


def _percentiles(values: NDArray[np.float32], ends: _Window) -> _Window:
    """Return two percentiles as values that occur, so that none overflows on the way between two."""
    low, high = np.percentile(values, ends, method="nearest")
    return float(low), float(high)


def _planes(volume: Volume, spec: ViewSpec) -> tuple[tuple[str, ...], int]:
    """Return the planes that show more than a line, and the slices in each."""
    if volume.is_picture:
        return ("axial",), 1
    shape = volume.array.shape
    solid = [plane for plane in PLANES if all(n > 1 for axis, n in enumerate(shape) if axis != _AXIS[plane])]
    if not solid:
        return (max(PLANES, key=lambda plane: prod(shape) // shape[_AXIS[plane]]),), 1
    return tuple(plane for plane in spec.planes if plane in solid) or tuple(solid), spec.per_plane


def _cuts(
    volume: Volume, spec: ViewSpec, coarse: _Coarse, mask: NDArray[np.bool_], box: tuple[slice, ...]
) -> list[tuple[str, int]]:
    """Return the plane and the index of each view."""
    planes, n_slices = _planes(volume, spec)
    if spec.every_mm:
        return [(p, i) for p in planes for i in _every(spec.every_mm, volume.spacing[_AXIS[p]], box[_AXIS[p]])]
    return [(plane, i) for plane in planes for i in coarse.quantiles(mask, box, _AXIS[plane], n_slices)]


def _every(step_mm: float, spacing: float, box: slice) -> list[int]:
    """Return the slices of a box that are ``step_mm`` apart, or one after the other, and centred."""
    last = box.stop - box.start - 1
    step = max(step_mm / spacing, 1.0)
    n_steps = int(last / step)
    first = box.start + (last - n_steps * step) / 2
    return [int(first + i * step + 0.5) for i in range(n_steps + 1)]


def _fullest(volume: Volume, coarse: _Coarse, mask: NDArray[np.bool_], box: tuple[slice, ...]) -> tuple[str, int]:
    """Return the plane, and its middle slice, with the largest area of foreground; the first of `PLANES` in a tie."""
    best, largest = ("axial", 0), -1.0
    for plane in _planes(volume, _DEFAULT)[0]:
        axis = _AXIS[plane]
        (index,) = coarse.quantiles(mask, box, axis, 1)
        counts = _profile(mask, axis)
        pixel_mm2 = prod(volume.spacing[other] * coarse.strides[other] for other in range(3) if other != axis)
        area = counts[min(index // coarse.strides[axis], len(counts) - 1)] * pixel_mm2
        if area > largest:
            best, largest = (plane, index), area
    return best


def _cut(
    volume: Volume, plane: str, index: int, box: tuple[slice, ...]
) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Return one slice as it is displayed (rows, columns), and the mm from row to row and column to column."""
    axis = _AXIS[plane]
    across, along = (other for other in range(3) if other != axis)
    where: list[slice | int] = list(box)
    where[axis] = index
    pixels = volume.array[tuple(where)].T
    if not volume.is_picture:  # all axes of a volume grow away from where the screen begins
        pixels = pixels[::-1, ::-1]
    return pixels, (volume.spacing[along], volume.spacing[across])


def in_square(shape: Sequence[int], spacing: Sequence[float], size: int) -> tuple[slice, slice]:
    """Return the rows and columns of a square of `size` pixels that a picture fills: in its middle, never stretched.

    >>> in_square((20, 10), (1.0, 1.0), 8)
    (slice(0, 8, None), slice(2, 6, None))
    """
    extents = [n * mm for n, mm in zip(shape, spacing, strict=True)]
    n_rows, n_columns = (min(max(round(size * (extent / max(extents))), 1), size) for extent in extents)
    top, left = (size - n_rows) // 2, (size - n_columns) // 2
    return slice(top, top + n_rows), slice(left, left + n_columns)


def draw(
    canvas: NDArray[np.float32],
    pixels: NDArray[np.float32],
    spacing: tuple[float, float],
    *,
    windows: tuple[_Window, ...],
) -> None:
    """Scale pixels into the middle of a square canvas of zeros, one window for each channel (or one for all).

    Values are clipped to what any window shows before they are averaged, so that metal does not outshine its
    neighbours. The triangle filter smooths when it shrinks and never overshoots.
    """
    low, high = min(window[0] for window in windows), max(window[1] for window in windows)
    if low >= high:
        return
    where = in_square(pixels.shape, spacing, canvas.shape[0])
    target = canvas[where]
    unit = (np.clip(pixels.astype(np.float64), low, high) - low) / (high - low)
    resized = Image.fromarray(unit.astype(np.float32)).resize(
        (target.shape[1], target.shape[0]), Image.Resampling.BILINEAR
    )
    starts = np.array([(window[0] - low) / (high - low) for window in windows], np.float32)
    widths = np.array([(window[1] - window[0]) / (high - low) for window in windows], np.float32)
    target[:] = np.clip((np.asarray(resized)[:, :, np.newaxis] - starts) / widths, 0, 1)
