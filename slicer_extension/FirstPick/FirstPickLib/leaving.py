"""Ways out of an open study: saving, submitting, skipping, closing. Nothing drawn goes without the reader's word."""

from __future__ import annotations

import os

from slicer.i18n import tr as _

from .asking import Asking
from .client import FINAL
from .link import waitCursor
from .studyfile import checkStudy
from .tasks import sendLabel


class Leaving(Asking):
    """What `FirstPickLogic` does with what was drawn."""

    # -- keeping and sending

    def _keep(self, isSubmit=False):
        """Write what is drawn to this computer; return what is kept, or say why nothing is."""
        reading = self.reading
        withLabel = reading.isHere and (isSubmit or reading.fitsLabelFile)
        work = self.kept.read(self.client, reading.studyId)
        if work and work.isSubmitted and not isSubmit and reading.keptChanges == reading.changes:
            return work
        try:
            work = self.kept.write(self.client, reading, withLabel=withLabel, isSmall=not withLabel)
        except OSError as error:
            self.say(str(error))
            return None
        reading.keptChanges = reading.changes
        return work

    def _keepAloud(self, isSubmit=False):
        """Keep what is drawn, and say so before the window stands still: the story of `_keep`."""
        if not (yield from self._busy(_("Writing {study} ...").format(study=self.reading.title))):
            self.say(_("Cancelled."))
            return None
        with waitCursor():
            return self._keep(isSubmit)

    def _autosave(self):
        """Keep what was drawn since the last time."""
        reading = self.reading
        if not reading or not reading.isDirty or not reading.hasDrawing or reading.keptChanges == reading.changes:
            return
        try:
            self.kept.write(self.client, reading)
            reading.keptChanges = reading.changes
        except OSError as error:
            self.say(str(error))

    def _send(self, work, tag):
        """Upload kept work; it is forgotten once the server has it, unless somebody else has the study."""
        reading = self.reading
        reading.isDirty = False
        request = self.client.saveLabel(reading.studyId, tag, reading.labels, work.seconds)
        progress = self._progress(_("Sending {study} ...").format(study=reading.title))
        answer = yield from checkStudy(self.client, reading.studyId, work.stamp)
        if answer.isGood:
            with self.kept.held(work):
                answer = yield from sendLabel(request, self.kept.path(work.label or work.file), progress)
        if answer.isGood:
            if tag == FINAL or not reading.lost:
                self.kept.remove(self.client, work)
            reading.hasSavedWork, reading.wasDone = True, False
        else:
            reading.isDirty = True
        self._tell("reading")
        return answer

    def saveWork(self):
        """Save what is drawn on the server, to go on later; a draft that nobody touched is no work."""
        if not self.reading or not self._isWhole():
            return
        if self.reading.isDraft and not self.isBusy:
            self.say(_("There is nothing of yours to save: the draft is as the server made it."))
        else:
            self.settle(lambda: self._run(self._saveWork()))

    def _saveWork(self):
        work = yield from self._keepAloud()
        if work is None:
            return
        answer = yield from self._send(work, self.client.savedTag)
        if answer.isGood:
            self.say(self._withCopied(_("Saved your work on {study}.").format(study=self.reading.title)))
            yield from self._listLabels()
        else:
            self._sayNotSent(answer)

    def _withCopied(self, text):
        """Add where a copy lies that was made on the reader's wish."""
        copied, self.reading.copied = self.reading.copied, ""
        return f"{text} {copied}".strip()

    def _sayNotSent(self, answer):
        why = _("Cancelled.") if answer.isCancelled else answer.error
        self.say(_("Not sent. {why} What you drew is still here, and kept on this computer.").format(why=why))

    def _isWhole(self):
        """Check that nobody deleted the study's nodes."""
        if not self.reading.isHere:
            self.say(_("The study's volume or segmentation is no longer in the scene. Open the study again."))
        return self.reading.isHere

    # -- submitting

    def submit(self):
        """Upload the final label and open the next pick; asks first if something looks wrong."""
        if self.reading and not self.isBusy and self._isWhole():
            self.settle(lambda: self._run(self._submit()), isFinal=True)

    def submitAgain(self, work):
        """Submit what the reader submitted while the server was away, unless they drew on or somebody else has it."""
        reading = self.reading
        isAsItWas = reading.keptChanges == reading.changes and reading.isHere and not reading.lost
        if work.isSubmitted and isAsItWas and not self.isBusy:
            self._run(self._submit())

    def _submit(self):
        reading = self.reading
        reading.settled.discard("empty")
        work = yield from self._keepAloud(isSubmit=True)
        if work is None:
            return
        answer = yield from self._send(work, FINAL)
        if not answer.isGood:
            self._sayNotSubmitted(answer, work)
            return
        if reading.isDirty:
            self.say(_("You drew on while the label was sent. Submit again."))
            return
        self._forgetFile(reading)
        yield from self._next(self._submittedText)

    def _sayNotSubmitted(self, answer, work):
        """Say why a label was not taken; one that did not reach the server is submitted by itself later."""
        if not isAway(answer) or self.reading.changes != self.reading.keptChanges:
            self._sayNotSent(answer)
            return
        self.kept.submitted(self.client, work)
        text = _(
            "Not sent. {why} Your label is kept on this computer, and submitted by itself when the server answers, "
            "unless you draw on."
        )
        self.say(text.format(why=answer.error))

    def _submittedText(self, reading):
        """Say what became of a label, once the work list is up to date."""
        row = self.worklist.row(reading.studyId) if self.worklist else None
        text = _("Submitted {study}.")
        if row and row.status != "done" and self.client.reader in row.readBy:
            text = _("Your reading of {study} is saved; another reader reads it too.")
        return f"{text.format(study=reading.title)} {reading.copied}".strip()

    def _forgetFile(self, reading):
        """Delete the copies of a study that is closed."""
        for path in filter(None, (reading.cached, *reading.sequences.copies)):
            if os.path.exists(path):
                os.remove(path)

    # -- leaving

    def _leave(self, isForced=False):
        """Close the open study: kept and saved if anything was drawn, else given back. False if it must stay open.

        ``isForced`` says that *Cancel* ends the sending only.
        """
        reading, note = self.reading, ""
        if reading.isDirty and reading.hasDrawing:
            work = yield from self._keepAloud()
            if work is None:
                return False
            note = yield from self._saveAside(work, isForced)
            if note is None:
                self.say(_("Cancelled: {study} stays open.").format(study=reading.title))
                return False
        elif reading.isDirty:
            note = _("What was drawn in {study} was taken out of the scene.").format(study=reading.title)
            if self.kept.read(self.client, reading.studyId):
                note = _("What you drew in {study} is kept on this computer.").format(study=reading.title)
        elif self.isConnected and reading.isUntouched:
            answer = yield self.client.change("release", reading.studyId)
            if answer.isGood and answer.data["status"] == "done":  # it had been opened again
                note = _("{study} is unchanged: done as before.").format(study=reading.title)
            elif answer.error:
                note = _("{why} {study} may stay reserved for you for up to half an hour.")
                note = note.format(why=answer.error, study=reading.title)
        if reading.hasSavedWork and not reading.lost and not reading.wasDone:
            self._putAside.add(reading.studyId)
        self._close()
        self.say(note)
        return True

    def _saveAside(self, work, isForced):
        """Send what is drawn as saved work; return what to say of it, or None if the reader cancelled that."""
        title = self.reading.title
        if work.isSubmitted:
            text = _("Your label of {study} is kept on this computer, and submitted by itself when the server answers.")
            return text.format(study=title)
        if not self.isConnected:
            text = _("What you drew in {study} is kept on this computer, and sent by itself when the server answers.")
            return text.format(study=title)
        answer = yield from self._send(work, self.client.savedTag)
        if answer.isGood:
            return self._withCopied(_("Saved your work on {study}.").format(study=title))
        if answer.isCancelled and not isForced:
            return None
        return _("{why} Your work on {study} is kept on this computer.").format(why=answer.error, study=title).strip()

    def closeStudy(self):
        """Put the open study aside."""
        if self.reading:
            self.settle(lambda: self._run(self._closeStudy()))

    def _closeStudy(self):
        if (yield from self._leave()):
            note = self.message
            yield from self._refresh()
            self.showKept()
            self.say(note)

    def skip(self, studyId, reason):
        """Take a study out for everyone; what was drawn is saved."""
        if self.client is None:
            return
        if self.reading and self.reading.studyId == studyId:
            self.settle(lambda: self._run(self._skip(studyId, reason)))
        else:
            self._run(self._skip(studyId, reason))

    def _skip(self, studyId, reason):
        isOpen = bool(self.reading) and self.reading.studyId == studyId
        if isOpen and self.reading.isDirty and self.reading.hasDrawing:
            work = yield from self._keepAloud()
            if work is None:
                return
            yield from self._send(work, self.client.savedTag)
        answer = yield self.client.change("skip", studyId, reason=reason)
        if not answer.isGood:
            self._sayError(answer)
            yield from self._refresh()
            return
        text = _("Skipped {study} ({reason}); the filter 'skipped' can undo it.")
        text = text.format(study=self.title(studyId), reason=reason)
        if isOpen:
            text = self._withCopied(text)
            self._forgetFile(self.reading)
            yield from self._next(lambda reading: text)
        else:
            yield from self._refresh()
            self.say(text)


def isAway(answer):
    """Tell whether the server did not say no itself, so that the same may be sent again."""
    isRefused = answer.status < 500 and (answer.isTold or answer.status == 413)
    return not answer.isGood and not answer.isCancelled and not isRefused
