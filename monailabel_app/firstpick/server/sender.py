"""The thread that sends final labels back to the PACS; what it has sent is noted with the label, in the log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path

from fastapi import HTTPException

from firstpick.board.board import Board
from firstpick.board.events import FINAL, SavedLabel
from firstpick.server.datastore import StudiesDatastore
from firstpick.server.desk import Desk
from firstpick.server.snapshot import Snapshot
from firstpick.sources.connection import SourceError
from firstpick.sources.dicomweb_labels import seg_uid, send_label
from firstpick.studies import Study
from firstpick.workers import Executor

logger = logging.getLogger(__name__)

_SENT = "pacs"
"""Key of a label's info: the SOPInstanceUID of what was sent of it."""
_LOOK_S = 1.0
_LEAST_PAUSE_S, _MOST_PAUSE_S = 2.0, 600.0


@dataclass(frozen=True)
class _Unsent:
    study: Study
    label: SavedLabel
    uid: str


class Sender(threading.Thread):
    """Sends each final label of a study in a PACS, one after the other; nobody waits for it.

    A label counts here when it is filed. What a PACS does not take now is sent after pauses that grow, also by the
    next server; what can never be a DICOM SEG is said.

    Parameters
    ----------
    desk : Desk
    datastore : StudiesDatastore
    now : Snapshot
    classes : mapping of int to str
        Names of the labels' values.
    executor : Executor
        Of processes.
    """

    def __init__(
        self, desk: Desk, datastore: StudiesDatastore, now: Snapshot, classes: Mapping[int, str], executor: Executor
    ) -> None:
        super().__init__(name="sender", daemon=True)
        self._desk = desk
        self._datastore = datastore
        self._now = now
        self._classes = classes
        self._executor = executor
        self._looked_at: tuple[Board, Mapping[str, Study]] | None = None
        self._resume_at, self._n_failures = 0.0, 0
        self._never: dict[str, str] = {}  # what cannot be sent, and why
        self._wait = threading.Event()

    def run(self) -> None:
        """Work until the process ends."""
        while not self._wait.wait(_LOOK_S):
            try:
                self.work()
            except Exception as error:
                logger.exception("Labels could not be sent; the sender goes on")
                self._pause(f"Labels cannot be sent ({error}); the server's log has the details.", 1)

    def work(self) -> None:
        """Send what is due, if anything was decided since it was last looked for."""
        board, studies = self._desk.board, self._now.studies or {}
        is_seen = self._looked_at is not None and self._looked_at[0] is board and self._looked_at[1] is studies
        if is_seen or time.monotonic() < self._resume_at:
            return
        left, why = self._due(board, studies), ""
        for unsent in list(left):
            try:
                self._send(unsent)
            except SourceError as error:
                why = why or str(error)
                if error.is_down:
                    break
            else:
                left.remove(unsent)
        if left:
            self._pause(why, len(left))
            return
        self._n_failures = 0
        self._looked_at = (board, studies)
        self._now.unsent = _sentence(self._never)

    def _due(self, board: Board, studies: Mapping[str, Study]) -> list[_Unsent]:
        """Find the labels that were not sent, the oldest first."""
        found = []
        for study_id, status in board.statuses.items():
            label, study = status.labels.get(FINAL), studies.get(study_id)
            if label is None or study is None:
                continue
            uid = seg_uid(study_id, label.stamp)
            if label.info.get(_SENT) != uid and uid not in self._never:
                found.append(_Unsent(study, label, uid))
        return sorted(found, key=lambda unsent: float(unsent.label.info.get("ts") or 0))

    def _send(self, unsent: _Unsent) -> None:
        study = unsent.study
        path = Path(self._datastore.get_label_uri(study.study_id, FINAL))
        creator = str(unsent.label.info.get("client_id") or "")
        try:
            self._executor.submit(send_label, study.primary, path, unsent.uid, self._classes, creator).result()
        except futures.TimeoutError:
            msg = f"Sending the label of study '{study.title}' took longer than the time limit."
            raise SourceError(msg, is_down=False) from None
        except SourceError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a library stumbles over, the other labels are sent
            logger.warning("The label of study %s cannot be sent: %s", study.study_id, error)
            self._never[unsent.uid] = f"The label of study '{study.title}' cannot be sent to the PACS: {error}"
            return
        try:
            self._datastore.update_label_info(study.study_id, FINAL, {_SENT: unsent.uid})
        except HTTPException:  # it was deleted meanwhile
            logger.info("The label of study %s was deleted while it was sent.", study.study_id)

    def _pause(self, why: str, n_unsent: int) -> None:
        pause_s = min(_LEAST_PAUSE_S * 2**self._n_failures, _MOST_PAUSE_S)
        self._n_failures += 1
        self._resume_at = time.monotonic() + pause_s
        labels = "1 final label is" if n_unsent == 1 else f"{n_unsent} final labels are"
        self._now.unsent = f"{labels} not in the PACS yet: {why} FirstPick sends again in {pause_s:.0f} s."
        logger.warning("%s", self._now.unsent)


def _sentence(never: Mapping[str, str]) -> str:
    """Say what cannot be sent: the first of it."""
    first = next(iter(never.values()), "")
    return f"{first} ({len(never) - 1} more labels cannot be sent.)" if len(never) > 1 else first
