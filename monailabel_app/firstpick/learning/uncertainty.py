"""What the labels so far leave unsure: how evenly a probe of theirs spreads its bets on each patch of the pool."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from firstpick.selection import Patches
from firstpick.selection.patches import Floats
from firstpick.studies import Pool, Sample

MOST_STUDIES = 2_000
"""Studies that are looked at, at most."""
MOST_PATCHES = 128_000
"""Patches of all of them together, at most: as many as so many studies have that are picked whole."""
MOST_TAUGHT = 20_000
"""Patches that a probe is fitted to, at most."""


@dataclass(frozen=True)
class Uncertainty:
    """What some labels leave unsure in the studies that were looked at.

    Attributes
    ----------
    samples : tuple of Sample
        Those that were looked at.
    rows : ndarray of shape (m, n_components), float16
        Patches, of length 1.
    owner : ndarray of shape (m,), intp
        The place in ``samples`` that each is a patch of.
    bits : ndarray of shape (m,), float32
        Entropy of what a probe says of each.
    marks : tuple of str
        Of the labels that the probe was fitted to.
    """

    samples: tuple[Sample, ...]
    rows: NDArray[np.float16]
    owner: NDArray[np.intp]
    bits: NDArray[np.float32]
    marks: tuple[str, ...]

    def patches(self, pool: Pool) -> Patches:
        """Return the patches of the samples that are in a pool, with their entropies as weights."""
        row_of = {sample: row for row, sample in enumerate(pool.samples)}
        rows = np.array([row_of.get(sample, -1) for sample in self.samples], np.intp)
        owner = rows[self.owner] if len(rows) else np.empty(0, np.intp)
        is_here = owner >= 0
        return Patches(self.rows[is_here], owner[is_here], self.bits[is_here])

    @property
    def taught(self) -> str:
        """16 hexadecimal digits that change with the labels; their order does not matter."""
        return hashlib.sha256("\0".join(sorted(self.marks)).encode()).hexdigest()[:16]

    @cached_property
    def of_study(self) -> Mapping[str, float]:
        """Mean entropy of each study's patches in bits."""
        studies = {study_id: place for place, study_id in enumerate(dict.fromkeys(s.study_id for s in self.samples))}
        study = np.array([studies[sample.study_id] for sample in self.samples], np.intp)[self.owner]
        count = np.bincount(study, minlength=len(studies))
        total = np.bincount(study, self.bits, minlength=len(studies))
        means = total / np.maximum(count, 1)
        return {study_id: float(mean) for study_id, mean, n in zip(studies, means, count, strict=True) if n}

    @cached_property
    def quarters(self) -> Mapping[str, int]:
        """Which quarter each study is of, 1 for those that the labels leave most unsure, 4 for the surest."""
        return {study_id: min(4, 1 + int(4 * part)) for study_id, part in self.ranked(self.of_study).items()}

    def ranked(self, study_ids: Collection[str]) -> dict[str, float]:
        """Return for each of some studies which part of them the labels leave more unsure; 0 for the least sure.

        Those that were not looked at are left out.
        """
        means = {study_id: self.of_study[study_id] for study_id in study_ids if study_id in self.of_study}
        rising = np.sort(list(means.values()))
        n_above = len(rising) - np.searchsorted(rising, list(means.values()), side="right")
        return {study_id: float(n) / len(rising) for study_id, n in zip(means, n_above, strict=True)}


def looked_at(n_patches: Mapping[str, int], first: Sequence[str]) -> Iterator[str]:
    """Yield the studies of a pool that are looked at.

    Parameters
    ----------
    n_patches : mapping of str to int
        Of each study in the pool, how many patches are taken.
    first : sequence of str
        Studies that come before all others, such as labelled ones; those not in the pool are passed over.

    Notes
    -----
    The others are drawn by a hash of their ids, so that neither their number nor their order matters to whether a
    study is drawn before another one.

    Examples
    --------
    >>> sorted(looked_at({"a": 64, "b": 64, "c": 64}, ["c"]))
    ['a', 'b', 'c']
    """
    others = sorted(n_patches.keys() - {*first}, key=_drawn)
    n_left = MOST_PATCHES
    for place, study_id in enumerate(dict.fromkeys([*(one for one in first if one in n_patches), *others])):
        n_left -= n_patches[study_id]
        if place >= MOST_STUDIES or n_left < 0:
            return
        yield study_id


