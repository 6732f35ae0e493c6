"""``firstpick bench``."""

from __future__ import annotations

import argparse

from firstpick.cli import catalogue
from firstpick.cli.session import add_configuration, overrides
from firstpick.config import load_config


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_configuration(command)
    command.add_argument("what", choices=["encoder"], help="what to measure")
    command.add_argument("name", nargs="?", metavar="NAME", help="an encoder (default: key encoder)")


def run(options: argparse.Namespace) -> None:
    """Time an encoder, and remember it for the list."""
    named = {"encoder": options.name} if options.name else {}
    spec = load_config(options.config, overrides(options) | named).encoder_spec
    speed = catalogue.measure(spec)
    catalogue.remember(spec.name, speed)
    print(f"{spec.name}: {speed.study_s:.2f} s a study ({speed.n_parts} parts), ready after {speed.build_s:.1f} s.")
