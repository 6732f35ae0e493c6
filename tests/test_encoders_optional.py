"""timm, open_clip and torchxrayvision: each needs torchvision, hence an environment of its own; untrained weights."""

import json

import numpy as np
import pytest
import torch

from firstpick.encoders import EncoderError, EncoderSpec, build_encoder


def library(name, extra):
    return pytest.importorskip(name, reason=f"pip install 'firstpick[{extra}]'")


def pictures(n, side):
    return np.random.default_rng(0).random((n, side, side, 3), dtype=np.float32)


def check_laws(spec, side, dim):
    encoder = build_encoder(spec)
    parts = pictures(8, side)
    rows = encoder.encode(parts)
    assert rows.shape == (8, encoder.dim) == (8, dim)
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    assert rows.std(axis=0).max() > 0
    np.testing.assert_allclose(build_encoder(spec).encode(parts[:2]), rows[:2], rtol=1e-3, atol=1e-5)
    singles = np.concatenate([encoder.encode(part[None]) for part in parts])
    cosines = (singles * rows).sum(axis=1) / np.linalg.norm(singles, axis=1) / np.linalg.norm(rows, axis=1)
    assert cosines.min() > 0.99999
    return encoder


def assert_same_direction(rows, expected):
    rows, expected = np.asarray(rows), np.asarray(expected)
    cosines = (rows * expected).sum(axis=1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() > 0.999


def save_timm(name, folder, **arguments):
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, **arguments).eval()
    timm.models.save_for_hf(model, folder, model_args=arguments, safe_serialization=True)
    return model


def test_timm_sees_pictures_as_its_own_transform_makes_them(tmp_path):
    timm = library("timm", "timm")
    from PIL import Image

    model = save_timm("vit_tiny_patch16_224", tmp_path, img_size=32, num_classes=5)
    encoder = check_laws(EncoderSpec(name=f"timm:{tmp_path}"), 32, 192)
    stated = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**{**stated, "input_size": 32, "crop_pct": 1.0}, is_training=False)
    grey_levels = np.rint(pictures(1, 32)[0] * 255).astype(np.uint8)
    theirs = transform(Image.fromarray(grey_levels))[None]
    ours = (grey_levels / 255).astype(np.float32)[None]
    np.testing.assert_allclose(encoder.prepare(ours), theirs, atol=1e-3)
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(theirs), pre_logits=True)
    assert_same_direction(encoder.encode(ours), expected)


def test_the_papers_densenet_is_torchvisions_features_averaged(tmp_path):
    library("timm", "timm")
    import torchvision

    model = save_timm("densenet121", tmp_path)
    theirs = torchvision.models.densenet121(weights=None).eval()
    theirs.load_state_dict(model.state_dict())
    encoder = check_laws(EncoderSpec(name="densenet121", weights=str(tmp_path)), 224, 1024)
    parts = pictures(2, 224)
    with torch.inference_mode():
        expected = theirs.features(encoder.prepare(parts)).mean(dim=(2, 3))
    np.testing.assert_allclose(encoder.encode(parts), expected, rtol=1e-3, atol=1e-4)
    assert expected.min() < 0


def test_timms_own_names_stand_for_its_repositories(tmp_path, monkeypatch):
    library("timm", "timm")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EncoderError, match=r"'timm/densenet121\.tv_in1k' cannot be had: the hub cannot be reached"):
        build_encoder(EncoderSpec(name="timm:densenet121.tv_in1k"))


VISION = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32}
TEXT = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
PICTURES = {"mean": [0.4, 0.5, 0.6], "std": [0.3, 0.2, 0.1], "interpolation": "bicubic", "resize_mode": "squash"}


def save_open_clip(folder, vision=VISION, **text):
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    cfg = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": {**TEXT, **text}}
    cfg["custom_text"] = "timm_model_name" in vision
    config = json.dumps({"model_cfg": cfg, "preprocess_cfg": PICTURES})
    (folder / "open_clip_config.json").write_text(config, encoding="utf-8")
    kind = open_clip.CustomTextCLIP if "timm_model_name" in vision else open_clip.CLIP
    model = kind(24, open_clip.CLIPVisionCfg(**vision), open_clip.CLIPTextCfg(**TEXT)).eval()
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return model


