"""Encoders whose weights lie on a model hub or in a file of the user's: the named ones, and the families."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from firstpick.encoders.row import IMAGENET_MEAN, IMAGENET_STD, EncoderRow

_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5)


def _hf(  # what the rows below differ in
    description: str,
    hub: str,
    dim: int,
    *,
    origin: tuple[str, str, str],
    size: int = 224,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    tokens: str = "class",
    modalities: str = "any",
) -> EncoderRow:
    """A model of the transformers library; its origin is paper, licence, and what it was trained on."""
    paper, licence, trained_on = origin
    return EncoderRow(
        builder="firstpick.encoders.hf:build",
        description=description,
        hub=hub,
        dim=dim,
        paper=paper,
        licence=licence,
        trained_on=trained_on,
        size=size,
        mean=mean,
        std=std,
        layer="last",
        tokens=tokens,
        modalities=modalities,
        takes=("folder", "hub"),
        extra="hf",
        requires=("transformers",),
    )


_DINOV2 = ("arXiv 2304.07193", "Apache-2.0", "142 M natural images, self-supervised")
_DINOV3 = ("arXiv 2508.10104", "DINOv3 (gated)", "1,689 M natural images, self-supervised")
_CLIP = ("arXiv 2103.00020", "MIT", "400 M pictures with captions")
_SIGLIP = ("arXiv 2303.15343", "Apache-2.0", "WebLI, pictures with captions")

HUB_ENCODERS: Mapping[str, EncoderRow] = MappingProxyType(
    {
        "dinov2-vits14": _hf("DINOv2 ViT-S/14, untouched", "facebook/dinov2-small", 384, origin=_DINOV2),
        "dinov2-vitb14": _hf("DINOv2 ViT-B/14", "facebook/dinov2-base", 768, origin=_DINOV2),
        "dinov2-vitl14": _hf("DINOv2 ViT-L/14", "facebook/dinov2-large", 1024, origin=_DINOV2),
        "dinov2-vitg14": _hf("DINOv2 ViT-g/14", "facebook/dinov2-giant", 1536, origin=_DINOV2),
        "dinov3-vits16": _hf("DINOv3 ViT-S/16", "facebook/dinov3-vits16-pretrain-lvd1689m", 384, origin=_DINOV3),
        "dinov3-vitb16": _hf("DINOv3 ViT-B/16", "facebook/dinov3-vitb16-pretrain-lvd1689m", 768, origin=_DINOV3),
        "dinov3-vitl16": _hf("DINOv3 ViT-L/16", "facebook/dinov3-vitl16-pretrain-lvd1689m", 1024, origin=_DINOV3),
        "rad-dino": _hf(
            "RAD-DINO ViT-B/14 for chest X-rays",
            "microsoft/rad-dino",
            768,
            origin=("arXiv 2401.10815", "MSRLA (research)", "838,336 chest X-rays, self-supervised"),
            size=518,
            mean=(0.5307, 0.5307, 0.5307),
            std=(0.2583, 0.2583, 0.2583),
            modalities="CR, DX",
        ),
        "medsiglip": _hf(
            "MedSigLIP ViT-So400m/14",
            "google/medsiglip-448",
            1152,
            origin=("arXiv 2507.05201", "HAI-DEF terms (gated)", "WebLI, then medical pictures with reports"),
            size=448,
            mean=_HALF,
            std=_HALF,
        ),
        "siglip-b16": _hf(
            "SigLIP ViT-B/16", "google/siglip-base-patch16-224", 768, mean=_HALF, std=_HALF, origin=_SIGLIP
        ),
        "siglip-so400m": _hf(
            "SigLIP ViT-So400m/14",
            "google/siglip-so400m-patch14-384",
            1152,
            size=384,
            mean=_HALF,
            std=_HALF,
            origin=_SIGLIP,
        ),
        "clip-b32": _hf(
            "CLIP ViT-B/32", "openai/clip-vit-base-patch32", 768, mean=_CLIP_MEAN, std=_CLIP_STD, origin=_CLIP
        ),
        "clip-l14": _hf(
            "CLIP ViT-L/14", "openai/clip-vit-large-patch14", 1024, mean=_CLIP_MEAN, std=_CLIP_STD, origin=_CLIP
        ),
        "sam-b": _hf(
            "SAM ViT-B, its image encoder",
            "facebook/sam-vit-base",
            256,
            origin=("arXiv 2304.02643", "Apache-2.0", "SA-1B, masks"),
            size=1024,
            tokens="",
        ),
        "medsam": _hf(
            "MedSAM ViT-B, its image encoder",
            "wanglab/medsam-vit-base",
            256,
            origin=("arXiv 2304.12306", "Apache-2.0", "1.57 M medical masks"),
            size=1024,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            tokens="",
        ),
        "ijepa-h14": _hf(
            "I-JEPA ViT-H/14; it has no class token",
            "facebook/ijepa_vith14_1k",
            1280,
            origin=("arXiv 2301.08243", "CC-BY-NC-4.0", "ImageNet, self-supervised"),
            tokens="patch",
        ),
        "mae-b16": _hf(
            "ViT-MAE ViT-B/16",
            "facebook/vit-mae-base",
            768,
            origin=("arXiv 2111.06377", "Apache-2.0", "ImageNet, self-supervised"),
            tokens="patch",
        ),
        "biomedclip": EncoderRow(
            builder="firstpick.encoders.open_clip:build",
            description="BiomedCLIP ViT-B/16",
            paper="arXiv 2303.00915",
            licence="MIT",
            trained_on="15 M figures of biomedical papers with captions",
            size=224,
            dim=512,
            mean=_CLIP_MEAN,
            std=_CLIP_STD,
            takes=("folder", "hub"),
            hub="microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
            extra="open-clip",
            requires=("open_clip",),
        ),
        "densenet121": EncoderRow(
            builder="firstpick.encoders.timm:densenet121",
            description="DenseNet-121 of ImageNet, as in Yuan & Hong",
            paper="arXiv 1608.06993, 2402.02561",
            licence="BSD-3-Clause",
            trained_on="ImageNet, supervised",
            size=224,
            dim=1024,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            takes=("folder", "hub"),
            hub="timm/densenet121.tv_in1k",
            extra="timm",
            requires=("timm",),
        ),
        "txrv": EncoderRow(
            builder="firstpick.encoders.txrv:build",
            description="TorchXRayVision DenseNet-121 for chest X-rays, as in Yuan & Hong",
            paper="arXiv 2111.00595, 2402.02561",
            licence="Apache-2.0",
            trained_on="seven sets of chest X-rays, 18 findings",
            modalities="CR, DX",
            size=224,
            dim=1024,
            mean=(0.5,),  # from [0, 1] to [-1024, 1024]
            std=(1 / 2048,),
            takes=("file",),
            extra="txrv",
            requires=("torchxrayvision",),
        ),
        "cxr-foundation": EncoderRow(
            builder="firstpick.encoders.saved_model:cxr_foundation",
            description="CXR Foundation, ELIXR-C, as in Yuan & Hong",
            paper="arXiv 2308.01317, 2402.02561",
            licence="HAI-DEF terms (gated)",
            trained_on="821,544 chest X-rays with reports",
            modalities="CR, DX",
            size=1024,
            dim=1376,
            takes=("folder",),
            extra="tensorflow",
            requires=("tensorflow",),
        ),
        "remedis": EncoderRow(
            builder="firstpick.encoders.saved_model:remedis",
            description="REMEDIS ResNet-50x1 for chest X-rays, as in Yuan & Hong",
            paper="arXiv 2205.09723, 2402.02561",
            licence="by agreement with PhysioNet",
            trained_on="natural images, then chest X-rays, self-supervised",
            modalities="CR, DX",
            size=448,
            dim=2048,
            takes=("folder",),
            extra="tensorflow",
            requires=("tensorflow",),
        ),
    }
)
"""Encoders with a name of their own."""

HUB_FAMILIES: Mapping[str, EncoderRow] = MappingProxyType(
    {
        "hf": EncoderRow(
            builder="firstpick.encoders.hf:build",
            description="A vision model of the transformers library, or the vision part of one that also reads.",
            licence="its own",
            trained_on="its own",
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            layer="last",
            tokens="patch",
            takes=("folder", "hub"),
            extra="hf",
            requires=("transformers",),
            usage="hf:REPO_OR_DIR",
        ),
        "open_clip": EncoderRow(
            builder="firstpick.encoders.open_clip:build",
            description="A vision tower of open_clip.",
            licence="its own",
            trained_on="its own",
            mean=_CLIP_MEAN,
            std=_CLIP_STD,
            takes=("folder", "hub"),
            extra="open-clip",
            requires=("open_clip",),
            usage="open_clip:NAME",
        ),
        "timm": EncoderRow(
            builder="firstpick.encoders.timm:build",
            description="A network of timm, without its classifier.",
            licence="its own",
            trained_on="its own",
            takes=("folder", "hub"),
            extra="timm",
            requires=("timm",),
            usage="timm:NAME",
        ),
    }
)
"""Encoders named by a prefix and what comes after the colon."""
