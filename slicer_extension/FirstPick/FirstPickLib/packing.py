"""Compresses a file piece by piece: a large label takes seconds, and the window stays alive meanwhile."""

from __future__ import annotations

import os
import time
import zlib

import qt
from slicer.i18n import tr as _

from .answers import Answer

PIECE_BYTES = 1 << 20
AT_ONCE_S = 0.02  # between two looks at what the reader does
GZIP = 31  # zlib's name for that format
LEVEL = 1  # labels are nearly empty: more effort saves next to nothing


class Packing:
    """Makes a ``.gz`` of a file, which is there only when it is whole.

    Parameters
    ----------
    source, target : str
    progress : callable or None
        Told how many bytes of how many are done.
    """

    def __init__(self, source: str, target: str, progress) -> None:
        self._source, self._target, self._progress = source, target, progress
        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._onTimeout)
        self._files = []

    def start(self, finished) -> None:
        """Begin."""
        self._finished = finished
        self._packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
        self._timer.start()

    def cancel(self) -> None:
        """End it; it is answered with a cancelled `Answer`."""
        self._end(Answer(isCancelled=True))

    def forget(self) -> None:
        """End it; nobody is told."""
        self._end(None)

    def _onTimeout(self) -> None:
        try:
            isWhole = self._packSome()
        except OSError as error:
            text = _("The label could not be compressed: {why}. Is the disk full?")
            self._end(Answer(error=text.format(why=error)))
        else:
            if isWhole:
                self._end(Answer(), isWhole=True)

    def _packSome(self) -> bool:
        """Go on for a short time; return whether all is done."""
        if not self._files:
            self._files = [open(self._source, "rb"), open(self._target + ".part", "wb")]  # noqa: SIM115 - see _end
        source, target = self._files
        end = time.monotonic() + AT_ONCE_S
        while piece := source.read(PIECE_BYTES):
            target.write(self._packer.compress(piece))
            if time.monotonic() > end:
                if self._progress is not None:
                    self._progress(source.tell(), os.fstat(source.fileno()).st_size)
                return False
        target.write(self._packer.flush())
        target.close()
        os.replace(self._target + ".part", self._target)
        return True

    def _end(self, answer, isWhole: bool = False) -> None:
        self._timer.stop()
        self._timer.deleteLater()
        for file in self._files:
            file.close()
        if not isWhole and os.path.exists(self._target + ".part"):
            os.remove(self._target + ".part")
        self._finished(answer)
