"""Sample studies, made on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from firstpick.libraries import user_folder

_nibabel: Any = nibabel  # has no types

N_STUDIES = 36
_KINDS = ("head", "abdomen", "head", "limb", "head", "abdomen")
_BODIES: dict[str, list[tuple[Any, Any, float]]] = {  # centre, radii and brightness of the body, then of each organ
    "head": [
        ((0, 0, 0), (0.66, 0.82, 0.78), 900),
        ((0, 0, 0), (0.58, 0.74, 0.7), 450),
        ((-0.12, 0.05, 0.1), (0.07, 0.3, 0.14), 150),
        ((0.12, 0.05, 0.1), (0.07, 0.3, 0.14), 150),
    ],
    "abdomen": [
        ((0, 0, 0), (0.9, 0.62, 0.95), 250),
        ((0.38, 0.1, 0.3), (0.38, 0.38, 0.4), 480),
        ((-0.5, -0.1, 0.3), (0.18, 0.2, 0.25), 560),
        ((0.35, -0.25, -0.35), (0.13, 0.13, 0.25), 650),
        ((-0.35, -0.25, -0.35), (0.13, 0.13, 0.25), 650),
        ((0, -0.4, 0), (0.12, 0.14, 0.9), 1000),
    ],
    "limb": [((0, 0, 0), (0.34, 0.36, 0.98), 300), ((0.05, 0, 0), (0.1, 0.1, 0.95), 1100)],
}


def make_studies() -> Path:
    """Write sample volumes to the user's cache folder (once) and return it.

    Three kinds of body part in unequal numbers (18 heads, 12 abdomens, 6 limbs), each of another
    size, contrast and noise; NIfTI, 2 mm, RAS+. Made by arithmetic: no patient's data.
    """
    folder = user_folder() / f"sample-studies-{N_STUDIES}"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(N_STUDIES):
        kind = _KINDS[number % len(_KINDS)]
        path = folder / f"{kind}_{number:03d}.nii.gz"
        if not path.exists():
            image = _nibabel.Nifti1Image(_phantom(kind, np.random.default_rng(number)), np.diag([2.0, 2.0, 2.0, 1.0]))
            partial = path.with_name(f".{path.name}")
            _nibabel.save(image, partial)
            partial.replace(path)
    return folder


def _phantom(kind: str, rng: np.random.Generator) -> NDArray[np.int16]:
    """A smooth body with organs inside, int16, (64, 64, 64)."""
    from scipy import ndimage  # noqa: PLC0415 - slow to import, and no other command needs it

    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 64)] * 3, indexing="ij"))
    scale = rng.uniform(0.75, 1.05)
    volume = np.zeros(grid.shape[1:])
    for centre, radii, value in _BODIES[kind]:
        shifted = tuple(c + rng.normal(0, 0.02) for c in centre)
        volume = np.where(_ellipsoid(grid, shifted, radii, scale), value * rng.uniform(0.8, 1.2), volume)
    volume = ndimage.gaussian_filter(volume, rng.uniform(0.6, 1.5)) + rng.normal(0, rng.uniform(5, 40), volume.shape)
    rounded: NDArray[np.int16] = volume.astype(np.int16)
    return rounded


def _ellipsoid(
    grid: NDArray[np.float64], centre: Sequence[float], radii: Sequence[float], scale: float
) -> NDArray[np.bool_]:
    offsets = (grid - np.reshape(centre, (3, 1, 1, 1))) / (np.reshape(radii, (3, 1, 1, 1)) * scale)
    inside: NDArray[np.bool_] = (offsets**2).sum(axis=0) <= 1.0
    return inside
