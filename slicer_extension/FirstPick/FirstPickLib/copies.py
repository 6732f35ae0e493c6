"""The folder of patients' volumes that were fetched: it goes when Slicer goes, also one that was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed: that is its lock
    fcntl = None

LOCK = ".lock"


class Copies:
    """A folder of this Slicer alone, made when it is asked for; what killed ones left behind is removed.

    Parameters
    ----------
    parent : str
        Where each running Slicer has a folder, and beside it a lock that ends with its process.
    """

    def __init__(self, parent: str) -> None:
        os.makedirs(parent, exist_ok=True)
        self.removeLeftovers(parent)
        isMine = False
        while not isMine:
            handle, self._lockPath = tempfile.mkstemp(suffix=LOCK, dir=parent)
            self._lock = os.fdopen(handle)
            if fcntl is not None:
                with contextlib.suppress(OSError):  # a file system without locks: nobody takes its folders for left
                    fcntl.flock(self._lock, fcntl.LOCK_EX)
            isMine = os.path.exists(self._lockPath)  # another Slicer may have taken it for a leftover just before
        self.folder = self._lockPath[: -len(LOCK)]
        os.makedirs(self.folder, mode=0o700)

    def remove(self) -> None:
        """Remove the folder and all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()
        _removeFile(self._lockPath)

    @staticmethod
    def removeLeftovers(parent: str) -> None:
        """Remove the folders whose Slicer runs no more."""
        for name in os.listdir(parent) if os.path.isdir(parent) else ():
            if name.endswith(LOCK):
                _removeIfFree(os.path.join(parent, name))


def _removeIfFree(lockPath: str) -> None:
    """Remove a folder and its lock, unless a process holds the lock."""
    folder = lockPath[: -len(LOCK)]
    if fcntl is None:
        if _removeFile(lockPath):
            shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        with open(lockPath, encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            _removeFile(lockPath)
    except OSError:
        return  # held, or gone meanwhile


def _removeFile(path: str) -> bool:
    try:
        os.remove(path)
    except OSError:
        return False
    return True
