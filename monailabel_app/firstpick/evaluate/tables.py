"""A comparison as tidy CSV and as Markdown."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from firstpick.evaluate.arms import ORACLE, TOLD
from firstpick.evaluate.headroom import headroom
from firstpick.evaluate.run import Outcome
from firstpick.evaluate.statistics import Estimate
from firstpick.evaluate.summary import AREA, Row, agreement, is_lower_better, rank_arms

_RESULT_COLUMNS = ("judge", "measure", "budget", "seed", "draw", "arm", "strategy", "encoder", "scaling", "value")
_SUMMARY_COLUMNS = (
    "judge", "measure", "budget", "arm", "strategy", "encoder", "scaling", "is_primary", "n_splits",
    "mean", "low", "high", "spread", "worst", "difference", "difference_low", "difference_high", "p", "p_holm",
    "of_oracle", "of_oracle_low", "of_oracle_high",
)  # fmt: skip
_HEADROOM_COLUMNS = (
    "judge", "measure", "budget", "n_draws", "mean", "low", "high", "best", "best_low", "best_high",
    "best_of_halves", "best_of_halves_low", "best_of_halves_high",
)  # fmt: skip
_SIGNIFICANT = 0.05


def write_results(path: Path, outcome: Outcome) -> None:
    """Write one line for each number of each split."""
    _write(
        path,
        _RESULT_COLUMNS,
        (
            (
                r.judge, r.measure, r.budget, r.seed, r.arm.draw,
                r.arm.name, r.arm.strategy, r.arm.encoder, r.arm.scaling, r.value,
            )
            for r in outcome.results
        ),
    )  # fmt: skip


def write_summary(path: Path, rows: Iterable[Row], primary: Mapping[str, str]) -> None:
    """Write one line for each arm, judge, measure and budget; the budget ``area`` is all of them."""
    _write(
        path,
        _SUMMARY_COLUMNS,
        (
            (
                row.judge, row.measure, _budget(row), row.arm.name, row.arm.strategy, row.arm.encoder, row.arm.scaling,
                int(primary.get(row.judge) == row.measure), row.n_splits,
                row.mean.mean, row.mean.low, row.mean.high, row.spread, row.worst,
                *((d.mean, d.low, d.high, d.p) if (d := row.difference) else ("", "", "", "")), row.p_holm,
                *((o.mean, o.low, o.high) if (o := row.of_oracle) else ("", "", "")),
            )
            for row in rows
        ),
    )  # fmt: skip


def write_headroom(path: Path, outcome: Outcome) -> None:
    """Write one line for each judge and budget: what random batches do, and the best of them."""
    _write(
        path,
        _HEADROOM_COLUMNS,
        (
            (
                found.judge, found.measure, found.budget, found.n_draws,
                *(x for e in (found.mean, found.best, found.best_of_halves) for x in (e.mean, e.low, e.high)),
            )
            for found in headroom(outcome)
        ),
    )  # fmt: skip


def _budget(row: Row) -> str:
    return "area" if row.budget == AREA else str(row.budget)


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_text(value) for value in row] for row in rows)


def _text(value: object) -> object:
    """Nine digits say all that is meant; NaN is an empty field."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.9g}"
    return value


def table_of(rows: Sequence[Row], *, tests: bool) -> list[list[str]]:
    """Put one judge's measure into cells: a line for each arm, best first, a column for each budget.

    A cell holds the mean with its spread over the splits, in brackets the difference to ``random`` with its interval,
    and a star where that holds by Holm's correction. Without tests, neither interval nor star.
    """
    budgets = [*sorted({row.budget for row in rows} - {AREA}), *([AREA] if any(r.budget == AREA for r in rows) else [])]
    sign = 1 if is_lower_better(rows[0].measure) else -1
    last = {row.arm: row.mean.mean * sign for row in rows if row.budget == budgets[-1]}
    arms = sorted({row.arm for row in rows}, key=lambda arm: (last.get(arm, math.inf), arm))
    cells = {(row.arm, row.budget): row for row in rows}
    head = ["selection", *("area" if budget == AREA else f"{budget} labels" for budget in budgets), "worst split"]
    return [
        head,
        *(
            [
                arm.name,
                *(_cell(cells.get((arm, budget)), tests=tests) for budget in budgets),
                " · ".join(f"{cells[arm, b].worst:.3f}" for b in budgets if b != AREA and (arm, b) in cells),
            ]
            for arm in arms
        ),
    ]


