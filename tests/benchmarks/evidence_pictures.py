"""What the default chose on three pools: a map of each pool with the ten picks, and the picks themselves.

Run by hand after ``evidence.py pools``, in whose folder the embeddings lie:

    python tests/benchmarks/evidence_pictures.py evidence --out tests/benchmarks/evidence/pools/picks.jpg

The map shows the first two principal components of the unit rows that the default clusters, coloured by class. The
pictures of these three pools may be shown: their repositories are under MIT and Apache-2.0.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from io import BytesIO
from pathlib import Path

import numpy as np
from evidence_pools import prepare
from matplotlib.figure import Figure
from PIL import Image

from firstpick.config import Config
from firstpick.embedding.cache import Cache
from firstpick.encoders import EncoderSpec
from firstpick.evaluate.labels import read_classes
from firstpick.selection import select
from firstpick.sources.folder import list_studies

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
POOLS = ("anemia_smears", "cxr_tb_lungs", "glaucoma_airogs")
N_PICKS = 10
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")  # Okabe & Ito


def main():
    parser = argparse.ArgumentParser(description="Show what the default chose on three pools.")
    parser.add_argument("evidence", type=Path, help="folder that evidence.py pools wrote")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "evidence" / "pools" / "picks.jpg")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the pools")
    options = parser.parse_args()
    figure = Figure(figsize=(11, 2.6 * len(POOLS)), layout="constrained")
    for part, name in zip(figure.subfigures(len(POOLS), 1), POOLS, strict=True):
        draw(part, name, *picked(name, options))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, dpi=80, pil_kwargs={"quality": 88, "optimize": True})


def picked(name, options):
    """Unit rows and class of each study, the default's picks, and their pictures."""
    prepared = prepare(name, "classes", options.data, options.evidence)
    studies = list_studies(prepared.images)[0]
    classes = read_classes(str(prepared.labels), studies)
    with closing(Cache(options.evidence / f"state-{name}")) as cache:
        pool = cache.pool(EncoderSpec().fingerprint(), [study for study in studies if study.study_id in classes])
        chosen = select("kmeans", pool.vectors, N_PICKS, guards=Config().guards).indices
        by_id = {study.study_id: study for study in studies}
        thumbnails = [cache.thumbnail(by_id[pool.study_ids[row]]) for row in chosen]
        pictures = [np.array(Image.open(BytesIO(thumbnail))) for thumbnail in thumbnails]
    unit = pool.vectors / np.linalg.norm(pool.vectors, axis=1, keepdims=True)
    return unit, [classes[study_id] for study_id in pool.study_ids], chosen, pictures


def draw(part, name, unit, classes, chosen, pictures):
    """Draw the map on the left, the picks on the right."""
    left, right = part.subfigures(1, 2, width_ratios=(1, 2.4))
    axis = left.subplots()
    centred = unit - unit.mean(axis=0)
    where = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    names = sorted(set(classes))
    for label, colour in zip(names, COLOURS, strict=False):
        own = np.array([one == label for one in classes])
        axis.scatter(*where[own].T, s=9, color=colour, alpha=0.6, label=label, linewidths=0)
    axis.scatter(*where[chosen].T, s=60, facecolors="none", edgecolors="k", linewidths=1.2)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(name, fontsize=10, loc="left")
    axis.legend(fontsize=6, frameon=False, loc="best")
    for cell, row, picture in zip(right.subplots(2, N_PICKS // 2).ravel(), chosen, pictures, strict=True):
        cell.imshow(picture, cmap="gray")
        cell.set_title(classes[row], fontsize=7, color=COLOURS[names.index(classes[row])])
        cell.axis("off")


if __name__ == "__main__":
    main()
