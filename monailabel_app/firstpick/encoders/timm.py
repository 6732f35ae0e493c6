"""Networks of timm, from a folder or the hub: ``timm:NAME``, and the ImageNet DenseNet-121 of the seed paper."""

from __future__ import annotations

import timm
from torch import nn

from firstpick.encoders import EncoderSpec
from firstpick.encoders.hub import model_folder, said_in_one_sentence
from firstpick.encoders.network import NetworkEncoder
from firstpick.encoders.pictures import Preprocessing


def build(spec: EncoderSpec) -> NetworkEncoder:
    """Load a network without its classifier; size and normalisation are those that its own file states."""
    network, ready = _load(spec)
    return NetworkEncoder(spec, network, ready)


def densenet121(spec: EncoderSpec) -> NetworkEncoder:
    """Torchvision's DenseNet-121 of ImageNet: the average of its last map before the activation (arXiv 2402.02561)."""
    network, ready = _load(spec)
    network.features.norm5.act = nn.Identity()  # type: ignore[union-attr]
    return NetworkEncoder(spec, network, ready)


def _load(spec: EncoderSpec) -> tuple[nn.Module, Preprocessing]:
    folder = model_folder(spec, rename=hub_name)
    with said_in_one_sentence(spec, folder):
        network: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0)
        stated = timm.data.resolve_model_data_config(network)
    return network, Preprocessing(tuple(stated["mean"]), tuple(stated["std"]), int(stated["input_size"][-1]))


def hub_name(name: str) -> str:
    """Where timm keeps the weights that go by a name such as ``vit_small_patch14_dinov2.lvd142m``."""
    if not timm.is_model(name):
        return name
    hub_id: str = timm.get_pretrained_cfg(name).hf_hub_id or name
    return hub_id
