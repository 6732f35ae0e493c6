"""What a 2-D encoder says of each patch of a picture, not of the picture as a whole."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from firstpick.encoders import EncoderError, EncoderSpec, build_encoder, encoder_row
from firstpick.encoders.pictures import PictureEncoder

_N_AT_ONCE = 8


@dataclass(frozen=True)
class PatchEncoder:
    """A network that has patches.

    Attributes
    ----------
    network : PictureEncoder
    size : int
        Side of the pictures in pixels.
    side : int
        Patches along it.
    """

    network: PictureEncoder
    size: int
    side: int

    def tokens(self, pictures: NDArray[np.float32]) -> NDArray[np.float16]:
        """Return a row for each patch, from the top left.

        Parameters
        ----------
        pictures : ndarray of shape (n, size, size, 3), float32 in [0, 1]

        Returns
        -------
        ndarray of shape (n, side, side, dim), float16
        """
        starts = range(0, len(pictures), _N_AT_ONCE)
        found = [self.network.patch_rows(pictures[start : start + _N_AT_ONCE]).astype(np.float16) for start in starts]
        return np.concatenate(found).reshape(len(pictures), self.side, self.side, -1)


@lru_cache(maxsize=1)
def patch_encoder(spec: EncoderSpec, size: int) -> PatchEncoder | None:
    """Build an encoder for its patches, once in a process; None for one that has none.

    Parameters
    ----------
    spec : EncoderSpec
        Its pooling and unit do not matter.
    size : int
        Side of the pictures in pixels; a network that takes only one size keeps to that.

    Raises
    ------
    EncoderError
        If it cannot be built.
    """
    if encoder_row(spec.name).ndim != 2:  # noqa: PLR2004 - pictures
        return None
    plain = replace(spec, pooling="mean", unit="volume")
    try:
        network = build_encoder(replace(plain, views=replace(plain.views, size=size)))
    except EncoderError:
        size = plain.resolved().views.size
        network = build_encoder(plain)
    if not isinstance(network, PictureEncoder):
        return None
    try:
        rows = network.patch_rows(np.zeros((1, size or 1, size or 1, 3), np.float32))
    except ValueError:
        return None
    return PatchEncoder(network, size, math.isqrt(rows.shape[1]))
