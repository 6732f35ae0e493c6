"""``firstpick check``."""

from __future__ import annotations

import argparse
import functools
import json
import operator
from typing import Any

from firstpick.cli.session import add_configuration, configuration
from firstpick.config import KEYS, Config


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_configuration(command)
    command.add_argument("--keys", action="store_true", help="print the table of all keys instead")


def run(options: argparse.Namespace) -> None:
    """Print every effective value of a configuration."""
    if options.keys:
        print(keys_table())
        return
    for key, value in flat(configuration(options)).items():
        print(f"{key}: {json.dumps(value)}")


def flat(config: Config) -> dict[str, Any]:
    """Every key of a configuration with its value, nested keys dotted."""
    values = config.model_dump(mode="json")
    return {key: functools.reduce(operator.getitem, key.split("."), values) for key in KEYS}


def keys_table() -> str:
    """Every key with its default and meaning, as a Markdown table (that of sample_configs/README.md)."""
    defaults = flat(Config())
    rows = [f"| `{key}` | `{json.dumps(defaults[key])}` | {text} |" for key, text in KEYS.items()]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])
