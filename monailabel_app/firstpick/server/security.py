"""Who may reach the server by a browser: by which names, from which pages, and what a page may do with an answer.

A browser sends to any server what any page in it wants, from inside the hospital's network. So whatever says that it
comes from a page must come from one of ours. What no browser sends (3D Slicer, scripts) says nothing of the kind.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from monailabel.config import settings
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from firstpick.config import Config
from firstpick.origins import host_name, is_ip, origin

_PAGES = frozenset({"/", "/docs", *(f"{settings.MONAI_LABEL_API_STR}/firstpick{end}" for end in ("", "/", "/docs"))})
"""What a link of another page may lead to. Nothing else: whether a link works can tell who is a patient."""


def guard(server: FastAPI, config: Config) -> None:
    """Put the rules before all routes, MONAI Label's own too, in place of its leave for every page of the web.

    To be called last: the server's stack is made anew, and all of it, its answers to errors too, lies behind the rules.
    """
    for_all: object = CORSMiddleware
    server.user_middleware[:] = [layer for layer in server.user_middleware if layer.cls is not for_all]
    app: ASGIApp = server.build_middleware_stack()
    if origins := config.allowed_origins:
        app = CORSMiddleware(app, origins, allow_methods=["*"], allow_headers=["*"], allow_credentials=True)
    server.middleware_stack = Guard(app, Rules.of(config, machine_names()))


def machine_names() -> set[str]:
    """Return the names of this machine, short and full, in lower case."""
    names = {"localhost", socket.gethostname().lower(), socket.getfqdn().lower()}
    return names | {name.partition(".")[0] for name in names}


@dataclass(frozen=True)
class Rules:
    """What a request from a browser must say of itself."""

    hosts: frozenset[str]
    origins: frozenset[str]
    public: str
    proxies: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

    @classmethod
    def of(cls, config: Config, names: Iterable[str]) -> Rules:
        """Read the rules out of the configuration; the machine's names are always good."""
        public = {host_name(config.public_url.partition("://")[2])} if config.public_url else set()
        return cls(
            hosts=frozenset({*names, *config.allowed_hosts, *public}),
            origins=frozenset(config.allowed_origins),
            public=config.public_url,
            proxies=tuple(ipaddress.ip_network(proxy) for proxy in config.trusted_proxies),
        )

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason if a request is refused."""
        headers = Headers(scope=scope)
        scheme, *hosts = self._asked_for(scope, headers)
        for host in hosts:
            if not self._answers_to(host):
                return 421, (
                    f"This server does not answer to the name {host[:300]!r}. Call it by its IP address, or add the "
                    f"name to the key allowed_hosts of its configuration."
                )
        if self._is_ours(headers, own=f"{scheme}://{hosts[-1]}") or _opens_page(scope, headers):
            return None
        return 403, (
            f"A page of {headers.get('origin', 'another site')[:300]} may not use this server. If it should, add its "
            f"origin to the key allowed_origins of the configuration; if it is a page of this server, which a proxy "
            f"gives out under that address, set public_url."
        )

    def _asked_for(self, scope: Scope, headers: Headers) -> list[str]:
        """Scheme and host of a request; behind them the host that the browser named, where a proxy of ours tells."""
        asked = [scope["scheme"], headers.get("host", "")]
        if self._is_proxy(scope):
            scheme, host = (headers.get(f"x-forwarded-{what}", "").rpartition(",")[2] for what in ("proto", "host"))
            asked = [scheme.strip() or asked[0], asked[1], *([host.strip()] if host.strip() else [])]
        return asked

    def _is_proxy(self, scope: Scope) -> bool:
        peer = (scope.get("client") or ("127.0.0.1",))[0]  # no address: a socket on this machine
        if not is_ip(peer):
            return False
        address = ipaddress.ip_address(peer)
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in proxy for proxy in self.proxies)

    def _answers_to(self, host: str) -> bool:
        """Whether a name is ours, or no name: an IP address cannot be made to lead elsewhere by another's DNS."""
        try:
            name = host_name(host)
        except ValueError:
            return False
        return is_ip(name) or name in self.hosts

    def _is_ours(self, headers: Headers, *, own: str) -> bool:
        """Whether a page of ours asks, or one that may, or no page at all.

        No page can write these two headers. ``Sec-Fetch-Site`` compares addresses as the browser has them, whatever
        a proxy made of them; but over plain HTTP it is sent to this machine alone. ``Origin`` is sent whenever
        something may change, and by all that could read an answer.
        """
        page, site = headers.get("origin"), headers.get("sec-fetch-site")
        if site == "same-origin" or (page is not None and _written(page) in self.origins):
            return True
        return site in (None, "none") and (page is None or _written(page) in {_written(own), self.public} - {""})


class Guard:
    """Refuses what the rules refuse, and has browsers keep every answer from other pages."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self.app = app
        self.rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":  # the server has none
            await send({"type": "websocket.close"})
        elif refused := self.rules.refusal(scope):
            status, reason = refused
            await JSONResponse({"detail": reason}, status)(scope, receive, _sealed(send))
        else:
            await self.app(scope, receive, _sealed(send))


class Beside:
    """Answers what begins with a path by one app, and all else by another; neither meets what the other is asked.

    Parameters
    ----------
    app : ASGIApp
        All else.
    ours : ASGIApp
    place : str
        The path.
    """

    def __init__(self, app: ASGIApp, ours: ASGIApp, place: str) -> None:
        self.app = app
        self.ours = ours
        self.place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on."""
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        is_ours = scope["type"] == "http" and (path == self.place or path.startswith(f"{self.place}/"))
        await (self.ours if is_ours else self.app)(scope, receive, send)


def _sealed(send: Send) -> Send:
    """Add what keeps an answer out of other pages' frames, pictures and scripts."""

    async def sealed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.setdefault("Content-Security-Policy", "frame-ancestors 'none'")
            headers["Cross-Origin-Resource-Policy"] = "same-origin"
            headers["X-Content-Type-Options"] = "nosniff"
        await send(message)

    return sealed


def _opens_page(scope: Scope, headers: Headers) -> bool:
    """Whether somebody follows a link to a page, into a window of its own."""
    wanted = [headers.get(f"sec-fetch-{what}") for what in ("mode", "dest")]
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    return scope["method"] == "GET" and wanted == ["navigate", "document"] and path in _PAGES


def _written(page: str) -> str:
    """Return an origin as browsers write it; what is none, such as ``null``, becomes ''."""
    try:
        return origin(page)
    except ValueError:
        return ""
