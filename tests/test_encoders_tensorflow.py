"""CXR Foundation and REMEDIS, with SavedModels made on the spot; TensorFlow needs an environment of its own."""

import numpy as np
import pytest

from firstpick.encoders import EncoderError, EncoderSpec, build_encoder
from firstpick.voxels.volumes import Volume

tf = pytest.importorskip("tensorflow", reason="pip install 'firstpick[tensorflow]'")


class Remedis(tf.Module):
    """A map of 2,048 numbers whose average is that of the picture's three channels, repeated."""

    @tf.function(input_signature=[tf.TensorSpec([None, 448, 448, 3], tf.float32)])
    def __call__(self, pictures):
        cells = tf.nn.avg_pool2d(pictures, 32, 32, "VALID")
        return tf.concat([tf.tile(cells, [1, 1, 1, 682]), cells[..., :2]], axis=-1)


class Elixr(tf.Module):
    """Decodes the example as the real model does; says how bright each eighth of the picture is."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="input_example")])
    def serve(self, input_example):
        keys = {
            "image/encoded": tf.io.FixedLenFeature([], tf.string),
            "image/format": tf.io.FixedLenFeature([], tf.string),
        }
        parsed = tf.io.parse_example(input_example, keys)
        tf.debugging.assert_equal(parsed["image/format"], tf.constant(["png"]))
        picture = tf.image.decode_png(parsed["image/encoded"][0], dtype=tf.uint16)
        unit = tf.cast(picture, tf.float32)[None] / 65535
        return {"feature_maps_0": tf.tile(tf.nn.avg_pool2d(unit, 128, 128, "VALID"), [1, 1, 1, 1376])}


def save(folder, name):
    model = Remedis() if name == "remedis" else Elixr()
    tf.saved_model.save(model, str(folder), signatures=None if name == "remedis" else {"serving_default": model.serve})
    return EncoderSpec(name=name, weights=str(folder))


@pytest.mark.parametrize(("name", "side", "dim"), [("remedis", 448, 2048), ("cxr-foundation", 1024, 1376)])
def test_rows_are_the_averaged_map_alone_and_in_a_batch(tmp_path, name, side, dim):
    encoder = build_encoder(save(tmp_path, name))
    picture = Volume(np.linspace(0, 9, 900, dtype=np.float32).reshape(30, 30, 1), (1.0, 1.0, 1.0), is_picture=True)
    parts = encoder.parts(picture)
    assert parts.shape == (1, side, side, 3)
    parts = np.concatenate([parts * scale for scale in np.linspace(0.3, 1, 9, dtype=np.float32)])
    rows = encoder.encode(parts)
    assert (rows.shape, rows.dtype) == ((9, dim), np.float32)
    np.testing.assert_array_equal(encoder.encode(parts), rows)
    np.testing.assert_allclose(np.concatenate([encoder.encode(part[None]) for part in parts]), rows, rtol=1e-5)
    stretched = parts[0].mean() if name == "remedis" else (parts[0] - parts[0].min()).mean() / np.ptp(parts[0])
    np.testing.assert_allclose(rows[0], stretched, rtol=1e-4)


def test_a_folder_of_another_model_and_none_at_all_are_refused(tmp_path):
    save(tmp_path, "remedis")
    with pytest.raises(EncoderError, match="cannot be loaded"):
        build_encoder(EncoderSpec(name="cxr-foundation", weights=str(tmp_path)))
    with pytest.raises(EncoderError, match=r"needs key weights: the folder with its saved_model\.pb.*gated"):
        build_encoder(EncoderSpec(name="cxr-foundation"))
    (tmp_path / "saved_model.pb").write_bytes(b"\x0a\xff")
    with pytest.raises(EncoderError, match="cannot be loaded"):
        build_encoder(EncoderSpec(name="remedis", weights=str(tmp_path)))
