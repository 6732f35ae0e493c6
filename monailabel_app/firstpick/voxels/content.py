"""What a file is by its first bytes, in words: for the reason why it cannot be read as what its name says."""

from __future__ import annotations

from pathlib import Path

from firstpick.voxels.dicom import starts_like_dicom
from firstpick.voxels.nifti import is_nifti

_N_BYTES = 1024
_MAGIC = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself (fetch it with git lfs pull)",
    b"PK\x03\x04": "a zip archive",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"BM": "BMP",
    b"NRRD": "NRRD",
    b"\x89HDF": "HDF5",
    b"%PDF": "PDF",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"\x93NUMPY": "a NumPy array",
    b"# vtk": "VTK",
    b"\0\5\x16\7": "what macOS keeps beside a file (AppleDouble)",
}
_CONTROL = frozenset(range(32)) - frozenset(b"\t\n\r\f\x1b")


def what_is(path: Path) -> str:
    """Name what a file is by its first bytes; empty if they do not tell."""
    with path.open("rb") as file:
        start = file.read(_N_BYTES)
    if starts_like_dicom(start):
        return "DICOM"
    if is_nifti(start):
        return "NIfTI"
    found = next((what for magic, what in _MAGIC.items() if start.startswith(magic)), "")
    return found or _kind_of_text(start)


def _kind_of_text(start: bytes) -> str:
    if start.lstrip()[:5].lower() in {b"<html", b"<!doc"}:
        return "a web page (HTML)"
    if not start.strip(b"\0"):
        return "nothing but zeros"
    if b"NDims" in start:
        return "MetaImage"
    return "" if _CONTROL.intersection(start) else "text"
