"""The thread that writes what can be made again: MONAI Label's JSON, and the copy of the log; also at the end."""

from __future__ import annotations

import atexit
import logging
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from firstpick.server.desk import Desk
from firstpick.server.store import Store

logger = logging.getLogger(__name__)

_JSON_S = 30.0
_COPY_S = 180.0


class Keeper(threading.Thread):
    """Writes what changed: the JSON at most every 30 s, the copy of the log at most every 3 minutes."""

    def __init__(self, desk: Desk, store: Store) -> None:
        super().__init__(name="keeper", daemon=True)
        self._desk = desk
        self._store = store
        self._wait = threading.Event()

    def run(self) -> None:
        """Work until the process ends."""
        copied_at = -_COPY_S
        while not self._wait.wait(_JSON_S):
            self._try(self._store.write_json)
            if time.monotonic() - copied_at >= _COPY_S:
                self._try(self._desk.back_up)
                copied_at = time.monotonic()

    def at_the_end(self) -> None:
        """Write all once more when the process ends, whether by itself or by SIGTERM; call it in the main thread."""
        atexit.register(self.finish)
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)

            def ended(number: int, frame: FrameType | None, before: object = before) -> None:
                self.finish()  # uvicorn ends the process by the signal's own default, which asks nobody
                if callable(before):
                    before(number, frame)

            signal.signal(number, ended)

    def finish(self) -> None:
        """Write what changed since the last time. Neither needs a lock that an interrupted thread could hold."""
        self._try(self._store.write_json)
        self._try(self._desk.back_up)

    @staticmethod
    def _try(write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            logger.warning("%s", error)
