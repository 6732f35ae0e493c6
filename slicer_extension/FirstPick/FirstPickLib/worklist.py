"""The work list: the picks of the batch and all studies that were closed, with what each line says."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, replace

from .client import clock
from .colors import rankColor, unsureColor
from .readers import names, turnText
from .words import tr as _

ALL, OPEN, MINE, DONE, SKIPPED = "all", "open", "mine", "done", "skipped"
FILTERS = (ALL, OPEN, MINE, DONE, SKIPPED)
HALF = 12  # letters that stay at either end of a word that is too long for a line


@dataclass(frozen=True)
class Row:
    """A line of the work list.

    ``rank`` is 0 for a study that is not of this batch; ``readBy`` are the readers whose label counts already, where
    a study needs several; ``series`` are the names of its series, the primary first, empty if it is of one, and None if
    the server did not say; ``isKept`` says that work on it lies on this computer only.
    """

    studyId: str
    title: str
    rank: int = 0
    status: str = "open"
    client: str = ""
    until: float = 0.0
    skippedBecause: str = ""
    reason: str = ""
    standsFor: int = 0
    nUnlabelled: int = 0
    lookalikes: tuple = ()
    replaces: str = ""
    slices: tuple = ()
    standsWith: str = ""
    readBy: tuple = ()
    series: tuple | None = None
    isKept: bool = False

    def statusText(self, reader: str) -> str:
        """Say where the study stands, and by whom."""
        text = self._standsText(reader)
        if not self.isKept:
            return text
        if self.status == "open" or (self.status == "reserved" and self.client == reader):
            return _("kept here, not sent")
        return _("kept here, not sent; {status}").format(status=text)

    def _standsText(self, reader: str) -> str:
        by = _("you") if self.client == reader and reader else self.client
        if self.status == "open":
            return _("read by you") if reader in self.readBy else turnText(self.readBy, reader) or _("open")
        if self.status == "reserved":
            return _("in progress by {reader}").format(reader=by)
        if self.status == "done":
            return _("done by {reader}").format(reader=by) if by else _("done")
        return _("skipped by {reader}").format(reader=by) if by else _("skipped")


class WorkList:
    """What the server last said of the batch and the pool.

    Parameters
    ----------
    proposal : dict
        Answer to ``/firstpick/proposal``.
    points : list of dict
        Answer to ``/firstpick/map``.
    reader : str
        Who reads: tells apart "mine".
    kept : dict
        Titles of studies with work on this computer only, by id.
    """

    def __init__(self, proposal: dict, points: list, reader: str, kept: dict | None = None) -> None:
        self._proposal, self.kept = proposal, kept or {}
        self.reader = reader
        self.strategy = proposal["strategy"]
        self.nPool = proposal["n_pool"]
        self.coverage = tuple(proposal["coverage"])
        self.note = proposal["note"]
        self.round = proposal.get("round") or 1
        self.chosenBy = (proposal.get("provenance") or {}).get("strategy") or self.strategy
        self.outlook = (proposal.get("outlook") or {}).get("text", "")
        self.points = points
        picks = [_pickRow(pick) for pick in proposal["picks"]]
        picked = {row.studyId for row in picks}
        others = [_pointRow(point) for point in points if self._isShown(point) and point["study_id"] not in picked]
        rows = (*picks, *others)
        here = {row.studyId for row in rows}
        gone = [Row(studyId, title) for studyId, title in self.kept.items() if studyId not in here]
        self.rows = tuple(replace(row, isKept=True) if row.studyId in self.kept else row for row in (*rows, *gone))
        self._byId = {row.studyId: row for row in self.rows}
        self._titles = {**self.kept, **{point["study_id"]: point["title"] for point in points}}
        self._titles.update((row.studyId, row.title) for row in picks)
        self._ranks = {row.studyId: row.rank for row in picks}
        self._owners = {point["study_id"]: point["stands_with"] for point in points}
        self._series = tuple(dict.fromkeys(name for row in rows for name in row.series or ()))

    @classmethod
    def empty(cls, reader: str) -> WorkList:
        """Make the list of a server that says nothing."""
        return cls({"strategy": "", "n_pool": 0, "coverage": [], "note": "", "picks": []}, [], reader)

    def withKept(self, kept: dict) -> WorkList:
        """Return the list with other work that lies on this computer only."""
        return self if kept == self.kept else WorkList(self._proposal, self.points, self.reader, kept)

    def _isShown(self, point: dict) -> bool:
        return point["status"] != "open" or point["study_id"] in self.kept

    def row(self, studyId: str) -> Row | None:
        """The line of a study, if it has one."""
        return self._byId.get(studyId)

    def knows(self, studyId: str) -> bool:
        """Whether a study is in the pool."""
        return studyId in self._titles

    def title(self, studyId: str) -> str:
        """What people read instead of a study's id; the id of a study that is not in the pool."""
        return self._titles.get(studyId, studyId)

    @property
    def picks(self) -> tuple:
        """The lines of the batch, by rank."""
        return self.rows[: len(self._ranks)]

    def shown(self, which: str = ALL, text: str = "") -> list:
        """Lines that pass a filter and hold a text in their title, id, status or reason."""
        text = text.strip().lower()
        return [row for row in self.rows if self._passes(row, which) and text in "\n".join(self._texts(row)).lower()]

    def _texts(self, row: Row) -> tuple:
        return row.title, row.studyId, row.statusText(self.reader), row.skippedBecause, row.reason

    def _passes(self, row: Row, which: str) -> bool:
        if which == MINE:
            return row.isKept or self.reader in (row.client, *row.readBy)
        return which in (ALL, row.status) and not (which == OPEN and self.reader in row.readBy)

    def nextOpen(self, after: str = "", refused: frozenset | set = frozenset()) -> Row | None:
        """The first open pick below a study, then from the top; the reader's own unfinished ones count as open.

        Those that the server ``refused`` already are left out.
        """
        picks = self.picks
        start = self._ranks.get(after, 0)
        for row in (*picks[start:], *picks[:start]):
            if row.studyId not in (after, *refused) and self._isFree(row):
                return row
        return None

    def neighbour(self, studyId: str, step: int) -> Row | None:
        """The next pick (``step`` 1) or the one before (-1) that the reader could open, done ones left out."""
        picks = [row for row in self.picks if self._isFree(row) or row.studyId == studyId]
        here = [i for i, row in enumerate(picks) if row.studyId == studyId]
        place = here[0] + step if here else 0
        return picks[place] if 0 <= place < len(picks) else None

    def _isFree(self, row: Row) -> bool:
        if row.status == "open":
            return self.reader not in row.readBy
        return row.status == "reserved" and row.client == self.reader

    @property
    def nReadBefore(self) -> int:
        """How many picks this reader has read that another reader still has to."""
        return sum(row.status in ("open", "reserved") and self.reader in row.readBy for row in self.picks)

    @property
    def openPicks(self) -> int:
        """How many picks are still to be segmented, by anybody."""
        return sum(row.status in ("open", "reserved") for row in self.picks)

    @property
    def isAllDone(self) -> bool:
        """Whether the whole batch is done."""
        return bool(self.picks) and not self.openPicks

    def progressText(self) -> str:
        """Which round it is, if not the first; how far the batch is, and how much of the pool it covers."""
        done = sum(row.status == "done" for row in self.picks)
        parts = [_("{done} of {total} segmented").format(done=done, total=len(self.picks))]
        if self.nReadBefore:
            parts[0] += ", " + _("{n} more read by you").format(n=self.nReadBefore)
        covered = f"{self.coverage[-1]:.0%}".replace("%", " %") if self.coverage else _("nothing")
        cover = _("with what was labelled they cover {share} of {total}")
        parts.append(cover.format(share=covered, total=self.nPool))
        heading = _("Round {n}, chosen by {strategy}: ") if self.round > 1 else ""
        heading = heading.format(n=self.round, strategy=self.chosenBy)
        return f"{heading}{'; '.join(parts)}. {self.note}".strip()

    def shareText(self, row: Row) -> str:
        """How many studies a pick stands for."""
        return _("{n} of {total}").format(n=row.standsFor, total=row.nUnlabelled) if row.standsFor else ""

    def seriesText(self, row: Row) -> str:
        """Name the series of a study of several, and those that other studies of the list have and it has not."""
        if not row.series:
            return ""
        parts = [", ".join(row.series)]
        missing = [name for name in self._series if name not in row.series]
        if missing:
            parts.append(_("no {series}").format(series=", ".join(missing)))
        return "; ".join(parts)

    def tooltip(self, row: Row) -> str:
        """All that is known of a line, a fact a line."""
        lines = [row.title, row.reason]
        if row.series:
            lines.append(_("Series: {series}").format(series=self.seriesText(row)))
        if row.lookalikes:
            lines.append(_("Most like: {studies}").format(studies=", ".join(map(self.title, row.lookalikes))))
        if row.replaces:
            lines.append(_("Takes the place of {study}, which was skipped.").format(study=self.title(row.replaces)))
        if row.readBy:
            lines.append(_("Read by {readers}.").format(readers=names(row.readBy, self.reader)))
        if row.slices:
            lines.append(_("Slices: {slices}").format(slices=", ".join(map(sliceText, row.slices))))
        if row.status != "open":
            until = _(" until {time}").format(time=clock(row.until)) if row.status == "reserved" and row.until else ""
            because = f": {row.skippedBecause}" if row.skippedBecause else ""
            status = row.statusText(self.reader)
            lines.append(status[:1].upper() + status[1:] + until + because + ".")
        if row.studyId != row.title:
            lines.append(_("Id: {id}").format(id=row.studyId))
        return "\n".join(filter(None, lines))

    def color(self, studyId: str) -> str:
        """The colour of the pick that stands for a study: the same in the list and in the map."""
        row = self.row(studyId)
        owner = studyId if row and row.rank else row.standsWith if row else ""
        return rankColor(self._ranks.get(owner, 0))

    def pointColors(self) -> list:
        """The colour of each point of the map."""
        return [rankColor(self._ranks.get(point["stands_with"], 0)) for point in self.points]

    @property
    def isUnsureKnown(self) -> bool:
        """Whether the server says how unsure the labels so far leave each study."""
        return any(point.get("unsure") for point in self.points)

    def unsureColors(self) -> list:
        """The colour of each point of the map by how unsure the labels so far leave it."""
        return [unsureColor(point.get("unsure")) for point in self.points]

    def unsureText(self, number: int) -> str:
        """How unsure the labels so far leave a point of the map; empty where that is not known."""
        quarter = self.points[number].get("unsure")
        names = (_("least sure quarter"), _("second quarter"), _("third quarter"), _("surest quarter"))
        return names[quarter - 1] if quarter in range(1, len(names) + 1) else ""

    def standsWith(self, studyId: str) -> str:
        """The pick that stands for a study of the pool."""
        return self._owners.get(studyId, "")

    def rank(self, studyId: str) -> int:
        """The rank of a study in the batch; 0 if it is not of it."""
        return self._ranks.get(studyId, 0)


