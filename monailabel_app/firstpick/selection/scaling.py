"""Ways to scale the features before a strategy sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.geometry import unit_rows

_ROUNDING = 1e-6
_NEGLIGIBLE = 1e-6


def unscaled(X: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take the features as the encoder gave them, but for one common factor that keeps squares in range."""
    return np.asarray(X / (max(X.max(), -X.min()) or np.float32(1)))


def standardise(X: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give every column mean 0 and standard deviation 1; a constant column becomes 0.

    What Yuan & Hong (arXiv 2402.02561) do before clustering. A column counts as constant when its deviation is within
    the rounding error of its mean.

    Examples
    --------
    >>> standardise(np.array([[1.0, 7.0], [3.0, 7.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    largest = np.abs(X).max(axis=0)
    scaled = X / np.where(largest > 0, largest, 1)  # no square over- or underflows
    centred = scaled - scaled.mean(axis=0, dtype=np.float64)
    deviation = centred.std(axis=0)
    varies = deviation > _ROUNDING
    return np.asarray(np.where(varies, centred / np.where(varies, deviation, 1.0), 0.0), np.float32)


def principal(X: NDArray[np.float32], *, n_components: int, whiten: bool) -> NDArray[np.float32]:
    """Project unit rows on the directions in which they differ most, and give the results length 1 again.

    Parameters
    ----------
    n_components : int
        How many directions to keep; never more than a quarter of the rows, since more describe their noise.
    whiten : bool
        Give all of these directions the same variance, so that a few dominant ones (brightness, field of
        view) do not decide alone. Directions with less than a millionth of the largest variance are dropped.

    Returns
    -------
    ndarray of shape (n_rows, n_kept), float32, unit rows
        ``n_kept`` is at least 1; rows of zeros where the rows of ``X`` do not differ.

    Examples
    --------
    Four directions in a plane, most of the difference along the first axis; whitened, both axes count alike.

    >>> X = np.array([[9, 1, 5], [9, -1, 5], [-9, 1, 5], [-9, -1, 5]] * 2, np.float32)
    >>> np.allclose(np.abs(principal(X, n_components=2, whiten=True)), np.sqrt(0.5))
    True
    """
    from sklearn.decomposition import PCA  # noqa: PLC0415 - a server must start without it

    unit = unit_rows(X, np.float32)
    n_kept = max(1, min(n_components, len(X) // 4, X.shape[1]))
    if np.ptp(unit, axis=0).max() <= _ROUNDING:
        return np.zeros((len(X), n_kept), np.float32)
    model = PCA(n_kept, random_state=0)
    rows = model.fit_transform(unit)
    variance = model.explained_variance_
    keep = variance > _NEGLIGIBLE * variance[0]
    rows = rows[:, keep] / np.sqrt(variance[keep]) if whiten else rows[:, keep]
    return unit_rows(rows, np.float32)


#: Each takes the rows and the number of components, which matters to the last two only.
SCALINGS: Mapping[str, Callable[[NDArray[np.float32], int], NDArray[np.float32]]] = {
    "l2": lambda X, _: unit_rows(X, np.float32),
    "none": lambda X, _: unscaled(X),
    "standardise": lambda X, _: standardise(X),
    "pca": lambda X, n_components: principal(X, n_components=n_components, whiten=False),
    "whiten": lambda X, n_components: principal(X, n_components=n_components, whiten=True),
}
