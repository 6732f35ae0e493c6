"""How well a segmenter does that learnt from the chosen studies alone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firstpick.evaluate.classification import HALVES
from firstpick.studies import Slice, Study
from firstpick.voxels.volumes import VolumeError, read_volume

N_STEPS = {2: 150, 3: 100}
"""Training steps by the number of axes: about a minute on one core for small volumes."""
MAX_SIDE = {2: 256, 3: 96}
"""Voxels along the longest axis of what is trained on; larger studies are shrunk to it."""
_CROP = {2: 128, 3: 48}
_BATCH = {2: 8, 3: 2}
_RATE = 5e-3
_FOREGROUND_FIRST = 0.67  # part of the crops that are laid around a labelled voxel, as in nnU-Net
_AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
_MULTIPLE = 8  # the network halves three times


@dataclass(frozen=True)
class Example:
    """One study and its mask, ready for a network.

    Attributes
    ----------
    image : ndarray of shape (nx, ny) or (nx, ny, nz), float32
        Mean 0 and deviation 1 after clipping to the percentiles 0.5 and 99.5.
    label : ndarray of the same shape, uint8
        0 for background, ``i + 1`` for the i-th label.
    spacing : tuple of float
        In mm; 1 for pictures.
    """

    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    spacing: tuple[float, ...]


def read_mask(mask: Study) -> NDArray[np.int64]:
    """Read a label map; VolumeError if it cannot be read or holds anything but small whole numbers."""
    array = read_volume(mask).array
    values = np.rint(array).astype(np.int64)
    if np.abs(array - values).max() > 0.01 or values.min() < 0:  # noqa: PLR2004 - rounding of a scaled file
        msg = f"The mask of {mask.study_id} is no label map: it must hold whole numbers, 0 or more."
        raise VolumeError(msg)
    return values


def read_example(study: Study, mask: Study, values: Sequence[int]) -> Example:
    """Read a study with its mask.

    Parameters
    ----------
    study, mask : Study
    values : sequence of int
        What the labels are called in the mask; the rest is background.

    Raises
    ------
    VolumeError
        If one of them cannot be read, or their sizes differ.
    """
    image, label, spacing = _read(study, mask, values)
    if image.shape[2] == 1:
        image, label, spacing = image[..., 0], label[..., 0], spacing[:2]
    return _ready(image, label, spacing)


def read_slices(study: Study, mask: Study, values: Sequence[int], slices: Sequence[Slice]) -> list[Example]:
    """Read slices of a study with those of its mask, each a picture of its own; else as `read_example`."""
    image, label, spacing = _read(study, mask, values)
    found = []
    for at in slices:
        axis = _AXES[at.plane]
        where = tuple(at.index if own == axis else slice(None) for own in range(3))
        found.append(_ready(image[where], label[where], np.delete(spacing, axis)))
    return found


def _read(
    study: Study, mask: Study, values: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float64]]:
    """Voxels, numbered labels and spacing of a study."""
    volume = read_volume(study)
    found = read_mask(mask)
    if found.shape != volume.array.shape:
        msg = f"{study.study_id} has {volume.array.shape} voxels, but its mask {found.shape}: they must be on one grid."
        raise VolumeError(msg)
    label = np.zeros(found.shape, np.uint8)
    for number, value in enumerate(values, start=1):
        label[found == value] = number
    return volume.array, label, np.array(volume.spacing)


def _ready(image: NDArray[np.float32], label: NDArray[np.uint8], spacing: NDArray[np.float64]) -> Example:
    """Shrink what is too large, and scale intensities."""
    from scipy.ndimage import zoom  # noqa: PLC0415 - slow to import

    shrink = min(1.0, MAX_SIDE[image.ndim] / max(image.shape))
    if shrink < 1:
        before = np.array(image.shape)
        image, label = zoom(image, shrink, order=1), zoom(label, shrink, order=0)
        spacing = spacing * before / np.array(image.shape)
    low, high = np.percentile(image, (0.5, 99.5))
    image = np.clip(image, low, high)
    image = (image - image.mean()) / (image.std() or 1.0)
    return Example(np.ascontiguousarray(image, np.float32), np.ascontiguousarray(label), tuple(spacing.tolist()))


def crop_size(examples: Sequence[Example]) -> tuple[int, ...]:
    """Return the size of the crops that a network sees: the median study, rounded up to a multiple of 8, within bounds.

    It is that of the whole data set, so that all arms have the same.
    """
    median = np.median([example.image.shape for example in examples], axis=0)
    n_axes = examples[0].image.ndim
    return tuple(int(min(_CROP[n_axes], -(-size // _MULTIPLE) * _MULTIPLE)) for size in median)


def segment(
    examples: Sequence[Example],
    tests: Sequence[Example],
    half: NDArray[np.intp],
    names: Sequence[str],
    crop: tuple[int, ...],
    seed: int,
    n_steps: int,
) -> dict[str, float]:
    """Train a SegResNet from scratch, in 2-D or 3-D as the data are, and measure it.

    Parameters
    ----------
    examples, tests : sequence of Example
    half : ndarray of shape (n_tests,), intp
        In which half of the test part each study is.
    names : sequence of str
        Of the labels.
    crop, seed, n_steps
        See `network_masks`.

    Returns
    -------
    dict
        See `mask_measures`.
    """
    found = network_masks(examples, tests, len(names), crop, seed, n_steps)
    return mask_measures(found, [t.label for t in tests], [t.spacing for t in tests], names, half)


def network_masks(
    examples: Sequence[Example],
    tests: Sequence[Example],
    n_classes: int,
    crop: tuple[int, ...],
    seed: int,
    n_steps: int,
) -> list[NDArray[np.uint8]]:
    """Train a SegResNet from scratch, and return its masks of the tests.

    Parameters
    ----------
    examples, tests : sequence of Example
    n_classes : int
        Background apart.
    crop : tuple of int
    seed : int
        Of the weights, the order and the crops.
    n_steps : int
        The same for any number of studies: every arm is trained in the very same way.

    Notes
    -----
    MONAI's SegResNet with 8 filters and three levels; Dice and cross-entropy; AdamW under one cycle; two thirds of the
    crops lie around a labelled voxel; intensities are scaled and shifted at random. Sliding window at test time.
    """
    import torch  # noqa: PLC0415 - so that the stand-in's workers do without
    from monai.inferers.utils import sliding_window_inference  # noqa: PLC0415
    from monai.losses.dice import DiceCELoss  # noqa: PLC0415
    from monai.networks.nets.segresnet import SegResNet  # noqa: PLC0415

    from firstpick.evaluate.training import reproducible, train  # noqa: PLC0415

    rng = np.random.default_rng(seed)
    padded = [_pad(example, crop) for example in examples]

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        crops = [_random_crop(*padded[rng.integers(len(padded))], crop, rng) for _ in range(_BATCH[len(crop)])]
        images = np.stack([image for image, _ in crops])[:, None]
        return torch.from_numpy(images), torch.from_numpy(np.stack([label for _, label in crops])[:, None])

    with reproducible(seed) as device, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI 1.5 indexes as torch 2.9 is going to forbid
        model = SegResNet(
            spatial_dims=len(crop), init_filters=8, out_channels=n_classes + 1, blocks_down=(1, 1, 2), blocks_up=(1, 1)
        )
        loss = DiceCELoss(to_onehot_y=True, softmax=True)
        train(model, batch, loss, n_steps=n_steps, rate=_RATE, device=device)
        found = []
        with torch.inference_mode():
            for test in tests:
                image = torch.from_numpy(test.image)[None, None].to(device)
                logits = sliding_window_inference(image, crop, 4, model, overlap=0.25)
                found.append(logits[0].argmax(dim=0).cpu().numpy().astype(np.uint8))
        return found


def mask_measures(
    found: Sequence[NDArray[np.uint8]],
    labels: Sequence[NDArray[np.uint8]],
    spacings: Sequence[tuple[float, ...]],
    names: Sequence[str],
    half: NDArray[np.intp],
    *,
    distances: bool = True,
) -> dict[str, float]:
    """Measure masks: Dice and the 95 % Hausdorff distance of each label, means over the studies, and over the labels.

    Returns
    -------
    dict
        ``dice``, ``hd95`` and the same for each label, ``dice: NAME``; ``dice`` of both halves of the test part
        too (`HALVES`).

    Notes
    -----
    A study counts for a label if the reference has it, or the prediction does. Where one of the two lacks it, Dice is
    0 and the distance the diagonal of the study (nothing in it can be farther); where both do, the study does not
    count. Distances are symmetric, by MONAI, in mm (pixels for pictures). A label that no test study has gives NaN.
    """
    dice: dict[str, list[float]] = {name: [] for name in names}
    halves: list[dict[str, list[float]]] = [{name: [] for name in names} for _ in HALVES]
    distance: dict[str, list[float]] = {name: [] for name in names}
    for mask, reference, spacing, place in zip(found, labels, spacings, half, strict=True):
        for number, name in enumerate(names, start=1):
            a, b = mask == number, reference == number
            if a.any() or b.any():
                dice[name].append(float(2 * (a & b).sum() / (a.sum() + b.sum())))
                halves[place][name].append(dice[name][-1])
                if distances:
                    distance[name].append(_hd95(a, b, spacing))
    return {
        **_means("dice", dice),
        **(_means("hd95", distance) if distances else {}),
        **{f"dice, {name}": _means("", values)[""] for name, values in zip(HALVES, halves, strict=True)},
    }


def _means(what: str, values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    each = {f"{what}: {name}": float(np.mean(v)) if v else float("nan") for name, v in values.items()}
    known = [value for value in each.values() if not np.isnan(value)]
    return {what: float(np.mean(known)) if known else float("nan"), **each}


def _hd95(a: NDArray[np.bool_], b: NDArray[np.bool_], spacing: tuple[float, ...]) -> float:
    import torch  # noqa: PLC0415
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance  # noqa: PLC0415

    if not (a.any() and b.any()):
        return float(np.linalg.norm(np.array(a.shape) * spacing))
    found, reference = (torch.from_numpy(mask)[None, None] for mask in (a, b))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's own deprecations
        distance = compute_hausdorff_distance(
            found, reference, include_background=True, percentile=95, spacing=list(spacing)
        )
    return float(distance)


def _pad(example: Example, crop: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Pad to at least the crop's size, with the lowest value and background."""
    missing = [max(0, size - have) for size, have in zip(crop, example.image.shape, strict=True)]
    width = [(lack // 2, lack - lack // 2) for lack in missing]
    low = float(example.image.min())
    return np.pad(example.image, width, constant_values=low), np.pad(example.label, width)


def _random_crop(
    image: NDArray[np.float32], label: NDArray[np.uint8], crop: tuple[int, ...], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    last = np.array(image.shape) - crop
    corner = rng.integers(last + 1)
    inside = np.flatnonzero(label)
    if rng.random() < _FOREGROUND_FIRST and len(inside):
        voxel = np.unravel_index(rng.choice(inside), label.shape)
        corner = np.clip(np.array(voxel) - rng.integers(np.array(crop)), 0, last)
    where = tuple(slice(int(start), int(start) + size) for start, size in zip(corner, crop, strict=True))
    scaled = image[where] * rng.uniform(0.9, 1.1) + rng.uniform(-0.1, 0.1)
    return np.asarray(scaled, np.float32), label[where]
