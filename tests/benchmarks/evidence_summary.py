"""What our comparisons say, in one place: the tables and figures of the folder ``tests/benchmarks/evidence``.

Run by hand after `evidence.py`, on whatever of it is finished:

    python tests/benchmarks/evidence_summary.py evidence --out tests/benchmarks/evidence

An arm is judged by the mean of all judges of a kind that learn from other features than its own; where two arms are
compared, by those that are kin to neither. Gains are paired by split and tested as in `firstpick compare`.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from itertools import product
from pathlib import Path

import numpy as np
from evidence_figures import draw

from firstpick.evaluate.statistics import area, corrected_t, holm, rank_correlation
from firstpick.evaluate.tables import markdown
from firstpick.selection import STRATEGIES

SETS = ("mednist", "hippocampus", "slices", "membrane")
UNTESTED = ("membrane",)
KINDS = ("probe", "patches", "network")
"""Of judges, by the start of their name."""
TEST_RATIO = 0.25  # a fifth held out
DECIDING = ("auroc", "dice")
AREA = "all"

RANDOM = ("random", "", "")
FOUNDATION = ("dinov2-s", "medsam-lite")
BASELINES = ("pixels", "efficientnet-lite0")
PAPER = {encoder: ("kmeans", encoder, "standardise") for encoder in (*BASELINES, *FOUNDATION)}
DEFAULT = ("kmeans", "dinov2-s", "l2")
OURS = (DEFAULT, ("facility_location", "dinov2-s", "l2"))
INSTEAD = (
    *(("kmeans", encoder, "l2") for encoder in ("medsam-lite", "efficientnet-lite0", "pixels", "random-init")),
    *(("kmeans", "dinov2-s", scaling) for scaling in ("none", "standardise", "pca", "whiten")),
    *((strategy, "dinov2-s", "l2") for strategy in sorted(set(STRATEGIES) - {"random", "kmeans"})),
)
"""What differs from the default in one thing."""


class Numbers:
    """All that was measured on one data set: judge or measure, arm, (budget, seed, draw), value."""

    def __init__(self, folders):
        self.values = defaultdict(lambda: defaultdict(dict))
        for folder in folders:
            with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
                for line in csv.DictReader(file):
                    name = line["judge"] if line["measure"] in DECIDING else line["measure"]
                    arm = (line["strategy"], line["encoder"], line["scaling"])
                    at = (int(line["budget"]), int(line["seed"]), int(line["draw"]))
                    self.values[name][arm][at] = float(line["value"] or "nan")

    def judges(self, kind, *arms):
        return [n for n, found in self.values.items() if n.split()[0] == kind and all(arm in found for arm in arms)]

    def budgets(self, kind):
        at = {budget for n in self.judges(kind, RANDOM) for budget, _, _ in self.values[n][RANDOM]}
        return [*sorted(at), AREA] if len(at) > 1 else sorted(at)

    def curves(self, judge, arm, budget, seeds):
        """Values, shape (n_draws, n_seeds)."""
        found = self.values[judge][arm]
        budgets = sorted({at for at, _, _ in found}) if budget == AREA else [budget]
        draws = sorted({draw for _, _, draw in found})
        return np.array([[area(budgets, [found[at, s, draw] for at in budgets]) for s in seeds] for draw in draws])

    def pair(self, kind, arm, reference, budget):
        """Values of two arms on their common splits, means over the judges that are kin to neither."""
        judges = self.judges(kind, arm, reference)
        both = [self.values[judge][one] for judge in judges for one in (arm, reference)]
        seeds = sorted(set.intersection(*({seed for _, seed, _ in found} for found in both)))
        return [np.mean([self.curves(j, one, budget, seeds) for j in judges], axis=0) for one in (arm, reference)]


def gain(a, b):
    """Paired difference of the means over the draws, shape (n_seeds,)."""
    return a.mean(axis=0) - b.mean(axis=0)


def spread(values):
    """Standard deviation of one draw over the splits."""
    return np.sqrt(values.var(axis=1, ddof=1).mean())


def worst(values):
    return values.min(axis=1).mean()


def contrasts(numbers, kind, pairs):
    """Compare pairs of arms at every budget, with Holm's correction over the pairs of a budget."""
    lines = []
    pairs = [pair for pair in pairs if numbers.judges(kind, *pair)]
    for budget in numbers.budgets(kind) if pairs else ():
        values = [numbers.pair(kind, *pair, budget) for pair in pairs]
        found = [corrected_t(gain(a, b), TEST_RATIO) for a, b in values]
        for (arm, reference), (a, b), one, p in zip(pairs, values, found, holm([f.p for f in found]), strict=True):
            lines.append(
                {
                    "judge": kind, "budget": budget, "arm": name_of(arm), "against": name_of(reference),
                    "n_splits": a.shape[1], "mean": a.mean(), "reference": b.mean(), "gain": one.mean, "low": one.low,
                    "high": one.high, "p": one.p, "p_holm": p, "spread": spread(a), "spread_reference": spread(b),
                    "worst": worst(a), "worst_reference": worst(b),
                }
            )  # fmt: skip
    return lines


def every_arm(numbers, kind):
    """Gain over random of every arm at every budget, also in units of random's spread; nothing is tested."""
    arms = {arm for judge in numbers.judges(kind) for arm in numbers.values[judge]} - {RANDOM}
    lines = []
    for arm, budget in product(sorted(arms), numbers.budgets(kind)):
        a, b = numbers.pair(kind, arm, RANDOM, budget)
        lines.append(
            {
                "judge": kind, "budget": budget, "strategy": arm[0], "encoder": arm[1], "scaling": arm[2],
                "n_splits": a.shape[1], "gain": gain(a, b).mean(), "gain_over_spread": gain(a, b).mean() / spread(b),
                "spread_ratio": spread(a) / spread(b), "worst_gain": worst(a) - worst(b),
            }
        )  # fmt: skip
    return lines


