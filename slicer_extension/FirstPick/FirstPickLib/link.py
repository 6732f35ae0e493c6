"""The connection to the server: one story at a time, the work list kept up to date, reservations held."""

from __future__ import annotations

from contextlib import contextmanager

import qt
from slicer.i18n import tr as _

from .client import Client, clock, statusText
from .network import Network
from .tasks import Task, Wait
from .thumbnails import Thumbnails
from .worklist import WorkList

HEARTBEAT_MS = 5 * 60 * 1000
POLL_MS, POLL_SOON_MS = 10_000, 2000
PAINT_S = 0.03  # until what is said is on the screen


@contextmanager
def waitCursor():
    """Show that the window stands still; unlike Slicer's own it lets nothing else happen in the middle of a story."""
    qt.QApplication.setOverrideCursor(qt.Qt.WaitCursor)
    try:
        yield
    finally:
        qt.QApplication.restoreOverrideCursor()


class Question:
    """Something the reader must decide.

    Attributes
    ----------
    text : str
    choices : list of (str, callable)
        What can be done, the likeliest first; it can always be left.
    """

    def __init__(self, text, choices):
        self.text, self.choices = text, choices

    @property
    def yes(self):
        """What the button says that takes the only choice, or the chosen one."""
        return self.choices[0][0] if len(self.choices) == 1 else _("Go on")


def isLost(answer):
    """Tell whether the server itself says that a study is not, or no longer, this reader's."""
    return answer.isTold and answer.status in (404, 409)


