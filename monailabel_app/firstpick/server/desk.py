"""The desk: where everybody asks who has what. One lock, one log, one board."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from firstpick.board.board import RESERVED_SECONDS, Board, Refused, Status
from firstpick.board.events import (
    FINAL,
    Event,
    Given,
    Labelled,
    Released,
    Renewed,
    Reopened,
    Reserved,
    Skipped,
    Unskipped,
)
from firstpick.board.log import Log

NOBODY = ("", "admin", "user-xyz")
"""Client ids that clients send when nobody said who they are: each such call is a new reader."""


class Desk:
    """Decides one request after the other: what the board allows is in the log before it is answered.

    Statuses that it returns say until when a study is reserved in seconds since the epoch.

    Parameters
    ----------
    log : Log
    readers_per_study : int
        How many readers label each study.
    """

    def __init__(self, log: Log, *, readers_per_study: int = 1) -> None:
        self._log = log
        self._lock = threading.RLock()
        self._start = log.tick - time.monotonic()
        self.readers_per_study = readers_per_study

    @property
    def board(self) -> Board:
        """As it is now; it never changes, another one takes its place."""
        return self._log.board

    @property
    def notice(self) -> str:
        """What an administrator should know of the log."""
        return self._log.notice

    def now(self) -> float:
        """Return the tick of this moment; the server's clock may jump, this one does not."""
        return self._start + time.monotonic()

    # -- what people ask

    def decide(self, *events: Event) -> Board:
        """Keep events that the board allows; `Refused` if one of them may not be, and none is kept."""
        with self._lock:
            stamped = [self._stamped(event) for event in events]
            try:
                self.board.after(*stamped)
            except Refused as refused:
                raise Refused(refused.study_id, self._shown(refused.status)) from None
            return self._log.append(*stamped) if stamped else self.board

    def take(self, choose: Callable[[Board, float], Reserved | None]) -> str | None:
        """Reserve what is chosen from the board, before anybody else can; return which study that is."""
        with self._lock:
            reserved = choose(self.board, self.now())
            if reserved is None:
                return None
            self._reserve(reserved)
            return reserved.study_id

    def reserve(self, study_id: str, client: str, given: Given | None = None) -> Status:
        """Reserve a study for 30 minutes, or renew the client's own reservation; what was given stays."""
        with self._lock:
            self._reserve(Reserved(study_id=study_id, client=client, seconds=RESERVED_SECONDS, given=given))
            return self.status(study_id)

    def _reserve(self, wanted: Reserved) -> None:
        now = self.now()
        held = self.board.status(wanted.study_id, now)
        if (held.status, held.client) == ("reserved", wanted.client):
            seconds = max(wanted.seconds, held.until - now)  # only the last renewal is kept
            self.decide(Renewed(study_id=wanted.study_id, client=wanted.client, seconds=seconds))
        elif held.anonymous and wanted.anonymous:  # left by one who did not say who it was
            self.decide(Released(study_id=wanted.study_id, client=held.client), wanted)
        else:
            self.decide(wanted)

    def release(self, study_id: str, client: str) -> Status:
        """Give a study back; one that was reopened by the same client and is unchanged is done again."""
        with self._lock:
            status = self.board.status(study_id, self.now())
            if status.status == "reserved" or (status.status == "open" and status.reopened_by == client):
                self.decide(Released(study_id=study_id, client=client))
            return self.status(study_id)

    def skip(self, study_id: str, client: str, reason: str) -> Status:
        """Take a study out for everyone."""
        self.decide(Skipped(study_id=study_id, client=client, reason=reason))
        return self.status(study_id)

    def unskip(self, study_id: str, client: str) -> Status:
        """Undo a skip."""
        return self._if("skipped", Unskipped(study_id=study_id, client=client))

    def reopen(self, study_id: str, client: str) -> Status:
        """Open a done study again."""
        return self._if("done", Reopened(study_id=study_id, client=client))

    def _if(self, status: str, event: Event) -> Status:
        with self._lock:
            if self.board.status(event.study_id, self.now()).status == status:
                self.decide(event)
            return self.status(event.study_id)

    # -- what it says

    def status(self, study_id: str) -> Status:
        """Where one study stands."""
        return self._shown(self.board.status(study_id, self.now()))

    def statuses(self) -> Mapping[str, Status]:
        """Where every study stands that anything was ever decided about; all others are open."""
        return self.board.shown(self.now(), time.time())

    def reader_of(self, study_id: str, info: Mapping[str, Any]) -> str:
        """Tell whose a label is: who says so, else the authenticated user, else the holder; empty for nobody."""
        said = [str(info.get(key) or "").strip() for key in ("client_id", "user")]
        status = self.board.status(study_id, self.now())
        holder = status.client if status.status == "reserved" else ""
        return next((name for name in said if name not in NOBODY), holder)

    def held(self) -> frozenset[str]:
        """Return the studies that somebody has now."""
        return self.board.held(self.now())

    def history(self) -> list[Event]:
        """Who did what when, oldest first."""
        return list(self._log.history())

    def back_up(self) -> None:
        """Copy the log beside itself, if anything was decided since."""
        self._log.back_up()

    def close(self) -> None:
        """Close the log; nothing can be decided afterwards."""
        with self._lock:
            self._log.close()

    def _stamped(self, event: Event) -> Event:
        if isinstance(event, Labelled) and event.tag == FINAL:
            event = replace(event, given=self.board.proposed(event.study_id))
        return replace(event, at=time.time(), tick=self.now())

    def _shown(self, status: Status) -> Status:
        return status.by_clock(time.time() - self.now())
