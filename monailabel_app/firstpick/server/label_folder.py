"""The label files on the disk, and whose they are."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from monailabel.interfaces.datastore import DefaultLabelTag

from firstpick.board.log import Decisions
from firstpick.sources.label_files import first_free, match_labels, spelled, split_label
from firstpick.studies import Study
from firstpick.voxels.formats import ENDINGS
from firstpick.voxels.label_formats import SEGMENTATION

logger = logging.getLogger(__name__)

FINAL = str(DefaultLabelTag.FINAL.value)


class LabelFolder:
    """Label files as ``<tag>/<name><ending>``; a study's name for them is given once.

    Parameters
    ----------
    root : Path
    decisions : Decisions
        Keeps the names.

    Attributes
    ----------
    unmatched : list of str
        Label files that are nobody's, or could be several studies', as ``tag/path``.
    """

    def __init__(self, root: Path, decisions: Decisions) -> None:
        self._root = root
        self._decisions = decisions
        self._names = decisions.label_names()
        self.unmatched: list[str] = []

    def name(self, study_id: str) -> str:
        """Return the name of a study's label files; empty if it has none."""
        return self._names.get(study_id, "")

    def name_for(self, study: Study) -> str:
        """Return the name of a study's label files; one that it has now, it keeps."""
        if study.study_id not in self._names:
            taken = {spelled(name) for name in self._names.values()}
            taken |= {spelled(split_label(file.split("/", 1)[1])[0]) for file in self.unmatched}
            self._keep_names({study.study_id: first_free(study, taken)})
        return self._names[study.study_id]

    def path(self, tag: str, file: str) -> Path:
        """Return where a label file lies or will lie."""
        return Path(self._root, tag, file)

    def files_of(self, study_id: str, tag: str) -> list[Path]:
        """List a study's label files under a tag, in whatever formats."""
        name = self._names.get(study_id)
        if name is None or not self.path(tag, name).parent.is_dir():
            return []
        beside = (path for path in self.path(tag, name).parent.iterdir() if _is_label(path.name))
        return [path for path in beside if split_label(path.name)[0] == Path(name).name]

    def find(self, studies: Iterable[Study]) -> dict[str, dict[str, str]]:
        """Look what is on the disk, and whose the files are that have no owner yet.

        Returns
        -------
        dict
            For each tag the names and the ending of the newest file of that name.
        """
        found: dict[str, dict[str, str]] = {}
        for folder in (entry for entry in self._root.iterdir() if entry.is_dir()):
            files = [(file.stat().st_mtime, file) for file in folder.rglob("*") if _is_label(file.name)]
            names = (split_label(file.relative_to(folder).as_posix()) for _, file in sorted(files))
            found[folder.name] = dict(names)
        self._find_owners(found, list(studies))
        return found

    def _find_owners(self, found: Mapping[str, Mapping[str, str]], studies: list[Study]) -> None:
        orphans = {name for files in found.values() for name in files} - set(self._names.values())
        if orphans and studies:
            matched = match_labels(orphans, studies)
            self._keep_names({study_id: name for study_id, name in matched.items() if study_id not in self._names})
            orphans -= set(self._names.values())
        unmatched = sorted(
            f"{tag}/{name}{ending}" for tag, files in found.items() for name, ending in files.items() if name in orphans
        )
        if unmatched != self.unmatched and studies:
            logger.warning("%d label files belong to no study, such as %s.", len(unmatched), unmatched[:1])
        self.unmatched = unmatched if studies else []

    def _keep_names(self, names: Mapping[str, str]) -> None:
        if names:
            self._decisions.name_labels(names)
            self._names = self._decisions.label_names()


def _is_label(file: str) -> bool:
    return not file.startswith(".") and split_label(file)[1].lower() in {*ENDINGS, SEGMENTATION}


def copy_labels(studies_dir: Path, folder: Path) -> None:
    """Take over labels that lay in the studies folder before FirstPick (``labels/<tag>/``), at the first start.

    Copies, not links: MONAI Label overwrites and deletes label files.
    """
    target, partial = folder / "labels", folder / "labels.partial"
    if target.exists() or not (studies_dir / "labels" / FINAL).is_dir():
        return
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(studies_dir / "labels", partial)
    partial.rename(target)
