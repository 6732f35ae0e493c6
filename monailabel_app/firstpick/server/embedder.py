"""The thread that looks at the studies folder and has new studies embedded."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path

from firstpick.config import Config
from firstpick.database import StoreError
from firstpick.embedding.cache import Cache
from firstpick.embedding.run import embed
from firstpick.encoders import EncoderError
from firstpick.server.datastore import StudiesDatastore
from firstpick.server.filing import Filing
from firstpick.server.proposer import Proposer
from firstpick.server.snapshot import Snapshot
from firstpick.sources.folder import list_studies
from firstpick.studies import LeftOut, Study
from firstpick.workers import LocalPool

logger = logging.getLogger(__name__)


class Embedder(threading.Thread):
    """Lists and embeds, again every few seconds; a problem is said in the status and tried again."""

    def __init__(
        self,
        studies_dir: Path,
        config: Config,
        cache: Cache,
        *,
        now: Snapshot,
        datastore: StudiesDatastore,
        filing: Filing,
        proposer: Proposer,
    ) -> None:
        super().__init__(name="embedder", daemon=True)
        self._studies_dir = studies_dir
        self._config = config
        self._cache = cache
        self._now = now
        self._datastore = datastore
        self._filing = filing
        self._proposer = proposer
        self._known: dict[str, object] = {}
        self._listed: list[Study] | None = None
        self._wait = threading.Event()

    def run(self) -> None:
        """Work until the process ends."""
        _spare_workers_the_server()
        while True:
            try:
                self.look()
                self._now.problem = ""
            except (EncoderError, StoreError, OSError) as error:
                logger.warning("%s", error)
                self._now.problem = str(error)
                self._listed = None
            except Exception as error:
                logger.exception("The embedder failed; it goes on")
                self._now.problem = f"FirstPick failed unexpectedly ({error}); the server's log has the details."
                self._listed = None
            self._wait.wait(self._config.rescan_s)

    def look(self) -> None:
        """Take one look at the folder; little to do when it holds what it held."""
        studies, left_out = list_studies(self._studies_dir, self._config.eligible, known=self._known)
        if not studies and self._now.studies:
            msg = (
                f"The studies folder {self._studies_dir} holds no study now; it held {len(self._now.studies)}. "
                "Is a disk not mounted? FirstPick goes on with what it knew."
            )
            raise OSError(msg)
        self._take(studies, left_out)
        if studies != self._listed:
            if not self._cache.missing(self._now.fingerprint, studies):
                self._now.take_pool()  # the batch stands before failed studies are tried again
                self._proposer.wake()
            self._embed(studies)
            # A file that vanished meanwhile did not fail, and is not to be proposed.
            self._take([study for study in studies if Path(study.source).exists()], left_out)
            self._now.take_pool()
            self._listed = studies
        self._proposer.wake()
        self._filing.warm_up()

    def _take(self, studies: list[Study], left_out: list[LeftOut]) -> None:
        """Hand over which studies there are."""
        self._datastore.update(studies, self._cache.served(studies))
        self._now.take_listing(studies, left_out)
        self._datastore.sync_labels()

    def _embed(self, studies: list[Study]) -> None:
        """Embed what is missing."""
        config = self._config
        with LocalPool(n_workers=config.n_workers, **config.limits, background=True) as executor:
            for progress in embed(studies, config.encoder_spec, self._cache, executor=executor):
                self._now.take_progress(progress)


def _spare_workers_the_server() -> None:
    """Keep spawned processes from importing this one's main module: MONAI Label, with seconds and 300 MB of torch."""
    main = sys.modules["__main__"]
    main.__spec__ = None
    vars(main).pop("__file__", None)
