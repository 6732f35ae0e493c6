"""Sample Data: six small studies that come with the module; nothing is fetched from anywhere."""

from __future__ import annotations

import base64
import json
import os

import slicer
from slicer.i18n import tr as _

CATEGORY, NAME = "FirstPick", "Six small studies"


def addSampleData(recorded: str, icon: str) -> None:
    """Offer the studies of the recorded server in Slicer's Sample Data module.

    Parameters
    ----------
    recorded : str
        The recorded server's answers.
    icon : str
        A picture for the button.
    """
    try:
        import SampleData  # noqa: PLC0415 - a Slicer may be built without it
    except ImportError:
        return
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=NAME,
        thumbnailFileName=icon,
        customDownloader=lambda _source: loadStudies(recorded),
    )


def loadStudies(recorded: str) -> list:
    """Write the studies into a folder that a server can be started on, load them, and return their nodes."""
    with open(recorded, encoding="utf-8") as file:
        images = json.load(file)["images"]
    folder = os.path.join(slicer.mrmlScene.GetCacheManager().GetRemoteCacheDirectory(), "FirstPickStudies")
    os.makedirs(folder, exist_ok=True)
    nodes = []
    for name, data in sorted(images.items()):
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))
        nodes.append(slicer.util.loadVolume(path, {"name": name, "singleFile": True}))
    text = _("Six small studies lie in {folder}; a FirstPick server can be started on it.")
    slicer.util.showStatusMessage(text.format(folder=folder), 10_000)
    return nodes
