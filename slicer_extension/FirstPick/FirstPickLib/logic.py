"""What the module does, without any window: talks to the server and keeps the open study."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated

import qt
import slicer
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic
from slicer.util import VTKObservationMixin

from . import scene
from .client import FINAL, Client, cacheName, clock, isFirstPick, isHere, statusText
from .network import Network
from .reading import Kept, Reading
from .tasks import Download, Task, Upload
from .worklist import WorkList

HEARTBEAT_MS = 5 * 60 * 1000
POLL_MS, POLL_SOON_MS = 10_000, 2000


@parameterNodeWrapper
class FirstPickParameterNode:
    """What belongs to the scene."""

    strategy: str = ""
    batchSize: Annotated[int, WithinRange(1, 500)] = 10
    studyId: str = ""
    volume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode


class Question:
    """Something the reader must decide; ``action`` is what happens on yes."""

    def __init__(self, text, yes, action):
        self.text, self.yes, self.action = text, yes, action


@dataclass(frozen=True)
class Drawn:
    """What was drawn before: its file, the time it took, a word about it; or why it could not be fetched."""

    path: str = ""
    seconds: float = 0.0
    note: str = ""
    isDraft: bool = False
    error: str = ""


class FirstPickLogic(ScriptedLoadableModuleLogic, VTKObservationMixin):
    """Talks to the server and keeps the open study; works without any window.

    Attributes
    ----------
    listeners : list of callable
        Told by one word what changed: ``server``, ``worklist``, ``reading`` or ``notice``.
    connection : str
        How the server is, in plain words.
    message : str
        What the last action led to.
    question : Question or None
    transfer : tuple or None
        What is under way: its text, and how much of how much is done.
    """

    def __init__(self, parent=None):
        ScriptedLoadableModuleLogic.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.listeners = []
        self.network = Network()
        settings = os.path.dirname(slicer.app.slicerUserSettingsFilePath)
        self.kept = Kept(os.path.join(settings, "FirstPick"))
        self.cacheFolder = os.path.join(slicer.app.temporaryPath, "FirstPick")
        self.client = None
        self.connection = _("Not connected.")
        self.isConnected = False
        self.status = None
        self.strategies = []
        self.worklist = None
        self.reading = None
        self.message = ""
        self.question = None
        self.transfer = None
        self.strategy = ""
        self.views = {}
        self._putAside = set()
        self.thumbnails = {}
        self._answers = None
        self._task = self._polling = self._prefetch = None
        self._prefetching = ""
        self._pollTimer = self._timer(POLL_MS, self.poll)
        self._heartbeatTimer = self._timer(HEARTBEAT_MS, self.heartbeat)

    def getParameterNode(self):
        """Return what belongs to the scene."""
        return FirstPickParameterNode(super().getParameterNode())

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

    def _ask(self, text, yes, action):
        self.question = Question(text, yes, action)
        self._tell("notice")

    def answer(self, isYes):
        """Answer the question that stands."""
        question, self.question = self.question, None
        self._tell("notice")
        if question and isYes:
            question.action()

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

    def cancel(self):
        """End what is under way."""
        if self.isBusy:
            self._task.cancel()

    def _progress(self, text):
        """Make a function that shows how far a transfer is."""
        self.transfer = (text, 0, 0)
        self._tell("notice")

        def progress(done, total):
            self.transfer = (text, done, max(total, 0))
            self._tell("notice")

        return progress

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
        self._run(self._connect(client))

    def _connect(self, client):
        if self.reading:
            yield from self._leave()
        self._pollTimer.stop()
        self.client, self.status, self.worklist, self._answers = client, None, None, None
        self.thumbnails = {}
        self._putAside = set()
        self._tell("worklist")
        self._setConnection(_("Asking {address} ...").format(address=client.address), isConnected=False)
        answer = yield client.status()
        if answer.isGood and isFirstPick(answer):
            strategies = yield client.strategies()
            self.strategies = strategies.data if strategies.isGood else []
            self.strategy = ""
            yield from self._refresh(answer)
            self._pollTimer.start()
            self._heartbeatTimer.start()
        elif answer.isGood:
            text = _("{address} answers, but is not a FirstPick server.").format(address=client.address)
            self._setConnection(text, isConnected=False)
        elif not answer.isCancelled:
            self._setConnection(answer.error, isConnected=False)

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
        if client is not self.client:
            return
        if not answer.isGood:
            self._setConnection(answer.error, isConnected=False)
            return
        self.status = answer.data
        self.strategy = self.strategy or self.status["strategy"]
        isReady = self.status["state"] == "ready"
        self._pollTimer.setInterval(POLL_MS if isReady else POLL_SOON_MS)
        self._setConnection(statusText(self.status), isConnected=True)
        if not isReady:
            return
        proposal = yield client.proposal(self.strategy)
        if client is not self.client or not proposal.isGood:
            self._setConnection(proposal.error or self.connection, isConnected=True)
            return
        holders = [(reader["client"], [s["study_id"] for s in reader["studies"]]) for reader in self.status["readers"]]
        facts = [self.status[key] for key in ("n_pool", "n_labelled", "n_skipped")]
        answers = (proposal.data, holders, facts)
        if answers != self._answers:
            points = yield client.map(self.strategy)
            if client is self.client and points.isGood:
                self._answers = answers
                self.worklist = WorkList(proposal.data, points.data["points"], client.reader)
                self._checkReservation()
                self._tell("worklist")

    def newBatch(self, strategy, batchSize, isSure=False):
        """Make a new batch; asks first while picks are open."""
        nOpen = self.worklist.openPicks if self.worklist else 0
        if nOpen and not isSure:
            text = _("{n} picks of this batch are not segmented yet. Reserved ones stay, open ones may go.")
            self._ask(
                text.format(n=nOpen), _("Make a new batch"), lambda: self.newBatch(strategy, batchSize, isSure=True)
            )
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

    def loadThumbnail(self, studyId, done):
        """Hand a study's picture (PNG) to ``done``, empty if there is none; asks the server once."""
        if studyId in self.thumbnails:
            if self.thumbnails[studyId] is not None:
                done(self.thumbnails[studyId])
            return
        thumbnails = self.thumbnails
        thumbnails[studyId] = None  # asked for

        def finished(answer):
            thumbnails[studyId] = answer.data if answer.isGood else b""
            if thumbnails is self.thumbnails:
                done(thumbnails[studyId])

        self.network.send(self.client.thumbnail(studyId), finished)

    # -- reservations

    def heartbeat(self):
        """Say that the reader is still at it, and will go on with what was put aside as a draft."""
        if self.reading and self.client and not self.reading.lost:
            Task(self.network, self._heartbeat(self.reading)).start()
        for studyId in sorted(self._putAside):
            Task(self.network, self._holdDraft(studyId)).start()

    def _holdDraft(self, studyId):
        answer = yield self.client.change("heartbeat", studyId)
        if answer.status in (404, 409):
            self._putAside.discard(studyId)

    def _heartbeat(self, reading):
        answer = yield self.client.change("heartbeat", reading.studyId)
        if reading is self.reading and answer.status in (404, 409):
            self._loseReservation(answer.error)

    def _loseReservation(self, text):
        self.reading.lost = text
        self.say(_("{why} Save a draft or go on to another study.").format(why=text))
        self._tell("reading")

    def _checkReservation(self):
        """Tell the reader at once when the open study is no longer theirs; take it again if nobody else came."""
        row = self.worklist.row(self.reading.studyId) if self.reading else None
        if row is None or self.reading.lost:
            return
        if row.status == "open":
            self.heartbeat()
        elif row.client != self.client.reader:
            until = _(" until {time}").format(time=clock(row.until)) if row.until else ""
            text = _("Study '{study}' is now {status}{until}.")
            self._loseReservation(
                text.format(study=row.studyId, status=row.statusText(self.client.reader), until=until)
            )

    # -- reading

    def open(self, studyId):
        """Reserve a study, fetch it and show it; what was open is kept as a draft."""
        if self.client is not None and not (self.reading and self.reading.studyId == studyId):
            self._run(self._open(studyId))

    def openNext(self):
        """Open the first open pick."""
        if self.worklist:
            self._run(self._openNext())

    def openNeighbour(self, step):
        """Open the next pick (1) or the one before (-1)."""
        if self.worklist and self.reading:
            row = self.worklist.neighbour(self.reading.studyId, step)
            if row is not None:
                self.open(row.studyId)

    def endText(self):
        """Say why no further study is opened."""
        if self.worklist.isAllDone:
            return _("All done: every pick of this batch is segmented or skipped. Thank you!")
        return _("No pick is free: the rest is in progress by others.")

    def _open(self, studyId):
        if self.reading and not (yield from self._leave()):
            return
        yield from self._load(studyId)

    def _openNext(self):
        studyId = self.reading.studyId if self.reading else ""
        if not self.reading or (yield from self._leave()):
            yield from self._loadNext(studyId)

    def _loadNext(self, studyId):
        """Open the first free pick below a study; try the next one where somebody else was faster."""
        while self.worklist:
            row = self.worklist.nextOpen(studyId)
            if row is None:
                self.say(self.endText())
                return
            if not (yield from self._load(row.studyId)):
                return

    def _load(self, studyId):
        """Reserve, fetch and show; return whether somebody else was faster."""
        self._progress(_("Reserving {study} ...").format(study=studyId))
        answer = yield self.client.change("reserve", studyId)
        if not answer.isGood:
            self._sayError(answer)
            yield from self._refresh()
            return answer.status == 409
        text = yield from self._fetchAndShow(studyId)
        if text:
            yield self.client.change("release", studyId)
            self.say(text)
        yield from self._refresh()
        self._prefetchNext()
        return False

    def _fetchAndShow(self, studyId):
        """Fetch volume and label and show them; return what went wrong."""
        answer = yield self.client.imageInfo(studyId)
        if not answer.isGood:
            return answer.error or _("Cancelled.")
        info = answer.data
        volumePath = self._volumePath(studyId, info)
        if self._prefetching == volumePath and not self._prefetch.isOver:
            self._progress(_("Loading {study} ...").format(study=studyId))
            answer = yield self._prefetch
            if answer.isCancelled:
                return _("Cancelled.")
        if not os.path.exists(volumePath):
            progress = self._progress(_("Loading {study} ...").format(study=studyId))
            answer = yield Download(self.client.image(studyId), volumePath, progress)
            if not answer.isGood:
                return answer.error or _("Cancelled.")
        drawn = yield from self._fetchLabel(studyId)
        return drawn.error or self._show(studyId, info, volumePath, drawn)

    def _volumePath(self, studyId, info):
        if isHere(info):
            return info["path"]
        os.makedirs(self.cacheFolder, exist_ok=True)
        return os.path.join(self.cacheFolder, cacheName(self.client.address, studyId, info))

    def _fetchLabel(self, studyId):
        """Fetch what was drawn before: what is kept here, else the newer one of draft and final label."""
        kept = self.kept.read(self.client, studyId)
        if kept:
            note = _("Resumed what was kept on this computer; it is not on the server yet.")
            return Drawn(self.kept.path(self.client, studyId), kept["seconds"], note, isDraft=True)
        newest, newestTag = {}, ""
        for tag in (FINAL, self.client.draftTag):
            answer = yield self.client.labelInfo(studyId, tag)
            if not answer.isGood:
                return Drawn(error=answer.error or _("Cancelled."))
            if answer.data.get("ts", 0) >= newest.get("ts", 1):
                newest, newestTag = answer.data, tag
        if not newest:
            return Drawn()
        os.makedirs(self.cacheFolder, exist_ok=True)
        path = os.path.join(self.cacheFolder, "label.nii.gz")
        answer = yield Download(self.client.label(studyId, newestTag), path)
        if not answer.isGood:
            return Drawn(error=answer.error or _("Cancelled."))
        note = _("Resumed the draft of {time}.") if newestTag != FINAL else _("Loaded the final label of {time}.")
        seconds = float(newest.get("seconds", 0))
        return Drawn(path, seconds, note.format(time=clock(newest["ts"])), isDraft=newestTag != FINAL)

    def _show(self, studyId, info, volumePath, drawn):
        """Put the study into the scene; return what went wrong."""
        labels = self.status["labels"]
        made = []
        try:
            volume = scene.loadVolume(volumePath, studyId)
            made.append(volume)
            segmentation = scene.makeSegmentation(volume, labels)
            made.append(segmentation)
            if drawn.path:
                scene.loadLabel(drawn.path, segmentation, labels)
        except RuntimeError as error:
            scene.removeNodes(made)
            return _("Slicer cannot open {study}: {why}").format(study=studyId, why=error)
        row = self.worklist.row(studyId) if self.worklist else None
        self.reading = Reading(
            studyId,
            volume,
            segmentation,
            labels,
            slices=row.slices if row else (),
            modality=info.get("modality", ""),
            cached="" if volumePath == info.get("path") else volumePath,
            secondsBefore=drawn.seconds,
            isDirty=bool(self.kept.read(self.client, studyId)),
            hasDraft=drawn.isDraft,
        )
        self._remember()
        for event in (
            slicer.vtkSegmentation.SourceRepresentationModified,
            slicer.vtkSegmentation.SegmentAdded,
            slicer.vtkSegmentation.SegmentRemoved,
        ):
            self.addObserver(segmentation.GetSegmentation(), event, self._onDrawn)
        scene.show(volume)
        scene.restoreView(volume, self.views.get(self.reading.modality, {}))
        if self.reading.slices:
            self.jumpTo(0)
        self._putAside.discard(studyId)
        self.say(drawn.note)
        self._tell("reading")
        return ""

    def jumpTo(self, number):
        """Show a proposed slice."""
        scene.jumpTo(self.reading.volume, self.reading.slices[number])

    def _onDrawn(self, caller=None, event=None):
        if self.reading and not self.reading.isDirty:
            self.reading.isDirty = True
            self._tell("reading")

    def _remember(self):
        """Note in the scene what is open."""
        parameters = self.getParameterNode()
        reading = self.reading
        parameters.studyId = reading.studyId if reading else ""
        parameters.volume = reading.volume if reading else None
        parameters.segmentation = reading.segmentation if reading else None

    def _close(self):
        """Take the study's nodes out of the scene."""
        reading, self.reading = self.reading, None
        self.removeObservers(self._onDrawn)
        if reading.isHere:
            self.views[reading.modality] = scene.readView(reading.volume)
        self._tell("reading")  # the editor lets go of the nodes first
        scene.removeNodes([reading.segmentation, reading.volume])
        self._remember()

    def _leave(self):
        """Close the open study: as a draft if anything was drawn, else given back. False if it must stay open."""
        reading = self.reading
        note = ""
        if reading.isDirty and reading.isHere:
            path = self._keep()
            if not path:
                return False
            answer = yield from self._send(path, self.client.draftTag)
            if answer.isCancelled:
                self.say(_("Cancelled: {study} stays open.").format(study=reading.studyId))
                return False
            note = answer.error and _("{why} The draft of {study} is kept on this computer.")
            note = (note or _("Saved a draft of {study}.")).format(why=answer.error, study=reading.studyId)
        elif not reading.hasDraft and not reading.lost:
            yield self.client.change("release", reading.studyId)
        if reading.hasDraft and not reading.lost:
            self._putAside.add(reading.studyId)
        self._close()
        self.say(note)
        return True

    def closeStudy(self):
        """Put the open study aside."""
        if self.reading:
            self._run(self._closeStudy())

    def _closeStudy(self):
        if (yield from self._leave()):
            note = self.message
            yield from self._refresh()
            self.say(note)

    # -- what was drawn

    def _keep(self):
        """Write what is drawn to this computer; return the file, or say why not."""
        try:
            return self.kept.write(self.client, self.reading)
        except OSError as error:
            self.say(str(error))
            return ""

    def _send(self, path, tag):
        """Upload a kept label; it is forgotten once the server has it."""
        reading = self.reading
        reading.isDirty = False
        request = self.client.saveLabel(reading.studyId, tag, reading.labels, reading.seconds)
        progress = self._progress(_("Sending {study} ...").format(study=reading.studyId))
        answer = yield Upload(request, path, progress)
        if answer.isGood:
            self.kept.remove(self.client, reading.studyId)
            reading.hasDraft = True
        else:
            reading.isDirty = True
        self._tell("reading")
        return answer

    def saveDraft(self):
        """Save what is drawn on the server, to go on later."""
        if self.reading and self._isWhole():
            self._run(self._saveDraft())

    def _saveDraft(self):
        path = self._keep()
        if path:
            answer = yield from self._send(path, self.client.draftTag)
            if answer.isGood:
                self.say(_("Saved a draft of {study}.").format(study=self.reading.studyId))
            else:
                self._sayNotSent(answer)

    def _sayNotSent(self, answer):
        why = _("Cancelled.") if answer.isCancelled else answer.error
        self.say(_("Not sent. {why} What you drew is still here, and kept on this computer.").format(why=why))

    def _isWhole(self):
        """Check that nobody deleted the study's nodes."""
        if not self.reading.isHere:
            self.say(_("The study's volume or segmentation is no longer in the scene. Open the study again."))
        return self.reading.isHere

    def submit(self, isSure=False):
        """Upload the final label and open the next pick; asks first if something looks wrong."""
        if not self.reading or self.isBusy or not self._isWhole():
            return
        doubts = [] if isSure else [*filter(None, [self.reading.lost]), *self.reading.problems()]
        if doubts:
            self._ask(" ".join(doubts), _("Submit anyway"), lambda: self.submit(isSure=True))
            return
        self._run(self._submit())

    def _submit(self):
        path = self._keep()
        if not path:
            return
        answer = yield from self._send(path, FINAL)
        reading = self.reading
        if not answer.isGood:
            self._sayNotSent(answer)
            return
        if reading.isDirty:
            self.say(_("You drew on while the label was sent. Submit again."))
            return
        self._forgetFile(reading)
        yield from self._next(_("Submitted {study}.").format(study=reading.studyId))

    def _forgetFile(self, reading):
        """Delete the copy of a study that is closed."""
        if reading.cached and os.path.exists(reading.cached):
            os.remove(reading.cached)

    def _next(self, text):
        """Close the open study and open the next pick."""
        studyId = self.reading.studyId
        self._close()
        yield from self._refresh()
        self.message = ""
        yield from self._loadNext(studyId)
        self.say(f"{text} {self.message}".strip())

    def skip(self, studyId, reason):
        """Take a study out for everyone; what was drawn stays as a draft."""
        if self.client is not None:
            self._run(self._skip(studyId, reason))

    def _skip(self, studyId, reason):
        isOpen = bool(self.reading) and self.reading.studyId == studyId
        if isOpen and self.reading.isDirty and self.reading.isHere:
            path = self._keep()
            if not path:
                return
            yield from self._send(path, self.client.draftTag)
        answer = yield self.client.change("skip", studyId, reason=reason)
        if not answer.isGood:
            self._sayError(answer)
            yield from self._refresh()
            return
        text = _("Skipped {study} ({reason}); the filter 'skipped' can undo it.").format(study=studyId, reason=reason)
        if isOpen:
            self._forgetFile(self.reading)
            yield from self._next(text)
        else:
            yield from self._refresh()
            self.say(text)

    def unskip(self, studyId):
        """Undo a skip."""
        self._run(self._change("unskip", studyId, _("{study} can be segmented again.")))

    def reopen(self, studyId):
        """Open a done study again, with its label."""
        self._run(self._reopen(studyId))

    def _change(self, verb, studyId, text):
        answer = yield self.client.change(verb, studyId)
        self.say(text.format(study=studyId))
        self._sayError(answer)
        yield from self._refresh()
        return answer.isGood

    def _reopen(self, studyId):
        if (yield from self._change("reopen", studyId, _("{study} is open again."))):
            yield from self._open(studyId)

    # -- ahead of the reader

    def _prefetchNext(self):
        """Fetch the next pick's file while this one is read."""
        row = self.worklist.nextOpen(self.reading.studyId) if self.worklist and self.reading else None
        if row is not None and (self._prefetch is None or self._prefetch.isOver):
            self._prefetch = Task(self.network, self._fetchAhead(row.studyId))
            self._prefetch.start()

    def _fetchAhead(self, studyId):
        answer = yield self.client.imageInfo(studyId)
        if answer.isGood:
            path = self._volumePath(studyId, answer.data)
            if not os.path.exists(path):
                self._prefetching = path
                yield Download(self.client.image(studyId), path)

    # -- endings

    def sceneCloses(self):
        """Keep what is drawn before Slicer removes the nodes, and send it as a draft."""
        if not self.reading:
            return
        self.cancel()
        reading = self.reading
        path = self._keep() if reading.isDirty and reading.isHere else ""
        self.removeObservers(self._onDrawn)
        self.reading = None
        self._tell("reading")
        if path:
            self.say(_("The scene was closed. What you drew in {study} is kept.").format(study=reading.studyId))
            Task(self.network, self._sendKept(path, reading)).start()
        elif not reading.hasDraft:
            self.network.send(self.client.change("release", reading.studyId), lambda answer: None)

    def _sendKept(self, path, reading):
        request = self.client.saveLabel(reading.studyId, self.client.draftTag, reading.labels, reading.seconds)
        answer = yield Upload(request, path)
        if answer.isGood:
            self.kept.remove(self.client, reading.studyId)

    def end(self):
        """Keep what is drawn, close the study, end all transfers and timers."""
        if self.reading:
            if self.reading.isDirty and self.reading.isHere:
                self._keep()
            self._close()
        for timer in (self._pollTimer, self._heartbeatTimer):
            timer.stop()
        self.network.cancelAll()
        self.removeObservers()
        self.listeners.clear()
