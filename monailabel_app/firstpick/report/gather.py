"""All that a page without a server has to carry with it."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image
from pydantic_core import to_jsonable_python

from firstpick import __version__
from firstpick.board.board import Status, with_statuses
from firstpick.proposal import Proposal
from firstpick.report.pool_map import lookalikes, pool_map
from firstpick.selection.geometry import principal_plane
from firstpick.studies import LeftOut, Pool, Study

MAX_PICTURES = 5000
"""Small pictures (about 1 kB each) that a page carries; a larger pool is shown with those of a part of it."""

_SMALL = 64


def page_data(
    proposal: Proposal,
    pool: Pool,
    statuses: Mapping[str, Status],
    thumbnail: Callable[..., bytes | None],
    *,
    failed: Sequence[LeftOut],
    left_out: Sequence[LeftOut],
    notes: Mapping[str, Iterable[str]],
    groups_are_patients: bool,
    studies: Mapping[str, Study] = MappingProxyType({}),
    max_pictures: int = MAX_PICTURES,
) -> dict[str, Any]:
    """Gather what the server's routes would answer, and the pictures.

    Parameters
    ----------
    proposal : Proposal
    pool : Pool
        What it was chosen from; slices are shown study by study.
    statuses : mapping of str to Status
    thumbnail : callable
        PNG of a study by its id, or of one of its series by its name behind that; or None.
    failed, left_out : sequence of LeftOut
        Studies that could not be read, and that are not eligible.
    notes : mapping of str to iterable of str
        What is to be said of a study, such as what was done to its data while reading.
    groups_are_patients : bool
        As for `firstpick.report.pool_map`.
    studies : mapping of str to Study
        By id, for the names of series.
    max_pictures : int
        Studies whose small picture and look-alikes go into the page: picks, their look-alikes and what is listed
        first, then evenly through the pool.

    Returns
    -------
    dict
        Plain JSON, see ``assets/page.js``.
    """
    pool = pool.by_study()
    ids = pool.study_ids
    plane = dict(zip(ids, (tuple(place) for place in principal_plane(pool.vectors).round(5).tolist()), strict=True))
    batch = to_jsonable_python(with_statuses(proposal, statuses, failed=failed, left_out=left_out, studies=studies))
    points = pool_map(pool, plane, proposal.picks, statuses, groups_are_patients=groups_are_patients)
    pictured = _pictured(proposal, ids, max_pictures)
    rows = {study_id: row for row, study_id in enumerate(ids)}
    alike = lookalikes(pool, [rows[study_id] for study_id in pictured])
    pngs = {study_id: png for study_id in pictured if (png := thumbnail(study_id))}
    names = {i: [one.name for one in studies[i].series] for i in pictured if i in studies and studies[i].series}
    large = {pick.study_id for pick in proposal.picks}
    n_skipped = sum(statuses[study_id].status == "skipped" for study_id in statuses.keys() & set(ids))
    return {
        "made": time.strftime("%Y-%m-%d %H:%M"),
        "status": {
            "version": __version__,
            "state": "ready",
            "message": "",
            "notice": "",
            "n_pool": len(pool),
            "n_labelled": proposal.n_labelled,
            "n_skipped": n_skipped,
            "failed": batch["failed"],
            "left_out": batch["left_out"],
            "notes": {study_id: list(notes[study_id]) for study_id in notes.keys() & set(ids)},
        },
        "proposal": batch,
        "map": {"points": to_jsonable_python(points)},
        "lookalikes": dict(zip(pictured, alike, strict=True)),
        "series": names,
        "series_pictures": {
            i: {name: _shown(png, i in large) for name in own if (png := thumbnail(i, name))}
            for i, own in names.items()
        },
        "pictures": {i: _shown(png, i in large) for i, png in pngs.items()},
    }


def _pictured(proposal: Proposal, ids: tuple[str, ...], at_most: int) -> list[str]:
    """Choose the studies whose pictures go into the page."""
    evenly = [ids[row] for row in np.unique(np.linspace(0, len(ids) - 1, min(at_most, len(ids))).astype(int))]
    first: Iterable[str] = [pick.study_id for pick in proposal.picks]
    alike = [study_id for pick in proposal.picks for study_id in pick.lookalikes]
    copies = [study_id for copy in proposal.duplicates for study_id in (copy.study_id, copy.duplicate_of)]
    wanted = dict.fromkeys([*first, *alike, *proposal.unusual, *copies, *evenly])
    known = set(ids)
    return [study_id for study_id in wanted if study_id in known][: max(at_most, len(proposal.picks))]


def _small(png: bytes) -> bytes:
    """Shrink a picture: recognisable, in about a kilobyte."""
    picture, out = Image.open(BytesIO(png)), BytesIO()
    picture.thumbnail((_SMALL, _SMALL))
    picture.save(out, "WEBP", quality=60)
    return out.getvalue()


def _shown(png: bytes, is_large: bool) -> str:  # noqa: FBT001 - as the page has it
    return _uri("png", png) if is_large else _uri("webp", _small(png))


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
