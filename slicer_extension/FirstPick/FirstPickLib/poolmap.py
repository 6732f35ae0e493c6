"""Where the studies of the pool lie in a picture, and which one is under the mouse."""

from __future__ import annotations

import itertools

import numpy as np

_SQUARE = np.array(list(itertools.product((-1, 0, 1), repeat=2)))  # pixels around a place


class PoolMap:
    """Places of studies, fitted into a picture of any size without stretching.

    Parameters
    ----------
    points : list of dict
        Each with ``study_id``, ``x`` and ``y``; y grows upwards.
    """

    def __init__(self, points: list) -> None:
        self.studyIds = [point["study_id"] for point in points]
        self._index = {studyId: i for i, studyId in enumerate(self.studyIds)}
        self._places = np.array([(point["x"], -point["y"]) for point in points], dtype=float).reshape(-1, 2)

    def index(self, studyId: str) -> int:
        """The number of a study; -1 if it is not in the map."""
        return self._index.get(studyId, -1)

    def pixels(self, width: int, height: int, margin: int) -> np.ndarray:
        """Return the centre of each dot in pixels, as an array of shape (n, 2)."""
        if not len(self._places):
            return self._places
        low, high = self._places.min(axis=0), self._places.max(axis=0)
        room = np.maximum(np.array([width, height]) - 2 * margin, 1)
        span = high - low
        scale = np.divide(room, span, out=np.full(2, np.inf), where=span > 0).min()
        scale = scale if np.isfinite(scale) else 0.0
        return (self._places - (low + high) / 2) * scale + np.array([width, height]) / 2


def nearest(pixels: np.ndarray, x: float, y: float, within: float) -> int:
    """Return the number of the dot nearest to a place, or -1 if none is within so many pixels."""
    if not len(pixels):
        return -1
    squared = ((pixels - (x, y)) ** 2).sum(axis=1)
    best = int(squared.argmin())
    return best if squared[best] <= within**2 else -1


def painted(places: np.ndarray, colors: list, ground: str, width: int, height: int) -> bytes:
    r"""Paint a square of three pixels at each of many places, later ones over earlier; return a PPM file.

    Parameters
    ----------
    places : ndarray of shape (n, 2)
        Centres in pixels; what lies outside the picture is not seen.
    colors : list of str
        Of each place, ``#rrggbb``.
    ground : str
        Colour of the rest.

    Examples
    --------
    >>> painted(np.array([[9.0, 0.0]]), ["#ffffff"], "#000000", 2, 1)
    b'P6 2 1 255\n\x00\x00\x00\x00\x00\x00'
    """
    image = np.empty((height, width, 3), np.uint8)
    image[:] = _rgb(ground)
    known = {color: _rgb(color) for color in set(colors)}
    values = np.array([known[color] for color in colors], np.uint8).reshape(-1, 3).repeat(len(_SQUARE), axis=0)
    x, y = (places.round().astype(int).reshape(-1, 1, 2) + _SQUARE).reshape(-1, 2).T
    isIn = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    image[y[isIn], x[isIn]] = values[isIn]
    return f"P6 {width} {height} 255\n".encode("ascii") + image.tobytes()


def _rgb(color: str) -> tuple:
    return tuple(bytes.fromhex(color[1:]))
