"""What names DICOM series and visits for ever: their UIDs, and a hash that tells visits and patients apart."""

from __future__ import annotations

import hashlib
import json
import re

from firstpick.voxels.dicom import Instance

UID = re.compile(r"[0-9]+(?:\.[0-9]+)+")
_LONGEST_UID = 64


def plain_uid(uid: str) -> str:
    """Return a UID as it is; a text that is none as the UID ``2.25.`` and 128 bits of its SHA-256 as a number."""
    if UID.fullmatch(uid) and len(uid) <= _LONGEST_UID:
        return uid
    return f"2.25.{int(hashlib.sha256(uid.encode()).hexdigest()[:32], 16)}"


def digits_of(instance: Instance) -> str:
    """Sum up visit and patient of an instance: the first six hex digits of a SHA-256.

    It is that of the JSON array of StudyInstanceUID and the hash of PatientID (`Instance.patient`; as stated, even if
    it is a placeholder): two patients may have one UID.
    """
    return hashlib.sha256(json.dumps([instance.study_uid, instance.patient]).encode()).hexdigest()[:6]


def visit_id(instance: Instance) -> str:
    """Name the visit of an instance: StudyInstanceUID, ``-`` and its digits; empty where it states no such UID."""
    return f"{plain_uid(instance.study_uid)}-{digits_of(instance)}" if instance.study_uid else ""
