"""The MONAI Label app."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.train import TrainTask

from firstpick import __version__
from firstpick.config import ConfigError, load_config, state_folder
from firstpick.embedding.cache import Cache
from firstpick.server.auth import check_tokens
from firstpick.server.bounds import limit_bodies
from firstpick.server.datastore import StudiesDatastore
from firstpick.server.desk import Desk
from firstpick.server.documentation import document
from firstpick.server.draft_routes import make_draft_router
from firstpick.server.draft_status import DraftDesk
from firstpick.server.draft_tasks import MODEL, DraftInfer, DraftTrainer, make_draft_stock_router
from firstpick.server.errors import explain_errors
from firstpick.server.filing import Filing
from firstpick.server.label_folder import LabelFolder, copy_labels
from firstpick.server.learner import Learner
from firstpick.server.packing import pack_lists
from firstpick.server.routes import make_router
from firstpick.server.security import guard
from firstpick.server.sender import Sender
from firstpick.server.served import ServedFiles
from firstpick.server.services import Services, lasting, open_desk, put_together
from firstpick.server.snapshot import Snapshot
from firstpick.server.stock import make_stock_router, put_first
from firstpick.server.strategy import BatchStrategy, batch_strategies
from firstpick.server.uploads import make_upload_router
from firstpick.sources.connection import is_address
from firstpick.sources.label_files import has_labels
from firstpick.sources.source import open_source
from firstpick.workers import LocalPool


class FirstPickApp(MONAILabelApp):
    """Serves which studies to segment first, and drafts of them where that is configured; no models of its own."""

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        self._services = lasting(app_dir, studies, lambda: _build(app_dir, studies, conf))
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=dict(conf),
            name="FirstPick",
            description="Which studies to segment first, and why",
            version=__version__,
            labels=[label.name for label in sorted(self._services.config.labels, key=lambda label: label.value)],
        )
        self._auto_update_scoring = False  # else MONAI Label starts a process at every next sample

    def init_datastore(self) -> StudiesDatastore:
        """The studies, read only; labels go to the state folder."""
        return self._services.store

    def init_infers(self) -> dict[str, InferTask]:
        """Hand out drafts as a model, while drafts are made."""
        drafts = self._services.drafts
        return {MODEL: DraftInfer(drafts.drafter, self._services.config.labels)} if drafts else {}

    def init_trainers(self) -> dict[str, TrainTask]:
        """Have the labels learnt from once more, while drafts are made."""
        drafts = self._services.drafts
        return {MODEL: DraftTrainer(drafts.drafter)} if drafts else {}

    def init_strategies(self) -> dict[str, BatchStrategy]:
        """Every strategy under its name, the configured one first as ``firstpick``."""
        return batch_strategies(self._services.worklist, self._services.config.strategy)

    def info(self) -> dict[str, Any]:
        """MONAI Label's facts, and the labels' values and colours."""
        labels = self._services.config.labels
        return {
            **super().info(),
            "label_values": {label.name: label.value for label in labels},
            "label_colors": {label.name: [int(label.color[i : i + 2], 16) for i in (1, 3, 5)] for label in labels},
        }

    def next_sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Give the next sample; an unknown strategy gets 404 with the known names."""
        strategy = str(request.get("strategy") or "firstpick")
        if strategy not in self._strategies:
            raise HTTPException(
                404, f"Strategy '{strategy}' is not known. Choose one of {', '.join(self._strategies)}."
            )
        sample: dict[str, Any] = super().next_sample({**request, "strategy": strategy})
        return sample

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Hand out the draft of the study ``request["image"]``."""
        found: dict[str, Any] = super().infer({**request, "study_id": request["image"]}, datastore)
        return found

    def on_save_label(self, image_id: str, label_id: str) -> None:
        """Look whether that was the last of its batch; the datastore has closed the study."""
        super().on_save_label(image_id, label_id)
        self._services.worklist.label_saved()

    def on_init_complete(self) -> None:
        """Add our routes and start looking at the studies."""
        super().on_init_complete()
        server = sys.modules.get("monailabel.app")
        if server is not None:
            drafts = self._services.drafts
            own = make_router(self._services.worklist, self._services.metrics, has_drafts=drafts is not None)
            server.app.include_router(own, prefix=settings.MONAI_LABEL_API_STR)
            routers = [make_upload_router(self._services.store.filing), make_stock_router(), *check_tokens(server.app)]
            if drafts:
                server.app.include_router(make_draft_router(drafts), prefix=settings.MONAI_LABEL_API_STR)
                routers = [make_draft_stock_router(drafts.drafter), *routers]
            put_first(server.app, routers)  # before MONAI Label's own
            server.app.openapi_schema = None
            document(server.app)
            pack_lists(server.app)
            limit_bodies(server.app, self._services.config.max_upload_gb)
            explain_errors(server.app)
            guard(server.app, self._services.config)
        self._services.start()


def _build(app_dir: str, studies: str, conf: Mapping[str, str]) -> Services[StudiesDatastore]:
    """Check the configuration, open the state and put everything together."""
    own = {key: value for key, value in conf.items() if key not in ("config", "server_mode")}
    config = load_config(conf.get("config"), own)
    if config.drafts.model:
        msg = f"drafts.model must be empty, for this app has no models: it learns drafts; got '{config.drafts.model}'."
        raise ConfigError(msg)
    state = state_folder(config, studies, app_dir=app_dir)
    folder, served_folder = state / "datastore", state / "served"
    readers = config.readers_per_study
    desk = open_desk(state, readers_per_study=readers, has_labels=has_labels(folder / "labels"))
    studies_dir = str(served_folder) if is_address(studies) else studies
    copy_labels(Path(studies_dir), folder)
    cache, limits = Cache(state), config.limits(state)
    making, checking = (LocalPool(n_workers=1, **limits, background=is_patient) for is_patient in (True, False))
    known = {what for label in config.labels for what in (label.name, label.value)}
    filing = Filing(folder / "incoming", served_folder, known, checking)
    served = ServedFiles(served_folder, config.served_gb * 1e9, making)
    labels = LabelFolder(folder / "labels", n_versions=config.label_versions, is_new=not desk.board.names)
    store = StudiesDatastore(studies_dir, folder, desk=desk, labels=labels, served=served, filing=filing)
    now = Snapshot(config, cache, place="the PACS" if is_address(studies) else "the studies folder")
    source = open_source(studies, config.eligible, config.dicomweb, cache.facts, config.series)
    services = put_together(config, desk, cache, source=source, store=store, now=now)
    if is_address(studies) and config.dicomweb.labels:
        classes = {label.value: label.name for label in config.labels}
        sender = Sender(desk, store, now, classes, making.alike(n_workers=1))
        services = replace(services, threads=(*services.threads, sender))
    return _with_drafts(services, desk, now, state) if config.drafts.enabled else services


def _with_drafts(
    services: Services[StudiesDatastore], desk: Desk, now: Snapshot, state: Path
) -> Services[StudiesDatastore]:
    """Add what learns from labels and drafts masks."""
    config, store = services.config, services.store
    limits = {**config.limits(state), "memory_gb": config.drafts.memory_gb}
    pool = LocalPool(n_workers=1, **limits, background=True)
    drafter = Learner(config, desk, now, store=store, folder=state / "drafts", executor=pool)
    drafts = DraftDesk(config, desk, now, drafter)
    store.label_list.drafts_of = drafts.label
    services.proposer.unsure = drafter.unsure
    return replace(services, threads=(*services.threads, drafter), drafts=drafts)
