"""Archives of many tiny pictures, and a cache with made-up embeddings of them (part of `scale.py`, `scale_server.py`).

Embedding a hundred thousand studies takes hours; what comes after it does not ask where the numbers are from.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from firstpick.config import Config, load_config
from firstpick.embedding.cache import Cache, Embedded
from firstpick.sources.folder import list_studies
from firstpick.studies import Pool, Sample, Study

DIM = 384
PER_FOLDER = 500
N_KINDS = 40
_AT_ONCE = 1000
CONFIGURED = ("encoder", "pixels", "views.size", "56", "batch_size", "20", "rescan_s", "10", "n_workers", "1")


def config() -> Config:
    """What servers and commands over such an archive are told."""
    return load_config(None, dict(zip(CONFIGURED[::2], CONFIGURED[1::2], strict=True)))


def write_pictures(folder: Path, n_studies: int, *, first: int = 0) -> Path:
    """Write tiny pictures, 500 to a folder."""
    picture = _png(0)
    for number in range(first, first + n_studies):
        path = folder / f"{number // PER_FOLDER:05d}" / f"study_{number:07d}.png"
        if number % PER_FOLDER == 0 or number == first:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
    return folder


def vectors(n_rows: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Rows around forty centres, 3 % of them far from all."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(N_KINDS, DIM)).astype(np.float32)
    X = centres[rng.integers(N_KINDS, size=n_rows)]
    for start in range(0, n_rows, _AT_ONCE):
        some = X[start : start + _AT_ONCE]
        some += np.float32(0.7) * rng.standard_normal(some.shape, dtype=np.float32)
    outliers = rng.permutation(n_rows)[: round(0.03 * n_rows)]
    X[outliers] = 1.5 * rng.standard_normal((len(outliers), DIM), dtype=np.float32)
    return X


def made_pool(n_studies: int) -> Pool:
    """A pool that was never in a file."""
    return Pool(tuple(Sample(f"study_{number:07d}.png") for number in range(n_studies)), vectors(n_studies))


def made_studies(n_studies: int) -> list[Study]:
    """Studies of which there are no files."""
    return [Study(f"study_{number:07d}.png", "1", f"/nowhere/study_{number:07d}.png") for number in range(n_studies)]


def fill_cache(state: Path, studies: list[Study], *, seed: int = 0) -> None:
    """Put made-up embeddings of studies into the cache of a state folder, with one picture for all."""
    thumbnail, fingerprint = _png(128), config().encoder_spec.fingerprint()
    rows = vectors(len(studies), seed=seed)

    def embedded(some: slice) -> Iterator[Embedded]:
        for study, row in zip(studies[some], rows[some], strict=True):
            yield Embedded(study, row[None], (), thumbnail, (), study.source[study.source.rindex(".") :])

    with contextlib.closing(Cache(state)) as cache:
        for start in range(0, len(studies), _AT_ONCE):
            cache.put(fingerprint, embedded(slice(start, start + _AT_ONCE)))


def make_archive(folder: Path, n_studies: int) -> tuple[Path, Path]:
    """Write an archive and a state folder in which all of it is embedded; return both."""
    studies, state = write_pictures(folder / "studies", n_studies), folder / "state"
    fill_cache(state, list_studies(studies)[0])
    return studies, state


def _png(grey: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (16, 16), grey).save(file, "png")
    return file.getvalue()
