"""What the module does, without any window: talks to the server and keeps the open study."""

from __future__ import annotations

import os
import time
from typing import Annotated

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic
from slicer.util import VTKObservationMixin

from . import geometry, scene
from .activity import Lookout
from .autosave import Autosave
from .copies import Copies
from .drafts import Drafts
from .kept import Kept
from .leaving import Leaving
from .link import ServerLink, isLost
from .loading import Loading
from .opening import Opening
from .sender import KeptSender
from .studyfile import StudyFiles
from .tasks import Task
from .views import Views

LOOK_MS = 300  # after the last stroke
END_PATIENCE_S = 2  # with the server when Slicer ends


@parameterNodeWrapper
class FirstPickParameterNode:
    """What belongs to the scene."""

    strategy: str = ""
    batchSize: Annotated[int, WithinRange(1, 500)] = 10


class FirstPickLogic(Opening, Leaving, Loading, Drafts, ServerLink, ScriptedLoadableModuleLogic, VTKObservationMixin):
    """Opens studies, keeps what is drawn and sends it; works without any window.

    Attributes
    ----------
    reading : Reading or None
        The open study.
    kept : Kept
        Work that the server does not have.
    sender : KeptSender
    files : StudyFiles
        The studies' files on this computer.
    views : Views
        How the reader wants each kind of picture to be shown.
    """

    def __init__(self, parent=None):
        ScriptedLoadableModuleLogic.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        ServerLink.__init__(self)
        settings = os.path.dirname(slicer.app.slicerUserSettingsFilePath)
        self.kept = Kept(os.path.join(settings, "FirstPick"))
        self.copies = Copies(os.path.join(slicer.app.temporaryPath, "FirstPick"))
        slicer.app.connect("aboutToQuit()", self.copies.remove)
        self.cacheFolder = self.copies.folder
        self.files = StudyFiles(self.network, self.cacheFolder)
        self.sender = KeptSender(self)
        self.autosave = Autosave(self._autosave)
        self.views = Views()
        self._lookout = Lookout(self._onSeen)
        self._viewsBefore = []
        self._ticked = {}  # slices by hand, by study
        self._lookTimer = self._timer(LOOK_MS, self._look)
        self._lookTimer.setSingleShot(True)

    def getParameterNode(self):
        """Return what belongs to the scene."""
        return FirstPickParameterNode(super().getParameterNode())

    # -- reading

    def open(self, studyId):
        """Reserve a study, fetch it and show it; what was open is saved."""
        if self.client is not None and not (self.reading and self.reading.studyId == studyId):
            self.settle(lambda: self._run(self._open(studyId)))

    def openNext(self):
        """Open the first open pick."""
        if self.worklist:
            self.settle(lambda: self._run(self._openNext()))

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
        if self.worklist.nReadBefore:
            return _("No pick is left for you: the rest is in progress by others or waits for another reader.")
        return _("No pick is free: the rest is in progress by others.")

    def _open(self, studyId):
        if self.reading and not (yield from self._leave()):
            return
        yield from self._after(self._load(studyId, isWanted=True))

    def _openNext(self):
        studyId = self.reading.studyId if self.reading else ""
        if not self.reading or (yield from self._leave()):
            yield from self._after(self._loadNext(studyId))

    def _after(self, story):
        """Tell a story, and say what it led to after what was said before."""
        before, self.message = self.message, ""
        yield from story
        self.say(f"{before} {self.message}".strip())

    def _loadNext(self, studyId):
        """Open the first free pick below a study; try the next one where somebody else was faster."""
        refused = set()
        while self.worklist:
            row = self.worklist.nextOpen(studyId, refused)
            if row is None:
                self.say(self.endText())
                return
            if not (yield from self._load(row.studyId)):
                return
            refused.add(row.studyId)

    def _load(self, studyId, isWanted=False, wasDone=False):
        """Reserve, fetch and show; return whether somebody else was faster.

        Work that is kept here can be opened if it ``isWanted``, whoever has the study.
        """
        self._progress(_("Reserving {study} ...").format(study=self.title(studyId)))
        sending = self.sender.sending(studyId)
        if sending:
            yield sending
        strategy = self.worklist.strategy if self.worklist else self.strategy
        answer = yield self.client.change("reserve", studyId, strategy=strategy)
        isKept = self.kept.read(self.client, studyId) is not None
        lost = answer.error if isLost(answer) and answer.status == 409 and isWanted and isKept else ""
        if not answer.isGood and not lost:
            self._sayError(answer)
            if isKept:
                self.say(_("{why} What you drew in it is kept on this computer: export it.").format(why=self.message))
            if answer.isCancelled and studyId not in self._putAside:  # the server may have reserved it
                self._giveBack(studyId)
            yield from self._refresh()
            return isLost(answer)
        text = yield from self._fetchAndShow(studyId, lost, wasDone)
        if text:
            if not lost:
                yield self._giveBack(studyId)
            self.say(text)
        yield from self._refresh()
        self.showKept()
        if self.reading:
            self.reading.sequences.start(self._prefetchNext)
        return False

    def _giveBack(self, studyId):
        """Give a study back, even if the story that waits for this is cancelled."""
        self._polling = Task(self.network, self._release(self.client, studyId)).start()
        return self._polling

    def _release(self, client, studyId):
        yield client.change("release", studyId)
        yield from self._refresh()

    def _look(self):
        """Tick off the slices on which something was drawn."""
        if self.reading and self.reading.isHere and self.reading.slices.look():
            self._tell("reading")

    def _observe(self, segmentation):
        """Watch for what is drawn, and for whoever takes it out of the scene."""
        inner = segmentation.GetSegmentation()
        for event in (
            slicer.vtkSegmentation.SourceRepresentationModified,
            slicer.vtkSegmentation.SegmentAdded,
            slicer.vtkSegmentation.SegmentRemoved,
        ):
            self.addObserver(inner, event, self._onDrawn)
        self.addObserver(inner, slicer.vtkSegmentation.SegmentModified, self._onSegment)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeAboutToBeRemovedEvent, self._onNode)

    def _onDrawn(self, caller=None, event=None):
        if not self.reading:
            return
        self.reading.active.seen()
        self._lookTimer.start()
        self.reading.changes += 1
        self.autosave.changed()
        if not self.reading.isDirty:
            self.reading.isDirty, self.reading.isDraft = True, False
            self._tell("reading")

    def _onSegment(self, caller=None, event=None):
        if self.reading and self.reading.areSegmentsChanged():
            self._onDrawn()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNode(self, caller, event, node):
        """Keep what is drawn while it is there."""
        if self.reading and node is self.reading.segmentation:
            self._autosave()

    def _onSeen(self):
        if self.reading:
            self.reading.active.seen()

    def _letGo(self):
        """Have no open study any more; how it was shown is kept for the next one of its kind."""
        reading, self.reading = self.reading, None
        self._lookout.stop()
        self.autosave.stop()
        reading.sequences.stop()
        for slot in (self._onDrawn, self._onSegment, self._onNode):
            self.removeObservers(slot)
        if reading.isHere:
            self.views.remember(reading)
        geometry.turnBack(self._viewsBefore)
        self._tell("reading")  # the editor lets go of the nodes before they are removed
        return reading

    def _close(self):
        """Take the study's nodes out of the scene."""
        reading = self._letGo()
        scene.removeNodes([*reading.beside, reading.segmentation, reading.volume])
        reading.sequences.close()

    def _next(self, tell):
        """Close the open study, open the next pick and say what ``tell(reading)`` tells of the closed one."""
        reading = self.reading
        self._close()
        yield from self._refresh()
        text, self.message = tell(reading), ""
        yield from self._loadNext(reading.studyId)
        self.say(f"{text} {self.message}".strip())

    def unskip(self, studyId):
        """Undo a skip."""
        self._run(self._change("unskip", studyId, _("{study} can be segmented again.")))

    def reopen(self, studyId):
        """Open a done study again, with its label."""
        self.settle(lambda: self._run(self._reopen(studyId)))

    def _change(self, verb, studyId, text):
        answer = yield self.client.change(verb, studyId)
        self.say(text.format(study=self.title(studyId)))
        self._sayError(answer)
        yield from self._refresh()
        return answer.isGood

    def _reopen(self, studyId):
        if self.reading and not (yield from self._leave()):
            return
        if (yield from self._change("reopen", studyId, _("{study} is open again."))):
            yield from self._load(studyId, wasDone=True)
            if not self.reading:  # done as before, unless somebody else has it
                yield self._giveBack(studyId)

    # -- ahead of the reader

    def _prefetchNext(self):
        """Fetch the next pick's file while this one is read, once all of this one is there."""
        row = self.worklist.nextOpen(self.reading.studyId) if self.worklist and self.reading else None
        if row is not None:
            self.files.fetchAhead(self.client, row.studyId)

    # -- endings

    def sceneCloses(self):
        """Keep all that is drawn before Slicer removes the nodes, and send it as saved work."""
        if not self.reading:
            return
        self.cancel()
        reading = self.reading
        isKept = reading.isDirty and reading.hasDrawing and self._keep() is not None
        self._letGo()
        if isKept:
            self.say(_("The scene was closed. What you drew in {study} is kept.").format(study=reading.title))
            self.sender.start()
        elif reading.isUntouched:
            self.network.send(self.client.change("release", reading.studyId), lambda answer: self.poll())

    def end(self):
        """Keep all that is drawn, give back what is unchanged, end all transfers and timers."""
        if self.reading:
            reading = self.reading
            if reading.isDirty and reading.hasDrawing:
                self._keep()
            reading.sequences.stop()
            self.network.cancelAll()
            if self.isConnected and reading.isUntouched:
                self._giveBackNow(reading.studyId)
            self._close()
        for timer in (self._pollTimer, self._heartbeatTimer, self._lookTimer):
            timer.stop()
        self.network.cancelAll()
        slicer.app.disconnect("aboutToQuit()", self.copies.remove)
        self.copies.remove()
        self.removeObservers()
        self.listeners.clear()

    def _giveBackNow(self, studyId):
        """Give a study back and wait, but not long: nothing goes on after the end."""
        answers, end = [], time.monotonic() + END_PATIENCE_S
        self.network.send(self.client.change("release", studyId), answers.append)
        while not answers and time.monotonic() < end:
            slicer.app.processEvents()
            time.sleep(0.01)
