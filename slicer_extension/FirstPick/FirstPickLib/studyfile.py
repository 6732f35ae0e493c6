"""The studies' files: where they lie on this computer, and how they get there once the server has prepared them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from slicer.i18n import tr as _

from .client import cacheName, duration, isHere
from .tasks import Download, Task, Wait

PATIENCE_S = 15 * 60  # with a file that the server prepares


@dataclass(frozen=True)
class Fetched:
    """A study's file and what the server knows of it; or why it could not be fetched."""

    path: str = ""
    info: dict = field(default_factory=dict)
    error: str = ""


class StudyFiles:
    """Fetches studies' files: for the reader who waits, and one ahead of the reader.

    Parameters
    ----------
    network : Network
    folder : str
        Where copies lie.
    """

    def __init__(self, network, folder: str) -> None:
        self.folder = folder
        self._network = network
        self._ahead, self._aheadId, self._aheadIsPreparing = None, "", False
        self._awaited = None  # is told how far the file is that was begun ahead and the reader waits for now

    @property
    def isFetchingAhead(self) -> bool:
        """Whether a file is on its way, or being prepared, that nobody opened yet."""
        return self._ahead is not None and not self._ahead.isOver

    def fetch(self, client, studyId: str, stage):
        """Tell the story of a file that the reader waits for; ends with a `Fetched`.

        ``stage(isPreparing, done, total)`` is told how far it is.
        """
        if self.isFetchingAhead and self._aheadId == studyId:
            self._awaited = stage
            stage(self._aheadIsPreparing, 0, 0)
            answer = yield self._ahead
            self._awaited = None
            if answer.isCancelled:
                return Fetched(error=_("Cancelled."))
        return (yield from self._fetch(client, studyId, stage))

    def fetchAhead(self, client, studyId: str) -> None:
        """Begin with a file; what is loading already goes on, what is only being prepared makes room."""
        if self.isFetchingAhead and self._aheadIsPreparing and self._aheadId != studyId:
            self._ahead.cancel()
        if not self.isFetchingAhead:
            self._aheadId = studyId
            self._ahead = Task(self._network, self._fetch(client, studyId, self._stageAhead)).start()

    def _stageAhead(self, isPreparing, done, total):
        self._aheadIsPreparing = isPreparing
        if self._awaited:
            self._awaited(isPreparing, done, total)

    def _fetch(self, client, studyId, stage):
        """Ask for the file until it is there; its place is asked for each time, for its format may not be known yet."""
        waited = 0
        stage(False, 0, 0)
        while True:
            answer = yield client.imageInfo(studyId)
            if not answer.isGood:
                return Fetched(error=answer.error or _("Cancelled."))
            info = answer.data
            path = self._place(client, studyId, info)
            if os.path.exists(path):
                return Fetched(path, info)
            answer = yield Download(client.image(studyId), path, lambda done, total: stage(False, done, total))
            if answer.isGood:
                return Fetched(path, info) if info.get("path") else (yield from self._rename(client, studyId, path))
            if not answer.retryAfter:
                return Fetched(error=answer.error or _("Cancelled."))
            waited += answer.retryAfter
            if waited > PATIENCE_S:
                text = _("{why} Gave up after {time}: open the study again later.")
                return Fetched(error=text.format(why=answer.error, time=duration(waited - answer.retryAfter)))
            stage(True, 0, 0)
            answer = yield Wait(answer.retryAfter)
            if answer.isCancelled:
                return Fetched(error=_("Cancelled."))

    def _rename(self, client, studyId, path):
        """Give a copy the ending of its format: it became ready just after the server did not know that yet."""
        answer = yield client.imageInfo(studyId)
        if not answer.isGood:
            return Fetched(error=answer.error or _("Cancelled."))
        named = self._copy(client, studyId, answer.data)
        os.replace(path, named)
        return Fetched(named, answer.data)

    def _place(self, client, studyId, info) -> str:
        return info["path"] if isHere(info) else self._copy(client, studyId, info)

    def _copy(self, client, studyId, info) -> str:
        os.makedirs(self.folder, exist_ok=True)
        return os.path.join(self.folder, cacheName(client.address, studyId, info))
