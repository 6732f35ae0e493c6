"""What a server needs, looked at without starting one or changing anything: each check gives a `Finding`."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from filelock import FileLock, Timeout
from packaging.requirements import Requirement
from packaging.version import Version
from pydantic import TypeAdapter

from firstpick import __version__
from firstpick.board.log import check_log, read_log
from firstpick.cli import catalogue
from firstpick.cli.serve import INSTALL_MONAILABEL
from firstpick.cli.session import configuration, studies_place
from firstpick.config import SAME, Config, ConfigError, state_folder
from firstpick.database import StoreError
from firstpick.encoders import EncoderError, hub_id
from firstpick.encoders.gpu import gpu_here
from firstpick.origins import is_ip
from firstpick.sources.connection import SourceError
from firstpick.sources.label_files import has_labels
from firstpick.sources.series import counted
from firstpick.sources.source import open_source

GOOD, CAREFUL, BAD = "ok", "care", "BAD"

TESTED = {
    "monailabel": ("0.8.5",),
    "pydicom": ("2.4.5", "3.0.1"),  # MONAI Label 0.8.5 needs 2; its next version, and FirstPick without it, take 3
    "highdicom": ("0.22.0", "0.28.2"),
    "dicomweb-client": ("0.59.3", "0.61.2"),
}
"""Versions, oldest first, of libraries that come in generations; what else is wanted stands in ``pyproject.toml``."""

_SHOWN = ("monailabel", "torch", "monai", "numpy", "pydicom", "SimpleITK")
_LITTLE_GB, _SOME_GB = 1, 10
_AHEAD_S = 300
_SECONDS = 5
_MOST_BYTES = 2**24
_STRANGERS = (
    ("page of another site", "Origin", "http://elsewhere.example"),
    ("foreign name", "Host", "elsewhere.example"),
)


@dataclass(frozen=True)
class Finding:
    """How one thing is, and what to do about it."""

    what: str
    level: str
    text: str
    do: str = ""


@dataclass(frozen=True)
class Setup:
    """What a server would be started with; ``problem`` says why its configuration cannot be."""

    config: Config
    studies: str | Path | None
    host: str
    port: int
    problem: str = ""

    @classmethod
    def of(cls, options: argparse.Namespace) -> Setup:
        """Read the command line; a configuration that is none is a finding, and the default stands in for it."""
        studies = studies_place(options) if options.studies else None
        try:
            return cls(configuration(options), studies, options.host, options.port)
        except (ConfigError, OSError) as error:
            return cls(Config(state_dir=options.state_dir or ""), studies, options.host, options.port, str(error))


def findings(setup: Setup) -> Iterator[Finding]:
    """Look at one thing after the other; what goes wrong in looking is a finding, too."""
    for what, check in CHECKS.items():
        try:
            yield from (Finding(what, *rest) for rest in check(setup))
        except Exception as error:  # noqa: BLE001 - the others are still worth knowing
            yield Finding(what, BAD, f"This could not be looked at: {type(error).__name__}: {error}.")


Found = Iterator[tuple[str, ...]]
"""Level, text and what to do."""


def _versions(_setup: Setup) -> Found:
    shown = [f"Python {platform.python_version()}", f"firstpick {__version__}"]
    shown += [f"{name} {version}" for name in _SHOWN if (version := _version(name))]
    yield GOOD, f"{', '.join(shown)}."
    if _version("monailabel") is None:
        yield BAD, "MONAI Label is not installed: there is no server.", f"Type: {INSTALL_MONAILABEL}"
    for name, version, wanted in _unfit():
        is_there = f"{name} is {version}" if version else f"{name} is missing"
        yield BAD, f"{is_there}; FirstPick was tested with {name}{wanted}.", f"Type: pip install '{name}{wanted}'"


def _tested(_setup: Setup) -> Found:
    known = {name: " and ".join(versions) for name, versions in TESTED.items()}
    newer = {name: found for name in TESTED if (found := _version(name)) and Version(found) > Version(TESTED[name][-1])}
    if not newer:
        yield GOOD, f"FirstPick was tested with {', '.join(map(' '.join, known.items()))}; nothing here is newer."
    for name, found in newer.items():
        do = f"It may well do. If anything fails in it, type: pip install --no-deps '{name}=={TESTED[name][-1]}'"
        yield CAREFUL, f"{name} is {found}; FirstPick was tested with {known[name]}.", do


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _unfit() -> Iterator[tuple[str, str | None, str]]:
    """Packages that are not as FirstPick's own metadata wants them, for the tested server too if that is here."""
    extras = ["", "server"] if _version("monailabel") in TESTED["monailabel"] else [""]
    try:
        texts = importlib.metadata.requires("firstpick") or []
    except importlib.metadata.PackageNotFoundError:  # it runs from a folder
        return
    for requirement in map(Requirement, texts):
        marker, version = requirement.marker, _version(requirement.name)
        is_wanted = marker is None or any(marker.evaluate({"extra": extra}) for extra in extras)
        if is_wanted and (version is None or not requirement.specifier.contains(version, prereleases=True)):
            yield requirement.name, version, str(requirement.specifier)


