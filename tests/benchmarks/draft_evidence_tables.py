"""What `draft_evidence.py` measured, as tables: drafts beside other ways, what the server says of them, when to stop.

    python tests/benchmarks/draft_evidence_tables.py DATA OUT --readme monailabel_app/firstpick/evaluate/README.md

DATA and OUT are those of `draft_evidence.py`. Means over the splits with 95 % intervals of the corrected resampled
t-test; of fewer than four splits each one's number. ``--pictures FOLDER`` draws, of one split of each set, three drafts
at 5, 10 and 20 labels beside the masks, and how the drafts of the studies labelled next agreed with their masks.
"""

# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from draft_evidence import LONG, N_LABELS, NETWORKS, RIVALS, SCRATCH, SETS, SPEC, STEPS, key, listed, make_round
from draft_rounds import draw
from evidence_over_pools import put_between

from firstpick.drafts import Drafts
from firstpick.evaluate.statistics import corrected_t
from firstpick.evaluate.tables import markdown
from firstpick.learning.labels import read_classes
from firstpick.learning.stack import Stack
from firstpick.learning.stop import when_to_stop
from firstpick.sources.names import bare
from firstpick.sources.source import read_study

ARMS = (NETWORKS, SCRATCH, LONG, *RIVALS)
RULES = ((0.9, 3), (0.9, 5), (0.9, 10), (0.8, 5), (0.75, 5), (0.7, 5))
"""Values of ``stop.dice`` and ``stop.last``."""
BEGIN, END = "<!-- begin: draft_evidence_tables.py -->", "<!-- end: draft_evidence_tables.py -->"
N_SHOWN = 3
FEWEST_SPLITS = 4
"""For an interval."""

Lines = dict[tuple[str, int, str, int], dict[str, Any]]


def read_lines(out: Path) -> Lines:
    text = (out / "results.jsonl").read_text(encoding="utf-8")
    return {key(line): line for line in map(json.loads, text.splitlines())}


def by_split(lines: Lines, name: str, arm: str, n: int, what: str = "dice") -> dict[int, float]:
    """Return the mean of what was measured on each split."""
    own = {seed: line for (set_, seed, arm_, n_), line in lines.items() if (set_, arm_, n_) == (name, arm, n)}
    return {seed: float(np.mean(line[what])) for seed, line in sorted(own.items()) if line.get(what) is not None}


def dice_table(lines: Lines, ratios: dict[str, float]) -> str:
    """A line for each set and arm: Dice of held-out drafts, and seconds."""
    rows = [["data", "masks by", *(f"{n} labels" for n in N_LABELS), "splits", "s to learn from 20", "s a draft"]]
    for name, ratio in ratios.items():
        for arm in ARMS:
            found = [by_split(lines, name, arm, n) for n in N_LABELS]
            if any(found):
                cells = [told(list(one.values()), ratio) for one in found]
                seconds = [by_split(lines, name, arm, max(N_LABELS), what) for what in ("learn_s", "draft_s")]
                shown = [f"{np.median(list(one.values())):.2g}" if one else "" for one in seconds]
                rows.append([name, arm, *cells, str(max(map(len, found))), *shown])
    return markdown(rows)


def paired_table(lines: Lines, ratios: dict[str, float]) -> str:
    """A line for each set and other arm: its Dice less that of the drafts, split by split."""
    rows = [["data", "instead of the drafts' networks", *(f"{n} labels" for n in N_LABELS), "splits won"]]
    for name, ratio in ratios.items():
        for arm in ARMS[1:]:
            cells, won, total = [], 0, 0
            for n in N_LABELS:
                own, drafts = by_split(lines, name, arm, n), by_split(lines, name, NETWORKS, n)
                apart = [own[seed] - drafts[seed] for seed in own if seed in drafts]
                cells.append(told(apart, ratio, "+.3f"))
                won, total = won + sum(one > 0 for one in apart), total + len(apart)
            if total:
                rows.append([name, arm, *cells, f"{won} of {total}"])
    return markdown(rows)


def honesty_table(lines: Lines, ratios: dict[str, float]) -> str:
    """A line for each set: what the server says that drafts are worth, less what they are."""
    rows = [["data", *(f"{n} labels: said" for n in N_LABELS), *(f"{n}: said less true" for n in N_LABELS)]]
    for name, ratio in ratios.items():
        said, off = [], []
        for n in N_LABELS:
            stated, true = (by_split(lines, name, NETWORKS, n, what) for what in ("held_out", "dice"))
            said.append(f"{np.mean(list(stated.values())):.3f}")
            off.append(told([stated[seed] - true[seed] for seed in stated], ratio, "+.3f"))
        rows.append([name, *said, *off])
    return markdown(rows)


def told(values: list[float], ratio: float, how: str = ".3f") -> str:
    """Write a mean and its interval; of fewer splits than tell anything of their spread, each one's number."""
    if len(values) < FEWEST_SPLITS:
        return "; ".join(f"{value:{how}}" for value in values)
    found = corrected_t(values, ratio)
    return f"{found.mean:{how}} ({found.low:{how}} to {found.high:{how}})"


