"""Our own evidence: the comparisons from which the tables of its READMEs and the defaults come.

Run by hand; what is done is kept, so it may be stopped at will. All pools of `evidence_pools.py`, by one command:

    python tests/benchmarks/evidence.py pools --quick --out evidence
    python tests/benchmarks/evidence_over_pools.py evidence/pools-quick

Each pool's embeddings and patch features lie in ``state-NAME`` of the folder, its numbers in ``pools-quick/NAME-KIND``
(``pools`` without ``--quick``, ``pools-train`` with ``--train``): a pool that is done costs seconds the next time. With
``--candidates`` other representations are tested against the default's as well.
Four data sets in more depth, one data set and one stage at a time:

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

# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from evidence_pools import CLASSES, MASKS, prepare
from evidence_run import Effort, run_pool

from firstpick.cli import main as firstpick
from firstpick.encoders import ENCODERS
from firstpick.selection import STRATEGIES

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
KINDS = {"mednist": "classes", "hippocampus": "masks", "slices": "masks", "membrane": "masks"}
SETS = tuple(KINDS)
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
LIBRARY, FEW = tuple(sorted(set(STRATEGIES) - {"random"})), ("kmeans", "facility_location", "ward")
EFFORTS = {
    "pools": {
        "classes": Effort(LIBRARY, (5, 10, 20, 50), n_splits=12, n_draws=40, n_repeats=5),
        "masks": Effort(LIBRARY, (5, 10, 20, 50), n_splits=6, n_draws=40, n_repeats=5),
    },
    "pools-quick": {
        "classes": Effort(FEW, (5, 10, 20, 50), n_splits=3, n_draws=20, n_repeats=3),
        "masks": Effort(FEW, (5, 10, 20), n_splits=3, n_draws=20, n_repeats=3),
    },
    "pools-train": {
        "classes": Effort(("kmeans",), (10, 20), n_splits=3, n_draws=3, n_repeats=1),
        "masks": Effort(("kmeans",), (10, 20), n_splits=3, n_draws=3, n_repeats=1),
    },
}
"""What is run on each pool, by the folder that it is written to."""


def main():
    parser = argparse.ArgumentParser(description="Run the comparisons of our evidence.")
    parser.add_argument("data_set", choices=("pools", *SETS))
    parser.add_argument("stage", choices=sorted(STAGES), nargs="?", help="of a single data set")
    parser.add_argument("--out", type=Path, default=Path("evidence"), help="folder for all of it (default evidence)")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with mednist, hippocampus and membrane")
    parser.add_argument("--encoders", default="", metavar="A,B,...", help="of the grid (default: those of the table)")
    parser.add_argument("--seeds", default="", help="splits (default 20, for train 5)")
    parser.add_argument("--budgets", default="", help="labels (default 5,10,20,50, for train 10,20)")
    pools = parser.add_argument_group("all pools")
    pools.add_argument("--quick", action="store_true", help="few strategies and splits")
    pools.add_argument(
        "--only", default="", metavar="A,B,...", help="pools, or NAME-classes and NAME-masks (default all)"
    )
    pools.add_argument("--splits", type=int, metavar="N", help="of each pool (more go on from those that are done)")
    pools.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default one a core)")
    pools.add_argument("--candidates", action="store_true", help="other representations too, against the default")
    pools.add_argument("--train", action="store_true", help="networks from scratch too, for random and the default")
    options, more = parser.parse_known_args()
    if options.data_set == "pools":
        return run_pools(options)
    if not options.stage:
        parser.error("a single data set needs a stage")
    if options.train:
        parser.error("--train is for pools; a single data set has the stage train")
    is_training = options.stage in ("train", "own")
    encoders = options.encoders or ",".join(name for name in GRID_ENCODERS if name in ENCODERS)
    found = prepare(options.data_set, KINDS[options.data_set], options.data, options.out, whole=True)
    command = ["compare", str(found.images), "--labels", str(found.labels)]
    command += ["--state", str(options.out / f"state-{options.data_set}"), *found.options]
    command += STAGES[options.stage](encoders)
    command += ["--seeds", options.seeds or ("5" if is_training else "20")]
    command += ["--budgets", options.budgets or ("10,20" if is_training else "5,10,20,50"), *more]
    folder = options.out / f"{options.data_set}-{options.stage}"
    if options.stage != "embedding":
        return firstpick([*command, "--out", str(folder)])
    for name in list(EMBEDDINGS)[: None if options.data_set == "hippocampus" else N_OF_PICTURES]:
        settings = [part for key, value in EMBEDDINGS[name].items() for part in ("--conf", key, str(value))]
        if code := firstpick([*command, *settings, "--out", str(folder / name)]):
            return code
    return 0


def run_pools(options):
    """Compare on every pool, one after the other, and say how long each took."""
    folder = "pools-train" if options.train else "pools-quick" if options.quick else "pools"
    wanted = [(name, kind) for kind, names in (("classes", CLASSES), ("masks", MASKS)) for name in names]
    only = [name for name in options.only.split(",") if name]
    for name, kind in wanted:
        if not only or {name, f"{name}-{kind}"} & set(only):
            start = time.monotonic()
            places = {"data": options.data, "out": options.out / folder, "embeddings": options.out}
            effort = EFFORTS[folder][kind]
            effort = replace(
                effort, n_splits=options.splits or effort.n_splits, candidates=options.candidates and not options.train
            )
            run_pool(name, kind, effort, **places, n_workers=options.workers, train=options.train)
            print(f"{name}, {kind}: {time.monotonic() - start:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