def _cell(row: Row | None, *, tests: bool) -> str:
    if row is None:
        return ""
    text = f"{row.mean.mean:.3f}" + ("" if math.isnan(row.spread) else f" ± {row.spread:.3f}")
    if row.difference is None:
        return text
    found = row.difference
    if not tests or math.isnan(found.low):
        return f"{text} ({found.mean:+.3f})"
    star = "*" if row.p_holm < _SIGNIFICANT else ""
    return f"{text} ({found.mean:+.3f}{star}, {found.low:+.3f} to {found.high:+.3f})"


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Lay cells out as a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in table]
    return "\n".join([lines[0], "|" + "---|" * len(table[0]), *lines[1:]])


def sections(rows: Sequence[Row], outcome: Outcome, *, tests: bool) -> list[tuple[str, list[list[str]]]]:
    """Every table of a comparison with its title: the deciding measures first."""
    keys = list(dict.fromkeys((row.judge, row.measure) for row in rows))
    keys.sort(key=lambda key: outcome.primary.get(key[0]) != key[1])
    found = [
        (f"{measure}, {judge}", table_of([r for r in rows if (r.judge, r.measure) == (judge, measure)], tests=tests))
        for judge, measure in keys
    ]
    for judge, measure in outcome.primary.items():
        own = [row for row in rows if (row.judge, row.measure) == (judge, measure)]
        if lines := _headroom_lines(own, outcome, judge, tests=tests):
            found.append((f"What there is to gain: {measure}, {judge}", lines))
    if alike := agreement(rows, outcome.primary):
        lines = [[a, b, str(budget), f"{value:+.2f}"] for a, b, budget, value in alike]
        head = ["judge", "judge", "labels", "Spearman's correlation over the arms"]
        found.append(("How alike the judges rank the arms", [head, *lines]))
    return found


def _headroom_lines(rows: Sequence[Row], outcome: Outcome, judge: str, *, tests: bool) -> list[list[str]]:
    """Put what random batches do, what the oracle gains and each arm's share of that into cells."""
    found = [one for one in headroom(outcome) if one.judge == judge]
    if not found:
        return []
    n_draws = max(one.n_draws for one in found)
    cells = {(row.arm, row.budget): row for row in rows}
    estimates: list[tuple[str, str, list[Estimate | None]]] = [
        (f"best twentieth of {n_draws} random batches", "+.3f", [one.best for one in found]),
        ("the same by one half of the test part, on the other", "+.3f", [one.best_of_halves for one in found]),
    ]
    for arm in dict.fromkeys(row.arm for row in rows):
        own = [cells[arm, one.budget] for one in found if (arm, one.budget) in cells]
        if arm.strategy == ORACLE:
            estimates.append((arm.name, "+.3f", [row.difference for row in own]))
        elif any(row.of_oracle is not None for row in own):
            estimates.append((f"{arm.name}: of the oracle's gain", ".0%", [row.of_oracle for row in own]))
    return [
        ["", *(f"{one.budget} labels" for one in found)],
        ["random, mean", *(f"{one.mean.mean:.3f}" for one in found)],
        *([name, *(_with_interval(one, how, tests=tests) for one in line)] for name, how, line in estimates),
    ]


def _with_interval(found: Estimate | None, how: str, *, tests: bool) -> str:
    """Write an estimate and, where there is one, its interval; of a share of nothing, a dash."""
    if found is None or math.isnan(found.mean):
        return "-"
    interval = "" if not tests or math.isnan(found.low) else f" ({found.low:{how}} to {found.high:{how}})"
    return f"{found.mean:{how}}{interval}"


def ranks_of(folders: Sequence[Path]) -> list[list[str]]:
    """Rank the arms of several comparisons by their deciding measures' area, and on average, as cells.

    Those that look at the labels are not ranked.

    Raises
    ------
    ValueError
        If a folder holds no summary, or the comparisons share no arm.
    """
    tables: dict[str, dict[str, float]] = {}
    for folder in folders:
        path = folder / "summary.csv"
        if not path.is_file():
            msg = f"{folder} holds no summary.csv; give the --out folders of finished comparisons."
            raise ValueError(msg)
        with path.open(newline="", encoding="utf-8") as file:
            lines = [
                line for line in csv.DictReader(file) if line["is_primary"] == "1" and line["strategy"] not in TOLD
            ]
        for judge in sorted({line["judge"] for line in lines}):
            own = [line for line in lines if line["judge"] == judge]
            budget = "area" if any(line["budget"] == "area" for line in own) else own[0]["budget"]
            name = f"{folder.name}, {judge}"
            tables[name] = {line["arm"]: float(line["mean"]) for line in own if line["budget"] == budget}
    if not set.intersection(*(set(table) for table in tables.values())):
        msg = "the comparisons have no arm in common, so there is nothing to rank."
        raise ValueError(msg)
    ranks = rank_arms(tables)
    head = ["selection", *tables, "mean rank"]
    return [
        head,
        *([arm, *(f"{rank[name]:g}" for name in tables), f"{rank['mean']:.2f}"] for arm, rank in ranks.items()),
    ]
