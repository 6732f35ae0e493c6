"""The thread that makes batches and mends them; what others wait for, it makes first."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from fastapi import HTTPException

from firstpick.board.board import Board, Refused
from firstpick.board.events import Proposed
from firstpick.config import Config
from firstpick.proposal import Proposal, advise, in_round, n_chosen, prepare, propose, round_of, with_replacement
from firstpick.server.answers import NewProposal
from firstpick.server.chooser import Chooser, Unsure, chooser, nothing_learnt
from firstpick.server.desk import Desk
from firstpick.server.served import ServedFiles
from firstpick.server.snapshot import Snapshot
from firstpick.studies import Pool

logger = logging.getLogger(__name__)

_LOOK_S = 5.0
_LOOK_AT_START_S = 0.2
_ATTEMPTS = 5
_GROWN = 1.1


class _Following(NamedTuple):
    """What would come after a batch with these picks, in a pool of so many rows."""

    picks: frozenset[str]
    n_pool: int
    following: tuple[str, ...]


class Proposer(threading.Thread):
    """Keeps a standing batch for each strategy that is in use, from what is embedded when it is made.

    Attributes
    ----------
    is_ready : bool
        Whether the first batch stands and its first study can be opened, or that cannot be: whoever asks need not wait.
    problem : str
        What keeps batches from being made, for an administrator; empty if nothing.
    unsure : callable
        Says what the labels so far leave unsure.
    """

    def __init__(self, config: Config, desk: Desk, now: Snapshot, files: ServedFiles) -> None:
        super().__init__(name="proposer", daemon=True)
        self._config = config
        self._desk = desk
        self._now = now
        self._files = files
        self._wanted = threading.Event()
        self._orders: SimpleQueue[tuple[str, NewProposal | None, Future[Proposal]]] = SimpleQueue()
        self._making = threading.Lock()
        self._following: dict[str, _Following] = {}
        self.is_ready = False
        self.problem = ""
        self.unsure: Unsure = nothing_learnt
        self._is_stopped = False

    # -- what others ask

    def standing(self, strategy: str) -> Proposal | None:
        """Return the standing batch of a strategy, or None."""
        return self._desk.board.proposals.get(strategy)

    def order(self, strategy: str, wanted: NewProposal | None = None) -> Future[Proposal]:
        """Order a new batch; without wishes, one only where none stands."""
        order: Future[Proposal] = Future()
        self._orders.put((strategy, wanted, order))
        self._wanted.set()
        return order

    def wake(self) -> None:
        """Say that something changed."""
        self._wanted.set()

    def stop(self) -> None:
        """End the thread when it has done what it is at."""
        self._is_stopped = True
        self._wanted.set()
        self.join()

    def mend_now(self) -> None:
        """Mend the standing batches at once, or later if a batch is being made or they cannot be mended now.

        Whoever asks has decided something, which stands in any case.
        """
        if not self._making.acquire(blocking=False):
            self._wanted.set()
            return
        try:
            for strategy in self._desk.board.proposals:
                self._mend(strategy)
        except Exception as error:  # noqa: BLE001 - it is told
            self._tell(error)
            self._wanted.set()
        finally:
            self._making.release()

    # -- the thread

    def run(self) -> None:
        """Work until the process ends, or `stop` is called."""
        while not self._is_stopped:
            self._wanted.wait(_LOOK_S if self.is_ready else _LOOK_AT_START_S)
            self._wanted.clear()
            self.try_work()

    def try_work(self) -> None:
        """Do what is ordered and due; what goes wrong unexpectedly is told until it is over."""
        try:
            self.work()
            self.problem = ""
        except Exception as error:  # noqa: BLE001 - it is told
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        logger.error("A batch could not be made; the proposer goes on", exc_info=error)
        self.problem = f"Batches cannot be made or mended ({error}); the server's log has the details."

    def work(self) -> None:
        """Make what was ordered, then what is due."""
        while self._make_ordered():
            pass
        if self._now.pool is None:
            return
        if len(self._now.pool):
            for strategy in dict.fromkeys([self._config.strategy, *self._desk.board.proposals]):
                self._keep_standing(strategy)
                self._make_ordered()
            self._measure_ahead(self._now.pool)
        self._want_files()
        standing = self.standing(self._config.strategy)
        first = standing.picks[0].study_id if standing and standing.picks else None
        self.is_ready = self.is_ready or first is None or self._files.is_settled(first)

    def _make_ordered(self) -> bool:
        """Make one ordered batch; False if none is ordered."""
        try:
            strategy, wanted, order = self._orders.get_nowait()
        except Empty:
            return False
        try:
            with self._making:
                standing = self.standing(strategy)
                order.set_result(standing if standing and wanted is None else self._make(strategy, wanted))
        except Exception as error:  # noqa: BLE001 - whoever ordered it is told
            order.set_exception(error)
        return True

    # -- making

    def _make(self, strategy: str, wanted: NewProposal | None = None, *, keep_open: bool = False) -> Proposal:
        """Choose a batch and make it the standing one; reserved picks (or all) of the former stay on top."""
        wanted = wanted or NewProposal()
        pool = self._now.partial_pool() if wanted.partial else self._now.ready_pool()
        for _ in range(_ATTEMPTS):
            board = self._desk.board
            made = self._chosen(pool.trimmed(board.annotated), strategy, board, wanted, keep_open=keep_open)
            try:
                self._desk.decide(Proposed(proposal=made, client=wanted.client_id))
            except Refused:
                continue  # a label came meanwhile
            return made
        raise HTTPException(503, "Labels come faster than a batch can be made. Ask again in a few seconds.")

    def _chosen(self, pool: Pool, strategy: str, board: Board, wanted: NewProposal, *, keep_open: bool) -> Proposal:
        config, standing = self._config, board.proposals.get(strategy)
        held, picks = self._desk.held(), standing.picks if standing else ()
        taken: dict[str, Any] = {"labelled": board.with_status("done"), "excluded": self.shut(board)}
        number = standing.round if standing and keep_open else round_of(standing, taken["labelled"] & {*pool.study_ids})
        by = self._chooser(pool, strategy, board, number)
        choice = {**config.choice(by.strategy, wanted.seed), "patches": by.patches}
        try:
            made = propose(
                pool,
                batch_size=config.batch_size if wanted.batch_size is None else wanted.batch_size,
                encoder=config.encoder,
                fingerprint=self._now.fingerprint,
                partial=wanted.partial and pool.n_studies + len(self._now.failed) < len(self._now.studies or {}),
                keep=[pick for pick in picks if keep_open or pick.study_id in held],
                **taken,
                **choice,
            )
        except ValueError as error:
            nothing_left = "othing left" in str(error)
            raise HTTPException(409 if nothing_left else 422, str(error)) from error
        if wanted.advice:
            made = replace(made, advice=advise(made, pool, **taken, **choice))
        return in_round(made, number, asked=strategy, remark=by.remark, taught=by.taught, unsure=by.unsure)

    def _chooser(self, pool: Pool, strategy: str, board: Board, number: int) -> Chooser:
        free = frozenset(pool.study_ids) - board.with_status("done") - self.shut(board)
        return chooser(self._config, strategy, number, pool, self.unsure, free)

    def shut(self, board: Board) -> frozenset[str]:
        """Studies that nobody is to open: skipped, or no file that a reader could open can be made of them."""
        return (board.with_status("skipped") | self._files.refused()) - board.with_status("done")

    # -- what is due

    def _keep_standing(self, strategy: str) -> None:
        """Make the first batch of a strategy, the next one if that is configured, or mend the standing one."""
        standing = self.standing(strategy)
        try:
            with self._making:
                if standing is None or standing.provenance["fingerprint"] != self._now.fingerprint:
                    self._make(strategy)
                elif self._is_over(standing):
                    self._make(strategy, NewProposal(batch_size=standing.batch_size))
                elif self._can_grow(standing):
                    self._make(strategy, NewProposal(batch_size=standing.batch_size), keep_open=True)
                else:
                    self._mend(strategy)
        except HTTPException as error:
            logger.info("No batch of strategy %s: %s", strategy, error.detail)  # the routes say so

    def _is_over(self, standing: Proposal) -> bool:
        if not self._config.auto_next:
            return False
        closed = self._desk.board.with_status("done", "skipped")
        return all(pick.study_id in closed for pick in standing.picks)

    def _can_grow(self, standing: Proposal) -> bool:
        """Tell whether a batch came out short, and more studies have been embedded since."""
        return n_chosen(standing.picks) < standing.batch_size and self._now.ready_pool().n_studies > standing.n_pool

    def _mend(self, strategy: str) -> None:
        """Swap picks that can no longer be annotated for the next best of what they stood for."""
        standing, pool, board = self.standing(strategy), self._now.pool, self._desk.board
        if standing is None or pool is None or not len(pool):
            return
        gone = self._gone(standing, pool, board)
        if not gone:
            return
        mended, pool = standing, pool.trimmed(board.annotated)
        for study_id in gone:
            mended = with_replacement(
                mended,
                pool,
                study_id,
                labelled=board.with_status("done"),
                excluded=self.shut(board),
                unavailable=self._desk.held(),
            )
        if mended == standing:
            return
        try:
            self._desk.decide(Proposed(proposal=mended, is_mended=True))
        except Refused:
            self._wanted.set()  # a label came meanwhile

    def _gone(self, standing: Proposal, pool: Pool, board: Board) -> list[str]:
        shut, done, here = self.shut(board), board.with_status("done"), set(pool.study_ids)
        picks = [pick.study_id for pick in standing.picks]
        return [study_id for study_id in picks if study_id not in done and (study_id in shut or study_id not in here)]

    def _measure_ahead(self, pool: Pool) -> None:
        """Measure what the next skip and the next map will ask for, so that no reader waits for it."""
        board = self._desk.board
        trimmed = pool.trimmed(board.annotated)
        for standing in board.proposals.values():
            prepare(standing, trimmed, labelled=board.with_status("done"))
        self._now.drawing()

    # -- files that readers will open

    def _want_files(self) -> None:
        """Have files made: of open picks, then, once readers need not wait, of those that are next."""
        batches = list(self._desk.board.proposals.values())
        ranked = [pick.study_id for pick in sorted((p for b in batches for p in b.picks), key=lambda pick: pick.rank)]
        closed = self._desk.board.with_status("done", "skipped")
        ahead = [study_id for study_id in ranked if study_id not in closed]
        if self.is_ready and not self._files.are_all_own():
            ahead += [study_id for batch in batches for study_id in self._next_best(batch)]
        self._files.take_wanted(dict.fromkeys(ahead), self._desk.held())

    def _next_best(self, standing: Proposal) -> Collection[str]:
        """Return about the batch after a standing one, were all its picks labelled.

        Remembered until another half of the batch has come, or the pool has grown by a tenth: it takes as long to make
        as a batch, and is a guess.
        """
        pool, board = self._now.pool, self._desk.board
        if pool is None or not len(pool):
            return ()
        picks = frozenset(pick.study_id for pick in standing.picks)
        known = self._following.get(standing.strategy)
        if known and 2 * len(known.picks & picks) > len(picks) and len(pool) <= _GROWN * known.n_pool:
            return known.following
        by = self._chooser(pool, standing.strategy, board, standing.round + 1)
        choice = {**self._config.choice(by.strategy), "patches": by.patches}
        done, out = board.with_status("done") | picks, self.shut(board)
        try:
            following = propose(pool, batch_size=self._config.batch_size, labelled=done, excluded=out, **choice)
            found = tuple(pick.study_id for pick in following.picks)
        except ValueError:  # nothing is left
            found = ()
        self._following[standing.strategy] = _Following(picks, len(pool), found)
        return found
