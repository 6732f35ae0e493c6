"""Names of machines and origins of pages, written as browsers write them, so that they can be compared."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}


def host_name(host: str) -> str:
    """Return the name in a ``Host`` header or an address: lower case, without port and final dot.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> host_name("Reads.Example.:8000"), host_name("[::1]:8000"), host_name("klinik-münchen.example")
    ('reads.example', '::1', 'xn--klinik-mnchen-3ob.example')
    """
    return _split("http", host)[0]


def origin(address: str) -> str:
    """Return an origin: scheme, host and the port unless it is the scheme's own.

    Raises
    ------
    ValueError
        If it is none: no scheme of the web, or more behind it than a host and a port.

    Examples
    --------
    >>> origin("HTTPS://Reads.Example:443/"), origin("http://[::1]:8000")
    ('https://reads.example', 'http://[::1]:8000')
    """
    scheme, _, host = address.strip().removesuffix("/").partition("://")
    if scheme.lower() not in _PORTS:
        msg = f"must be an address such as https://reads.example:8443; got {address!r}."
        raise ValueError(msg)
    name, port = _split(scheme.lower(), host)
    shown = f"[{name}]" if ":" in name else name
    return f"{scheme.lower()}://{shown}" + (f":{port}" if port != _PORTS[scheme.lower()] else "")


def network(address: str) -> str:
    """Return an IP address or a network of them as it is written.

    Raises
    ------
    ValueError
        If it is neither.
    """
    try:
        return str(ipaddress.ip_network(address.strip(), strict=False))
    except ValueError as error:
        msg = f"must be an IP address or network, such as 10.1.2.3 or 10.1.0.0/16; got {address!r}."
        raise ValueError(msg) from error


def is_ip(name: str) -> bool:
    """Whether the name of a host is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _split(scheme: str, host: str) -> tuple[str, int]:
    """Return name and port of a host; nothing else may stand before or behind them."""
    msg = f"must be the name of a host, such as reads.example; got {host[:300]!r}."
    try:
        parts = urlsplit(f"{scheme}://{host.strip()}")
        name, port = parts.hostname or "", parts.port
        name = name if is_ip(name) else name.removesuffix(".").encode("idna").decode("ascii").lower()
    except ValueError as error:
        raise ValueError(msg) from error
    if not name or host.strip() != parts.netloc or "@" in host or any(char in name for char in " *,\\"):
        raise ValueError(msg)
    return name, _PORTS[scheme] if port is None else port
