"""What our comparisons say over all pools: gains, shares of the oracle's, and the seed paper's claims.

Run by hand after ``evidence.py pools``, on whatever of it is finished:

    python tests/benchmarks/evidence_over_pools.py evidence/pools --readme monailabel_app/firstpick/evaluate/README.md

The pool is the unit: splits of one pool tell of that pool alone. A gain is an arm's mean over its repeats and splits,
less that of random batches of the same size; intervals (95 %) come of drawing pools anew 10,000 times. A share is the
sum of an arm's gains over that of the oracle's. Where two arms are compared, judges count that are kin to neither.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from evidence_candidates import CANDIDATES
from evidence_contrasts import contrasts_of, contrasts_table
from evidence_figures import pools as draw_pools

from firstpick.evaluate.arms import FOREGROUND
from firstpick.evaluate.tables import markdown
from firstpick.selection import STRATEGIES

DECIDING = ("auroc", "dice")
COUNTER, STEPS = "k-means", "iterations"
DEFAULT = "kmeans, dinov2-s, l2"
ORACLE = "oracle, dinov2-s, l2"
IMAGENET, PIXELS = "kmeans, efficientnet-lite0, l2", "kmeans, pixels, l2"
LIBRARY = ", dinov2-s, l2"
BEST = "best strategy on the other pools"
RANDOM = "random"
N_DRAWN = 10_000
BEGIN, END = "<!-- begin: evidence_over_pools.py -->", "<!-- end: evidence_over_pools.py -->"
_OFTEN = 0.025


class Pool:
    """What was measured on one pool: judge, arm and budget to values of shape (n_draws, n_splits)."""

    def __init__(self, folder):
        self.name, _, self.kind = folder.name.rpartition("-")
        found = defaultdict(dict)
        with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                if line["measure"] in (*DECIDING, STEPS):
                    key = (line["judge"], line["arm"], int(line["budget"]))
                    found[key][int(line["draw"]), int(line["seed"])] = float(line["value"] or "nan")
        values = {key: _matrix(cells) for key, cells in found.items()}
        self.values = {key: value for key, value in values.items() if key[0] != COUNTER}
        self.steps = {(arm, budget): value for (judge, arm, budget), value in values.items() if judge == COUNTER}
        with (folder / "headroom.csv").open(newline="", encoding="utf-8") as file:
            self.headroom = {(line["judge"], int(line["budget"])): line for line in csv.DictReader(file)}

    def gain(self, judge, arm, budget, against=RANDOM):
        """Mean gain of one cell; NaN where it was not measured."""
        own, other = (self.values.get((judge, one, budget)) for one in (arm, against))
        if own is None or other is None:
            return np.nan
        return float(np.nanmean(np.nanmean(own, axis=0) - np.nanmean(other, axis=0)))


def _matrix(cells):
    draws, seeds = (sorted({key[i] for key in cells}) for i in (0, 1))
    return np.array([[cells.get((draw, seed), np.nan) for seed in seeds] for draw in draws])


def interval(values, reference=None):
    """Mean over the pools, or the ratio of two sums, and its 95 % interval by drawing pools anew.

    A ratio has no interval (NaN) where more than one draw in forty has nothing above 0 to divide by.
    """
    values = np.asarray(values)
    drawn = np.random.default_rng(0).integers(len(values), size=(N_DRAWN, len(values)))
    if reference is None:
        return (float(values.mean()), *map(float, np.percentile(values[drawn].mean(axis=1), (2.5, 97.5))))
    reference = np.asarray(reference)
    below = reference[drawn].sum(axis=1)
    ratio = float(values.sum() / reference.sum()) if reference.sum() > 0 else np.nan
    if np.mean(below <= 0) > _OFTEN:
        return ratio, np.nan, np.nan
    ratios = values[drawn].sum(axis=1)[below > 0] / below[below > 0]
    return (ratio, *map(float, np.percentile(ratios, (2.5, 97.5))))


def lines_of(pools, kind):
    """A line for each judge, arm and budget, and for all budgets."""
    own = [pool for pool in pools if pool.kind == kind]
    judges, arms, budgets = (sorted({key[i] for pool in own for key in pool.values}) for i in (0, 1, 2))
    lines = []
    for judge in judges:
        table = {
            arm: np.array([[pool.gain(judge, arm, budget) for budget in budgets] for pool in own])
            for arm in arms
            if arm != RANDOM
        }
        if BEST not in table and (library := [arm for arm in table if arm.endswith(LIBRARY) and arm != ORACLE]):
            table[BEST] = np.stack([table[_best_without(table, library, row)][row] for row in range(len(own))])
        for arm, gains in table.items():
            if not np.isnan(gains).all():
                for at, budget in [*enumerate(budgets), (None, "all")]:
                    lines.append({"kind": kind, "judge": judge, "arm": arm, **_line(gains, table[ORACLE], at, budget)})
    return lines


def _best_without(table, library, row):
    """Strategy with the largest mean gain on all pools but one."""
    others = np.arange(len(table[library[0]])) != row
    return max(library, key=lambda arm: np.nanmean(table[arm][others]) if others.any() else 0.0)


def _line(gains, oracle, at, budget):
    """Sum up one arm at one budget (a column), or over all."""
    cells = gains if at is None else gains[:, [at]]
    best = oracle if at is None else oracle[:, [at]]
    is_known = ~np.isnan(cells).all(axis=1)
    by_pool, best = np.nanmean(cells[is_known], axis=1), np.nanmean(best[is_known], axis=1)
    mean, share = interval(by_pool), interval(by_pool, best)
    known = cells[~np.isnan(cells)]
    return {
        "budget": budget, "n_pools": len(by_pool), "gain": mean[0], "low": mean[1], "high": mean[2],
        "share": share[0], "share_low": share[1], "share_high": share[2], "pools_won": int((by_pool > 0).sum()),
        "cells_won": int((known > 0).sum()), "n_cells": len(known), "worst_cell": float(known.min()),
    }  # fmt: skip


def headroom_of(pools, kind):
    """What random batches do at each budget, means over the pools."""
    own = [pool for pool in pools if pool.kind == kind]
    keys = sorted({key for pool in own for key in pool.headroom}, key=lambda key: (key[0], key[1]))
    lines = []
    for judge, budget in keys:
        found = [pool.headroom[judge, budget] for pool in own if (judge, budget) in pool.headroom]
        with_values = [pool.values[judge, RANDOM, budget] for pool in own if (judge, RANDOM, budget) in pool.values]
        low = [np.nanmean(np.nanpercentile(v, 5, axis=0) - np.nanmean(v, axis=0)) for v in with_values]
        names = ("mean", "best", "best_of_halves")
        means = {name: float(np.mean([float(line[name]) for line in found])) for name in names}
        lines.append({"kind": kind, "judge": judge, "budget": budget, "n_pools": len(found), **means})
        lines[-1]["worst"] = float(np.mean(low))
    return lines


def claims_of(pools):
    """The seed paper's claims: the default's arm against each baseline, and its spread over splits and repeats."""
    lines = []
    for kind, other in ((k, o) for k in ("classes", "masks") for o in (RANDOM, PIXELS, IMAGENET)):
        gains, spreads = [], []
        for pool in (pool for pool in pools if pool.kind == kind):
            cells = [
                (pool.gain(judge, DEFAULT, budget, other), *_spreads(pool, judge, budget, other))
                for judge, arm, budget in pool.values
                if arm == DEFAULT and (judge, other, budget) in pool.values
            ]
            if cells:
                gains.append(np.mean([cell[0] for cell in cells]))
                spreads.append(np.mean([cell[1:] for cell in cells], axis=0))
        if gains:
            mean, spread = interval(gains), interval(*np.transpose(spreads))
            lines.append(
                {
                    "kind": kind, "against": other, "n_pools": len(gains), "gain": mean[0], "low": mean[1],
                    "high": mean[2], "pools_won": int((np.array(gains) > 0).sum()), "spread_ratio": spread[0],
                    "spread_low": spread[1], "spread_high": spread[2],
                }
            )  # fmt: skip
    return lines


def steps_of(pools):
    """How many steps k-means takes on the default's features for each that it takes on others; means over the pools."""
    lines = []
    for other in (PIXELS, IMAGENET):
        ratios = []
        for pool in pools:
            budgets = [budget for arm, budget in pool.steps if arm == DEFAULT]
            if budgets:
                own, base = (sum(pool.steps[arm, budget].mean() for budget in budgets) for arm in (DEFAULT, other))
                ratios.append(own / base)
        if ratios:
            mean = interval(ratios)
            n_fewer = int((np.array(ratios) < 1).sum())
            lines.append({"against": other, "n_pools": len(ratios), "ratio": mean[0], "low": mean[1], "high": mean[2]})
            lines[-1]["pools_with_fewer"] = n_fewer
    return lines