def plainTooltip(text: str) -> str:
    """Write a text so that a tooltip shows it as it is, wrapped; Qt would take what looks like markup for markup.

    >>> plainTooltip("a <b>")
    '<p style="white-space: pre-wrap">a &lt;b&gt;</p>'
    """
    return f'<p style="white-space: pre-wrap">{html.escape(text, quote=False)}</p>'


def wrappable(text: str) -> str:
    """Let the long words of a sentence go on in the next line, not widen the panel; keep a % with its number.

    >>> wrappable("Reserving scan_1.nii.gz ...")
    'Reserving scan_1.nii.gz ...'
    >>> wrappable("Loading site_12/patient_0815/thorax.nii.gz").split("\u200b")
    ['Loading site_', '12/', 'patient_', '0815/', 'thorax.', 'nii.', 'gz']
    """
    text = text.replace(" %", "\u00a0%")
    return re.sub(rf"\S{{{2 * HALF + 1},}}", lambda word: breakable(word[0]), text)


def breakable(text: str) -> str:
    """Let a path or a file's name go on in the next line, where it would lose its middle.

    A word that is too long for any line, such as an id of hexadecimal digits, loses its middle.

    >>> breakable("ct/case_12.nii.gz").split("\u200b")
    ['ct/', 'case_', '12.', 'nii.', 'gz']
    >>> breakable("0123456789" * 5)
    '012345678901…890123456789'
    """
    text = re.sub(r"(?<=[^\W_])([_./-])(?=[^\W_])", "\\1\u200b", text)
    if len(text) <= 2 * HALF:
        return text
    return re.sub(rf"([^\s\u200b]{{{HALF}}})[^\s\u200b]{{2,}}([^\s\u200b]{{{HALF}}})", "\\1…\\2", text)


