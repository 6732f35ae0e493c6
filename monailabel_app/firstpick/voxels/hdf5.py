"""HDF5, of which ITK's own format and MINC are made: whether a file draws on others, which its reader would open."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from firstpick.voxels.stored import VolumeError


def check_holds_all(path: Path) -> None:
    """Refuse a file whose voxels may lie in others: those can be any that the server may read."""
    h5py: Any = importlib.import_module("h5py")  # of few studies, and 0.2 s
    with h5py.File(path, "r", locking=False) as file:
        if _draws_on_others(file, h5py, set()):
            msg = f"{path.name} names other files for its voxels, as HDF5 may: it is not read. Write it into one file."
            raise VolumeError(msg)


def _draws_on_others(group: Any, h5py: Any, seen: set[int]) -> bool:
    """Whether a group, or one below it, holds a link to another file or data that lie in one."""
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.SoftLink):  # to what is found by its own name, if it is here
            continue
        if not isinstance(link, h5py.HardLink):
            return True
        item = group[name]
        place = h5py.h5o.get_info(item.id).addr  # groups may hold each other
        if place in seen:
            continue
        seen.add(place)
        if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
            return True
        if isinstance(item, h5py.Group) and _draws_on_others(item, h5py, seen):
            return True
    return False
