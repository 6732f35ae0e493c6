"""A network as a graph of ONNX Runtime: the same numbers, and torch wherever there can be no graph."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from firstpick.encoders import ENCODERS, EncoderSpec, build_encoder
from firstpick.encoders.graph import OnnxNetwork, on_processor
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
@pytest.mark.skipif(bool(ENCODERS["efficientnet-lite0"].missing()), reason="EfficientNet-Lite0 is not installed")
@pytest.mark.parametrize("size", [56, 64, 224])
def test_lite0_runs_as_a_graph_with_the_rows_of_torch(monkeypatch, size):
    spec = EncoderSpec("efficientnet-lite0", views=ViewSpec(size=size))
    graph = build_encoder(spec)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    plain = build_encoder(spec)
    assert isinstance(graph._network, OnnxNetwork)
    assert not isinstance(plain._network, OnnxNetwork)
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
    graph = on_processor(network, size=SIZE)
    assert isinstance(graph, OnnxNetwork)
    with torch.inference_mode():
        np.testing.assert_allclose(graph(pictures(n)), network(pictures(n)), atol=1e-5)


def test_without_onnx_runtime_the_network_itself_runs(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    network = Halves()
    assert on_processor(network, size=SIZE) is network


@on_a_processor
def test_a_network_that_no_graph_can_be_made_of_runs_itself_and_that_is_said(caplog):
    network = Halves(NotInOnnx())
    assert on_processor(network, size=SIZE) is network
    assert "slower than ONNX Runtime" in caplog.text
