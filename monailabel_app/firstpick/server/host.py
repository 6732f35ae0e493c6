"""FirstPick inside somebody else's MONAI Label app: strategies, routes, embedder and page over the app's datastore.

Everything else stays the app's own: its datastore, models, strategies, routes and who may ask them.
"""

from __future__ import annotations

import colorsys
import functools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from firstpick import __version__
from firstpick.config import ConfigError, Label, load_config, state_folder
from firstpick.embedding.cache import Cache
from firstpick.server.auth import check_tokens
from firstpick.server.bounds import limit_bodies
from firstpick.server.desk import Desk
from firstpick.server.documentation import document
from firstpick.server.draft_routes import make_draft_router
from firstpick.server.draft_status import DraftDesk
from firstpick.server.errors import explain_errors
from firstpick.server.host_drafter import HostDrafter, check_model, class_values
from firstpick.server.host_store import HostStore
from firstpick.server.packing import pack_lists
from firstpick.server.routes import make_router
from firstpick.server.security import Beside, guard
from firstpick.server.served import ServedFiles
from firstpick.server.services import Services, lasting, open_desk, put_together
from firstpick.server.snapshot import Snapshot
from firstpick.server.strategy import BatchStrategy, batch_strategies
from firstpick.sources.listed import Listed
from firstpick.workers import LocalPool

PREFIX = "firstpick."
"""Begins the keys of ``--conf`` that are ours."""

_GOLDEN = 0.618  # of the circle of hues: neighbours differ

App = TypeVar("App", bound=type[MONAILabelApp])


def with_firstpick(app: App) -> App:
    """Offer FirstPick's batch in an app: a decorator of its class.

    Parameters
    ----------
    app : class
        Derived from ``MONAILabelApp``, with a datastore in a folder. It is changed in place, since MONAI Label takes
        no class but a direct child of its own.

    Returns
    -------
    class
        The same one. In a server its strategies begin with ``firstpick``, and ``/firstpick/`` answers; in any other
        process, such as one that trains, nothing is added.

    Notes
    -----
    ``--conf firstpick.config FILE`` and ``--conf firstpick.KEY VALUE`` configure it; all other keys are the app's. A
    configuration that cannot be, a datastore that is not in a folder and a state folder in use end the start.
    """
    init_strategies, next_sample = app.init_strategies, app.next_sample
    on_save_label, on_init_complete = app.on_save_label, app.on_init_complete

    @functools.wraps(init_strategies)
    def with_ours(self: Any) -> dict[str, Strategy]:
        own: dict[str, Strategy] = init_strategies(self)
        return _offered(_services(self), own) if _is_server() else own

    @functools.wraps(next_sample)
    def without_scoring(self: Any, request: Mapping[str, Any]) -> Any:
        if not isinstance(self._strategies.get(request.get("strategy")), BatchStrategy):
            return next_sample(self, request)
        before, self._auto_update_scoring = self._auto_update_scoring, False  # a process each time, for nothing
        try:
            return next_sample(self, request)
        finally:
            self._auto_update_scoring = before

    @functools.wraps(on_save_label)
    def and_counted(self: Any, image_id: str, label_id: str) -> Any:
        result = on_save_label(self, image_id, label_id)
        if _is_server():
            services = _services(self)
            services.store.label_saved(image_id)
            services.worklist.label_saved()
        return result

    @functools.wraps(on_init_complete)
    def and_started(self: Any) -> None:
        on_init_complete(self)
        if _is_server():
            services = _services(self)
            _add_routes(sys.modules["monailabel.app"].app, services)
            services.start()

    app.init_strategies, app.next_sample = with_ours, without_scoring
    app.on_save_label, app.on_init_complete = and_counted, and_started
    return app


def _is_server() -> bool:
    """Whether this process serves, rather than trains, scores or infers for one that does."""
    return "monailabel.app" in sys.modules


def _offered(services: Services[HostStore], own: Mapping[str, Strategy]) -> dict[str, Strategy]:
    """Put the batch first, then the app's own strategies, then ours under names that it does not use."""
    ours = batch_strategies(services.worklist, services.config.strategy)
    first = {"firstpick": ours["firstpick"]}
    return {**first, **own, **{name: one for name, one in ours.items() if name not in own}, **first}


def _add_routes(server: FastAPI, services: Services[HostStore]) -> None:
    """Have requests for ``/firstpick`` answered behind our own rules; no other ever meets them."""
    place = f"{settings.MONAI_LABEL_API_STR}/firstpick"
    ours = FastAPI(title="FirstPick", version=__version__, openapi_url=f"{place}/openapi.json", docs_url=None)
    drafts, prefix = services.drafts, settings.MONAI_LABEL_API_STR
    router = make_router(services.worklist, services.metrics, has_drafts=drafts is not None)
    for one in (router, *([make_draft_router(drafts)] if drafts else [])):
        ours.include_router(one, prefix=prefix)
    check_tokens(ours)
    document(ours, place, pages=("/docs",))
    pack_lists(ours)
    limit_bodies(ours, services.config.max_upload_gb)
    explain_errors(ours)
    guard(ours, services.config)
    server.middleware_stack = Beside(server.middleware_stack or server.build_middleware_stack(), ours, place)


