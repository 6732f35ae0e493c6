"""How a PACS is reached: its address, the keys for it, and what is said when it cannot be."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

SCHEMES = ("http://", "https://")
ENVIRONMENT = "FIRSTPICK_DICOMWEB_"
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_LONGEST_UID = 64


class SourceError(OSError):
    """Studies cannot be had just now, and none of them is to blame; the text says who, what was got, what to do.

    Attributes
    ----------
    is_down : bool
        Whether nothing can be had at all, rather than one study.
    """

    def __init__(self, text: str, *, is_down: bool = True) -> None:
        super().__init__(text)
        self.is_down = is_down


@dataclass(frozen=True)
class DicomWeb:
    """How a PACS is reached.

    Raises
    ------
    ValueError
        If `timeout_s` is not positive.
    """

    credentials: str = ""
    """File with *user:password*, or a token alone, for a PACS; else FIRSTPICK_DICOMWEB_USER and _PASSWORD, or _TOKEN,
    of the environment."""
    ca_file: str = ""
    """File with the certificates by which a PACS is trusted (PEM); empty for the well-known ones."""
    timeout_s: float = 30.0
    """Seconds for which a PACS may be silent."""
    labels: bool = True
    """Send final labels to the PACS, as DICOM SEG."""

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            msg = f"timeout_s must be more than 0; got {self.timeout_s:g}."
            raise ValueError(msg)
        for key in ("credentials", "ca_file"):
            path = getattr(self, key)
            if path and not os.access(path, os.R_OK):
                msg = f"{key} '{path}' cannot be read."
                raise ValueError(msg)


def connected(address: str, access: DicomWeb, *, limit_s: float, limit_bytes: float) -> Any:
    """Begin a conversation with a PACS; its libraries take a second, which folders need not wait for."""
    from firstpick.sources import conversation  # noqa: PLC0415

    return conversation.connected(address, access, limit_s=limit_s, limit_bytes=limit_bytes)


def is_uid(text: str) -> bool:
    """Whether a text is a UID as DICOM has them, and so fit for addresses and names of files."""
    return len(text) <= _LONGEST_UID and _UID.fullmatch(text) is not None


def is_address(studies: str | os.PathLike[str]) -> bool:
    """Whether studies are in a PACS, rather than in a folder."""
    return str(studies).lower().startswith(SCHEMES)


def checked_address(address: str) -> str:
    """Return the address of a PACS without a slash at its end.

    Raises
    ------
    ValueError
        If it holds a name or a password, a query or no host; the text repeats none of that.
    """
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.query or parts.fragment:
        msg = "The address of a PACS must look like https://pacs.example:8042/dicom-web; got another one."
        raise ValueError(msg)
    if "@" in parts.netloc:
        msg = (
            f"The address of the PACS at {host} holds a name or a password, which others would see in lists of "
            f"processes and in logs. Set {ENVIRONMENT}USER and {ENVIRONMENT}PASSWORD in the environment, or name a "
            "file with user:password in the key dicomweb.credentials."
        )
        raise ValueError(msg)
    return f"{parts.scheme.lower()}{address[len(parts.scheme) :]}".rstrip("/")
