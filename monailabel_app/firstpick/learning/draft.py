"""What a worker does: learn from the labels so far, and draft the mask of a study."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firstpick.encoders import EncoderSpec
from firstpick.encoders.patches import patch_encoder
from firstpick.learning.agreement import Doubt, dice_by_class, doubts, mean_dice
from firstpick.learning.features import Reduction, Seen, fit_reduction
from firstpick.learning.labels import count_classes, read_classes, write_classes
from firstpick.learning.model import Model, fit
from firstpick.learning.predict import compact_classes, predict, scattered
from firstpick.learning.sampling import Sampled, sample
from firstpick.learning.stack import AXES, Stack
from firstpick.learning.tokens import SIZE, TokenCache, Tokens
from firstpick.sources.source import read_study
from firstpick.studies import Slice, Study
from firstpick.voxels.label_formats import LabelError
from firstpick.voxels.volumes import Volume, VolumeError

logger = logging.getLogger(__name__)

RECIPE = 1
"""Raised by hand whenever the same labels teach something else."""
FEWEST = 2
"""Labels without which nothing can be learnt and tested."""


class LearningError(Exception):
    """Nothing can be learnt from these labels; the text says why not."""


@dataclass(frozen=True)
class Labelled:
    """One final label.

    Attributes
    ----------
    study : Study
    label : Path
    checksum : str
        Of its file.
    saved : float
        When, in seconds since the epoch.
    slices : tuple of Slice
        Those that were annotated; all, if none is given.
    """

    study: Study
    label: Path
    checksum: str
    saved: float
    slices: tuple[Slice, ...] = ()


@dataclass(frozen=True)
class Lesson:
    """What some labels taught; plain data that goes from process to process, and is never written to a disk.

    Attributes
    ----------
    key : str
        Changes with the labels, the encoder, the classes, the seed and our recipe: see `lesson_key`.
    classes : dict of str to int
        Name and value of each class.
    n_labels : int
        That were learnt from.
    held_out : float or None
        Mean Dice over the studies, each without its label having been learnt from; None if no label holds a class.
    per_study, per_class : dict of str to float
        The same for each study and each class that was found or labelled.
    warnings : tuple of Doubt
        Labels that disagree with all others, and labels that could not be read.
    seconds : float
        That learning took.
    model : Model
    reduction : Reduction or None
        None for an encoder without patches: grey values alone were learnt from.
    compact : tuple of int
        Classes of which small islands are left out of drafts: those that have hardly any in the labels.
    """

    key: str
    classes: dict[str, int]
    n_labels: int
    held_out: float | None
    per_study: dict[str, float]
    per_class: dict[str, float]
    warnings: tuple[Doubt, ...]
    seconds: float
    model: Model
    reduction: Reduction | None
    compact: tuple[int, ...]


@dataclass(frozen=True)
class Draft:
    """A mask that was written.

    Attributes
    ----------
    study_id : str
    path : Path
    unsure : float
        Mean entropy in bits where the mask is or may be; 0 is sure.
    n_voxels : dict of str to int
        Of each class.
    seconds : float
        That it took.
    """

    study_id: str
    path: Path
    unsure: float
    n_voxels: dict[str, int]
    seconds: float


def lesson_key(labelled: Sequence[Labelled], *, spec: EncoderSpec, labels: Mapping[str, int], seed: int = 0) -> str:
    """Return what a lesson is known by, 16 hexadecimal digits; the order of the labels does not matter."""
    recipe = {
        "recipe": RECIPE,
        "encoder": spec.fingerprint(),
        "labels": list(labels.items()),
        "seed": seed,
        "of": sorted([one.study.study_id, one.study.stamp, one.checksum, repr(one.slices)] for one in labelled),
    }
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]


def learn(
    labelled: Sequence[Labelled],
    *,
    spec: EncoderSpec,
    labels: Mapping[str, int],
    folder: Path,
    tokens_gb: float,
    seed: int = 0,
) -> Lesson:
    """Learn from all final labels.

    Parameters
    ----------
    labelled : sequence of Labelled
        In any order; the newest count most.
    spec : EncoderSpec
    labels : mapping of str to int
        Name and value of the classes.
    folder : Path
        Where tokens are kept; nothing else lies there.
    tokens_gb : float
        That they may take.
    seed : int

    Raises
    ------
    LearningError
        If fewer than two labels can be read, or none holds a class.
    EncoderError
        If the encoder cannot be built.
    """
    start = time.perf_counter()
    newest_last = sorted(labelled, key=lambda one: (one.saved, one.study.study_id))
    cache = token_cache(spec, folder, tokens_gb)
    read, unread = [], []
    for one in newest_last:
        try:
            read.append((one, _tokens(one.study, spec, cache)))
        except VolumeError as error:
            unread.append(Doubt(one.study.study_id, f"Nothing was learnt from its label. {error}"))
    tokens = [found for _, found in read if found is not None]
    reduction = fit_reduction(tokens) if tokens else None
    names, rng = list(labels), np.random.default_rng(seed)
    known, samples, parts = [], [], []
    for one, found in read:
        try:
            sampled, part = _sampled(one, found, reduction, spec, labels, rng)
            samples.append(sampled)
            parts.append(part)
            known.append(one.study.study_id)
        except (LabelError, VolumeError) as error:
            unread.append(Doubt(one.study.study_id, f"Nothing was learnt from its label. {error}"))
    _check_enough(samples, names)
    model = fit(samples, len(names), seed=seed)
    dice = np.array(
        [
            dice_by_class(model.classify(model.held_out(place, own.X)), own.y, len(names), own.weights)
            for place, own in enumerate(samples)
        ]
    )
    n_voxels = np.array([np.bincount(own.y, minlength=len(names) + 1)[1:] for own in samples])
    means = {study_id: mean_dice(row) for study_id, row in zip(known, dice, strict=True)}
    per_study = {study_id: mean for study_id, mean in means.items() if mean is not None}
    by_class = {name: mean_dice(column) for name, column in zip(names, dice.T, strict=True)}
    return Lesson(
        key=lesson_key(labelled, spec=spec, labels=labels, seed=seed),
        classes=dict(labels),
        n_labels=len(samples),
        held_out=float(np.mean(list(per_study.values()))) if per_study else None,
        per_study=per_study,
        per_class={name: mean for name, mean in by_class.items() if mean is not None},
        warnings=(*doubts(known, dice, n_voxels, names), *unread),
        seconds=time.perf_counter() - start,
        model=model,
        reduction=reduction,
        compact=compact_classes(np.array(parts)),
    )


def draft(
    lesson: Lesson,
    study: Study,
    *,
    spec: EncoderSpec,
    folder: Path,
    tokens_gb: float,
    out: Path,
    served: Path | None = None,
) -> Draft:
    """Draft the mask of a study.

    Parameters
    ----------
    lesson : Lesson
    study : Study
    spec, folder, tokens_gb
        As in `learn`.
    out : Path
        Where the mask is written, a ``.nii.gz``: all of it at once.
    served : Path, optional
        The file that readers open: the mask lies on its grid. Without it on that of `read_volume`, which is RAS+.

    Raises
    ------
    VolumeError
        If the study cannot be read.
    EncoderError
        If the encoder cannot be built.
    """
    start = time.perf_counter()
    volume = read_study(study.primary)
    stack = Stack(volume, spec.views)
    seen = _seen(stack, _see(study, stack, token_cache(spec, folder, tokens_gb)), lesson.reduction)
    predicted = predict(lesson.model, seen, compact=lesson.compact)
    classes = stack.back(predicted.classes)
    write_classes(classes, volume, lesson.classes, served, out)
    n_voxels = count_classes(classes, lesson.classes)
    return Draft(study.study_id, out, predicted.unsure, n_voxels, time.perf_counter() - start)


def token_cache(spec: EncoderSpec, folder: Path, tokens_gb: float) -> TokenCache | None:
    """Open what is kept of tokens; None for an encoder without patches."""
    encoder = patch_encoder(spec, SIZE)
    if encoder is None:
        logger.info("Encoder '%s' has no patches: drafts are learnt from grey values alone.", spec.name)
        return None
    return TokenCache(folder, tokens_gb * 1e9, encoder, spec.fingerprint())


def _tokens(study: Study, spec: EncoderSpec, cache: TokenCache | None) -> Tokens | None:
    """Return the tokens of a study; its voxels are only read where they are not kept."""
    if cache is None:
        return None
    return cache.kept(study) or cache.of(study, Stack(read_study(study.primary), spec.views))


def _see(study: Study, stack: Stack, cache: TokenCache | None) -> Tokens | None:
    return None if cache is None else cache.kept(study) or cache.of(study, stack)


def _seen(stack: Stack, tokens: Tokens | None, reduction: Reduction | None) -> Seen:
    if tokens is None or reduction is None:
        return Seen(stack)
    return Seen(stack, tokens.slices, reduction.of(tokens.rows), tokens.size)


def _sampled(
    one: Labelled,
    tokens: Tokens | None,
    reduction: Reduction | None,
    spec: EncoderSpec,
    labels: Mapping[str, int],
    rng: np.random.Generator,
) -> tuple[Sampled, NDArray[np.float64]]:
    """Take voxels of one labelled study, and say which part of each class lies in small pieces."""
    volume: Volume = read_study(one.study.primary)
    stack = Stack(volume, spec.views)
    classes = stack.of(read_classes(one.label, volume, labels))
    here = [at.index for at in one.slices if AXES[at.plane] == stack.axis]
    if one.slices and not here:  # annotated in another plane
        here = np.flatnonzero(classes.any(axis=(1, 2))).tolist()
    slices = here or range(len(classes))
    return sample(_seen(stack, tokens, reduction), classes, slices, rng), scattered(classes, len(labels))


def _check_enough(samples: Sequence[Sampled], names: Sequence[str]) -> None:
    if len(samples) < FEWEST:
        msg = f"{FEWEST} labels are needed to learn from; {len(samples)} can be read."
        raise LearningError(msg)
    if not any(own.y.any() for own in samples):
        msg = f"No label holds {' or '.join(names)} yet: there is nothing to learn."
        raise LearningError(msg)
