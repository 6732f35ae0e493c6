"""What one server consists of, put together once for each process: MONAI Label makes a new app on ``/reload``."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from monailabel.config import settings

from firstpick.board.log import Log
from firstpick.config import Config, ConfigError
from firstpick.database import LockedError, StoreError, lock_folder
from firstpick.embedding.cache import Cache
from firstpick.libraries import settle_libraries
from firstpick.server.desk import Desk
from firstpick.server.draft_status import DraftDesk
from firstpick.server.embedder import Embedder
from firstpick.server.keeper import Keeper
from firstpick.server.metrics import Metrics
from firstpick.server.proposer import Proposer
from firstpick.server.snapshot import Snapshot
from firstpick.server.store import Store
from firstpick.server.worklist import Worklist
from firstpick.sources.source import Source

logger = logging.getLogger(__name__)

MONAILABEL_VERSION = "0.8.5"

AnyStore = TypeVar("AnyStore", bound=Store)


@dataclass(frozen=True)
class Services(Generic[AnyStore]):
    """What lives as long as the process."""

    config: Config
    store: AnyStore
    worklist: Worklist
    metrics: Metrics
    proposer: Proposer
    threads: tuple[threading.Thread, ...]
    keeper: Keeper
    drafts: DraftDesk | None = None

    def start(self) -> None:
        """Start all threads, and see to what is written at the end; call it in the main thread."""
        for thread in self.threads:
            thread.start()
        self.keeper.at_the_end()


_lasting: dict[tuple[str, str], Any] = {}


def lasting(app_dir: str, studies: str, build: Callable[[], Services[AnyStore]]) -> Services[AnyStore]:
    """Return an app's services, built when first asked for; what keeps them from being built is in the log."""
    key = (app_dir, studies)
    if key not in _lasting:
        _warn_of_version()
        try:
            settle_libraries()
            _lasting[key] = build()
        except (ConfigError, StoreError) as error:
            logger.critical("FirstPick cannot start. %s", error)
            if isinstance(error, LockedError):
                os._exit(2)  # MONAI Label would say 3, after two pages of traceback
            raise
    services: Services[AnyStore] = _lasting[key]
    return services


def open_desk(state: Path, *, readers_per_study: int = 1, has_labels: bool = False) -> Desk:
    """Lock a state folder for this process, and open its log."""
    lock_folder(state, f"the server on port {settings.MONAI_LABEL_SERVER_PORT} (process {os.getpid()})")
    return Desk(Log(state, has_labels=has_labels), readers_per_study=readers_per_study)


def put_together(
    config: Config, desk: Desk, cache: Cache, *, source: Source, store: AnyStore, now: Snapshot
) -> Services[AnyStore]:
    """Make the threads and the work list over a source of studies and where their labels are kept."""
    proposer = Proposer(config, desk, now, store.served)
    worklist = Worklist(config, desk, store, now=now, proposer=proposer)
    embedder = Embedder(source, config, cache, now=now, store=store, proposer=proposer)
    keeper = Keeper(desk, store)
    metrics = Metrics(worklist.status, cache.path.parent)
    return Services(config, store, worklist, metrics, proposer, (embedder, proposer, keeper), keeper)


def _warn_of_version() -> None:
    """Warn about a version that FirstPick was not tested with."""
    version = importlib.metadata.version("monailabel")
    if version != MONAILABEL_VERSION:
        logger.warning("FirstPick was tested with monailabel %s; this is %s.", MONAILABEL_VERSION, version)
