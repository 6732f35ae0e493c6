"""How alike drafts and the labels that readers made of them were, one after the other."""

from __future__ import annotations

import numpy as np

from .client import clock, duration
from .words import tr as _


def places(corrections: list, box: tuple) -> np.ndarray:
    """Return the dot of each correction, as an array of shape (n, 2): the oldest on the left, Dice 1 on top.

    ``box`` is left, top, width and height of the picture in pixels.

    >>> places([{"dice": 0.5}, {"dice": 1.0}], (10, 0, 80, 40)).tolist()
    [[10.0, 20.0], [90.0, 0.0]]
    """
    left, top, width, height = box
    dice = np.array([one["dice"] for one in corrections], dtype=float)
    return np.column_stack([np.linspace(left, left + width, len(dice)), top + (1 - dice.clip(0, 1)) * height])


def correctionText(one: dict) -> str:
    """Say in a line what a reader made of a draft."""
    text = _("{study}: Dice {dice}, submitted at {time}")
    if one["client"]:
        text = _("{study}: Dice {dice}, submitted at {time} by {reader}")
    said = text.format(study=one["title"], dice=f"{one['dice']:.2f}", time=clock(one["ts"]), reader=one["client"])
    if one["seconds"]:
        said = _("{said}, after {time}").format(said=said, time=duration(one["seconds"]))
    return said if isTaken(one) else _("{said}; the draft was not looked at").format(said=said)


def isTaken(one: dict) -> bool:
    """Whether somebody had the draft, as far as the server says."""
    return one.get("is_taken") is not False
