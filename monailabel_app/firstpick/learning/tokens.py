"""What the encoder sees of each place of a study: its patch tokens, kept on the disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from firstpick.encoders.patches import PatchEncoder
from firstpick.learning.stack import Stack
from firstpick.studies import Study

RECIPE = 1
SIZE = 224
"""Side of the pictures that the encoder sees, in pixels."""
N_SLICES = 48
"""Slices of a study that it sees at most, evenly spaced; between them tokens are interpolated."""
_N_AT_ONCE = 8


@dataclass(frozen=True)
class Tokens:
    """Patch tokens of some slices of a study.

    Attributes
    ----------
    slices : ndarray of shape (n,), intp
        Rising.
    rows : ndarray of shape (n, side, side, dim), float16
        From the top left of each picture.
    size : int
        Side of the pictures in pixels.
    """

    slices: NDArray[np.intp]
    rows: NDArray[np.float16]
    size: int = SIZE


def seen_slices(n_slices: int) -> NDArray[np.intp]:
    """Return which slices of a study the encoder sees."""
    found: NDArray[np.intp] = np.unique(np.linspace(0, n_slices - 1, min(n_slices, N_SLICES)).round().astype(np.intp))
    return found


class TokenCache:
    """Tokens by study, in a folder that holds nothing else and no more than so many bytes.

    Parameters
    ----------
    folder : Path
    limit_bytes : float
        What was used longest ago goes first.
    encoder : PatchEncoder
    fingerprint : str
        Of the encoder.
    """

    def __init__(self, folder: Path, limit_bytes: float, encoder: PatchEncoder, fingerprint: str) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._encoder = encoder
        self._fingerprint = fingerprint
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def of(self, study: Study, stack: Stack) -> Tokens:
        """Encode a study and keep its tokens."""
        tokens = see(stack, self._encoder)
        self._keep(self._path(study), tokens)
        return tokens

    def kept(self, study: Study) -> Tokens | None:
        """Return the tokens of a study if they are there."""
        path = self._path(study)
        with contextlib.suppress(OSError, ValueError, KeyError, BadZipFile, EOFError):
            with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                tokens = Tokens(kept["slices"].astype(np.intp), kept["rows"], self._encoder.size)
            os.utime(path)
            return tokens
        return None

    def _path(self, study: Study) -> Path:
        key = "\0".join((study.study_id, study.stamp, self._fingerprint, str(RECIPE)))
        return self._folder / f"{hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.npz"

    def _keep(self, path: Path, tokens: Tokens) -> None:
        save_arrays(path, slices=tokens.slices, rows=tokens.rows)
        files = sorted((stat.st_mtime, stat.st_size, one) for one in self._folder.iterdir() if (stat := _stat(one)))
        total = sum(size for _, size, _ in files)
        for _, size, one in files[:-1]:
            if total <= self._limit_bytes:
                break
            one.unlink(missing_ok=True)
            total -= size


def see(stack: Stack, encoder: PatchEncoder) -> Tokens:
    """Show a study to the encoder, a few slices at a time."""
    slices = seen_slices(stack.shape[0])
    found = [
        encoder.tokens(stack.pictures(slices[start : start + _N_AT_ONCE].tolist(), encoder.size))
        for start in range(0, len(slices), _N_AT_ONCE)
    ]
    return Tokens(slices, np.concatenate(found), encoder.size)


def save_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write arrays into a file of that name, all of it at once."""
    partial = path.with_name(f"{uuid.uuid4().hex}.tmp")
    try:
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
