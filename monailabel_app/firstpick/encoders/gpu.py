"""Which GPUs there are; torch, which takes over a second to import, is asked only where there may be one."""

from __future__ import annotations

import functools
import importlib.util
import os
import runpy
import sys
from pathlib import Path

_DEVICES = ("nvidia", "nvhost", "nvmap", "dxg", "kfd")
"""How Linux names GPUs in ``/dev``: Nvidia's, those of its small boards, Windows' below WSL, AMD's."""


def n_gpus() -> int:
    """How many GPUs torch has to run networks on."""
    if "torch" not in sys.modules and not _may_have_gpu():
        return 0
    import torch  # noqa: PLC0415 - see above

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def see_only(gpu: int) -> None:
    """Let this process see one of the GPUs that it sees; before torch looks for them."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    os.environ["CUDA_VISIBLE_DEVICES"] = seen.split(",")[gpu] if seen else str(gpu)


@functools.cache
def _may_have_gpu() -> bool:
    """Whether there may be a GPU that the torch that is installed, if it is, could use."""
    if sys.platform == "linux" and not any(file.name.startswith(_DEVICES) for file in Path("/dev").iterdir()):
        return False
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return False
    built = runpy.run_path(str(Path(found.origin).with_name("version.py")))
    return bool(built.get("cuda") or built.get("hip"))


def gpu_here() -> str:
    """Name the GPU that torch would use, and its memory; empty if there is none."""
    if not n_gpus():
        return ""
    import torch  # noqa: PLC0415 - see above

    free, total = torch.cuda.mem_get_info()
    return f"{torch.cuda.get_device_name()}, {free / 2**30:.0f} of {total / 2**30:.0f} GB free"
