"""The figures of the folder ``tests/benchmarks/evidence``."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5D3A9B")  # Okabe & Ito, and a violet
MARKS = "os^DvPX"
GREY = "#555555"
AREA = "all"


def draw(found, out):
    """Draw what there are numbers for."""
    figures = {
        "claims": claims(found["claims"]),
        "arms": curves(found["arms"]),
        "scaling": heat(found["grid"], "scaling"),
        "encoders": heat(found["grid"], "encoder"),
        "iterations": steps(found["iterations"]),
    }
    if found["stand_in"]:
        figures["stand_in"] = agreement(found["stand_in"])
    for name, figure in figures.items():
        figure.savefig(out / f"{name}.png", dpi=90, metadata={"Software": None})


def pools(gains, out):
    """What the default and the oracle gain on each pool: a panel for each kind, the pool with the largest gain on top.

    ``gains`` is kind to a list of (pool, gain of the default, gain of the oracle).
    """
    figure, axes = panels(len(gains), 4.6, 0.6 + 0.24 * max(map(len, gains.values())))
    for axis, (kind, unsorted) in zip(axes, gains.items(), strict=True):
        lines, measure = sorted(unsorted, key=lambda line: line[1]), "AUROC" if kind == "classes" else "Dice"
        axis.axvline(0, color=GREY, linewidth=1)
        for y, (_, own, oracle) in enumerate(lines):
            axis.plot([0, own], [y, y], color=COLOURS[0], linewidth=1.5)
            axis.plot(own, y, "o", color=COLOURS[0], label="the default" if not y else None)
            axis.plot(oracle, y, "D", color=COLOURS[1], markerfacecolor="none", label="the oracle" if not y else None)
        axis.set_yticks(range(len(lines)), [name for name, _, _ in lines], fontsize=8)
        axis.set_title(f"pools with {kind}", fontsize=10, loc="left")
        axis.set_xlabel(f"gain over random, {measure}, all budgets and judges", fontsize=9)
    axes[0].legend(fontsize=8, frameon=False, loc="lower right")
    figure.savefig(out, dpi=90, metadata={"Software": None})


def panels(n, width, height):
    figure = Figure(figsize=(width * n, height), layout="constrained")
    axes = figure.subplots(1, n, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(visible=True, color="#e5e5e5", linewidth=0.8)
        axis.set_axisbelow(True)
    return figure, axes


def grouped(lines, *keys):
    groups = {}
    for line in lines:
        groups.setdefault(tuple(line[key] for key in keys), []).append(line)
    return groups


def claims(lines):
    """Forest plot: what k-means on a foundation encoder gains over each baseline, over all budgets."""
    groups = grouped([line for line in lines if line["budget"] == AREA], "set", "judge")
    figure, axes = panels(len(groups), 3.1, 2.9)
    names = list(dict.fromkeys((line["arm"].split(", ")[1], against(line)) for line in lines))
    for axis, ((data_set, judge), own) in zip(axes, groups.items(), strict=True):
        axis.axvline(0, color=GREY, linewidth=1)
        for line in own:
            encoder = line["arm"].split(", ")[1]
            y = -names.index((encoder, against(line)))
            colour = COLOURS[[name for name, _ in names].index(encoder) > 0]
            if data_set != "membrane":
                axis.plot([line["low"], line["high"]], [y, y], color=colour, linewidth=1.5)
            holds = data_set != "membrane" and line["p_holm"] < 0.05
            axis.plot(line["gain"], y, "o", color=colour, markerfacecolor=colour if holds else "white")
        axis.set_title(f"{data_set}, {judge}", fontsize=9)
        axis.set_yticks([-y for y in range(len(names))])
        axis.set_yticklabels([f"{encoder} - {what}" for encoder, what in names] if axis is axes[0] else [])
        axis.set_ylim(-len(names) + 0.5, 0.5)
        axis.tick_params(labelsize=8)
    figure.supxlabel("Gain of k-means over all budgets, 95 % interval; filled: p < .05 by Holm", fontsize=9)
    return figure


def against(line):
    return line["against"].split(", ")[1] if ", " in line["against"] else line["against"]


def curves(lines):
    """Gain over random against the number of labels; the tables have the intervals."""
    groups = grouped([line for line in lines if line["budget"] != AREA], "set", "judge")
    figure, axes = panels(len(groups), 3.0, 3.6)
    arms = list(dict.fromkeys(line["arm"] for line in lines))
    for axis, ((data_set, judge), own) in zip(axes, groups.items(), strict=True):
        axis.axhline(0, color=GREY, linewidth=1)
        for (arm,), points in grouped(own, "arm").items():
            place = arms.index(arm)
            x = [line["budget"] for line in points]
            colour = COLOURS[place % len(COLOURS)]
            axis.plot(x, [p["gain"] for p in points], marker=MARKS[place % len(MARKS)], color=colour, label=arm)
        axis.set_xscale("log")
        axis.set_xticks(x, [str(n) for n in x])
        axis.minorticks_off()
        axis.set_title(f"{data_set}, {judge}", fontsize=9)
        axis.set_xlabel("labels", fontsize=9)
        axis.tick_params(labelsize=8)
    axes[0].set_ylabel("gain over random", fontsize=9)
    handles, labels = max((axis.get_legend_handles_labels() for axis in axes), key=lambda found: len(found[1]))
    figure.legend(handles, labels, loc="outside lower center", ncols=2 + len(axes) // 3, frameon=False, fontsize=8)
    return figure


def heat(lines, key):
    """Gain over random in units of random's spread, mean over all else: strategies against scalings or encoders."""
    groups = grouped([line for line in lines if line["budget"] == AREA and line["judge"] != "network"], "set")
    wide = {
        name: [c for c, of in grouped(own, key).items() if len({line["strategy"] for line in of}) > 2]
        for name, own in groups.items()
    }
    groups = {name: own for name, own in groups.items() if len(wide[name]) > 1}
    columns = list(dict.fromkeys(line[key] for line in lines))
    rows = sorted({line["strategy"] for line in lines})
    figure, axes = panels(len(groups), 1.6 + 0.62 * len(columns), 4.6)
    for axis, ((data_set,), own) in zip(axes, groups.items(), strict=True):
        cells = grouped(own, "strategy", key)
        values = [
            [np.mean([c["gain_over_spread"] for c in cells.get((r, c), [])] or [np.nan]) for c in columns] for r in rows
        ]
        axis.imshow(values, cmap="PuOr_r", vmin=-3, vmax=3, aspect="auto")
        for (y, x), value in np.ndenumerate(values):
            if not np.isnan(value):
                axis.text(x, y, f"{value:+.1f}", ha="center", va="center", fontsize=8, color="wk"[abs(value) < 2])
        axis.grid(visible=False)
        axis.set_xticks(range(len(columns)), columns, rotation=35, ha="right", fontsize=8)
        axis.set_yticks(range(len(rows)), rows if axis is axes[0] else [""] * len(rows), fontsize=8)
        axis.set_title(data_set, fontsize=9)
    figure.supxlabel("Gain over random over all budgets, in standard deviations of random over the splits", fontsize=9)
    return figure


