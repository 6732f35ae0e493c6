"""The standing proposals and the statuses of all studies: what routes and strategies ask."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import HTTPException

from firstpick import __version__
from firstpick.config import Config
from firstpick.decisions import OPEN, ConflictError, Decisions, Status, with_statuses
from firstpick.embedding import Progress
from firstpick.proposal import Proposal, propose, with_replacement
from firstpick.selection import STRATEGIES, check_strategy
from firstpick.selection.geometry import principal_plane
from firstpick.server.datastore import StudiesDatastore
from firstpick.store import Cache
from firstpick.studies import LeftOut, Pool, Study

NOBODY = ("", "admin", "user-xyz")
"""Client ids that clients send when nobody said who they are: each such call is a new reader."""


class Worklist:
    """Ranked studies, who works on what, and how far the embedding is.

    The background thread hands in listings, progress and the pool; requests only read them and change
    statuses. Every refusal is an ``HTTPException`` with a text a radiologist can act on.
    """

    def __init__(self, config: Config, cache: Cache, decisions: Decisions, datastore: StudiesDatastore) -> None:
        self._config = config
        self._cache = cache
        self._decisions = decisions
        self._datastore = datastore
        self._fingerprint = config.encoder_spec.fingerprint()
        self._lock = threading.RLock()
        self._studies: dict[str, Study] | None = None
        self._left_out: list[LeftOut] = []
        self._failed: list[LeftOut] = []
        self._progress = Progress(0, 0, 0)
        self._pool: Pool | None = None
        self._map: tuple[Pool, list[list[float]]] | None = None
        self.problem = ""

    # -- what the background thread hands in

    def take_listing(self, studies: Sequence[Study], left_out: Sequence[LeftOut]) -> None:
        """Take over which studies there are, and close or open those whose final label came or went."""
        self._datastore.update(studies)
        with self._lock:
            self._studies = {study.study_id: study for study in studies}
            self._left_out = list(left_out)
        self.sync_labels()

    def take_progress(self, progress: Progress) -> None:
        """Take over how far the embedding is."""
        self._progress = progress

    def take_pool(self) -> None:
        """Load the embeddings, now that every study is embedded or failed."""
        studies = list((self._studies or {}).values())
        pool = self._cache.pool(self._fingerprint, studies)
        with self._lock:
            self._failed = self._cache.failures(self._fingerprint, studies)
            self._pool = pool

    def keep_standing(self) -> None:
        """Make sure that each strategy has a proposal whose open picks can be annotated."""
        for strategy in sorted(STRATEGIES, key=lambda name: name != self._config.strategy):
            self._keep_standing(strategy)

    def sync_labels(self) -> None:
        """Bring statuses in line with the final labels on disk."""
        statuses = self._decisions.statuses()
        labelled = self._datastore.labelled_at()
        newer = {i for i, at in labelled.items() if at > statuses.get(i, OPEN).reopened_at}
        done = {study_id for study_id, status in statuses.items() if status.status == "done"}
        self._decisions.mark_done({study_id: self._annotator(study_id) for study_id in newer - done})
        for study_id in done - labelled.keys():
            if study_id in (self._studies or {}):
                self._decisions.reopen(study_id, "", detail="label deleted")

    def label_saved(self, study_id: str) -> None:
        """Close a study if a final label newer than its last reopening is there; drafts do not close."""
        at = self._datastore.labelled_at().get(study_id)
        if at is not None and at > self._decisions.status(study_id).reopened_at:
            self._decisions.mark_done({study_id: self._annotator(study_id)})

    def _annotator(self, study_id: str) -> str:
        return str(self._datastore.get_label_info(study_id, "final").get("client_id", ""))

    def _keep_standing(self, strategy: str) -> None:
        """Make the first proposal of a strategy, the next one if that is configured, or mend the standing one."""
        with self._lock:
            standing = self._decisions.proposal(strategy)
            if (
                standing is None
                or standing["provenance"]["fingerprint"] != self._fingerprint
                or self._is_over(standing)
            ):
                try:
                    self._propose(strategy, client="")
                except HTTPException:
                    return  # nothing left to choose: the routes say so
            else:
                gone = {p["study_id"] for p in standing["picks"]} - set(self._ready_pool().study_ids)
                self._replace(strategy, gone - self._with_status("done"))

    def _is_over(self, standing: Mapping[str, Any]) -> bool:
        closed = self._with_status("done", "skipped")
        return self._config.auto_next and all(pick["study_id"] in closed for pick in standing["picks"])

    # -- proposals

    def proposal(self, strategy: str = "") -> dict[str, Any]:
        """Return the standing proposal of a strategy (the configured one by default), with live statuses."""
        strategy = self._known(strategy)
        standing = self._decisions.proposal(strategy)
        if standing is None:
            with self._lock:
                self._ready_pool()
                standing = self._decisions.proposal(strategy) or self._propose(strategy, client="")
        return with_statuses(standing, self._decisions.statuses())

    def new_proposal(
        self, strategy: str = "", *, batch_size: int | None = None, seed: int | None = None, partial: bool, client: str
    ) -> dict[str, Any]:
        """Make a new standing proposal; reserved picks of the former stay on top."""
        with self._lock:
            made = self._propose(
                self._known(strategy), client=client, batch_size=batch_size, seed=seed, partial=partial
            )
        return with_statuses(made, self._decisions.statuses())

    def next_sample(self, strategy: str, client: str) -> dict[str, Any]:
        """Reserve the first open pick for a client; empty when no pick is open."""
        strategy = self._known(strategy)
        standing = self._decisions.proposal(strategy)
        if standing is None:
            self._ready_pool()
            raise HTTPException(503, f"The batch of strategy '{strategy}' is being made. Ask again in a few seconds.")
        here = self._studies or {}
        reader = client_name(client)
        first = self._decisions.reserve_first(
            (pick["study_id"] for pick in standing["picks"] if pick["study_id"] in here or not here), reader
        )
        if first is None:
            return {}
        batch = with_statuses(standing, self._decisions.statuses())
        return {"id": first, "firstpick": {**batch, "client": reader}}

    def _propose(
        self,
        strategy: str,
        *,
        client: str,
        batch_size: int | None = None,
        seed: int | None = None,
        partial: bool = False,
    ) -> dict[str, Any]:
        """Choose a batch and make it the standing one."""
        config = self._config
        pool = self._partial_pool() if partial else self._ready_pool()
        standing = self._decisions.proposal(strategy)
        reserved = self._with_status("reserved")
        keep = [pick["study_id"] for pick in (standing or {"picks": []})["picks"] if pick["study_id"] in reserved]
        try:
            made = propose(
                pool,
                strategy=strategy,
                batch_size=config.batch_size if batch_size is None else batch_size,
                labelled=self._with_status("done"),
                excluded=self._with_status("skipped"),
                seed=config.seed if seed is None else seed,
                scaling=config.scaling,
                encoder=config.encoder,
                fingerprint=self._fingerprint,
                failed=self._failed,
                left_out=self._left_out,
                partial=partial and len(pool) + len(self._failed) < len(self._studies or {}),
                keep=keep,
                **(config.params if strategy == config.strategy else {}),
            ).to_dict()
        except ValueError as error:
            nothing_left = "othing left" in str(error)
            raise HTTPException(409 if nothing_left else 422, str(error)) from error
        self._decisions.put_proposal(strategy, made, client)
        return made

    def _replace(self, strategy: str, gone: Iterable[str]) -> None:
        """Swap picks that can no longer be annotated for the next best of what they stood for."""
        with self._lock:
            standing = self._decisions.proposal(strategy)
            if standing is None or self._pool is None:
                return
            proposal = Proposal.from_dict(standing)
            for study_id in gone:
                if study_id in {pick.study_id for pick in proposal.picks}:
                    proposal = with_replacement(
                        proposal,
                        self._pool,
                        study_id,
                        labelled=self._with_status("done"),
                        excluded=self._with_status("skipped"),
                    )
            if proposal.to_dict() != standing:
                self._decisions.put_proposal(strategy, proposal.to_dict(), "")

    # -- statuses

    def reserve(self, study_id: str, client: str) -> dict[str, Any]:
        """Reserve a study, or renew the client's reservation; 409 if it is not to be had."""
        return self._change(study_id, lambda: self._decisions.reserve(study_id, client_name(client)))

    def release(self, study_id: str, client: str) -> dict[str, Any]:
        """Give a study back."""
        return self._change(study_id, lambda: self._decisions.release(study_id, client))

    def skip(self, study_id: str, client: str, reason: str) -> dict[str, Any]:
        """Take a study out for everyone; its pick is replaced by the next best of what it stood for."""
        result = self._change(study_id, lambda: self._decisions.skip(study_id, client, reason))
        for strategy in STRATEGIES:
            self._replace(strategy, [study_id])
        return result

    def unskip(self, study_id: str, client: str) -> dict[str, Any]:
        """Undo a skip."""
        return self._change(study_id, lambda: self._decisions.unskip(study_id, client))

    def reopen(self, study_id: str, client: str) -> dict[str, Any]:
        """Open a done study again; only a newer final label closes it."""
        return self._change(study_id, lambda: self._decisions.reopen(study_id, client))

    def _change(self, study_id: str, change: Any) -> dict[str, Any]:
        if self._studies is not None and study_id not in self._studies:
            raise HTTPException(404, f"Study '{study_id}' is not in the studies folder.")
        try:
            return _status_dict(study_id, change())
        except ConflictError as error:
            raise HTTPException(409, str(error)) from error

    def _with_status(self, *names: str) -> set[str]:
        return {study_id for study_id, status in self._decisions.statuses().items() if status.status in names}

    # -- facts

    def status(self) -> dict[str, Any]:
        """How things stand, for people and for the Slicer module."""
        progress, studies = self._progress, self._studies or {}
        statuses = {i: s for i, s in self._decisions.statuses().items() if i in studies}
        readers: dict[str, list[dict[str, Any]]] = {}
        for study_id, status in sorted(statuses.items()):
            if status.status == "reserved":
                readers.setdefault(status.client, []).append({"study_id": study_id, "until": status.until})
        count = [status.status for status in statuses.values()].count
        return {
            "version": __version__,
            "state": self._state(),
            "message": self._message(),
            "progress": {
                "total": progress.n_total,
                "done": progress.n_done,
                "failed": progress.n_failed,
                "left_out": len(self._left_out),
                "rate": round(progress.rate, 3),
                "seconds_left": None if progress.seconds_left is None else round(progress.seconds_left, 1),
            },
            "encoder": self._config.encoder,
            "fingerprint": self._fingerprint,
            "strategy": self._config.strategy,
            "batch_size": self._config.batch_size,
            "n_pool": 0 if self._pool is None else len(self._pool),
            "n_labelled": count("done"),
            "n_skipped": count("skipped"),
            "readers": [{"client": client, "studies": held} for client, held in sorted(readers.items())],
            "labels": [{"name": x.name, "value": x.value, "color": x.color} for x in self._config.labels],
            "failed": [{"study_id": item.study_id, "reason": item.reason} for item in self._failed],
            "left_out": [{"study_id": item.study_id, "reason": item.reason} for item in self._left_out],
            "notes": {i: list(notes) for i, notes in self._cache.notes().items() if i in studies},
            "notice": self._decisions.notice,
        }

    def _state(self) -> str:
        if self.problem:
            return "problem"
        if self._studies is None:
            return "listing"
        if not self._studies:
            return "empty"
        return "ready" if self._pool is not None else "embedding"

    def _message(self) -> str:
        """One plain sentence about the state."""
        progress = self._progress
        if self.problem:
            return self.problem
        if self._studies is None:
            return "Looking which studies there are. Ask again in a few seconds."
        if not self._studies:
            return "The studies folder holds no study that FirstPick can read."
        if self._pool is not None:
            n_failed = f", {len(self._failed)} could not be read" if self._failed else ""
            return f"Ready: {len(self._pool)} studies embedded{n_failed}."
        left = f", about {_duration(progress.seconds_left)} left" if progress.seconds_left is not None else ""
        return f"Embedding studies: {progress.n_done} of {progress.n_total} done{left}. Ask again then."

    def map(self) -> dict[str, Any]:
        """Return every study's place in the plane of the first two principal components, with its status and rank."""
        pool = self._ready_pool()
        with self._lock:
            if self._map is None or self._map[0] is not pool:
                self._map = (pool, principal_plane(pool.vectors).round(5).tolist())
            plane = self._map[1]
        statuses = self._decisions.statuses()
        ranks = {pick["study_id"]: pick["rank"] for pick in self.proposal()["picks"]}
        return {
            "points": [
                {"study_id": i, "x": x, "y": y, "status": statuses.get(i, OPEN).status, "rank": ranks.get(i)}
                for i, (x, y) in zip(pool.study_ids, plane, strict=True)
            ]
        }

    def thumbnail(self, study_id: str) -> bytes:
        """PNG of a study; 404 if there is none (yet)."""
        picture = self._cache.thumbnail(study_id)
        if picture is None:
            raise HTTPException(404, f"There is no picture of study '{study_id}' yet.")
        return picture

    # -- inside

    def _known(self, strategy: str) -> str:
        """Resolve a strategy's name; 404 with the known names."""
        if strategy in ("", "firstpick"):
            return self._config.strategy
        try:
            check_strategy(strategy)
        except ValueError as error:
            raise HTTPException(404, str(error)) from error
        return strategy

    def _ready_pool(self) -> Pool:
        """Return the pool, or 503 with how far it is."""
        if self._pool is None or not len(self._pool):
            raise HTTPException(503, self._message())
        return self._pool

    def _partial_pool(self) -> Pool:
        """Return what is embedded so far, or 503 if nothing is."""
        pool = self._pool or self._cache.pool(self._fingerprint, list((self._studies or {}).values()))
        if not len(pool):
            raise HTTPException(503, self._message())
        return pool


def client_name(client: str | None) -> str:
    """Return the reader's name; a missing or default one becomes a new reader."""
    name = (client or "").strip()
    return f"reader-{secrets.token_hex(3)}" if name in NOBODY else name


def label_folder(state: Path) -> Path:
    """Where the server keeps the annotators' labels."""
    return state / "datastore" / "labels" / "final"


def _status_dict(study_id: str, status: Status) -> dict[str, Any]:
    return {
        "study_id": study_id,
        "status": status.status,
        "client": status.client,
        "reason": status.reason,
        "until": status.until,
    }


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"  # noqa: PLR2004
