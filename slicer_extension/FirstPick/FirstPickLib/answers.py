"""What an answer of a server means: the objects that were asked for, or one sentence that says what came instead."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http.client import responses
from urllib.parse import urljoin, urlsplit

from .shapes import File, Picture, fits, isOf, isPage, isPicture

UNAVAILABLE = 503
REDIRECTS = (301, 302, 303, 307, 308)
_MOST_TEXT = 600  # of a server's own sentence


@dataclass(frozen=True)
class Answer:
    """What came back: JSON as objects, a picture as bytes; or why nothing did.

    ``isTold`` says that ``error`` is the server's own sentence: it, and no proxy, refused. ``retryAfter`` is after how
    many seconds the server wants to be asked again; 0 if it said nothing of it.
    """

    status: int = 0
    data: object = None
    error: str = ""
    isCancelled: bool = False
    isTold: bool = False
    retryAfter: int = 0

    @property
    def isGood(self) -> bool:
        """Whether the server did what was asked, and answered as it does then."""
        return not self.error and not self.isCancelled


def readAnswer(
    status: int,
    body: bytes,
    contentType: str,
    networkError: str,
    address: str,
    retryAfter: str = "",
    shape: object = None,
    misfit: str = "",
) -> Answer:
    """Make an answer of what the network brought, good only if it has the shape that was asked for.

    ``misfit`` says what a file is that is not the one that was asked for.
    """
    data, isJson = _decoded(body, contentType, shape)
    if 200 <= status < 300 and not networkError:
        if not isJson and not isPage(body) and body.strip():
            networkError = "not JSON"
        else:
            misfit = misfit or _misfit(data, body, shape)
            return Answer(status, error=_mismatch(address, misfit)) if misfit else Answer(status, data)
    detail = data.get("detail") if isinstance(data, dict) else ""
    if status >= 400:
        return _refused(status, detail, address, retryAfter)
    if status:
        return Answer(status, error=f"The answer of {address} broke off ({networkError}). Try again.")
    return Answer(status, error=f"{address} does not answer ({networkError}). Is the server running?")


def _decoded(body: bytes, contentType: str, shape: object) -> tuple:
    """Return what JSON says, and whether it is JSON if it should be."""
    isWanted = shape is not None and not isinstance(shape, (File, Picture))
    if not isWanted and not contentType.startswith("application/json"):
        return body, True
    try:
        return json.loads(body), True
    except (ValueError, RecursionError):
        return body, False


def _misfit(data: object, body: bytes, shape: object) -> str:
    """Say what came instead of what was asked for; empty if it is that."""
    if shape is None or isinstance(shape, File):
        return ""
    if isPicture(body) if isinstance(shape, Picture) else isOf(data, shape):
        return ""
    return _kind(body)


def _kind(body: bytes) -> str:
    if not body.strip():
        return "nothing"
    return "a web page" if isPage(body) else "something else"


def _mismatch(address: str, what: str) -> str:
    return (
        f"{address} answered with {what} in place of what was asked for. "
        f"Is it a FirstPick server, without a login page or a proxy before it? Try again, or ask who runs the server."
    )


def _refused(status: int, detail: object, address: str, retryAfter: str) -> Answer:
    if detail == responses.get(status):  # what any server says
        detail = ""
    if status == 401 or (status == 403 and not detail):
        return Answer(status, error=f"{address} wants a login, which FirstPick does not have. Ask who runs the server.")
    if detail:
        text = detail if isinstance(detail, str) else "; ".join(_problems(detail))
        isSoon = status == UNAVAILABLE and re.fullmatch("[0-9]{1,6}", retryAfter)  # this server gives no date
        seconds = max(int(retryAfter), 1) if isSoon else 0
        return Answer(status, error=text[:_MOST_TEXT], isTold=True, retryAfter=seconds)
    if status == 404:
        return Answer(status, error=f"{address} does not know this. Is it a FirstPick server?")
    if status == 413:
        text = (
            f"{address}, or a proxy before it, does not take as much as was sent. Ask who runs the server to allow it."
        )
        return Answer(status, error=text)
    text = f"{address} answered with error {status}. Try again, or ask who runs the server."
    return Answer(status, error=text)


def _problems(detail: object) -> list:
    """Texts of a FastAPI validation error."""
    items = detail if isinstance(detail, list) else [detail]
    return [str(item.get("msg", item)) if isinstance(item, dict) else str(item) for item in items]


def fileMisfit(file: File, name: str, head: bytes, size: int, checksum: str) -> str:
    """Say what a file is, by its first bytes, size and SHA-256, that is not the one asked for; empty if it is that."""
    if not fits(head, name):
        return _kind(head)
    if file.size and file.size != size:
        return f"{size} of {file.size} bytes"
    return "another file" if file.checksum and file.checksum != checksum else ""


def redirected(address: str, target: str) -> str:
    """Return where a request goes on that was sent elsewhere: on the same host only, and never back to plain HTTP.

    >>> redirected("http://host:8000/a", "/b"), redirected("http://host/a", "https://host/a")
    ('http://host:8000/b', 'https://host/a')
    >>> redirected("http://host/a", "http://other/a"), redirected("https://host/a", "http://host/a")
    ('', '')
    """
    whole = urljoin(address, target)
    here, there = urlsplit(address), urlsplit(whole)
    isAllowed = there.scheme == "https" or here.scheme == there.scheme == "http"
    return whole if isAllowed and there.hostname == here.hostname else ""


def pointsElsewhere(status: int, address: str, target: str) -> Answer:
    """Make the answer to a request that was sent to a place where it does not go."""
    where = re.match(r"\w+://[^/?#]*", target)
    text = f"{address} sends FirstPick on to {where[0] if where else 'itself'}, where it does not go by itself."
    return Answer(status, error=f"{text} If that is the server, type its address; else ask who runs the server.")
