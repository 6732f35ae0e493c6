"""What the rest of the server asks of a datastore, ours or another app's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from firstpick.server.label_list import LabelList
from firstpick.server.served import ServedFiles
from firstpick.studies import Study


class Store(Protocol):
    """Studies' files and labels.

    Attributes
    ----------
    served : ServedFiles
        The files that readers open.
    label_list : LabelList
    """

    served: ServedFiles
    label_list: LabelList

    @property
    def unmatched(self) -> Sequence[str]:
        """Label files that are nobody's, as ``tag/path``."""
        ...

    def odd_labels(self) -> dict[str, list[Any]]:
        """Return ``unclaimed_labels`` and ``unknown_values`` of the status."""
        ...

    def update(self, studies: Iterable[Study], endings: Mapping[tuple[str, str], str]) -> None:
        """Take over a new listing, and how those studies are served that were read."""
        ...

    def sync_labels(self) -> None:
        """Tell the desk of labels that came, changed or went without a request."""
        ...

    def warm_up(self) -> None:
        """Make ready for the first request, once there is nothing better to do."""
        ...

    def write_json(self) -> None:
        """Write what MONAI Label is to find again, if anything changed."""
        ...
