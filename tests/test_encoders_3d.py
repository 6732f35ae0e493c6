"""3-D encoders: untrained networks of the published kinds, saved under the names that their files use."""

import json

import numpy as np
import pytest
import torch

from firstpick.encoders import EncoderError, EncoderSpec, build_encoder
from firstpick.voxels.volumes import Volume

pytest.importorskip("monai", reason="pip install 'firstpick[3d]'")


def network_of(name):
    from firstpick.encoders import volumetric

    torch.manual_seed(0)
    kinds = {
        "swin-ssl": lambda: volumetric._Swin().network,
        "brainiac": lambda: volumetric._BrainIAC(96).network,
        "ct-fm": lambda: volumetric._CTFM({"init_filters": 32, "blocks_down": (1, 2, 2, 4, 4)}).network,
    }
    return kinds[name]()


PREFIXES = {"swin-ssl": "module.", "brainiac": "backbone.", "ct-fm": ""}


def save(name, folder):
    """Save the weights with what else such a file holds."""
    network = network_of(name)
    state = {PREFIXES[name] + key: value for key, value in network.state_dict().items() if "cross_attn" not in key}
    state[PREFIXES[name] + "head.weight"] = torch.zeros(2)
    torch.save({"state_dict": state}, folder / "weights.pt")
    return EncoderSpec(name=name, weights=str(folder if name == "ct-fm" else folder / "weights.pt"))


def ct(shape=(40, 48, 20), seed=0):
    array = np.full(shape, -1000, np.float32)
    body = array[5:-5, 5:-5, 3:-3]
    body[:] = np.random.default_rng(seed).normal(40, 60, body.shape)
    return Volume(array, (3.0, 3.0, 4.0), modality="CT")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dim"), [("swin-ssl", 768), ("brainiac", 768), ("ct-fm", 512)])
def test_rows_are_finite_repeatable_and_the_same_alone_and_in_a_batch(tmp_path, name, dim):
    encoder = build_encoder(save(name, tmp_path))
    parts = np.concatenate([encoder.parts(ct(seed=seed)) for seed in range(2)])
    rows = encoder.encode(parts)
    assert (rows.shape, rows.dtype, encoder.dim) == ((2, dim), np.float32, dim)
    assert np.isfinite(rows).all()
    assert np.abs(rows[0] - rows[1]).max() > 1e-4
    np.testing.assert_array_equal(encoder.encode(parts), rows)
    np.testing.assert_allclose(encoder.encode(parts[1:])[0], rows[1], rtol=1e-4, atol=1e-5)
    empty = Volume(np.zeros((1, 1, 1), np.float32), (1.0, 1.0, 1.0))
    assert np.isfinite(encoder.encode(encoder.parts(empty))).all()


def test_a_crop_has_the_networks_spacing_and_fits_its_strides(tmp_path):
    encoder = build_encoder(save("swin-ssl", tmp_path))
    assert encoder.parts(ct()).shape == (1, 64, 96, 32)  # body 90 x 114 x 56 mm: 60 x 76 x 28 voxels
    assert encoder.parts(ct((200, 200, 100))).shape == (1, 96, 96, 96)
    part = encoder.parts(ct())
    assert (part.min(), part[0, 32, 48, 16]) == (0, pytest.approx(0.52, abs=0.15))


def test_ct_fm_sees_axes_to_superior_posterior_left(tmp_path):
    encoder = build_encoder(save("ct-fm", tmp_path))
    part = np.zeros((1, 32, 48, 64), np.float32)
    part[0, 31, 47, 63] = 1  # Right, Anterior, Superior
    seen = []
    encoder._network.network.conv_init.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    encoder.encode(part)
    assert seen[0].shape == (1, 1, 64, 48, 32)
    assert seen[0][0, 0, 63, 0, 0] == 1


def test_merlins_and_astras_networks_are_one(tmp_path):
    from firstpick.encoders.astra import InflatedResNet

    torch.manual_seed(0)
    network = InflatedResNet().half()
    state = {f"encode_image.i3_resnet.{key}": value for key, value in network.state_dict().items()}
    torch.save(state | {"encode_text.weight": torch.zeros(1)}, tmp_path / "merlin.pt")
    encoder = build_encoder(EncoderSpec(name="merlin", weights=str(tmp_path / "merlin.pt")))
    assert encoder.encode(np.zeros((1, 32, 32, 16), np.float32)).shape == (1, 2048)


def test_weights_of_another_network_and_none_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.pt")
    with pytest.raises(EncoderError, match="are those of another network"):
        build_encoder(EncoderSpec(name="swin-ssl", weights=str(tmp_path / "weights.pt")))
    with pytest.raises(EncoderError, match=r"needs key weights: the file .*stanfordmimi/Merlin"):
        build_encoder(EncoderSpec(name="merlin"))


UNET = {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": "@n_classes"}
UNET |= {"channels": [4, 8, 16], "strides": [2, 2]}
STEPS = [
    {"_target_": "Spacingd", "keys": "image", "pixdim": "@pixdim"},
    {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -57, "a_max": 164},
]


def bundle(folder, **changes):
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    (folder / "configs").mkdir()
    (folder / "models").mkdir()
    stated = {"n_classes": 2, "pixdim": [2, 2, 3], "network_def": UNET, "preprocessing": {"transforms": STEPS}}
    (folder / "configs" / "inference.json").write_text(json.dumps({**stated, **changes}), encoding="utf-8")
    network = UNet(3, 1, 2, (4, 8, 16), (2, 2))
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return network.eval()


def test_a_bundles_deepest_map_is_averaged(tmp_path):
    network = bundle(tmp_path)
    encoder = build_encoder(EncoderSpec(name=f"monai:{tmp_path}"))
    part = encoder.parts(ct())
    assert part.shape == (1, 64, 64, 32)  # 90 x 114 x 56 mm at 2 x 2 x 3 mm, up to a multiple of 32
    with torch.inference_mode():
        down = network.model[0](torch.from_numpy(part)[:, None])
        inner = network.model[1].submodule
        deepest = inner[1](inner[0](down))  # with its skip connection: as small as what it skips
    assert deepest.shape == (1, 8 + 16, 16, 16, 8)
    np.testing.assert_allclose(encoder.encode(part), deepest.mean(dim=(2, 3, 4)), rtol=1e-4, atol=1e-6)
    named = build_encoder(EncoderSpec(name=f"monai:{tmp_path}", layer="model.0"))
    np.testing.assert_allclose(named.encode(part), down.mean(dim=(2, 3, 4)), rtol=1e-4, atol=1e-6)
    with pytest.raises(EncoderError, match=r"layer 'neck' is not one of the network's. Choose deepest or one of model"):
        build_encoder(EncoderSpec(name=f"monai:{tmp_path}", layer="neck"))


@pytest.mark.parametrize(
    ("definition", "reason"),
    [("$__import__('os').mkdir('trace')", "defined by an expression"), ({"_target_": "os.mkdir"}, "AttributeError")],
)
def test_a_bundles_code_is_not_run(tmp_path, monkeypatch, definition, reason):
    monkeypatch.chdir(tmp_path)
    bundle(tmp_path, network_def=definition)
    with pytest.raises(EncoderError, match=reason):
        build_encoder(EncoderSpec(name=f"monai:{tmp_path}"))
    assert not (tmp_path / "trace").exists()
