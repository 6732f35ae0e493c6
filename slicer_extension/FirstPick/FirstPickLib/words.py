"""Puts what people read into their language, for the parts that run without Slicer: there it stays as it is."""

from __future__ import annotations

import functools
import inspect
import re


def _asItIs(context: str, text: str) -> str:
    return text


_translators = [_asItIs]


def translateWith(translate) -> None:
    """Have texts translated by ``translate(context, text)`` from now on."""
    _translators[:] = [translate]
    _translated.cache_clear()


def tr(text: str) -> str:
    """Translate a text; its context is the module that says it, as of Slicer's own ``tr``."""
    return _translated(inspect.currentframe().f_back.f_globals["__name__"], text)


@functools.lru_cache(maxsize=512)
def _translated(context: str, text: str) -> str:
    """Look a text up; a translation that lost a placeholder, or made one up, would break: the text stays then."""
    translated = _translators[0](context, text)
    return translated if _placeholders(translated) == _placeholders(text) else text


def _placeholders(text: str) -> set:
    return set(re.findall(r"\{(\w*)", text))
