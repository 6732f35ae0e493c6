"""Where weights lie, and whether they are the expected ones."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from firstpick.encoders.row import EncoderRow

PREPROCESSING = "preprocessor_config.json"
"""What image processors of Hugging Face write beside a network, and `NetworkEncoder` reads."""


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


def checksum(path: str | Path, *, beside: Iterable[str] = ()) -> str:
    """SHA-256 of a file, or of all files of a folder with their names; EncoderError if it cannot be read.

    Parameters
    ----------
    path : str or Path
    beside : iterable of str
        Names, from the file's folder, of what is read together with it.
    """
    path = Path(path)
    names = sorted(beside)
    if path.is_dir():
        inside = [Path(folder, name) for folder, _, files in os.walk(path, followlinks=True) for name in files]
        names = sorted(item.relative_to(path).as_posix() for item in inside)
    folder = path if path.is_dir() else path.parent
    try:
        whole = [] if path.is_dir() else [_sha256(path)]
        lines = whole + [f"{name} {_sha256(folder / name)}" for name in names]
    except OSError as error:
        msg = f"The weights '{error.filename or path}' cannot be read: {error.strerror}."
        raise EncoderError(msg) from error
    return lines[0] if whole and not names else hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_beside(network: str | Path, *, is_onnx: bool) -> list[str]:
    """Names of what is read together with a network's file: the pictures' settings, an ONNX graph's external data."""
    path = Path(network)
    names = [PREPROCESSING] if (path.parent / PREPROCESSING).is_file() else []
    if is_onnx and path.is_file():
        status = path.stat()
        names += _external_data(path, status.st_size, status.st_mtime_ns)
    return names


@functools.lru_cache(maxsize=16)
def _external_data(path: Path, _size: int, _mtime_ns: int) -> list[str]:
    """Names of the files that hold tensors of an ONNX graph; none where the file is no such graph."""
    import onnx  # noqa: PLC0415 - for this alone

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception:  # noqa: BLE001 - damaged: who builds it says so
        return []
    entries = (entry for tensor in _tensors(model) for entry in tensor.external_data)
    return sorted({entry.value for entry in entries if entry.key == "location"})


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor of a graph, in its nodes' attributes and subgraphs too."""
    if hasattr(message, "external_data"):
        yield message
        return
    for kind, value in message.ListFields():
        if kind.message_type is not None:
            for item in [value] if hasattr(value, "ListFields") else value:
                yield from _tensors(item)


def _sha256(path: Path) -> str:
    status = path.stat()
    return _sha256_of_version(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _sha256_of_version(path: Path, _size: int, _mtime_ns: int) -> str:
    """Read a file once, until it changes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