def steps_table(lines):
    """A line for each encoder that the default's is compared with."""
    rows = [
        [line["against"], f"{line['ratio']:.2f} ({line['low']:.2f} to {line['high']:.2f})",
         f"{line['pools_with_fewer']} of {line['n_pools']}"]
        for line in lines
    ]  # fmt: skip
    return markdown(
        [["steps of k-means on the default's features, to one on those of", "ratio", "fewer on pools"], *rows]
    )


def _spreads(pool, judge, budget, other):
    """Standard deviations over repeats or draws on one split, roots of the mean over the splits."""
    return [
        float(np.sqrt(np.nanmean(np.nanvar(pool.values[judge, arm, budget], axis=0, ddof=1))))
        for arm in (DEFAULT, other)
    ]


def write(path, lines):
    """Write tidy lines as CSV; six digits say all that is meant."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, lines[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in line.items()} for line in lines)


def summary_of(lines, rooms, pools, kind):
    """The few lines that the manual shows: the oracle, the default, the best of the library, random."""
    own = [line for line in lines if line["kind"] == kind and line["arm"] in (ORACLE, DEFAULT, BEST)]
    text = table_of(own, kind).splitlines()
    n_columns = text[0].count("|") - 1
    for judge in dict.fromkeys(room["judge"] for room in rooms if room["kind"] == kind):
        found = [room for room in rooms if (room["kind"], room["judge"]) == (kind, judge)]
        ends = [f"{room['worst']:+.3f} / {room['best']:+.3f}" for room in found]
        cells = [judge, "random: worst / best batch in twenty", *ends]
        text.append("| " + " | ".join([*cells, *[""] * (n_columns - len(cells))]) + " |")
    n_pools = sum(pool.kind == kind for pool in pools)
    return f"**{n_pools} pools with {kind}.**\n\n" + "\n".join(text)


def claims_table(claims):
    """A line for each claim and kind of pool."""
    rows = [
        [
            line["kind"], line["against"], f"{line['gain']:+.3f} ({line['low']:+.3f} to {line['high']:+.3f})",
            f"{line['pools_won']} of {line['n_pools']}",
            f"{line['spread_ratio']:.2f} ({line['spread_low']:.2f} to {line['spread_high']:.2f})",
        ]
        for line in claims
    ]  # fmt: skip
    return markdown([["labels", "the default against", "difference", "pools won", "spread over repeats, ratio"], *rows])


def put_between(path, text, begin=BEGIN, end=END):
    """Replace what lies between the two marks of a file."""
    old = path.read_text(encoding="utf-8")
    if old.count(begin) != 1 or old.count(end) != 1:
        msg = f"{path} must hold the lines {begin} and {end} once each."
        raise ValueError(msg)
    head, tail = old.split(begin)[0], old.split(end)[1]
    path.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")


def table_of(lines, kind):
    """A line for each arm and judge, a column for each budget."""
    own = [line for line in lines if line["kind"] == kind]
    budgets = list(dict.fromkeys(line["budget"] for line in own))
    shown = (ORACLE, DEFAULT, BEST, IMAGENET, PIXELS, FOREGROUND.name)
    others = sorted({line["arm"] for line in own} - set(shown))
    rows = []
    for judge in dict.fromkeys(line["judge"] for line in own):
        for arm in [*shown, *others]:
            cells = {line["budget"]: line for line in own if (line["judge"], line["arm"]) == (judge, arm)}
            if cells:
                end = cells["all"]
                won = f"{end['cells_won']} of {end['n_cells']}; {end['pools_won']} of {end['n_pools']}"
                texts = (_cell(cells[budget], arm) if budget in cells else "" for budget in budgets)
                rows.append([judge, arm, *texts, won, f"{end['worst_cell']:+.3f}"])
    heads = ("all budgets" if budget == "all" else f"{budget} labels" for budget in budgets)
    return markdown([["judge", "selection", *heads, "cells; pools won", "worst cell"], *rows])


def _cell(line, arm):
    """Gain with its interval, and the share of the oracle's where that gains anything."""
    gain = f"{line['gain']:+.3f} ({line['low']:+.3f} to {line['high']:+.3f})"
    if arm == ORACLE or np.isnan(line["share_low"]):
        return gain
    ends = f" ({line['share_low']:.0%} to {line['share_high']:.0%})" if line["budget"] == "all" else ""
    return f"{gain}; {line['share']:.0%}{ends}"


