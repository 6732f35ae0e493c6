"""Long lists are sent compressed to whoever takes that; files go as they are."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

_LISTS = ("/firstpick/status", "/firstpick/proposal", "/datastore/")  # behind whatever prefix
_WORTH_BYTES = 10_000


class PackedLists:
    """Compresses the answers of a few routes, fast rather than small: their JSON grows with the number of studies."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._packing = GZipMiddleware(app, minimum_size=_WORTH_BYTES, compresslevel=1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on."""
        is_list = scope["type"] == "http" and scope["method"] == "GET" and scope["path"].endswith(_LISTS)
        await (self._packing if is_list else self._app)(scope, receive, send)


def pack_lists(server: FastAPI) -> None:
    """Put the compression before all routes, MONAI Label's own too."""
    server.user_middleware.append(Middleware(PackedLists))