@pytest.mark.parametrize(
    "vision",
    [VISION, {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "", "image_size": 224}],
    ids=["own", "timm"],
)
def test_open_clip_gives_what_the_whole_model_gives(tmp_path, vision):
    open_clip = library("open_clip", "open-clip")
    from PIL import Image

    model = save_open_clip(tmp_path, vision)
    side = vision["image_size"]
    encoder = check_laws(EncoderSpec(name=f"open_clip:{tmp_path}"), side, 24)
    whole, transform = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path}")
    grey_levels = np.rint(pictures(1, side)[0] * 255).astype(np.uint8)
    theirs = transform(Image.fromarray(grey_levels))[None]
    ours = (grey_levels / 255).astype(np.float32)[None]
    np.testing.assert_allclose(encoder.prepare(ours), theirs, atol=1e-3)
    with torch.inference_mode():
        expected = whole.eval().encode_image(theirs)
        np.testing.assert_allclose(expected, model.encode_image(theirs), atol=1e-5)
    assert_same_direction(encoder.encode(ours), expected)


def test_biomedclips_text_model_is_not_asked_for(tmp_path):
    """Its configuration names a text model of another repository, which is not there."""
    library("open_clip", "open-clip")
    save_open_clip(tmp_path, hf_model_name="owner/text", hf_tokenizer_name="owner/text")
    check_laws(EncoderSpec(name="biomedclip", weights=str(tmp_path)), 32, 24)


def test_open_clips_own_names_stand_for_its_repositories(tmp_path, monkeypatch):
    library("open_clip", "open-clip")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EncoderError, match="'laion/CLIP-ViT-B-32-laion2B-s34B-b79K' cannot be had"):
        build_encoder(EncoderSpec(name="open_clip:ViT-B-32/laion2b_s34b_b79k"))


def test_a_tower_of_another_shape_is_refused(tmp_path):
    library("open_clip", "open-clip")
    save_open_clip(tmp_path)
    config = json.loads((tmp_path / "open_clip_config.json").read_text(encoding="utf-8"))
    config["model_cfg"]["vision_cfg"]["layers"] = 3
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(EncoderError, match="are those of another network"):
        build_encoder(EncoderSpec(name=f"open_clip:{tmp_path}"))


@pytest.mark.parametrize("whole", [True, False], ids=["the library's pickled network", "a state dict"])
def test_torchxrayvision_sees_what_its_own_normalize_makes(tmp_path, whole):
    xrv = library("torchxrayvision", "txrv")
    torch.manual_seed(0)
    network = xrv.models.DenseNet().eval()
    file = tmp_path / "weights.pt"
    torch.save(network if whole else network.state_dict(), file)
    encoder = check_laws(EncoderSpec(name="txrv", weights=str(file)), 224, 1024)
    grey_levels = np.repeat(np.rint(pictures(1, 224)[..., :1] * 255), 3, axis=-1)
    theirs = xrv.utils.normalize(grey_levels[..., 0], 255)[:, None]
    ours = (grey_levels / 255).astype(np.float32)
    assert (theirs.min(), theirs.max()) == (-1024, 1024)
    np.testing.assert_allclose(encoder.prepare(ours), theirs, atol=1e-3)
    with torch.inference_mode():
        expected = network.features2(torch.from_numpy(theirs))
    assert_same_direction(encoder.encode(ours), expected)


def test_nothing_but_the_networks_own_classes_is_read_from_torchxrayvisions_file(tmp_path):
    xrv = library("torchxrayvision", "txrv")
    trace = tmp_path / "trace"

    class Trap:
        def __reduce__(self):
            import os

            return os.mkdir, (str(trace),)

    network = xrv.models.DenseNet()
    network.trap = Trap()
    torch.save(network, tmp_path / "weights.pt")
    with pytest.raises(EncoderError, match="refused"):
        build_encoder(EncoderSpec(name="txrv", weights=str(tmp_path / "weights.pt")))
    assert not trace.exists()


def test_where_to_get_torchxrayvisions_weights_is_said(tmp_path, monkeypatch):
    library("torchxrayvision", "txrv")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(EncoderError, match=r"Fetch https://.*\.pt and give the file as key weights"):
        build_encoder(EncoderSpec(name="txrv"))
