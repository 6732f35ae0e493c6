"""Sends work that is kept on this computer once the server answers again, one study after the other."""

from __future__ import annotations

import time

from slicer.i18n import tr as _

from .client import FINAL
from .leaving import isAway
from .link import isLost
from .studyfile import checkStudy
from .tasks import Task, sendLabel

PATIENCE_S = 60  # before a file is sent again that did not arrive


class KeptSender:
    """Works beside whatever is open.

    Parameters
    ----------
    logic : FirstPickLogic
    """

    def __init__(self, logic) -> None:
        self._logic = logic
        self._task = None
        self._told = set()  # files that the server refused, or that are of studies somebody else has
        self._studyId = ""
        self._notes = []
        self._notBefore = 0.0

    def start(self) -> None:
        """Begin, if there is something to send and nothing under way."""
        if (self._task is None or self._task.isOver) and time.monotonic() >= self._notBefore:
            self._task = Task(self._logic.network, self._sendAll(self._logic.client)).start()

    def sending(self, studyId: str) -> Task | None:
        """Return what is to be waited for before a study is opened."""
        return self._task if self._studyId == studyId and not self._task.isOver else None

    def forget(self) -> None:
        """Try again what was refused: it is another server, or the reader wants it."""
        self._told.clear()
        self._notBefore = 0.0

    def _sendAll(self, client):
        logic = self._logic
        self._notes, nSent = [], 0
        for work in logic.kept.all(client):
            if client is not logic.client:
                return
            if logic.reading and logic.reading.studyId == work.studyId:
                logic.submitAgain(work)
                continue
            self._studyId = work.studyId
            isAnswered = yield from self._send(client, work)
            self._studyId = ""
            if not isAnswered:
                break
            nSent += logic.kept.read(client, work.studyId) is None
        if nSent:
            yield from logic._refresh()
        if self._notes:
            logic.say(" ".join(self._notes))

    def _send(self, client, work):
        """Send the work of one study if it is this reader's to go on with; return whether the server answered."""
        logic = self._logic
        row = logic.worklist.row(work.studyId) if logic.worklist else None
        if work.file in self._told and row and row.status != "open" and row.client != client.reader:
            return True
        answer = yield client.change("heartbeat", work.studyId)
        if not answer.isGood:
            if isLost(answer) and not (yield from self._isThere(client, work)):
                self._tell(work, answer.error)
            return not isAway(answer)
        if work.file in self._told:
            return True
        answer = yield from self._upload(client, work)
        if answer.isGood:
            self._onSent(client, work)
        elif not isAway(answer):
            self._tell(work, answer.error)
        return not isAway(answer)

    def _upload(self, client, work):
        tag = FINAL if work.isSubmitted else client.savedTag
        request = client.saveLabel(work.studyId, tag, self._logic.status["labels"], work.seconds)
        answer = yield from checkStudy(client, work.studyId, work.stamp)
        if answer.isGood:
            kept = self._logic.kept
            with kept.held(work):
                answer = yield from sendLabel(request, kept.path(work.label or work.file))
            if isAway(answer):
                self._notBefore = time.monotonic() + PATIENCE_S
        return answer

    def _onSent(self, client, work):
        self._logic.kept.remove(client, work)
        text = _("The server answers again: your label of {study} is submitted.")
        if not work.isSubmitted:
            text = _("The server answers again: what you drew in {study} is saved there.")
            if client is self._logic.client:
                self._logic._putAside.add(work.studyId)
        self._notes.append(text.format(study=work.title))

    def _isThere(self, client, work):
        """Forget work that the server has: it arrived, though the answer that says so did not."""
        answer = yield client.labels(work.studyId)
        tags = (FINAL, client.readingTag) if work.isSubmitted else (client.savedTag,)
        sent = (client.reader, round(work.seconds, 1))
        isThere = answer.isGood and any(
            label["tag"] in tags and (label["client"], label["seconds"]) == sent for label in answer.data
        )
        if isThere:
            self._logic.kept.remove(client, work)
            self._notes.append(_("The server has what you drew in {study}.").format(study=work.title))
        return isThere

    def _tell(self, work, why) -> None:
        """Tell the reader, once, what became of a study whose work is kept here."""
        if work.file not in self._told:
            self._told.add(work.file)
            text = _("{why} What you drew in {study} is kept on this computer: open it to submit it, or export it.")
            self._notes.append(text.format(why=why, study=work.title))
