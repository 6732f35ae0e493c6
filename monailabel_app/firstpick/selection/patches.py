"""What an encoder sees of each place of a sample, for strategies that look closer than at one row a sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.scaling import principal

N_COMPONENTS = 64
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Patches:
    """Patches of some rows of a pool; a row may have any number of them, none too.

    Attributes
    ----------
    rows : ndarray of shape (n_patches, dim), floating
        One for each patch, compared by the cosine.
    owner : ndarray of shape (n_patches,), intp
        The row of the pool that each is a patch of.
    weights : ndarray of shape (n_patches,), floating, optional
        How much each is worth covering, 0 or more: the entropy of what a model of the labels so far says of it. All
        the same where none are given, or all are 0.

    Raises
    ------
    ValueError
        If the shapes do not match, or a number is not finite or a weight negative.
    """

    rows: Floats
    owner: NDArray[np.intp]
    weights: Floats | None = None

    def __post_init__(self) -> None:
        weights = np.zeros(len(self.owner)) if self.weights is None else self.weights
        if self.rows.ndim != 2 or not self.owner.shape == weights.shape == self.rows.shape[:1]:  # noqa: PLR2004
            msg = (
                "patches need as many owners and weights as rows; got arrays of shapes "
                f"{self.rows.shape}, {self.owner.shape} and {weights.shape}."
            )
            raise ValueError(msg)
        if not (np.isfinite(self.rows).all() and np.isfinite(weights).all() and (weights >= 0).all()):
            msg = "patches must be finite numbers, and their weights 0 or more."
            raise ValueError(msg)

    @classmethod
    def reduced(cls, tokens: Floats, owner: NDArray[np.intp], weights: Floats | None = None) -> Patches:
        """Make patches of an encoder's tokens: 64 principal components, centred, of length 1."""
        rows = principal(tokens.astype(np.float32), n_components=N_COMPONENTS, whiten=False)
        return cls(rows, owner, weights)

    def of(self, rows: NDArray[np.intp]) -> Patches:
        """Return the patches of some rows alone, sorted by owner, which is a place in ``rows`` now.

        Examples
        --------
        >>> patches = Patches(np.eye(3), np.array([0, 2, 7]))
        >>> patches.of(np.array([7, 0])).owner.tolist()
        [0, 1]
        """
        place = np.full(1 + max(self.owner.max(initial=0), rows.max(initial=0)), -1, np.intp)
        place[rows] = np.arange(len(rows))
        owner = place[self.owner]
        order = np.argsort(owner, kind="stable")
        kept = order[owner[order] >= 0]
        return Patches(self.rows[kept], owner[kept], None if self.weights is None else self.weights[kept])
