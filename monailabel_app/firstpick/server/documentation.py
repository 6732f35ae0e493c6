"""The list of all routes, in place of MONAI Label's pages that load scripts from elsewhere: it needs no network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from importlib import resources

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

_SCRIPT = (
    "SwaggerUIBundle({url: 'openapi.json', dom_id: '#routes', deepLinking: true, defaultModelsExpandDepth: -1, "
    "validatorUrl: null})"
)
_PAGE = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>FirstPick: routes</title>
<link rel="icon" href="favicon.ico">
<link rel="stylesheet" href="documentation/swagger-ui.css">
<div id="routes"></div>
<script src="documentation/swagger-ui-bundle.js"></script>
<script>{_SCRIPT}</script>
</html>
"""
_CHECKSUM = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; script-src 'self' 'sha256-{_CHECKSUM}'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def document(server: FastAPI, prefix: str = "", *, pages: Iterable[str] = ("/", "/docs")) -> None:
    """Show the routes on pages behind a prefix; ``openapi.json`` lies beside them."""
    router = APIRouter()

    def page() -> Response:
        return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})

    for path in pages:
        router.add_api_route(f"{prefix}{path}", page, include_in_schema=False)
    server.mount(f"{prefix}/documentation", StaticFiles(directory=str(resources.files("fastapi_offline") / "static")))
    server.include_router(router)
    routes = server.router.routes
    routes.insert(0, routes.pop())  # before MONAI Label's own, which know no prefix either
