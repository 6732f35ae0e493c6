"""Encoders turn parts of a volume into rows; which there are is known without importing torch."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from firstpick.encoders.memory import is_out_of_memory
from firstpick.encoders.row import TOKENS, EncoderRow
from firstpick.encoders.table import ENCODERS, FAMILIES, encoder_row
from firstpick.encoders.third_party import source_file
from firstpick.encoders.weights import EncoderError, checksum, read_beside
from firstpick.voxels.views import ViewSpec
from firstpick.voxels.volumes import Volume

__all__ = [
    "ENCODERS",
    "FAMILIES",
    "POOLINGS",
    "TOKENS",
    "Encoder",
    "EncoderError",
    "EncoderRow",
    "EncoderSpec",
    "build_encoder",
    "encoder_row",
    "hub_id",
    "is_third_party",
    "pool_parts",
]

RECIPE = 1
"""Raised by hand whenever our own reading, views or pooling give other numbers for the same settings."""

POOLINGS = ("mean", "mean+max", "per-plane")
UNITS = ("volume", "slice")


class Encoder(Protocol):
    """What a worker process needs of an encoder; build one with `build_encoder`."""

    def parts(self, volume: Volume) -> NDArray[np.float32]:
        """Cut from a volume what the encoder wants to see, shape (n_parts, ...), float32."""
        ...

    def encode(self, parts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn n parts, of any number of studies, into an array of shape (n, dim), float32."""
        ...


@dataclass(frozen=True)
class EncoderSpec:
    """All that decides the numbers of an embedding, as plain data; loads nothing.

    Attributes
    ----------
    name : str
        A key of `ENCODERS`, or a prefix of `FAMILIES` and its argument, such as ``onnx:model.onnx#features``.
    weights : str
        What to take the weights from instead of the encoder's own source; empty for that source.
    views : ViewSpec
        Which pictures a 2-D encoder sees of a volume; a size of 0 is the encoder's own.
    pooling : {'mean', 'mean+max', 'per-plane'}
        How the rows of one study's parts become its embedding.
    layer : str
        Layer whose output is taken; empty for the encoder's own.
    tokens : {'', 'class', 'patch', 'both'}
        Which tokens of a transformer make a row; empty for the encoder's own.
    unit : {'volume', 'slice'}
        Whether a study has one embedding, or one for each slice that is shown, without pooling.

    Raises
    ------
    ValueError
        If a value is not known, or the encoder has no such choice.
    """

    name: str = "dinov2-s"
    weights: str = ""
    views: ViewSpec = ViewSpec()
    pooling: str = "mean"
    layer: str = ""
    tokens: str = ""
    unit: str = "volume"

    def __post_init__(self) -> None:
        row = encoder_row(self.name)
        if self.unit not in UNITS:
            msg = f"unit '{self.unit}' is not known. Choose one of {', '.join(UNITS)}."
            raise ValueError(msg)
        if self.unit == "slice" and row.ndim != 2:  # noqa: PLR2004 - two dimensions
            msg = f"unit 'slice' needs views; encoder '{self.name}' sees the volume. Choose volume."
            raise ValueError(msg)
        if self.pooling not in POOLINGS:
            msg = f"pooling '{self.pooling}' is not known. Choose one of {', '.join(POOLINGS)}."
            raise ValueError(msg)
        if self.pooling == "per-plane" and row.ndim != 2:  # noqa: PLR2004 - two dimensions
            msg = f"pooling 'per-plane' needs views; encoder '{self.name}' sees the volume. Choose mean or mean+max."
            raise ValueError(msg)
        if self.weights and not row.takes:
            msg = f"weights: encoder '{self.name}' takes none; got '{self.weights}'."
            raise ValueError(msg)
        _check_choice("layer", self.layer, row.layer, row.layers, self.name)
        _check_choice("tokens", self.tokens, row.tokens, TOKENS, self.name)

    @property
    def needs_slices(self) -> bool:
        """Whether it matters which slice of a study each part is."""
        return self.unit == "slice" or self.pooling == "per-plane"

    @property
    def argument(self) -> str:
        """What comes after a family's prefix; empty for an encoder with a name of its own."""
        return self.name.partition(":")[2] if encoder_row(self.name).usage else ""

    def resolved(self) -> EncoderSpec:
        """The same with the encoder's own size, layer and tokens where none were chosen."""
        row = encoder_row(self.name)
        views = replace(self.views, size=self.views.size or row.size)
        return replace(self, views=views, layer=self.layer or row.layer, tokens=self.tokens or row.tokens)

    def fingerprint(self) -> str:
        """Hash of what changes the numbers: 16 hexadecimal digits.

        Holds the encoder's name, settings and weights' checksum, the views, the unit, the pooling and our own
        `RECIPE`, but not the versions of libraries: an upgrade does not re-embed an archive.

        Raises
        ------
        EncoderError
            If the weights cannot be read.
        """
        row, spec = encoder_row(self.name), self.resolved()
        recipe = {
            "recipe": RECIPE,
            "name": self.name,
            "facts": [row.mean, row.std, row.window, row.shape, row.spacing_mm, dict(row.settings)],
            "weights": _identity(spec, row),
            "views": asdict(spec.views),
            "unit": spec.unit,
            "pooling": spec.pooling if spec.unit == "volume" else "",
            "layer": spec.layer,
            "tokens": spec.tokens,
        }
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def _check_choice(key: str, value: str, own: str, allowed: Sequence[str], name: str) -> None:
    """Refuse a layer or tokens that the encoder does not have."""
    if value and not own:
        msg = f"{key}: encoder '{name}' leaves no choice; got '{value}'."
        raise ValueError(msg)
    if value and allowed and value not in allowed:
        msg = f"{key} '{value}' is not one of encoder '{name}'. Choose one of {', '.join(allowed)}."
        raise ValueError(msg)


