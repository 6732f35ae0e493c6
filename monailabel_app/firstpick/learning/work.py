"""Learning and drafting in a worker process, which keeps what it has learnt until the labels are others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from firstpick.encoders import EncoderSpec
from firstpick.learning.agreement import Doubt
from firstpick.learning.draft import Labelled, Lesson, draft, learn
from firstpick.learning.labels import count_classes, read_classes, write_classes
from firstpick.learning.stop import Correction, correction
from firstpick.sources.source import read_study
from firstpick.studies import Study


@dataclass(frozen=True)
class Teaching:
    """What there is to learn from, and how.

    Attributes
    ----------
    labelled : tuple of Labelled
    spec : EncoderSpec
    classes : tuple of (str, int)
        Name and value of each.
    tokens : Path
        Folder for what the encoder saw.
    tokens_gb : float
        That it may take.
    seed : int
    n_run : int
        Another number has the same labels learnt from again.
    """

    labelled: tuple[Labelled, ...]
    spec: EncoderSpec
    classes: tuple[tuple[str, int], ...]
    tokens: Path
    tokens_gb: float
    seed: int
    n_run: int = 0

    @property
    def marks(self) -> tuple[str, ...]:
        """What tells each label from another one."""
        return tuple(one.checksum for one in self.labelled)


@dataclass(frozen=True)
class Taught:
    """What came of it; ``dice`` is None where no label that was held out holds a class."""

    n_labels: int
    dice: float | None
    dice_of: Mapping[str, float]
    warnings: tuple[Doubt, ...]


_learnt: dict[str, tuple[Teaching, Lesson]] = {}


def learn_here(teaching: Teaching) -> None:
    """Learn, and keep it in this process; the errors are those of `learn`."""
    _learnt.clear()
    lesson = learn(
        teaching.labelled,
        spec=teaching.spec,
        labels=dict(teaching.classes),
        folder=teaching.tokens,
        tokens_gb=teaching.tokens_gb,
        seed=teaching.seed,
    )
    _learnt["now"] = teaching, lesson


def taught_here() -> Taught:
    """Say what came of `learn_here`."""
    _, lesson = _learnt["now"]
    return Taught(lesson.n_labels, lesson.held_out, lesson.per_class, lesson.warnings)


def draft_here(study: Study, out: Path, served: Path | None) -> tuple[float, dict[str, int]]:
    """Draft the mask of a study by what was learnt here; return how unsure it is, and the voxels of each class."""
    teaching, lesson = _learnt["now"]
    made = draft(
        lesson,
        study,
        spec=teaching.spec,
        folder=teaching.tokens,
        tokens_gb=teaching.tokens_gb,
        out=out,
        served=served,
    )
    return made.unsure, made.n_voxels


def adopt(
    study: Study,
    found: Path,
    values: Mapping[str, int],
    classes: tuple[tuple[str, int], ...],
    out: Path,
    served: Path | None,
) -> dict[str, int]:
    """Make a draft of what another model drew of a study; return the voxels of each class.

    Parameters
    ----------
    study : Study
    found : Path
        The model's mask.
    values : mapping of str to int
        Name and value of each of its classes there.
    classes : tuple of (str, int)
        Name and value of each class here; those that the model does not know are not in the draft.
    out, served
        As in `firstpick.learning.draft.draft`.

    Raises
    ------
    VolumeError
        If the study cannot be read.
    LabelError
        If the mask cannot be read, or does not lie on the grid of the study.
    """
    volume = read_study(study.primary)
    shared = {name: value for name, value in classes if name in values}
    drawn = read_classes(found, volume, {name: values[name] for name in shared})
    write_classes(drawn, volume, shared, served, out)
    return count_classes(drawn, shared)


def compare(study: Study, drafted: Path, final: Path, classes: tuple[tuple[str, int], ...]) -> Correction:
    """Say what a reader made of a draft."""
    volume, labels = read_study(study.primary), dict(classes)
    before, after = (read_classes(path, volume, labels) for path in (drafted, final))
    return correction(before, after, len(labels), volume.spacing)
