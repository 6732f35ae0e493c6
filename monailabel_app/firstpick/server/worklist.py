"""What routes and strategies ask: the desk, the proposer and the listing, in the words of people."""

from __future__ import annotations

import gzip
import operator
import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from firstpick import __version__
from firstpick.board.board import Board, ReaderTally, Refused, Status, held_by, with_statuses
from firstpick.board.events import Given, Reserved
from firstpick.config import Config
from firstpick.learning.uncertainty import Uncertainty
from firstpick.proposal import LiveProposal, Proposal
from firstpick.report import lookalikes
from firstpick.selection import check_strategy
from firstpick.server.answers import (
    HeldStudy,
    ListedLabel,
    ListedSeries,
    Lookalikes,
    NewProposal,
    Reader,
    ServerStatus,
    StudyStatus,
)
from firstpick.server.bounds import MAX_LISTED
from firstpick.server.desk import NOBODY, Desk
from firstpick.server.image_facts import list_series
from firstpick.server.proposer import Proposer
from firstpick.server.snapshot import Snapshot
from firstpick.server.store import Store
from firstpick.sources.series import series_name
from firstpick.studies import Study

_PATIENCE_S = 25.0
_STATUS = TypeAdapter(ServerStatus)


class Worklist:
    """Ranked studies and who works on what. Every refusal is an ``HTTPException`` that a radiologist can act on."""

    def __init__(self, config: Config, desk: Desk, datastore: Store, *, now: Snapshot, proposer: Proposer) -> None:
        self._config = config
        self._desk = desk
        self._datastore = datastore
        self._proposer = proposer
        self.now = now
        self._mapping = threading.Lock()
        self._map: tuple[tuple[Any, ...], frozenset[str] | None, bytes] = ((), None, b"")
        self._count: tuple[Board, Mapping[str, Study], Mapping[str, Any]] = (Board(), {}, {})

    # -- batches

    def proposal(self, strategy: str = "") -> LiveProposal:
        """Return the standing batch of a strategy (the configured one by default), with live statuses."""
        return self._live(self._standing(self._known(strategy)))

    def _standing(self, strategy: str) -> Proposal:
        """Return the standing batch of a strategy; where there is none, have one made."""
        standing = self._proposer.standing(strategy)
        if standing is None:
            self.now.ready_pool()
            standing = self._ordered(strategy)
        return standing

    def new_proposal(self, wanted: NewProposal) -> LiveProposal:
        """Make a new standing batch; reserved picks of the former stay on top."""
        (self.now.partial_pool if wanted.partial else self.now.ready_pool)()
        return self._live(self._ordered(self._known(wanted.strategy), wanted))

    def _ordered(self, strategy: str, wanted: NewProposal | None = None) -> Proposal:
        try:
            return self._proposer.order(strategy, wanted).result(_PATIENCE_S)
        except futures.TimeoutError as error:
            raise _being_made(strategy) from error

    def next_sample(self, strategy: str, client: str) -> dict[str, Any]:
        """Reserve the first open pick for a client, else what it has; empty where there is neither."""
        strategy = self._known(strategy)
        here = self.now.listed()
        standing = self._proposer.standing(strategy)
        if standing is None:
            if not set(self.now.ready_pool().study_ids) - self._desk.board.with_status("done", "skipped"):
                return {}
            self._proposer.order(strategy)
            raise _being_made(strategy)
        reader, files = client_name(client), self._datastore.served
        is_anonymous = reader != client.strip()
        slices = {pick.study_id: pick.slices for pick in standing.picks}
        refused = files.refused()
        ranked = [study_id for study_id in slices if study_id in here and study_id not in refused]

        def openable(board: Board, now: float) -> frozenset[str]:
            return frozenset(study_id for study_id in board.held(now) - refused if study_id in here)

        def choose(board: Board, now: float) -> Reserved | None:
            study_id = board.first_open(filter(files.is_ready, ranked), reader, now, anonymous=is_anonymous)
            given: Given | None = None
            if study_id is not None:
                given = Given(strategy, slices[study_id])
            elif coming := board.first_open(ranked, reader, now, anonymous=is_anonymous):
                files.ask(coming)
                raise files.being_prepared(coming)
            elif study_id := board.oldest_held(openable(board, now), reader, now, anonymous=is_anonymous):
                given = board.statuses[study_id].given.get(board.statuses[study_id].client)
            if study_id is None:
                return None
            hold_s = self._config.hold_minutes * 60.0
            return Reserved(study_id=study_id, client=reader, seconds=hold_s, given=given, anonymous=is_anonymous)

        taken = self._desk.take(choose)
        if taken is None:
            return {}
        return {"id": taken, "firstpick": {**to_jsonable_python(self._live(standing)), "client": reader}}

    # -- statuses

    def reserve(self, study_id: str, client: str, strategy: str = "") -> StudyStatus:
        """Reserve a study, or renew the client's reservation; 409 if it is not to be had."""
        given = self._given(study_id, strategy)
        return self._change(study_id, lambda: self._desk.reserve(study_id, client_name(client), given))

    def heartbeat(self, study_id: str, client: str) -> StudyStatus:
        """Renew a client's reservation, or take it again: what the client was given before stays given."""
        return self._change(study_id, lambda: self._desk.reserve(study_id, client_name(client)))

    def _given(self, study_id: str, strategy: str) -> Given | None:
        """Find of which batch a study is a pick: the named one's, the configured one's, or any."""
        batches = self._desk.board.proposals
        for name in dict.fromkeys([strategy, self._config.strategy, *batches]):
            for pick in batches[name].picks if name in batches else ():
                if pick.study_id == study_id:
                    return Given(name, pick.slices)
        return None

    def release(self, study_id: str, client: str) -> StudyStatus:
        """Give a study back."""
        return self._change(study_id, lambda: self._desk.release(study_id, client))

    def skip(self, study_id: str, client: str, reason: str) -> StudyStatus:
        """Take a study out for everyone; its pick is replaced by the next best of what it stood for."""
        result = self._change(study_id, lambda: self._desk.skip(study_id, client, reason))
        self._proposer.mend_now()
        self._proposer.wake()
        return result

    def unskip(self, study_id: str, client: str) -> StudyStatus:
        """Undo a skip."""
        return self._change(study_id, lambda: self._desk.unskip(study_id, client))

    def reopen(self, study_id: str, client: str) -> StudyStatus:
        """Open a done study again: a new final label closes it, or giving it back unchanged."""
        return self._change(study_id, lambda: self._desk.reopen(study_id, client))

    def label_saved(self) -> None:
        """Say that a batch may be over."""
        self._proposer.wake()

    def _change(self, study_id: str, change: Callable[[], Status]) -> StudyStatus:
        self._check_listed(study_id)
        try:
            status = change()
        except Refused as refused:
            raise HTTPException(409, held_by(self.now.title_of(study_id), refused.status)) from refused
        return StudyStatus(study_id, status.status, status.client, status.reason, status.until)

    # -- facts

    def status(self) -> ServerStatus:
        """How things stand, for people and for the Slicer module."""
        notices = (self._desk.notice, self.now.notice, self.now.unsent, self._proposer.problem)
        return _STATUS.validate_python(
            {
                "version": __version__,
                **self.now.report(is_first_made=self._proposer.is_ready),
                "strategy": self._config.strategy,
                "batch_size": self._config.batch_size,
                **self._counted(),
                "readers": self._readers(),
                "readers_per_study": self._desk.readers_per_study,
                "labels": self._config.labels,
                "unmatched_labels": self._datastore.unmatched,
                "notice": " ".join(filter(None, notices)),
            }
        )

    def _counted(self) -> Mapping[str, Any]:
        """Count what was decided of the studies that are there; once for each board, whoever asks."""
        studies, board = self.now.studies or {}, self._desk.board
        if self._count[0] is not board or self._count[1] is not studies:
            counted = {
                "n_labelled": len(board.with_status("done") & studies.keys()),
                "n_skipped": len(board.with_status("skipped") & studies.keys()),
                **self._datastore.odd_labels(),
            }
            self._count = (board, studies, counted)
        return self._count[2]

    def _readers(self) -> list[Reader]:
        """Who works on what, and what each has done."""
        held: dict[str, list[HeldStudy]] = {}
        for study_id in sorted(self._desk.held()):
            status = self._desk.status(study_id)
            held.setdefault(status.client, []).append(HeldStudy(study_id, self.now.title_of(study_id), status.until))
        tallies = self._desk.board.readers
        return [
            Reader(client, held.get(client, []), **vars(tallies.get(client, ReaderTally())))
            for client in sorted(held.keys() | tallies.keys())
        ]

    def map(self, strategy: str = "") -> bytes:
        """Return every study's place in the plane, status, rank and nearest pick: the JSON of `PoolMap`, by gzip."""
        drawing, standing = self.now.drawing()[1], self._standing(self._known(strategy))
        made_of, held = (drawing, standing, self._desk.board, self._unsure()), self._desk.held()
        with self._mapping:
            former, former_held, _ = self._map
            if former_held != held or not all(map(operator.is_, former, made_of)):
                text = drawing.json(standing.picks, self._desk.statuses(), made_of[-1].quarters if made_of[-1] else {})
                self._map = (made_of, held, gzip.compress(text, compresslevel=1, mtime=0))
            return self._map[2]

    def _unsure(self) -> Uncertainty | None:
        """Return what the labels so far leave unsure; None where that is not known."""
        known = self._proposer.unsure()
        return None if isinstance(known, str) else known

    def lookalikes(self, study_id: str) -> Lookalikes:
        """Return the studies nearest to one of the pool, nearest first; 404 if it has no embedding."""
        pool = self.now.drawing()[0]
        ids = pool.study_ids
        if study_id not in ids:
            title = self.now.title_of(study_id)
            raise HTTPException(404, f"Study '{title}' has no embedding, so there are no look-alikes of it.")
        (rows,) = lookalikes(pool, [ids.index(study_id)])
        return Lookalikes(study_id, [ids[row] for row in rows])

    def notes(self, study_id: str) -> list[str]:
        """Return what is to be known of a study."""
        self._check_listed(study_id)
        return self.now.notes_on(study_id)

    def labels(self, study_id: str, client: str) -> list[ListedLabel]:
        """Return the labels of a study that a client may load, what it goes on with first."""
        self._check_listed(study_id)
        return self._datastore.label_list.listed(study_id, client.strip())

    def label(self, study_id: str, client: str, tag: str, version: int) -> Path:
        """Return the file of one of these labels; 404 if it is none of them."""
        self._check_listed(study_id)
        path = self._datastore.label_list.file(study_id, client.strip(), tag, version)
        if path is None:
            which = f"earlier label {version}" if version else f"label under the tag '{tag}'"
            msg = f"Study '{self.now.title_of(study_id)}' has no {which} for you. Ask for the list of its labels again."
            raise HTTPException(404, msg)
        return path

    def series(self, study_id: str) -> list[ListedSeries]:
        """Return the series of a study, the primary first; a study that is not of several is one."""
        self._check_listed(study_id)
        return list_series(self.now.listed()[study_id], self._datastore.served, self.now.note_on)

    def image(self, study_id: str, series: str) -> Path:
        """Return the file of a series: 503 while it is being prepared, 404 if there is none, 422 if it is broken."""
        return self._datastore.served.open(study_id, series_name(self.now.series(study_id, series)))

    # -- inside

    def _check_listed(self, study_id: str) -> None:
        if study_id not in self.now.listed():
            raise HTTPException(404, f"Study '{study_id}' is not in {self.now.place}.")

    def _live(self, proposal: Proposal) -> LiveProposal:
        now = self.now
        failed, left_out = now.failed[:MAX_LISTED], now.left_out[:MAX_LISTED]
        return with_statuses(
            proposal, self._desk.statuses(), failed=failed, left_out=left_out, studies=now.studies or {}
        )

    def _known(self, strategy: str) -> str:
        """Resolve a strategy's name; 404 with the known names."""
        if strategy in ("", "firstpick"):
            return self._config.strategy
        try:
            check_strategy(strategy)
        except ValueError as error:
            raise HTTPException(404, str(error)) from error
        return strategy


def client_name(client: str | None) -> str:
    """Return the reader's name; a missing or default one becomes a new reader."""
    name = (client or "").strip()
    return f"reader-{secrets.token_hex(3)}" if name in NOBODY else name


def _being_made(strategy: str) -> HTTPException:
    return HTTPException(503, f"The batch of strategy '{strategy}' is being made. Ask again in a few seconds.")
