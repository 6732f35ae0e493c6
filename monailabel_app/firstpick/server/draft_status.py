"""How the drafts stand, in the words of people: what was learnt, what is ready, what readers changed, when to stop."""

from __future__ import annotations

from urllib.parse import quote

from firstpick.board.board import Board
from firstpick.board.events import FINAL
from firstpick.config import Config
from firstpick.learning.stop import when_to_stop
from firstpick.server.answers import ListedLabel
from firstpick.server.desk import Desk
from firstpick.server.draft_answers import Correction, DraftsStatus, LabelWarning, ListedDraft
from firstpick.server.draft_files import ENDING, DraftRecord
from firstpick.server.drafter import CORRECTION, Drafter
from firstpick.server.label_list import DRAFT
from firstpick.server.snapshot import Snapshot


class DraftDesk:
    """Answers what is asked of drafts.

    Parameters
    ----------
    config : Config
    desk : Desk
    now : Snapshot
    drafter : Drafter
    """

    def __init__(self, config: Config, desk: Desk, now: Snapshot, drafter: Drafter) -> None:
        self._config = config
        self._desk = desk
        self._now = now
        self.drafter = drafter
        self._corrected: tuple[Board, list[Correction]] = (Board(), [])

    def status(self) -> DraftsStatus:
        """Return how the drafts stand."""
        drafter, taught, corrections = self.drafter, self.drafter.taught, self._corrections()
        stop = self._config.stop
        return DraftsStatus(
            state=drafter.state,
            message=drafter.message,
            n_labels=0 if taught is None else taught.n_labels,
            dice=None if taught is None else taught.dice,
            dice_of={} if taught is None else dict(taught.dice_of),
            drafts=[self._listed(record) for record in drafter.offered().values()],
            warnings=[
                LabelWarning(study_id=one.study_id, title=self._now.title_of(one.study_id), sentence=one.sentence)
                for one in (taught.warnings if taught else ())
            ],
            corrections=corrections,
            stop=when_to_stop([one.dice for one in corrections], least=stop.dice, last=stop.last) or "",
            next_round=drafter.looker.message if drafter.looker else "",
        )

    def label(self, study_id: str) -> list[ListedLabel]:
        """Return the draft of a study as a label that may be loaded; empty if there is none."""
        record = self.drafter.offered().get(study_id)
        if record is None:
            return []
        path = self.drafter.files.path(study_id)
        listed = ListedLabel(
            tag=DRAFT,
            version=0,
            kind=DRAFT,
            title=self._title(record),
            client="",
            ts=record.ts,
            seconds=0.0,
            n_voxels=sum(record.n_voxels.values()),
            ending=ENDING,
            n_bytes=path.stat().st_size if path.exists() else 0,
            checksum=record.checksum,
            is_resumed=False,
            path=f"/firstpick/draft/{quote(study_id)}",
        )
        return [listed]

    def _title(self, record: DraftRecord) -> str:
        if record.dice is None:
            return f"Draft of the model '{self._config.drafts.model}'"
        n = len(record.marks)
        return f"Draft of the server from {n} labels (Dice {record.dice:.2f} on labels that it had not seen)"

    def _listed(self, record: DraftRecord) -> ListedDraft:
        return ListedDraft(
            study_id=record.study_id,
            title=self._now.title_of(record.study_id),
            n_labels=len(record.marks),
            dice=record.dice,
            unsure=record.unsure,
            ts=record.ts,
        )

    def _corrections(self) -> list[Correction]:
        """Return what readers made of studies that had a draft, the oldest first; once for each board."""
        board = self._desk.board
        if self._corrected[0] is not board:
            found = []
            for study_id in board.with_status("done"):
                status = board.statuses[study_id]
                labels = [status.labels[FINAL]] if FINAL in status.labels else []
                label = next((one for one in (*labels, *status.earlier) if CORRECTION in one.info), None)
                if label is not None:
                    found.append(
                        Correction(
                            study_id=study_id,
                            title=self._now.title_of(study_id),
                            client=str(label.info.get("client_id") or ""),
                            ts=float(label.info.get("ts") or 0),
                            seconds=label.seconds,
                            **{key: value for key, value in label.info[CORRECTION].items() if key != "n_labels"},
                        )
                    )
            self._corrected = (board, sorted(found, key=lambda one: (one.ts, one.study_id)))
        return self._corrected[1]
