"""The nouns that every other module shares: studies, samples and the pool of embeddings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Made = TypeVar("Made")

_MAKING = threading.RLock()


@dataclass(frozen=True, order=True)
class Study:
    """One entry of the studies folder or the PACS: a volume file, a DICOM series or a 2-D image.

    Attributes
    ----------
    study_id : str
        Names the study for ever, and depends on it alone, never on what lies beside it.
    stamp : str
        Changes when the voxels change: of the sizes and modification times of its files; in a PACS, of their number
        and of the time of the series.
    source : str
        Absolute path of the file; of a DICOM series, of the lowest folder that holds all its files; in a
        PACS, the address of the series.
    title : str
        What people read instead of the id; never a key, and not unique. The id itself where none is given.
    files : tuple of str
        Of a DICOM series, the paths of its instances below ``source``, sorted; empty for a file, and in a PACS.
    modality, patient : str
        What DICOM headers say, the patient as a hash; empty for other formats.
    folder : str
        Lowest folder that holds its files, as a path below the studies folder; empty at the top. In a PACS, the
        StudyInstanceUID.
    frame : int
        Which frame of a file of several it is; -1 for the file, of which the first frame is read, with a note.
    name : str
        Of a series of a study of several, what it is called among them; else empty.
    series : tuple of Study
        Of a study of several series, all of them, the primary first, then by name: each as it would be a study by
        itself. ``source``, ``files``, ``modality``, ``folder`` and ``frame`` of the study are then the primary's.
    """

    study_id: str
    stamp: str
    source: str
    title: str = field(default="", compare=False)
    files: tuple[str, ...] = ()
    modality: str = ""
    patient: str = ""
    folder: str = field(default="", compare=False)
    frame: int = -1
    name: str = ""
    series: tuple[Study, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", self.title or self.study_id)

    @property
    def members(self) -> tuple[Study, ...]:
        """Its series, the primary first; itself, if it is not of several."""
        return self.series or (self,)

    @property
    def primary(self) -> Study:
        """The series on whose grid the label lies; itself, if it is not of several."""
        return self.members[0]

    @property
    def is_series(self) -> bool:
        """Whether it is a DICOM series, rather than one file."""
        return bool(self.files) or self.is_remote

    @property
    def is_remote(self) -> bool:
        """Whether its files are in a PACS and must be fetched."""
        return self.source.startswith(("http://", "https://"))


@dataclass(frozen=True)
class LeftOut:
    """What will never be proposed, and why in one sentence.

    Attributes
    ----------
    study_id : str
        Id of a study; or path of a file that is none, of a folder (with ``/`` at its end), or ``*.zip`` for all files
        with an ending.
    reason : str
        Of more than one file, with their number.
    title : str
        What people read instead of the id; the id, where none is given.
    """

    study_id: str
    reason: str
    title: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", self.title or self.study_id)


@dataclass(frozen=True, order=True)
class Slice:
    """Where a slice lies in its volume.

    Attributes
    ----------
    plane : {'axial', 'coronal', 'sagittal'}
    index : int
        Number of the slice along the volume's RAS+ axis, from 0: it grows to Superior, Anterior, Right. The
        only slice of a picture is axial, 0.
    position_mm : float
        Distance from slice 0 of the plane along that axis: ``index`` times the spacing.
    """

    plane: str
    index: int
    position_mm: float


@dataclass(frozen=True, order=True, slots=True)
class Sample:
    """What one embedding stands for: a whole study, or, if ``at`` says where, one slice of it."""

    study_id: str
    at: Slice | None = None


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
    titles : tuple of str
        What people read instead of each sample's study id; or ``()``.

    Raises
    ------
    ValueError
        If the shapes do not match, or the samples are not sorted and unique.
    """

    samples: tuple[Sample, ...]
    vectors: NDArray[np.float32]
    groups: tuple[str, ...] = ()
    strata: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.samples):  # noqa: PLR2004 - a matrix
            msg = (
                f"{len(self.samples)} samples need as many rows of vectors; got an array of shape {self.vectors.shape}."
            )
            raise ValueError(msg)
        for name, values in (("groups", self.groups), ("strata", self.strata), ("titles", self.titles)):
            if len(values) not in (0, len(self.samples)):
                msg = f"{len(self.samples)} samples need as many {name}, or none; got {len(values)}."
                raise ValueError(msg)
        if any(a >= b for a, b in zip(self.samples, self.samples[1:], strict=False)):
            msg = "The samples of a pool must be sorted and unique."
            raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def study_ids(self) -> tuple[str, ...]:
        """Study of each row of ``vectors``; with slices, many rows share one."""
        return tuple(sample.study_id for sample in self.samples)

    @cached_property
    def _rows_of(self) -> Mapping[str, list[int]]:
        found: dict[str, list[int]] = {}
        for row, study_id in enumerate(self.study_ids):
            found.setdefault(study_id, []).append(row)
        return found

    @cached_property
    def _kept(self) -> dict[Callable[..., Any], Any]:
        return {}

    def kept(self, make: Callable[[NDArray[np.float32]], Made]) -> Made:
        """Return what a function makes of the vectors alone: made when first asked for, by one thread."""
        if make not in self._kept:
            with _MAKING:
                if make not in self._kept:
                    self._kept[make] = make(self.vectors)
        return self._kept[make]  # type: ignore[no-any-return]

    @property
    def n_studies(self) -> int:
        """How many studies have an embedding."""
        return len(self._rows_of)

    def by_study(self) -> Pool:
        """Return one row for each study, the mean of its slices; of whole studies, this pool itself."""
        return self if self.n_studies == len(self) else self._by_study

    @cached_property
    def _by_study(self) -> Pool:
        rows = list(self._rows_of.values())
        return Pool(
            tuple(Sample(study_id) for study_id in self._rows_of),
            np.stack([self.vectors[own].mean(axis=0) for own in rows]),
            tuple(self.groups[own[0]] for own in rows) if self.groups else (),
            tuple(self.strata[own[0]] for own in rows) if self.strata else (),
            tuple(self.titles[own[0]] for own in rows) if self.titles else (),
        )

    def title_of(self, study_id: str) -> str:
        """What people read instead of a study's id; the id where no title is known."""
        own = self._rows_of.get(study_id, ())
        return self.titles[own[0]] if self.titles and own else study_id

    def group_of(self, study_id: str) -> str:
        """Patient of a study; empty where none is known."""
        own = self._rows_of.get(study_id, ())
        return self.groups[own[0]] if self.groups and own else ""

    def studies_of(self, group: str) -> frozenset[str]:
        """Return the studies of one patient."""
        return frozenset(self._studies_of.get(group, ()))

    @cached_property
    def _studies_of(self) -> Mapping[str, set[str]]:
        found: dict[str, set[str]] = {}
        for study_id, group in zip(self.study_ids, self.groups, strict=False):
            found.setdefault(group, set()).add(study_id)
        return found

    def rows(self, study_ids: Collection[str]) -> list[int]:
        """Rows of some studies, rising; studies that are not in the pool have none."""
        return sorted(row for study_id in {*study_ids} for row in self._rows_of.get(study_id, ()))

    def rows_at(self, study_id: str, slices: Collection[Slice] = ()) -> list[int]:
        """Rows of one study, rising: those nearest to some slices in the same plane; all if no slice is given."""
        own = self._rows_of.get(study_id, [])
        if not slices:
            return list(own)
        found = set()
        for wanted in slices:
            away = [
                (abs(at.position_mm - wanted.position_mm), row)
                for row in own
                if (at := self.samples[row].at) is not None and at.plane == wanted.plane
            ]
            if away:
                found.add(min(away)[1])
        return sorted(found)

    def trimmed(self, annotated: Mapping[str, Collection[Slice]]) -> Pool:
        """Drop the slices of some studies that nobody annotated; a study with no slices given stays as it is.

        Asked again with the same slices, the same pool is returned, with all that is `kept` with it.
        """
        given = {study_id: frozenset(slices) for study_id, slices in annotated.items() if slices}
        if not given or not any(sample.at for sample in self.samples):
            return self
        before = self._trimmed.get("last")
        if before is None or before[0] != given:
            before = self._trimmed["last"] = (given, self._without_other_slices(given))
        return before[1]

    @cached_property
    def _trimmed(self) -> dict[str, tuple[Mapping[str, Collection[Slice]], Pool]]:
        return {}

    def _without_other_slices(self, annotated: Mapping[str, Collection[Slice]]) -> Pool:
        kept = {study_id: self.rows_at(study_id, slices) for study_id, slices in annotated.items()}
        others = [row for row, study_id in enumerate(self.study_ids) if study_id not in kept]
        rows = sorted({*others, *(row for own in kept.values() for row in own)})
        return replace(
            self,
            samples=tuple(self.samples[row] for row in rows),
            vectors=self.vectors[rows],
            groups=tuple(self.groups[row] for row in rows) if self.groups else (),
            strata=tuple(self.strata[row] for row in rows) if self.strata else (),
            titles=tuple(self.titles[row] for row in rows) if self.titles else (),
        )
