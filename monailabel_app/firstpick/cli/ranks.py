"""``firstpick ranks``."""

from __future__ import annotations

import argparse
from pathlib import Path

from firstpick.evaluate.tables import markdown, ranks_of


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    command.add_argument("folders", nargs="+", type=Path, metavar="OUT", help="folders that compare has written")


def run(options: argparse.Namespace) -> None:
    """Print the rank of each arm on each data set."""
    print(markdown(ranks_of(options.folders)))
