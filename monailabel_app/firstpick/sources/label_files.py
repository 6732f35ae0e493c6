"""Names of label files: readable, one for each study for ever, and safe on any file system."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from firstpick.sources.names import bare, names_of
from firstpick.studies import Study
from firstpick.voxels.formats import ENDINGS
from firstpick.voxels.label_formats import SEGMENTATION, label_ending

_MAX_BYTES = 200  # of a folder's or file's name: leaves room for an ending within 255
_MAX_PATH_BYTES = 1000


def split_label(file: str) -> tuple[str, str]:
    """Split a label file's path below its tag's folder into its name and its ending.

    >>> split_label("sub/case.nii.gz"), split_label("case.seg.nrrd")
    (('sub/case', '.nii.gz'), ('case', '.seg.nrrd'))
    """
    cut = len(file) - len(label_ending(file))
    return file[:cut], file[cut:]


def is_label(file: str) -> bool:
    """Tell by its name whether a file is a label; hidden ones are ours."""
    return not file.startswith(".") and split_label(file)[1].lower() in {*ENDINGS, SEGMENTATION}


def has_labels(folder: Path) -> bool:
    """Tell whether any label file lies below a folder."""
    return any(is_label(path.name) for path in folder.rglob("*"))


def names_for(study: Study) -> tuple[str, str, str]:
    """Names that a study's label files may have, the best first: readable, with its ending, with a hash of its id.

    A file's are made of its path, a series' of its title. The last is no other study's.
    """
    whole = (study.title or study.study_id) if study.is_series else study.study_id
    short = whole if study.is_series else bare(whole)
    mark = hashlib.sha256(study.study_id.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return _safe(short, mark), _safe(whole, mark), _safe(f"{short}-{mark}", mark)


def spelled(name: str) -> str:
    """Two names that are one file on some system are spelled alike: case and composed letters aside."""
    return unicodedata.normalize("NFC", name).casefold()


def first_free(study: Study, taken: Collection[str]) -> str:
    """Return the first of a study's names that is not taken, as `spelled` spells them."""
    *names, last = names_for(study)
    return next((name for name in names if spelled(name) not in taken), last)


def match_labels(names: Iterable[str], studies: Iterable[Study]) -> Mapping[str, str]:
    """Find whose the labels of an earlier datastore are.

    Parameters
    ----------
    names : iterable of str
        Label files that belong to no study yet, endings off.
    studies : iterable of Study

    Returns
    -------
    mapping of str to str
        Study id to name, where exactly one study fits (`firstpick.sources.names.names_of`) and no two names fit it.
    """
    fitting: dict[str, set[str]] = {}
    for study in studies:
        for name in names_of(study) | {*names_for(study)}:
            fitting.setdefault(spelled(name), set()).add(study.study_id)
    found = {name: fitting.get(spelled(name), set()) for name in set(names)}
    sure = {name: min(ids) for name, ids in found.items() if len(ids) == 1}
    how_often = Counter(sure.values())
    return {study_id: name for name, study_id in sure.items() if how_often[study_id] == 1}


def _safe(path: str, mark: str) -> str:
    """Make a path below ``labels/<tag>/``: no way out of it, no control characters, no name that is too long."""
    parts = [_safe_part(part, mark) for part in path.split("/") if part not in {"", ".", ".."}]
    folders = [f"{part}_" if label_ending(part) in {*ENDINGS, SEGMENTATION} else part for part in parts[:-1]]
    last = parts[-1] if parts else mark
    if last.lower().endswith(".seg"):  # before .nrrd that would read as another name and ending
        last += "_"
    safe = str(PurePosixPath(*folders, last))
    return safe if len(safe.encode()) <= _MAX_PATH_BYTES else last


def _safe_part(part: str, mark: str) -> str:
    text = unicodedata.normalize("NFC", part)
    text = "".join("_" if unicodedata.category(letter) in {"Cc", "Cs"} else letter for letter in text)
    text = f"_{text[1:]}" if text.startswith(".") else text  # hidden files are ours
    encoded = text.encode()
    if len(encoded) <= _MAX_BYTES:
        return text
    return encoded[: _MAX_BYTES - len(mark) - 1].decode(errors="ignore") + f"-{mark}"
