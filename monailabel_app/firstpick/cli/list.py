"""``firstpick list``."""

from __future__ import annotations

import argparse

from firstpick.cli import catalogue
from firstpick.cli.session import UsageError, add_configuration, add_studies, session
from firstpick.selection import LATER, STRATEGIES, describe


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_configuration(command)
    command.add_argument("what", nargs="?", choices=["strategies", "encoders"], help="what to list (default both)")
    command.add_argument("--failed", action="store_true", help="studies that could not be embedded, or were left out")
    add_studies(command, required=False)


def run(options: argparse.Namespace) -> None:
    """List names, or what failed."""
    if options.failed:
        _list_failed(options)
        return
    if options.what != "encoders":
        for name in sorted(STRATEGIES):
            print(f"{name:18} {describe(name)}")
        for name in sorted(LATER):
            print(f"{name:18} {describe(name)} For next_round alone.")
    if options.what != "strategies":
        print(catalogue.table(catalogue.remembered()))


def _list_failed(options: argparse.Namespace) -> None:
    if not options.studies:
        msg = "list --failed needs --studies DIR."
        raise UsageError(msg)
    with session(options) as opened:
        for item in opened.failed():
            print(f"{item.title}\tfailed\t{item.reason}")
        for study_id, odd in opened.odd_series().items():
            for name, what in odd.items():
                print(f"{opened.by_id()[study_id].title}\tseries {name}\t{what}")
        for item in opened.left_out:
            print(f"{item.title}\tleft out\t{item.reason}")
