"""What a client must know of a study's file before it downloads it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from firstpick.server.answers import ListedSeries
from firstpick.server.label_folder import stamp_of
from firstpick.server.served import ServedFiles
from firstpick.sources.label_files import split_label
from firstpick.sources.names import bare
from firstpick.sources.series import series_name
from firstpick.studies import Study
from firstpick.voxels.served import SERVED_RECIPE

_NAME_LETTERS = 60


def list_series(study: Study, served: ServedFiles, note_on: Callable[[str, str], str]) -> list[ListedSeries]:
    """Return the series of a listed study, the primary first, and what `note_on` says of each by its name."""
    found = []
    for one in study.members:
        path = path_of(study, one, served)
        shown = ListedSeries(
            name=series_name(one),
            is_primary=one is study.primary,
            title=one.title,
            modality=one.modality,
            file_name=file_name(one, path),
            size=size_of(path),
            stamp=file_stamp(study, one, path, served),
            note=note_on(study.study_id, one.name),
        )
        found.append(shown)
    return found


def path_of(study: Study, one: Study, served: ServedFiles) -> str:
    """Where the file of one of a study's series lies, or will lie; empty while that is not known."""
    place = served.place(study.study_id, one.name)
    return os.path.realpath(place) if place else ""


def file_stamp(study: Study, one: Study, path: str, served: ServedFiles) -> str:
    """What changes with the file of one of a study's series, which is at a path."""
    return stamp_of(Path(path)) if served.is_own(study.study_id, one.name) else f"{one.stamp}-{SERVED_RECIPE}"


def file_name(study: Study, path: str) -> str:
    """Name a study's file for people and for caches: another study, or another version of it, is another name."""
    mark = hashlib.sha256(f"{study.study_id}\n{study.stamp}\n{SERVED_RECIPE}".encode()).hexdigest()[:8]
    title = study.title or study.study_id
    name = Path(title if study.is_series else bare(title)).name
    shown = re.sub(r"[^\w .+-]", "_", name)[-_NAME_LETTERS:]
    return f"{mark}-{shown}{split_label(path)[1]}"


def size_of(path: str) -> int:
    """Bytes of a file; 0 while it is not made yet."""
    try:
        return Path(path).stat().st_size if path else 0
    except OSError:
        return 0
