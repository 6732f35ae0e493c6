"""The thread that keeps drafts of the next picks ready, whoever makes them; nobody waits for it."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from fastapi import HTTPException

from firstpick.board.board import OPEN, Board
from firstpick.board.events import FINAL
from firstpick.config import Config
from firstpick.learning.work import Taught, compare
from firstpick.server.desk import Desk
from firstpick.server.draft_files import DraftFiles, DraftRecord
from firstpick.server.looker import Looker
from firstpick.server.served import ServedFiles
from firstpick.server.snapshot import Snapshot
from firstpick.studies import Pool, Study
from firstpick.voxels.label_formats import LabelError
from firstpick.voxels.labels import checksum
from firstpick.voxels.volumes import VolumeError
from firstpick.workers import LocalPool, why_failed

logger = logging.getLogger(__name__)

CORRECTION = "draft"
"""Key of a final label's info: how it differs from the draft of its study."""

_LOOK_S = 0.5
_MOST_ASKED = 100


class _Seen(NamedTuple):
    """What the thread looked at when nothing was due."""

    board: Board
    studies: Mapping[str, Study] | None
    pool: Pool | None
    n_runs: int
    n_asked: int

    def is_same(self, other: _Seen) -> bool:
        """Tell whether nothing is another: board, listing and pool never change, others take their places."""
        is_same = self.board is other.board and self.studies is other.studies and self.pool is other.pool
        return is_same and (self.n_runs, self.n_asked) == (other.n_runs, other.n_asked)


class Labels(Protocol):
    """Of a store of studies, what a drafter needs."""

    served: ServedFiles

    def get_label_uri(self, label_id: str, label_tag: str, /) -> str:
        """Return the path of a label."""
        ...

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any], /) -> None:
        """Add to what is known of a label."""
        ...


