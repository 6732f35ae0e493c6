"""TorchXRayVision's DenseNet-121 for chest X-rays, one of the seed paper's encoders."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchxrayvision.models import DenseNet, model_urls

from firstpick.encoders import EncoderError, EncoderSpec, encoder_row
from firstpick.encoders.network import NetworkEncoder, load_into, load_state
from firstpick.encoders.pictures import preprocessing

_NAME = "densenet121-res224-all"


class _Features(nn.Module):
    """The 1,024 numbers before the classifier."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (n, 1, 224, 224) in [-1024, 1024] to rows (n, 1024)."""
        rows: Tensor = self.network.features2(pictures)  # type: ignore[operator]
        return rows


def build(spec: EncoderSpec) -> NetworkEncoder:
    """Load the weights from key ``weights``, or from where the library keeps them; nothing is downloaded."""
    path = Path(spec.weights or encoder_row(spec.name).kept).expanduser()
    if not path.is_file():
        url = model_urls[_NAME]["weights_url"]
        msg = f"The weights of encoder 'txrv' are not at '{path}'. Fetch {url} and give the file as key weights."
        raise EncoderError(msg)
    network = DenseNet()
    # The library's file is a whole pickled network. Of all classes, only those that such a network is made of may be
    # read from it; anything else in it is refused.
    parts = {type(module) for module in network.modules()} | {set}
    with torch.serialization.safe_globals(list(parts)):
        state = load_state(path, whole=DenseNet)
    load_into(network, {key: value for key, value in state.items() if key != "op_threshs"}, name=spec.name)
    return NetworkEncoder(spec, _Features(network), preprocessing(encoder_row(spec.name)))
