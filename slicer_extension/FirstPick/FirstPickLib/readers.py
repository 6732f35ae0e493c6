"""What each reader has done so far, and whose turn a study is that several readers read."""

from __future__ import annotations

from .client import duration
from .words import tr as _

SHOWN = 3  # readers in the panel; all are in its tooltip


def readersLines(readers: list, me: str) -> list:
    """Say what each reader has done, a line each: the reader who asks first, then whoever did most.

    >>> readersLines([{"client": "Bo", "n_done": 4, "n_skipped": 1, "seconds": 720.0}], "Ada")
    ['Bo: 4 done, 1 skipped, 3 min a study']
    """
    active = [one for one in readers if one["n_done"] or one["n_skipped"]]
    active.sort(key=lambda one: (one["client"] != me, -one["n_done"], one["client"]))
    return [_readerLine(one, me) for one in active]


def _readerLine(one: dict, me: str) -> str:
    parts = [_("{n} done").format(n=one["n_done"])]
    if one["n_skipped"]:
        parts.append(_("{n} skipped").format(n=one["n_skipped"]))
    if one["n_done"] and one["seconds"]:
        parts.append(_("{time} a study").format(time=duration(one["seconds"] / one["n_done"])))
    name = _("You") if one["client"] == me else one["client"]
    return f"{name}: {', '.join(parts)}"


def turnText(readBy: tuple, me: str) -> str:
    """Say that a study was read before; empty if nobody read it, or the one who asks.

    >>> turnText(("Bo",), "Ada"), turnText(("Bo", "Cy"), "Ada"), turnText(("Bo",), "Bo"), turnText((), "Ada")
    ('second reading, first by Bo', 'third reading, first by Bo and Cy', '', '')
    """
    if not readBy or me in readBy:
        return ""
    which = {1: _("second reading, first by {readers}"), 2: _("third reading, first by {readers}")}
    text = which.get(len(readBy), _("further reading, first by {readers}"))
    return text.format(readers=names(readBy, ""))


def names(readers: tuple, me: str) -> str:
    """Put readers into a row.

    >>> names(("Ada", "Bo", "Cy"), "Ada")
    'you, Bo and Cy'
    """
    said = [_("you") if name == me else name for name in readers]
    return _("{some} and {last}").format(some=", ".join(said[:-1]), last=said[-1]) if len(said) > 1 else said[0]
