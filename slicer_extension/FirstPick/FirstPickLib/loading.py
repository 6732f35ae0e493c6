"""The labels of the open study: loaded in the place of what is drawn, or beside it to be compared."""

from __future__ import annotations

from slicer.i18n import tr as _

from . import scene
from .client import DRAFT
from .drawn import fetchLabel, labelText
from .work import loadDrawn, writeWork


class Loading:
    """What `FirstPickLogic` does with the labels that the server lists."""

    def loadLabel(self, number):
        """Go on with one of the listed labels; asks first where that would replace what the server does not have."""
        reading = self.reading
        if not reading or self.isBusy or not self._isWhole():
            return
        label = reading.listed[number]

        def load():
            self._run(self._loadLabel(label))

        if not reading.isDirty or not reading.findings().nDrawn:
            load()
            return
        text = _("What you drew and did not save would make room for: {label}.").format(label=labelText(label))
        kept = (_("Keep a copy on this computer"), lambda: self._copied(reading, _("What you drew")) and load())
        self._ask(text, kept, (_("Save it first"), lambda: self._saveFirst(label)), (_("Discard it"), load))

    def _saveFirst(self, label):
        def story():
            yield from self._saveWork()
            if not self.reading.isDirty:
                yield from self._loadLabel(label)

        self.settle(lambda: self._run(story()))

    def _loadLabel(self, label):
        reading = self.reading
        changes = reading.changes
        path, why = yield from self._fetchListed(label)
        if not why and reading.changes != changes:
            why = _("You drew on while the label was fetched. Load it again if you want it in the place of that.")
        if why:
            self.say(why)
            return
        try:
            loadDrawn(path, reading.segmentation, reading.volume, reading.labels)
        except RuntimeError as error:
            self.say(_("Slicer cannot open {label}: {why}").format(label=labelText(label), why=error))
            return
        work = self.kept.read(self.client, reading.studyId)
        if work is not None:  # of what made room
            self.kept.remove(self.client, work)
        reading.isDirty, reading.keptChanges = False, reading.changes
        reading.isDraft = reading.slices.isFromDraft = label["kind"] == DRAFT
        reading.slices.look()
        self.autosave.stop()
        self.say(self._withCopied(_("Loaded: {label}.").format(label=labelText(label))))
        self._tell("reading")

    def compareLabel(self, number):
        """Show one of the listed labels beside what is drawn; it is only looked at."""
        if self.reading and not self.isBusy and self._isWhole():
            self._run(self._compareLabel(self.reading.listed[number]))

    def _compareLabel(self, label):
        reading = self.reading
        path, why = yield from self._fetchListed(label)
        if why:
            self.say(why)
            return
        segmentation = scene.makeSegmentation(reading.volume, [])
        segmentation.SetName(labelText(label))
        try:
            loadDrawn(path, segmentation, reading.volume, [])
        except RuntimeError as error:
            scene.removeNodes([segmentation])
            self.say(_("Slicer cannot open {label}: {why}").format(label=labelText(label), why=error))
            return
        reading.beside.append(segmentation)
        self.say(_("Shown beside what is drawn: {label}.").format(label=labelText(label)))

    def _fetchListed(self, label):
        if label["kind"] == DRAFT:  # the server makes a new one after each label
            yield from self._listLabels()
            label = self.reading.draft or label
        self._progress(_("Loading {study} ...").format(study=labelText(label)))
        return (yield from fetchLabel(self.client, label, self.cacheFolder))

    def _listLabels(self):
        """Bring the list of labels up to date."""
        reading = self.reading
        answer = yield self.client.labels(reading.studyId)
        if answer.isGood and reading is self.reading:
            reading.listed = answer.data
            self._tell("reading")

    # -- what is kept on this computer

    def exportWork(self, studyId, path):
        """Copy what is drawn, or kept, of a study to a file of the reader's choice."""
        reading = self.reading if self.reading and self.reading.studyId == studyId else None
        work = self.kept.read(self.client, studyId)
        try:
            if reading and reading.hasDrawing:
                writeWork(reading.segmentation, path, isSmall=True)
            elif work is not None:
                self.kept.export(work, path)
            else:
                return  # it was sent just now
        except OSError as error:
            self.say(_("The file was not written: {why}").format(why=error))
            return
        self.say(_("What you drew in {study} was written to {path}.").format(study=self.title(studyId), path=path))

    def discardKept(self, studyId):
        """Forget what is kept of a study, once the reader is sure."""
        work = self.kept.read(self.client, studyId)
        if work is None:
            return

        def discard():
            self.kept.remove(self.client, work)
            self.showKept()

        text = _("Discard what you drew in {study}? The server does not have it.").format(study=work.title)
        self._ask(text, (_("Discard it"), discard))