class ServerLink:
    """What the logic knows of the server, and how it tells so; `FirstPickLogic` adds the open study.

    Attributes
    ----------
    listeners : list of callable
        Told by one word what changed: ``server``, ``worklist``, ``drafts``, ``reading`` or ``notice``.
    connection : str
        How the server is, in plain words.
    message : str
        What the last action led to.
    question : Question or None
    drafts : dict or None
        How the server's drafts stand; None while it makes none.
    makesDrafts : bool
        Whether it is worth while to ask for them: the server did not say that it knows none.
    transfer : tuple or None
        What is under way: its text, and how much of how much is done.
    """

    def __init__(self):
        self.listeners = []
        self.network = Network()
        self.client = None
        self.connection = _("Not connected.")
        self.isConnected = False
        self.status = None
        self.strategies = []
        self.worklist = self.drafts = None
        self.makesDrafts = True
        self.reading = None
        self.message = ""
        self.question = None
        self.transfer = None
        self.strategy = ""
        self.thumbnails = Thumbnails(self.network, None)
        self._putAside = set()
        self._answers = None
        self._isConnecting = False
        self._task = self._polling = None
        self._pollTimer = self._timer(POLL_MS, self.poll)
        self._heartbeatTimer = self._timer(HEARTBEAT_MS, self.heartbeat)

    def _timer(self, interval, slot):
        timer = qt.QTimer()
        timer.setInterval(interval)
        timer.connect("timeout()", slot)
        return timer

    def _tell(self, what):
        for listener in list(self.listeners):
            listener(what)

    def say(self, text):
        """Say in a line what an action led to."""
        self.message = text
        self._tell("notice")

    def _ask(self, text, *choices):
        self.question = Question(text, choices)
        self._tell("notice")

    def answer(self, isYes, number=0):
        """Answer the question that stands, with one of its choices or by leaving it."""
        question, self.question = self.question, None
        self._tell("notice")
        if question and isYes:
            question.choices[number][1]()

    def title(self, studyId):
        """What the reader sees instead of a study's id."""
        return self.worklist.title(studyId) if self.worklist else studyId

    # -- one story at a time

    @property
    def isBusy(self):
        """Whether something is under way that the reader waits for."""
        return self._task is not None and not self._task.isOver

    def _run(self, story):
        """Tell a story; while another is told, nothing else begins."""
        if self.isBusy:
            self.say(_("One moment: {what}").format(what=self.transfer[0] if self.transfer else _("still busy.")))
            story.close()
            return
        self.question = None
        self.message = ""
        self._task = Task(self.network, story, self._onEnded)
        self._task.start()
        self._tell("notice")
        self._tell("reading")

    def _onEnded(self):
        self.transfer = None
        self._tell("notice")
        self._tell("reading")
        if self._task.isCancelled and self.isConnected:  # the server may have done it all the same
            self.poll()

    def cancel(self):
        """End what is under way."""
        if self.isBusy:
            self._task.cancel()

    def _progress(self, text):
        """Make a function that shows how far a transfer is."""
        self._showTransfer(text)
        return lambda done, total: self._showTransfer(text, done, total)

    def _showTransfer(self, text, done=0, total=0):
        self.transfer = (text, done, max(total, 0))
        self._tell("notice")

    def _busy(self, text):
        """Say what is about to be done, before the window stands still; a story, ends with False if it is cancelled."""
        self._showTransfer(text)
        answer = yield Wait(PAINT_S)
        return not answer.isCancelled

    # -- the server

    def connect(self, address, reader):
        """Ask a server how it is, and for its work list; an open study is kept first."""
        try:
            client = Client(address, reader)
        except ValueError as error:
            self._setConnection(str(error), isConnected=False)
            return
        if not client.reader:
            self._setConnection(_("Type your name first: studies are reserved under it."), isConnected=False)
            return
        if self._isConnecting:  # a server that never answers stops nobody from trying another
            self.cancel()
        self.settle(lambda: self._run(self._connect(client)))

    @property
    def canConnect(self):
        """Whether an address can be tried now."""
        return not self.isBusy or self._isConnecting

    def _connect(self, client):
        if self.reading and not (yield from self._leave(isForced=True)):
            return
        self._pollTimer.stop()
        if self._polling:
            self._polling.cancel()
        self.client, self.status, self.worklist, self._answers = client, None, None, None
        self.strategies, self.strategy = [], ""
        self.drafts, self.makesDrafts = None, True
        self.thumbnails = Thumbnails(self.network, client)
        self._putAside = {work.studyId for work in self.kept.all(client)}
        self.sender.forget()
        self._tell("worklist")
        self._tell("drafts")
        self._isConnecting = True
        try:
            yield from self._firstAnswer(client)
        finally:
            self._isConnecting = False

    def _firstAnswer(self, client):
        text = _("Asking {address} ...").format(address=client.address)
        self._setConnection(text, isConnected=False)
        self._progress(text)
        answer = yield client.status()
        if answer.isGood:
            yield from self._refresh(answer)
            self._pollTimer.start()
            self._heartbeatTimer.start()
            return
        text = answer.error or _("Cancelled.")
        if answer.status == 404:
            text = (yield from self._whatElse(client)) or text
        self._setConnection(text, isConnected=False)
        self.showKept()
        if self._putAside and not answer.isCancelled:  # to be sent as soon as the server answers
            self._pollTimer.start()

    def _whatElse(self, client):
        """Say what a server is that knows nothing of FirstPick; empty if that is not known."""
        answer = yield client.monaiLabel()
        if not answer.isGood:
            return ""
        text = _("{address} is a MONAI Label server ('{name}') without FirstPick. Ask who runs it to serve FirstPick.")
        return text.format(address=client.address, name=answer.data["name"])

    def _setConnection(self, text, isConnected):
        self.connection, self.isConnected = text, isConnected
        self._tell("server")

    def poll(self):
        """Ask the server again what changed."""
        if self.client is not None and (self._polling is None or self._polling.isOver):
            self._polling = Task(self.network, self._refresh()).start()

    def _refresh(self, answer=None):
        """Bring the work list up to date; what did not change is not drawn again."""
        client = self.client
        answer = answer or (yield client.status())
        if self._isNoUse(client, answer, isConnected=False):
            return
        if not self.strategies:
            strategies = yield client.strategies()
            if client is not self.client:
                return
            self.strategies = strategies.data or []
        self.status = answer.data
        self.strategy = self.strategy or self.status["strategy"]
        isReady = self.status["state"] == "ready"
        self._pollTimer.setInterval(POLL_MS if isReady else POLL_SOON_MS)
        self._setConnection(statusText(self.status), isConnected=True)
        if isReady:
            yield from self._refreshDrafts(client)
            yield from self._refreshWorkList(client)

    def _refreshWorkList(self, client):
        proposal = yield client.proposal(self.strategy)
        if self._isNoUse(client, proposal):
            return
        if self.thumbnails.forgetMissing():
            self._tell("worklist")
        holders = [(reader["client"], [s["study_id"] for s in reader["studies"]]) for reader in self.status["readers"]]
        facts = [self.status[key] for key in ("n_pool", "n_labelled", "n_skipped")]
        answers = (proposal.data, holders, facts, self._keptTitles())
        if answers != self._answers:
            points = yield client.map(self.strategy)
            if self._isNoUse(client, points):
                return
            self.worklist = WorkList(proposal.data, points.data["points"], client.reader, self._keptTitles())
            self._answers = answers
            self._checkReservation()
            self._tell("worklist")
        self.sender.start()

    def _keptTitles(self):
        """Studies with work that the server does not have; the open one is told apart by its own state."""
        opened = self.reading.studyId if self.reading else ""
        return {work.studyId: work.title for work in self.kept.all(self.client) if work.studyId != opened}

    def showKept(self):
        """Show what is kept on this computer now, whether or not the server answers."""
        titles = self._keptTitles() if self.client else {}
        if self.worklist or titles:
            self.worklist = (self.worklist or WorkList.empty(self.client.reader)).withKept(titles)
            self._tell("worklist")

    def _isNoUse(self, client, answer, isConnected=True):
        """Tell whether an answer changes nothing: it is another server's by now, or no good one, which is said."""
        if client is self.client and answer.error:
            self._setConnection(answer.error, isConnected)
        return client is not self.client or not answer.isGood

    def newBatch(self, strategy, batchSize, isSure=False):
        """Make a new batch; asks first while picks are open."""
        nOpen = self.worklist.openPicks if self.worklist else 0
        if nOpen and not isSure:
            text = _("{n} picks of this batch are not segmented yet. Reserved ones stay, open ones may go.")
            sure = (_("Make a new batch"), lambda: self.newBatch(strategy, batchSize, isSure=True))
            self._ask(text.format(n=nOpen), sure)
            return
        self._run(self._newBatch(strategy, batchSize))

    def _newBatch(self, strategy, batchSize):
        self._progress(_("Choosing a new batch ..."))
        answer = yield self.client.newProposal(strategy, batchSize)
        if answer.isGood:
            self.strategy = strategy or self.strategy
            yield from self._refresh()
        self._sayError(answer)

    def _sayError(self, answer):
        if not answer.isGood:
            self.say(_("Cancelled.") if answer.isCancelled else answer.error)

    def loadThumbnail(self, studyId, done, series=""):
        """Hand the picture (PNG) of a study, or of one of its series, to ``done``; empty if there is none."""
        thumbnails = self.thumbnails
        thumbnails.load(studyId, lambda png: done(png) if thumbnails is self.thumbnails else None, series)

    # -- reservations

    def heartbeat(self):
        """Say that the reader is still at it, and will go on with what was put aside."""
        if self.reading and self.client and not self.reading.lost:
            Task(self.network, self._heartbeat(self.reading)).start()
        for studyId in sorted(self._putAside):
            Task(self.network, self._holdSavedWork(studyId)).start()

    def _holdSavedWork(self, studyId):
        answer = yield self.client.change("heartbeat", studyId)
        if isLost(answer):
            self._putAside.discard(studyId)

    def _heartbeat(self, reading):
        answer = yield self.client.change("heartbeat", reading.studyId)
        if reading is self.reading and isLost(answer):
            self._loseReservation(answer.error)

    def _loseReservation(self, text):
        self.reading.lost = text
        self.say(_("{why} Save your work or go on to another study.").format(why=text))
        self._tell("reading")

    def _checkReservation(self):
        """Tell the reader at once when the open study is no longer theirs; take it again if nobody else came."""
        if self.reading and not self.reading.lost and not self.worklist.knows(self.reading.studyId):
            text = _("The server has no study '{study}' any more. Is it still the same server?")
            self._loseReservation(text.format(study=self.reading.title))
        row = self.worklist.row(self.reading.studyId) if self.reading else None
        if row is None or self.reading.lost or self.client.reader in row.readBy:
            return
        if row.status == "open":
            self.heartbeat()
        elif row.client != self.client.reader:
            until = _(" until {time}").format(time=clock(row.until)) if row.until else ""
            text = _("Study '{study}' is now {status}{until}.")
            self._loseReservation(text.format(study=row.title, status=row.statusText(self.client.reader), until=until))
