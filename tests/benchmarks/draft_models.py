"""Which classifier drafts masks best from 5, 10 and 20 labels, and in how many seconds.

`python tests/benchmarks/draft_models.py DATA` prints a table; DATA holds hippocampus/, nerve_us/ and membrane/.
"""

# ruff: noqa: T201  a script prints

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from firstpick.encoders import EncoderSpec
from firstpick.encoders.patches import patch_encoder
from firstpick.learning.agreement import dice_by_class, mean_dice
from firstpick.learning.features import Seen, fit_reduction
from firstpick.learning.labels import read_classes
from firstpick.learning.model import fit, gathered
from firstpick.learning.predict import compact_classes, predict, scattered
from firstpick.learning.sampling import sample
from firstpick.learning.stack import Stack
from firstpick.learning.tokens import SIZE, see
from firstpick.studies import Study
from firstpick.voxels.volumes import read_volume

N_LABELS = (5, 10, 20)
N_TEST = 15
SETS = {  # folder, folder of the masks, name and value of each class, middle slices alone
    "hippocampus": ("hippocampus", "labels", {"anterior": 1, "posterior": 2}, False),
    "hippocampus, middle slices": ("hippocampus", "labels", {"anterior": 1, "posterior": 2}, True),
    "nerve_us": ("nerve_us", "masks", {"nerve": 1, "vessel": 2}, False),
    "membrane": ("membrane", "labels", {"cell": 255}, False),
}
MODELS = {
    "LDA": lambda: make_pipeline(StandardScaler(), LinearDiscriminantAnalysis()),
    "logistic regression": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
    "ExtraTrees": lambda: ExtraTreesClassifier(100, min_samples_leaf=5, n_jobs=2, random_state=0),
    "HistGradientBoosting": lambda: HistGradientBoostingClassifier(max_iter=100, random_state=0),
}


@dataclass
class Plain:
    """A classifier of scikit-learn in the place of our networks."""

    classifier: object
    n_classes: int

    def probabilities(self, X):
        found = np.zeros((len(X), self.n_classes + 1), np.float32)
        found[:, self.classifier.classes_] = self.classifier.predict_proba(X)
        return found

    def classify(self, probabilities):
        return probabilities.argmax(axis=-1)


def read(root, masks, labels, *, middle, n):
    """Read some studies of a set: what the encoder saw, and the classes, slice by slice."""
    images = sorted((root / "images").iterdir())
    images = [images[i] for i in np.random.default_rng(0).permutation(len(images))[:n]]
    encoder = patch_encoder(EncoderSpec(), SIZE)
    for image in images:
        volume = read_volume(Study(image.name, "", str(image)))
        mask = next(path for path in (root / masks).iterdir() if path.name.split(".")[0] == image.name.split(".")[0])
        classes = read_classes(mask, volume, labels)
        if middle:
            at = slice(volume.array.shape[2] // 2, volume.array.shape[2] // 2 + 1)
            volume, classes = replace(volume, array=volume.array[..., at]), classes[..., at]
        stack = Stack(volume, EncoderSpec().views)
        yield stack, see(stack, encoder), stack.of(classes)


def ready(studies, known):
    reduction = fit_reduction([studies[i][1] for i in known])
    return [Seen(stack, tokens.slices, reduction.of(tokens.rows)) for stack, tokens, _ in studies]


def measure(model, seen, studies, tests, n_classes, compact):
    start = time.perf_counter()
    found = [predict(model, seen[i], compact=compact).classes for i in tests]
    seconds = (time.perf_counter() - start) / len(tests)
    dice = [mean_dice(dice_by_class(one, studies[i][2], n_classes)) for one, i in zip(found, tests, strict=True)]
    known = [one for one in dice if one is not None]
    return np.mean(known), seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--models", nargs="+", default=[*MODELS, "networks"])
    args = parser.parse_args()
    print(
        "| data | classifier | Dice, 5 labels | 10 | 20 | seconds to fit 20 | a draft |\n|---|---|---|---|---|---|---|"
    )
    for name in args.sets:
        folder, masks, labels, middle = SETS[name]
        studies = list(read(args.data / folder, masks, labels, middle=middle, n=max(N_LABELS) + N_TEST))
        tests = range(len(studies) - min(N_TEST, len(studies) // 3), len(studies))
        for model_name in args.models:
            row = []
            for n in N_LABELS:
                seen = ready(studies, range(min(n, tests[0])))
                rng = np.random.default_rng(0)
                samples = [
                    sample(seen[i], studies[i][2], range(len(studies[i][2])), rng) for i in range(min(n, tests[0]))
                ]
                parts = [scattered(studies[i][2], len(labels)) for i in range(min(n, tests[0]))]
                compact = compact_classes(np.array(parts))
                start = time.perf_counter()
                if model_name == "networks":
                    model = fit(samples, len(labels), seed=0)
                else:
                    model = Plain(MODELS[model_name]().fit(*gathered(samples, rng)), len(labels))
                fitted = time.perf_counter() - start
                dice, each = measure(model, seen, studies, tests, len(labels), compact)
                row.append(f"{dice:.3f}")
            print(f"| {name} | {model_name} | {' | '.join(row)} | {fitted:.1f} | {each:.2f} |", flush=True)


if __name__ == "__main__":
    main()
