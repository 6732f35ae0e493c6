"""What the encoder sees of the studies of a pool: some patches of each, kept on the disk; what labels say of some."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from firstpick.encoders import EncoderSpec
from firstpick.encoders.patches import PatchEncoder, patch_encoder
from firstpick.learning.draft import Labelled, LearningError, token_cache
from firstpick.learning.labels import read_classes
from firstpick.learning.patches import patch_classes, pictured
from firstpick.learning.stack import AXES, Stack
from firstpick.learning.tokens import SIZE, save_arrays
from firstpick.learning.uncertainty import LabelledPatches, drawn, seed_of
from firstpick.sources.source import read_study
from firstpick.studies import Sample, Slice, Study
from firstpick.voxels.volumes import Volume

RECIPE = 1
N_SLICES = 8
"""Slices of a study that is picked whole, evenly spaced, at most."""
N_PATCHES = 64
"""Patches of such a study, at most."""
N_PATCHES_OF_SLICE = 16
"""Patches of a slice, where slices are picked, at most."""
_N_TAUGHT = 2_048  # patches of a labelled study
_N_AT_ONCE = 8

Rows = NDArray[np.float16]


@dataclass(frozen=True)
class Look:
    """A study to look at.

    Attributes
    ----------
    study : Study
    slices : tuple of Slice
        Those that are samples of the pool; none for a study that is one itself.
    """

    study: Study
    slices: tuple[Slice, ...] = ()

    @property
    def samples(self) -> tuple[Sample, ...]:
        """What its patches are of."""
        return tuple(Sample(self.study.study_id, at) for at in self.slices) or (Sample(self.study.study_id),)

    @property
    def n_patches(self) -> int:
        """How many are taken, at most."""
        return N_PATCHES_OF_SLICE * len(self.slices) or N_PATCHES

    def name(self, fingerprint: str) -> str:
        """Return the name of the file of its patches, for an encoder."""
        key = (self.study.study_id, self.study.stamp, repr(self.slices), fingerprint, str(RECIPE))
        return f"{hashlib.sha256(chr(0).join(key).encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.npz"


@dataclass(frozen=True)
class StudyPatches:
    """Patches of a study.

    Attributes
    ----------
    rows : ndarray of shape (n, dim), float16
        As the encoder gave them.
    part : ndarray of shape (n,), intp
        Of which of the study's samples each is.
    """

    rows: Rows
    part: NDArray[np.intp]


def look(at: Look, spec: EncoderSpec, folder: Path) -> None:
    """Take patches of a study, and keep them under its name in a folder.

    Raises
    ------
    VolumeError
        If the study cannot be read.
    LearningError
        If the encoder has no patches.
    EncoderError
        If it cannot be built.
    """
    encoder, rng = _encoder(spec), np.random.default_rng(seed_of(at.study.study_id))
    volume = read_study(at.study.primary)
    rows: list[Rows] = []
    part: list[int] = []
    if at.slices:
        for stack, slices in _by_plane(at.slices, volume, spec):
            for slice_, tokens in zip(slices, _tokens(stack, [one.index for one in slices], encoder), strict=True):
                rows.append(_some(tokens[_inside(stack, encoder)], N_PATCHES_OF_SLICE, rng))
                part += [at.slices.index(slice_)] * len(rows[-1])
    else:
        stack = Stack(volume, spec.views)
        inside = _inside(stack, encoder)
        found = [tokens[inside] for tokens in _tokens(stack, _evenly(stack.shape[0]), encoder)]
        rows.append(_some(np.concatenate(found), N_PATCHES, rng))
        part += [0] * len(rows[-1])
    _keep(folder / at.name(spec.fingerprint()), StudyPatches(np.concatenate(rows), np.array(part, np.intp)))


def kept_patches(path: Path) -> StudyPatches | None:
    """Read the patches of a study; None if there are none, or the file is damaged, which is deleted then."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return StudyPatches(kept["rows"], kept["part"].astype(np.intp))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, BadZipFile, EOFError):
        path.unlink(missing_ok=True)
        return None


