"""A network as a graph of ONNX Runtime: the same numbers, and torch wherever there can be no graph."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from firstpick.encoders import ENCODERS, EncoderError, EncoderSpec, build_encoder
from firstpick.encoders.dinov2 import graph_up_to
from firstpick.encoders.graph import GraphEncoder, as_graph
from firstpick.encoders.network import NetworkEncoder
from firstpick.voxels.views import ViewSpec

pytestmark = pytest.mark.slow  # graphs of real weights

SIZE = 64
on_a_processor = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU runs torch")


class Halves(nn.Module):
    """Convolution and average, with whatever comes between."""

    def __init__(self, between=None):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, stride=2)
        self.between = between or nn.ReLU()

    def forward(self, pictures):
        return self.between(self.convolution(pictures)).mean(dim=(2, 3))


class NotInOnnx(nn.Module):
    def forward(self, maps):
        return torch.special.bessel_j0(maps)


def pictures(n, size=SIZE):
    return torch.from_numpy(np.random.default_rng(n).random((n, 3, size, size), dtype=np.float32))


@on_a_processor
@pytest.mark.parametrize(
    ("name", "size", "choices"),
    [
        ("efficientnet-lite0", 56, {}),
        ("efficientnet-lite0", 224, {}),
        ("dinov2-s", 56, {}),
        ("dinov2-s", 112, {"tokens": "both"}),
        ("dinov2-s", 112, {"layer": "12", "tokens": "class"}),
        ("dinov2-s", 224, {"layer": "2"}),
    ],
)
def test_a_built_in_encoder_runs_as_a_graph_with_the_rows_of_torch(monkeypatch, name, size, choices):
    if ENCODERS[name].missing():
        pytest.skip(f"{name} is not installed")
    spec = EncoderSpec(name, views=ViewSpec(size=size), **choices)
    graph = build_encoder(spec)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    plain = build_encoder(spec)
    assert isinstance(graph, GraphEncoder)
    assert isinstance(plain, NetworkEncoder)
    views = np.random.default_rng(0).random((5, size, size, 3), dtype=np.float32)
    rows, expected = graph.encode(views), plain.encode(views)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(expected, axis=1)
    assert ((rows * expected).sum(axis=1) / lengths).min() > 0.99999
    np.testing.assert_allclose(rows, expected, atol=1e-4)
    np.testing.assert_allclose(graph.patch_rows(views), plain.patch_rows(views), atol=1e-3)


@on_a_processor
@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_graph_takes_any_number_of_pictures(n):
    network = Halves()
    graph = as_graph(network, size=SIZE)
    with torch.inference_mode():
        np.testing.assert_allclose(graph(pictures(n).numpy()), network(pictures(n)), atol=1e-5)


def test_without_onnx_runtime_there_is_no_graph(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert as_graph(Halves(), size=SIZE) is None


@on_a_processor
def test_where_no_graph_can_be_made_that_is_said(caplog):
    assert as_graph(Halves(NotInOnnx()), size=SIZE) is None
    assert "slower than ONNX Runtime" in caplog.text


def test_a_graph_of_another_network_is_refused(tmp_path):
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])), tmp_path / "other.onnx")
    with pytest.raises(EncoderError, match=r"'other\.onnx' is not the expected network"):
        graph_up_to(tmp_path / "other.onnx", 1)


@on_a_processor
def test_a_process_embeds_with_the_default_encoder_without_importing_torch():
    code = """
import sys
import numpy as np
from firstpick.embedding.chunk import embed_chunk
from firstpick.encoders import EncoderSpec, build_encoder
from firstpick.encoders.ready import gpus_for
assert not gpus_for(EncoderSpec())
assert build_encoder(EncoderSpec()).encode(np.zeros((1, 112, 112, 3), np.float32)).shape == (1, 384)
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