def _configuration(setup: Setup) -> Found:
    if setup.problem:
        yield BAD, setup.problem, "What follows is looked at with the default instead."
        return
    config = setup.config
    later = "" if config.next_round == SAME else f" (later rounds: {config.next_round})"
    yield GOOD, f"Encoder {config.encoder}, strategy {config.strategy}{later}, batches of {config.batch_size}."


def _encoder(setup: Setup) -> Found:
    spec = setup.config.encoder_spec
    try:
        speed = catalogue.measure(spec)
    except EncoderError as error:
        if remote := hub_id(spec):
            do = f"The first start fetches {remote}, if there is a network then."
            yield CAREFUL, f"It is not here yet: {error}", do
        else:
            yield BAD, str(error)
        return
    yield GOOD, f"'{spec.name}' is built in {speed.build_s:.1f} s and takes {speed.study_s:.2f} s a study of 256 mm."


def _gpu(setup: Setup) -> Found:
    if gpu := gpu_here():
        yield GOOD, f"{gpu}."
        return
    n_workers = setup.config.n_workers or os.cpu_count() or 1
    yield GOOD, f"None that torch can use: {n_workers} processes embed on the processor."
    if shutil.which("nvidia-smi"):
        yield CAREFUL, "There seems to be one, but this torch cannot use it.", "Install torch for CUDA (pytorch.org)."


def _studies(setup: Setup) -> Found:
    folder = setup.studies
    if folder is None:
        yield CAREFUL, "Not looked at.", "Say where they are with --studies DIR."
        return
    if isinstance(folder, str):
        yield _pacs(folder, setup.config)
        return
    if not folder.is_dir():
        yield BAD, f"{folder} is not a folder.", "Is the disk mounted?"
        return
    try:
        with os.scandir(folder) as entries:
            is_empty = next(entries, None) is None
    except OSError as error:
        yield BAD, f"{folder} cannot be read: {error.strerror}.", "Let the user that runs the server read it."
        return
    if is_empty:
        yield BAD, f"{folder} is empty.", "Is the disk mounted?"
        return
    yield GOOD, f"{folder} can be read; FirstPick never writes there."


def _pacs(address: str, config: Config) -> tuple[str, ...]:
    """Ask a PACS for its series, as the server does."""
    try:
        studies, left_out = open_source(address, config.eligible, config.dicomweb, dict, config.series).look()
    except (SourceError, ValueError) as error:
        return BAD, str(error)
    if not studies:
        return BAD, f"The PACS gives no series that is wanted ({len(left_out)} left out).", "May this login see them?"
    return GOOD, f"The PACS answers: {counted(studies)} can be chosen, {len(left_out)} series are left out."


def _state(setup: Setup) -> Found:
    if setup.studies is None:
        yield CAREFUL, "Not looked at: it belongs to a studies folder."
        return
    try:
        folder = state_folder(setup.config, setup.studies)
    except ConfigError as error:
        yield BAD, str(error)
        return
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        yield BAD, f"{there} cannot be written: {error.strerror}.", "Choose another place with --state."
        return
    free = shutil.disk_usage(there).free / 1e9
    level = BAD if free < _LITTLE_GB else CAREFUL if free < _SOME_GB else GOOD
    yield level, f"{folder} can be written, is on a local disk and has {free:.0f} GB free."
    if folder.exists():
        yield from _holder(folder)
        yield from _decisions(folder)


def _holder(folder: Path) -> Found:
    lock = folder / "server.lock"
    if not lock.exists():
        return
    try:
        with FileLock(lock, timeout=0):
            pass
    except Timeout:
        holder = folder / "server.txt"
        held = holder.read_text(encoding="utf-8") if holder.exists() else "another process"
        yield CAREFUL, f"It is in use by {held}: a second server on it would not start."


