"""What MONAI Label's own clients see: thin strategies that hand out the standing batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from firstpick.selection import STRATEGIES, describe
from firstpick.server.worklist import Worklist


class BatchStrategy(Strategy):
    """Gives and reserves the first open pick; the whole batch rides under the key ``firstpick``."""

    def __init__(self, worklist: Worklist, strategy: str, description: str) -> None:
        super().__init__(description)
        self._worklist = worklist
        self._strategy = strategy

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:  # noqa: ARG002
        """Return ``{"id": study_id, "firstpick": proposal}``, or ``{}`` when no pick is open."""
        return self._worklist.next_sample(self._strategy, str(request.get("client_id") or ""))


def batch_strategies(worklist: Worklist, configured: str) -> dict[str, BatchStrategy]:
    """All strategies for MONAI Label: the configured one first, under the name ``firstpick``."""
    names = [name for name in sorted(STRATEGIES) if name != "random"] + ["random"]
    described = {"firstpick": (configured, f"{describe(configured)} (configured: {configured})")}
    described |= {name: (name, describe(name)) for name in names}
    return {key: BatchStrategy(worklist, name, text) for key, (name, text) in described.items()}
