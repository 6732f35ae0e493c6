"""The labels of a study as a reader may load them: what they go on with first, earlier final ones last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote, urlencode

from firstpick.board.board import OPEN, Status
from firstpick.board.events import FINAL, READING, SAVED, SavedLabel, reading_tag, saved_tag
from firstpick.server.answers import ListedLabel
from firstpick.server.desk import NOBODY, Desk
from firstpick.server.label_folder import stamp_of
from firstpick.sources.label_files import split_label

DRAFT = "draft"


class LabelList:
    """Lists label files and finds them again: nothing but what it lists can be fetched.

    Parameters
    ----------
    desk : Desk
    path_of : callable
        Returns the path of a study's label, by study id and tag; empty if there is none.
    versions_of : callable, optional
        Returns a study's earlier final labels, by number.

    Attributes
    ----------
    drafts_of : callable
        Returns the server's draft of a study, in a list; an empty one where there is none.
    """

    def __init__(
        self,
        desk: Desk,
        path_of: Callable[[str, str], str],
        versions_of: Callable[[str], Mapping[int, Path]] = lambda _: {},
    ) -> None:
        self._desk = desk
        self._path_of = path_of
        self._versions_of = versions_of
        self.drafts_of: Callable[[str], list[ListedLabel]] = lambda _: []

    def listed(self, study_id: str, reader: str) -> list[ListedLabel]:
        """List what a reader may load: what they go on with, then the newest first, earlier final labels, a draft.

        Where several readers label each study, what others drew is not listed before it was done once.
        """
        return [*(label for label, _ in self._found(study_id, reader)), *self.drafts_of(study_id)]

    def file(self, study_id: str, reader: str, tag: str, version: int) -> Path | None:
        """Return the file of a listed label; None if it is not listed or gone."""
        for label, path in self._found(study_id, reader):
            if (label.tag, label.version) == (tag, version) and path.is_file():
                return path
        return None

    def _found(self, study_id: str, reader: str) -> list[tuple[ListedLabel, Path]]:
        status = self._desk.board.statuses.get(study_id, OPEN)
        reader = "" if reader in NOBODY else reader
        own = (reading_tag(reader), saved_tag(reader)) if reader else ()
        is_shown = self._desk.readers_per_study == 1 or FINAL in status.labels
        resumed = self._resumed(status.labels, own)
        found = []
        for tag, label in reversed([*status.labels.items()]):  # the newest first
            if is_shown or tag in own:
                path = Path(self._path_of(study_id, tag))
                who = "you" if tag in own else str(label.info.get("client_id") or "")
                entry = _listed(study_id, reader, tag, label, kind=_kind(tag), who=who, is_resumed=tag == resumed)
                found.append((entry, path))
        found.sort(key=lambda one: not one[0].is_resumed)
        return found + (self._versions(study_id, reader, status) if is_shown else [])

    def _resumed(self, labels: Mapping[str, SavedLabel], own: tuple[str, ...]) -> str:
        """Return the tag of what a reader goes on with: the newest of their own and, where one reads, the final label.

        Where several read, the final label may be another's: it comes after the reader's own.
        """
        newest_first = [*reversed([*labels])]
        wanted = [[*own], [FINAL]] if self._desk.readers_per_study > 1 else [[*own, FINAL]]
        return next((tag for some in wanted for tag in newest_first if tag in some), "")

    def _versions(self, study_id: str, reader: str, status: Status) -> list[tuple[ListedLabel, Path]]:
        """Earlier final labels that are still there, the newest first, with what is known of them."""
        known = {label.stamp: label for label in status.earlier}
        found = []
        for number, path in sorted(self._versions_of(study_id).items(), reverse=True):
            stamp = stamp_of(path)
            if stamp:
                ts = int(stamp.partition("-")[2]) // 10**9
                label = known.get(stamp, SavedLabel(split_label(path.name)[1], stamp, {"ts": ts}))
                who = str(label.info.get("client_id") or "")
                entry = _listed(study_id, reader, FINAL, label, kind="earlier", who=who, version=number)
                found.append((entry, path))
        return found


def _kind(tag: str) -> str:
    if tag in (FINAL, DRAFT):
        return tag
    beginnings = ((READING, "reading"), (SAVED, "saved"))
    return next((kind for start, kind in beginnings if tag.startswith(start)), "other")


def _listed(
    study_id: str,
    reader: str,
    tag: str,
    label: SavedLabel,
    *,
    kind: str,
    who: str,
    version: int = 0,
    is_resumed: bool = False,
) -> ListedLabel:
    query = {"tag": tag, "version": version, "client_id": reader}
    n_voxels, ts = label.info.get("n_voxels"), label.info.get("ts")
    return ListedLabel(
        tag=tag,
        version=version,
        kind=kind,
        title=_title(kind, who, tag),
        client=str(label.info.get("client_id") or ""),
        ts=float(ts) if isinstance(ts, int | float) else 0.0,
        seconds=label.seconds,
        n_voxels=n_voxels if isinstance(n_voxels, int) else None,
        ending=label.ending,
        n_bytes=int(label.stamp.partition("-")[0] or 0),
        checksum=label.checksum,
        is_resumed=is_resumed,
        path=f"/firstpick/label/{quote(study_id)}?{urlencode({key: text for key, text in query.items() if text})}",
    )


def _title(kind: str, who: str, tag: str) -> str:
    """Say what a label is, as the begin of a line."""
    if who == "you" and kind in ("saved", "reading"):
        return {"saved": "Your saved work", "reading": "Your reading"}[kind]
    by = f" by {who}" if who else ""
    names = {"final": "Final label", "earlier": "Earlier final label", "reading": "Reading", "saved": "Saved work"}
    return f"{names[kind]}{by}" if kind in names else "Draft of the server" if kind == DRAFT else f"Label '{tag}'{by}"
