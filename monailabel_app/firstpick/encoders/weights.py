"""Where weights lie, and whether they are the expected ones."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path

from firstpick.encoders.row import EncoderRow


class EncoderError(Exception):
    """An encoder cannot be built; the text says why and what to do."""


def weights_file(name: str, row: EncoderRow, given: str = "") -> Path:
    """Return the file that holds an encoder's weights, once its checksum is right.

    Parameters
    ----------
    name : str
        The encoder, for the errors.
    row : EncoderRow
        Names the package that brings the file, and its checksum.
    given : str
        A file to take instead of the package's; the same checksum holds for it.

    Raises
    ------
    EncoderError
        If the file is missing, cannot be read, or is another one.
    """
    path = Path(given) if given else packaged_file(name, row)
    if row.sha256 and (got := checksum(path)) != row.sha256:
        msg = (
            f"The weights '{path.name}' are not the expected ones (sha256 {got[:12]}..., not {row.sha256[:12]}...): "
            f"the file is damaged or of another version. Type: {row.install} --force-reinstall"
        )
        raise EncoderError(msg)
    return path


def packaged_file(name: str, row: EncoderRow) -> Path:
    """Find a file of an installed package without importing the package, which may ask for more than it needs."""
    package, _, rest = row.file.partition("/")
    found = importlib.util.find_spec(package)
    for folder in (found.submodule_search_locations if found else None) or []:
        if (path := Path(folder) / rest).is_file():
            return path
    msg = f"The weights of encoder '{name}' are not installed. Type: {row.install}"
    raise EncoderError(msg)


def checksum(path: str | Path) -> str:
    """SHA-256 of a file, or of all files of a folder with their names; EncoderError if it cannot be read."""
    path = Path(path)
    try:
        if path.is_dir():
            inside = sorted(item for item in path.rglob("*") if item.is_file())
            lines = [f"{item.relative_to(path).as_posix()} {_sha256(item)}" for item in inside]
            return hashlib.sha256("\n".join(lines).encode()).hexdigest()
        return _sha256(path)
    except OSError as error:
        msg = f"The weights '{path}' cannot be read: {error.strerror}."
        raise EncoderError(msg) from error


def _sha256(path: Path) -> str:
    status = path.stat()
    return _sha256_of_version(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _sha256_of_version(path: Path, _size: int, _mtime_ns: int) -> str:
    """Read a file once, until it changes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