# -- putting together


def _services(app: Any) -> Services[HostStore]:
    """Return what lives longer than an app that MONAI Label makes anew, looking at this one's datastore."""
    services = lasting(app.app_dir, app.studies, lambda: _build(app))
    services.store.attach(app.datastore())
    if services.drafts and isinstance(services.drafts.drafter, HostDrafter):
        services.drafts.drafter.attach(app)
    return services


def _build(app: Any) -> Services[HostStore]:
    """Check the configuration, open the state and put everything together."""
    own = {key.removeprefix(PREFIX): value for key, value in app.conf.items() if key.startswith(PREFIX)}
    config = load_config(own.pop("config", None), own)
    folder = _folder(app.datastore(), app.studies)
    if config.readers_per_study > 1:
        msg = "readers_per_study must be 1 inside another app: its datastore keeps one final label of each study."
        raise ConfigError(msg)
    if config.drafts.enabled and not config.drafts.model:
        msg = "drafts.enabled needs drafts.model inside another app: drafts are made by one of its own models there."
        raise ConfigError(msg)
    if config.series.by:
        msg = (
            "series.by must be empty inside another app: each image of its datastore has a label of its own. "
            f"FirstPick's own app has studies of several series: firstpick serve --studies {folder}"
        )
        raise ConfigError(msg)
    if "labels" not in config.model_fields_set:
        config = config.model_copy(update={"labels": tuple(_labels(app)) or config.labels})
    if config.drafts.enabled:
        check_model(app, config.drafts.model, [label.name for label in config.labels])
    state = state_folder(config, folder, app_dir=app.app_dir)
    if not config.state_dir:
        state = state.with_name(f"{state.name}-inside")  # ids are others than those of `firstpick serve`
    desk, cache = open_desk(state), Cache(state)
    now = Snapshot(config, cache, place="the datastore")
    idle = LocalPool(n_workers=1, **config.limits(state))  # of every study there is a file already
    store = HostStore(app.datastore(), desk, ServedFiles(state / "served", config.served_gb * 1e9, idle), now)
    source = Listed(f"The datastore in {folder}", store.listing, config.eligible)
    services = put_together(config, desk, cache, source=source, store=store, now=now)
    return _with_drafts(services, desk, now, state) if config.drafts.enabled else services


def _with_drafts(services: Services[HostStore], desk: Desk, now: Snapshot, state: Path) -> Services[HostStore]:
    """Add what keeps results of a model ready."""
    config, store = services.config, services.store
    pool = LocalPool(n_workers=1, **config.limits(state), background=True)
    drafter = HostDrafter(config, desk, now, store=store, folder=state / "drafts", executor=pool)
    drafts = DraftDesk(config, desk, now, drafter)
    store.label_list.drafts_of = drafts.label
    return replace(services, threads=(*services.threads, drafter), drafts=drafts)


def _folder(datastore: Datastore, studies: str) -> str:
    """Folder of a datastore; ConfigError if it is none of files on this machine."""
    if isinstance(datastore, DICOMWebDatastore):
        address = "http..." if "@" in studies else studies
        msg = (
            "The studies of this app are in a PACS, and come through MONAI Label's own cache of it. Serve them by "
            f"FirstPick's own app: firstpick serve --studies {address}"
        )
        raise ConfigError(msg)
    if not isinstance(datastore, LocalDatastore):
        msg = (
            f"The studies of this app are in a {type(datastore).__name__}; FirstPick can look into a folder "
            "(LocalDatastore). Copy them into one, or, if a PACS has them: firstpick serve --studies http..."
        )
        raise ConfigError(msg)
    folder: str = datastore._datastore_path  # noqa: SLF001 - it says so nowhere else
    return folder


def _labels(app: Any) -> Iterator[Label]:
    """Yield what the app's models draw, with their own values where these are free, in colours that differ."""
    taken: dict[str, int] = {}
    for labels in [app.labels, *(getattr(model, "labels", None) for model in app._infers.values())]:  # noqa: SLF001
        for name, value in class_values(labels):
            if name not in taken:
                is_free = isinstance(value, int) and value > 0 and value not in taken.values()
                taken[name] = value if is_free else max(taken.values(), default=0) + 1
    for number, (name, value) in enumerate(sorted(taken.items(), key=lambda one: one[1])):
        rgb = colorsys.hsv_to_rgb(number * _GOLDEN % 1, 0.75, 1.0)
        yield Label(name=name, value=value, color="#" + "".join(f"{round(255 * part):02x}" for part in rgb))
