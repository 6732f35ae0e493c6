"""Strategies against their peers: ratio of times, memory, and the criterion reached, on the same arrays in one run.

Run by hand: ``python tests/benchmarks/selection_speed.py --rows 500 2000 10000 100000`` (about half an hour on two
cores; ``--strategies`` and ``--no-peers`` make it shorter). Peers are a straightforward dense implementation of each
method (every step over the whole n x n array), scikit-learn's KMeans, and scikit-activeml; all of them up to 10,000
rows. With ``--exactness`` the peer is FirstPick itself without the samples by which it goes above 20,000 rows
(``--rows 25000 --exactness``; takes 3 GB). Every cell is a process of its own; its memory is the most it held, less
what it held with the pool loaded.

The pool is made of blobs in 384 dimensions with 3 % outliers, or the embeddings in ``--pool FILE`` (what
``firstpick export`` writes). Rows have length 1. What is reached is judged by one criterion of each method:

- *distance*: mean distance of a row to its nearest pick, smaller is better
- *radius*: distance of the farthest row to its nearest pick, outliers (3 %) left out, smaller is better
- *herding*: mean of the largest ``exp(-d²)`` to a pick, larger is better
- *cosine*: mean of the largest cosine to a pick, larger is better
- *coverage*: part of the rows within a radius of a pick, the median distance to the 20th neighbour (which `probcover`
  and its peers get, instead of looking for one), larger is better
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
import warnings

import numpy as np

from firstpick.selection import STRATEGIES, clustering, greedy, outliers, select

SPAWN = multiprocessing.get_context("spawn")
BATCH = {500: 20, 2000: 20, 10_000: 100, 100_000: 100}
CRITERION = {
    "kcenter": "radius",
    "maxherding": "herding",
    "facility_location": "cosine",
    "repdiv": "cosine",
    "probcover": "coverage",
}
PEERS = {
    "kmeans": ("sklearn",),
    "typiclust": ("skactiveml",),
    "kcenter": ("dense", "skactiveml"),
    "maxherding": ("dense",),
    "facility_location": ("dense",),
    "probcover": ("dense", "skactiveml"),
}
MAX_DENSE = 10_000
SAMPLED = ("facility_location", "kcenter", "kmeans", "maxherding", "probcover")


def main():
    parser = argparse.ArgumentParser(description="Strategies against their peers, as a Markdown table.")
    parser.add_argument("--rows", type=int, nargs="+", default=[500, 2000, 10_000, 100_000])
    parser.add_argument("--strategies", nargs="+", default=sorted(STRATEGIES))
    parser.add_argument("--pool", metavar="FILE", help="a .npz of firstpick export instead of blobs")
    parser.add_argument("--batch", type=int, help="picks (default 20 up to 2,000 rows, 100 above)")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--exactness", action="store_true", help="compare with FirstPick on all rows, not on a sample")
    parser.add_argument("--seconds", type=float, default=300.0, help="after which a peer is given up (default 300)")
    options = parser.parse_args()
    sizes = options.rows if options.pool is None else [len(load(options.pool, 0))]
    for n_rows in sizes:
        n_select = options.batch or BATCH.get(n_rows, 20 if n_rows <= 2000 else 100)
        print(f"\n**{n_rows:,} rows, {n_select} picks**\n", flush=True)
        print("| strategy | seconds | MB | criterion | reached | peer: seconds, MB, reached | times faster |")
        print("|---|---|---|---|---|---|---|", flush=True)
        for strategy in options.strategies:
            print(row(strategy, n_rows, n_select, options), flush=True)


def row(strategy, n_rows, n_select, options):
    """One line of the table: FirstPick, then each peer."""
    seconds, memory, picks = timed(strategy, "firstpick", n_rows, n_select, options)
    X = load(options.pool, n_rows)
    criterion = CRITERION.get(strategy, "distance")
    reached = measure(X, picks, criterion)
    cells, ratios = [], []
    for peer in peers_of(strategy, n_rows, options):
        found = timed(strategy, peer, n_rows, n_select, options)
        if found is None:
            cells.append(f"{peer}: given up after {options.seconds:.0f} s")
            ratios.append(f"> {options.seconds / seconds:.0f}")
            continue
        cells.append(f"{peer}: {found[0]:.2f}, {found[1]:.0f}, {measure(X, found[2], criterion):.4f}")
        ratios.append(f"{found[0] / seconds:.1f}")
    return (
        f"| `{strategy}` | {seconds:.2f} | {memory:.0f} | {criterion} | {reached:.4f} | "
        f"{'; '.join(cells)} | {'; '.join(ratios)} |"
    )


def peers_of(strategy, n_rows, options):
    if options.exactness:
        return ("exact",) if strategy in SAMPLED else ()
    return () if options.no_peers or n_rows > MAX_DENSE else PEERS.get(strategy, ())


def timed(strategy, who, n_rows, n_select, options):
    """Seconds, memory and picks of one run in a process of its own; None if it took too long."""
    results = SPAWN.SimpleQueue()
    process = SPAWN.Process(target=run, args=(strategy, who, options.pool, n_rows, n_select, results))
    process.start()
    limit = None if who == "firstpick" else options.seconds
    process.join(limit) if results.empty() else None
    if process.is_alive():
        process.kill()
        process.join()
        return None
    if process.exitcode:
        sys.exit(f"{who} failed at {strategy} with {n_rows} rows.")
    return results.get()


def run(strategy, who, pool, n_rows, n_select, results):
    """In a process of its own: load everything, warm up on few rows, then the clock."""
    warnings.simplefilter("ignore")
    X = load(pool, n_rows)
    call = {"firstpick": ours, "exact": exact, "dense": dense, "sklearn": sklearn_kmeans, "skactiveml": skactiveml}[who]
    call(strategy, X[:64], 4)
    before = peak_mb()
    start = time.perf_counter()
    picks = call(strategy, X, n_select)
    seconds = time.perf_counter() - start
    results.put((seconds, peak_mb() - before, np.asarray(picks)))


def load(path, n_rows):
    """Unit rows, float32: embeddings of a file, or blobs with outliers."""
    if path is not None:
        with np.load(path, allow_pickle=False) as file:
            X = file["vectors"]
    else:
        rng = np.random.default_rng(0)
        centres = rng.normal(size=(40, 384)).astype(np.float32)
        X = centres[rng.integers(40, size=n_rows)]
        X += rng.normal(size=X.shape).astype(np.float32) * 0.7
        outliers = rng.permutation(n_rows)[: round(0.03 * n_rows)]
        X[outliers] = rng.normal(size=(len(outliers), 384)) * 1.5
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


# -- who chooses


def ours(strategy, X, n_select):
    params = {"radius": radius(X)} if strategy == "probcover" else {}
    return select(strategy, X, n_select, **params).indices


def exact(strategy, X, n_select):
    """The same on all rows, however many: no sample of them, and all similarities kept."""
    greedy.EXACT_ROWS = clustering._START_ROWS = clustering._SAMPLE_ROWS = len(X)
    greedy._KEPT_BYTES = 4 * len(X) ** 2
    outliers._SAMPLE = len(X)
    return ours(strategy, X, n_select)


def sklearn_kmeans(_, X, n_select):
    """scikit-learn's own k-means, above 2,000 rows with three starts, and the row nearest to each centre."""
    from sklearn.cluster import KMeans

    n_init = 10 if len(X) <= 2000 else 3
    model = KMeans(n_select, n_init=n_init, random_state=0).fit(X)
    return np.unique(model.transform(X).argmin(axis=0))