def stand_in(numbers):
    """Gain over random by the quick judges and by networks, of every arm and budget that both judged."""
    quick = next(kind for kind in KINDS if numbers.judges(kind))
    lines = []
    for budget in numbers.budgets("network"):
        arms = sorted({arm for judge in numbers.judges("network") for arm in numbers.values[judge]} - {RANDOM})
        for arm in (arm for arm in arms if numbers.judges(quick, arm) and budget != AREA):
            gains = [gain(*numbers.pair(kind, arm, RANDOM, budget)).mean() for kind in (quick, "network")]
            lines.append({"arm": name_of(arm), "budget": budget, "quick": gains[0], "network": gains[1]})
    return lines


def iterations(numbers):
    """Steps that k-means takes on each encoder's features, and how many there are to one on raw pixels."""
    lines = []
    for scaling, encoder in product(("standardise", "l2"), PAPER):
        arm, pixels = (("kmeans", name, scaling) for name in (encoder, "pixels"))
        for budget in sorted({at for at, _, _ in numbers.values["iterations"].get(arm, {})}):
            seeds = sorted({seed for _, seed, _ in numbers.values["iterations"][arm]})
            own, base = (numbers.curves("iterations", one, budget, seeds)[0] for one in (arm, pixels))
            ratio = corrected_t(np.log(own / base), TEST_RATIO)
            lines.append(
                {
                    "scaling": scaling, "encoder": encoder, "clusters": budget, "iterations": own.mean(),
                    "ratio": np.exp(ratio.mean), "low": np.exp(ratio.low), "high": np.exp(ratio.high), "p": ratio.p,
                }
            )  # fmt: skip
    return lines


def name_of(arm):
    return ", ".join(part for part in arm if part)


def write(path, lines):
    """Write tidy lines as CSV; six digits say all that is meant."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, lines[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in line.items()} for line in lines)


def table(lines, cell):
    """A line for each contrast, a column for each budget."""
    cells = defaultdict(dict)
    for line in lines:
        cells[line["set"], line["judge"], line["arm"], line["against"]][line["budget"]] = cell(line)
    heads = ("set", "judge", "selection", "against")
    found = []
    for judge_budgets in dict.fromkeys(tuple(row) for row in cells.values()):
        rows = [[*key, *row.values()] for key, row in cells.items() if tuple(row) == judge_budgets]
        budgets = ("all budgets" if budget == AREA else f"{budget} labels" for budget in judge_budgets)
        found.append(markdown([[*heads, *budgets], *rows]))
    return "\n\n".join(found)


def gain_of(line):
    """Mean gain, its interval, and Holm's p; bold where that is below .05."""
    if line["set"] in UNTESTED:
        return f"{line['gain']:+.3f}"
    p = "< .001" if line["p_holm"] < 0.001 else f"{line['p_holm']:.3f}".removeprefix("0")
    star = "**" if line["p_holm"] < 0.05 else ""
    return f"{star}{line['gain']:+.3f}{star} ({line['low']:+.3f} to {line['high']:+.3f}; {p})"


def spread_of(line):
    """Spread over the splits and the worst of them, for both."""
    both = f"{line['spread']:.3f} / {line['spread_reference']:.3f}"
    return f"{both}; {line['worst']:.3f} / {line['worst_reference']:.3f}"


def main():
    parser = argparse.ArgumentParser(description="Put what our comparisons say in one place.")
    parser.add_argument("evidence", type=Path, help="folder that evidence.py wrote")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "evidence")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    found = defaultdict(list)
    for data_set in SETS:
        folders = sorted(path.parent for path in options.evidence.glob(f"{data_set}-*/results.csv"))
        numbers = Numbers(folders)

        def keep(name, lines, data_set=data_set):
            hidden = ("low", "high", "p", "p_holm") if data_set in UNTESTED else ()
            found[name] += [{"set": data_set, **{k: v for k, v in one.items() if k not in hidden}} for one in lines]

        for kind in (kind for kind in KINDS if numbers.judges(kind)):
            keep("arms", contrasts(numbers, kind, [(arm, RANDOM) for arm in (*PAPER.values(), *OURS)]))
            pairs = product((PAPER[name] for name in FOUNDATION), (RANDOM, *(PAPER[name] for name in BASELINES)))
            keep("claims", contrasts(numbers, kind, list(pairs)))
            keep("defaults", contrasts(numbers, kind, [(arm, DEFAULT) for arm in INSTEAD]))
            keep("grid", every_arm(numbers, kind))
        if numbers.judges("network"):
            keep("stand_in", stand_in(numbers))
        keep("iterations", iterations(numbers))
    for name, lines in found.items():
        few = [line for line in lines if line["budget"] == AREA] if name == "grid" else lines  # hundreds of arms
        write(options.out / f"{name}.csv", few)
    text = [
        f"## {title}\n\n{table(found[name], cell)}"
        for name, cell, title in (
            ("claims", gain_of, "The seed paper's claims"),
            ("arms", gain_of, "Arms against random"),
            ("defaults", gain_of, "One thing changed, against the default"),
            ("arms", spread_of, "Spread over the splits and worst split: the arm's / random's"),
        )
    ]
    for data_set in dict.fromkeys(line["set"] for line in found["stand_in"]):
        own = [line for line in found["stand_in"] if line["set"] == data_set]
        rho = rank_correlation([line["quick"] for line in own], [line["network"] for line in own])
        text.append(f"{data_set}: stand-in against networks, {len(own)} pairs of arm and budget, Spearman {rho:+.2f}")
    (options.out / "tables.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    draw(found, options.out)


if __name__ == "__main__":
    main()