def sliceText(one: dict) -> str:
    """Name a proposed slice.

    >>> sliceText({"index": 12, "plane": "axial", "position_mm": -3.25})
    'axial 12 (-3.2 mm)'
    """
    planes = {"axial": _("axial"), "coronal": _("coronal"), "sagittal": _("sagittal")}
    place = one.get("position_mm")
    return f"{planes[one['plane']]} {one['index']}" + ("" if place is None else f" ({place:.1f} mm)")


def _pickRow(pick: dict) -> Row:
    return Row(
        studyId=pick["study_id"],
        title=pick["title"],
        rank=pick["rank"],
        status=pick.get("status", "open"),
        client=pick.get("client", ""),
        until=pick.get("until", 0.0),
        reason=pick["reason"],
        standsFor=pick["stands_for"],
        nUnlabelled=round(pick["stands_for"] / pick["share"]) if pick["share"] else 0,
        lookalikes=tuple(pick["lookalikes"]),
        replaces=pick["replaces"],
        slices=tuple(pick.get("slices") or ()),
        readBy=tuple(pick.get("read_by") or ()),
        series=_series(pick),
    )


def _pointRow(point: dict) -> Row:
    return Row(
        studyId=point["study_id"],
        title=point["title"],
        status=point["status"],
        client=point["client"],
        skippedBecause=point["reason"],
        standsWith=point["stands_with"],
        series=_series(point),
    )


def _series(one: dict) -> tuple | None:
    return None if one.get("series") is None else tuple(one["series"])
