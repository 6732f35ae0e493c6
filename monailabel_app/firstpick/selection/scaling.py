"""Ways to scale the features before a strategy sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from firstpick.selection.geometry import unit_rows


def unscaled(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take the features as the encoder gave them."""
    return X


def standardise(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give every column mean 0 and standard deviation 1; a constant column becomes 0.

    Parameters
    ----------
    X : ndarray of shape (n_rows, dim), float64

    Returns
    -------
    ndarray of shape (n_rows, dim), float64
        A new array.

    Notes
    -----
    A column counts as constant when its deviation is within the rounding error of its mean.
    What Yuan & Hong (arXiv 2402.02561) do before clustering.

    Examples
    --------
    >>> standardise(np.array([[1.0, 7.0], [3.0, 7.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    centred = X - X.mean(axis=0)
    deviation = centred.std(axis=0)
    varies = deviation > 1e-12 * np.abs(X).max(axis=0)
    return np.asarray(np.where(varies, centred / np.where(varies, deviation, 1.0), 0.0))


SCALINGS: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "l2": unit_rows,
    "none": unscaled,
    "standardise": standardise,
}
