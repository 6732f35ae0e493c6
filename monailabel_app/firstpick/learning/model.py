"""Small networks from the features of a voxel to its class, each fitted without some of the studies."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from firstpick.learning.agreement import dice_by_class, mean_dice
from firstpick.learning.sampling import Sampled

N_FOLDS = 5
MOST_VOXELS = 60_000
"""That one network is fitted to."""
_HIDDEN = (64, 32)
N_STEPS = 800
_BATCH = 512
_RATE = 4e-3
_DECAY = 1e-3
_NOISE = 0.5  # of a feature's spread, added while fitting
_SHIFTS = (-1.0, -0.5, 0.0, 0.5, 1.0)
_ROWS_AT_ONCE = 1 << 15
_SURE = 0.99


@dataclass(frozen=True)
class Model:
    """Networks over the same features; what they say is averaged.

    Attributes
    ----------
    mean, scale : ndarray of shape (n_features,), float32
        Subtracted from features, and divided by.
    weights : tuple of ndarray of shape (n_networks, n_in, n_out), float32
        Of each layer.
    offsets : tuple of ndarray of shape (n_networks, 1, n_out), float32
    without : tuple of tuple of int
        The studies that each network was not fitted to.
    shift : float
        Added to the log of the probability of background before the likeliest class is chosen.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    weights: tuple[NDArray[np.float32], ...]
    offsets: tuple[NDArray[np.float32], ...]
    without: tuple[tuple[int, ...], ...]
    shift: float = 0.0

    def probabilities(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean of all networks, shape (n, 1 + n_classes), float32.

        Where the first one is sure (.99), the others are not asked: that is most of the voxels, and most of the time.
        """
        found = self._of(0, X)
        rows = np.flatnonzero(found.max(axis=1) < _SURE)
        if len(rows):
            some = X[rows]
            others = [self._of(number, some) for number in range(1, len(self.without))]
            found[rows] = np.mean([found[rows], *others], axis=0)
        return found

    def held_out(self, study: int, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the network says that was not fitted to a study."""
        return self._of(next(number for number, out in enumerate(self.without) if study in out), X)

    def classify(self, probabilities: NDArray[np.float32]) -> NDArray[np.intp]:
        """Return the class of each row, 0 for background."""
        shifted = probabilities.copy()
        shifted[..., 0] *= np.exp(self.shift)
        return np.asarray(shifted.argmax(axis=-1), np.intp)

    def _of(self, number: int, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what one network says."""
        found = np.empty((len(X), self.weights[-1].shape[-1]), np.float32)
        for start in range(0, len(X), _ROWS_AT_ONCE):
            rows = (X[start : start + _ROWS_AT_ONCE] - self.mean) / self.scale
            for weights, offsets in zip(self.weights, self.offsets, strict=True):
                rows = rows @ weights[number] + offsets[number]
                if weights is not self.weights[-1]:
                    np.maximum(rows, 0, out=rows)
            rows -= rows.max(axis=1, keepdims=True)
            np.exp(rows, out=rows)
            found[start : start + _ROWS_AT_ONCE] = rows / rows.sum(axis=1, keepdims=True)
        return found


def fit(samples: Sequence[Sampled], n_classes: int, *, seed: int) -> Model:
    """Fit a model to labelled studies.

    Parameters
    ----------
    samples : sequence of Sampled
        Of two studies at least, the oldest label first.
    n_classes : int
    seed : int

    Returns
    -------
    Model
        With up to five studies a network for each, without it; else five networks, each without a fifth of the studies.
        So the model as a whole knows all labels, and each study has a network that does not know it.

    Notes
    -----
    Perceptrons of two hidden layers of 64 and 32, fitted side by side by AdamW under one cycle to the cross entropy of
    voxels of which half are foreground. The same number of steps whatever the number of labels, so the same seconds.
    """
    rng = np.random.default_rng(seed)
    folds = [tuple(range(start, len(samples), N_FOLDS)) for start in range(min(N_FOLDS, len(samples)))]
    known = [[own for at, own in enumerate(samples) if at not in fold] for fold in folds]
    each = [gathered(some, rng) for some in known]
    everything = np.concatenate([X for X, _ in each])
    mean, scale = everything.mean(axis=0), np.maximum(everything.std(axis=0), 1e-6)
    with _one_thread():
        weights, offsets = _fitted([((X - mean) / scale, y) for X, y in each], n_classes, rng)
    model = Model(mean, scale, weights, offsets, tuple(folds))
    return replace(model, shift=best_shift(model, samples, n_classes))


def best_shift(model: Model, samples: Sequence[Sampled], n_classes: int) -> float:
    """Return the shift that gives the best mean Dice on what each network has not seen; of equals the nearest to 0."""
    said = [model.held_out(place, own.X) for place, own in enumerate(samples)]
    best = {}
    for shift in _SHIFTS:
        shifted = replace(model, shift=shift)
        dice = [
            mean_dice(dice_by_class(shifted.classify(one), own.y, n_classes, own.weights))
            for one, own in zip(said, samples, strict=True)
        ]
        best[shift] = float(np.mean([one for one in dice if one is not None] or [0.0]))
    return max(best, key=lambda shift: (round(best[shift], 3), -abs(shift)))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: steps are so small that others cost more than they do, and sums are always the same."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


Arrays = tuple[NDArray[np.float32], ...]


def _fitted(
    each: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]], n_classes: int, rng: np.random.Generator
) -> tuple[Arrays, Arrays]:
    """Fit one network to each set of rows, all of them in the same steps."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    widths = (each[0][0].shape[1], *_HIDDEN, 1 + n_classes)
    weights = [
        (torch.randn(len(each), n_in, n_out, generator=generator) * (2 / n_in) ** 0.5).requires_grad_()
        for n_in, n_out in itertools.pairwise(widths)
    ]
    offsets = [torch.zeros(len(each), 1, n_out, requires_grad=True) for n_out in widths[1:]]
    rows, classes = [torch.from_numpy(X) for X, _ in each], [torch.from_numpy(y) for _, y in each]
    optimiser = torch.optim.AdamW([*weights, *offsets], lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=_RATE, total_steps=N_STEPS)
    for _ in range(N_STEPS):
        some = [torch.randint(len(own), (_BATCH,), generator=generator) for own in rows]
        batch = torch.stack([own[taken] for own, taken in zip(rows, some, strict=True)])
        batch += _NOISE * torch.randn(batch.shape, generator=generator)
        for layer, offset in zip(weights[:-1], offsets[:-1], strict=True):
            batch = torch.relu(torch.baddbmm(offset, batch, layer))
        logits = torch.baddbmm(offsets[-1], batch, weights[-1])
        wanted = torch.cat([own[taken] for own, taken in zip(classes, some, strict=True)])
        optimiser.zero_grad()
        (len(each) * cross_entropy(logits.flatten(0, 1), wanted)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return _arrays(weights), _arrays(offsets)


def _arrays(tensors: Sequence[torch.Tensor]) -> Arrays:
    return tuple(tensor.detach().numpy() for tensor in tensors)


def gathered(samples: Sequence[Sampled], rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Take voxels of all studies: half of them foreground where there is as much, the newest studies' share double."""
    ages = np.where(np.arange(len(samples)) < len(samples) // 2, 1.0, 2.0)
    shares = np.maximum(1, MOST_VOXELS * ages / ages.sum()).astype(int)
    X, y = [], []
    for sampled, share in zip(samples, shares, strict=True):
        of_label, of_background = np.flatnonzero(sampled.y), np.flatnonzero(sampled.y == 0)
        n_label = min(len(of_label), max(share // 2, share - len(of_background)))
        n_background = min(len(of_background), share - n_label)
        for rows, n in ((of_label, n_label), (of_background, n_background)):
            taken = rng.choice(rows, n, replace=False)
            X.append(sampled.X[taken])
            y.append(sampled.y[taken])
    return np.concatenate(X), np.concatenate(y).astype(np.int64)
