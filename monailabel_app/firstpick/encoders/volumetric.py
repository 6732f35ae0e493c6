"""Published 3-D encoders whose networks are MONAI's, and Merlin: self-supervised Swin UNETR, BrainIAC, CT-FM."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from monai.networks.nets.segresnet_ds import SegResEncoder
from monai.networks.nets.swin_unetr import SwinTransformer
from monai.networks.nets.vit import ViT
from torch import Tensor, nn

from firstpick.encoders import EncoderError, EncoderSpec, encoder_row
from firstpick.encoders.astra import LEAST, InflatedResNet
from firstpick.encoders.crops import CropEncoder, CropSpec, Triple
from firstpick.encoders.hub import model_folder, said_in_one_sentence, weights_in
from firstpick.encoders.network import load_into, load_state


class _Swin(nn.Module):
    """The average of the last stage's map, 768 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.network = SwinTransformer(1, 48, (7, 7, 7), (2, 2, 2), (2, 2, 2, 2), (3, 6, 12, 24))

    def forward(self, crops: Tensor) -> Tensor:
        """Map crops (n, x, y, z)."""
        rows: Tensor = self.network(crops[:, None])[-1].mean(dim=(2, 3, 4))
        return rows


class _BrainIAC(nn.Module):
    """The class token of a ViT that sees voxels scaled by the head's own mean and deviation."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.network = ViT(1, (side,) * 3, (16, 16, 16), classification=True)
        del self.network.classification_head

    def forward(self, crops: Tensor) -> Tensor:
        """Map crops (n, x, y, z)."""
        head = crops > 0
        n = head.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)
        mean = crops.sum(dim=(1, 2, 3), keepdim=True) / n
        deviation = (((crops - mean) * head) ** 2).sum(dim=(1, 2, 3), keepdim=True).div(n).sqrt()
        rows: Tensor = self.network((((crops - mean) / deviation.clamp(min=1e-3)) * head)[:, None])[0][:, 0]
        return rows


class _CTFM(nn.Module):
    """The average of the deepest map, 512 numbers; axes run to Superior, Posterior and Left, as in training."""

    def __init__(self, settings: dict[str, object]) -> None:
        super().__init__()
        self.network = SegResEncoder(**settings)  # type: ignore[arg-type]

    def forward(self, crops: Tensor) -> Tensor:
        """Map crops (n, x, y, z)."""
        turned = crops.permute(0, 3, 2, 1).flip(dims=(2, 3))
        rows: Tensor = self.network(turned[:, None])[-1].mean(dim=(2, 3, 4))
        return rows


def swin(spec: EncoderSpec) -> CropEncoder:
    """Swin UNETR's encoder as self-supervised on 5,050 CT volumes (arXiv 2111.14791): ``model_swinvit.pt``."""
    network = _Swin()
    _load(spec, network.network, load_state(_file(spec)), ("module.", "swinViT."))
    return _encoder(spec, network, least=(32, 32, 32), multiple=32)


def brainiac(spec: EncoderSpec) -> CropEncoder:
    """BrainIAC's ViT-B (doi 10.1038/s41593-026-02202-6), for 96 x 96 x 96 voxels of a head."""
    shape = encoder_row(spec.name).shape
    network = _BrainIAC(shape[0])
    _load(spec, network.network, load_state(_file(spec)), ("backbone.",))
    return _encoder(spec, network, least=shape)


def ct_fm(spec: EncoderSpec) -> CropEncoder:
    """CT-FM's encoder (arXiv 2501.09001), from its folder or the hub."""
    folder = model_folder(spec)
    settings: dict[str, object] = {"init_filters": 32, "blocks_down": (1, 2, 2, 4, 4)}
    with said_in_one_sentence(spec, folder):
        if (stated := folder / "config.json").is_file():
            known = ("spatial_dims", "init_filters", "in_channels", "act", "norm", "blocks_down")
            own = json.loads(stated.read_text(encoding="utf-8"))
            settings |= {key: own[key] for key in known if key in own}
        network = _CTFM(settings)
        _load(spec, network.network, load_state(weights_in(folder)), ("encoder.",))
    return _encoder(spec, network, least=(32, 32, 32), multiple=16)


def merlin(spec: EncoderSpec) -> CropEncoder:
    """Merlin's image encoder (arXiv 2406.06512): an inflated ResNet-152."""
    network = InflatedResNet()
    _load(spec, network, load_state(_file(spec)), ("encode_image.i3_resnet.", "i3_resnet."))
    return _encoder(spec, network, least=LEAST)


def _file(spec: EncoderSpec) -> Path:
    if spec.weights:
        return Path(spec.weights)
    row = encoder_row(spec.name)
    msg = f"encoder '{spec.name}' needs key weights: the file with its weights ({row.settings['where']})."
    raise EncoderError(msg)


def _load(spec: EncoderSpec, network: nn.Module, state: dict[str, Tensor], prefixes: tuple[str, ...]) -> None:
    """Load the network's part of a larger file; all of the network has to be there."""
    for prefix in prefixes:
        inside = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        state = inside or state
    wanted = network.state_dict()
    # Older versions of MONAI's transformer have no layers for a second input, newer ones have them and use none.
    idle = {key: torch.zeros_like(value) for key, value in wanted.items() if "cross_attn" in key}
    load_into(network, {**idle, **{key: value for key, value in state.items() if key in wanted}}, name=spec.name)


def _encoder(spec: EncoderSpec, network: nn.Module, *, least: Triple, multiple: int = 1) -> CropEncoder:
    row = encoder_row(spec.name)
    return CropEncoder(spec, network, CropSpec(row.shape, row.spacing_mm, row.window, least, multiple))
