"""The thread that looks which studies there are and has new ones embedded."""

from __future__ import annotations

import logging
import sys
import threading

from firstpick.cluster import ClusterError
from firstpick.config import Config
from firstpick.database import StoreError
from firstpick.embedding.cache import Cache
from firstpick.embedding.executor import open_executor
from firstpick.embedding.run import embed
from firstpick.encoders import EncoderError
from firstpick.server.proposer import Proposer
from firstpick.server.snapshot import Snapshot
from firstpick.server.store import Store
from firstpick.sources.connection import SourceError
from firstpick.sources.source import Source
from firstpick.studies import LeftOut, Study

logger = logging.getLogger(__name__)

_LEAST_PAUSE_S, _MOST_PAUSE_S = 2.0, 60.0  # while a source, or a cluster, cannot be reached


class Embedder(threading.Thread):
    """Lists and embeds, again every few seconds; a problem is said in the status and tried again."""

    def __init__(
        self,
        source: Source,
        config: Config,
        cache: Cache,
        *,
        now: Snapshot,
        store: Store,
        proposer: Proposer,
    ) -> None:
        super().__init__(name="embedder", daemon=True)
        self._source = source
        self._config = config
        self._cache = cache
        self._now = now
        self._store = store
        self._proposer = proposer
        self._listed: list[Study] | None = None
        self._outage = ""
        self._workers = config.workers(cache.path.parent, served=store.served.folder)
        self._wait = threading.Event()

    def run(self) -> None:
        """Work until the process ends."""
        _spare_workers_the_server()
        pause_s = self._config.rescan_s
        while True:
            try:
                self.look()
                self._now.problem = self._now.notice = ""
                pause_s = self._config.rescan_s
            except (SourceError, ClusterError) as error:
                pause_s = min(max(2 * pause_s, _LEAST_PAUSE_S), max(_MOST_PAUSE_S, self._config.rescan_s))
                self._take_outage(f"{error} FirstPick asks again in {pause_s:.0f} s.")
            except (EncoderError, StoreError, OSError) as error:
                logger.warning("%s", error)
                self._now.problem = str(error)
                self._listed = None
            except Exception as error:
                logger.exception("The embedder failed; it goes on")
                self._now.problem = f"FirstPick failed unexpectedly ({error}); the server's log has the details."
                self._listed = None
            self._wait.wait(pause_s)

    def _take_outage(self, text: str) -> None:
        """Say that studies cannot be had or embedded just now; who works on those that were embedded can go on."""
        logger.warning("%s", text)
        self._outage = text
        if self._now.pool is None:
            self._now.problem = text
        else:
            self._now.notice = text
        self._listed = None

    def look(self) -> None:
        """Take one look at the studies; little to do when they are what they were."""
        studies, left_out = self._source.look()
        if self._now.problem == self._outage:
            self._now.problem = ""  # it is over, and embedding may take hours
        if not studies and self._now.studies:
            msg = (
                f"{self._source.name} holds no study now; it held {len(self._now.studies)}. "
                f"{self._source.when_empty} FirstPick goes on with what it knew."
            )
            raise OSError(msg)
        self._take(studies, left_out)
        if studies != self._listed:
            fingerprint = self._now.fingerprint
            if not self._cache.missing(fingerprint, studies):
                self._now.take_pool()  # the batch stands before failed studies are tried again
                self._proposer.wake()
            there = studies
            if self._cache.missing(fingerprint, studies, retry_failed=True):
                self._embed(studies)
                # A file that vanished meanwhile did not fail, and is not to be proposed.
                there, left_out = self._source.still_there(studies)
                self._take(there, left_out)
                self._now.take_pool()
            self._listed = there
        self._proposer.wake()
        self._store.warm_up()

    def _take(self, studies: list[Study], left_out: list[LeftOut]) -> None:
        """Hand over which studies there are."""
        if studies != self._listed:
            self._store.update(studies, self._cache.served(studies))
        self._now.take_listing(studies, left_out)
        self._store.sync_labels()

    def _embed(self, studies: list[Study]) -> None:
        """Embed what is missing."""
        config = self._config
        with open_executor(**self._workers, background=True) as executor:
            for progress in embed(studies, config.encoder_spec, self._cache, executor=executor):
                self._now.take_progress(progress)


def _spare_workers_the_server() -> None:
    """Keep spawned processes from importing this one's main module: MONAI Label, with seconds and 300 MB of torch."""
    main = sys.modules["__main__"]
    main.__spec__ = None
    vars(main).pop("__file__", None)
