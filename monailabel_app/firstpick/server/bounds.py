"""How much a request may hold: bytes of a body, letters of a text, and JSON that can be kept and answered as JSON."""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from firstpick.server.errors import problem_text

MAX_BODY = 1_000_000
"""Bytes of a body that is no upload."""

MAX_LISTED = 1000
"""Studies of a list that the status and a batch hold; the rest is asked for in pages."""

_MAX_OBJECT = 100_000
_MAX_DEPTH = 50
_UPLOAD = "/datastore/label"  # behind whatever prefix


_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _one_line(text: str) -> str:
    if _CONTROLS.search(text):
        msg = "Line breaks and other control characters are not allowed"
        raise ValueError(msg)
    return text


Name = Annotated[str, Field(max_length=256), AfterValidator(_one_line)]
StudyId = Annotated[str, Field(max_length=4096)]  # a path: it may hold whatever a file's name may
ListName = Literal["failed", "left_out", "noted"]
Reason = Annotated[str, Field(max_length=2000)]

_NAME = TypeAdapter(Name)


class _Id(PathConvertor):
    """Any text, line breaks too: file names may hold them."""

    regex = "(?s:.*)"


register_url_convertor("id", _Id())


class BodyLimit:
    """Stops reading a body at its limit, with or without a Content-Length; FastAPI answers 413 with what is allowed.

    Starlette has such a middleware since its version 1; its answers do not say how much is allowed.

    Parameters
    ----------
    app : ASGIApp
    max_upload_gb : float
        Of a label; of anything else it is `MAX_BODY`.
    """

    def __init__(self, app: ASGIApp, max_upload_gb: float) -> None:
        self._app = app
        self._max_upload_gb = max_upload_gb

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_upload = scope["method"] == "PUT" and scope["path"].endswith(_UPLOAD)
        limit = self._max_upload_gb * 1e9 if is_upload else MAX_BODY
        allowed = f"{self._max_upload_gb:g} GB (key max_upload_gb)" if is_upload else f"{MAX_BODY:,} bytes"
        n_read = 0
        n_said = max((int(value) for key, value in scope["headers"] if key == b"content-length"), default=0)

        async def counted() -> Message:
            nonlocal n_read
            message = await receive() if n_said <= limit else {}
            n_read += len(message.get("body", b""))
            if max(n_read, n_said) > limit:
                raise HTTPException(413, f"What was sent is too large. At most {allowed} are allowed here.")
            return message

        await self._app(scope, counted, send)


def limit_bodies(server: FastAPI, max_upload_gb: float) -> None:
    """Put the limit before all routes, MONAI Label's own too; it holds when the server's stack is built again."""
    server.user_middleware.append(Middleware(BodyLimit, max_upload_gb=max_upload_gb))


def json_object(text: str, name: str) -> dict[str, Any]:
    """Read the JSON object in a field of a form.

    Parameters
    ----------
    text : str
    name : str
        Of the field, for messages.

    Returns
    -------
    dict
        Numbers are finite, text is Unicode, nothing is nested deeper than 50 times, and ``client_id`` is a name.

    Raises
    ------
    HTTPException
        422 with what is wrong.
    """
    if len(text) > _MAX_OBJECT:
        raise HTTPException(422, f"{name} has {len(text):,} letters; at most {_MAX_OBJECT:,} are allowed.")
    try:
        value = json.loads(text or "{}", parse_constant=_finite, parse_float=_finite)
        _check_text(value)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, f"{name} must be a JSON object; it is no JSON: {error}.") from error
    if not isinstance(value, dict):
        raise HTTPException(422, f"{name} must be a JSON object; got a {type(value).__name__}.")
    try:
        _NAME.validate_python(value.get("client_id") or "")
    except ValidationError as error:
        raise HTTPException(422, f"{name}.client_id: {problem_text(error.errors()[0])}") from error
    return value


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        msg = f"{number[:20]} is no number that can be kept"
        raise ValueError(msg)
    return value


def _check_text(value: Any, depth: int = 0) -> None:
    """Raise ValueError where a text cannot be written as UTF-8 (half a surrogate pair), or all is nested too deeply."""
    if depth > _MAX_DEPTH:
        msg = f"it is nested more than {_MAX_DEPTH} times"
        raise ValueError(msg)
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, list):
        for item in value:
            _check_text(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            key.encode()
            _check_text(item, depth + 1)
