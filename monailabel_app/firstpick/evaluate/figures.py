"""The figures of a comparison; colours and marks that colour-blind readers tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np

from firstpick.evaluate.arms import RANDOM, Arm
from firstpick.evaluate.run import Outcome
from firstpick.evaluate.summary import AREA, Row, is_lower_better

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5D3A9B")  # Okabe & Ito, and a violet
_MARKS = ("o", "s", "^", "D", "v", "P", "X")
_GREY = "#555555"
_N_CURVES = len(_COLOURS)
_N_BARS = 30


def figures_of(rows: Sequence[Row], outcome: Outcome, *, tests: bool) -> dict[str, bytes]:
    """Draw every figure that the rows give something for; file name to PNG."""
    found = {}
    for judge, measure in outcome.primary.items():
        own = [row for row in rows if (row.judge, row.measure) == (judge, measure)]
        if not own:
            continue
        name = judge.replace(" ", "-")
        title = f"{measure}, {judge}"
        found[f"curve-{name}.png"] = _png(curves(own, title))
        found[f"difference-{name}.png"] = _png(differences(own, title, tests=tests))
        if len({row.arm.scaling for row in own} - {""}) > 1 and len({row.arm.strategy for row in own}) > 2:  # noqa: PLR2004
            found[f"scaling-{name}.png"] = _png(scalings(own, title))
    steps = [row for row in rows if row.measure == "iterations"]
    if steps:
        found["convergence.png"] = _png(convergence(steps, [row for row in rows if row.measure == "seconds"]))
    return found


def _figure(width: float, height: float, n_columns: int = 1) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import; no window system is asked for

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, n_columns, squeeze=False)[0].tolist()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(visible=True, color="#e5e5e5", linewidth=0.8)
        axis.set_axisbelow(True)
    return figure, axes


def _png(figure: Any) -> bytes:
    file = BytesIO()
    figure.savefig(file, format="png", dpi=120, metadata={"Software": None})
    return file.getvalue()


def _best(rows: Sequence[Row], n: int) -> list[Arm]:
    """Arms other than random, the best first, by the area or else the largest budget."""
    at = AREA if any(row.budget == AREA for row in rows) else max(row.budget for row in rows)
    sign = 1 if is_lower_better(rows[0].measure) else -1
    ranked = sorted((row.mean.mean * sign, row.arm) for row in rows if row.budget == at and row.arm != RANDOM)
    return [arm for _, arm in ranked[:n]]


def curves(rows: Sequence[Row], title: str) -> Any:
    """Mean over the splits against the number of labels, with its 95 % interval: random and the best seven others."""
    figure, (axis,) = _figure(8.5, 4.6)
    shown = [RANDOM, *_best(rows, _N_CURVES)]
    for arm, colour, mark in zip(shown, (_GREY, *_COLOURS), ("", *_MARKS), strict=False):
        own = sorted((row for row in rows if row.arm == arm and row.budget != AREA), key=lambda row: row.budget)
        x = [row.budget for row in own]
        style = "--" if arm == RANDOM else "-"
        axis.plot(x, [row.mean.mean for row in own], style, marker=mark, color=colour, label=arm.name)
        axis.fill_between(x, [r.mean.low for r in own], [r.mean.high for r in own], color=colour, alpha=0.1, lw=0)
    budgets = sorted({row.budget for row in rows} - {AREA})
    axis.set_xscale("log")
    axis.set_xticks(budgets, [str(budget) for budget in budgets])
    axis.minorticks_off()
    axis.set_xlabel("labels")
    axis.set_ylabel(title)
    n_left_out = len({row.arm for row in rows}) - len(shown)
    more = f"\n({n_left_out} others not shown)" if n_left_out > 0 else ""
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, title="best first" + more)
    axis.set_title("Mean over the splits; band: 95 % interval", loc="left", fontsize=10)
    return figure


def differences(rows: Sequence[Row], title: str, *, tests: bool) -> Any:
    """Paired difference to random of each arm at each budget; filled where it holds by Holm's correction."""
    arms = _best(rows, len(rows))
    if len(arms) > _N_BARS:
        arms = [*arms[: _N_BARS - 5], *arms[-5:]]
    budgets = sorted({row.budget for row in rows} - {AREA})
    figure, axes = _figure(3.2 + 2.3 * len(budgets), 1.6 + 0.27 * len(arms), len(budgets))
    places = {arm: len(arms) - place for place, arm in enumerate(arms)}
    for axis, budget in zip(axes, budgets, strict=True):
        axis.axvline(0, color=_GREY, linewidth=1)
        for row in rows:
            if row.budget != budget or row.arm not in places or row.difference is None:
                continue
            found, y = row.difference, places[row.arm]
            holds = tests and row.p_holm < 0.05  # noqa: PLR2004 - the usual level
            if tests:
                axis.plot([found.low, found.high], [y, y], color=_COLOURS[0], linewidth=1.5)
            axis.plot(found.mean, y, "o", color=_COLOURS[0], markerfacecolor=_COLOURS[0] if holds else "white")
        axis.set_title(f"{budget} labels", fontsize=10)
        axis.set_ylim(0.4, len(arms) + 0.6)
        axis.set_yticks(list(places.values()), [arm.name for arm in arms] if axis is axes[0] else [""] * len(arms))
    what = "95 % interval; filled: p < .05 by Holm" if tests else "no tests: an example"
    figure.supxlabel(f"{title}: difference to random on the same splits ({what})", fontsize=9)
    return figure


