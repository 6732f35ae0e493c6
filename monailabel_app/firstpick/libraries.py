"""What libraries keep for themselves lies with the user's state, not in ``~/.cache``, and nothing is sent to anyone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import platformdirs

_QUIET = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def user_folder() -> Path:
    """Where the user's state lies, and beside it what belongs to no studies folder."""
    return platformdirs.user_state_path("firstpick")


def settle_libraries() -> None:
    """Tell libraries where to keep what they keep, and to send nothing; before they are imported.

    Variables of theirs that are set stay as they are. Processes that are started inherit all of it.
    """
    own = user_folder()
    if "HF_HOME" not in os.environ:
        usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "huggingface")
        os.environ.setdefault("HF_TOKEN_PATH", str(usual / "token"))  # where `hf auth login` puts it
        os.environ["HF_HOME"] = str(own / "huggingface")
    os.environ.setdefault("TORCH_HOME", str(own / "torch"))
    os.environ.setdefault("MPLCONFIGDIR", str(own / "matplotlib"))
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if "onnxruntime" in sys.modules:  # it begins to send when it is imported, and MONAI imports it
        sys.modules["onnxruntime"].disable_telemetry_events()
