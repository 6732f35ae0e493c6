"""The colours of picks, and what can be read on them."""

from __future__ import annotations

import colorsys
import functools


@functools.lru_cache(maxsize=1024)
def rankColor(rank: int) -> str:
    """Colour of a pick and of all it stands for: neighbours in rank differ most; grey for rank 0."""
    if not rank:
        return "#8c8c8c"
    red, green, blue = colorsys.hsv_to_rgb(rank * 0.618034 % 1, 0.62, 0.82 if rank % 2 else 0.7)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


UNSURE = ("#d55e00", "#e69f00", "#56b4e9", "#0072b2")
"""Colours of the quarters of the studies, the one that the labels leave most unsure first; told apart by everybody."""


def unsureColor(quarter: int | None) -> str:
    """Colour of a study of a quarter, from 1; grey where that is not known."""
    return UNSURE[quarter - 1] if quarter in range(1, len(UNSURE) + 1) else rankColor(0)


@functools.lru_cache(maxsize=1024)
def inkOn(color: str) -> str:
    """Black or white, whichever is read better on a colour: the contrast is 4.58 or more, on whatever colour.

    >>> inkOn("#ffff00"), inkOn("#000080")
    ('#000000', '#ffffff')
    """
    return "#000000" if contrast(color, "#000000") > contrast(color, "#ffffff") else "#ffffff"


def contrast(one: str, other: str) -> float:
    """Return how well two colours are told apart, from 1 to 21 (WCAG 2.2).

    >>> contrast("#000000", "#ffffff")
    21.0
    """
    dark, light = sorted(map(_luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    parts = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear))
