"""What do embeddings know? kNN and a linear probe on pictures, patches and volumes, as a Markdown table.

Run by hand: ``python tests/benchmarks/encoder_quality.py`` (a quarter of an hour on two cores), or with
``--encoder NAME`` and ``--layer``, ``--tokens``, ``--size``, to compare what one encoder offers. Three tasks:

- *MedNIST*: 50 pictures of each of 6 classes, 5 stratified folds;
- *membrane*: 8 patches of each of 30 electron micrographs; is little, some or much of it membrane (thirds of the
  fraction that the masks have)? 5 folds, an image's patches in one;
- *volumes*: random sub-volumes of six large volumes, with noise and another brightness, and 20 hippocampus crops:
  head MR, trunk CT, trunk MR or hippocampus MR? A volume is never compared with itself; trunk MR is one volume and so
  only distracts. The mean of the classes' accuracies.
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut, StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from tqdm import tqdm

from firstpick.encoders import ENCODERS, EncoderSpec, build_encoder, encoder_row, pool_parts
from firstpick.voxels.views import ViewSpec
from firstpick.voxels.volumes import Volume, read_volume

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TRUNK_CT = ("totalseg_ct_aorta_1p5mm", "totalseg_ct_3mm")  # totalseg_ct_sm is a part of the latter
HEAD_MR = ("brainchop_t1_256", "mricron_ch2_t1_1mm")
N_SUB_VOLUMES = 5


def main():
    parser = argparse.ArgumentParser(description="Quality of embeddings, as a Markdown table.")
    parser.add_argument("--encoder", nargs="+", default=embedded(), help="default: all that are installed")
    parser.add_argument("--layer", default="", help="as the key of that name")
    parser.add_argument("--tokens", default="", help="as the key of that name")
    parser.add_argument("--size", type=int, default=0, help="as key views.size")
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS), help="default: all")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the example data")
    options = parser.parse_args()
    tasks = {name: TASKS[name](options.data) for name in options.task}
    print(f"| encoder | {' | '.join(tasks)} | CPU-seconds per picture |\n|---|{'---|' * len(tasks)}---|")
    for name in options.encoder:
        spec = EncoderSpec(name, views=ViewSpec(size=options.size), layer=options.layer, tokens=options.tokens)
        print(row(spec, tasks), flush=True)


def embedded():
    """Encoders whose weights come with packages, or that need none; all installed ones of them."""
    return [name for name, row in ENCODERS.items() if (row.files or not row.takes) and not row.missing()]


def row(spec, tasks):
    """Accuracy of 5-NN and of the linear probe on each task."""
    encoder, cells, seconds = build_encoder(spec), [], None
    for task, (volumes, classes, groups, folds) in tasks.items():
        if encoder_row(spec.name).ndim == 3 and volumes[0].is_picture:
            cells.append("")
            continue
        start = time.process_time()
        X = np.stack([pool_parts(encoder.encode(encoder.parts(volume)), "mean") for volume in tqdm(volumes, desc=task)])
        if volumes[0].is_picture:
            seconds = (time.process_time() - start) / len(volumes)
        knn = make_pipeline(Normalizer(), KNeighborsClassifier(5))
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000))
        cells.append(" / ".join(f"{score(model, X, classes, groups, folds):.3f}" for model in (knn, probe)))
    chosen = "".join(f", {word}" for word in (spec.layer and f"layer {spec.layer}", spec.tokens) if word)
    size = f", {spec.views.size} px" if spec.views.size else ""
    return f"| `{spec.name}`{chosen}{size} | {' | '.join(cells)} | {'' if seconds is None else f'{seconds:.3f}'} |"


def score(model, X, classes, groups, folds):
    """Mean over the classes of the part that is told right; classes of one group cannot be, and do not count."""
    guesses = cross_val_predict(model, X, classes, groups=groups, cv=folds)
    counted = [name for name in np.unique(classes) if len(set(groups[classes == name])) > 1]
    return recall_score(classes, guesses, labels=counted, average="macro", zero_division=0)


def mednist(data):
    with (data / "mednist" / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["file"])
    chosen = [row for name in sorted({row["label"] for row in rows}) for row in of_class(rows, name)[:50]]
    volumes = [read_volume(data / "mednist" / "images" / Path(row["file"]).name) for row in chosen]
    classes = np.array([row["label"] for row in chosen])
    return volumes, classes, np.arange(len(classes)), StratifiedKFold(5, shuffle=True, random_state=0)


def of_class(rows, name):
    return [row for row in rows if row["label"] == name]


def membrane(data):
    volumes, fractions, groups = [], [], []
    for number, path in enumerate(sorted((data / "membrane" / "images").iterdir())):
        pixels = np.asarray(Image.open(path).convert("L"), np.float32)
        mask = np.asarray(Image.open(data / "membrane" / "labels" / path.name).convert("L")) > 0
        for y in range(0, 512, 128):
            for x in range(y % 256, 512, 256):
                volumes.append(picture(pixels[y : y + 128, x : x + 128]))
                fractions.append(mask[y : y + 128, x : x + 128].mean())
                groups.append(number)
    classes = np.digitize(fractions, np.quantile(fractions, [1 / 3, 2 / 3]))
    return volumes, classes, np.array(groups), GroupKFold(5)


def picture(pixels):
    return Volume(np.ascontiguousarray(pixels.T[:, :, None]), (1.0, 1.0, 1.0), is_picture=True)


def volumes(data):
    rng = np.random.default_rng(0)
    full, found, classes, groups = data / "full_size", [], [], []
    large = dict.fromkeys(TRUNK_CT, "trunk CT") | dict.fromkeys(HEAD_MR, "head MR")
    paths = {full / "images" / f"{name}.nii.gz": kind for name, kind in large.items()}
    paths |= {full / "dicom_ct": "trunk CT", full / "images" / "totalseg_mr_sm.nii.gz": "trunk MR"}
    for number, (path, kind) in enumerate(paths.items()):
        whole = read_volume(path)
        for _ in range(N_SUB_VOLUMES):
            found.append(sub_volume(whole, rng))
            classes.append(kind)
            groups.append(number)
    for i, path in enumerate(sorted((data / "hippocampus" / "images").iterdir())[:20]):
        found.append(read_volume(path))
        classes.append("hippocampus MR")
        groups.append(100 + i % 5)
    return found, np.array(classes), np.array(groups), LeaveOneGroupOut()


def sub_volume(whole, rng):
    """A box of 60 to 100 % of each side at a random place, a little noise, another brightness and contrast."""
    sizes = [max(1, round(n * rng.uniform(0.6, 1))) for n in whole.array.shape]
    starts = [rng.integers(0, n - size + 1) for n, size in zip(whole.array.shape, sizes, strict=True)]
    box = tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
    array = whole.array[box]
    noise = rng.normal(0, 0.02 * array.std(), array.shape).astype(np.float32)
    factor = 1.0 if array.min() < -500 else rng.uniform(0.8, 1.25)  # Hounsfield units mean what they say
    return Volume((array * factor + noise).astype(np.float32), whole.spacing, modality=whole.modality)


TASKS = {"MedNIST": mednist, "membrane": membrane, "volumes": volumes}


if __name__ == "__main__":
    sys.exit(main())
