"""In place of the pages of MONAI Label's that load scripts from elsewhere: these work without a network."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI, Response
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from monailabel.config import settings
from monailabel.endpoints.logs import get_logs
from monailabel.endpoints.user.auth import RBAC

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


def document(server: FastAPI) -> None:
    """Show the routes at ``/`` and ``/docs``, and the log as plain text."""
    server.mount("/documentation", StaticFiles(directory=str(resources.files("fastapi_offline") / "static")))
    server.include_router(_router())
    routes = server.router.routes
    routes.insert(0, routes.pop())  # before MONAI Label's own


def _router() -> APIRouter:
    router = APIRouter()

    @router.get("/", include_in_schema=False)
    @router.get("/docs", include_in_schema=False)
    def page() -> Response:
        return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})

    @router.get(
        f"{settings.MONAI_LABEL_API_STR}/logs/",
        include_in_schema=False,  # MONAI Label's own stands there
        dependencies=[Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))],
    )
    def logs(lines: int = 300) -> Response:
        path = Path(settings.MONAI_LABEL_APP_DIR, "logs", "app.log")
        answer: Response = get_logs(str(path), lines, html=False, text=True, refresh=0)
        return answer

    return router
