"""What was drawn of a study before: where it lies, and how it gets to this computer."""

from __future__ import annotations

import os
from dataclasses import dataclass

from slicer.i18n import tr as _

from .client import FINAL, clock, fileEnding
from .tasks import Download


@dataclass(frozen=True)
class Drawn:
    """What was drawn before: its file, the time it took, a word about it; or why it could not be fetched."""

    path: str = ""
    seconds: float = 0.0
    note: str = ""
    isDraft: bool = False
    error: str = ""


def fetchDrawn(client, kept, folder: str, studyId: str, isReadBySeveral: bool):
    """Fetch what is kept here, else the newest label that this reader can go on with; a story that ends with a `Drawn`.

    Parameters
    ----------
    client : Client
    kept : Kept
        Labels that did not reach the server yet.
    folder : str
        Where the label's file may lie.
    studyId : str
    isReadBySeveral : bool
        Whether each study is read by several readers: then the final label, which may be another's, comes after the
        reader's own.
    """
    known = kept.read(client, studyId)
    if known:
        note = _("Resumed what was kept on this computer; it is not on the server yet.")
        return Drawn(kept.path(client, studyId), known["seconds"], note, isDraft=True)
    answer, tag, info = yield from _findLabel(client, studyId, isReadBySeveral)
    if not answer.isGood:
        return Drawn(error=answer.error or _("Cancelled."))
    if not info:
        return Drawn()
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "label" + (fileEnding(info["name"]) or ".nii.gz"))
    answer = yield Download(client.label(studyId, tag, info.get("checksum") or ""), path)
    if not answer.isGood:
        return Drawn(error=answer.error or _("Cancelled."))
    note = {
        FINAL: _("Loaded the final label of {time}."),
        client.readingTag: _("Loaded your reading of {time}."),
        client.savedTag: _("Resumed the draft of {time}."),
    }[tag]
    seconds = float(info.get("seconds") or 0)
    return Drawn(path, seconds, note.format(time=clock(info["ts"])), isDraft=tag == client.savedTag)


def _findLabel(client, studyId, isReadBySeveral):
    """Ask which label is the newest: the last answer, the label's tag and what is known of it."""
    found, newest = "", {}
    tags = ((client.readingTag, client.savedTag), (FINAL,)) if isReadBySeveral else ((FINAL, client.savedTag),)
    for some in tags:
        for tag in some:
            answer = yield client.labelInfo(studyId, tag)
            if not answer.isGood:
                return answer, "", {}
            if (answer.data.get("ts") or 0) >= newest.get("ts", 1):
                found, newest = tag, answer.data
        if newest:
            break
    return answer, found, newest
