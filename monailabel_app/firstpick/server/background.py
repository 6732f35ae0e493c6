"""The thread that looks at the studies folder, has new studies embedded and keeps proposals standing."""

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
from firstpick.server.filing import Filing
from firstpick.server.worklist import Worklist
from firstpick.sources.folder import list_studies
from firstpick.studies import Study
from firstpick.workers import LocalPool

logger = logging.getLogger(__name__)


class Background(threading.Thread):
    """Lists, embeds and proposes, again every few seconds; a problem is said in the status and tried again."""

    def __init__(self, studies_dir: Path, config: Config, cache: Cache, filing: Filing, worklist: Worklist) -> None:
        super().__init__(name="firstpick", daemon=True)
        self._studies_dir = studies_dir
        self._config = config
        self._cache = cache
        self._filing = filing
        self._worklist = worklist
        self._known: dict[str, object] = {}
        self._listed: list[Study] | None = None

    def run(self) -> None:
        """Work until the process ends."""
        _spare_workers_the_server()
        now = self._worklist.now
        while True:
            self._worklist.wanted.clear()
            try:
                self._look()
                now.problem = ""
            except (EncoderError, StoreError, OSError) as error:
                logger.warning("%s", error)
                now.problem = str(error)
                self._listed = None
            except Exception as error:
                logger.exception("The background thread failed; it goes on")
                now.problem = f"FirstPick failed unexpectedly ({error}); the server's log has the details."
                self._listed = None
            self._worklist.wanted.wait(self._config.rescan_s)

    def _look(self) -> None:
        """One look at the folder; little to do when it holds what it held."""
        studies, left_out = list_studies(self._studies_dir, self._config.eligible, known=self._known)
        self._worklist.take_listing(studies, left_out, self._cache.served(studies))
        if studies != self._listed:
            if not self._cache.missing(self._worklist.now.fingerprint, studies):
                self._worklist.now.take_pool()  # the batch stands before failed studies are tried again
                self._worklist.keep_standing()
            self._embed(studies)
            # A file that vanished meanwhile did not fail, and is not to be proposed.
            here = [study for study in studies if Path(study.source).exists()]
            self._worklist.take_listing(here, left_out, self._cache.served(here))
            self._worklist.now.take_pool()
            self._listed = studies
        self._worklist.keep_standing()
        self._worklist.wanted_files()
        self._filing.warm_up()

    def _embed(self, studies: list[Study]) -> None:
        """Embed what is missing."""
        config = self._config
        with LocalPool(n_workers=config.n_workers, **config.limits, background=True) as executor:
            for progress in embed(studies, config.encoder_spec, self._cache, executor=executor):
                self._worklist.now.take_progress(progress)


def _spare_workers_the_server() -> None:
    """Keep spawned processes from importing this one's main module: MONAI Label, with seconds and 300 MB of torch."""
    main = sys.modules["__main__"]
    main.__spec__ = None
    vars(main).pop("__file__", None)
