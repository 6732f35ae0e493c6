"""Sends work that is kept on this computer once the server answers again, one study after the other."""

from __future__ import annotations

from slicer.i18n import tr as _

from .client import FINAL
from .leaving import isAway
from .tasks import Task, sendLabel


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

    def start(self) -> None:
        """Begin, if there is something to send and nothing under way."""
        if self._task is None or self._task.isOver:
            self._task = Task(self._logic.network, self._sendAll(self._logic.client)).start()

    def sending(self, studyId: str) -> Task | None:
        """Return what is to be waited for before a study is opened."""
        return self._task if self._studyId == studyId and not self._task.isOver else None

    def forget(self) -> None:
        """Try again what was refused: it is another server, or the reader wants it."""
        self._told.clear()

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
            if answer.status in (404, 409) and not (yield from self._isThere(client, work)):
                self._tell(work, answer.error)
            return not isAway(answer)
        if work.file in self._told:
            return True
        tag = FINAL if work.isSubmitted else client.savedTag
        request = client.saveLabel(work.studyId, tag, logic.status["labels"], work.seconds)
        with logic.kept.held(work):
            answer = yield from sendLabel(request, logic.kept.path(work.label or work.file))
        if answer.isGood:
            logic.kept.remove(client, work)
            text = _("The server answers again: your label of {study} is submitted.")
            if tag != FINAL:
                if client is logic.client:
                    logic._putAside.add(work.studyId)
                text = _("The server answers again: what you drew in {study} is saved there.")
            self._notes.append(text.format(study=work.title))
        elif not isAway(answer):
            self._tell(work, answer.error)
        return not isAway(answer)

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
