"""What the labels so far leave unsure, for the next round: worked out in small tasks when no draft is due."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firstpick.board.board import Board
from firstpick.config import Config
from firstpick.encoders import EncoderError
from firstpick.learning.draft import LearningError
from firstpick.learning.look import Look, look
from firstpick.learning.uncertainty import Uncertainty, looked_at
from firstpick.learning.weigh import Weighed, weigh_here
from firstpick.learning.work import Teaching
from firstpick.server.snapshot import Snapshot
from firstpick.studies import Pool, Study
from firstpick.voxels.volumes import VolumeError
from firstpick.workers import LocalPool, why_failed

logger = logging.getLogger(__name__)

_NO_LABELS = "No labels have been learnt from yet."


@dataclass(frozen=True)
class _Plan:
    """Which studies are looked at, of which pool, listing and first studies; and the file of each."""

    pool: Pool
    studies: Mapping[str, Study]
    first: tuple[str, ...]
    n_failed: int
    looks: tuple[Look, ...]
    files: tuple[Path, ...]

    def is_of(self, pool: Pool, studies: Mapping[str, Study], first: tuple[str, ...], n_failed: int) -> bool:
        """Tell whether it is still the right one."""
        is_same = self.pool is pool and self.studies is studies
        return is_same and (self.first, self.n_failed) == (first, n_failed)


class Looker:
    """Has the studies of the pool looked at, then what the labels leave unsure in them worked out after each lesson.

    Parameters
    ----------
    config : Config
    now : Snapshot
    folder : Path
        For patches; nothing else lies there.
    executor : LocalPool
        Of one process, which keeps what it has read.

    Attributes
    ----------
    message : str
        One sentence on how far it is.
    """

    def __init__(self, config: Config, now: Snapshot, *, folder: Path, executor: LocalPool) -> None:
        self._spec = config.encoder_spec
        self._fingerprint = self._spec.fingerprint()
        self._strategy = config.strategy
        self._now = now
        self._folder = folder
        self._executor = executor
        self._plan: _Plan | None = None
        self._there: set[Path] = set()
        self._failed: set[tuple[str, str]] = set()  # by study and stamp
        self._weighed: tuple[Teaching, tuple[Path, ...]] | None = None
        self._known: Uncertainty | None = None
        self._problem = ""
        self.message = _NO_LABELS
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def known(self, marks: Mapping[str, str]) -> Uncertainty | str:
        """Return what labels leave unsure, or say why that is not known; a label that is gone makes it void.

        Parameters
        ----------
        marks : mapping of str to str
            Of all final labels, by study.
        """
        known = self._known
        if known is not None and set(known.marks) <= set(marks.values()):
            return known
        return self.message if known is None else "A label was deleted or drawn anew; the others are learnt from again."

    def work(self, teaching: Teaching | None, board: Board, studies: Mapping[str, Study]) -> bool:
        """Do the next thing that is due; False if nothing is.

        Parameters
        ----------
        teaching : Teaching or None
            What was learnt from; None if there are too few labels.
        board : Board
        studies : mapping of str to Study
        """
        pool = self._now.pool
        if pool is None or not len(pool) or self._problem:
            return False
        plan = self._planned(pool, board, studies)
        for at, path in zip(plan.looks, plan.files, strict=True):
            if path not in self._there and not path.exists():
                self.message = f"{len(self._there)} of {len(plan.files)} studies have been looked at."
                self._look(at)
                return True
            self._there.add(path)
        if teaching is None or not plan.files:
            self._known, self._weighed, self.message = None, None, _NO_LABELS
            return False
        if (teaching, plan.files) == self._weighed:
            return False
        self._weigh(teaching, plan)
        return True

    def _planned(self, pool: Pool, board: Board, studies: Mapping[str, Study]) -> _Plan:
        """Return which studies are looked at: labelled ones and the picks first."""
        standing = board.proposals.get(self._strategy)
        picks = [pick.study_id for pick in standing.picks] if standing else []
        first = (*sorted(board.with_status("done")), *picks)
        plan = self._plan
        if plan is None or not plan.is_of(pool, studies, first, len(self._failed)):
            looks = {}
            for study_id in dict.fromkeys(pool.study_ids):
                study = studies.get(study_id)
                if study is not None and (study_id, study.stamp) not in self._failed:
                    at = (pool.samples[row].at for row in pool.rows_at(study_id))
                    looks[study_id] = Look(study, tuple(one for one in at if one is not None))
            chosen = sorted(looked_at({i: one.n_patches for i, one in looks.items()}, first))
            wanted = tuple(looks[study_id] for study_id in chosen)
            files = tuple(self._folder / one.name(self._fingerprint) for one in wanted)
            plan = self._plan = _Plan(pool, studies, first, len(self._failed), wanted, files)
            self._there &= {*files}
        return plan

    def _look(self, at: Look) -> None:
        """Have a study looked at; one of which that cannot be is passed over until the server starts again."""
        study = at.study
        try:
            self._executor.submit(look, at, self._spec, self._folder).result()
        except (EncoderError, LearningError) as error:
            self._give_up(str(error))
        except Exception as error:  # noqa: BLE001 - a worker may die of anything
            why = str(error) if isinstance(error, VolumeError) else why_failed(error, "Looking at it")
            logger.warning("Study %s is not looked at for the next round: %s", study.study_id, why)
            self._failed.add((study.study_id, study.stamp))

    def _give_up(self, why: str) -> None:
        logger.warning("The next round cannot be chosen by what the labels leave unsure: %s", why)
        self._problem = self.message = why

    def _weigh(self, teaching: Teaching, plan: _Plan) -> None:
        """Work out what labels leave unsure."""
        self.message = "What the labels leave unsure is being worked out."
        self._weighed = teaching, plan.files
        try:
            found = self._executor.submit_slow(weigh_here, teaching, plan.files).result()  # all labels after a start
        except Exception as error:  # noqa: BLE001 - a worker may die of anything
            is_said = isinstance(error, LearningError | EncoderError)
            self._known, self.message = None, str(error) if is_said else why_failed(error, "Working it out")
            logger.warning("What the labels leave unsure is not known: %s", self.message)
            return
        if found is None:  # a file is gone, or was damaged
            self._there.clear()
            self._weighed = None
            return
        self._known = _uncertainty(found, plan.looks, teaching)
        self.message = (
            f"What {len(teaching.labelled)} labels leave unsure is known of {len(self._known.of_study)} studies."
        )
        for path in {*self._folder.iterdir()} - {*plan.files}:
            path.unlink(missing_ok=True)


def _uncertainty(found: Weighed, looks: tuple[Look, ...], teaching: Teaching) -> Uncertainty:
    """Say of which samples the patches are."""
    starts = np.cumsum([0, *(len(at.samples) for at in looks)])
    samples = tuple(sample for at in looks for sample in at.samples)
    return Uncertainty(samples, found.rows, starts[found.study] + found.part, found.bits, teaching.marks)
