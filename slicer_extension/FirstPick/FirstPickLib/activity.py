"""How long somebody is at a study, without the minutes in which nothing happened."""

from __future__ import annotations

import time

import qt
import slicer

LOOK_MS = 5000


class ActiveTime:
    """Sums up the time between signs of life that are not too far apart.

    Parameters
    ----------
    idleSeconds : float
        A longer pause does not count at all.
    clock : callable
        Seconds that never run backwards.
    """

    def __init__(self, idleSeconds: float, clock=time.monotonic) -> None:
        self._idleSeconds, self._clock = idleSeconds, clock
        self._counted, self._last = 0.0, clock()

    def seen(self) -> None:
        """Note a sign of life."""
        self._counted = self.seconds
        self._last = self._clock()

    @property
    def seconds(self) -> float:
        """The time so far; the pause that goes on now counts until it is too long."""
        pause = self._clock() - self._last
        return self._counted + (pause if pause <= self._idleSeconds else 0.0)


class Lookout:
    """Looks every few seconds whether somebody is there: a moved mouse, another slice, a turned view.

    A filter of all events would see more, but would run Python for each of them.

    Parameters
    ----------
    seen : callable
        Called when something moved.
    """

    def __init__(self, seen) -> None:
        self._seen, self._before = seen, None
        self._timer = qt.QTimer()
        self._timer.setInterval(LOOK_MS)
        self._timer.connect("timeout()", self.look)

    def start(self) -> None:
        """Begin, with a study that was just opened."""
        self._before = self._state()
        self._timer.start()

    def stop(self) -> None:
        """End."""
        self._timer.stop()

    def look(self) -> None:
        """Compare with the last look."""
        now = self._state()
        if now != self._before:
            self._before = now
            self._seen()

    def _state(self):
        place = qt.QCursor.pos()
        nodes = [
            *slicer.util.getNodesByClass("vtkMRMLSliceNode"),
            *slicer.util.getNodesByClass("vtkMRMLCameraNode"),
        ]
        return place.x(), place.y(), [node.GetMTime() for node in nodes]
