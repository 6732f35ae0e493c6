"""Encoders of others: a class in a module or file of theirs, named in the configuration and nowhere else.

Such a class is called with the resolved `EncoderSpec` and has the two methods of `Encoder`. It runs as code of the
user's own choice, in the worker processes.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from firstpick.encoders.weights import EncoderError

if TYPE_CHECKING:
    from firstpick.encoders import Encoder, EncoderSpec


def build(spec: EncoderSpec) -> Encoder:
    """Import the class that ``python:MODULE_OR_FILE:CLASS`` names, and call it."""
    module, (module_name, _, class_name) = import_source(spec), spec.argument.rpartition(":")
    if not hasattr(module, class_name):
        msg = f"encoder '{spec.name}': {module_name} has no '{class_name}'."
        raise EncoderError(msg)
    encoder: Encoder = getattr(module, class_name)(spec)
    if lacking := [name for name in ("parts", "encode") if not callable(getattr(encoder, name, None))]:
        msg = f"encoder '{spec.name}' has no method {' and no '.join(lacking)}; an encoder needs parts and encode."
        raise EncoderError(msg)
    return encoder


def import_source(spec: EncoderSpec) -> ModuleType:
    """Import the module or file of the class; EncoderError if that fails."""
    return _module(source_file(spec.argument), spec.argument.rpartition(":")[0])


def source_file(argument: str) -> Path:
    """Return the file that holds a class's source; its checksum is part of the fingerprint.

    Raises
    ------
    EncoderError
        If the argument is not ``MODULE_OR_FILE:CLASS``, or nothing lies there.
    """
    module_name, _, class_name = argument.rpartition(":")
    path: Any = None
    if module_name.endswith(".py"):
        path = module_name
    elif module_name and class_name:
        try:
            found = importlib.util.find_spec(module_name)
        except (ImportError, ValueError):
            found = None
        path = found.origin if found else None
    if not path or not Path(path).is_file():
        msg = (
            f"encoder 'python:{argument}': no module or file '{module_name}' is found. "
            "Write python:MODULE_OR_FILE:CLASS, the module importable or the file ending in .py."
        )
        raise EncoderError(msg)
    return Path(path)


def _module(path: Path, name: str) -> ModuleType:
    """Import a module by its name, or from its file."""
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        loader = SourceFileLoader(f"firstpick_encoder_{path.stem}", str(path))
        module = sys.modules[loader.name] = ModuleType(loader.name)
        loader.exec_module(module)
    except Exception as error:  # whatever the other's code raises
        msg = f"encoder 'python:{name}' cannot be imported ({type(error).__name__}: {error})."
        raise EncoderError(msg) from error
    return module
