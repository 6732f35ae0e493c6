"""How large the voxels of one file may be, unpacked: told from its header, before anything is unpacked."""

from __future__ import annotations

import math
from collections.abc import Sequence

DEFAULT_GB = 4.0
_GB = 1e9
_N_AXES, _FLOAT_BYTES = 3, 4
_limit_gb = DEFAULT_GB  # of this process


def allow_gb(n_gb: float) -> None:
    """Set how many gigabytes the voxels of one file may take, in this process from now on."""
    global _limit_gb  # noqa: PLW0603 - a limit of the process, as on its time and its memory
    _limit_gb = n_gb


def limit_bytes() -> float:
    """Bytes that the voxels of one file may take in this process."""
    return _limit_gb * _GB


def why_too_large(size: Sequence[int], n_bytes_each: int = _FLOAT_BYTES) -> str:
    """Say how large the voxels of a file are and what is allowed; empty if they are not too large.

    Parameters
    ----------
    size : sequence of int
        Of what is unpacked; behind the axes of space frames, pages or layers.
    n_bytes_each : int
        Of one voxel with all its components, as it is unpacked. Along the axes of space it becomes one of 32 bits.
    """
    sizes = [int(n) for n in size]
    n_bytes = max(math.prod(sizes[:_N_AXES]) * _FLOAT_BYTES, math.prod(sizes) * n_bytes_each)
    if n_bytes <= limit_bytes():
        return ""
    return (
        f"{' x '.join(map(str, sizes))} voxels take {n_bytes / _GB:,.1f} GB unpacked, at most {_limit_gb:g} GB are "
        "read. Raise max_study_gb if the memory suffices"
    )
