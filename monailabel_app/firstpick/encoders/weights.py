"""Where weights lie, and whether they are the expected ones."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path

from firstpick.encoders.row import EncoderRow


class EncoderError(Exception):
    """An encoder cannot be built; the text says why and what to do."""


def weights_files(name: str, row: EncoderRow, given: str = "") -> tuple[Path, ...]:
    """Return the file that holds an encoder's weights, or its pieces in their order, once the checksum is right.

    Parameters
    ----------
    name : str
        The encoder, for the errors.
    row : EncoderRow
        Names the packages that bring the files, and the checksum.
    given : str
        A file to take instead of the packages'; the same checksum holds for it.

    Raises
    ------
    EncoderError
        If a file is missing, cannot be read, or is another one.
    """
    paths = (Path(given),) if given else tuple(packaged_file(name, row, file) for file in row.files)
    if row.sha256 and (got := _joint_checksum(paths)) != row.sha256:
        found, wanted = f"{got[:12]}...", f"{row.sha256[:12]}..."
        msg = (
            f"The weights '{paths[0].name}' are not the expected ones (sha256 {found}, not {wanted}): "
            f"the file is damaged or of another version. Type: {row.install} --force-reinstall"
        )
        raise EncoderError(msg)
    return paths


def packaged_file(name: str, row: EncoderRow, file: str) -> Path:
    """Find a file of an installed package without importing the package, which may ask for more than it needs."""
    package, _, rest = file.partition("/")
    found = importlib.util.find_spec(package)
    for folder in (found.submodule_search_locations if found else None) or []:
        if (path := Path(folder) / rest).is_file():
            return path
    msg = f"The weights of encoder '{name}' are not installed. Type: {row.install}"
    raise EncoderError(msg)


def _joint_checksum(paths: tuple[Path, ...]) -> str:
    """SHA-256 of files as if they were one."""
    if len(paths) == 1:
        return checksum(paths[0])
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


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
