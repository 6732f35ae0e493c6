"""Who embeds: processes of this machine, or a cluster."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstpick.cluster import Cluster
from firstpick.workers import LocalPool

if TYPE_CHECKING:
    from firstpick.embedding.dask import DaskWorkers


def open_executor(
    *, cluster: Cluster, n_workers: int, limits: Mapping[str, Any], state: Path, background: bool = False
) -> LocalPool | DaskWorkers:
    """Return the executor of `embed`, a context manager.

    Parameters
    ----------
    cluster : Cluster
        Without a scheduler, processes of this machine embed.
    n_workers : int
        How many of these; 0 for one for each core.
    limits : mapping
        Keywords of `LocalPool`, for the processes here or on the cluster's workers.
    state : Path
        The state folder that is written: it names the run on the cluster.
    background : bool
        Of this machine: run at low priority, beside a server.
    """
    if not cluster.scheduler:
        return LocalPool(n_workers=n_workers, **limits, background=background)
    from firstpick.embedding.dask import DaskWorkers  # noqa: PLC0415 - only a cluster needs Dask

    ours = hashlib.sha256(f"{socket.gethostname()}:{state.resolve()}".encode()).hexdigest()[:12]
    return DaskWorkers(cluster, limits, name=f"firstpick-{ours}")
