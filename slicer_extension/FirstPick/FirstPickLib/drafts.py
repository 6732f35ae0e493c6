"""The server's drafts: masks of studies that nobody labelled, from which a reader may start; no reader's word."""

from __future__ import annotations

from .preferences import setting


class Drafts:
    """What `FirstPickLogic` does with the drafts of a server."""

    def startFromDraft(self):
        """Go on with the draft of the open study; asks first where that would replace what is not saved."""
        reading = self.reading
        if reading and reading.draft:
            self.loadLabel(reading.listed.index(reading.draft))

    def _beginWithDraft(self):
        """Load the draft of the study that was just opened, if the reader wants that of every one."""
        if setting("beginWithDraft") and self.reading.isDraftOffered:
            yield from self._after(self._loadLabel(self.reading.draft))

    def _refreshDrafts(self, client):
        """Ask how the drafts stand; a server that makes none is not asked again before the next *Connect*."""
        if not self.makesDrafts or client is not self.client:
            return
        answer = yield client.drafts()
        if client is not self.client:
            return
        self.makesDrafts = answer.status != 404
        drafts = answer.data if answer.isGood else self.drafts if self.makesDrafts else None
        if drafts != self.drafts:
            self.drafts = drafts
            self._tell("drafts")
        if self._isDraftNew():
            yield from self._listLabels()

    def _isDraftNew(self):
        """Whether a draft of the open study became ready before anything was drawn."""
        reading = self.reading
        if not self.drafts or not reading or reading.draft or reading.isDirty or reading.hasSavedWork:
            return False
        return any(draft["study_id"] == reading.studyId for draft in self.drafts["drafts"])
