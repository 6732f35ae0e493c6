"""The standing proposals and the statuses of all studies: what routes and strategies ask."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastapi import HTTPException
from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from firstpick import __version__
from firstpick.board.log import OPEN, ConflictError, Decisions, Status, held_by, with_newer_label, with_statuses
from firstpick.config import Config
from firstpick.embedding.cache import Cache
from firstpick.proposal import Proposal, advise, knee, n_chosen, propose, read_proposal, with_replacement
from firstpick.report import lookalikes, pool_map
from firstpick.selection import check_strategy
from firstpick.server.answers import (
    HeldStudy,
    Lookalikes,
    NewProposal,
    PoolMap,
    Reader,
    ServerStatus,
    ShownPoint,
    ShownProposal,
    StudyStatus,
)
from firstpick.server.datastore import StudiesDatastore
from firstpick.server.served import being_prepared
from firstpick.server.snapshot import Snapshot
from firstpick.studies import LeftOut, Study

logger = logging.getLogger(__name__)

NOBODY = ("", "admin", "user-xyz")
"""Client ids that clients send when nobody said who they are: each such call is a new reader."""

_STATUS = TypeAdapter(ServerStatus)


class Worklist:
    """Ranked studies and who works on what.

    The background thread hands in listings, progress and the pool; requests only read them and change
    statuses. Every refusal is an ``HTTPException`` with a text a radiologist can act on.

    Attributes
    ----------
    wanted : threading.Event
        Set when somebody waits for a batch: the next one, or the first of another strategy.
    """

    def __init__(self, config: Config, cache: Cache, decisions: Decisions, datastore: StudiesDatastore) -> None:
        self._config = config
        self._decisions = decisions
        self._datastore = datastore
        self._lock = threading.RLock()
        self.now = Snapshot(config, cache)
        self.wanted = threading.Event()
        self._asked_for: set[str] = set()
        self._following: dict[tuple[str, tuple[str, ...], int], tuple[str, ...]] = {}

    # -- what the background thread asks

    def take_listing(self, studies: Sequence[Study], left_out: Sequence[LeftOut], served: Mapping[str, str]) -> None:
        """Take over which studies there are and how they are served; close or open those whose label came or went."""
        self._datastore.update(studies, served)
        self.now.take_listing(studies, left_out)
        self.sync_labels()

    def keep_standing(self) -> None:
        """Make sure that each strategy that is in use has a proposal whose open picks can be annotated."""
        if self.now.pool is None or not len(self.now.pool):
            return
        for strategy in dict.fromkeys([self._config.strategy, *self._decisions.strategies(), *sorted(self._asked_for)]):
            with self._lock:
                self._keep_standing(strategy)

    def wanted_files(self) -> None:
        """Have the files made that readers will open: of open picks, then of those that are next."""
        statuses = self._decisions.statuses()
        standing = [self._standing(strategy) for strategy in self._decisions.strategies()]
        picks = [pick for proposal in standing if proposal for pick in proposal.picks]
        ranked = [pick.study_id for pick in sorted(picks, key=lambda pick: pick.rank)]
        ranked = [study_id for study_id in ranked if statuses.get(study_id, OPEN).status in ("open", "reserved")]
        files = self._datastore.served
        if not all(map(files.is_own, self.now.studies or {})):
            ranked += [study_id for proposal in standing if proposal for study_id in self._next_best(proposal)]
        reserved = {study_id for study_id, status in statuses.items() if status.status == "reserved"}
        files.take_wanted(dict.fromkeys(ranked), reserved)

    def _next_best(self, standing: Proposal) -> tuple[str, ...]:
        """Return the batch after a standing one, were all its picks labelled; remembered until those change."""
        pool = self.now.pool
        if pool is None or not len(pool):
            return ()
        key = (standing.strategy, tuple(pick.study_id for pick in standing.picks), len(pool))
        if key not in self._following:
            config, picked = self._config, set(key[1])
            try:
                following = propose(
                    pool,
                    batch_size=config.batch_size,
                    encoder=config.encoder,
                    fingerprint=self.now.fingerprint,
                    labelled=self._with_status("done") | picked,
                    excluded=self._shut(),
                    **config.choice(standing.strategy),
                )
                found = tuple(pick.study_id for pick in following.picks)
            except ValueError:  # nothing is left
                found = ()
            self._following = {old: ids for old, ids in self._following.items() if old[0] != key[0]} | {key: found}
        return self._following[key]

    def sync_labels(self) -> None:
        """Bring statuses in line with the final labels on disk."""
        statuses = self._decisions.statuses()
        labelled = self._datastore.all_labelled_at()
        done = {study_id for study_id, status in statuses.items() if status.status == "done"}
        self._decisions.mark_done(
            {study_id: self._annotator(study_id) for study_id in with_newer_label(labelled, statuses) - done}
        )
        for study_id in done - labelled.keys():
            if study_id in (self.now.studies or {}):
                self._decisions.reopen(study_id, "", detail="label deleted")

    def label_saved(self, study_id: str) -> None:
        """Close a study if a final label newer than its last reopening is there; saved work closes nothing."""
        at = self._datastore.labelled_at(study_id)
        if at is not None and at > self._decisions.status(study_id).reopened_at:
            self._decisions.mark_done({study_id: self._annotator(study_id)})
            self._ask_for_next()

    def _annotator(self, study_id: str) -> str:
        return str(self._datastore.get_label_info(study_id, "final").get("client_id", ""))

    def _keep_standing(self, strategy: str) -> None:
        """Make the first proposal of a strategy, the next one if that is configured, or mend the standing one."""
        standing = self._standing(strategy)
        try:
            if standing is None or standing.provenance["fingerprint"] != self.now.fingerprint:
                self._propose(strategy)
            elif self._is_over(standing):
                self._propose(strategy, batch_size=standing.batch_size)
            elif self._can_grow(standing):
                self._propose(strategy, batch_size=standing.batch_size, keep_open=True)
            else:
                picks = {pick.study_id for pick in standing.picks}
                gone = (picks - set(self.now.ready_pool().study_ids)) | (picks & self._shut())
                self._replace(strategy, gone - self._with_status("done"))
        except HTTPException as error:
            logger.info("No batch of strategy %s: %s", strategy, error.detail)  # the routes say so

    def _standing(self, strategy: str) -> Proposal | None:
        """Return the standing proposal of a strategy as it was made or last mended, or None."""
        stored = self._decisions.proposal(strategy)
        return None if stored is None else read_proposal(stored)

    def _is_over(self, standing: Proposal) -> bool:
        closed = self._with_status("done", "skipped")
        return self._config.auto_next and all(pick.study_id in closed for pick in standing.picks)

    def _can_grow(self, standing: Proposal) -> bool:
        """Tell whether a batch came out short, and more studies have been embedded since."""
        pool = self.now.ready_pool()
        return n_chosen(standing.picks) < standing.batch_size and pool.n_studies > standing.n_pool

    def _ask_for_next(self) -> None:
        if any(self._is_over(standing) for name in self._decisions.strategies() if (standing := self._standing(name))):
            self.wanted.set()

    # -- proposals

    def proposal(self, strategy: str = "") -> ShownProposal:
        """Return the standing proposal of a strategy (the configured one by default), with live statuses."""
        strategy = self._known(strategy)
        standing = self._standing(strategy)
        if standing is None:
            with self._lock:
                self.now.ready_pool()
                standing = self._standing(strategy) or self._propose(strategy)
        return self._shown(standing)

    def new_proposal(self, wanted: NewProposal) -> ShownProposal:
        """Make a new standing proposal; reserved picks of the former stay on top."""
        with self._lock:
            made = self._propose(
                self._known(wanted.strategy),
                client=wanted.client_id,
                batch_size=wanted.batch_size,
                seed=wanted.seed,
                advice=wanted.advice,
                partial=wanted.partial,
            )
        return self._shown(made)

    def next_sample(self, strategy: str, client: str) -> dict[str, Any]:
        """Reserve the first open pick for a client; empty when no pick is open."""
        strategy = self._known(strategy)
        here = self.now.listed()
        standing = self._standing(strategy)
        if standing is None:
            if not set(self.now.ready_pool().study_ids) - self._with_status("done", "skipped"):
                return {}
            self._asked_for.add(strategy)
            self.wanted.set()
            raise HTTPException(503, f"The batch of strategy '{strategy}' is being made. Ask again in a few seconds.")
        reader = client_name(client)
        files = self._datastore.served
        ranked = [pick.study_id for pick in standing.picks]
        ranked = [study_id for study_id in ranked if study_id in here and not files.refusal(study_id)]
        first = self._decisions.reserve_first(filter(files.is_ready, ranked), reader)
        if first is None:
            statuses = self._decisions.statuses()
            if coming := [study_id for study_id in ranked if statuses.get(study_id, OPEN).status == "open"]:
                files.ask(coming[0])
                raise being_prepared(coming[0])
            return {}
        batch = to_jsonable_python(with_statuses(standing, self._decisions.statuses()))
        return {"id": first, "firstpick": {**batch, "client": reader}}

    def _propose(
        self,
        strategy: str,
        *,
        client: str = "",
        batch_size: int | None = None,
        seed: int | None = None,
        advice: bool = False,
        partial: bool = False,
        keep_open: bool = False,
    ) -> Proposal:
        """Choose a batch and make it the standing one; reserved picks (or all) of the former stay on top."""
        config, now = self._config, self.now
        pool = (now.partial_pool() if partial else now.ready_pool()).trimmed(self._decisions.annotated())
        standing = self._standing(strategy)
        reserved = self._with_status("reserved")
        picks = standing.picks if standing else ()
        keep = [pick for pick in picks if keep_open or pick.study_id in reserved]
        taken: dict[str, Any] = {"labelled": self._with_status("done"), "excluded": self._shut()}
        choice = config.choice(strategy, seed)
        try:
            proposal = propose(
                pool,
                batch_size=config.batch_size if batch_size is None else batch_size,
                encoder=config.encoder,
                fingerprint=now.fingerprint,
                failed=now.failed,
                left_out=now.left_out,
                partial=partial and pool.n_studies + len(now.failed) < len(now.studies or {}),
                keep=keep,
                **taken,
                **choice,
            )
        except ValueError as error:
            nothing_left = "othing left" in str(error)
            raise HTTPException(409 if nothing_left else 422, str(error)) from error
        if advice:
            proposal = replace(proposal, advice=advise(proposal, pool, **taken, **choice))
        self._decisions.put_proposal(strategy, to_jsonable_python(proposal), client)
        return proposal

    def _replace(self, strategy: str, gone: Iterable[str]) -> None:
        """Swap picks that can no longer be annotated for the next best of what they stood for."""
        with self._lock:
            standing, pool = self._standing(strategy), self.now.pool
            if standing is None or pool is None or not len(pool):
                return
            proposal, pool = standing, pool.trimmed(self._decisions.annotated())
            for study_id in gone:
                if study_id in {pick.study_id for pick in proposal.picks}:
                    proposal = with_replacement(
                        proposal,
                        pool,
                        study_id,
                        labelled=self._with_status("done"),
                        excluded=self._shut(),
                        unavailable=self._with_status("reserved"),
                    )
            if proposal != standing:
                self._decisions.put_proposal(strategy, to_jsonable_python(proposal), "")

    # -- statuses

    def reserve(self, study_id: str, client: str) -> StudyStatus:
        """Reserve a study, or renew the client's reservation; 409 if it is not to be had."""
        return self._change(study_id, lambda: self._decisions.reserve(study_id, client_name(client)))

    def release(self, study_id: str, client: str) -> StudyStatus:
        """Give a study back."""
        return self._change(study_id, lambda: self._decisions.release(study_id, client))

    def skip(self, study_id: str, client: str, reason: str) -> StudyStatus:
        """Take a study out for everyone; its pick is replaced by the next best of what it stood for."""
        result = self._change(study_id, lambda: self._decisions.skip(study_id, client, reason))
        for strategy in self._decisions.strategies():
            self._replace(strategy, [study_id])
        self._ask_for_next()
        return result

    def unskip(self, study_id: str, client: str) -> StudyStatus:
        """Undo a skip."""
        return self._change(study_id, lambda: self._decisions.unskip(study_id, client))

    def reopen(self, study_id: str, client: str) -> StudyStatus:
        """Open a done study again; only a newer final label closes it."""
        return self._change(study_id, lambda: self._decisions.reopen(study_id, client))

    def _change(self, study_id: str, change: Callable[[], Status]) -> StudyStatus:
        if study_id not in self.now.listed():
            raise HTTPException(404, f"Study '{study_id}' is not in the studies folder.")
        try:
            status = change()
            return StudyStatus(study_id, status.status, status.client, status.reason, status.until)
        except ConflictError as error:
            raise HTTPException(409, held_by(self.now.title_of(study_id), error.status)) from error

    def _with_status(self, *names: str) -> set[str]:
        return {study_id for study_id, status in self._decisions.statuses().items() if status.status in names}

    def _shut(self) -> set[str]:
        """Studies that nobody is to open: skipped, or no file that a reader could open can be made of them."""
        return (self._with_status("skipped") | self._datastore.served.refused()) - self._with_status("done")

    # -- facts

    def status(self) -> ServerStatus:
        """How things stand, for people and for the Slicer module."""
        studies = self.now.studies or {}
        statuses = {i: status for i, status in self._decisions.statuses().items() if i in studies}
        readers: dict[str, list[HeldStudy]] = {}
        for study_id, status in sorted(statuses.items()):
            if status.status == "reserved":
                readers.setdefault(status.client, []).append(
                    HeldStudy(study_id, self.now.title_of(study_id), status.until)
                )
        count = [status.status for status in statuses.values()].count
        return _STATUS.validate_python(
            {
                "version": __version__,
                **self.now.report(),
                "strategy": self._config.strategy,
                "batch_size": self._config.batch_size,
                "n_labelled": count("done"),
                "n_skipped": count("skipped"),
                "readers": [Reader(client, held) for client, held in sorted(readers.items())],
                "labels": self._config.labels,
                "unmatched_labels": self._datastore.unmatched,
                "unknown_values": self._datastore.unknown_values(),
                "notice": self._decisions.notice,
            }
        )

    def map(self, strategy: str = "") -> PoolMap:
        """Return every study's place in the plane of the first two principal components, its status, rank and pick."""
        pool, plane = self.now.plane()
        patients = self._config.groups.by == "patient"
        picks, statuses = self.proposal(strategy).picks, self._decisions.statuses()
        by_rank = {pick.rank: pick.study_id for pick in picks}
        points = []
        for point in pool_map(pool, plane, picks, statuses, groups_are_patients=patients):
            status = statuses.get(point.study_id, OPEN)
            owner = by_rank.get(point.nearest_pick or 0, "")
            points.append(ShownPoint(**vars(point), client=status.client, reason=status.reason, stands_with=owner))
        return PoolMap(points)

    def lookalikes(self, study_id: str) -> Lookalikes:
        """Return the studies nearest to one of the pool, nearest first; 404 if it has no embedding."""
        pool = self.now.plane()[0]
        ids = pool.study_ids
        if study_id not in ids:
            title = self.now.title_of(study_id)
            raise HTTPException(404, f"Study '{title}' has no embedding, so there are no look-alikes of it.")
        (rows,) = lookalikes(pool, [ids.index(study_id)])
        return Lookalikes(study_id, [ids[row] for row in rows])

    # -- inside

    def _shown(self, proposal: Proposal) -> ShownProposal:
        """Return a proposal with what is true now: statuses, and the batch size at which coverage flattens."""
        size = knee([proposal.covered_before, *proposal.coverage])
        return ShownProposal(**vars(with_statuses(proposal, self._decisions.statuses())), suggested_batch_size=size)

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
