"""The page: one template, for the server and for a file of its own."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

_FOLDER = Path(__file__).parent / "assets"
_SCRIPTS = ("plotly.min.js", "parts.js", "raster.js", "charts.js", "page.js")

_DRAFTS = "drafts.js"

ASSETS = {"page.css": "text/css"} | dict.fromkeys((*_SCRIPTS, _DRAFTS), "text/javascript")
"""What the page is made of besides its template: names and media types."""

LIVE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of the server's page; Plotly writes styles of its own, blobs are pictures got by token."""


def asset(name: str) -> str:
    """Return the text of one of `ASSETS`."""
    if name == "plotly.min.js":
        from plotly.offline import get_plotlyjs  # noqa: PLC0415 - 5 MB that only the page needs

        return str(get_plotlyjs())
    return (_FOLDER / name).read_text(encoding="utf-8")


def live_page(*, has_drafts: bool = False) -> str:
    """Return the page that asks the server for everything; for an address that ends in a slash."""
    scripts = (*_SCRIPTS, _DRAFTS) if has_drafts else _SCRIPTS
    head = '<link rel="stylesheet" href="page/page.css">'
    return _fill(head, "\n".join(f'<script src="page/{name}"></script>' for name in scripts))


def report_page(data: Mapping[str, Any]) -> str:
    """Return the page as one file that needs no network.

    Parameters
    ----------
    data : mapping
        Of `firstpick.report.page_data`.

    Returns
    -------
    str
        HTML. Its own policy lets the browser run these very scripts and fetch nothing. Nothing of ``data`` is
        markup: it is JSON in which no ``<`` is left, and the scripts set it as text.
    """
    scripts = [asset(name) for name in _SCRIPTS]
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_hash, scripts))}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    as_json = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>\n{asset("page.css")}</style>'
    tail = [f'<script type="application/json" id="data">{as_json}</script>']
    return _fill(head, "\n".join(tail + [f"<script>{script}</script>" for script in scripts]))


def _fill(head: str, tail: str) -> str:
    return Template((_FOLDER / "page.html").read_text(encoding="utf-8")).substitute(head=head, tail=tail)


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
