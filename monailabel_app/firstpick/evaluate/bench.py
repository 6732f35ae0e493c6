"""Everything that a comparison needs of one labelled data set: labels, groups and the features of each encoder."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firstpick.embedding.cache import Cache
from firstpick.embedding.run import embed
from firstpick.encoders import EncoderError, EncoderSpec
from firstpick.evaluate.labels import find_masks, read_classes
from firstpick.evaluate.oracle import Truth, truth_of_masks
from firstpick.evaluate.segmentation import Example, read_example, read_mask, read_slices
from firstpick.sources.attributes import read_attribute
from firstpick.studies import LeftOut, Sample, Slice, Study
from firstpick.voxels.views import ViewSpec, make_views
from firstpick.voxels.volumes import VolumeError, read_volume
from firstpick.workers import Executor

logger = logging.getLogger(__name__)

VIEW_SIZE = 64
_MAX_LABELS = 50


@dataclass(frozen=True)
class Step:
    """How far one stage of the work is."""

    what: str
    n_done: int
    n_total: int


@dataclass(frozen=True)
class Bench:
    """One labelled data set; a row for each study, or for each slice of one.

    Attributes
    ----------
    studies : tuple of Study
        The study of each row. Sorted; those that have a label and an embedding of each encoder.
    groups : tuple of str
        The patient of each study, empty where that is not known; the study itself, where rows are slices.
    classes : tuple of str
        The class of each study; empty for masks.
    masks : tuple of Study
        The mask of each study; empty for classes.
    features : mapping of str to ndarray of shape (n_studies, dim), float32
    fingerprints : mapping of str to str
        Of the encoders, and of how the embeddings of series become one.
    notes : tuple of str
        Which encoders, studies and labels were left out, and why.
    truth : Truth or None
        For the arms that look at the labels; None before masks are read.
    slices : tuple of Slice
        Which slice of its study each row is; empty where rows are studies.
    """

    studies: tuple[Study, ...]
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    masks: tuple[Study, ...]
    features: Mapping[str, NDArray[np.float32]]
    fingerprints: Mapping[str, str]
    notes: tuple[str, ...] = ()
    truth: Truth | None = None
    slices: tuple[Slice, ...] = ()

    @property
    def unit(self) -> str:
        """What rows are called."""
        return "slices" if self.slices else "studies"

    @property
    def samples(self) -> tuple[Sample, ...]:
        """What each row stands for."""
        if not self.slices:
            return tuple(Sample(study.study_id) for study in self.studies)
        return tuple(Sample(study.study_id, at) for study, at in zip(self.studies, self.slices, strict=True))

    @property
    def fingerprint(self) -> str:
        """Hash of the studies, their labels, their groups and which slices count."""
        labels = self.classes or tuple(mask.stamp for mask in self.masks)
        rows = [(s.study_id, s.stamp, *rest) for s, *rest in zip(self.studies, labels, self.groups, strict=True)]
        own = [rows, [astuple(at) for at in self.slices]] if self.slices else rows
        return hashlib.sha256(json.dumps(own).encode()).hexdigest()

    def only(self, keep: Collection[str], note: str) -> Bench:
        """The same with some of the studies."""
        rows = [row for row, study in enumerate(self.studies) if study.study_id in keep]
        return replace(
            self,
            studies=tuple(self.studies[row] for row in rows),
            groups=tuple(self.groups[row] for row in rows),
            classes=tuple(self.classes[row] for row in rows) if self.classes else (),
            masks=tuple(self.masks[row] for row in rows) if self.masks else (),
            features={name: X[rows] for name, X in self.features.items()},
            notes=(*self.notes, note),
            slices=tuple(self.slices[row] for row in rows) if self.slices else (),
        )


def make_bench(
    studies: Sequence[Study],
    labels: str,
    specs: Sequence[EncoderSpec],
    cache: Cache,
    executor: Executor,
    *,
    groups_by: str = "",
    series_pool: str = "join",
    left_out: Iterable[LeftOut] = (),
) -> Generator[Step, None, Bench]:
    """Read the labels and embed what is labelled; yield the progress and return the bench.

    Parameters
    ----------
    studies : sequence of Study
    labels : str
        A folder of masks, or a table as for `firstpick.evaluate.labels.read_classes`.
    specs : sequence of EncoderSpec
        One that is not installed is left out, with a note.
    cache : Cache
    executor : Executor
    groups_by : str
        A rule of `firstpick.sources.attributes.read_attribute`.
    series_pool : str
        How the embeddings of a study's series become one; judges see the primary.
    left_out : iterable of LeftOut
        Studies that may have a label though they are not compared.

    Raises
    ------
    ValueError
        If the labels do not fit the studies, or no study can be read.
    EncoderError
        If no encoder is installed.
    OSError, StoreError
    """
    ignored = [item.study_id for item in left_out]
    found: Mapping[str, str | Study] = (
        find_masks(Path(labels), studies, left_out=ignored)
        if Path(labels).is_dir()
        else read_classes(labels, studies, left_out=ignored)
    )
    labelled = [study for study in studies if study.study_id in found]
    notes = []
    if len(labelled) < len(studies):
        notes.append(f"{len(studies) - len(labelled)} studies have no label and were left out.")
    usable: dict[str, EncoderSpec] = {}
    for spec in specs:
        try:
            for at in embed(labelled, spec, cache, executor=executor):
                yield Step(f"Embedding, {spec.name}", at.n_done + at.n_failed, at.n_total)
            usable[spec.name] = spec
        except EncoderError as error:
            notes.append(f"Encoder '{spec.name}' was left out: {error}")
    if not usable:
        raise EncoderError("\n".join(notes))
    pools = {name: cache.pool(spec.fingerprint(), labelled, series_pool=series_pool) for name, spec in usable.items()}
    common = set.intersection(*(set(pool.study_ids) for pool in pools.values()))
    for spec in usable.values():
        notes += [
            f"Study {item.study_id} was left out: {item.reason}"
            for item in cache.failures(spec.fingerprint(), labelled)
        ]
    samples = [sample for sample in next(iter(pools.values())).samples if sample.study_id in common]
    by_id = {study.study_id: study for study in labelled}
    kept = [by_id[sample.study_id] for sample in samples]
    if not kept:
        msg = f"None of the {len(labelled)} labelled studies could be read. The first: {notes[-1]}"
        raise ValueError(msg)
    groups = read_attribute(kept, groups_by)
    of_series = f"-{series_pool}" if any(study.series for study in kept) else ""
    classes = tuple(label for s in kept if not isinstance(label := found[s.study_id], Study))
    return Bench(
        studies=tuple(kept),
        groups=tuple(groups[s.study_id] or (s.study_id if s.at is not None else "") for s in samples),
        classes=classes,
        masks=tuple(mask for s in kept if isinstance(mask := found[s.study_id], Study)),
        features={
            name: pool.vectors[[row for row, i in enumerate(pool.study_ids) if i in common]]
            for name, pool in pools.items()
        },
        fingerprints={name: f"{spec.fingerprint()}{of_series}" for name, spec in usable.items()},
        notes=tuple(dict.fromkeys(notes)),
        truth=Truth(classes) if classes else None,
        slices=tuple(sample.at for sample in samples if sample.at is not None),
    )


def read_examples(
    bench: Bench, names: Mapping[int, str]
) -> Generator[Step, None, tuple[Bench, list[Example], tuple[str, ...]]]:
    """Read studies and masks; return the bench of those that can be read, the examples, and the labels' names.

    Parameters
    ----------
    bench : Bench
        With masks.
    names : mapping of int to str
        What values in the masks are called, for those that have a name.

    Raises
    ------
    ValueError
        If the masks hold no label, or too many to be labels, or nothing can be read.
    """
    values: set[int] = set()
    bad: dict[str, str] = {}
    masks = dict(zip(bench.studies, bench.masks, strict=True))
    for done, (study, mask) in enumerate(masks.items(), start=1):
        try:
            values |= set(np.unique(read_mask(mask)).tolist())
        except VolumeError as error:
            bad[study.study_id] = str(error)
        yield Step("Reading masks", done, len(masks))
    labels = sorted(values - {0})
    if not 1 <= len(labels) <= _MAX_LABELS:
        msg = f"the masks hold {len(labels)} labels besides the background; from 1 to {_MAX_LABELS} are possible."
        raise ValueError(msg)
    slices: dict[str, list[Slice]] = {}
    for sample in bench.samples:
        slices.setdefault(sample.study_id, []).extend([sample.at] if sample.at is not None else [])
    examples: list[Example] = []
    for done, (study, mask) in enumerate(masks.items(), start=1):
        cuts = slices[study.study_id]
        if study.study_id not in bad:
            try:
                examples += read_slices(study, mask, labels, cuts) if cuts else [read_example(study, mask, labels)]
            except VolumeError as error:
                bad[study.study_id] = str(error)
        yield Step("Reading studies", done, len(masks))
    for study_id, reason in bad.items():
        bench = bench.only({s.study_id for s in bench.studies} - {study_id}, f"Study {study_id} was left out: {reason}")
    n_axes = {example.image.ndim for example in examples}
    if len(n_axes) != 1:
        msg = "pictures and volumes cannot be compared together." if n_axes else next(iter(bad.values()))
        raise ValueError(msg)
    bench = replace(bench, truth=truth_of_masks(examples))
    return bench, examples, tuple(names.get(value, str(value)) for value in labels)


def read_views(bench: Bench) -> Generator[Step, None, NDArray[np.uint8]]:
    """Cut small grey pictures of each study, shape (n_studies, n_views, 64, 64), for a network to be trained on.

    Raises
    ------
    ValueError
        If rows are slices.
    """
    if bench.slices:
        msg = "networks learn classes from whole studies only: leave out --train, or take unit volume."
        raise ValueError(msg)
    views = []
    for done, study in enumerate(bench.studies, start=1):
        volume = read_volume(study)
        views.append((make_views(volume, ViewSpec(size=VIEW_SIZE)).mean(axis=-1) * 255).round().astype(np.uint8))
        yield Step("Reading pictures", done, len(bench.studies))
    n_views = max(len(some) for some in views)
    return np.stack([np.resize(some, (n_views, VIEW_SIZE, VIEW_SIZE)) for some in views])
