"""How well a classifier does that learnt from the chosen studies alone."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

MEASURES = ("auroc", "auprc", "balanced_accuracy")
HALVES = ("half 0", "half 1")
"""What follows a deciding measure's name, and a comma, where it is of one half of the test part."""
N_STEPS = 150
_BATCH = 32
_RATE = 3e-3


def probe(
    X: NDArray[np.float32],
    y: NDArray[np.intp],
    X_test: NDArray[np.float32],
    y_test: NDArray[np.intp],
    half: NDArray[np.intp],
) -> dict[str, float]:
    """Train a linear probe (logistic regression, classes balanced) on fixed features, and measure it.

    Parameters
    ----------
    X, X_test : ndarray of shape (n, dim), float32
        Columns of about equal spread.
    y, y_test : ndarray of shape (n,), intp
        Classes, counted from 0.
    half : ndarray of shape (n,), intp
        In which half of the test part each study is.

    Returns
    -------
    dict
        See `class_measures`.

    Notes
    -----
    The weights are a combination of the few rows learnt from, so both parts are first turned into the space that these
    span: the same model, found faster.
    """
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - slow to import
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    found = np.unique(y)
    probabilities = np.zeros((len(X_test), int(max(y.max(), y_test.max())) + 1))
    if len(found) == 1:
        probabilities[:, found] = 1.0
    else:
        with threadpool_limits(1), warnings.catch_warnings():  # one thread: the same sums on every machine's cores
            warnings.simplefilter("ignore", ConvergenceWarning)
            basis = np.linalg.qr(X.T.astype(np.float64))[0]
            model = LogisticRegression(class_weight="balanced", max_iter=1000).fit(X @ basis, y)
            probabilities[:, found] = model.predict_proba(X_test @ basis)
    return class_measures(probabilities, y_test, half)


def class_measures(probabilities: NDArray[np.float64], y: NDArray[np.intp], half: NDArray[np.intp]) -> dict[str, float]:
    """Measure probabilities: means over the classes that are in the test part.

    Parameters
    ----------
    probabilities : ndarray of shape (n, n_classes)
        A class that nobody chose has zeros: its AUROC is 0.5, its AUPRC its share, its recall 0.
    y : ndarray of shape (n,), intp
    half : ndarray of shape (n,), intp
        In which half of the test part each study is.

    Returns
    -------
    dict
        ``auroc`` and ``auprc`` (each class against the rest), ``balanced_accuracy`` (mean recall), and the AUROC of
        both halves (`HALVES`). AUROC and AUPRC are NaN where there is one class only.

    Examples
    --------
    Both of class 0 right, class 1 never chosen.

    >>> found = class_measures(np.array([[1.0, 0.0]] * 4), np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    >>> set(found.values())
    {0.5}
    """
    from sklearn.metrics import average_precision_score  # noqa: PLC0415 - slow to import

    present = np.unique(y)
    predicted = probabilities.argmax(axis=1)
    precisions = [average_precision_score(y == c, probabilities[:, c]) for c in present]
    return {
        "auroc": _auroc(probabilities, y),
        "auprc": float(np.mean(precisions)) if len(present) > 1 else float("nan"),
        "balanced_accuracy": float(np.mean([np.mean(predicted[y == c] == c) for c in present])),
        **{f"auroc, {name}": _auroc(probabilities[half == i], y[half == i]) for i, name in enumerate(HALVES)},
    }


def _auroc(probabilities: NDArray[np.float64], y: NDArray[np.intp]) -> float:
    """Mean of the classes' AUROC, by Mann and Whitney's ranks; NaN where there is one class only."""
    from scipy.stats import rankdata  # noqa: PLC0415 - slow to import

    present = np.unique(y)
    if len(present) < 2:  # noqa: PLR2004 - nothing to tell apart
        return float("nan")
    is_of = y[:, None] == present
    n_of = is_of.sum(axis=0)
    ranks = (rankdata(probabilities[:, present], axis=0) * is_of).sum(axis=0)
    return float(np.mean((ranks - n_of * (n_of + 1) / 2) / (n_of * (len(y) - n_of))))


def network(
    views: NDArray[np.uint8],
    y: NDArray[np.intp],
    views_test: NDArray[np.uint8],
    y_test: NDArray[np.intp],
    half: NDArray[np.intp],
    n_classes: int,
    seed: int,
    n_steps: int = N_STEPS,
) -> dict[str, float]:
    """Train a small residual network from scratch on the pixels, and measure it.

    Parameters
    ----------
    views, views_test : ndarray of shape (n, n_views, size, size), uint8
        Grey pictures of each study; its probabilities are the mean over its views.
    y, y_test, half : ndarray of shape (n,), intp
        Classes, counted from 0, and in which half of the test part each study is.
    n_classes : int
    seed : int
        Of the weights and the order of the pictures.
    n_steps : int
        Steps of 32 pictures, whatever the number of studies: every arm is trained in the very same way.

    Returns
    -------
    dict
        See `class_measures`.

    Notes
    -----
    ResNet-10 of MONAI with a quarter of its width; AdamW under one cycle, classes balanced by drawing, no augmentation.
    On one thread: the same numbers on every run.
    """
    import torch  # noqa: PLC0415 - so that the linear probe does without
    from monai.networks.nets.resnet import ResNet  # noqa: PLC0415

    from firstpick.evaluate.training import reproducible, train  # noqa: PLC0415

    def pictures(some: NDArray[np.uint8]) -> torch.Tensor:
        return torch.from_numpy(some.astype(np.float32) / 127.5 - 1)[:, None]

    with reproducible(seed) as device:
        model = ResNet("basic", [1, 1, 1, 1], [16, 32, 64, 128], 2, 1, num_classes=n_classes, conv1_t_stride=1)
        rng = np.random.default_rng(seed)
        counts = np.bincount(y, minlength=n_classes)
        weights = 1.0 / counts[y]
        weights /= weights.sum()

        def batch() -> tuple[torch.Tensor, torch.Tensor]:
            rows = rng.choice(len(y), size=_BATCH, p=weights)
            which = rng.integers(views.shape[1], size=_BATCH)
            return pictures(views[rows, which]), torch.from_numpy(y[rows].astype(np.int64))

        train(model, batch, torch.nn.CrossEntropyLoss(), n_steps=n_steps, rate=_RATE, device=device)
        flat = pictures(views_test.reshape(-1, *views_test.shape[2:]))
        with torch.inference_mode():
            rows = [model(part.to(device)).softmax(dim=1).cpu() for part in torch.split(flat, 128)]
    probabilities = torch.cat(rows).numpy().astype(np.float64).reshape(len(views_test), -1, n_classes).mean(axis=1)
    probabilities[:, counts == 0] = 0.0
    return class_measures(probabilities, y_test, half)
