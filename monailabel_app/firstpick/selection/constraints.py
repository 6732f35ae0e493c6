"""What patients, studies and slices allow: which rows may still be picked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Metadata:
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


class Constraints:
    """Count what is labelled or picked, and tell which rows may still be picked.

    Parameters
    ----------
    metadata : Metadata
        Labelled rows count from the start.
    max_per_study : int
        Slices of one study; 0 for any number.
    min_distance_mm : float
        Least distance of two slices of one study in the same plane.
    """

    def __init__(self, metadata: Metadata, *, max_per_study: int, min_distance_mm: float) -> None:
        self._metadata = metadata
        self._max_per_study = max_per_study or len(metadata.studies)
        self._min_distance_mm = min_distance_mm
        self._n_studies = np.zeros(int(metadata.groups.max()) + 1, np.intp)  # of each patient
        self._n_slices = np.zeros(int(metadata.studies.max()) + 1, np.intp)  # of each study
        self._is_near = np.zeros(len(metadata.studies), np.bool_)
        for row in np.flatnonzero(metadata.is_labelled):
            self.count(int(row))

    def count(self, row: int) -> None:
        """Count a row as picked."""
        study, group = self._metadata.studies[row], self._metadata.groups[row]
        self._n_studies[group] += self._n_slices[study] == 0
        self._n_slices[study] += 1
        if self._min_distance_mm:
            beside = (self._metadata.studies == study) & (self._metadata.planes == self._metadata.planes[row])
            away = np.abs(self._metadata.positions - self._metadata.positions[row])
            self._is_near |= beside & (away < self._min_distance_mm)

    def allow_slice(self, rows: Rows) -> NDArray[np.bool_]:
        """Tell which of some rows keep the distance in a study that has not enough slices yet."""
        is_allowed: NDArray[np.bool_] = ~self._is_near[rows] & (self.n_slices(rows) < self._max_per_study)
        return is_allowed

    def allow_study(self, rows: Rows, limit: int) -> NDArray[np.bool_]:
        """Tell which of some rows belong to a patient with fewer than ``limit`` studies, or to a study that counts."""
        is_counted = self.n_slices(rows) > 0
        is_allowed: NDArray[np.bool_] = is_counted | (self._n_studies[self._metadata.groups[rows]] < limit)
        return is_allowed

    def n_slices(self, rows: Rows) -> Rows:
        """Return how many slices of the study of each of some rows are labelled or picked."""
        n_slices: Rows = self._n_slices[self._metadata.studies[rows]]
        return n_slices

    def fewest_studies(self, rows: Rows) -> int:
        """Return how many studies that patient of some rows has who has fewest."""
        return int(self._n_studies[self._metadata.groups[rows]].min())