def teach(
    one: Labelled, *, spec: EncoderSpec, labels: Mapping[str, int], folder: Path, tokens_gb: float
) -> LabelledPatches:
    """Return patches of a labelled study, and what its label says of each.

    Parameters
    ----------
    one : Labelled
        If some of its slices were annotated, those are looked at; else all that the encoder saw of it.
    spec, labels, folder, tokens_gb
        As in `firstpick.learning.draft.learn`.

    Raises
    ------
    VolumeError, LabelError
        If study or label cannot be read.
    """
    encoder, volume = _encoder(spec), read_study(one.study.primary)
    classes = read_classes(one.label, volume, labels)
    rows, found = [], []
    for stack, indices, tokens in _annotated(one, Stack(volume, spec.views), spec, encoder, folder, tokens_gb):
        inside = _inside(stack, encoder)
        place = stack.place(encoder.size)
        of = patch_classes(stack.of(classes)[indices], place, encoder.size, encoder.side, len(labels))
        rows.append(tokens[:, inside].reshape(-1, tokens.shape[-1]))
        found.append(of[:, inside].ravel())
    rng = np.random.default_rng(seed_of(one.study.study_id))
    return drawn(np.concatenate(rows), np.concatenate(found), _N_TAUGHT, rng)


def _annotated(
    one: Labelled, stack: Stack, spec: EncoderSpec, encoder: PatchEncoder, folder: Path, tokens_gb: float
) -> Iterator[tuple[Stack, NDArray[np.intp], Rows]]:
    """Yield slices that the label speaks of, and their tokens, shape (n, side, side, dim)."""
    if one.slices:
        for along, slices in _by_plane(one.slices, stack.volume, spec):
            indices = [at.index for at in slices]
            yield along, np.array(indices), np.stack([*_tokens(along, indices, encoder)])
        return
    cache = token_cache(spec, folder, tokens_gb)
    assert cache is not None  # noqa: S101 - it has patches
    tokens = cache.kept(one.study) or cache.of(one.study, stack)
    yield stack, tokens.slices, tokens.rows


def _encoder(spec: EncoderSpec) -> PatchEncoder:
    encoder = patch_encoder(spec, SIZE)
    if encoder is None:
        msg = f"Encoder '{spec.name}' has no patches. Take one of the DINOv2 family."
        raise LearningError(msg)
    return encoder


def _by_plane(slices: Sequence[Slice], volume: Volume, spec: EncoderSpec) -> Iterator[tuple[Stack, list[Slice]]]:
    """Yield the slices of each plane, and the volume stacked along it."""
    for plane in dict.fromkeys(at.plane for at in slices):
        yield Stack(volume, spec.views, AXES[plane]), [at for at in slices if at.plane == plane]


def _tokens(stack: Stack, indices: Sequence[int], encoder: PatchEncoder) -> Iterator[Rows]:
    """Yield the tokens of each slice, shape (side, side, dim)."""
    for start in range(0, len(indices), _N_AT_ONCE):
        yield from encoder.tokens(stack.pictures(indices[start : start + _N_AT_ONCE], encoder.size))


def _inside(stack: Stack, encoder: PatchEncoder) -> NDArray[np.bool_]:
    return pictured(stack.place(encoder.size), encoder.size, encoder.side)


def _evenly(n_slices: int) -> list[int]:
    """Return slices that are evenly spaced, neither the first nor the last where there are others.

    >>> _evenly(3), _evenly(100)
    ([0, 1, 2], [11, 22, 33, 44, 55, 66, 77, 88])
    """
    found: list[int] = np.unique(np.linspace(0, n_slices - 1, N_SLICES + 2)[1:-1].round().astype(int)).tolist()
    return found


def _some(rows: Rows, most: int, rng: np.random.Generator) -> Rows:
    return rows[np.sort(rng.choice(len(rows), min(most, len(rows)), replace=False))]


def _keep(path: Path, found: StudyPatches) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    save_arrays(path, rows=found.rows, part=found.part)