def skactiveml(strategy, X, n_select):
    from skactiveml import pool
    from skactiveml.classifier import ParzenWindowClassifier  # noqa: F401  fails early where the package is broken
    from skactiveml.utils import MISSING_LABEL

    y = np.full(len(X), MISSING_LABEL)
    strategies = {
        "typiclust": lambda: pool.TypiClust(random_state=0, k=20),
        "probcover": lambda: pool.ProbCover(random_state=0, n_classes=6, deltas=[radius(X)]),
        "kcenter": lambda: pool.CoreSet(random_state=0),
    }
    return strategies[strategy]().query(X, y, batch_size=n_select)


def dense(strategy, X, n_select):
    """The plain greedy algorithm over the whole n x n array."""
    squared = np.maximum(2.0 - 2.0 * (X @ X.T), 0.0)
    picks = []
    if strategy == "kcenter":
        distance = np.sqrt(squared)
        picks = [int(np.linalg.norm(X - X.mean(axis=0), axis=1).argmin())]
        while len(picks) < n_select:
            picks.append(int(distance[:, picks].min(axis=1).argmax()))
        return picks
    if strategy == "probcover":
        close, covered = squared <= radius(X) ** 2, np.zeros(len(X), bool)
        while len(picks) < n_select:
            picks.append(int((close & ~covered).sum(axis=1).argmax()))
            covered |= close[picks[-1]]
        return picks
    kernel = np.exp(-squared) if strategy == "maxherding" else 1.0 - squared / 2.0
    largest = np.zeros(len(X), np.float32)
    while len(picks) < n_select:
        gains = np.maximum(kernel - largest, 0.0).mean(axis=1)
        gains[picks] = -1
        picks.append(int(gains.argmax()))
        largest = np.maximum(largest, kernel[picks[-1]])
    return picks


# -- how good it is


def radius(X):
    """Median distance to the 20th neighbour, of 500 rows: the same for all who want a radius."""
    some = X[:: max(1, len(X) // 500)]
    nth = np.partition(np.maximum(2.0 - 2.0 * (some @ X.T), 0.0), 20, axis=1)[:, 20]
    return float(np.sqrt(np.median(nth)))


def measure(X, picks, criterion):
    cosine = np.concatenate([(X[i : i + 10_000] @ X[picks].T).max(axis=1) for i in range(0, len(X), 10_000)])
    squared = np.maximum(2.0 - 2.0 * cosine, 0.0)
    if criterion == "radius":
        return float(np.quantile(np.sqrt(squared), 0.97))
    if criterion == "herding":
        return float(np.exp(-squared).mean())
    if criterion == "cosine":
        return float(cosine.mean())
    if criterion == "coverage":
        return float((squared <= radius(X) ** 2 + 1e-6).mean())
    return float(np.sqrt(squared).mean())


if __name__ == "__main__":
    main()