def seed_of(study_id: str) -> int:
    """Return a number that depends on a study's id alone."""
    return int.from_bytes(_drawn(study_id)[:8], "big")


def _drawn(study_id: str) -> bytes:
    return hashlib.sha256(study_id.encode("utf-8", "surrogateescape")).digest()


# -- the probe


def entropy(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the entropy of each row in bits.

    >>> entropy(np.array([[0.5, 0.5], [1.0, 0.0]], np.float32)).tolist()
    [1.0, 0.0]
    """
    logs = np.log2(np.maximum(probabilities, 1e-12))
    return np.asarray(np.maximum(-(probabilities * logs).sum(axis=-1), 0), np.float32)


@dataclass(frozen=True)
class LabelledPatches:
    """Patches of one labelled study, and what each is.

    Attributes
    ----------
    rows : ndarray of shape (n, dim), floating
    classes : ndarray of shape (n,), uint8
        0 for background.
    weights : ndarray of shape (n,), float64
        Patches of the study that each stands for.
    """

    rows: Floats
    classes: NDArray[np.uint8]
    weights: NDArray[np.float64]

    def thinned(self, most: int) -> LabelledPatches:
        """Return every second, third, ... patch, which stands for as many; no more of them than `most`."""
        step = max(1, -(-len(self.rows) // most))
        return (
            self if step <= 1 else LabelledPatches(self.rows[::step], self.classes[::step], step * self.weights[::step])
        )


def drawn(rows: Floats, classes: NDArray[np.uint8], most: int, rng: np.random.Generator) -> LabelledPatches:
    """Take patches of a study: half of them of a label where there are as many; the weights make up for that."""
    of_label, of_background = np.flatnonzero(classes), np.flatnonzero(classes == 0)
    n_label = min(len(of_label), max(most // 2, most - len(of_background)))
    n_background = min(len(of_background), most - n_label)
    taken, weights = [], []
    for own, n in ((of_label, n_label), (of_background, n_background)):
        taken.append(np.sort(rng.choice(own, n, replace=False)))
        weights.append(np.full(n, len(own) / max(n, 1)))
    places = np.concatenate(taken)
    return LabelledPatches(rows[places], classes[places], np.concatenate(weights))


def doubt(taught: Sequence[LabelledPatches], X: Floats) -> NDArray[np.float32]:
    """Fit a probe to labelled patches, and say how unsure it is of others.

    Parameters
    ----------
    taught : sequence of LabelledPatches
        The order does not matter.
    X : ndarray of shape (m, dim), floating
        Of the same features, of about equal spread.

    Returns
    -------
    ndarray of shape (m,), float32
        Entropy in bits.

    Raises
    ------
    ValueError
        If all labelled patches are of one class.

    Notes
    -----
    Multinomial logistic regression, as in `firstpick.evaluate.patches`.

    Examples
    --------
    Between two classes it is unsure, far on either side it is not.

    >>> taught = [LabelledPatches(np.array([[-1.0], [-2], [1], [2]]), np.array([0, 0, 1, 1], np.uint8), np.ones(4))]
    >>> doubt(taught, np.array([[0.0], [9], [-9]])).round(2).tolist()
    [1.0, 0.0, 0.0]
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - slow to import
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    rows, classes, weights = (
        np.concatenate([getattr(one, name) for one in taught]) for name in ("rows", "classes", "weights")
    )
    if len(np.unique(classes)) == 1:
        msg = "All labelled patches are of one class: nothing can be told apart yet."
        raise ValueError(msg)
    order = np.lexsort([*rows.T, weights, classes])
    with threadpool_limits(1):  # the same sums, whatever the cores
        model = LogisticRegression(max_iter=500, tol=1e-3)
        model.fit(rows[order], classes[order], sample_weight=weights[order] / weights.mean())
        return entropy(model.predict_proba(X).astype(np.float32))
