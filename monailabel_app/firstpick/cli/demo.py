"""``firstpick demo``."""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tqdm import tqdm

from firstpick.cli.sample_studies import make_studies
from firstpick.cli.serve import need_monailabel, server_command
from firstpick.cli.session import add_configuration, add_studies, configuration, studies_place
from firstpick.config import state_folder
from firstpick.proposal import read_proposal
from firstpick.report import table

_START_SECONDS = 120.0


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_configuration(command)
    add_studies(command, required=False)
    command.add_argument("--once", action="store_true", help="stop the server when the batch is printed")


def run(options: argparse.Namespace) -> None:
    """Serve a folder (sample studies by default) on a free port and print its first batch; stop then, or at Ctrl+C."""
    need_monailabel()
    config = configuration(options)
    place = studies_place(options) if options.studies else make_studies()
    state = state_folder(config, place)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command, environment = server_command(options, place, state, host="127.0.0.1", port=port)
    address, log = f"http://127.0.0.1:{port}", state / "demo.log"
    print(f"Starting MONAI Label on {address} ...", file=sys.stderr)
    with log.open("w") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait(server, address, log)
        batch = _get(f"{address}/firstpick/proposal")
        print(table(read_proposal(batch), n_failed=len(batch["failed"]), n_left_out=len(batch["left_out"])))
        print(f"Server: {address}  (routes: {address}/docs; put this address into 3D Slicer's MONAI Label module)")
        if not options.once:
            print("Ctrl+C stops it.", file=sys.stderr)
            server.wait()
    finally:
        server.terminate()
        server.wait(timeout=30)


def _wait(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Wait until every study is embedded, with a progress bar."""
    start = time.monotonic()
    with tqdm(unit="study", desc="Embedding", file=sys.stderr, leave=False) as bar:
        while True:
            if server.poll() is not None:
                msg = f"the server ended. The end of {log}:\n{_tail(log)}"
                raise OSError(msg)
            try:
                status = _get(f"{address}/firstpick/status")
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                if time.monotonic() - start > _START_SECONDS:
                    msg = f"the server does not answer. The end of {log}:\n{_tail(log)}"
                    raise OSError(msg) from None
            else:
                if status["state"] == "ready":
                    return
                if status["state"] in ("problem", "empty"):
                    raise OSError(status["message"])
                progress = status["progress"]
                bar.total = progress["total"] or None
                bar.update(progress["done"] + progress["failed"] - bar.n)
            time.sleep(0.3)


def _get(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - our own server
        result: dict[str, Any] = json.load(answer)
        return result


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
