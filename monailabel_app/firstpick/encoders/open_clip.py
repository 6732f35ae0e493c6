"""Vision towers of open_clip, from a folder or the hub: ``open_clip:NAME``, and BiomedCLIP."""

from __future__ import annotations

import json

import open_clip
from open_clip.model import _build_vision_tower

from firstpick.encoders import EncoderSpec, encoder_row
from firstpick.encoders.hub import model_folder, said_in_one_sentence, weights_in
from firstpick.encoders.network import NetworkEncoder, load_into, load_state
from firstpick.encoders.pictures import Preprocessing


def build(spec: EncoderSpec) -> NetworkEncoder:
    """Load the vision tower alone; its output is the vector that is compared with texts.

    The library's own loader would make the text model too, which may ask the hub for another repository.
    """
    folder, row = model_folder(spec, rename=hub_name), encoder_row(spec.name)
    with said_in_one_sentence(spec, folder):
        stated = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
        model, pictures = stated["model_cfg"], stated.get("preprocess_cfg", {})
        vision = {**model["vision_cfg"], "timm_model_pretrained": False}
        tower = _build_vision_tower(model["embed_dim"], vision, model.get("quick_gelu", False))
        state = load_state(weights_in(folder))
        prefix = "visual."
        own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        load_into(tower, own, name=spec.name)
        size = vision.get("image_size", row.size)
        side = size if isinstance(size, int) else size[0]
    ready = Preprocessing(tuple(pictures.get("mean", row.mean)), tuple(pictures.get("std", row.std)), side)
    return NetworkEncoder(spec, tower, ready)


def hub_name(name: str) -> str:
    """Where open_clip keeps the weights that go by ``ARCHITECTURE/TAG``, such as ``ViT-B-32/laion2b_s34b_b79k``."""
    architecture, _, tag = name.partition("/")
    stated = open_clip.get_pretrained_cfg(architecture, tag) or {}
    hub_id: str = stated.get("hf_hub", "").strip("/") or name
    return hub_id
