"""How much memory there is, and how much of it a process has."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

_CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def machine_bytes() -> int:
    """Bytes of memory of this machine, or of the container that we run in, if that may have less."""
    found = [psutil.virtual_memory().total]
    for path in _CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # there is none, or it is "max"
            found.append(int(path.read_text()))
    return int(min(found))


def resident_bytes(process_id: int) -> int:
    """Bytes of memory that a process has; 0 if there is none of that number.

    What it has asked for and never touched does not count: torch reserves far more than it uses.
    """
    try:
        return int(psutil.Process(process_id).memory_info().rss)
    except psutil.Error:
        return 0
