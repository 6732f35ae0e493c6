"""The encoder of any MONAI bundle's network: ``monai:FOLDER``."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import monai.networks.nets
import torch
import yaml
from torch import Tensor, nn

from firstpick.encoders import EncoderError, EncoderSpec
from firstpick.encoders.crops import CropEncoder, CropSpec
from firstpick.encoders.hub import said_in_one_sentence
from firstpick.encoders.network import load_into, load_state

_CONFIGS = ("configs/inference.json", "configs/inference.yaml")
_SHAPE = (96, 96, 96)
_STRIDE = 32  # what most networks of MONAI divide by at most


class _ReachedError(Exception):
    """The layer that is asked for has given its map; what comes after it need not run."""


class Layer(nn.Module):
    """A network up to one of its layers, whose map is averaged; by default the deepest layer.

    The deepest is the last to give a map among those that give the smallest ones.
    """

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        self.network = network
        self._map = torch.empty(0)
        network.eval()
        modules = dict(network.named_modules())
        name = self._deepest(modules) if layer == "deepest" else layer
        if name not in modules:
            known = ", ".join(key for key in modules if key and key.count(".") <= 1)
            msg = f"layer '{name}' is not one of the network's. Choose deepest or one of {known}."
            raise EncoderError(msg)
        modules[name].register_forward_hook(self._keep)

    def forward(self, crops: Tensor) -> Tensor:
        """Map crops (n, x, y, z) to rows (n, channels)."""
        with suppress(_ReachedError):
            self.network(crops[:, None])
        return self._map.mean(dim=(2, 3, 4))

    def _keep(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if not _is_map(output):
            msg = "the layer gives no map (n, channels, x, y, z)"
            raise ValueError(msg)
        self._map = output
        raise _ReachedError

    @torch.inference_mode()
    def _deepest(self, modules: dict[str, nn.Module]) -> str:
        sizes: list[tuple[int, str]] = []

        def note(name: str) -> Any:
            return lambda _m, _i, output: sizes.append((output[0, 0].numel(), name)) if _is_map(output) else None

        hooks = [module.register_forward_hook(note(name)) for name, module in modules.items() if name]
        self.network(torch.zeros(1, 1, *_SHAPE))
        for hook in hooks:
            hook.remove()
        smallest = min(size for size, _ in sizes if size > 1)
        return [name for size, name in sizes if size == smallest][-1]


def _is_map(output: Any) -> bool:
    return isinstance(output, Tensor) and output.ndim == 5  # noqa: PLR2004 - n, channels, x, y, z


def build(spec: EncoderSpec) -> CropEncoder:
    """Read a bundle's network, weights, spacing and window as data; none of its expressions is run."""
    folder = Path(spec.weights or spec.argument).expanduser()
    with said_in_one_sentence(spec, folder):
        stated = _config(folder)
        definition = _plain(stated, stated["network_def"])
        kind = getattr(monai.networks.nets, definition.pop("_target_"))
        network = kind(**definition)
        load_into(network, load_state(folder / "models" / "model.pt"), name=spec.name)
        layer = Layer(network, spec.layer)
        spacing, window = _seen(stated)
    return CropEncoder(spec, layer, CropSpec(_SHAPE, spacing, window, (_STRIDE,) * 3, _STRIDE))


def _config(folder: Path) -> dict[str, Any]:
    """The bundle's settings for inference."""
    for name in _CONFIGS:
        if (path := folder / name).is_file():
            stated: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
            return stated
    msg = f"it has neither {' nor '.join(_CONFIGS)}"
    raise ValueError(msg)


def _plain(stated: dict[str, Any], value: Any) -> Any:
    """Replace references to other settings; refuse expressions, which are code."""
    if isinstance(value, dict):
        return {key: _plain(stated, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(stated, item) for item in value]
    if isinstance(value, str) and value.startswith("$"):
        msg = f"its network is defined by an expression ({value}), which is not run"
        raise ValueError(msg)
    if isinstance(value, str) and value.startswith("@"):
        return _plain(stated, stated[value[1:]])
    return value


def _seen(stated: dict[str, Any]) -> tuple[tuple[float, float, float], tuple[float, float]]:
    """Spacing and window of the bundle's own preprocessing; 1.5 mm and -1000 to 1000 HU where it states none."""
    steps = {step.get("_target_"): step for step in stated.get("preprocessing", {}).get("transforms", [])}
    spacing = _plain(stated, steps.get("Spacingd", {}).get("pixdim", [1.5, 1.5, 1.5]))
    scale = _plain(stated, steps.get("ScaleIntensityRanged", {}))
    x, y, z = (float(mm) for mm in spacing)
    return (x, y, z), (float(scale.get("a_min", -1000)), float(scale.get("a_max", 1000)))
