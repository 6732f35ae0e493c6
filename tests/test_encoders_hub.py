"""Models of the transformers library: tiny untrained ones in a folder, read by the code that reads the real ones."""

import dataclasses
import http.server
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from firstpick.encoders import ENCODERS, EncoderError, EncoderSpec, build_encoder
from firstpick.voxels.views import ViewSpec

transformers = pytest.importorskip("transformers", reason="pip install 'firstpick[hf]'")

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 28,
    "patch_size": 14,
}
WORDS = {"text_config": {**SMALL, "vocab_size": 64, "max_position_embeddings": 8}}
SAM = {**SMALL, "image_size": 64, "patch_size": 16, "output_channels": 16, "mlp_dim": 64, "global_attn_indexes": [1]}
ROPE = {**SMALL, "patch_size": 7, "num_register_tokens": 4}
MASKED = {"decoder_num_hidden_layers": 1, "decoder_hidden_size": 32, "decoder_num_attention_heads": 2}
MODELS = {
    "dinov2": lambda t: t.Dinov2Model(t.Dinov2Config(**SMALL)),
    "registers": lambda t: t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**SMALL, num_register_tokens=4)),
    "dinov3": lambda t: t.DINOv3ViTModel(t.DINOv3ViTConfig(**ROPE)),
    "clip": lambda t: t.CLIPModel(t.CLIPConfig(vision_config=SMALL, **WORDS)),
    "siglip": lambda t: t.SiglipModel(t.SiglipConfig(vision_config=SMALL, **WORDS)),
    "sam": lambda t: t.SamModel(t.SamConfig(vision_config=SAM)),
    "ijepa": lambda t: t.IJepaModel(t.IJepaConfig(**SMALL)),
    "mae": lambda t: t.ViTMAEForPreTraining(t.ViTMAEConfig(**SMALL, **MASKED)),
    "vit": lambda t: t.ViTForImageClassification(t.ViTConfig(**SMALL)),
}
PROCESSORS = {
    "dinov2": ("BitImageProcessor", {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}),
    "clip": ("CLIPImageProcessor", {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}),
    "siglip": ("SiglipImageProcessor", {"size": {"height": 28, "width": 28}}),
    "sam": ("SamImageProcessor", {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}}),
    "vit": ("ViTImageProcessor", {"size": {"height": 28, "width": 28}}),
}
MEAN, STD = [0.5307, 0.5, 0.4], [0.2583, 0.3, 0.2]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Each kind of model, saved once, without a word about pictures."""
    root = tmp_path_factory.mktemp("models")
    for kind, make in MODELS.items():
        torch.manual_seed(0)
        model = make(transformers)
        for parameter in model.parameters():  # initial values leave layers idle: zeros, and scales of 1e-5
            torch.nn.init.normal_(parameter, std=0.1)
        model.save_pretrained(root / kind)
    return root


def spec(folder, **changes):
    return EncoderSpec(name=f"hf:{folder}", **changes)


def pictures(n, side):
    return np.random.default_rng(0).random((n, side, side, 3), dtype=np.float32)


def write_processor(folder, kind, **changes):
    name, sizes = PROCESSORS[kind]
    stated = {"image_processor_type": name, "do_normalize": True, "do_rescale": True, "rescale_factor": 1 / 255}
    stated |= {"do_resize": True, "do_center_crop": "crop_size" in sizes, "image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps({**stated, **sizes, **changes}), encoding="utf-8")


def copy(folders, kind, tmp_path):
    import shutil

    return shutil.copytree(folders / kind, tmp_path / kind)


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_rows_are_finite_repeatable_and_the_same_alone_and_in_a_batch(folders, kind):
    encoder = build_encoder(spec(folders / kind))
    parts = pictures(8, 64 if kind == "sam" else 28)
    rows = encoder.encode(parts)
    assert rows.shape == (8, encoder.dim) == (8, 16 if kind == "sam" else 32)
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    assert rows.std(axis=0).min() > 0
    np.testing.assert_array_equal(encoder.encode(parts), rows)
    np.testing.assert_array_equal(build_encoder(spec(folders / kind)).encode(parts), rows)
    for part, row in zip(parts, rows, strict=True):
        np.testing.assert_allclose(encoder.encode(part[None])[0], row, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(PROCESSORS))
def test_pictures_and_rows_are_those_of_the_models_own_processor(folders, kind, tmp_path):
    folder = copy(folders, kind, tmp_path)
    write_processor(folder, kind)
    side = 64 if kind == "sam" else 28
    grey_levels = np.rint(pictures(2, side) * 255).astype(np.uint8)
    theirs = transformers.AutoImageProcessor.from_pretrained(folder)(images=list(grey_levels), return_tensors="pt")
    encoder = build_encoder(spec(folder))
    parts = (grey_levels / 255).astype(np.float32)
    np.testing.assert_allclose(encoder.prepare(parts), theirs["pixel_values"], atol=1e-3)

    model = transformers.AutoModel.from_pretrained(folder).eval()
    tower = getattr(model, "vision_encoder", getattr(model, "vision_model", model))
    with torch.inference_mode():
        output = tower(pixel_values=theirs["pixel_values"])
    tokens = output.last_hidden_state
    expected = {
        "sam": lambda: tokens.mean(dim=(2, 3)),
        "siglip": lambda: tokens.mean(dim=1),
        "clip": lambda: tower.post_layernorm(tokens[:, 1:]).mean(dim=1),
    }.get(kind, lambda: tokens[:, 1:].mean(dim=1))
    with torch.inference_mode():
        rows = expected().numpy()
    cosines = (encoder.encode(parts) * rows).sum(axis=1)
    cosines /= np.linalg.norm(encoder.encode(parts), axis=1) * np.linalg.norm(rows, axis=1)
    assert cosines.min() > 0.999
    np.testing.assert_allclose(encoder.encode(parts), rows, rtol=1e-3, atol=1e-4)
    if kind in ("dinov2", "clip", "siglip"):
        np.testing.assert_allclose(
            build_encoder(spec(folder, tokens="class")).encode(parts), output.pooler_output, rtol=1e-3, atol=1e-4
        )


def test_registers_are_neither_class_token_nor_patches(folders):
    for kind in ("registers", "dinov3"):
        model = transformers.AutoModel.from_pretrained(folders / kind).eval()
        encoder = build_encoder(spec(folders / kind, tokens="both"))
        parts = pictures(2, 28)
        with torch.inference_mode():
            tokens = model(pixel_values=encoder.prepare(parts)).last_hidden_state
        assert tokens.shape[1] == 1 + 4 + (4 if kind == "registers" else 16)
        expected = torch.cat([tokens[:, 0], tokens[:, 5:].mean(dim=1)], dim=1)
        np.testing.assert_allclose(encoder.encode(parts), expected, rtol=1e-4, atol=1e-5)


def test_no_patch_is_left_out_of_a_masked_autoencoder(folders):
    parts = pictures(1, 28)
    encoder = build_encoder(spec(folders / "mae"))
    rows = encoder.encode(parts)
    for top, left in ((0, 0), (0, 14), (14, 0), (14, 14)):
        changed = parts.copy()
        changed[:, top : top + 14, left : left + 14] = 0
        assert np.abs(encoder.encode(changed) - rows).max() > 1e-3


def test_an_earlier_layer_is_that_layer_through_the_last_norm(folders):
    model = transformers.AutoModel.from_pretrained(folders / "dinov2").eval()
    encoder = build_encoder(spec(folders / "dinov2", layer="2"))
    parts = pictures(2, 28)
    with torch.inference_mode():
        hidden = model(pixel_values=encoder.prepare(parts), output_hidden_states=True).hidden_states
        expected = model.layernorm(hidden[2])[:, 1:].mean(dim=1)
    np.testing.assert_allclose(encoder.encode(parts), expected, rtol=1e-4, atol=1e-5)


def test_other_sizes_are_interpolated_and_patches_have_to_fit(folders):
    for kind in ("dinov2", "clip", "siglip", "ijepa", "mae", "vit"):
        encoder = build_encoder(spec(folders / kind, views=ViewSpec(size=56)))
        assert np.isfinite(encoder.encode(pictures(1, 56))).all()
    with pytest.raises(EncoderError, match=r"must be a multiple of it; got 50\. Take 56\."):
        build_encoder(spec(folders / "dinov2", views=ViewSpec(size=50)))


def test_a_file_beside_the_weights_wins_over_the_named_row(folders, tmp_path):
    folder = copy(folders, "dinov2", tmp_path)
    plain = build_encoder(EncoderSpec(name="rad-dino", weights=str(folder)))
    write_processor(folder, "dinov2", rescale_factor=1 / 127.5)
    stated = build_encoder(EncoderSpec(name="rad-dino", weights=str(folder)))
    large, small = pictures(1, 518), pictures(1, 28)
    np.testing.assert_allclose(plain.prepare(large)[0, 0, 3, 5], (large[0, 3, 5, 0] - 0.5307) / 0.2583, rtol=1e-5)
    expected = (2 * small[0, 3, 5, 1] - MEAN[1]) / STD[1]
    np.testing.assert_allclose(stated.prepare(small)[0, 1, 3, 5], expected, rtol=1e-5)
    sizes = [encoder.parts(volume()).shape[1] for encoder in (plain, stated)]
    assert sizes == [518, 28]


def volume():
    from firstpick.voxels.volumes import Volume

    return Volume(np.eye(30, dtype=np.float32)[..., None], (1.0, 1.0, 1.0), is_picture=True, modality="", notes=())


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_without_a_file_is_refused_in_a_sentence(folders, missing, tmp_path):
    folder = copy(folders, "dinov2", tmp_path)
    (folder / missing).unlink()
    with pytest.raises(EncoderError, match=r"the model in '.*dinov2' cannot be loaded"):
        build_encoder(spec(folder))


def test_truncated_weights_are_refused(folders, tmp_path):
    folder = copy(folders, "dinov2", tmp_path)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(EncoderError, match=r"cannot be loaded \(SafetensorError"):
        build_encoder(spec(folder))


def test_weights_that_lack_a_layer_are_refused_and_not_filled_at_random(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = copy(folders, "dinov2", tmp_path)
    state = load_file(folder / "model.safetensors")
    kept = {key: value for key, value in state.items() if "layer.1." not in key and ".1.norm" not in key}
    assert len(kept) < len(state)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(EncoderError, match=r"it lacks .* of the network's weights, such as"):
        build_encoder(spec(folder))


def test_a_pickle_that_runs_code_is_refused(folders, tmp_path):
    folder, trace = copy(folders, "dinov2", tmp_path), tmp_path / "trace"
    (folder / "model.safetensors").unlink()

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(trace),)

    torch.save({"embeddings.cls_token": Trap()}, folder / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="cannot be loaded"):
        build_encoder(spec(folder))
    assert not trace.exists()


def test_layers_and_tokens_that_are_not_there_are_refused(folders):
    with pytest.raises(EncoderError, match=r"layer must be last or a number from 1 to 3 .*; got '4'"):
        build_encoder(spec(folders / "dinov2", layer="4"))
    with pytest.raises(EncoderError, match="no class token; key tokens must be patch"):
        build_encoder(spec(folders / "ijepa", tokens="class"))
    with pytest.raises(EncoderError, match="is neither a folder with a model nor a hub id"):
        build_encoder(spec("no/such/folder"))


LOOK = """
import sys
from firstpick.encoders import EncoderError, EncoderSpec, build_encoder
try:
    build_encoder(EncoderSpec(name="hf:owner/model"))
