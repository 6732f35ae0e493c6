"""Opening a study: its file is fetched, and put into the scene with what was drawn before."""

from __future__ import annotations

import os

from slicer.i18n import tr as _

from . import geometry, scene
from .drawn import fetchDrawn
from .link import waitCursor
from .reading import Reading
from .sequences import Sequences
from .slices import SliceTour
from .work import loadDrawn


class Opening:
    """What `FirstPickLogic` does with a study that is reserved."""

    def _fetchAndShow(self, studyId, lost, wasDone):
        """Fetch volume and label and show them; return what went wrong."""
        title = self.title(studyId)

        def stage(isPreparing, *howFar):
            text = _("The server is preparing {study} ...") if isPreparing else _("Loading {study} ...")
            self._showTransfer(text.format(study=title), *howFar)

        fetched = yield from self.files.fetch(self.client, studyId, stage)
        if fetched.error:
            return fetched.error
        drawn = yield from fetchDrawn(self.client, self.kept, self.cacheFolder, studyId)
        why = drawn.error or (yield from self._show(studyId, fetched, drawn, lost, wasDone))
        if not why:
            yield from self._beginWithDraft()
        return why

    def _loadNodes(self, title, fetched, drawn):
        """Put volume and label into the scene, each announced; return the nodes, and what went wrong."""
        text = _("Slicer opens {study} ...").format(study=title)
        nodes, labels = [], self.status["labels"]
        isGoing = yield from self._busy(text)
        try:
            if isGoing:
                with waitCursor():
                    nodes.append(scene.loadVolume(fetched.path, title))
                    nodes.append(scene.makeSegmentation(nodes[0], labels))
            if isGoing and drawn.path:
                isGoing = yield from self._busy(text)
            if isGoing and drawn.path:
                with waitCursor():
                    loadDrawn(drawn.path, nodes[1], nodes[0], labels)
        except RuntimeError as error:
            why = _("Slicer cannot open {study}: {why}").format(study=title, why=error)
        else:
            why = "" if isGoing else _("Cancelled.")
        if why:
            scene.removeNodes(nodes)
            if isGoing and fetched.path != fetched.info["path"]:  # a copy, which may be what is wrong
                os.remove(fetched.path)
        return nodes, why

    def _show(self, studyId, fetched, drawn, lost, wasDone):
        """Put the study into the scene; return what went wrong."""
        labels, title = self.status["labels"], self.title(studyId)
        nodes, why = yield from self._loadNodes(title, fetched, drawn)
        if why:
            return why
        volume, segmentation = nodes
        row = self.worklist.row(studyId) if self.worklist else None
        self.reading = Reading(
            studyId,
            title,
            volume,
            segmentation,
            labels,
            slices=SliceTour(volume, segmentation, row.slices if row else (), self._ticked.setdefault(studyId, {})),
            modality=fetched.info["modality"],
            stamp=fetched.info["stamp"],
            cached="" if fetched.path == fetched.info.get("path") else fetched.path,
            secondsBefore=drawn.seconds,
            isDirty=self.kept.read(self.client, studyId) is not None,
            hasSavedWork=drawn.isSavedWork,
            lost=lost,
            wasDone=wasDone,
            listed=drawn.listed,
            sequences=Sequences(self, studyId, title, volume, segmentation, row.series if row else None),
        )
        self._observe(segmentation)
        self._viewsBefore = geometry.show(volume)
        self.views.restore(self.reading)
        self._lookout.start()
        self.reading.slices.jumpTo(0)
        self._putAside.discard(studyId)
        self.say(f"{lost} {drawn.note}".strip())
        self._tell("reading")
        return ""
