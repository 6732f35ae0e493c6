"""Our evidence on rounds: what to label next, on four pools with masks.

``python tests/benchmarks/evidence_rounds.py slices --seeds 10`` plays 5, 10 and 20 labels and writes
``evidence/rounds/slices``; what is done is never run again, and what stands after the name is handed on to
``firstpick compare``. With ``--train``, which goes into a folder of its own, networks judge too.
``python tests/benchmarks/evidence_rounds.py table`` puts what all of them found into one table.
"""

# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import re
from pathlib import Path

from evidence_pools import prepare

from firstpick.cli import main
from firstpick.evaluate.rounds_run import ARMS
from firstpick.evaluate.tables import markdown

SLICES = ("unit", "slice", "views.planes", "[axial]", "views.every_mm", "8")
OWN = {
    "hippocampus": ("hippocampus", ()),
    "slices": ("hippocampus", SLICES),
    "membrane": ("membrane", ()),
    "nerve_us": ("nerve_us", ()),
}
"""Each pool: the data set, and its keys of the configuration."""
KIN = "patches"
COLUMNS = (
    ("10 labels, less random", "10 labels", ""),
    ("20 labels, less random", "20 labels", ""),
    ("10, less `same`", "10 labels", ": difference to same"),
    ("20, less `same`", "20 labels", ": difference to same"),
    ("gained from 10 to 20, less random", "20 labels", ": gained since the round before; difference to random"),
)
"""Of the table: the title, and the column and the end of the title of what ``compare`` wrote."""


def run():
    """Play the rounds on one pool, or put all of them into a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", choices=[*OWN, "table"])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[3] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=Path("evidence/rounds"))
    options, more = parser.parse_known_args()
    if options.pool == "table":
        head = ["pool", "judge", "splits", "next labels by", *(title for title, _, _ in COLUMNS)]
        print(markdown([head, *(line for pool in OWN for line in _lines(options.out, pool))]))
        return 0
    name, keys = OWN[options.pool]
    ready = prepare(name, "masks", options.data, options.out)
    pairs = [word for pair in zip(keys[::2], keys[1::2], strict=True) for word in ("--conf", *pair)]
    out = options.out / f"{options.pool}{'-trained' if '--train' in more else ''}"
    return main(
        [
            *("compare", str(ready.images), "--labels", str(ready.labels), "--rounds", "5,10,20", "--out", str(out)),
            *("--state", str(options.out / f"state-{options.pool}"), *ready.options, *pairs, *more),
        ]
    )


def _lines(out, pool):
    """The lines of a pool: by the quick judge, and by the network where it was asked; of random, its Dice."""
    for judge, folder in ((KIN, pool), ("network", f"{pool}-trained")):
        path = out / folder / "tables.md"
        if path.exists():
            text = path.read_text(encoding="utf-8")
            n_splits = re.search(r"(\d+) splits", text)[1]
            tables = {end: _table(text, f"dice, {judge}{end}") for _, _, end in COLUMNS}
            dice = [tables[""]["random", column].split()[0] for _, column, _ in COLUMNS[:2]]
            yield [pool, judge, n_splits, "`random`: Dice", *dice, *["-"] * len(COLUMNS[2:])]
            for arm in ARMS:
                cells = [_difference(tables[end].get((arm, column), "")) for _, column, end in COLUMNS]
                yield [pool, judge, n_splits, f"`{arm}`", *cells]


def _table(text, title):
    """The cells of one table of a page, by arm and column."""
    section = next((part for part in text.split("\n## ") if part.startswith(f"{title}\n")), "")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {(line[0], column): cell for line in lines[2:] for column, cell in zip(lines[0], line, strict=True)}


def _difference(cell):
    """What stands in brackets in a cell, the interval in brackets of its own."""
    found = re.search(r"\(([^,]+), (.+)\)", cell)
    return f"{found[1]} ({found[2]})" if found else "-"


if __name__ == "__main__":
    raise SystemExit(run())