class Drafter(threading.Thread, ABC):
    """Keeps drafts ready for the next picks of the configured strategy, and for studies that somebody asked for.

    A draft is there only while every label that it was learnt from is: one that is deleted or drawn anew is forgotten
    at once. What a reader has fetched stays as it is until the study is done, so that it can be compared with.

    Parameters
    ----------
    config : Config
    desk : Desk
    now : Snapshot
    store : Labels
    folder : Path
        Of the state, for drafts.
    executor : LocalPool
        Of one process.

    Attributes
    ----------
    state, message : str
        As `firstpick.server.draft_answers.DraftsStatus` has them.
    taught : Taught or None
        What came of the labels so far, where they are learnt from.
    looker : Looker or None
        Works out what they leave unsure, where the next round needs it.
    """

    def __init__(
        self, config: Config, desk: Desk, now: Snapshot, *, store: Labels, folder: Path, executor: LocalPool
    ) -> None:
        super().__init__(name="drafter", daemon=True)
        self._config = config
        self._desk = desk
        self._now = now
        self._store = store
        self._executor = executor
        self._wanted = threading.Event()
        self._asked: OrderedDict[str, None] = OrderedDict()
        self._failed: dict[tuple[str, str], str] = {}  # by study and stamp, from the labels of now
        self._n_runs = 0
        self._idle_since: _Seen | None = None
        self.files = DraftFiles(folder / "ready")
        self.looker: Looker | None = None
        self.taught: Taught | None = None
        self.state, self.message = "", ""

    # -- what requests ask

    def offered(self) -> dict[str, DraftRecord]:
        """Return the drafts that can be fetched, by study id: those of the next picks first, in their order."""
        board, marks = self._desk.board, self._marks(self._desk.board)
        ready = {i: record for i, record in self.files.records.items() if self._holds(record, board, marks)}
        ahead = [study_id for study_id in self._ahead(board) if study_id in ready]
        return {study_id: ready[study_id] for study_id in [*ahead, *sorted(ready.keys() - {*ahead})]}

    def fetch(self, study_id: str) -> Path:
        """Return the mask of a study, which stays as it is from now on.

        Raises
        ------
        HTTPException
            404 for an unknown study, 409 where none is offered, 422 where none can be made, 503 while it is made.
        """
        study, board = self._now.listed().get(study_id), self._desk.board
        if study is None:
            raise HTTPException(404, f"Study '{study_id}' is not in {self._now.place}.")
        record = self.files.records.get(study_id)
        if record is not None and self._holds(record, board, self._marks(board)):
            self.files.take(study_id)
            return self.files.path(study_id)
        if FINAL in board.statuses.get(study_id, OPEN).labels:
            raise HTTPException(409, f"Study '{study.title}' has a final label: no draft is made of it.")
        if self.state in ("waiting", "below", "problem"):
            raise HTTPException(503 if self.state == "problem" else 409, self.message)
        if why := self._failed.get((study_id, study.stamp)):
            raise HTTPException(422, f"No draft of study '{study.title}' can be made: {why}")
        self._ask(study_id)
        text = f"The draft of study '{study.title}' is being made. Ask again in a few seconds."
        raise HTTPException(503, text, headers={"Retry-After": "2"})

    def learn_again(self) -> None:
        """Look at the labels once more, though they are what they were."""
        self._n_runs += 1
        self._wanted.set()

    def _ask(self, study_id: str) -> None:
        self._asked[study_id] = None
        while len(self._asked) > _MOST_ASKED:
            self._asked.popitem(last=False)
        self._wanted.set()

    # -- the thread

    def run(self) -> None:
        """Work until the process ends."""
        while True:
            self._wanted.wait(_LOOK_S)
            self._wanted.clear()
            try:
                while self.work():
                    pass
            except Exception as error:
                logger.exception("Drafts could not be made; the drafter goes on")
                self._say("problem", f"Drafts cannot be made ({error}); the server's log has the details.")
                time.sleep(10 * _LOOK_S)

    def work(self) -> bool:
        """Do the next thing that is due; False if nothing is."""
        board, studies = self._desk.board, self._now.studies
        seen = _Seen(board, studies, self._now.pool, self._n_runs, len(self._asked))
        if studies is None or (self._idle_since is not None and self._idle_since.is_same(seen)):
            return False
        is_busy = self._compare(board, studies)
        if not is_busy:
            self._forget(board)
            is_busy = self._next(board, studies)
        self._idle_since = None if is_busy else seen
        return is_busy

    @abstractmethod
    def _next(self, board: Board, studies: Mapping[str, Study]) -> bool:
        """Do the next thing that is due, once all that is over is dealt with; False if nothing is."""

    def _say(self, state: str, message: str) -> None:
        self.state, self.message = state, message

    # -- drafting

    def _due(self, marks: tuple[str, ...], board: Board, studies: Mapping[str, Study]) -> Iterator[Study]:
        """Yield the studies whose draft is missing, or older than the newest label and nobody's yet."""
        for study_id in [*self._asked, *self._ahead(board)]:
            study = studies.get(study_id)
            if study is None or FINAL in board.statuses.get(study_id, OPEN).labels:
                self._asked.pop(study_id, None)
                continue
            record = self.files.records.get(study_id)
            is_there = record is not None and (record.is_taken or record.marks == marks)
            if not is_there and (study_id, study.stamp) not in self._failed:
                yield study

    def _draft(
        self,
        study: Study,
        make: Callable[[Path, Path | None], tuple[float | None, dict[str, int]]],
        *,
        marks: tuple[str, ...] = (),
        dice: float | None = None,
    ) -> None:
        """Have a draft made and keep it; `make` takes where it is written and the file that readers open."""
        path = self.files.new_path(study.study_id)
        try:
            served = self._store.served.place(study.study_id)
            served = served if served and served.exists() else None
            unsure, n_voxels = make(path, served)
        except (VolumeError, LabelError, OSError) as error:
            is_late = isinstance(error, futures.TimeoutError)  # an OSError since Python 3.11
            self._failed[study.study_id, study.stamp] = why_failed(error, "Drafting") if is_late else str(error)
        except Exception as error:  # noqa: BLE001 - a worker may die of anything
            self._failed[study.study_id, study.stamp] = why_failed(error.__cause__ or error, "Drafting")
        else:
            record = DraftRecord(
                study_id=study.study_id,
                stamp=study.stamp,
                marks=marks,
                dice=dice,
                unsure=unsure,
                n_voxels=n_voxels,
                checksum=checksum(path),
                ts=time.time(),
            )
            self.files.keep(record)
            return
        logger.warning("No draft of study %s: %s", study.study_id, self._failed[study.study_id, study.stamp])

    def _ahead(self, board: Board) -> list[str]:
        """Return the next picks, the first first: those that somebody has, and the open ones."""
        standing = board.proposals.get(self._config.strategy)
        closed = board.with_status("done", "skipped")
        picks = [pick.study_id for pick in standing.picks if pick.study_id not in closed] if standing else []
        held = [study_id for study_id in picks if study_id in board.reserved]
        return [*held, *[i for i in picks if i not in board.reserved][: self._config.drafts.ahead]]

    # -- what is over

    def _marks(self, board: Board) -> dict[str, str]:
        """Return what tells each final label from another one."""
        labels = {i: board.statuses[i].labels.get(FINAL) for i in sorted(board.with_status("done"))}
        return {i: label.checksum or label.stamp for i, label in labels.items() if label is not None}

    def _holds(self, record: DraftRecord, board: Board, marks: Mapping[str, str]) -> bool:
        """Tell whether a draft may be offered: of the file that is there, from labels that are there."""
        study = (self._now.studies or {}).get(record.study_id)
        is_labelled = FINAL in board.statuses.get(record.study_id, OPEN).labels
        is_same = study is not None and study.stamp == record.stamp
        return is_same and not is_labelled and set(record.marks) <= set(marks.values())

    def _forget(self, board: Board) -> None:
        """Delete the drafts that may not be offered any more."""
        marks = self._marks(board)
        for study_id, record in self.files.records.items():
            if not self._holds(record, board, marks):
                self.files.drop(study_id)

    def _compare(self, board: Board, studies: Mapping[str, Study]) -> bool:
        """Note with a final label how it differs from the draft of its study; False if there is none to compare."""
        for study_id, record in self.files.records.items():
            label = board.statuses.get(study_id, OPEN).labels.get(FINAL)
            if label is None or CORRECTION in label.info or study_id not in studies:
                continue
            path = Path(self._store.get_label_uri(study_id, FINAL))
            classes = tuple((one.name, one.value) for one in self._config.labels)
            try:
                found = self._executor.submit(
                    compare, studies[study_id], self.files.path(study_id), path, classes
                ).result()
            except Exception as error:  # noqa: BLE001 - a worker may die of anything
                logger.warning("The label of study %s is not compared with its draft: %s", study_id, error)
            else:
                noted = {**asdict(found), "n_labels": len(record.marks), "is_taken": record.is_taken}
                self._note(study_id, noted)
            self.files.drop(study_id)
            return True
        return False

    def _note(self, study_id: str, noted: Mapping[str, object]) -> None:
        try:
            self._store.update_label_info(study_id, FINAL, {CORRECTION: dict(noted)})
        except HTTPException:  # it was deleted meanwhile
            logger.info("The label of study %s was deleted while it was compared with its draft.", study_id)
