"""A conversation with a PACS by DICOMweb, bounded in time and bytes; imported only where there is a PACS."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from dicomweb_client import DICOMwebClient
from requests.adapters import HTTPAdapter

from firstpick.sources.connection import ENVIRONMENT, SCHEMES, DicomWeb, SourceError
from firstpick.voxels.stored import VolumeError

logging.getLogger("dicomweb_client").setLevel(logging.WARNING)  # it tells of every search

_CAUSE = re.compile(r"\[Errno -?\d+\] ([A-Za-z ]+)")
_CHUNK_BYTES = 2**18  # so that an answer that comes drop by drop is looked at now and then
_LEAST_S = 0.1


@contextlib.contextmanager
def connected(address: str, access: DicomWeb, *, limit_s: float, limit_bytes: float) -> Iterator[DICOMwebClient]:
    """Yield a client for one conversation; `SourceError` says what went wrong in it.

    Parameters
    ----------
    address : str
        From `firstpick.sources.connection.checked_address`.
    access : DicomWeb
    limit_s : float
        For all of it.
    limit_bytes : float
        Of all answers; VolumeError if they have more.
    """
    with requests.Session() as session:
        _sign_in(session, access)
        adapter = _Bounded(access, limit_s, limit_bytes)
        for scheme in SCHEMES:
            session.mount(scheme, adapter)
        client = DICOMwebClient(address, session)
        client.host = urlsplit(address).netloc  # it would leave out the port
        client.set_http_retry_params(retry=False)  # it would try for minutes
        try:
            yield client
        except (SourceError, VolumeError):
            raise
        except OSError as error:
            if not isinstance(error, requests.RequestException):
                raise  # of a file that is written here
            raise SourceError(_said(address, error, access)) from None  # a request holds the credentials
        except Exception as error:  # noqa: BLE001 - the libraries raise whatever they stumble over
            raise SourceError(_said(address, error, access)) from None


def _sign_in(session: requests.Session, access: DicomWeb) -> None:
    user, password, token = (os.environ.get(f"{ENVIRONMENT}{what}", "") for what in ("USER", "PASSWORD", "TOKEN"))
    if access.credentials:
        text = Path(access.credentials).read_text(encoding="utf-8").strip()
        user, colon, password = text.partition(":")
        token = "" if colon else text
    if token:
        session.headers["Authorization"] = f"Bearer {token}"
    elif user:
        login: Any = (user.encode(), password.encode())  # as bytes, or it would be Latin-1
        session.auth = login


class _Bounded(HTTPAdapter):
    """Sends requests, and ends answers that take too long or have too much."""

    def __init__(self, access: DicomWeb, limit_s: float, limit_bytes: float) -> None:
        super().__init__()
        self._access = access
        self._limit_s, self._limit_bytes = limit_s, limit_bytes
        self._end = time.monotonic() + limit_s
        self._n_bytes = 0
        self._answers: list[Any] = []

    def close(self) -> None:
        """Close all connections, also those of answers that were not read to their end."""
        for answer in self._answers:
            answer.close()
        super().close()

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        """Send a request; its answer is bounded while it is read."""
        left = max(_LEAST_S, self._end - time.monotonic())
        options["timeout"] = min(self._access.timeout_s, left)
        options["verify"] = self._access.ca_file or True  # whatever the environment says
        response: Any = super().send(request, *args, **options)
        self._answers.append(response)
        whole = response.iter_content
        response.iter_content = lambda chunk_size=1, decode_unicode=False: self._read(
            response, whole(min(chunk_size or _CHUNK_BYTES, _CHUNK_BYTES), decode_unicode)
        )
        return response

    def _read(self, response: Any, chunks: Iterator[Any]) -> Iterator[Any]:
        clock = threading.Timer(max(_LEAST_S, self._end - time.monotonic()), response.raw.shutdown)
        clock.daemon = True
        clock.start()
        try:
            for chunk in chunks:
                self._n_bytes += len(chunk)
                if self._n_bytes > self._limit_bytes:
                    msg = f"It has more than {self._limit_bytes / 1e9:.3g} GB. Raise max_study_gb to read it"
                    raise VolumeError(msg)
                yield chunk
        finally:
            clock.cancel()
            if time.monotonic() > self._end:
                host = "/".join(response.url.split("/")[:3])
                msg = f"The PACS at {host} is too slow: an answer took more than {self._limit_s:.0f} s."
                raise SourceError(msg)


def _said(address: str, error: Exception, access: DicomWeb) -> str:
    """Say in a sentence what went wrong; nothing of the request is in it."""
    who = f"The PACS at {address}"
    match error:
        case requests.HTTPError(response=requests.Response() as answer):
            hint = ""
            if answer.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                hint = (
                    f" Set {ENVIRONMENT}USER and {ENVIRONMENT}PASSWORD (or _TOKEN) in the environment, or name a "
                    "file with user:password in the key dicomweb.credentials."
                )
            elif answer.status_code == HTTPStatus.NOT_FOUND and "/studies/" not in answer.url:
                hint = " Is this the address of its DICOMweb, such as https://pacs.example/dicom-web?"
            return f"{who} answers {answer.status_code} {answer.reason or ''}".strip() + f".{hint}"
        case requests.exceptions.SSLError():
            return f"{who} has a certificate that is not trusted. Name its authority's in the key dicomweb.ca_file."
        case requests.Timeout():
            return f"{who} does not answer within {access.timeout_s:g} s."
        case requests.ConnectionError() | requests.exceptions.ChunkedEncodingError():
            cause = _CAUSE.search(str(error))
            return f"{who} does not answer ({cause[1].strip() if cause else 'the connection broke'})."
    return f"{who} gave an answer that cannot be read ({type(error).__name__})."
