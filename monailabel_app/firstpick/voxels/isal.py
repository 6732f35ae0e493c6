"""Reading gzip by Intel's library, two to three times as fast as by Python's; importable only where it is installed."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

from isal.igzip import IGzipFile


class _Gzip(IGzipFile):
    """Reads like `gzip.GzipFile`, to which it leaves what looks damaged: some of that is only bytes behind the data."""

    _other: gzip.GzipFile | None = None

    def read(self, size: int | None = -1) -> bytes:
        if self._other is None:
            place = self.tell()
            try:
                data: bytes = super().read(size)
            except Exception:  # noqa: BLE001 - if it is damaged, the other says so
                self._other = gzip.open(self.name)  # noqa: SIM115 - closed with this one
                self._other.seek(place)
            else:
                return data
        return self._other.read(-1 if size is None else size)

    def close(self) -> None:
        super().close()
        if self._other is not None:
            self._other.close()


def open_gzip(path: Path, mode: str) -> Any:
    """Open a gzip file for reading."""
    return _Gzip(path, mode)  # type: ignore[no-untyped-call]
