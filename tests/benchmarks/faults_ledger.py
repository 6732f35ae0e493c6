"""What a server answered to its clients, and what must be true afterwards."""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Claim:
    """A request that changes one thing: when it was sent and answered, and how the thing stands if it took effect.

    Without an answer it may have taken effect at any time after it was sent, or never.
    """

    sent: float
    answered: float
    outcome: Any


@dataclass(frozen=True)
class Stand:
    """Where a study stands; a client or reason of None is any."""

    status: str
    client: str | None = None
    reason: str | None = None

    def allows(self, other: Stand) -> bool:
        pairs = ((self.client, other.client), (self.reason, other.reason))
        return self.status == other.status and all(mine in (None, theirs) for mine, theirs in pairs)


@dataclass(frozen=True)
class Upload:
    """A label as it was sent; the number of its voxels is no other label's. No checksum: the server turns its axes."""

    client: str
    n_voxels: int
    checksum: str | None = None


OPEN = Stand("open")
ANSWERS = ("decisions acknowledged", "labels acknowledged", "refused", "no room")


@dataclass
class Ledger:
    """Claims on studies (``study_id``) and on labels (``study_id, tag``), from many threads.

    A study is open, and a label is not there (None), until somebody claims something else.

    Attributes
    ----------
    counts : dict
        Answers by kind.
    skips, reserved : set
        Reasons of the skips, and (study, client) of the reservations, that the history must have.
    somewhere : dict
        For each client, how many requests for the next sample were never answered: each may have reserved a study.
    uploads : dict
        Every good label ever sent, by the number of its voxels.
    complaints : list of str
        Answers that should not have been.
    silences : list of str
        Why requests got no answer.
    """

    claims: dict[Any, list[Claim]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    skips: set[str] = field(default_factory=set)
    reserved: set[tuple[str, str]] = field(default_factory=set)
    somewhere: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    uploads: dict[int, Upload] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    silences: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def claim(self, thing: Any, sent: float, outcome: Any, *, is_answered: bool) -> None:
        """Note a request that took effect, or one of which that is not known."""
        claim = Claim(sent, time.monotonic() if is_answered else math.inf, outcome)
        with self.lock:
            self.claims.setdefault(thing, [_settled(None if isinstance(thing, tuple) else OPEN)]).append(claim)

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1

    @property
    def n_answers(self) -> int:
        """Requests that were answered, refusals included."""
        return sum(self.counts.get(what, 0) for what in ANSWERS)

    def complain(self, what: str) -> None:
        with self.lock:
            self.complaints.append(what)

    def silence(self, why: str) -> None:
        with self.lock:
            self.silences.append(why)

    def touched(self) -> set[Any]:
        """Things that somebody claimed something of since they were last settled."""
        return {thing for thing, claims in self.claims.items() if len(claims) > 1}

    def possible(self, thing: Any) -> list[Any]:
        """How a thing may stand: not as a claim has it that was answered before a later one, also answered, was sent.

        Holds while no request runs.
        """
        claims = self.claims.get(thing) or [_settled(None if isinstance(thing, tuple) else OPEN)]
        last_sent = max((claim.sent for claim in claims if claim.answered < math.inf), default=-math.inf)
        return [claim.outcome for claim in claims if claim.answered >= last_sent]

    def was_answered(self, thing: Any, outcome: Any) -> bool:
        """Whether somebody was told so."""
        return any(claim.outcome == outcome and claim.answered < math.inf for claim in self.claims[thing])

    def settle(self, thing: Any, outcome: Any) -> None:
        """From now on this is how a thing stands."""
        self.claims[thing] = [_settled(outcome)]


def _settled(outcome: Any) -> Claim:
    return Claim(-math.inf, -math.inf, outcome)
