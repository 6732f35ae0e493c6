"""Which encoders there are, which of them can be used here, and how fast they were measured to be."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from firstpick.encoders import ENCODERS, FAMILIES, EncoderError, EncoderRow, EncoderSpec, build_encoder
from firstpick.encoders.weights import packaged_file
from firstpick.libraries import user_folder
from firstpick.voxels.volumes import Volume

_N_STUDIES = 4
_SHAPE, _SPACING = (128, 128, 64), (2.0, 2.0, 4.0)  # a trunk's size


@dataclass(frozen=True)
class Speed:
    """How fast an encoder was on this machine.

    Attributes
    ----------
    study_s : float
        Seconds to cut and encode one study of 256 mm, one process.
    build_s : float
        Seconds until the encoder was ready.
    n_parts : int
        Views or crops of that study.
    """

    study_s: float
    build_s: float
    n_parts: int


def measure(spec: EncoderSpec) -> Speed:
    """Build an encoder and time it on a few made-up studies; nothing is read but its weights.

    Raises
    ------
    EncoderError
        If it cannot be built.
    """
    start = time.perf_counter()
    encoder = build_encoder(spec)
    built = time.perf_counter()
    volume = _phantom()
    encoder.encode(encoder.parts(volume))  # the first time is slower
    warm = time.perf_counter()
    for _ in range(_N_STUDIES):
        parts = encoder.parts(volume)
        encoder.encode(parts)
    return Speed((time.perf_counter() - warm) / _N_STUDIES, built - start, len(parts))


def _phantom() -> Volume:
    """Air, and a noisy ellipsoid of about 0 HU."""
    axes = np.meshgrid(*(np.linspace(-1.2, 1.2, n) for n in _SHAPE), indexing="ij")
    inside = sum(axis**2 for axis in axes) < 1
    noise = np.random.default_rng(0).normal(0, 30, _SHAPE)
    return Volume(np.where(inside, noise, -1000).astype(np.float32), _SPACING, modality="CT")


def remember(name: str, speed: Speed) -> None:
    """Keep a speed for `table`, beside the user's state."""
    path = _speeds_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    speeds = {known: asdict(item) for known, item in remembered().items()} | {name: asdict(speed)}
    path.write_text(json.dumps(speeds, indent=2), encoding="utf-8")


def remembered() -> dict[str, Speed]:
    """Speeds that were measured on this machine, by the encoder's name."""
    try:
        stored = json.loads(_speeds_file().read_text(encoding="utf-8"))
        return {name: Speed(**item) for name, item in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _speeds_file() -> Path:
    return user_folder() / "encoder_speeds.json"


def table(speeds: Mapping[str, Speed]) -> str:
    """Every encoder and family, as lines of text."""
    head = ("encoder", "", "installed", "weights", "s/study", "licence", "trained on")
    rows = [_line(name, row, speeds) for name, row in ENCODERS.items()]
    rows += [_line(row.usage, row, speeds) for row in FAMILIES.values()]
    widths = [max(len(line[i]) for line in (head, *rows)) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in (head, *rows)]
    return "\n".join(line.rstrip() for line in lines)


def _line(name: str, row: EncoderRow, speeds: Mapping[str, Speed]) -> tuple[str, ...]:
    speed = f"{speeds[name].study_s:.2f}" if name in speeds else "-"
    installed = "no" if row.missing() else "yes"
    return (name, f"{row.ndim}-D", installed, weights_state(name, row), speed, row.licence, row.trained_on)


def weights_state(name: str, row: EncoderRow) -> str:
    """Say in a word or two where an encoder's weights are."""
    if row.hub:
        return "from a hub"
    if row.usage or (row.takes and not row.files):
        return "yours"
    try:
        for file in row.files:
            packaged_file(name, row, file)
    except EncoderError:
        return "no"
    return "yes" if row.files else "none"
