"""Rounds on labelled data: the masks answer as a reader would, and the next batch is chosen by what they taught."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstpick.evaluate.patches import patch_entropy
from firstpick.selection import Patches, select

N_OF_STUDY, N_OF_SLICE = 64, 16
"""Patches of a row that are to be covered, at most."""


@dataclass(frozen=True)
class Seen:
    """What the encoder saw of each place of a pool's rows, and what the masks say is there.

    Attributes
    ----------
    features : ndarray of shape (n_rows, n_patches, dim), float32
        What a probe learns from, see `firstpick.evaluate.patches.Patches.reduced`.
    label : ndarray of shape (n_rows, n_patches), uint8
        Read of labelled rows alone.
    rows : ndarray of shape (m, n_kept), float32
        Some of the patches, those that are to be covered, see `firstpick.selection.Patches.reduced`.
    drawn : ndarray of shape (n_rows, m / n_rows), intp
        Which patches of each row these are, rising.
    """

    features: NDArray[np.float32]
    label: NDArray[np.uint8]
    rows: NDArray[np.float32]
    drawn: NDArray[np.intp]

    def weighed(self, labelled: Sequence[int], seed: int) -> Patches:
        """Weigh each patch by how unsure a probe is of it that learnt from some rows; the seed is the probe's."""
        own = np.sort(labelled)
        each = np.take_along_axis(self.features, self.drawn[..., None], axis=1)
        weights = patch_entropy(self.features[own], self.label[own], each.reshape(-1, self.features.shape[-1]), seed)
        return Patches(self.rows, owner_of(self.drawn), weights)


def owner_of(drawn: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the row of each drawn patch, one after the other."""
    return np.repeat(np.arange(len(drawn)), drawn.shape[1])


def draw_patches(n_rows: int, n_patches: int, n_drawn: int, seed: int) -> NDArray[np.intp]:
    """Draw some patches of each row, or take all where there are no more.

    Returns
    -------
    ndarray of shape (n_rows, min(n_drawn, n_patches)), intp
        Unique, rising in each row.
    """
    rng = np.random.default_rng(seed)
    places = np.broadcast_to(np.arange(n_patches), (n_rows, n_patches))
    return np.sort(rng.permuted(places, axis=1)[:, :n_drawn], axis=1)


def play(
    X: NDArray[np.float32],
    strategy: str,
    first: Sequence[int],
    sizes: Sequence[int],
    how: Mapping[str, Any],
    seed: int,
    seen: Seen | None = None,
) -> list[list[int]]:
    """Go on from a first batch, round by round.

    Parameters
    ----------
    X : ndarray of shape (n_rows, dim), float32
    strategy : str
        What chooses from the second round on.
    first : sequence of int
        The first batch, rows of ``X``.
    sizes : sequence of int
        How many rows are labelled after each round, rising; the first is that of the first batch.
    how : mapping
        Keywords of `firstpick.selection.select`. Where rows are slices, the others of a study that has some labelled
        are no longer candidates, as in the server.
    seed : int
        Of the strategy, and of the probe.
    seen : Seen, optional
        For a strategy that goes by what the labels so far leave unsure.

    Returns
    -------
    list of list of int
        What is labelled after each round, in the order in which it was chosen.
    """
    rounds = [list(first)]
    for size in sizes[1:]:
        labelled = rounds[-1]
        chosen = select(
            strategy,
            X,
            size - len(labelled),
            labelled=labelled,
            excluded=_beside(how.get("slices"), labelled),
            seed=seed,
            patches=seen.weighed(labelled, seed) if seen else None,
            **how,
        )
        rounds.append([*labelled, *chosen.indices.tolist()])
    return rounds


def _beside(slices: Sequence[tuple[str, str, float]] | None, labelled: Collection[int]) -> list[int]:
    """Return the slices that nobody labelled of studies that somebody did."""
    studies = {slices[row][0] for row in labelled} if slices else set()
    return [row for row, (study, _, _) in enumerate(slices or ()) if study in studies and row not in labelled]
