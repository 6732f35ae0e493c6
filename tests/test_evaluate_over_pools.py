"""What is said over all pools of our evidence is held to numbers worked out by hand."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

from evidence_over_pools import (
    BEST,
    DEFAULT,
    IMAGENET,
    ORACLE,
    Pool,
    claims_of,
    headroom_of,
    interval,
    lines_of,
    table_of,
)

WARD = "ward, dinov2-s, l2"


def pool(folder, name, values):
    """``{arm: [draws of one split]}`` of one judge at ten labels, as a comparison writes it."""
    (folder / f"{name}-classes").mkdir(parents=True)
    with (folder / f"{name}-classes" / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["judge", "measure", "budget", "seed", "draw", "arm", "value"])
        for arm, draws in values.items():
            for draw, value in enumerate(draws):
                writer.writerow(["probe", "auroc", 10, 0, draw, arm, value])
                writer.writerow(["probe", "auprc", 10, 0, draw, arm, 9.9])
    with (folder / f"{name}-classes" / "headroom.csv").open("w", newline="", encoding="utf-8") as file:
        file.write("judge,measure,budget,n_draws,mean,best,best_of_halves\nprobe,auroc,10,2,0.6,0.1,0.04\n")
    return Pool(folder / f"{name}-classes")


@pytest.fixture
def pools(tmp_path):
    return [
        pool(
            tmp_path,
            "one",
            {"random": [0.5, 0.7], DEFAULT: [0.6, 0.8], WARD: [0.75], ORACLE: [0.9], IMAGENET: [0.5, 0.7]},
        ),
        pool(
            tmp_path,
            "two",
            {"random": [0.4, 0.6], DEFAULT: [0.4, 0.5], WARD: [0.55], ORACLE: [0.7], IMAGENET: [0.5, 0.7]},
        ),
    ]


def line(lines, arm):
    (found,) = (one for one in lines if one["arm"] == arm and one["budget"] == "all")
    return found


def test_gains_are_means_over_starts_less_random_and_shares_are_ratios_of_sums(pools):
    # the default: .7 - .6 = .1 and .45 - .5 = -.05; the oracle: .3 and .2
    found = line(lines_of(pools, "classes"), DEFAULT)
    assert found["gain"] == pytest.approx(0.025)
    assert found["share"] == pytest.approx(0.05 / 0.5)
    assert (found["pools_won"], found["cells_won"], found["n_cells"]) == (1, 1, 2)
    assert found["worst_cell"] == pytest.approx(-0.05)
    assert (found["low"], found["high"]) == (pytest.approx(-0.05), pytest.approx(0.1))  # one pool twice, or the other


def test_the_best_strategy_of_a_pool_is_told_by_the_others(pools):
    # ward gains .15 and .05, the default .1 and -.05: ward is best on each pool's other
    assert line(lines_of(pools, "classes"), BEST)["gain"] == pytest.approx((0.15 + 0.05) / 2)


def test_claims_pair_the_default_with_each_baseline_on_the_same_pools(pools):
    against = {one["against"]: one for one in claims_of(pools)}
    assert against["random"]["gain"] == pytest.approx(0.025)
    assert against[IMAGENET]["gain"] == pytest.approx(((0.7 - 0.6) + (0.45 - 0.6)) / 2)
    assert against[IMAGENET]["pools_won"] == 1
    # deviations over two batches: .2 / sqrt 2 twice for random; .2 / sqrt 2 and .1 / sqrt 2 for the default
    assert against["random"]["spread_ratio"] == pytest.approx(0.3 / 0.4)


def test_headroom_is_a_mean_over_the_pools(pools):
    (found,) = headroom_of(pools, "classes")
    assert (found["n_pools"], found["mean"], found["best"], found["best_of_halves"]) == (2, 0.6, 0.1, 0.04)
    assert found["worst"] == pytest.approx(-0.09)  # of two draws .2 apart


def test_a_share_of_what_may_be_nothing_has_no_interval():
    share, low, high = interval([0.1, 0.1], [0.3, -0.1])
    assert share == pytest.approx(1.0)
    assert np.isnan([low, high]).all()
    assert interval([0.1, 0.2], [0.2, 0.4]) == (pytest.approx(0.5), pytest.approx(0.5), pytest.approx(0.5))


def test_the_table_has_a_line_for_each_arm_the_oracle_first(pools):
    lines = table_of(lines_of(pools, "classes"), "classes").splitlines()
    assert lines[2].startswith("| probe | oracle, dinov2-s, l2 | +0.250")
    assert "10% (-25% to 33%)" in lines[3]
