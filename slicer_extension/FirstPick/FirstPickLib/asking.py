"""What the reader is asked before anything goes that a label file cannot hold."""

from __future__ import annotations

from slicer.i18n import tr as _

from . import check


class Asking:
    """The one check before every way out of an open study."""

    def settle(self, go, isFinal=False):
        """Call ``go``, which sends or closes the open study, once all that a label file cannot hold was asked about."""
        reading = self.reading
        if self.isBusy or not reading or not reading.isHere or not (reading.isDirty or isFinal):
            go()
            return
        question = self._doubt(reading, isFinal)
        if question is None:
            go()
            return
        text, choices = question

        def then(action):
            def chosen():
                if self.reading is reading and action():
                    self.settle(go, isFinal)

            return chosen

        self._ask(text, *((choice, then(action)) for choice, action in choices))

    def _doubt(self, reading, isFinal):
        """Find what to ask first: a text and choices, whose actions say whether to go on; None if all is clear."""

        def settled(key):
            reading.settled.add(key)
            return True

        def accepted():
            reading.acceptDraft()
            return True

        if isFinal and reading.lost and reading.lost not in reading.settled:
            return reading.lost, [(_("Submit anyway"), lambda: settled(reading.lost))]
        found = reading.findings()
        for stranger in found.strangers:
            key = (stranger.segmentId, stranger.name)
            if isFinal or key not in reading.settled:
                return self._strangerQuestion(reading, stranger, None if isFinal else lambda key=key: settled(key))
        if found.nOverlapping:
            key = (found.overlapping, isFinal)
            if key not in reading.settled:
                return self._overlapQuestion(reading, found, isFinal, lambda: settled(key))
        if isFinal and not found.nVoxels and "empty" not in reading.settled:
            return _("Nothing is drawn."), [(_("Submit anyway"), lambda: settled("empty"))]
        if isFinal and reading.isDraft:
            return _("Submit the draft as it is?"), [(_("Submit it as it is"), accepted)]
        return None

    def _strangerQuestion(self, reading, stranger, keepAsItIs):
        inner = reading.segmentation.GetSegmentation()

        def discard():
            inner.RemoveSegment(stranger.segmentId)
            return True

        def mapTo(label):
            check.mapToLabel(reading.segmentation, stranger.segmentId, label)
            return True

        text = _("The server has no label '{name}' ({n} voxels drawn).")
        choices = [
            (_("Make it '{label}'").format(label=label["name"]), lambda label=label: mapTo(label))
            for label in sorted(reading.labels, key=lambda label: label["name"] != stranger.likeliest)
        ]
        if keepAsItIs:
            choices.insert(1 if stranger.likeliest else 0, (_("Save it as it is, to go on later"), keepAsItIs))
        choices.append(
            (_("Move it to a copy on this computer"), lambda: self._copied(reading, stranger.name) and discard())
        )
        choices.append((_("Discard it"), discard))
        return text.format(name=stranger.name, n=f"{stranger.nVoxels:,}"), choices

    def _overlapQuestion(self, reading, found, isFinal, settled):
        def onTop(name):
            if not self._copied(reading, _("The overlap")):
                return False
            reading.onTop = name
            reading.changes += 1
            return settled()

        text = _("Segments overlap in {n} voxels ({names}); a label file holds only one of them there.")
        choices = [
            (_("Give these to '{label}', keep a copy with all here").format(label=name), lambda name=name: onTop(name))
            for name in found.overlapping
        ]
        if not isFinal:
            choices.insert(0, (_("Save them as they are, to go on later"), settled))
        return text.format(n=f"{found.nOverlapping:,}", names=", ".join(found.overlapping)), choices

    def _copied(self, reading, what):
        """Write a copy that stays on this computer; False, and said why, if that cannot be done."""
        try:
            path = self.kept.copy(reading)
        except OSError as error:
            self.say(str(error))
            return False
        said = _("{what} is kept in {path}.").format(what=what, path=path)
        reading.copied = f"{reading.copied} {said}".strip()
        return True
