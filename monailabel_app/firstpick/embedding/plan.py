"""Which studies go to a worker together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from firstpick.studies import Study

_CHUNK_STUDIES = 8
_CHUNK_BYTES = 64 * 2**20


def chunks(studies: Sequence[Study]) -> list[tuple[Study, ...]]:
    """Cut a list into chunks of a few small studies; a large one, or a series, goes alone.

    A chunk has the time limit of one study, which small files share easily. Towards the end chunks are smaller, so
    that the workers finish together.
    """
    result: list[list[Study]] = []
    room = most = 0
    for place, study in enumerate(studies):
        size = _CHUNK_BYTES if study.is_series else _size(study.source)
        if not result or len(result[-1]) == most or size > room:
            result.append([])
            room, most = _CHUNK_BYTES, min(_CHUNK_STUDIES, max(1, (len(studies) - place) // 4))
        result[-1].append(study)
        room -= size
    return [tuple(chunk) for chunk in result]


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0  # the reader will say what is wrong
