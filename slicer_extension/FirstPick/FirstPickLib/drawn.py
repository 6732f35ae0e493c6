"""What was drawn of a study before: which labels there are, and how they get to this computer."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from slicer.i18n import tr as _

from .client import DRAFT, clock
from .tasks import Download


@dataclass(frozen=True)
class Drawn:
    """What was drawn before: its file, the time it took, a word about it; or why it could not be fetched."""

    path: str = ""
    seconds: float = 0.0
    note: str = ""
    isSavedWork: bool = False
    listed: list = field(default_factory=list)
    error: str = ""


def fetchDrawn(client, kept, folder: str, studyId: str):
    """Fetch what is kept here, else the label that this reader goes on with; a story that ends with a `Drawn`.

    Parameters
    ----------
    client : Client
    kept : Kept
        Work that the server does not have.
    folder : str
        Where the label's file may lie.
    studyId : str
    """
    work = kept.read(client, studyId)
    answer = yield client.labels(studyId)
    listed = answer.data if answer.isGood else []
    if work is not None:
        note = _("Resumed what was kept on this computer; it is not on the server yet.")
        return Drawn(kept.path(work.file), work.seconds, note, isSavedWork=True, listed=listed)
    if not answer.isGood:
        return Drawn(error=answer.error or _("Cancelled."))
    label = next((label for label in listed if label["is_resumed"]), None)
    if label is None:
        others = [label for label in listed if label["kind"] != DRAFT]
        note = _("There is a label that you can load: {label}.").format(label=labelText(others[0])) if others else ""
        return Drawn(note=note, listed=listed)
    path, why = yield from fetchLabel(client, label, folder)
    isSaved = label["kind"] == "saved"
    notes = {"final": _("Loaded the final label of {time}."), "reading": _("Loaded your reading of {time}.")}
    note = notes.get(label["kind"], _("Resumed your saved work of {time}.")).format(time=clock(label["ts"]))
    return Drawn(path, label["seconds"], note, isSavedWork=isSaved, listed=listed, error=why)


def fetchLabel(client, label: dict, folder: str):
    """Fetch a listed label; a story that ends with its file, and with why there is none."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "label" + label["ending"])
    answer = yield Download(client.listedLabel(label), path)
    return path, "" if answer.isGood else answer.error or _("Cancelled.")


def labelText(label: dict) -> str:
    """Say in a line what a listed label is, whose and from when."""
    text = _("{label}, {time}")
    if label["n_voxels"] is not None:
        text = _("{label}, {time}, {n} voxels")
    return text.format(label=label["title"], time=clock(label["ts"]), n=f"{label['n_voxels'] or 0:,}")
