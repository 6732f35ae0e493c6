"""Vision models of the transformers library: ``hf:REPO_OR_DIR``, and the rows named after one."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel
from transformers.utils import logging

from firstpick.encoders import EncoderError, EncoderSpec, encoder_row
from firstpick.encoders.hub import model_folder, said_in_one_sentence
from firstpick.encoders.network import NetworkEncoder
from firstpick.encoders.pictures import Preprocessing, preprocessing

# Tokens before the patches, where it is not one class token and then the registers that the configuration counts.
_N_FIRST = {"deit": 2, "ijepa": 0, "swin": 0, "swinv2": 0}
_FIXED = ("sam_vision_model",)  # positions for one size only


class Tower(nn.Module):
    """What of a model sees pictures; gives tokens (n, n_tokens, dim), or maps (n, dim, height, width)."""

    def __init__(self, network: nn.Module, config: Any) -> None:
        super().__init__()
        self.network = network
        self.kind = str(config.model_type)
        self.n_first = _N_FIRST.get(self.kind, 1 + int(getattr(config, "num_register_tokens", 0)))
        self.patch = config.patch_size if isinstance(getattr(config, "patch_size", None), int) else 0
        self.interpolates = "interpolate_pos_encoding" in inspect.signature(network.forward).parameters
        self.masks = hasattr(config, "mask_ratio")

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures of shape (n, channels, height, width)."""
        options: dict[str, Any] = {}
        if self.interpolates:
            options["interpolate_pos_encoding"] = True
        if self.masks:  # patches are shuffled by this noise, and none is left out
            n_patches = (pictures.shape[-1] // self.patch) ** 2
            options["noise"] = torch.arange(n_patches, device=pictures.device).expand(len(pictures), -1)
        output = self.network(pixel_values=pictures, **options)
        tokens: Tensor = output.last_hidden_state
        if self.kind == "clip_vision_model":  # its own class token goes through this norm, the others do not
            return self.network.post_layernorm(tokens)  # type: ignore[operator, no-any-return]
        if self.kind == "siglip_vision_model" and output.pooler_output is not None:
            return torch.cat([output.pooler_output[:, None], tokens], dim=1)
        return tokens


def build(spec: EncoderSpec) -> NetworkEncoder:
    """Load the vision tower of a model; later layers than the one asked for are not even loaded."""
    folder = model_folder(spec)
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with said_in_one_sentence(spec, folder):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        vision = getattr(config, "vision_config", config)
        _cut(vision, spec)
        if hasattr(vision, "mask_ratio"):
            vision.mask_ratio = 0.0
        tower = Tower(_load(folder, config), vision)
    ready = _sized(spec, preprocessing(encoder_row(spec.name), folder), vision, tower)
    return NetworkEncoder(
        replace(spec, views=replace(spec.views, size=ready.size)), tower, ready, n_first=tower.n_first
    )


def _cut(vision: Any, spec: EncoderSpec) -> None:
    """Leave out the layers after the one that is asked for."""
    if spec.layer == "last":
        return
    n_layers = int(vision.num_hidden_layers)
    if not spec.layer.isdecimal() or not 1 <= int(spec.layer) <= n_layers:
        msg = f"layer must be last or a number from 1 to {n_layers} for encoder '{spec.name}'; got '{spec.layer}'."
        raise EncoderError(msg)
    vision.num_hidden_layers = int(spec.layer)


def _load(folder: Path, config: Any) -> nn.Module:
    """Read the weights, as tensors only, and refuse a file that lacks some of them."""
    model, info = AutoModel.from_pretrained(
        folder,
        config=config,
        local_files_only=True,
        trust_remote_code=False,
        weights_only=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    name = next((name for name in ("vision_model", "vision_encoder") if hasattr(model, name)), "")
    # A pooler on top of the class token is not used; without this check the library fills what is missing at random.
    missing = sorted(key for key in info["missing_keys"] if key.startswith(name) and not key.startswith("pooler."))
    if missing:
        msg = f"it lacks {len(missing)} of the network's weights, such as {missing[0]}"
        raise ValueError(msg)
    network: nn.Module = getattr(model, name) if name else model
    return network


def _sized(spec: EncoderSpec, ready: Preprocessing, vision: Any, tower: Tower) -> Preprocessing:
    """Decide the pictures' size: as configured, else as stated beside the weights, the row's, the network's."""
    own = ready.size or encoder_row(spec.name).size or int(vision.image_size)
    if tower.kind in _FIXED:
        return replace(ready, size=int(vision.image_size))
    size = own if spec.views.size in (0, encoder_row(spec.name).size) else spec.views.size
    if tower.patch and size % tower.patch:
        msg = (
            f"encoder '{spec.name}' sees patches of {tower.patch} pixels: views.size must be a multiple of it; "
            f"got {size}. Take {max(1, round(size / tower.patch)) * tower.patch}."
        )
        raise EncoderError(msg)
    return replace(ready, size=size)
