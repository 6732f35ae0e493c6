"""Our own evidence: the comparisons from which the tables of its READMEs and the defaults come.

Run by hand, a data set and a stage at a time; what is done is kept, so it may be stopped at will:

    python tests/benchmarks/evidence.py mednist grid --out evidence
    python tests/benchmarks/evidence.py hippocampus train --out evidence
    firstpick ranks evidence/mednist-grid evidence/hippocampus-grid evidence/slices-grid

Data sets: ``mednist`` (classes), ``hippocampus`` (3-D masks), ``slices`` (every fourth axial slice of hippocampus as a
picture, grouped by volume), ``membrane`` (tiles of 128 pixels, grouped by blocks of five neighbouring sections: an
example, without tests, since all tiles come from one stack).

Stages: ``grid`` (encoders x strategies x scalings, judged by the quick stand-ins), ``paper`` (the arms of Yuan & Hong,
with k-means' steps), ``train`` and ``own`` (its arms, and our default: two budgets, five splits, networks trained from
scratch), ``embedding`` (blocks, tokens, pooling and views of the default encoder). `evidence_summary.py` sums up.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from firstpick.cli import main as firstpick
from firstpick.encoders import ENCODERS
from firstpick.selection import STRATEGIES
from firstpick.voxels.volumes import read_volume

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SETS = ("mednist", "hippocampus", "slices", "membrane")
PACKAGED = ("pixels", "efficientnet-lite0", "dinov2-s", "medsam-lite")
GRID_ENCODERS = ("dinov2-s", "efficientnet-lite0", "medsam-lite", "pixels", "random-init")
SCALINGS = "l2,none,standardise,pca,whiten"
STAGES = {
    "grid": lambda encoders: [
        *("--encoders", encoders, "--strategies", ",".join(sorted(set(STRATEGIES) - {"random"}))),
        *("--scalings", SCALINGS),
    ],
    "paper": lambda _: ["--preset", "yuan-hong", "--scalings", "standardise,l2", "--judges", ",".join(PACKAGED)],
    "train": lambda _: [
        *("--train", "--judges", "pixels", "--encoders", ",".join(PACKAGED)),
        *("--strategies", "kmeans", "--scalings", "standardise"),
    ],
    "own": lambda _: [
        *("--train", "--judges", "pixels", "--encoders", "dinov2-s"),
        *("--strategies", "kmeans", "--scalings", "l2"),
    ],
    "embedding": lambda _: [
        *("--encoders", "dinov2-s", "--judges", "pixels,efficientnet-lite0"),
        *("--strategies", "kmeans,ward,typiclust,maxherding", "--scalings", "l2,standardise,whiten"),
    ],
}
EMBEDDINGS = {
    **{f"block-{n}-{tokens}": {"layer": n, "tokens": tokens} for n in (6, 9, 12) for tokens in ("patch", "class")},
    "size-168": {"views.size": 168},
    "mean+max": {"pooling": "mean+max"},
    "per-plane": {"pooling": "per-plane"},
    "axial": {"views.planes": "[axial]", "views.per_plane": 9},
    "one-a-plane": {"views.per_plane": 1},
    "six-a-plane": {"views.per_plane": 6},
}
"""What may be set of the default encoder; pictures have the first few."""
N_OF_PICTURES = 7
N_SECTIONS, TILE = 5, 128


def main():
    parser = argparse.ArgumentParser(description="Run one comparison of our evidence.")
    parser.add_argument("data_set", choices=SETS)
    parser.add_argument("stage", choices=sorted(STAGES))
    parser.add_argument("--out", type=Path, default=Path("evidence"), help="folder for all of it (default evidence)")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with mednist, hippocampus and membrane")
    parser.add_argument("--encoders", default="", metavar="A,B,...", help="of the grid (default: those of the table)")
    parser.add_argument("--seeds", default="", help="splits (default 20, for train 5)")
    parser.add_argument("--budgets", default="", help="labels (default 5,10,20,50, for train 10,20)")
    options, more = parser.parse_known_args()
    is_training = options.stage in ("train", "own")
    encoders = options.encoders or ",".join(name for name in GRID_ENCODERS if name in ENCODERS)
    images, labels, own = prepared(options.data_set, options.data, options.out)
    command = ["compare", str(images), "--labels", str(labels)]
    command += ["--state", str(options.out / f"state-{options.data_set}"), *own, *STAGES[options.stage](encoders)]
    command += ["--seeds", options.seeds or ("5" if is_training else "20")]
    command += ["--budgets", options.budgets or ("10,20" if is_training else "5,10,20,50"), *more]
    folder = options.out / f"{options.data_set}-{options.stage}"
    if options.stage != "embedding":
        sys.exit(firstpick([*command, "--out", str(folder)]))
    for name in list(EMBEDDINGS)[: None if options.data_set == "hippocampus" else N_OF_PICTURES]:
        settings = [part for key, value in EMBEDDINGS[name].items() for part in ("--conf", key, str(value))]
        if code := firstpick([*command, *settings, "--out", str(folder / name)]):
            sys.exit(code)


def prepared(data_set, data, out):
    """Images, labels, and what else the command needs."""
    if data_set == "mednist":
        return data / "mednist" / "images", data / "mednist" / "labels.csv", []
    if data_set == "hippocampus":
        return data / "hippocampus" / "images", data / "hippocampus" / "labels", []
    folder = out / f"data-{data_set}"
    if not (folder / "complete").exists():
        (write_slices if data_set == "slices" else write_tiles)(data, folder)
        (folder / "complete").touch()
    own = ["--conf", "groups.by", "id:^(hippocampus_[0-9]+)"]
    if data_set == "membrane":
        own = ["--no-tests", "--conf", "groups.by", "folder", "--conf", "groups.max", "0"]
    return folder / "images", folder / "labels", own


def write_slices(data, folder, *, every=4):
    """Write every fourth axial slice of each volume and its mask."""
    for path in sorted((data / "hippocampus" / "images").glob("*.nii.gz")):
        volume = read_volume(path).array
        label = read_volume(data / "hippocampus" / "labels" / path.name).array
        low, high = np.percentile(volume, (0.5, 99.5))
        scaled = (np.clip((volume - low) / (high - low), 0, 1) * 255).astype(np.uint8)
        for z in range(every // 2, volume.shape[2], every):
            name = f"{path.name.removesuffix('.nii.gz')}_{z:02}.png"
            save(folder / "images" / name, scaled[..., z].T[::-1])
            save(folder / "labels" / name, label[..., z].astype(np.uint8).T[::-1])


def write_tiles(data, folder):
    """Cut each section into tiles; sections that lie side by side share a folder, which is their group."""
    for path in sorted((data / "membrane" / "images").glob("*.png")):
        section = int(path.stem)
        image = np.array(Image.open(path).convert("L"))
        cells = np.array(Image.open(data / "membrane" / "labels" / path.name).convert("L"))
        membrane = (cells < 128).astype(np.uint8)
        for y in range(0, image.shape[0], TILE):
            for x in range(0, image.shape[1], TILE):
                name = f"block_{section // N_SECTIONS}/section_{section:02}_{y:03}_{x:03}.png"
                where = np.s_[y : y + TILE, x : x + TILE]
                save(folder / "images" / name, image[where])
                save(folder / "labels" / name, membrane[where])


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(array)).save(path)


if __name__ == "__main__":
    main()
