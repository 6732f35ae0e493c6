"""The nouns that every other module shares: studies, samples and the pool of embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, order=True)
class Study:
    """One entry of the studies folder: a volume file, a DICOM series or a 2-D image.

    Attributes
    ----------
    study_id : str
        Path below the studies folder without its ending, ``/`` between folders.
    stamp : str
        Changes when the voxels change: size and modification time of a file; series UID and
        number of instances of a DICOM series.
    source : str
        Absolute path of the file, or of the folder that holds the DICOM series.
    series_uid : str
        ``SeriesInstanceUID`` of the series in that folder; empty for a file.
    is_series : bool
        True when ``source`` is a folder with a DICOM series.
    modality, patient : str
        What DICOM headers say, the patient as a hash; empty for other formats.
    """

    study_id: str
    stamp: str
    source: str
    series_uid: str = ""
    is_series: bool = False
    modality: str = ""
    patient: str = ""


@dataclass(frozen=True)
class LeftOut:
    """A study that will never be proposed, and why in one sentence."""

    study_id: str
    reason: str


@dataclass(frozen=True, order=True)
class Sample:
    """What one embedding stands for: a whole study."""

    study_id: str


@dataclass(frozen=True)
class Pool:
    """All samples that have an embedding.

    Attributes
    ----------
    samples : tuple of Sample
        Sorted, unique.
    vectors : ndarray of shape (n_samples, dim), float32
        ``vectors[i]`` belongs to ``samples[i]``; as the encoder gave them, not scaled.
    groups : tuple of str
        The patient of each sample, empty where that is not known; or ``()``.
    strata : tuple of str
        The stratum of each sample, such as its modality; or ``()``.

    Raises
    ------
    ValueError
        If the shapes do not match, or the samples are not sorted and unique.
    """

    samples: tuple[Sample, ...]
    vectors: NDArray[np.float32]
    groups: tuple[str, ...] = ()
    strata: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.samples):  # noqa: PLR2004 - a matrix
            msg = (
                f"{len(self.samples)} samples need as many rows of vectors; got an array of shape {self.vectors.shape}."
            )
            raise ValueError(msg)
        for name, values in (("groups", self.groups), ("strata", self.strata)):
            if len(values) not in (0, len(self.samples)):
                msg = f"{len(self.samples)} samples need as many {name}, or none; got {len(values)}."
                raise ValueError(msg)
        if any(a >= b for a, b in zip(self.samples, self.samples[1:], strict=False)):
            msg = "The samples of a pool must be sorted and unique."
            raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def study_ids(self) -> tuple[str, ...]:
        """Study of each row of ``vectors``."""
        return tuple(sample.study_id for sample in self.samples)
