"""``firstpick doctor``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import textwrap

from firstpick.cli.checks import BAD, Setup, findings
from firstpick.cli.session import UsageError, add_configuration, add_studies

_WIDTH, _INDENT = 100, 16


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_configuration(command)
    add_studies(command, required=False)
    command.add_argument("--host", default="127.0.0.1", help="address that the server listens on (default 127.0.0.1)")
    command.add_argument("--port", type=int, default=8000, help="port that the server listens on (default 8000)")
    command.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(options: argparse.Namespace) -> None:
    """Say of everything that a server needs how it is, and what to do where it is not well."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a look fetches nothing
    found = []
    for finding in findings(Setup.of(options)):
        found.append(finding)
        if not options.json:
            text = f"{finding.text} {finding.do}".strip()
            head = f"{finding.level:<5}{finding.what}".ljust(_INDENT)
            print(textwrap.fill(head + text, _WIDTH, subsequent_indent=" " * _INDENT), flush=True)
    if options.json:
        json.dump([dataclasses.asdict(finding) for finding in found], sys.stdout, indent=1)
        print()
    bad = [finding.what for finding in found if finding.level == BAD]
    if bad:
        msg = f"a server would not work as it is: {', '.join(bad)}."
        raise UsageError(msg)
