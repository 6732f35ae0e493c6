"""Keeps what is drawn on this computer soon after each change."""

from __future__ import annotations

import qt

from .preferences import setting


class Autosave:
    """Calls ``save`` some seconds after the first change since it last did.

    Parameters
    ----------
    save : callable
    """

    def __init__(self, save) -> None:
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", save)

    def changed(self) -> None:
        """Say that something was drawn."""
        if not self._timer.isActive():
            self._timer.setInterval(1000 * setting("autosaveSeconds"))
            self._timer.start()

    def stop(self) -> None:
        """Wait for another change."""
        self._timer.stop()
