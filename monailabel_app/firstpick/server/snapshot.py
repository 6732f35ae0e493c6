"""Which studies there are and how far their embedding is: what the background thread found, for all to read."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import HTTPException

from firstpick.config import Config
from firstpick.embedding.cache import Cache
from firstpick.embedding.run import Progress
from firstpick.report import Drawing
from firstpick.selection.geometry import principal_plane
from firstpick.server.answers import ListPage
from firstpick.server.bounds import MAX_LISTED, ListName
from firstpick.sources.attributes import with_attributes
from firstpick.sources.series import notes_on, series_name
from firstpick.studies import LeftOut, Pool, Study


class Snapshot:
    """Written by the background thread alone; every value is replaced, never changed in place.

    Attributes
    ----------
    place : str
        Where the studies are, in words.
    studies : mapping of str to Study, or None
        By id; None before the first look at the folder.
    left_out, failed : list of LeftOut
    pool : Pool or None
        None until every study is embedded or failed for the first time.
    problem : str
        Why the background thread cannot go on; empty if it can.
    notice : str
        What an administrator should know though readers can go on.
    unsent : str
        Which final labels are not in the PACS, and why.
    more_notes : mapping of str to list of str
        What is to be known of studies besides what was found in reading them.
    """

    def __init__(self, config: Config, cache: Cache, *, place: str = "the studies folder") -> None:
        self.place = place
        self._encoder = config.encoder
        self._groups_by, self._strata_by = config.groups.by, config.strata.by
        self._series_pool = config.series.pool
        self._cache = cache
        self.fingerprint = config.encoder_spec.fingerprint()
        self.studies: Mapping[str, Study] | None = None
        self.left_out: list[LeftOut] = []
        self.failed: list[LeftOut] = []
        self.pool: Pool | None = None
        self.problem = ""
        self.notice = ""
        self.unsent = ""
        self.more_notes: Mapping[str, list[str]] = {}
        self._progress = Progress(0, 0, 0)
        self._notes: Mapping[str, list[str]] = {}
        self._series_notes: Mapping[str, Mapping[str, str]] = {}
        self._drawn: tuple[Pool, Pool, Drawing] | None = None
        self._drawing = threading.Lock()

    # -- what the background thread found

    def take_listing(self, studies: Sequence[Study], left_out: Sequence[LeftOut]) -> None:
        """Take over which studies there are."""
        self.studies = {study.study_id: study for study in studies}
        self.left_out = list(left_out)

    def take_progress(self, progress: Progress) -> None:
        """Take over how far the embedding is, and what failed so far."""
        if progress.n_failed != len(self.failed):
            self.failed = self._cache.failures(self.fingerprint, (self.studies or {}).values())
        self._progress = progress
        self.notice = progress.notice

    def take_pool(self) -> None:
        """Load the embeddings, now that every study is embedded or failed."""
        studies = list((self.studies or {}).values())
        failed = self._cache.failures(self.fingerprint, studies)
        pool = self._with_attributes(self._cache.pool(self.fingerprint, studies, series_pool=self._series_pool))
        self._progress = Progress(len(studies), pool.n_studies, len(failed))
        self._series_notes = self._cache.odd_series(self.fingerprint, studies)
        self._notes = notes_on(studies, self._cache.notes(studies), self._series_notes)
        self.failed, self.pool = failed, pool

    # -- what requests need

    def listed(self) -> Mapping[str, Study]:
        """Return the studies, or 503 before the first look at the folder."""
        if self.studies is None:
            raise HTTPException(503, self.message())
        return self.studies

    def ready_pool(self) -> Pool:
        """Return the pool; 503 with how far it is, 409 if there is nothing to embed."""
        if self.pool is not None and len(self.pool):
            return self.pool
        will_come = bool(self.problem) or (self.studies != {} and self.pool is None)
        raise HTTPException(503 if will_come else 409, self.message())

    def partial_pool(self) -> Pool:
        """Return what is embedded so far, or 503 if nothing is."""
        if self.pool is not None:
            return self.ready_pool()
        studies = (self.studies or {}).values()
        pool = self._cache.pool(self.fingerprint, studies, series_pool=self._series_pool)
        if not len(pool):
            raise HTTPException(503, self.message())
        return self._with_attributes(pool)

    def _with_attributes(self, pool: Pool) -> Pool:
        """Give a pool the titles, groups and strata of its studies."""
        studies = [(self.studies or {})[study_id] for study_id in dict.fromkeys(pool.study_ids)]
        return with_attributes(pool, studies, groups_by=self._groups_by, strata_by=self._strata_by)

    def drawing(self) -> tuple[Pool, Drawing]:
        """Return the pool study by study, and drawn in the plane of its first two principal components."""
        pool = self.ready_pool()
        with self._drawing:
            if self._drawn is None or self._drawn[0] is not pool:
                studies = pool.by_study()
                points = principal_plane(studies.vectors).round(5).tolist()
                plane = {i: (x, y) for i, (x, y) in zip(studies.study_ids, points, strict=True)}
                drawing = Drawing(studies, plane, groups_are_patients=self._groups_by == "patient")
                self._drawn = (pool, studies, drawing)
            return self._drawn[1:]

    def series(self, study_id: str, name: str = "") -> Study:
        """Return a series of a study by its name, the primary without one; 404 if there is none."""
        study = self.listed().get(study_id)
        if study is None:
            raise HTTPException(404, f"Study '{study_id}' is not in {self.place}.")
        if not name:
            return study.primary
        names = {series_name(one): one for one in study.members}
        if name not in names:
            raise HTTPException(404, f"Study '{study.title}' has no series '{name}'. It has: {', '.join(names)}.")
        return names[name]

    def note_on(self, study_id: str, name: str) -> str:
        """What is wrong with a series of a study, in words; empty if nothing is."""
        return self._series_notes.get(study_id, {}).get(name, "")

    def thumbnail(self, study_id: str, series: str = "") -> bytes:
        """PNG of a series of a study, of the primary without one; 404 if there is none (yet)."""
        one = self.series(study_id, series) if series else (self.studies or {}).get(study_id)
        picture = None if one is None else self._cache.thumbnail(one)
        if picture is None:
            raise HTTPException(404, f"There is no picture of study '{self.title_of(study_id)}' yet.")
        return picture

    def title_of(self, study_id: str) -> str:
        """What people read instead of a study's id; the id where there is no such study."""
        study = (self.studies or {}).get(study_id)
        return study_id if study is None else study.title

    # -- in words

    def report(self, *, is_first_made: bool) -> dict[str, Any]:
        """How far the embedding is, as plain JSON; it is not ready before the first batch stands."""
        progress, pool = self._progress, self.pool
        return {
            **self._said(is_first_made=is_first_made),
            "progress": {
                "total": progress.n_total,
                "done": progress.n_done,
                "failed": progress.n_failed,
                "left_out": len(self.left_out),
                "rate": round(progress.rate, 3),
                "seconds_left": None if progress.seconds_left is None else round(progress.seconds_left, 1),
                "workers": progress.n_workers,
            },
            "encoder": self._encoder,
            "fingerprint": self.fingerprint,
            "n_pool": 0 if pool is None else pool.n_studies,
            "failed": self.failed[:MAX_LISTED],
            "left_out": self.left_out[:MAX_LISTED],
            "notes": {study_id: self.notes_on(study_id) for study_id in self._noted()[:MAX_LISTED]},
            "n_noted": len(self._noted()),
        }

    def listed_page(self, kind: ListName, offset: int, limit: int) -> ListPage:
        """Return a page of the studies that failed, were left out or have notes."""
        match kind:
            case "noted":
                ids = self._noted()
                some = ids[offset : offset + limit]
                noted = [LeftOut(i, "; ".join(self.notes_on(i)), self.title_of(i)) for i in some]
                return ListPage(len(ids), offset, noted)
            case "failed":
                whole = self.failed
            case "left_out":
                whole = self.left_out
        return ListPage(len(whole), offset, whole[offset : offset + limit])

    def notes_on(self, study_id: str) -> list[str]:
        """What is to be known of a study."""
        return [*self._notes.get(study_id, ()), *self.more_notes.get(study_id, ())]

    def _noted(self) -> list[str]:
        return list({**self._notes, **self.more_notes})

    def _said(self, *, is_first_made: bool) -> dict[str, str]:
        if self.state() == "ready" and not is_first_made:
            return {"state": "embedding", "message": "The first batch is being made. Ask again in a few seconds."}
        return {"state": self.state(), "message": self.message()}

    def state(self) -> str:
        """One word: listing, embedding, ready, empty or problem."""
        if self.problem:
            return "problem"
        if self.studies is None:
            return "listing"
        if not self.studies:
            return "empty"
        if self.pool is None:
            return "embedding"
        return "ready" if len(self.pool) else "problem"

    def message(self) -> str:
        """One plain sentence about the state."""
        progress, pool, n_failed = self._progress, self.pool, len(self.failed)
        match self.state():
            case "problem":
                return self.problem or f"None of the {n_failed} studies could be read; the status says why of each."
            case "listing":
                return "Looking which studies there are. Ask again in a few seconds."
            case "empty":
                n_out = f" ({len(self.left_out)} left out)" if self.left_out else ""
                return f"T{self.place[1:]} holds no study that FirstPick can read{n_out}."
            case "ready":
                failed = f", {n_failed} could not be read" if n_failed else ""
                return f"Ready: {0 if pool is None else pool.n_studies} studies embedded{failed}."
        n_looked_at = progress.n_done + progress.n_failed
        left = "in a minute"
        if progress.seconds_left is not None:
            left = f"in about {_duration(progress.seconds_left)}"
        return f"Embedding studies: {n_looked_at} of {progress.n_total} done. Ask again {left}."


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{max(seconds, 1):.0f} s"  # noqa: PLR2004
