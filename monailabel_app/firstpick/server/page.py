"""The page for people at ``/firstpick/``: a template and its parts, which ask the other routes."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import HTMLResponse

from firstpick.report import ASSETS, LIVE_POLICY, asset, live_page

_HEADERS = {
    "Content-Security-Policy": LIVE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def add_page(router: APIRouter, *, has_drafts: bool) -> None:
    """Add the page and its parts to the routes."""

    @router.get("/", include_in_schema=False)
    def page() -> Response:
        return HTMLResponse(live_page(has_drafts=has_drafts), headers=_HEADERS)

    @router.get("/page/{name}", include_in_schema=False)
    def part(name: str) -> Response:
        if name not in ASSETS:
            raise HTTPException(404, f"The page has no part '{name}'.")
        cached = {"Cache-Control": "max-age=3600"} if name == "plotly.min.js" else {}
        return Response(asset(name), media_type=ASSETS[name], headers=_HEADERS | cached)
