"""The drafts that are ready: each a mask and what is known of it, in a folder of the state; a cache, and no more."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from firstpick.voxels.labels import checksum

logger = logging.getLogger(__name__)

ENDING = ".nii.gz"


@dataclass(frozen=True, kw_only=True)
class DraftRecord:
    """What is known of a draft.

    Attributes
    ----------
    study_id, stamp : str
        Of the study, as its file was then.
    marks : tuple of str
        Of the labels that it was learnt from: another mark is another file. None for a model that learnt from others.
    dice : float or None
        On labels that were not learnt from; None for such a model.
    unsure : float or None
        Mean entropy of the classes' probabilities where the mask is, in bits; None where that is not known.
    n_voxels : mapping of str to int
        Of each class.
    checksum : str
        ``SHA256:`` and the digest of the mask's file.
    ts : float
        When it was made, in seconds since the epoch.
    is_taken : bool
        Whether somebody fetched it: then no other takes its place, for it is what the reader began with.
    """

    study_id: str
    stamp: str
    marks: tuple[str, ...]
    dice: float | None
    unsure: float | None
    n_voxels: Mapping[str, int]
    checksum: str
    ts: float
    is_taken: bool = False


_RECORD = TypeAdapter(DraftRecord)


class DraftFiles:
    """Drafts by study; what is half written when the process ends is gone at the next start.

    Parameters
    ----------
    folder : Path
        Nothing else may lie there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._records: Mapping[str, DraftRecord] = {record.study_id: record for record in self._found()}

    @property
    def records(self) -> Mapping[str, DraftRecord]:
        """What is ready, by study id; replaced, never changed."""
        return self._records

    def path(self, study_id: str) -> Path:
        """Where the draft of a study lies, or would."""
        return self._place(study_id) / f"draft{ENDING}"

    def new_path(self, study_id: str) -> Path:
        """Where the next draft of a study is to be written, for `keep`."""
        place = self._place(study_id)
        place.mkdir(mode=0o700, exist_ok=True)
        return place / f"new{ENDING}"

    def keep(self, record: DraftRecord) -> None:
        """Put what was written at `new_path` in the place of what was there."""
        self.new_path(record.study_id).replace(self.path(record.study_id))
        self._write(record)

    def take(self, study_id: str) -> None:
        """Note that somebody fetched a draft."""
        record = self._records.get(study_id)
        if record is not None and not record.is_taken:
            self._write(replace(record, is_taken=True))

    def drop(self, study_id: str) -> None:
        """Delete the draft of a study."""
        self._records = {key: record for key, record in self._records.items() if key != study_id}
        shutil.rmtree(self._place(study_id), ignore_errors=True)

    def _place(self, study_id: str) -> Path:
        return self._folder / hashlib.sha256(study_id.encode("utf-8", "surrogateescape")).hexdigest()[:32]

    def _write(self, record: DraftRecord) -> None:
        path = self._place(record.study_id) / "draft.json"
        partial = path.with_name("new.json")
        partial.write_bytes(_RECORD.dump_json(record))
        partial.replace(path)
        self._records = {**self._records, record.study_id: record}

    def _found(self) -> list[DraftRecord]:
        """Read what is there; delete what is not whole."""
        records = []
        for place in sorted(self._folder.iterdir()):
            with contextlib.suppress(OSError, ValidationError):
                record = _RECORD.validate_json((place / "draft.json").read_bytes())
                path = self.path(record.study_id)
                if path.parent == place and checksum(path) == record.checksum:
                    records.append(record)
                    continue
            if place.is_dir():
                shutil.rmtree(place, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    place.unlink()
        return records
