"""Where the scheduler of a cluster is, and by which certificates it and its workers are known."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

_CERTIFICATES = ("ca", "cert", "key")


class ClusterError(OSError):
    """A cluster cannot embed just now, and no study is to blame; the text says who, what was got, what to do."""


@dataclass(frozen=True)
class Cluster:
    """How a Dask cluster is reached.

    Raises
    ------
    ValueError
        If the address is none, would send pictures over the network for all to read, or certificates are missing.
    """

    scheduler: str = ""
    """Address of a Dask scheduler, whose workers embed, such as tls://cluster.example:8786; empty for processes of this
    machine (n_workers). tcp:// is taken to this machine alone."""
    ca: str = ""
    """File with the certificates by which scheduler and workers are trusted (PEM)."""
    cert: str = ""
    """File with the certificate by which they know this machine (PEM)."""
    key: str = ""
    """File with its private key (PEM)."""
    insecure: bool = False
    """Take tcp:// to other machines as well: whoever reaches that network sees all pictures, and runs what they like on
    every machine of the cluster."""

    def __post_init__(self) -> None:
        for name in _CERTIFICATES:
            path = getattr(self, name)
            if path and not os.access(path, os.R_OK):
                msg = f"{name} '{path}' cannot be read."
                raise ValueError(msg)
        if self.scheduler:
            _check_address(self)

    @property
    def is_encrypted(self) -> bool:
        """Whether nobody on the way can read or change what is sent."""
        return self.scheduler.startswith("tls://")


def _check_address(cluster: Cluster) -> None:
    """Refuse what is no address, and what is open to others."""
    try:
        parts = urlsplit(cluster.scheduler)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.scheme not in ("tls", "tcp") or parts.path:
        msg = f"scheduler must be an address such as tls://cluster.example:8786; got '{cluster.scheduler}'."
        raise ValueError(msg)
    missing = [name for name in _CERTIFICATES if not getattr(cluster, name)]
    if cluster.is_encrypted and missing:
        msg = f"tls:// needs ca, cert and key, files with certificates; {' and '.join(missing)} missing."
        raise ValueError(msg)
    if not cluster.is_encrypted and not cluster.insecure and not _is_loopback(host):
        msg = (
            f"scheduler {cluster.scheduler} is another machine, and tcp:// is not encrypted: whoever reaches that "
            "network sees all pictures, and runs what they like on every machine of the cluster, as Dask unpickles "
            "what it is sent. Use tls:// with ca, cert and key, or say insecure: true."
        )
        raise ValueError(msg)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