def rounds_of(lines: Lines, name: str) -> list[dict[int, dict[str, Any]]]:
    """Return the finished rounds of a set, each its lines by number of labels."""
    found: dict[int, dict[int, dict[str, Any]]] = defaultdict(dict)
    for (set_, seed, arm, n), line in lines.items():
        if (set_, arm) == (name, NETWORKS):
            found[seed][n] = line
    return [dict(sorted(found[seed].items())) for seed in sorted(found) if len(found[seed]) == len(STEPS)]


def played(steps: dict[int, dict[str, Any]], *, least: float, last: int) -> tuple[int, list[float]] | None:
    """Play the stop rule over a round: after how many labels it says so, and the Dice of held-out drafts then.

    Nothing is drafted, and so nothing corrected, while the server holds drafts to be worth less than `drafts.min_dice`.
    """
    corrections: list[float] = []
    for n, line in steps.items():
        if (line["held_out"] or 0.0) < Drafts().min_dice:
            continue
        for place, dice in enumerate(line["ahead"], start=1):
            corrections.append(dice)
            if when_to_stop(corrections, least=least, last=last):
                now = max(step for step in steps if step <= n + place)
                return n + place, steps[now]["dice"]
    return None


def stop_table(lines: Lines, names: list[str]) -> str:
    """A line for each set and rule, or for all rules that never say anything there."""
    head = ["data", "`stop.dice`", "`stop.last`", "says so", "after labels", "Dice of held-out drafts then, median"]
    rows = [[*head, "part of them below `stop.dice`", "too early", "never, though it could"]]
    for name in names:
        own = [stop_cells(rounds_of(lines, name), least, last) for least, last in RULES]
        if len(set(own)) == 1 and not own[0][1]:
            rows.append([name, "each of these", "", *own[0]])
        else:
            rows += [[name, f"{least:g}", str(last), *cells] for (least, last), cells in zip(RULES, own, strict=True)]
    return markdown(rows)


def stop_cells(rounds: list[dict[int, dict[str, Any]]], least: float, last: int) -> tuple[str, ...]:
    """How often a rule says stop, when, what the drafts of other studies are then, and how often it is wrong."""
    ends = [played(steps, least=least, last=last) for steps in rounds]
    silent = [steps for steps, end in zip(rounds, ends, strict=True) if end is None]
    n_missed = sum(np.median(steps[max(steps)]["dice"]) >= least for steps in silent)
    missed = f"{n_missed} of {len(silent)}" if silent else ""
    said = [end for end in ends if end]
    if not said:
        return f"0 of {len(rounds)}", "", "", "", "", missed
    labels, then = np.median([n for n, _ in said]), np.concatenate([dice for _, dice in said])
    n_early = sum(np.median(dice) < least for _, dice in said)
    when = (f"{len(said)} of {len(rounds)}", f"{labels:g}", f"{np.median(then):.3f}", f"{np.mean(then < least):.0%}")
    return *when, f"{n_early} of {len(said)}", missed


def draw_round(data: Path, out: Path, lines: Lines, name: str, path: Path) -> None:
    """Draw drafts of the first split of a set beside the masks."""
    round_ = make_round(data, name, 0)
    shown = []
    for n in N_LABELS:
        for study in round_.tests[:N_SHOWN]:
            volume = read_study(study)
            stack = Stack(volume, SPEC.views)
            made = out / "drafts" / f"{name}-0-{n}" / f"{bare(study.study_id)}.nii.gz"
            draft, truth = (
                stack.of(read_classes(mask, volume, round_.labels)) for mask in (made, round_.masks[study.study_id])
            )
            at = int((truth > 0).sum(axis=(1, 2)).argmax())
            dice = lines[name, 0, NETWORKS, n]["dice"][round_.tests.index(study)]
            shown.append((n, stack.grey(at)[0], draft[at], truth[at], dice))
    steps = rounds_of(lines, name)[0]
    draw(path, shown, [{"dice": dice} for line in steps.values() for dice in line["ahead"]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--readme", type=Path, help="a file whose tables, between two marks, are written anew")
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    lines = read_lines(options.out)
    ratios = {}
    for name in (name for name in SETS if rounds_of(lines, name)):
        n_tests = len(make_round(options.data, name, 0).tests)
        ratios[name] = n_tests / (len(listed(options.data / name)) - n_tests)
    tables = [dice_table(lines, ratios), paired_table(lines, ratios), honesty_table(lines, ratios)]
    text = "\n\n".join([*tables, stop_table(lines, list(ratios))])
    print(text)
    if options.readme:
        put_between(options.readme, f"\n{text}\n", BEGIN, END)
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
        for name in ratios:
            draw_round(options.data, options.out, lines, name, options.pictures / f"{name}.png")


if __name__ == "__main__":
    main()
