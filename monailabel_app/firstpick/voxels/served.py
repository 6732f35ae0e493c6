"""The file that a reader opens: the study's own where readers' programs see it as we do, else one made of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from firstpick.studies import Study
from firstpick.voxels.volumes import Volume, convert_series

SERVED_RECIPE = 1


def served_ending(study: Study, volume: Volume) -> str:  # noqa: ARG001
    """Return "" where the study's own file is served, else the ending of the file that is made."""
    return ".nii.gz" if study.is_series else ""


def served_path(study: Study, ending: str, folder: Path) -> Path:
    """Where the served file lies, or will lie; another stamp or recipe is another place."""
    if not ending:
        return Path(study.source)
    key = hashlib.sha256(f"{study.study_id}\n{study.stamp}\n{SERVED_RECIPE}".encode()).hexdigest()[:16]
    return folder / f"{key}{ending}"


def serve_file(study: Study, folder: Path) -> Path:
    """Make the file that a reader opens, if it is not the study's own; VolumeError if it cannot be read."""
    ending = ".nii.gz" if study.is_series else ""
    path = served_path(study, ending, folder)
    if ending and not path.exists():
        convert_series(study.source, path, study.files)
    return path
