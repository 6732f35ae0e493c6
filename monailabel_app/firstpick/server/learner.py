"""The thread that learns from the final labels, drafts the next picks, and finds what the labels leave unsure."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from firstpick.board.board import Board
from firstpick.board.events import FINAL
from firstpick.config import Config
from firstpick.encoders import EncoderError
from firstpick.learning.draft import FEWEST, Labelled, LearningError
from firstpick.learning.uncertainty import Uncertainty
from firstpick.learning.work import Taught, Teaching, draft_here, learn_here, taught_here
from firstpick.selection import LATER
from firstpick.server.chooser import nothing_learnt
from firstpick.server.desk import Desk
from firstpick.server.drafter import Drafter, Labels
from firstpick.server.looker import Looker
from firstpick.server.snapshot import Snapshot
from firstpick.studies import Study
from firstpick.voxels.label_formats import LabelError
from firstpick.voxels.volumes import VolumeError
from firstpick.workers import LocalPool, NotReadyError, why_failed

logger = logging.getLogger(__name__)

_SAID = (LearningError, EncoderError, VolumeError, LabelError)
"""Errors whose text is for people."""


class Learner(Drafter):
    """Learns anew after each final label, and drafts by what it has learnt.

    Parameters
    ----------
    config, desk, now, store
        As for `Drafter`.
    folder : Path
        Of the state; for drafts, and for what the encoder saw.
    executor : LocalPool
        Of one process, which keeps what it has learnt.
    """

    def __init__(
        self, config: Config, desk: Desk, now: Snapshot, *, store: Labels, folder: Path, executor: LocalPool
    ) -> None:
        super().__init__(config, desk, now, store=store, folder=folder, executor=executor)
        self._tokens = folder / "tokens"
        self._teaching: Teaching | None = None
        if config.next_round in LATER:
            self.looker = Looker(config, now, folder=folder / "patches", executor=executor)
        self._wait_for_labels(0)

    def unsure(self) -> Uncertainty | str:
        """Return what the labels so far leave unsure, or a sentence that says why that is not known."""
        return nothing_learnt() if self.looker is None else self.looker.known(self._marks(self._desk.board))

    def _next(self, board: Board, studies: Mapping[str, Study]) -> bool:
        is_busy = self._learn_or_draft(board, studies)
        return is_busy or (self.looker is not None and self.looker.work(self._teaching, board, studies))

    def _learn_or_draft(self, board: Board, studies: Mapping[str, Study]) -> bool:
        teaching = self._from(board, studies)
        if len(teaching.labelled) < FEWEST:
            self._teaching = self.taught = None
            self._wait_for_labels(len(teaching.labelled))
            return False
        if teaching != self._teaching:
            self._learn(teaching)
            return True
        return self.taught is not None and self._draft_next(self.taught, teaching, board, studies)

    def _wait_for_labels(self, n_labels: int) -> None:
        there = "there is none" if not n_labels else f"there is {n_labels}"
        self._say("waiting", f"Drafts begin with {FEWEST} final labels; {there} yet.")

    # -- learning

    def _from(self, board: Board, studies: Mapping[str, Study]) -> Teaching:
        """Return what there is to be learnt from."""
        config = self._config
        labelled = []
        for study_id, mark in self._marks(board).items():
            if study_id in studies:
                path = Path(self._store.get_label_uri(study_id, FINAL))
                ts = board.statuses[study_id].labels[FINAL].info.get("ts")
                saved = float(ts) if isinstance(ts, int | float) else 0.0
                labelled.append(Labelled(studies[study_id], path, mark, saved, board.annotated.get(study_id, ())))
        classes = tuple((label.name, label.value) for label in config.labels)
        spec, tokens_gb = config.encoder_spec, config.drafts.tokens_gb
        return Teaching(tuple(labelled), spec, classes, self._tokens, tokens_gb, config.seed, self._n_runs)

    def _learn(self, teaching: Teaching) -> None:
        """Learn from labels, and find what that is worth."""
        n_labels = len(teaching.labelled)
        self._say("learning", f"Learning from {n_labels} labels.")
        self._failed.clear()
        self._teaching, self.taught = teaching, None
        try:
            self.taught = self._executor.submit_after((learn_here, teaching), taught_here).result()
        except NotReadyError as error:
            cause = error.__cause__ or error
            why = str(cause) if isinstance(cause, _SAID) else why_failed(cause, "Learning from the labels")
            logger.warning("%s", why)
            self._say("problem", f"No drafts: {why} FirstPick tries again with the next label.")
            return
        for doubt in self.taught.warnings:
            logger.warning("Study %s: %s", doubt.study_id, doubt.sentence)

    # -- drafting

    def _draft_next(self, taught: Taught, teaching: Teaching, board: Board, studies: Mapping[str, Study]) -> bool:
        """Draft the mask of the next study that needs one; False if none does."""
        if taught.dice is None or taught.dice < self._config.drafts.min_dice:
            self._say("below", _why_none(taught, self._config.drafts.min_dice))
            return False
        study = next(self._due(teaching.marks, board, studies), None)
        learnt = f"learnt from {taught.n_labels} labels (Dice {taught.dice:.2f} on labels that were not learnt from)"
        if study is None:
            self._say("ready", f"Drafts are ready, {learnt}.")
            return False
        self._say("drafting", f"Drafting {study.title}, {learnt}.")

        def make(path: Path, served: Path | None) -> tuple[float, dict[str, int]]:
            task = self._executor.submit_after((learn_here, teaching), draft_here, study, path, served)
            unsure, n_voxels = task.result()
            return unsure, n_voxels

        self._draft(study, make, marks=teaching.marks, dice=taught.dice)
        self._asked.pop(study.study_id, None)
        return True


def _why_none(taught: Taught, least: float) -> str:
    """Say why no draft is offered."""
    if taught.dice is None:
        return "No draft is offered: no label holds anything."
    return (
        f"No draft is offered: on labels that were not learnt from, Dice is {taught.dice:.2f}, and drafts.min_dice is "
        f"{least:g}. It may be better with more labels."
    )
