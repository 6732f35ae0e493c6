"""The studies' files: where they lie on this computer, and how they get there once the server has prepared them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from slicer.i18n import tr as _

from .answers import Answer, fileMisfit
from .client import cacheName, duration, isHere
from .shapes import HEAD, File
from .tasks import Download, Task, Wait

CHANGED = 409  # what a server would say that compares files itself
PATIENCE_S = 15 * 60  # with a file that the server prepares


@dataclass(frozen=True)
class Fetched:
    """A study's file and what the server knows of it; or why it could not be fetched."""

    path: str = ""
    info: dict = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class StudyFile:
    """Which file is meant: a study's own, which is that of its primary series, or that of another ``series``."""

    client: object
    studyId: str
    series: str = ""

    def ask(self):
        """Ask what the server knows of it: a story that ends with that, and with why it says nothing."""
        if self.series:
            answer = yield self.client.series(self.studyId)
            found = [one for one in answer.data if one["name"] == self.series] if answer.isGood else []
            info = {**found[0], "path": "", "name": found[0]["file_name"]} if found else {}
            gone = _("{address} has no such series of this study any more.")
        else:
            answer = yield self.client.imageInfo(self.studyId)
            info = answer.data if answer.isGood else {}
            gone = _("{address} has no such study any more. Is it still the same server?")
        if not answer.isGood:
            return {}, answer.error or _("Cancelled.")
        return info, "" if info else gone.format(address=self.client.address)

    def request(self, size: int):
        """Make the request for its bytes."""
        if self.series:
            return self.client.seriesImage(self.studyId, self.series, size)
        return self.client.image(self.studyId, size)

    def isMade(self, info: dict) -> bool:
        """Tell whether the server had the file when it said this, so that its name tells the format."""
        return bool(self.series or info["path"]) and info.get("size") != 0

    def name(self, info: dict) -> str:
        """What a copy of it is called."""
        return cacheName(self.client.address, self.studyId, info, self.series)


def checkStudy(client, studyId: str, stamp: str):
    """Ask whether the server has another file than the one that was opened; ends with an `Answer`, bad if it has.

    Another server may answer at the same address by now, with studies of the same names. Of a study that is gone, the
    server itself says so.
    """
    answer = yield client.imageInfo(studyId)
    if answer.data and answer.data["stamp"] != stamp:
        text = _(
            "{address} has another file of this study than the one that was opened: it changed, or this is another "
            "server. Close the study and open it again to compare."
        )
        return Answer(CHANGED, error=text.format(address=client.address), isTold=True)
    return answer


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
        return (yield from self._fetch(StudyFile(client, studyId), stage))

    def fetchSeries(self, client, studyId: str, series: str, stage):
        """Tell the story of the file of a series that is not the primary, as `fetch` does."""
        return (yield from self._fetch(StudyFile(client, studyId, series), stage))

    def fetchAhead(self, client, studyId: str) -> None:
        """Begin with a file; what is loading already goes on, what is only being prepared makes room."""
        if self.isFetchingAhead and self._aheadIsPreparing and self._aheadId != studyId:
            self._ahead.cancel()
        if not self.isFetchingAhead:
            self._aheadId = studyId
            self._ahead = Task(self._network, self._fetch(StudyFile(client, studyId), self._stageAhead)).start()

    def _stageAhead(self, isPreparing, done, total):
        self._aheadIsPreparing = isPreparing
        if self._awaited:
            self._awaited(isPreparing, done, total)

    def _fetch(self, file, stage):
        try:
            os.makedirs(self.folder, exist_ok=True)
            return (yield from self._fetchWhole(file, stage))
        except OSError as error:
            return Fetched(error=_("The study cannot be kept on this computer: {why}.").format(why=error.strerror))

    def _fetchWhole(self, file, stage):
        """Ask for the file until it is there; its place is asked for each time, for its format may not be known yet."""
        waited = 0
        stage(False, 0, 0)
        while True:
            info, why = yield from file.ask()
            if why:
                return Fetched(error=why)
            path = info["path"] if isHere(info) else self._copy(file, info)
            if os.path.exists(path) and info.get("size") in (None, os.path.getsize(path)):
                return Fetched(path, info)
            answer = yield Download(
                file.request(info.get("size") or 0), path, lambda done, total: stage(False, done, total)
            )
            if answer.isGood:
                return Fetched(path, info) if file.isMade(info) else (yield from self._check(file, path))
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

    def _check(self, file, path):
        """Compare a copy with what is known now, and name it: the file was made just after the server was asked."""
        info, why = yield from file.ask()
        named = self._copy(file, info) if info else path
        if not why:
            with open(path, "rb") as copy:
                misfit = fileMisfit(File(info.get("size") or 0), named, copy.read(HEAD), os.path.getsize(path), "")
            why = misfit and _("The study's file did not arrive whole. Try again.")
        if why:
            os.remove(path)
            return Fetched(error=why)
        os.replace(path, named)
        return Fetched(named, info)

    def _copy(self, file, info) -> str:
        return os.path.join(self.folder, file.name(info))