def headroom_table(lines):
    """A line for each judge and budget."""
    rows = [
        [line["judge"], str(line["budget"]), str(line["n_pools"]), f"{line['mean']:.3f}", f"{line['best']:+.3f}",
         f"{line['best_of_halves']:+.3f}", f"{line['worst']:+.3f}"]
        for line in lines
    ]  # fmt: skip
    head = ["judge", "labels", "pools", "random", "best twentieth", "read on the other half", "worst twentieth"]
    return markdown([head, *rows])


def pools_table(pools, kind):
    """A line for each pool: the default's gain by each judge at each budget, and the oracle's."""
    own = [pool for pool in pools if pool.kind == kind]
    keys = sorted({(judge, budget) for pool in own for judge, _, budget in pool.values})
    rows = [[pool.name, *(_both(pool, judge, budget) for judge, budget in keys)] for pool in own]
    return markdown([["pool", *(f"{judge.removeprefix('probe on ')}, {budget}" for judge, budget in keys)], *rows])


def _overall(pool):
    """Pool, and what the default and the oracle gain over all judges and budgets."""
    cells = sorted({(judge, budget) for judge, _, budget in pool.values})
    return (pool.name, *(np.nanmean([pool.gain(judge, arm, at) for judge, at in cells]) for arm in (DEFAULT, ORACLE)))


