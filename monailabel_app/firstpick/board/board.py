"""The board: where every study stands, as a fold over events, and what may not be. Pure: it opens nothing."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

from firstpick.board.events import (
    FINAL,
    READING,
    Event,
    Given,
    Labelled,
    Named,
    Noted,
    Proposed,
    Released,
    Renewed,
    Reopened,
    Reserved,
    Restored,
    SavedLabel,
    Skipped,
    Unlabelled,
    Unskipped,
)
from firstpick.proposal import LivePick, LiveProposal, Proposal
from firstpick.studies import LeftOut, Slice, Study

RESERVED_SECONDS = 30 * 60.0
"""How long a study stays reserved without a heartbeat; how long one that an anonymous reader took is theirs alone."""


@dataclass(frozen=True)
class Status:
    """Where a study stands.

    Attributes
    ----------
    status : {'open', 'reserved', 'done', 'skipped'}
    client : str
        Who reserved, finished or skipped it.
    reason : str
        Why it was skipped.
    since : float
        When that was, in seconds since the epoch.
    until : float
        When a reservation ends, in ticks of the log; 0 unless reserved.
    taken : float
        When it was reserved, in ticks.
    anonymous : bool
        Whether it is reserved for somebody who did not say who they are.
    reopened_by : str or None
        Who reopened it, until it is done again; None for nobody.
    given : mapping of str to Given
        What each client was given of it.
    labels : mapping of str to SavedLabel
        Its labels by tag, the newest last.
    earlier : tuple of SavedLabel
        Final labels that another one took the place of, the newest first.
    annotated : tuple of Slice or None
        Slices that its final labels are of, empty for the whole study; None before the first.
    read_by : tuple of str
        Readers whose label counts, where a study needs several.
    read_anonymously : bool
        Whether one of them did not say who they are.
    """

    status: str = "open"
    client: str = ""
    reason: str = ""
    since: float = 0.0
    until: float = 0.0
    taken: float = 0.0
    anonymous: bool = False
    reopened_by: str | None = None
    given: Mapping[str, Given] = field(default_factory=dict)
    labels: Mapping[str, SavedLabel] = field(default_factory=dict)
    earlier: tuple[SavedLabel, ...] = ()
    annotated: tuple[Slice, ...] | None = None
    read_by: tuple[str, ...] = ()
    read_anonymously: bool = False

    def opened(self) -> Status:
        """Return it as one that nobody holds."""
        return replace(self, status="open", client="", reason="", since=0.0, until=0.0, taken=0.0, anonymous=False)

    def by_clock(self, since_epoch: float) -> Status:
        """Say until when in seconds since the epoch, given when tick 0 was."""
        return replace(self, until=float(round(since_epoch + self.until))) if self.until else self

    def may_be_read(self, client: str, *, anonymous: bool = False) -> bool:
        """Tell whether a client has not read it yet; of two who do not say who they are nobody knows."""
        return client not in self.read_by and not (anonymous and self.read_anonymously)

    def closed(self) -> Status:
        """Return it as one that is done by whoever made its final label; every reading of it counts."""
        readers = (_reader(label) for tag, label in self.labels.items() if tag.startswith(READING))
        read_by = tuple(dict.fromkeys(filter(None, readers)))
        client = _reader(self.labels[FINAL])
        return replace(self.opened(), status="done", client=client, reopened_by=None, read_by=read_by)


OPEN = Status()


class Refused(Exception):  # noqa: N818 - no error: somebody else was faster
    """What may not be: the text says who has the study; ``status`` is where it stands."""

    def __init__(self, study_id: str, status: Status) -> None:
        super().__init__(held_by(study_id, replace(status, until=0.0)))
        self.study_id = study_id
        self.status = status


@dataclass(frozen=True)
class ReaderTally:
    """What one reader did: studies done and skipped, and how long the labels took that say so."""

    n_done: int = 0
    n_skipped: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Board:
    """All that people decided.

    Attributes
    ----------
    statuses : mapping of str to Status
        Of every study that anything was ever decided about; all others are open.
    proposals : mapping of str to Proposal
        The standing batch of each strategy.
    names : mapping of str to str
        The name of each study's label files.
    notes : mapping of (str, str) to mapping
        What clients added to studies (no tag) and labels.
    known_until : float
        Until when decisions are known, if the log was ever restored from its copy; else 0.
    """

    statuses: Mapping[str, Status] = field(default_factory=dict)
    proposals: Mapping[str, Proposal] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    known_until: float = 0.0

    # -- events

    def after(self, *events: Event) -> Board:
        """Return the board after some events.

        Raises
        ------
        Refused
            If one of them may not be.
        """
        board = self
        for event in events:
            board.check(event)
            board = board.replayed([event])
        return board

    def replayed(self, events: Iterable[Event]) -> Board:
        """Return the board after events that have happened: what was decided once is not judged again."""
        statuses, proposals = dict(self.statuses), dict(self.proposals)
        names, notes = dict(self.names), dict(self.notes)
        known_until = self.known_until
        for event in events:
            match event:
                case Proposed():
                    proposals.pop(event.proposal.strategy, None)
                    proposals[event.proposal.strategy] = event.proposal  # the newest is the last
                case Named():
                    names.setdefault(event.study_id, event.name)
                case Noted(tag=""):
                    notes[event.study_id] = {**notes.get(event.study_id, {}), **event.info}
                case Restored():
                    known_until = event.known_until
                case _:
                    before = statuses.get(event.study_id, OPEN)
                    statuses[event.study_id] = _after(before, event)
        return Board(statuses, proposals, names, notes, known_until)

    def check(self, event: Event) -> None:
        """Raise `Refused` if an event may not be."""
        status = self.status(event.study_id, event.tick)
        is_others = status.status == "reserved" and status.client != event.client
        match event:
            case Reserved() | Renewed():
                refused = is_others or status.status in ("done", "skipped") or event.client in status.read_by
            case Skipped():
                refused = is_others or status.status == "done"
            case Released():
                refused = is_others
            case Proposed():
                former = self.proposals.get(event.proposal.strategy) if event.is_mended else None
                kept = {pick.study_id for pick in former.picks} if former else set()
                fresh = [pick.study_id for pick in event.proposal.picks if pick.study_id not in kept]
                shut = [study_id for study_id in fresh if self.statuses.get(study_id, OPEN).status == "done"]
                if shut:
                    raise Refused(shut[0], self.statuses[shut[0]])
                refused = False
            case _:
                refused = False
        if refused:
            raise Refused(event.study_id, status)

    # -- what it says

    def status(self, study_id: str, now: float) -> Status:
        """Where one study stands at a tick; a reservation that ran out is open."""
        status = self.statuses.get(study_id, OPEN)
        return status.opened() if status.status == "reserved" and status.until <= now else status

    def shown(self, now: float, clock: float) -> Mapping[str, Status]:
        """Where every study stands at a tick, which is so many seconds since the epoch; ``until`` as such, too."""
        held = {study_id: self.status(study_id, now).by_clock(clock - now) for study_id in self.reserved}
        return {**self.statuses, **held}

    def first_open(self, ranked: Iterable[str], client: str, now: float, *, anonymous: bool = False) -> str | None:
        """Return the first study that a client may take, or None."""
        for study_id in ranked:
            status = self.status(study_id, now)
            if status.status == "open" and status.may_be_read(client, anonymous=anonymous):
                return study_id
        return None

    def oldest_held(self, among: Container[str], client: str, now: float, *, anonymous: bool = False) -> str | None:
        """Return what a client took first of what they hold among some studies.

        An anonymous client holds nothing: it gets what another anonymous one took first, if more than 30 minutes ago.
        """
        held = sorted((self.statuses[i].taken, i) for i in self.held(now) if i in among)
        for taken, study_id in held:
            status = self.statuses[study_id]
            is_left = anonymous and status.anonymous and taken + RESERVED_SECONDS <= now
            if status.client == client or is_left:
                return study_id
        return None

    def proposed(self, study_id: str) -> Given | None:
        """Return what is proposed of a study in the newest batch that has it."""
        for strategy, proposal in reversed([*self.proposals.items()]):
            for pick in proposal.picks:
                if pick.study_id == study_id:
                    return Given(strategy, pick.slices)
        return None

    def with_status(self, *names: str) -> frozenset[str]:
        """Return the studies that stand so; the reserved ones whether that ran out or not."""
        return frozenset().union(*(self._by_status.get(name, frozenset()) for name in names))

    def held(self, now: float) -> frozenset[str]:
        """Return the studies that somebody has at a tick."""
        return frozenset(i for i in self.reserved if self.statuses[i].until > now)

    @cached_property
    def reserved(self) -> frozenset[str]:
        """Studies that were reserved, whether that ran out or not."""
        return self._by_status.get("reserved", frozenset())

    @cached_property
    def _by_status(self) -> Mapping[str, frozenset[str]]:
        found: dict[str, list[str]] = {}
        for study_id, status in self.statuses.items():
            found.setdefault(status.status, []).append(study_id)
        return {name: frozenset(ids) for name, ids in found.items()}

    @cached_property
    def readers(self) -> Mapping[str, ReaderTally]:
        """What each reader has done, by name; sorted."""
        done: Counter[str] = Counter()
        skipped: Counter[str] = Counter()
        seconds: defaultdict[str, float] = defaultdict(float)
        for status in self.statuses.values():
            if status.status == "skipped":
                skipped[status.client] += 1
            readings = [label for tag, label in status.labels.items() if tag.startswith(READING)]
            final = [status.labels[FINAL]] if status.status == "done" and FINAL in status.labels else []
            for label in readings or final:
                client = str(label.info.get("client_id", ""))
                done[client] += 1
                seconds[client] += label.seconds
        names = sorted(done.keys() | skipped.keys())
        return {name: ReaderTally(done[name], skipped[name], seconds[name]) for name in names if name}

    @cached_property
    def annotated(self) -> Mapping[str, tuple[Slice, ...]]:
        """The slices of done studies that were annotated; empty for the whole study."""
        done = self._by_status.get("done", frozenset())
        return {i: self.statuses[i].annotated or () for i in done}


def _after(before: Status, event: Event) -> Status:  # noqa: PLR0911 - one a kind
    """Return where a study stands after something happened to it."""
    match event:
        case Reserved():
            return _reserved(before, event)
        case Renewed():
            is_held = (before.status, before.client) == ("reserved", event.client) and event.tick >= before.taken
            return replace(before, until=max(before.until, event.tick + event.seconds)) if is_held else before
        case Released() if before.status in ("open", "reserved"):
            is_unchanged = before.reopened_by == event.client and FINAL in before.labels
            return before.closed() if is_unchanged else before.opened()
        case Skipped():
            return replace(before.opened(), status="skipped", client=event.client, reason=event.reason, since=event.at)
        case Unskipped():
            return before.opened() if before.status == "skipped" else before
        case Reopened() if before.status == "done":
            again = event.client if event.client in before.read_by else ""
            return replace(before.opened(), reopened_by=event.client, read_by=_still_read(before, again))
        case Labelled():
            return _labelled(before, event)
        case Unlabelled():
            return _unlabelled(before, event)
        case Noted():
            return _noted(before, event)
        case _:
            return before


def _reserved(before: Status, event: Reserved) -> Status:
    others = {client: given for client, given in before.given.items() if client != event.client}
    return replace(
        before,
        status="reserved",
        client=event.client,
        reason="",
        since=event.at,
        until=event.tick + event.seconds,
        taken=event.tick,
        anonymous=event.anonymous,
        given={**others, event.client: event.given} if event.given else before.given,  # the newest is the last
    )


def _labelled(before: Status, event: Labelled) -> Status:
    others = {tag: label for tag, label in before.labels.items() if tag != event.tag}
    former = [before.labels[FINAL]] if event.tag == FINAL and FINAL in before.labels else []
    labels = {**others, event.tag: event.label}  # the newest is the last
    status = replace(before, labels=labels, earlier=(*former, *before.earlier))
    if event.tag.startswith(READING):
        readers = (*_still_read(before, event.client), event.client) if event.client else before.read_by
        is_own = before.status == "reserved" and before.client == event.client
        is_anonymous = before.read_anonymously or (is_own and before.anonymous)
        return replace(status.opened() if is_own else status, read_by=readers, read_anonymously=is_anonymous)
    if event.tag != FINAL:
        return status
    annotated = _united(before.annotated, _given(before, event))
    return replace(status.closed(), client=event.client, since=event.at, annotated=annotated)


def _unlabelled(before: Status, event: Unlabelled) -> Status:
    labels = {tag: label for tag, label in before.labels.items() if tag != event.tag}
    gone = before.labels.get(event.tag)
    status = replace(before, labels=labels)
    if event.tag == FINAL:
        read_by = _still_read(before, _reader(gone) if gone else "")
        earlier = (*([gone] if gone else []), *before.earlier)
        status = replace(status, annotated=None, reopened_by=None, read_by=read_by, earlier=earlier)
        return status.opened() if before.status == "done" else status
    if gone and _reader(gone) and event.tag.startswith(READING):
        return replace(status, read_by=_still_read(before, _reader(gone)))
    return status


def _still_read(before: Status, reader: str) -> tuple[str, ...]:
    """Whose readings count but one reader's, who is to read again; where nobody knows whose, the newest one's."""
    again = reader or (before.read_by[-1] if before.read_by else "")
    return tuple(name for name in before.read_by if name != again)


def _reader(label: SavedLabel) -> str:
    return str(label.info.get("client_id") or "")


def _noted(before: Status, event: Noted) -> Status:
    label = before.labels.get(event.tag)
    if label is None:
        return before
    return replace(before, labels={**before.labels, event.tag: replace(label, info={**label.info, **event.info})})


def _given(status: Status, event: Labelled) -> tuple[Slice, ...]:
    """Return what a label is of: what its reader was given, else what the last one was, else what it says itself."""
    given = status.given.get(event.client) or next(reversed([*status.given.values()]), event.given)
    return given.slices if given else ()


def _united(before: tuple[Slice, ...] | None, new: tuple[Slice, ...]) -> tuple[Slice, ...]:
    """Join the slices of an earlier final label and of a new one; the whole study holds any slice."""
    if before is None:
        return new
    if not before or not new:
        return ()
    return tuple(sorted({*before, *new}))


def with_statuses(
    proposal: Proposal,
    statuses: Mapping[str, Status],
    *,
    failed: Iterable[LeftOut] = (),
    left_out: Iterable[LeftOut] = (),
    studies: Mapping[str, Study] = MappingProxyType({}),
) -> LiveProposal:
    """Return a proposal with what is true now; of `studies` the names of series."""
    picks = []
    for pick in proposal.picks:
        status = statuses.get(pick.study_id, OPEN)
        study = studies.get(pick.study_id)
        stands = LivePick(
            **vars(pick),
            status=status.status,
            client=status.client,
            until=status.until,
            read_by=status.read_by,
            series=tuple(one.name for one in study.series) if study else (),
        )
        picks.append(stands)
    live = {"picks": tuple(picks), "failed": tuple(failed), "left_out": tuple(left_out)}
    return LiveProposal(**{**vars(proposal), **live})


def held_by(title: str, status: Status) -> str:
    """Say who has a study, in a sentence; ``until`` of the status in seconds since the epoch, or 0 to leave it out."""
    if status.status == "reserved":
        until = f" until {time.strftime('%H:%M', time.localtime(status.until))}" if status.until else ""
        return f"Study '{title}' is in progress by {status.client}{until}."
    if status.status == "open":
        readers = " and ".join(status.read_by)
        return f"Study '{title}' was read by {readers} already: it is another reader's turn."
    return f"Study '{title}' was {status.status} by {status.client or 'somebody before'}."