except EncoderError as error:
    print(error)
"""


def said(tmp_path, **environment):
    """What a fresh process says of a repository; its cache is empty."""
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1", **environment}
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True, env=environment)
    return done.stdout


def test_without_a_network_the_folder_is_asked_for(tmp_path):
    assert "the hub cannot be reached and the files are not in its cache" in said(tmp_path, HF_HUB_OFFLINE="1")


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (403, "GatedRepo", "its owner asks for an agreement. Accept it at https://huggingface.co/owner/model"),
        (404, "RepoNotFound", "neither a folder here nor a repository of that name"),
    ],
)
def test_what_the_hub_refuses_is_said_with_what_to_do(tmp_path, status, code, sentence):
    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_):
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{hub.server_port}"
        try:
            assert sentence in said(tmp_path, HF_ENDPOINT=address, HF_HUB_OFFLINE="0", NO_PROXY="127.0.0.1")
        finally:
            hub.shutdown()


FULL = {
    "dinov2-vits14": lambda t: t.Dinov2Config(hidden_size=384, num_attention_heads=6, patch_size=14),
    "dinov3-vits16": lambda t: t.DINOv3ViTConfig(),
    "sam-b": lambda t: t.SamConfig().vision_config,
    "medsam": lambda t: t.SamConfig().vision_config,
    "siglip-b16": lambda t: t.SiglipConfig().vision_config,
    "clip-b32": lambda t: t.CLIPConfig().vision_config,
    "mae-b16": lambda t: t.ViTMAEConfig(),
}


@pytest.mark.parametrize("name", sorted(FULL))
def test_named_rows_agree_with_the_librarys_own_configuration(name):
    config, row = FULL[name](transformers), ENCODERS[name]
    assert row.dim == getattr(config, "output_channels", config.hidden_size)
    assert row.size == config.image_size
    assert row.size % config.patch_size == 0


def test_normalisation_of_named_rows_is_the_librarys():
    from transformers.image_utils import (
        IMAGENET_DEFAULT_MEAN,
        IMAGENET_STANDARD_MEAN,
        OPENAI_CLIP_MEAN,
        OPENAI_CLIP_STD,
    )

    assert list(ENCODERS["clip-l14"].mean) == OPENAI_CLIP_MEAN
    assert list(ENCODERS["clip-l14"].std) == OPENAI_CLIP_STD
    assert list(ENCODERS["sam-b"].mean) == IMAGENET_DEFAULT_MEAN
    assert list(ENCODERS["medsiglip"].mean) == IMAGENET_STANDARD_MEAN


def test_another_row_size_layer_and_token_is_another_recipe(folders):
    own = spec(folders / "dinov2")
    changes = [{"tokens": "class"}, {"layer": "2"}, {"views": ViewSpec(size=56)}]
    prints = {dataclasses.replace(own, **change).fingerprint() for change in [{}, *changes]}
    assert len(prints) == 4


def test_changed_weights_are_another_recipe(folders, tmp_path):
    folder = copy(folders, "dinov2", tmp_path)
    before = spec(folder).fingerprint()
    write_processor(folder, "dinov2")
    assert spec(folder).fingerprint() != before