def _decisions(folder: Path) -> Found:
    """Whether the log is whole, and what it says of the clock."""
    try:
        restores = check_log(folder, has_labels=has_labels(folder / "datastore" / "labels"))
    except StoreError as error:
        yield BAD, str(error)
        return
    if restores:
        yield CAREFUL, "decisions.sqlite is damaged or missing; the next start restores it from its copy."
        return
    board, events = read_log(folder)
    yield GOOD, f"{len(board.with_status('done'))} studies are done, {len(events)} decisions are kept."


def _clock(setup: Setup) -> Found:
    yield GOOD, time.strftime("It is %Y-%m-%d %H:%M:%S %Z.")
    try:
        folder = state_folder(setup.config, setup.studies) if setup.studies else None
        events = read_log(folder)[1] if folder and folder.exists() else []
    except (ConfigError, StoreError):
        return  # said above
    ahead = max((event.at for event in events), default=0.0) - time.time()
    if ahead > _AHEAD_S:
        yield (
            CAREFUL,
            f"The last decision was made {ahead / 3600:.1f} h from now: the clock was set back, or was wrong then.",
            "Order and reservations do not depend on it; the times in lists do. Let the clock be set from the network.",
        )


def _port(setup: Setup) -> Found:
    where = f"{setup.host}:{setup.port}"
    try:
        with socket.create_server((setup.host, setup.port)):
            yield GOOD, f"{where} is free."
    except OSError as error:
        status = _status(setup)
        if status is not None:
            yield GOOD, f"A FirstPick server answers at {where}: {status}"
        else:
            do = "Choose another with --port, or end the program that has it."
            yield BAD, f"{where} cannot be listened on: {error.strerror}.", do


def _base(setup: Setup) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(setup.host, setup.host)  # noqa: S104
    return f"http://{host}:{setup.port}"


def _status(setup: Setup) -> str | None:
    """What a server that runs already says of itself; None if none of ours does."""
    try:
        status, body = _asked(f"{_base(setup)}/firstpick/status")
        said = json.loads(body) if status == HTTPStatus.OK else {}
    except (OSError, ValueError):
        return None
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return f"it wants a sign-in ({status})."
    return str(said.get("message") or "") or None if isinstance(said, dict) else None


def _asked(url: str, **headers: str) -> tuple[int, bytes]:
    """Return what lies at an address, with its status; OSError if nothing answers there."""
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - addresses of the administrator's own
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310
            return answer.status, answer.read(_MOST_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, b""


def _authentication(setup: Setup) -> Found:
    name = "MONAI_LABEL_AUTH_ENABLE"
    if not TypeAdapter(bool).validate_python(os.environ.get(name) or "false"):
        text = "Off: whoever reaches the server is trusted."
        if _is_loopback(setup.host):
            yield GOOD, text
        else:
            yield CAREFUL, text, f"Set {name}, or put a proxy with a login before it (sample_configs/nginx.conf)."
        return
    realm = os.environ.get("MONAI_LABEL_AUTH_REALM_URI", "").rstrip("/")
    try:
        issuer = json.loads(_asked(f"{realm}/.well-known/openid-configuration")[1])["issuer"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        do = "Is MONAI_LABEL_AUTH_REALM_URI right, and the provider running? Until then nobody gets in."
        yield BAD, f"On, but the provider at {realm} does not answer as one ({type(error).__name__}).", do
        return
    yield (
        GOOD,
        f"On; tokens of {issuer} for the client '{os.environ.get('MONAI_LABEL_AUTH_CLIENT_ID', 'monailabel-app')}'.",
    )


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (is_ip(host) and re.match(r"127\.|::1$", host) is not None)


def _reach(setup: Setup) -> Found:
    config, local = setup.config, _is_loopback(setup.host)
    yield GOOD, "Programs of this machine alone." if local else f"Whoever reaches this machine on port {setup.port}."
    if config.allowed_origins:
        yield CAREFUL, f"Pages of {', '.join(config.allowed_origins)} may read and decide (allowed_origins)."
    if _status(setup) is None:
        return
    for what, header, said in _STRANGERS:
        status, _ = _asked(f"{_base(setup)}/firstpick/status", **{header: said})
        if status in (HTTPStatus.FORBIDDEN, HTTPStatus.MISDIRECTED_REQUEST):
            yield GOOD, f"The server that runs refuses a {what} ({status})."
        else:
            yield BAD, f"The server that runs answers a {what}.", "Does a proxy before it change the request?"


CHECKS: dict[str, Callable[[Setup], Found]] = {
    "versions": _versions,
    "tested": _tested,
    "config": _configuration,
    "encoder": _encoder,
    "gpu": _gpu,
    "studies": _studies,
    "state": _state,
    "clock": _clock,
    "port": _port,
    "sign-in": _authentication,
    "reach": _reach,
}
