"""What is said of drafts is held to rounds that were made up, worked out by hand."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

from draft_evidence import STEPS
from draft_evidence_tables import honesty_table, paired_table, played, stop_table, told


def line(held_out, ahead, dice):
    return {"held_out": held_out, "ahead": ahead, "dice": dice}


STEADY = {2: line(0.8, [0.7, 0.9, 0.9], [0.6]), 5: line(0.8, [0.9, 0.2, 0.2, 0.2, 0.2], [0.95]), 10: line(0.8, [], [1])}


def test_the_rule_speaks_after_the_label_that_fulfils_it_and_is_judged_by_the_newest_drafts():
    assert played(STEADY, least=0.9, last=3) == (5, [0.95])
    assert played(STEADY, least=0.9, last=2) == (5, [0.95])
    assert played(STEADY, least=0.7, last=1) == (3, [0.6])
    assert played(STEADY, least=0.95, last=3) is None


@pytest.mark.parametrize("held_out", [0.4, None])
def test_what_is_not_offered_is_not_corrected(held_out):
    steps = {**STEADY, 2: line(held_out, [0.99, 0.99, 0.99], [0.6])}
    assert played(steps, least=0.9, last=3) is None


def made_up(dice_of_split):
    """Rounds in which every draft has the same Dice, the held-out ones .85."""
    return {
        ("membrane", seed, "networks", n): {
            "set": "membrane", "seed": seed, "arm": "networks", "n": n, **line(0.9, [dice] * 5, [0.85]),
        }
        for seed, dice in enumerate(dice_of_split)
        for n in STEPS
    }  # fmt: skip


def test_too_early_is_told_from_never():
    rows = stop_table(made_up([0.95, 0.7]), ["membrane"]).splitlines()
    assert "| membrane | 0.9 | 5 | 1 of 2 | 7 | 0.850 | 100% | 1 of 1 | 0 of 1 |" in rows
    assert "| membrane | 0.8 | 5 | 1 of 2 | 7 | 0.850 | 0% | 0 of 1 | 1 of 1 |" in rows


def test_what_the_server_says_is_compared_with_what_is_true():
    lines, ratios = made_up([0.9] * 4), {"membrane": 0.4}
    assert "| membrane | 0.900 | 0.900 | 0.900 | +0.050 (+0.050 to +0.050)" in honesty_table(lines, ratios)


def test_two_splits_give_no_interval():
    assert told([0.7, 0.8], 0.4) == "0.700; 0.800"


def test_other_arms_are_compared_split_by_split():
    lines = made_up([0.9, 0.9])
    for seed, dice in enumerate([0.9, 0.8]):
        lines["membrane", seed, "LDA", 5] = {"dice": [dice]}
    row = paired_table(lines, {"membrane": 0.4}).splitlines()[-1]
    assert row.startswith("| membrane | LDA | +0.050; -0.050 |")
    assert row.endswith("| 1 of 2 |")
