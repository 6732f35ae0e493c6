"""Does selection with the default encoder beat random on MedNIST? A linear probe answers.

Run by hand: ``python tests/benchmarks/mednist_selection.py --seeds 20``. The first run embeds 1,800 images (two
minutes on two cores) into ``--state``, later runs with the same folder start from there.

Each seed is a new stratified split into 70 % pool and 30 % test, shared by all arms. An arm chooses n images of
the pool; a logistic regression learns from those alone and is measured on the test part. Two probes judge, one on
each encoder's features, so that no selection is judged only by the features that made it.
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from tqdm import tqdm

from firstpick.embedding import embed
from firstpick.encoders import EncoderSpec
from firstpick.folder import list_studies
from firstpick.selection import select
from firstpick.selection.scaling import standardise
from firstpick.store import Cache
from firstpick.workers import LocalPool

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "mednist"
ENCODERS = ("dinov2-s", "pixels")
ARMS = {  # strategy, the features it sees, their scaling
    "random": ("random", "dinov2-s", "l2"),
    "k-means, dinov2-s, l2": ("kmeans", "dinov2-s", "l2"),
    "k-means, dinov2-s, standardise": ("kmeans", "dinov2-s", "standardise"),
    "k-means, dinov2-s, whiten": ("kmeans", "dinov2-s", "whiten"),
    "TypiClust, dinov2-s, whiten": ("typiclust", "dinov2-s", "whiten"),
    "facility location, dinov2-s, pca": ("facility_location", "dinov2-s", "pca"),
    "k-means, pixels, l2": ("kmeans", "pixels", "l2"),
    "k-means, pixels, standardise": ("kmeans", "pixels", "standardise"),
}
MEASURES = ("accuracy", "AUROC")


def main():
    parser = argparse.ArgumentParser(description="Selection against random on MedNIST, as a Markdown table.")
    parser.add_argument("--seeds", type=int, default=20, help="number of splits (default 20)")
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 20], help="how many to choose (default 10 20)")
    parser.add_argument("--state", type=Path, help="folder that keeps the embeddings (default: a temporary one)")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with images/ and labels.csv")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        features, classes = load(options.data, options.state or Path(temporary))
    for n_labels in options.labels:
        print(table(n_labels, run(features, classes, n_labels, options.seeds), options.seeds))


def load(data, state):
    """Return the features of each encoder, and the class of each image, in one order."""
    studies, _ = list_studies(data / "images")
    features = {}
    for name in ENCODERS:
        spec, cache = EncoderSpec(name), Cache(state)
        with LocalPool() as workers, tqdm(total=len(studies), desc=name, file=sys.stderr) as bar:
            for progress in embed(studies, spec, cache, executor=workers):
                bar.update(progress.n_done + progress.n_failed - bar.n)
        pool = cache.pool(spec.fingerprint(), studies)
        cache.close()
        if len(pool) != len(studies):
            sys.exit(f"{len(studies) - len(pool)} images could not be embedded.")
        features[name] = pool.vectors.astype(np.float64)
    with (data / "labels.csv").open(encoding="utf-8", newline="") as file:
        label_of = {Path(row["file"]).stem: row["label"] for row in csv.DictReader(file)}
    return features, np.array([label_of[study_id] for study_id in pool.study_ids])


def run(features, classes, n_labels, n_seeds):
    """Return ``{(arm, what): one number for each seed}``."""
    results = defaultdict(list)
    seen_by_probe = {encoder: standardise(X) for encoder, X in features.items()}
    for seed in tqdm(range(n_seeds), desc=f"{n_labels} labels", file=sys.stderr):
        rows, test = train_test_split(np.arange(len(classes)), test_size=0.3, stratify=classes, random_state=seed)
        for arm, (strategy, encoder, scaling) in ARMS.items():
            chosen = rows[select(strategy, features[encoder][rows], n_labels, seed=seed, scaling=scaling).indices]
            results[arm, "classes"].append(len(set(classes[chosen])))
            for name, X in seen_by_probe.items():
                for measure, score in zip(MEASURES, probe(X, classes, chosen, test), strict=True):
                    results[arm, f"{measure}, {name}"].append(score)
    return results


def probe(X, classes, chosen, test):
    """Accuracy and macro AUROC on the test rows; a class that nobody chose scores as chance."""
    model = LogisticRegression(class_weight="balanced", max_iter=2000).fit(X[chosen], classes[chosen])
    column = {name: i for i, name in enumerate(model.classes_)}
    probabilities = model.predict_proba(X[test])
    none = np.zeros(len(test))
    areas = [
        roc_auc_score(classes[test] == name, probabilities[:, column[name]] if name in column else none)
        for name in np.unique(classes)
    ]
    return float(np.mean(model.predict(X[test]) == classes[test])), float(np.mean(areas))


def table(n_labels, results, n_seeds):
    """Mean ± deviation over the seeds; in brackets the difference to random and its 95 % interval."""
    columns = [f"{measure}, {encoder}" for encoder in ENCODERS for measure in MEASURES]
    caption = (
        f"**{n_labels} labels**, {n_seeds} splits 70/30; mean ± sd of the probe on each encoder's features, and the "
        "paired difference to random with its 95 % interval (t; the splits share images, so it is a little narrow)"
    )
    lines = [
        caption,
        "",
        f"| selection | {' | '.join(columns)} | classes found |",
        f"|---|{'---|' * len(columns)}---|",
    ]
    for arm in ARMS:
        cells = [cell(results[arm, column], results["random", column], is_base=arm == "random") for column in columns]
        lines.append(f"| {arm} | {' | '.join(cells)} | {np.mean(results[arm, 'classes']):.2f} |")
    return "\n".join([*lines, ""])


def cell(values, base, *, is_base):
    text = f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
    if is_base:
        return text
    difference = np.subtract(values, base)
    half = stats.t.ppf(0.975, len(difference) - 1) * stats.sem(difference)
    return f"{text} ({difference.mean():+.3f}, {difference.mean() - half:+.3f} to {difference.mean() + half:+.3f})"


if __name__ == "__main__":
    main()