def _identity(spec: EncoderSpec, row: EncoderRow) -> str:
    """Checksum of every file that is read for an encoder; for what is not on this disk, the name it has elsewhere."""
    family = spec.name.partition(":")[0]
    if is_third_party(spec):
        return checksum(source_file(spec.argument))
    if remote := hub_id(spec):
        return remote
    where = Path(spec.weights or spec.argument.rpartition("#")[0] or spec.argument or row.kept).expanduser()
    if family in ("onnx", "torchscript"):
        return checksum(where, beside=read_beside(where, is_onnx=family == "onnx"))
    if spec.weights or spec.argument or (row.kept and where.is_file()):
        return checksum(where)
    return row.sha256


def is_third_party(spec: EncoderSpec) -> bool:
    """Whether the encoder is a class of the user's own."""
    return spec.name.startswith("python:")


def hub_id(spec: EncoderSpec) -> str:
    """Name on a hub of an encoder's weights, as configured; empty where they are on this disk, or there are none."""
    row = encoder_row(spec.name)
    where = spec.weights or spec.argument or row.hub
    return where if "hub" in row.takes and not Path(where).expanduser().exists() else ""


def build_encoder(spec: EncoderSpec) -> Encoder:
    """Import and build the encoder; only here are torch and the weights loaded.

    Raises
    ------
    EncoderError
        If a library is not installed, memory runs out, or the weights are missing, damaged or not the expected ones.
    """
    row = encoder_row(spec.name)
    if missing := row.missing():
        msg = f"encoder '{spec.name}' needs {', '.join(missing)}, which is not installed. Type: {row.install}"
        raise EncoderError(msg)
    module, _, name = row.builder.partition(":")
    try:
        encoder: Encoder = getattr(importlib.import_module(module), name)(spec.resolved())
    except EncoderError:
        raise
    except Exception as error:
        reason = "memory ran out" if is_out_of_memory(error) else f"{type(error).__name__}: {error}"
        msg = f"encoder '{spec.name}' cannot be built ({' '.join(reason.split())[:300]})."
        raise EncoderError(msg) from error
    return encoder


def pool_parts(
    rows: NDArray[np.float32], pooling: str, *, shown: Sequence[str] = (), planes: Sequence[str] = ()
) -> NDArray[np.float32]:
    """Turn the rows of one study's parts into its embedding.

    Parameters
    ----------
    rows : ndarray of shape (n_parts, dim), float32
    pooling : {'mean', 'mean+max', 'per-plane'}
        Average; average and maximum one after the other; or the average of each plane's rows one after the other.
    shown : sequence of str
        The plane that each row comes from, for ``per-plane``.
    planes : sequence of str
        Planes of the embedding, for ``per-plane``. One that the study does not show, such as the sagittal plane of a
        picture, is filled with the average of all rows, so that it is neither far from nor near to anything by itself.

    Returns
    -------
    ndarray of shape (dim,), (2 * dim,) or (n_planes * dim,), float32

    Examples
    --------
    >>> rows = np.array([[1, 4], [3, 2]], dtype=np.float32)
    >>> pool_parts(rows, "mean+max")
    array([2., 3., 3., 4.], dtype=float32)
    >>> pool_parts(rows, "per-plane", shown=["axial", "coronal"], planes=["axial", "sagittal"])
    array([1., 4., 2., 3.], dtype=float32)
    """
    mean: NDArray[np.float32] = rows.mean(axis=0)
    if pooling == "mean":
        return mean
    if pooling == "mean+max":
        return np.concatenate([mean, rows.max(axis=0)])
    of = np.array(shown)
    return np.concatenate([rows[of == plane].mean(axis=0) if plane in shown else mean for plane in planes])
