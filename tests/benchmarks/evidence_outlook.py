"""Does the outlook on a pool, which sees no label, tell where choosing gains? Its clumping beside the oracle's gain.

Run by hand after ``evidence.py pools``, in whose folder the embeddings lie:

    python tests/benchmarks/evidence_outlook.py evidence/pools-quick

Gains are means over judges and budgets. The outlook errs where a pool in clumps gives the oracle less than .02, and
where one without gives it .04 or more.
"""

# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
from contextlib import closing
from itertools import cycle
from pathlib import Path

import numpy as np
from evidence_over_pools import DEFAULT, ORACLE, Pool, interval
from evidence_pools import prepare
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from firstpick.embedding.cache import Cache
from firstpick.encoders import EncoderSpec
from firstpick.evaluate.tables import markdown
from firstpick.proposal.outlook import CLUMPED, outlook
from firstpick.sources.folder import list_studies

HERE = Path(__file__).parent
DATA = HERE.parents[2] / "shared" / "data"
LITTLE, MUCH = 0.02, 0.04
LOOKS = {"classes": ("o", "#0072B2"), "masks": ("s", "#D55E00")}


def main():
    parser = argparse.ArgumentParser(description="Hold the outlook to what an oracle gains.")
    parser.add_argument("pools", type=Path, help="folder that evidence.py pools wrote")
    parser.add_argument("--out", type=Path, default=HERE / "evidence" / "pools" / "outlook.png")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the pools")
    options = parser.parse_args()
    folders = sorted(path.parent for path in options.pools.glob("*/results.csv"))
    pools = [Pool(folder) for folder in folders]
    clumping = np.array([clumping_of(pool, options) for pool in pools])
    oracle, default = (np.array([gain(pool, arm) for pool in pools]) for arm in (ORACLE, DEFAULT))
    for kind in LOOKS:
        own = np.array([pool.kind == kind for pool in pools])
        rank = spearmanr(clumping[own], oracle[own]).statistic
        print(f"{kind}: rank correlation of clumping with the oracle's gain {rank:.2f} over {own.sum()} pools")
    print(markdown(list(table(pools, clumping, oracle, default))))
    draw(pools, clumping, oracle).savefig(options.out, dpi=80)


def clumping_of(pool, options):
    """What is said of a pool's embeddings alone."""
    prepared = prepare(pool.name, pool.kind, options.data, options.pools.parent)
    with closing(Cache(options.pools.parent / f"state-{pool.name}")) as cache:
        return outlook(cache.pool(EncoderSpec().fingerprint(), list_studies(prepared.images)[0]).vectors).clumping


def gain(pool, arm):
    """Mean over judges and budgets."""
    cells = {(judge, budget) for judge, _, budget in pool.values}
    return float(np.nanmean([pool.gain(judge, arm, budget) for judge, budget in sorted(cells)]))


def table(pools, clumping, oracle, default):
    """Yield a row for each verdict and kind of labels."""
    yield ["labels", "verdict", "pools", "the oracle gains", "the default gains", "it gains on", "errors"]
    for kind in LOOKS:
        for verdict, is_told in (("in clumps", clumping >= CLUMPED), ("no clumps", clumping < CLUMPED)):
            own = is_told & np.array([pool.kind == kind for pool in pools])
            if not own.any():
                continue
            wrong = oracle[own] < LITTLE if verdict == "in clumps" else oracle[own] >= MUCH
            names = ", ".join(
                f"`{pool.name}`" for pool, is_one in zip(np.array(pools)[own], wrong, strict=True) if is_one
            )
            gains = ["{:+.3f} ({:+.3f} to {:+.3f})".format(*interval(values[own])) for values in (oracle, default)]
            yield [kind, verdict, str(own.sum()), *gains, f"{(default[own] > 0).sum()}", names or "none"]


def draw(pools, clumping, oracle):
    """Clumping of each pool against what the oracle gains there."""
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axis = figure.subplots()
    axis.axvline(CLUMPED, color="#888888", linestyle="--", linewidth=1)
    axis.axhline(0, color="#888888", linewidth=1)
    for kind, (mark, colour) in LOOKS.items():
        own = np.array([pool.kind == kind for pool in pools])
        axis.scatter(clumping[own], oracle[own], marker=mark, color=colour, label=f"{kind}", alpha=0.85)
    named = [row for row in np.argsort(clumping) if clumping[row] >= CLUMPED]
    for row, below in zip(named, cycle((12, -4, 3)), strict=False):
        at = (clumping[row], oracle[row])
        axis.annotate(pools[row].name, at, textcoords="offset points", xytext=(6, -below), fontsize=8)
    axis.set_xlim(right=clumping.max() * 1.2)
    axis.set_xlabel("clumping, from the embeddings alone (right of the line: choosing is said to be worth it)")
    axis.set_ylabel("what the oracle gains over random")
    axis.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
