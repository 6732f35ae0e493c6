"""Final labels back to the PACS, as DICOM SEG in one series for each study: the newest is the one that holds."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path

from firstpick import __version__
from firstpick.sources.connection import SourceError
from firstpick.sources.fetching import ask, is_down, split_source
from firstpick.sources.source import at_hand
from firstpick.studies import Study
from firstpick.voxels.dicom_seg import SegNames, make_seg
from firstpick.voxels.label_formats import LabelError


def seg_uid(study_id: str, *parts: str) -> str:
    """Name what a label becomes: the same for the same label, so that what is sent twice is there once."""
    digest = hashlib.sha256("\n".join((study_id, *parts)).encode("utf-8", "surrogateescape")).hexdigest()
    return f"2.25.{int(digest[:32], 16)}"


def send_label(study: Study, label: Path, instance_uid: str, classes: Mapping[int, str], creator: str) -> None:
    """Write a label as DICOM SEG and store it in the PACS, unless it is there; meant for a worker process.

    Parameters
    ----------
    study : Study
        In the PACS.
    label : Path
    instance_uid : str
        From `seg_uid`.
    classes : mapping of int to str
        Names of the values; labels of other classes go to a series of their own.
    creator : str
        Who drew it.

    Raises
    ------
    SourceError
        If the PACS cannot be reached, or does not take it.
    LabelError
        If it cannot be written as DICOM SEG, and never will be.
    VolumeError
        If the series cannot be read.
    """
    if not importlib.util.find_spec("highdicom"):
        msg = "highdicom is not installed. Type: pip install 'firstpick[dicomweb]'"
        raise LabelError(msg)
    address, (study_uid, _) = split_source(study.source)
    series_uid = seg_uid(study.study_id, *sorted(classes.values()))
    with ask(address) as client:
        there = client.search_for_instances(study_uid, search_filters={"SeriesInstanceUID": series_uid})
    uids = {str(((item.get("00080018") or {}).get("Value") or [""])[0]) for item in there}
    if instance_uid in uids:
        return
    with at_hand(study) as (here, _):
        if not here.files:
            msg = "its study is a picture or a film, not a series of slices."
            raise LabelError(msg)
        names = SegNames(series_uid, instance_uid, len(uids) + 1, creator, __version__)
        seg = make_seg(Path(here.source), here.files, label, classes, names)
    try:
        with ask(address) as client:
            answer = client.store_instances([seg])
    except SourceError as error:
        error.is_down = is_down(study)  # or it is this label that is not taken
        raise
    if failed := answer.get("FailedSOPSequence"):
        reason = failed[0].get("FailureReason", "no reason given")
        msg = f"The PACS at {address} did not take it (failure reason {reason})."
        raise SourceError(msg, is_down=False)
