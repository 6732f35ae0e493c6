"""The work list: the picks of the batch and all studies that were closed, with what each line says."""

from __future__ import annotations

import colorsys
import functools
import html
import re
from dataclasses import dataclass

from .client import clock

ALL, OPEN, MINE, DONE, SKIPPED = "all", "open", "mine", "done", "skipped"
FILTERS = (ALL, OPEN, MINE, DONE, SKIPPED)


@dataclass(frozen=True)
class Row:
    """A line of the work list.

    ``rank`` is 0 for a study that is not of this batch; ``readBy`` are the readers whose label counts already, where
    a study needs several.
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

    def statusText(self, reader: str) -> str:
        """Say where the study stands, and by whom."""
        by = "you" if self.client == reader and reader else self.client
        if self.status == "open":
            return "read by you" if reader in self.readBy else "open"
        if self.status == "reserved":
            return f"in progress by {by}"
        return f"{self.status} by {by}" if by else self.status


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
    """

    def __init__(self, proposal: dict, points: list, reader: str) -> None:
        self.reader = reader
        self.strategy = proposal["strategy"]
        self.nPool = proposal["n_pool"]
        self.coverage = tuple(proposal["coverage"])
        self.note = proposal["note"]
        self.points = points
        picks = [_pickRow(pick) for pick in proposal["picks"]]
        picked = {row.studyId for row in picks}
        others = [_pointRow(point) for point in points if point["status"] != "open" and point["study_id"] not in picked]
        self.rows = (*picks, *others)
        self._byId = {row.studyId: row for row in self.rows}
        self._titles = {point["study_id"]: point["title"] for point in points}
        self._titles.update((row.studyId, row.title) for row in picks)
        self._ranks = {row.studyId: row.rank for row in picks}
        self._owners = {point["study_id"]: point["stands_with"] for point in points}

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
            return self.reader in (row.client, *row.readBy)
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
        """How far the batch is, and how much of the pool it covers."""
        done = sum(row.status == "done" for row in self.picks)
        covered = f"{self.coverage[-1]:.0%}".replace("%", " %") if self.coverage else "nothing"
        read = f", {self.nReadBefore} more read by you" if self.nReadBefore else ""
        cover = f"with what was labelled they cover {covered} of {self.nPool}"
        return f"{done} of {len(self.picks)} segmented{read}; {cover}. {self.note}".strip()

    def shareText(self, row: Row) -> str:
        """How many studies a pick stands for."""
        return f"{row.standsFor} of {row.nUnlabelled}" if row.standsFor else ""

    def tooltip(self, row: Row) -> str:
        """All that is known of a line, a fact a line."""
        lines = [row.title, row.reason]
        if row.lookalikes:
            lines.append("Most like: " + ", ".join(map(self.title, row.lookalikes)))
        if row.replaces:
            lines.append(f"Takes the place of {self.title(row.replaces)}, which was skipped.")
        if row.readBy:
            readers = ("you" if name == self.reader else name for name in row.readBy)
            lines.append(f"Read by {' and '.join(readers)}.")
        if row.slices:
            lines.append("Slices: " + ", ".join(map(sliceText, row.slices)))
        if row.status != "open":
            until = f" until {clock(row.until)}" if row.status == "reserved" and row.until else ""
            because = f": {row.skippedBecause}" if row.skippedBecause else ""
            lines.append(row.statusText(self.reader).capitalize() + until + because + ".")
        if row.studyId != row.title:
            lines.append(f"Id: {row.studyId}")
        return "\n".join(filter(None, lines))

    def color(self, studyId: str) -> str:
        """The colour of the pick that stands for a study: the same in the list and in the map."""
        row = self.row(studyId)
        owner = studyId if row and row.rank else row.standsWith if row else ""
        return rankColor(self._ranks.get(owner, 0))

    def pointColors(self) -> list:
        """The colour of each point of the map."""
        return [rankColor(self._ranks.get(point["stands_with"], 0)) for point in self.points]

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


def breakable(text: str) -> str:
    """Let a path or a file's name go on in the next line, where it would lose its middle.

    >>> breakable("ct/case_12.nii.gz").split("\u200b")
    ['ct/', 'case_', '12.', 'nii.', 'gz']
    """
    return re.sub(r"(?<=[^\W_])([_./-])(?=[^\W_])", "\\1\u200b", text)


@functools.lru_cache(maxsize=1024)
def rankColor(rank: int) -> str:
    """Colour of a pick and of all it stands for: neighbours in rank differ most; grey for rank 0."""
    if not rank:
        return "#8c8c8c"
    red, green, blue = colorsys.hsv_to_rgb(rank * 0.618034 % 1, 0.62, 0.82 if rank % 2 else 0.7)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def sliceText(one: dict) -> str:
    """Name a proposed slice.

    >>> sliceText({"index": 12, "plane": "axial", "position_mm": -3.25})
    'axial 12 (-3.2 mm)'
    """
    place = one.get("position_mm")
    return f"{one['plane']} {one['index']}" + ("" if place is None else f" ({place:.1f} mm)")


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
    )


def _pointRow(point: dict) -> Row:
    return Row(
        studyId=point["study_id"],
        title=point["title"],
        status=point["status"],
        client=point["client"],
        skippedBecause=point["reason"],
        standsWith=point["stands_with"],
    )
