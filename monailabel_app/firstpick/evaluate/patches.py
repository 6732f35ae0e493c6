"""A fast stand-in for training a segmenter: a linear probe on frozen patch features."""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from firstpick.encoders import EncoderSpec
from firstpick.encoders.patches import PatchEncoder, patch_encoder
from firstpick.evaluate.grid import result_of
from firstpick.evaluate.segmentation import Example, mask_measures
from firstpick.learning.uncertainty import entropy
from firstpick.voxels.views import ViewSpec
from firstpick.workers import Executor

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

ENCODER = "dinov2-s"
N_SLICES = 8
SIZE = 168
N_KEPT = 64
RECIPE = 2
_MAX_PATCHES = 20_000
_N_AT_ONCE = 4  # studies
_PRESENT = 0.5  # of a patch, from which on it is of a label


@dataclass(frozen=True)
class Patches:
    """All patches of a data set.

    Attributes
    ----------
    tokens : ndarray of shape (n_studies, n_patches, dim), float16
        What the encoder gave.
    label : ndarray of shape (n_studies, n_patches), uint8
        What most of each patch is.
    """

    tokens: NDArray[np.float16]
    label: NDArray[np.uint8]

    def reduced(self, pool: NDArray[np.intp]) -> NDArray[np.float32]:
        """Project all tokens on the 64 principal components of those of a pool, with equal spread there.

        Returns
        -------
        ndarray of shape (n_studies, n_patches, 64), float32
        """
        from sklearn.decomposition import PCA  # noqa: PLC0415 - slow to import

        flat = self.tokens[pool].reshape(-1, self.tokens.shape[-1])
        sample = flat[:: max(1, len(flat) // _MAX_PATCHES)].astype(np.float32)
        with threadpool_limits(1):  # the same sums, whatever the cores
            model = PCA(min(N_KEPT, *sample.shape), whiten=True, random_state=0).fit(sample)
            return np.stack([model.transform(rows.astype(np.float32)).astype(np.float32) for rows in self.tokens])


def cached_patches(
    examples: Sequence[Example], encoder: str, folder: Path, fingerprint: str, executor: Executor, *, n_waiting: int
) -> Iterator[int | Patches]:
    """Encode the slices of all studies, or read them from an earlier run; yield how many are done, then the patches.

    Parameters
    ----------
    examples : sequence of Example
    encoder : str
        One that has patches.
    folder : Path
    fingerprint : str
        Of the data set.
    executor : Executor
        Where studies are encoded, a few at a time.
    n_waiting : int
        How often that may be under way at a time.

    Raises
    ------
    OSError
        If a worker process died.

    Notes
    -----
    What is encoded is kept in ``folder``, under a hash of the data set and of how it was done.
    Eight axial slices of a volume, evenly spaced, each padded to a square of 168 pixels: 12 x 12 patches of 14.
    """
    recipe = {"recipe": RECIPE, "encoder": encoder, "data": fingerprint, "at": [N_SLICES, SIZE, N_KEPT]}
    path = folder / f"patches-{hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as kept:
            patches = Patches(kept["tokens"], kept["label"])
    else:
        tokens, labels = [], []
        todo = iter([examples[at : at + _N_AT_ONCE] for at in range(0, len(examples), _N_AT_ONCE)])
        running: deque[Future[list[tuple[NDArray[np.float16], NDArray[np.uint8]]]]] = deque()
        while True:
            running.extend(executor.submit(_encode, some, encoder) for some in islice(todo, n_waiting - len(running)))
            if not running:
                break
            for rows, label in result_of(running.popleft()):
                tokens.append(rows)
                labels.append(label)
            yield len(tokens)
        patches = Patches(np.stack(tokens), np.stack(labels))
        fresh = path.with_suffix(f".{os.getpid()}.part")  # another comparison may share the folder
        with fresh.open("wb") as file:
            np.savez(file, tokens=patches.tokens, label=patches.label)
        fresh.replace(path)
    yield patches


def patch_probe(
    X: NDArray[np.float32],
    y: NDArray[np.uint8],
    X_test: NDArray[np.float32],
    y_test: NDArray[np.uint8],
    half: NDArray[np.intp],
    names: Sequence[str],
    seed: int,
) -> dict[str, float]:
    """Train a linear probe on the patches of the chosen studies, and measure Dice over the patches of each test study.

    Parameters
    ----------
    X, X_test : ndarray of shape (n_studies, n_patches, dim), float32
    y, y_test : ndarray of shape (n_studies, n_patches), uint8
    half : ndarray of shape (n_studies,), intp
        In which half of the test part each study is.
    names : sequence of str
        Of the labels.
    seed : int
        Of the 20,000 patches that are learnt from where there are more.

    Returns
    -------
    dict
        ``dice``, its halves and ``dice: NAME``, as in `firstpick.evaluate.segmentation.mask_measures`. A patch is too
        coarse for distances.
    """
    found = _predict(*_learnt(X, y, seed), X_test.reshape(-1, X.shape[-1])).reshape(y_test.shape)
    return mask_measures(list(found), list(y_test), [(1.0,)] * len(found), names, half, distances=False)


def patch_entropy(
    X: NDArray[np.float32], y: NDArray[np.uint8], X_pool: NDArray[np.float32], seed: int
) -> NDArray[np.float32]:
    """Train the same probe, and say how unsure it is of each patch of a pool.

    Parameters
    ----------
    X : ndarray of shape (n_studies, n_patches, dim), float32
    y : ndarray of shape (n_studies, n_patches), uint8
    X_pool : ndarray of shape (m, dim), float32
    seed : int
        As in `patch_probe`.

    Returns
    -------
    ndarray of shape (m,), float32
        Entropy of the labels' probabilities in bits. 1 for all where the studies show one label only: nothing tells
        patches apart then.

    Examples
    --------
    Between two that are known there is nothing to go by.

    >>> X = np.array([[[-1.0], [1.0]]] * 9, np.float32)
    >>> found = patch_entropy(X, np.array([[0, 1]] * 9, np.uint8), np.array([[0.0], [4.0]], np.float32), seed=0)
    >>> found.round(1).tolist()
    [1.0, 0.0]
    """
    rows, labels = _learnt(X, y, seed)
    if len(np.unique(labels)) == 1:
        return np.ones(len(X_pool), np.float32)
    with threadpool_limits(1):  # the same sums, whatever the cores
        return entropy(_probe(rows, labels).predict_proba(X_pool))


def _learnt(X: NDArray[np.float32], y: NDArray[np.uint8], seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Patches that a probe learns from, and what they are."""
    rows, labels = X.reshape(-1, X.shape[-1]), y.ravel()
    if len(rows) <= _MAX_PATCHES:
        return rows, labels
    some = np.sort(np.random.default_rng(seed).choice(len(rows), _MAX_PATCHES, replace=False))
    return rows[some], labels[some]


def _predict(X: NDArray[np.float32], y: NDArray[np.uint8], X_test: NDArray[np.float32]) -> NDArray[np.uint8]:
    if len(np.unique(y)) == 1:
        return np.full(len(X_test), y[0], np.uint8)
    with threadpool_limits(1):  # the same sums, whatever the cores
        return np.asarray(_probe(X, y).predict(X_test), np.uint8)


def _probe(X: NDArray[np.float32], y: NDArray[np.uint8]) -> LogisticRegression:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - slow to import

    return LogisticRegression(max_iter=200, tol=1e-3).fit(X, y)


def _encode(examples: Sequence[Example], encoder: str) -> list[tuple[NDArray[np.float16], NDArray[np.uint8]]]:
    """Encode the slices of some studies: their patches, and what each is."""
    network = _network(encoder)
    found = []
    for example in examples:
        pictures, label = _slices(example, network.side)
        tokens = network.tokens(np.repeat(pictures[..., None], 3, axis=-1))
        found.append((tokens.reshape(-1, tokens.shape[-1]), label.ravel()))
    return found


def _network(encoder: str) -> PatchEncoder:
    """Build an encoder; TypeError if it has no patches."""
    network = patch_encoder(EncoderSpec(encoder, views=ViewSpec(size=SIZE)), SIZE)
    if network is None:
        msg = f"encoder '{encoder}' has no patches: take one of the DINOv2 family for the stand-in."
        raise TypeError(msg)
    return network


def _slices(example: Example, side: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Cut square pictures in [0, 1], shape (n, SIZE, SIZE), and what each of their side x side patches is."""
    import torch  # noqa: PLC0415
    from torch.nn.functional import adaptive_avg_pool2d, interpolate, one_hot  # noqa: PLC0415

    image, label = example.image, example.label
    if image.ndim == 2:  # noqa: PLR2004 - a picture
        image, label = image[..., None], label[..., None]
    at = np.unique(np.linspace(0, image.shape[2] - 1, N_SLICES + 2)[1:-1].round().astype(int))
    at = np.resize(at, N_SLICES) if image.shape[2] > 1 else at
    longest = max(image.shape[:2])
    width = [((longest - n) // 2, longest - n - (longest - n) // 2) for n in image.shape[:2]]
    low, high = float(image.min()), float(image.max())
    planes = np.pad(image[..., at], [*width, (0, 0)], constant_values=low)
    masks = np.pad(label[..., at], [*width, (0, 0)])
    scaled = torch.from_numpy((planes - low) / ((high - low) or 1.0)).permute(2, 1, 0)[:, None].float()
    pictures = interpolate(scaled, size=(SIZE, SIZE), mode="bilinear", antialias=True)[:, 0].clamp(0, 1)
    shares = one_hot(torch.from_numpy(masks).permute(2, 1, 0).long()).permute(0, 3, 1, 2).float()
    shares = adaptive_avg_pool2d(interpolate(shares, size=(SIZE, SIZE), mode="nearest"), side)
    foreground = shares[:, 1:]
    if not foreground.shape[1]:
        return pictures.numpy(), np.zeros((len(pictures), side, side), np.uint8)
    present = foreground.sum(dim=1) >= _PRESENT
    return pictures.numpy(), (present * (foreground.argmax(dim=1) + 1)).numpy().astype(np.uint8)