def scalings(rows: Sequence[Row], title: str) -> Any:
    """Difference to random of every strategy with every scaling, one panel for each encoder."""
    at = AREA if any(row.budget == AREA for row in rows) else max(row.budget for row in rows)
    own = {row.arm: row.difference.mean for row in rows if row.budget == at and row.difference is not None}
    encoders = list(dict.fromkeys(arm.encoder for arm in sorted(own, key=lambda arm: arm.encoder)))
    strategies, scaling = sorted({arm.strategy for arm in own}), sorted({arm.scaling for arm in own})
    figure, axes = _figure(2.4 + 0.75 * len(scaling) * len(encoders), 1.6 + 0.32 * len(strategies), len(encoders))
    most = max(map(abs, own.values())) or 1.0
    sign = -1 if is_lower_better(rows[0].measure) else 1
    for axis, encoder in zip(axes, encoders, strict=True):
        values = np.array([[own.get(Arm(s, encoder, scale), np.nan) for scale in scaling] for s in strategies])
        image = axis.imshow(sign * values, cmap="PuOr_r", vmin=-most, vmax=most, aspect="auto")
        for (y, x), value in np.ndenumerate(values):
            if not np.isnan(value):
                dark = abs(value) > 0.7 * most  # where black on the colour cannot be read
                axis.text(x, y, f"{value:+.3f}", ha="center", va="center", fontsize=8, color="w" if dark else "k")
        axis.grid(visible=False)
        axis.set_xticks(range(len(scaling)), scaling, rotation=35, ha="right")
        axis.set_yticks(range(len(strategies)), strategies if axis is axes[0] else [""] * len(strategies))
        axis.set_title(encoder, fontsize=10)
    figure.colorbar(image, ax=axes, shrink=0.8, label="better than random →")
    where = "area under the budget curve" if at == AREA else f"{at} labels"
    figure.supxlabel(f"{title}, {where}: difference to random", fontsize=9)
    return figure


def convergence(steps: Sequence[Row], seconds: Sequence[Row]) -> Any:
    """Steps and seconds of one start of k-means, mean over the splits with its 95 % interval, on each encoder."""
    figure, axes = _figure(10, 4.0, 2)
    arms = sorted({row.arm for row in steps})
    for axis, rows, label in zip(axes, (steps, seconds), ("iterations", "seconds"), strict=True):
        for place, arm in enumerate(arms):
            own = sorted((row for row in rows if row.arm == arm and row.budget != AREA), key=lambda row: row.budget)
            colour, mark = _COLOURS[place % len(_COLOURS)], _MARKS[place % len(_MARKS)]
            x = [row.budget for row in own]
            style = ("-", "--", ":")[place // len(_COLOURS) % 3]
            name = f"{arm.encoder}, {arm.scaling}"
            axis.plot(x, [row.mean.mean for row in own], style, marker=mark, color=colour, label=name)
            axis.fill_between(x, [r.mean.low for r in own], [r.mean.high for r in own], color=colour, alpha=0.1, lw=0)
        budgets = sorted({row.budget for row in rows} - {AREA})
        axis.set_xscale("log")
        axis.set_xticks(budgets, [str(budget) for budget in budgets])
        axis.minorticks_off()
        axis.set_ylim(bottom=0)
        axis.set_xlabel("clusters")
        axis.set_ylabel(f"{label} to convergence")
    axes[-1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def describe(name: str) -> str:
    """What a figure's file shows, for readers who do not see it."""
    kind, _, judge = name.removesuffix(".png").partition("-")
    texts = {
        "curve": "Curves of the mean against the number of labels",
        "difference": "Differences to random with their intervals",
        "scaling": "Differences to random for every strategy and scaling",
        "convergence": "Steps and seconds that k-means takes",
    }
    return texts[kind] + (f", {judge.replace('-', ' ')}" if judge else "")
