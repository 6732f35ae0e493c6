"""Whether the server drafts masks from the labels so far, and what their corrections must show before it says so."""

from __future__ import annotations

from dataclasses import dataclass


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        msg = f"{name} must be between 0 and 1; got {value:g}."
        raise ValueError(msg)


def _check_count(name: str, value: int) -> None:
    if value < 1:
        msg = f"{name} must be at least 1; got {value}."
        raise ValueError(msg)


@dataclass(frozen=True)
class Drafts:
    """Whether masks are drafted from the labels so far, and for which studies."""

    enabled: bool = False
    """Learn from every final label, and draft the masks of the next picks."""
    ahead: int = 5
    """Picks of the standing batch for which drafts are kept ready."""
    min_dice: float = 0.5
    """Dice on labels that were not learnt from, below which no draft is offered."""
    tokens_gb: float = 5.0
    """Gigabytes of what the encoder saw in labelled and coming studies; what was used longest ago goes first."""
    memory_gb: float = 3.0
    """Gigabytes of memory at which the process that drafts is ended."""
    model: str = ""
    """Inside another app, and only there: its own model whose results are the drafts; nothing is learnt."""

    def __post_init__(self) -> None:
        _check_count("ahead", self.ahead)
        _check_share("min_dice", self.min_dice)


@dataclass(frozen=True)
class Stop:
    """When the corrections of drafts say that the next ones may be checked only."""

    dice: float = 0.9
    """Median Dice between drafts and what readers made of them, from which on little was to be done."""
    last: int = 5
    """Corrections that are looked at, the newest."""

    def __post_init__(self) -> None:
        _check_share("dice", self.dice)
        _check_count("last", self.last)
