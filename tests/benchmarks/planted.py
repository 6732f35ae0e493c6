"""Does the comparison keep quiet where there is nothing, and speak where something was planted?

Run by hand: ``python tests/benchmarks/planted.py`` (about eight minutes on one free core). In each of 200 null runs the
selecting features are noise, while the classes can be learnt from the judging features: any arm that is said to differ
from random is a false alarm. In each of the planted runs 5 % of the studies are of a rare class, which the selecting
features tell apart.
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
from scipy import stats
from tqdm import tqdm

from firstpick.evaluate.arms import RANDOM, all_arms
from firstpick.evaluate.bench import Bench
from firstpick.evaluate.grid import Cells
from firstpick.evaluate.judges import class_judges
from firstpick.evaluate.run import Plan, compare
from firstpick.evaluate.summary import summarise
from firstpick.studies import Study

ARMS = all_arms(["kmeans", "typiclust", "facility_location"], ["selecting"], ["l2"], n_draws=5)
OTHERS = [arm for arm in ARMS if arm.strategy != "random"]
N_STUDIES, BUDGET, N_SPLITS = 120, 10, 10


def main():
    parser = argparse.ArgumentParser(description="False alarms on noise; a rare class found.")
    parser.add_argument("--runs", type=int, default=200, help="null runs (default 200)")
    options = parser.parse_args()
    alarms = {"Nadeau-Bengio, Holm": [], "plain paired t-test, Holm by hand": []}
    for run in tqdm(range(options.runs), file=sys.stderr):
        outcome = compared(bench_of(run, is_noise=True))
        rows = [row for row in summarise(outcome) if row.measure == "auroc" and row.arm != RANDOM]
        alarms["Nadeau-Bengio, Holm"].append(min(row.p_holm for row in rows) < 0.05)
        alarms["plain paired t-test, Holm by hand"].append(min(plain(outcome)) * len(rows) < 0.05)
    limit = 0.05 + 2 * np.sqrt(0.05 * 0.95 / options.runs)
    for name, found in alarms.items():
        print(f"{name}: {np.mean(found):.3f} of {options.runs} null runs raise a false alarm (limit {limit:.3f}).")
    outcome = compared(bench_of(0, is_noise=False))
    for arm in (RANDOM, *OTHERS):
        found = [r.value for r in outcome.results if r.measure == "classes" and r.arm == arm]
        print(f"{arm.name}: finds {np.mean(found):.1f} of 4 classes (the rarest has 5 %) with {BUDGET} labels.")
    if np.mean(alarms["Nadeau-Bengio, Holm"]) > limit:
        sys.exit("Too many false alarms.")


def bench_of(seed, *, is_noise):
    rng = np.random.default_rng(seed)
    counts = [46, 40, 28, 6]
    classes = np.repeat(np.arange(4), counts)
    centres = rng.normal(scale=2, size=(4, 8))
    judging = (centres[classes] + rng.normal(scale=2, size=(N_STUDIES, 8))).astype(np.float32)
    noise = rng.normal(size=(N_STUDIES, 16)).astype(np.float32)
    told = (6 * np.eye(8)[classes] + rng.normal(size=(N_STUDIES, 8))).astype(np.float32)
    return Bench(
        studies=tuple(Study(f"study {row:03}", str(seed), "") for row in range(N_STUDIES)),
        groups=("",) * N_STUDIES,
        classes=tuple(f"class {c}" for c in classes),
        masks=(),
        features={"selecting": noise if is_noise else told, "judging": judging},
        fingerprints={"selecting": f"selecting {seed} {is_noise}", "judging": f"judging {seed}"},
    )


def compared(bench):
    plan = Plan(ARMS, (BUDGET,), n_seeds=N_SPLITS)
    judges = class_judges(bench, ["judging"], None)
    with tempfile.TemporaryDirectory() as folder, closing(Cells(Path(folder))) as cells:  # noqa: SIM117
        with ThreadPoolExecutor(1) as executor:
            work = compare(bench, judges, plan, cells, executor, n_waiting=2)
            while True:
                try:
                    next(work)
                except StopIteration as end:
                    return end.value


def plain(outcome):
    """P-values of the paired t-test that takes the splits for independent."""
    values = {arm: [r.value for r in outcome.results if r.measure == "auroc" and r.arm == arm] for arm in ARMS}
    base = np.mean([values[arm] for arm in ARMS if arm not in OTHERS], axis=0)
    return [stats.ttest_rel(values[arm], base).pvalue for arm in OTHERS]


if __name__ == "__main__":
    main()
