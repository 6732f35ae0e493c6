"""What the module does, without any window: talks to the server and keeps the open study."""

from __future__ import annotations

import os
from typing import Annotated

import slicer
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic
from slicer.util import VTKObservationMixin

from . import scene
from .client import FINAL
from .drawn import fetchDrawn
from .link import ServerLink, isLost
from .reading import Kept, Reading
from .studyfile import StudyFiles, checkStudy
from .tasks import Task, Upload


@parameterNodeWrapper
class FirstPickParameterNode:
    """What belongs to the scene."""

    strategy: str = ""
    batchSize: Annotated[int, WithinRange(1, 500)] = 10
    studyId: str = ""
    volume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode


class FirstPickLogic(ServerLink, ScriptedLoadableModuleLogic, VTKObservationMixin):
    """Opens studies, keeps what is drawn and sends it; works without any window.

    Attributes
    ----------
    reading : Reading or None
        The open study.
    kept : Kept
        Labels that did not reach the server yet.
    files : StudyFiles
        The studies' files on this computer.
    views : dict
        Window, level and layout by modality.
    """

    def __init__(self, parent=None):
        ScriptedLoadableModuleLogic.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        ServerLink.__init__(self)
        settings = os.path.dirname(slicer.app.slicerUserSettingsFilePath)
        self.kept = Kept(os.path.join(settings, "FirstPick"))
        self.cacheFolder = os.path.join(slicer.app.temporaryPath, "FirstPick")
        self.files = StudyFiles(self.network, self.cacheFolder)
        self.views = {}

    def getParameterNode(self):
        """Return what belongs to the scene."""
        return FirstPickParameterNode(super().getParameterNode())

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
        if self.worklist.nReadBefore:
            return _("No pick is left for you: the rest is in progress by others or waits for another reader.")
        return _("No pick is free: the rest is in progress by others.")

    def _open(self, studyId):
        if self.reading and not (yield from self._leave()):
            return
        yield from self._after(self._load(studyId))

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

    def _load(self, studyId):
        """Reserve, fetch and show; return whether somebody else was faster."""
        self._progress(_("Reserving {study} ...").format(study=self.title(studyId)))
        strategy = self.worklist.strategy if self.worklist else self.strategy
        answer = yield self.client.change("reserve", studyId, strategy=strategy)
        if not answer.isGood:
            self._sayError(answer)
            if answer.isCancelled and studyId not in self._putAside:  # the server may have reserved it
                self._giveBack(studyId)
            yield from self._refresh()
            return isLost(answer)
        text = yield from self._fetchAndShow(studyId)
        if text:
            yield self._giveBack(studyId)
            self.say(text)
        yield from self._refresh()
        self._prefetchNext()
        return False

    def _giveBack(self, studyId):
        """Give a study back, even if the story that waits for this is cancelled."""
        self._polling = Task(self.network, self._release(self.client, studyId)).start()
        return self._polling

    def _release(self, client, studyId):
        yield client.change("release", studyId)
        yield from self._refresh()

    def _fetchAndShow(self, studyId):
        """Fetch volume and label and show them; return what went wrong."""
        title = self.title(studyId)

        def stage(isPreparing, *howFar):
            text = _("The server is preparing {study} ...") if isPreparing else _("Loading {study} ...")
            self._showTransfer(text.format(study=title), *howFar)

        fetched = yield from self.files.fetch(self.client, studyId, stage)
        if fetched.error:
            return fetched.error
        drawn = yield from fetchDrawn(self.client, self.kept, self.cacheFolder, studyId, self.isReadBySeveral)
        return drawn.error or self._show(studyId, fetched, drawn)

    def _show(self, studyId, fetched, drawn):
        """Put the study into the scene; return what went wrong."""
        labels, title = self.status["labels"], self.title(studyId)
        made = []
        try:
            volume = scene.loadVolume(fetched.path, title)
            made.append(volume)
            segmentation = scene.makeSegmentation(volume, labels)
            made.append(segmentation)
            if drawn.path:
                scene.loadLabel(drawn.path, segmentation, labels)
        except RuntimeError as error:
            scene.removeNodes(made)
            if fetched.path != fetched.info["path"]:  # a copy, which may be what is wrong
                os.remove(fetched.path)
            return _("Slicer cannot open {study}: {why}").format(study=title, why=error)
        row = self.worklist.row(studyId) if self.worklist else None
        self.reading = Reading(
            studyId,
            title,
            volume,
            segmentation,
            labels,
            slices=row.slices if row else (),
            modality=fetched.info["modality"],
            stamp=fetched.info["stamp"],
            cached="" if fetched.path == fetched.info.get("path") else fetched.path,
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
            answer = yield from self._send(path, self.client.savedTag)
            if answer.isCancelled:
                self.say(_("Cancelled: {study} stays open.").format(study=reading.title))
                return False
            note = answer.error and _("{why} The draft of {study} is kept on this computer.")
            note = (note or _("Saved a draft of {study}.")).format(why=answer.error, study=reading.title)
        elif not reading.hasDraft and not reading.lost:
            answer = yield self.client.change("release", reading.studyId)
            if answer.isGood and answer.data["status"] == "done":  # it had been reopened
                note = _("{study} is unchanged: done as before.").format(study=reading.title)
            elif answer.error:
                note = _("{why} {study} may stay reserved for you for up to half an hour.")
                note = note.format(why=answer.error, study=reading.title)
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
        progress = self._progress(_("Sending {study} ...").format(study=reading.title))
        answer = yield from checkStudy(self.client, reading.studyId, reading.stamp)
        if answer.isGood:
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
            answer = yield from self._send(path, self.client.savedTag)
            if answer.isGood:
                self.say(_("Saved a draft of {study}.").format(study=self.reading.title))
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
        yield from self._next(self._submittedText)

    def _submittedText(self, reading):
        """Say what became of a label, once the work list is up to date."""
        row = self.worklist.row(reading.studyId) if self.worklist else None
        if row and row.status != "done" and self.client.reader in row.readBy:
            return _("Your reading of {study} is saved; another reader reads it too.").format(study=reading.title)
        return _("Submitted {study}.").format(study=reading.title)

    def _forgetFile(self, reading):
        """Delete the copy of a study that is closed."""
        if reading.cached and os.path.exists(reading.cached):
            os.remove(reading.cached)

    def _next(self, tell):
        """Close the open study, open the next pick and say what ``tell(reading)`` tells of the closed one."""
        reading = self.reading
        self._close()
        yield from self._refresh()
        text, self.message = tell(reading), ""
        yield from self._loadNext(reading.studyId)
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
            yield from self._send(path, self.client.savedTag)
        answer = yield self.client.change("skip", studyId, reason=reason)
        if not answer.isGood:
            self._sayError(answer)
            yield from self._refresh()
            return
        text = _("Skipped {study} ({reason}); the filter 'skipped' can undo it.")
        text = text.format(study=self.title(studyId), reason=reason)
        if isOpen:
            self._forgetFile(self.reading)
            yield from self._next(lambda reading: text)
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
        self.say(text.format(study=self.title(studyId)))
        self._sayError(answer)
        yield from self._refresh()
        return answer.isGood

    def _reopen(self, studyId):
        if self.reading and not (yield from self._leave()):
            return
        if (yield from self._change("reopen", studyId, _("{study} is open again."))):
            yield from self._load(studyId)
            if not self.reading:  # done as before, unless somebody else has it
                yield self._giveBack(studyId)

    # -- ahead of the reader

    def _prefetchNext(self):
        """Fetch the next pick's file while this one is read."""
        row = self.worklist.nextOpen(self.reading.studyId) if self.worklist and self.reading else None
        if row is not None:
            self.files.fetchAhead(self.client, row.studyId)

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
            self.say(_("The scene was closed. What you drew in {study} is kept.").format(study=reading.title))
            Task(self.network, self._sendKept(path, reading)).start()
        elif not reading.hasDraft:
            self.network.send(self.client.change("release", reading.studyId), lambda answer: None)

    def _sendKept(self, path, reading):
        request = self.client.saveLabel(reading.studyId, self.client.savedTag, reading.labels, reading.seconds)
        answer = yield from checkStudy(self.client, reading.studyId, reading.stamp)
        if answer.isGood:
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
