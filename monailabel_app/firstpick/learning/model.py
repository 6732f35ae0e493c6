"""Small networks from the features of a voxel to its class, each fitted without some of the studies."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from firstpick.learning.sampling import Sampled

N_FOLDS = 5
MOST_VOXELS = 60_000
"""That one network is fitted to."""
_HIDDEN = (64, 32)
_N_EPOCHS = 12
_BATCH = 512
_RATE = 4e-3
_NOISE = 0.1  # of a feature's spread, added while fitting
_BIASES = np.linspace(-0.6, 0.6, 13)


@dataclass(frozen=True)
class Model:
    """Networks over the same features; what they say is averaged.

    Attributes
    ----------
    networks : tuple of torch.nn.Module
    without : tuple of tuple of int
        The studies that each network was not fitted to.
    bias : float
        Probability that is taken from background before the likeliest class is chosen.
    """

    networks: tuple[nn.Module, ...]
    without: tuple[tuple[int, ...], ...]
    bias: float = 0.0

    def probabilities(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean of all networks, shape (n, 1 + n_classes), float32."""
        said = [_apply(network, X) for network in self.networks]
        return np.asarray(np.mean(said, axis=0), np.float32)

    def held_out(self, study: int, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the network says that was not fitted to a study."""
        number = next(number for number, out in enumerate(self.without) if study in out)
        return _apply(self.networks[number], X)

    def classify(self, probabilities: NDArray[np.float32]) -> NDArray[np.intp]:
        """Return the class of each row, 0 for background."""
        shifted = probabilities.copy()
        shifted[..., 0] -= self.bias
        return np.asarray(shifted.argmax(axis=-1), np.intp)


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
    """
    folds = [tuple(range(start, len(samples), N_FOLDS)) for start in range(min(N_FOLDS, len(samples)))]
    networks = []
    for number, fold in enumerate(folds):
        known = [sampled for at, sampled in enumerate(samples) if at not in fold]
        networks.append(_fit_one(known, n_classes, seed=seed + number))
    return Model(tuple(networks), tuple(folds))


def _fit_one(samples: Sequence[Sampled], n_classes: int, *, seed: int) -> nn.Module:
    """Fit one network by cross entropy, rare classes counting more."""
    rng = np.random.default_rng(seed)
    X, y = _gathered(samples, rng)
    torch.manual_seed(seed)
    network = _network(X, n_classes)
    loss = nn.CrossEntropyLoss()
    rows, classes = torch.from_numpy(X), torch.from_numpy(y)
    n_steps = -(-len(X) // _BATCH) * _N_EPOCHS
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=_RATE, total_steps=n_steps)
    spread = torch.from_numpy(X.std(axis=0))
    for _ in range(_N_EPOCHS):
        for some in torch.split(torch.randperm(len(rows)), _BATCH):
            batch = rows[some] + _NOISE * torch.randn(len(some), rows.shape[1]) * spread
            optimiser.zero_grad()
            loss(network(batch), classes[some]).backward()
            optimiser.step()
            schedule.step()
    return network.eval()


class _Standardise(nn.Module):
    """Features of zero mean and equal spread."""

    def __init__(self, X: NDArray[np.float32]) -> None:
        super().__init__()
        self.mean = torch.from_numpy(X.mean(axis=0))
        self.scale = torch.from_numpy(np.maximum(X.std(axis=0), 1e-6))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return (rows - self.mean) / self.scale


def _network(X: NDArray[np.float32], n_classes: int) -> nn.Sequential:
    widths = (X.shape[1], *_HIDDEN)
    layers: list[nn.Module] = [_Standardise(X)]
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1 + n_classes))


def _gathered(samples: Sequence[Sampled], rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
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


@torch.inference_mode()
def _apply(network: nn.Module, X: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = torch.from_numpy(np.ascontiguousarray(X))
    parts = [torch.softmax(network(part), dim=1) for part in torch.split(rows, 1 << 16)]
    return torch.cat(parts).numpy()