def _both(pool, judge, budget):
    gains = [pool.gain(judge, arm, budget) for arm in (DEFAULT, ORACLE)]
    return "" if np.isnan(gains).any() else " of ".join(f"{gain:+.3f}" for gain in gains)


def main():
    parser = argparse.ArgumentParser(description="Put what the comparisons on all pools say in one place.")
    parser.add_argument("evidence", type=Path, help="folder that evidence.py pools wrote")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "evidence" / "pools")
    parser.add_argument("--readme", type=Path, help="a file whose tables, between two marks, are written anew")
    options = parser.parse_args()
    pools = [Pool(path.parent) for path in sorted(options.evidence.glob("*/headroom.csv"))]
    if not pools:
        parser.error(f"{options.evidence} holds no finished pool; run evidence.py pools first.")
    kinds = [kind for kind in ("classes", "masks") if any(pool.kind == kind for pool in pools)]
    options.out.mkdir(parents=True, exist_ok=True)
    lines = [line for kind in kinds for line in lines_of(pools, kind)]
    rooms = [line for kind in kinds for line in headroom_of(pools, kind)]
    claims, steps = claims_of(pools), steps_of(pools)
    rivals = [f"{name}{LIBRARY}" for name in sorted(set(STRATEGIES) - {"kmeans"})]
    rivals += [IMAGENET, *(f"kmeans, {name}, l2" for name in CANDIDATES)]
    contrasts = contrasts_of(pools, DEFAULT, rivals, interval)
    tables = {"gains": lines, "headroom": rooms, "claims": claims, "steps": steps, "contrasts": contrasts}
    for name, found in tables.items():
        if found:
            write(options.out / f"{name}.csv", found)
    text = []
    for kind in kinds:
        n_pools = sum(pool.kind == kind for pool in pools)
        text += [f"## {n_pools} pools with {kind}: gain over random, and share of the oracle's", table_of(lines, kind)]
        text += [f"## What random batches do, {kind}", headroom_table([r for r in rooms if r["kind"] == kind])]
        text += [f"## Gain of the default, of that of the oracle, on each pool: {kind}", pools_table(pools, kind)]
    text += ["## The seed paper's claims over all pools", claims_table(claims), steps_table(steps)]
    text += ["## Something else as the default", contrasts_table(contrasts)]
    (options.out / "tables.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    draw_pools(
        {kind: [_overall(pool) for pool in pools if pool.kind == kind] for kind in kinds}, options.out / "pools.png"
    )
    if options.readme:
        shown = [summary_of(lines, rooms, pools, kind) for kind in kinds]
        tables = (claims_table(claims), steps_table(steps), contrasts_table(contrasts))
        put_between(options.readme, "\n\n".join(["", *shown, *tables, ""]))


if __name__ == "__main__":
    main()
