"""The command line: ``firstpick COMMAND``, a module of this package for each command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from firstpick import __version__
from firstpick.libraries import settle_libraries

COMMANDS = {
    "demo": "Start a server, embed, print the first batch.",
    "serve": "Start the MONAI Label server.",
    "embed": "Embed all studies that are not embedded yet.",
    "pick": "Choose a batch without a server.",
    "report": "Choose a batch and write it as a page with pictures, map and curve.",
    "export": "Write ids and embeddings, or who decided what when.",
    "compare": "Compare strategies, encoders and scalings on labelled data.",
    "ranks": "Rank the arms of several comparisons.",
    "check": "Check a configuration and print every value.",
    "doctor": "Look at everything that a server needs, and say what to do where it is not well.",
    "list": "List strategies, encoders, or the studies that failed.",
    "bench": "Measure how fast an encoder is on this machine.",
}
"""Each is a module with ``add_arguments(command)`` and ``run(options)``, imported only when it is asked for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 2 with one line on stderr for a user's error."""
    arguments = sys.argv[1:] if arguments is None else arguments
    settle_libraries()
    options = _parser(arguments[:1]).parse_args(arguments)
    from firstpick.cli.session import USER_ERRORS  # noqa: PLC0415 - half a second that --help need not wait for

    try:
        options.run(options)
    except USER_ERRORS as error:
        print(f"firstpick: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("firstpick: stopped; what was done is kept.", file=sys.stderr)
        return 130
    return 0


def _parser(asked_for: Sequence[str]) -> argparse.ArgumentParser:
    """All commands by name, and the arguments of the one that is asked for."""
    parser = argparse.ArgumentParser(
        prog="firstpick",
        description="Which studies to annotate first, and why. Research software; not for clinical use.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name in asked_for:
            module = import_module(f"firstpick.cli.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser
