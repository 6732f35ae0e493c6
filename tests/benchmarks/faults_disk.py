"""A small disk that fills and has room again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DiskError(Exception):
    """No small disk can be had here; the text says why."""


class Disk:
    """What is left of a small disk can be taken away, and given back."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._ballast = folder, folder / "ballast"

    def fill(self, leave: int) -> None:
        """Take all room but some bytes."""
        stat = os.statvfs(self._folder)
        free = stat.f_bavail * stat.f_frsize
        if free > leave:
            with self._ballast.open("ab") as file:
                os.posix_fallocate(file.fileno(), file.tell(), free - leave)

    def clear(self) -> None:
        """Give it back."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, *, size_mb: int) -> Iterator[Disk]:
    """Mount a disk of its own, held in memory, as a folder; DiskError where that is not allowed."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=0700", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        msg = f"there is no small disk: {error}"
        raise DiskError(msg) from error
    if done.returncode:
        msg = f"a small disk cannot be mounted: {done.stderr.strip()}"
        raise DiskError(msg)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)