def steps(lines):
    """Steps of k-means to convergence, from random starts, on each encoder's features."""
    groups = grouped([line for line in lines if line["scaling"] == "standardise"], "set")
    figure, axes = panels(len(groups), 2.8, 3.2)
    for axis, ((data_set,), own) in zip(axes, groups.items(), strict=True):
        for place, ((encoder,), points) in enumerate(grouped(own, "encoder").items()):
            x = [line["clusters"] for line in points]
            y = [line["iterations"] for line in points]
            axis.plot(x, y, marker=MARKS[place], color=COLOURS[place], label=encoder)
        axis.set_xscale("log")
        axis.set_xticks(x, [str(n) for n in x])
        axis.minorticks_off()
        axis.set_ylim(bottom=0)
        axis.set_title(data_set, fontsize=9)
        axis.set_xlabel("clusters", fontsize=9)
        axis.tick_params(labelsize=8)
    axes[0].set_ylabel("steps to convergence", fontsize=9)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def agreement(lines):
    """Gain over random by the quick judge against that by trained networks."""
    groups = grouped(lines, "set")
    figure, axes = panels(len(groups), 3.2, 3.2)
    for axis, ((data_set,), own) in zip(axes, groups.items(), strict=True):
        for place, ((budget,), points) in enumerate(grouped(own, "budget").items()):
            x, y = [p["quick"] for p in points], [p["network"] for p in points]
            axis.plot(x, y, MARKS[place], color=COLOURS[place], label=f"{budget} labels")
        axis.axhline(0, color=GREY, linewidth=1)
        axis.axvline(0, color=GREY, linewidth=1)
        axis.set_title(data_set, fontsize=9)
        axis.tick_params(labelsize=8)
    axes[0].legend(frameon=False, fontsize=8)
    axes[0].set_ylabel("gain by networks", fontsize=9)
    figure.supxlabel("gain by the quick judge, on all splits", fontsize=9)
    return figure
