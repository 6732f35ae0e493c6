"""The seed paper's baseline: the pixels themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from firstpick.encoders import EncoderError, EncoderSpec, encoder_row
from firstpick.voxels.views import make_views
from firstpick.voxels.volumes import Volume


class Pixels:
    """Flatten each view's grey levels (arXiv 2402.02561, section 'raw pixel').

    The paper flattens 224 x 224 pixels (50,176 numbers); the views are averaged down to 32 x 32
    here, which measured the same on the shared sets and keeps a pool of volumes in memory.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        self._views = spec.views
        self._side = int(encoder_row(spec.name).settings["side"])
        self.dim = self._side**2
        if spec.views.size < self._side:
            msg = f"encoder '{spec.name}' averages views down to {self._side} pixels: views.size must not be less; "
            raise EncoderError(msg + f"got {spec.views.size}.")

    def parts(self, volume: Volume) -> NDArray[np.float32]:
        """Return the views, shape (n_views, size, size, 3), float32 in [0, 1]."""
        return make_views(volume, self._views)

    def encode(self, parts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return grey levels averaged over blocks, shape (n, side * side), float32."""
        grey = parts.mean(axis=-1)
        edges = np.linspace(0, grey.shape[1], self._side + 1).astype(int)[:-1]
        counts = np.diff(np.append(edges, grey.shape[1])).astype(np.float32)
        blocks = np.add.reduceat(np.add.reduceat(grey, edges, axis=1), edges, axis=2)
        means = blocks / (counts[:, None] * counts[None, :])
        return means.reshape(len(parts), -1).astype(np.float32)
