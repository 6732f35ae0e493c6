"""Who judges a batch: each learns from the chosen studies alone and is measured on the test part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from firstpick.evaluate import classification, segmentation
from firstpick.evaluate.bench import Bench
from firstpick.evaluate.patches import N_KEPT, N_SLICES, SIZE, Patches, patch_probe
from firstpick.evaluate.segmentation import Example
from firstpick.evaluate.splits import Split

RECIPE = 2
"""Raised by hand whenever a judge gives other numbers for the same batch."""

Rows = NDArray[np.intp]
Made = TypeVar("Made")


@dataclass(frozen=True)
class Judge:
    """One way to learn from a batch.

    Attributes
    ----------
    name : str
    primary : str
        The measure that decides.
    recipe : mapping
        Plain data that decides its numbers, besides the batch, the split and the data set.
    function : callable
        Of a module; gives a dict of measures.
    arguments : callable
        Makes its arguments from the rows of the batch, the split and a seed. What features are scaled or projected by
        is measured on the split's pool alone: the test part is as unknown as it will be.
    encoder : str
        Whose features it learns from: it must not judge a batch that the same features chose. Empty for none.
    """

    name: str
    primary: str
    recipe: Mapping[str, Any]
    function: Callable[..., dict[str, float]]
    arguments: Callable[[Rows, Split, int], tuple[Any, ...]]
    encoder: str = ""


def for_each_split(make: Callable[[Rows], Made]) -> Callable[[Split], Made]:
    """Make something of a split's pool, and keep it until another split is asked for."""
    last: list[tuple[Split, Made]] = []

    def made(split: Split) -> Made:
        if not last or last[0][0] is not split:
            last[:] = [(split, make(split.pool))]
        return last[0][1]

    return made


def class_judges(bench: Bench, encoders: Sequence[str], views: NDArray[np.uint8] | None) -> list[Judge]:
    """Judges of a classification: linear probes on the features of some encoders, and a network if there are views."""
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415 - slow to import

    names = sorted(set(bench.classes))
    y = np.array([names.index(label) for label in bench.classes], np.intp)

    def probe(encoder: str) -> Judge:
        X = bench.features[encoder]
        scaled = for_each_split(lambda pool: StandardScaler().fit(X[pool]).transform(X))

        return Judge(
            name=f"probe on {encoder}",
            primary="auroc",
            recipe={"judge": "probe", "version": RECIPE, "features": bench.fingerprints[encoder]},
            function=classification.probe,
            arguments=lambda rows, split, _: (
                scaled(split)[rows],
                y[rows],
                scaled(split)[split.test],
                y[split.test],
                split.half,
            ),
            encoder=encoder,
        )

    judges = [probe(encoder) for encoder in encoders]
    if views is not None:
        judges.append(
            Judge(
                name="network",
                primary="auroc",
                recipe={"judge": "network", "version": RECIPE, "steps": classification.N_STEPS},
                function=classification.network,
                arguments=lambda rows, split, seed: (
                    views[rows],
                    y[rows],
                    views[split.test],
                    y[split.test],
                    split.half,
                    len(names),
                    seed,
                ),
            )
        )
    return judges


def mask_judges(
    examples: Sequence[Example], names: Sequence[str], patches: Patches | None, *, encoder: str, train: bool
) -> list[Judge]:
    """Judges of a segmentation: the stand-in on frozen patches, and a network that is really trained."""
    judges = []
    if patches is not None:
        features, label = for_each_split(patches.reduced), patches.label
        judges.append(
            Judge(
                name="patches",
                primary="dice",
                recipe={
                    "judge": "patches",
                    "version": RECIPE,
                    "encoder": encoder,
                    "at": [N_SLICES, SIZE, N_KEPT],
                    "labels": list(names),
                },
                function=patch_probe,
                arguments=lambda rows, split, seed: (
                    features(split)[rows],
                    label[rows],
                    features(split)[split.test],
                    label[split.test],
                    split.half,
                    names,
                    seed,
                ),
            )
        )
    if train:
        crop = segmentation.crop_size(examples)
        n_steps = segmentation.N_STEPS[len(crop)]
        judges.append(
            Judge(
                name="network",
                primary="dice",
                recipe={
                    "judge": "segmenter",
                    "version": RECIPE,
                    "steps": n_steps,
                    "crop": crop,
                    "labels": list(names),
                },
                function=segmentation.segment,
                arguments=lambda rows, split, seed: (
                    [examples[row] for row in rows],
                    [examples[row] for row in split.test],
                    split.half,
                    names,
                    crop,
                    seed,
                    n_steps,
                ),
            )
        )
    return judges
