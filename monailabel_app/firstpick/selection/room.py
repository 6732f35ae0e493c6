"""Which rows may still be picked, when patients have enough studies and slices must not lie close together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Labels:
    """What is known of the rows besides their features.

    Attributes
    ----------
    is_labelled : ndarray of shape (n_rows,), bool
    groups, strata : ndarray of shape (n_rows,), intp
        Rows of one patient, or of one stratum, have the same number.
    studies, planes : ndarray of shape (n_rows,), intp
        The study that each row belongs to, and the plane of its slice; a study of its own for each row, where rows
        are whole studies.
    positions : ndarray of shape (n_rows,), float64
        Where the slice lies in its plane, in mm.
    """

    is_labelled: NDArray[np.bool_]
    groups: Rows
    strata: Rows
    studies: Rows
    planes: Rows
    positions: NDArray[np.float64]


class Room:
    """Count what is labelled or picked, and tell for which rows there is room.

    Parameters
    ----------
    labels : Labels
        Labelled rows count from the start.
    max_per_study : int
        Slices of one study; 0 for any number.
    min_distance_mm : float
        Least distance of two slices of one study in the same plane.
    """

    def __init__(self, labels: Labels, *, max_per_study: int, min_distance_mm: float) -> None:
        self._labels = labels
        self._max_per_study = max_per_study or len(labels.studies)
        self._min_distance_mm = min_distance_mm
        self._n_studies = np.zeros(int(labels.groups.max()) + 1, np.intp)  # of each patient
        self._n_slices = np.zeros(int(labels.studies.max()) + 1, np.intp)  # of each study
        self._is_near = np.zeros(len(labels.studies), np.bool_)
        for row in np.flatnonzero(labels.is_labelled):
            self.take(int(row))

    def take(self, row: int) -> None:
        """Count a row."""
        study, group = self._labels.studies[row], self._labels.groups[row]
        self._n_studies[group] += self._n_slices[study] == 0
        self._n_slices[study] += 1
        if self._min_distance_mm:
            beside = (self._labels.studies == study) & (self._labels.planes == self._labels.planes[row])
            away = np.abs(self._labels.positions - self._labels.positions[row])
            self._is_near |= beside & (away < self._min_distance_mm)

    def for_slices(self, rows: Rows) -> NDArray[np.bool_]:
        """Tell which of some rows keep the distance in a study that has not enough slices yet."""
        is_open: NDArray[np.bool_] = ~self._is_near[rows] & (
            self._n_slices[self._labels.studies[rows]] < self._max_per_study
        )
        return is_open

    def for_studies(self, rows: Rows, limit: int) -> NDArray[np.bool_]:
        """Tell which of some rows belong to a patient with fewer than ``limit`` studies, or to a study that counts."""
        is_counted = self._n_slices[self._labels.studies[rows]] > 0
        is_open: NDArray[np.bool_] = is_counted | (self._n_studies[self._labels.groups[rows]] < limit)
        return is_open

    def least(self, rows: Rows) -> int:
        """Return how many studies that patient of some rows has who has fewest."""
        return int(self._n_studies[self._labels.groups[rows]].min())
