"""What is said over all pools of our evidence is held to numbers worked out by hand."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
from evidence_pools import LEAST, MOST, prepare
from evidence_run import Effort, run_pool

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


def pictures(folder, classes):
    """A pool of grey pictures, brighter in the class ``b``, with a table of classes and patients."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    lines = ["study,class,group"]
    for number, label in enumerate(classes):
        array = rng.integers(0, 120, (32, 32)) + 100 * (label == "b")
        Image.fromarray(array.astype(np.uint8)).save(folder / "images" / f"{number:03}.png")
        lines.append(f"{number:03},{label},patient {number // 2}")
    (folder / "labels.csv").write_text("\n".join([*lines, "none,a,nobody"]))


def test_a_pool_has_at_most_so_many_studies_and_no_class_that_cannot_be_learnt(tmp_path):
    pictures(tmp_path / "data" / "head_ct", ["a"] * 300 + ["b"] * 200 + ["c"] * (LEAST - 1))
    prepared = prepare("head_ct", "classes", tmp_path / "data", tmp_path / "out")
    with prepared.labels.open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert MOST - LEAST < len(lines) <= MOST
    assert {line["class"] for line in lines} == {"a", "b"}
    assert {Path(line["study"]).suffix for line in lines} == {".png"}  # called as FirstPick calls them
    assert prepared.options == ("--conf", "groups.by", f"csv:{prepared.labels}#group")
    again = prepare("head_ct", "classes", tmp_path / "data", tmp_path / "again").labels
    assert again.read_text(encoding="utf-8") == prepared.labels.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_pool_is_compared_once_whatever_interrupts_and_budgets_that_do_not_fit_are_left_out(tmp_path):
    pictures(tmp_path / "data" / "head_ct", ["a", "a", "b", "b"] * 8)
    effort = Effort(("kmeans",), (4, 50), n_splits=2, n_draws=2, n_repeats=1)
    places = {"data": tmp_path / "data", "out": tmp_path / "out", "embeddings": tmp_path}
    run_pool("head_ct", "classes", effort, **places, n_workers=1)
    found = tmp_path / "out" / "head_ct-classes" / "results.csv"
    before = found.read_bytes()
    budgets = {line["budget"] for line in csv.DictReader(before.decode().splitlines())}
    assert budgets == {"4"}
    own = Pool(found.parent)
    assert not np.isnan(own.gain("probe on pixels", DEFAULT, 4))
    assert np.isnan(own.gain("probe on pixels", "kmeans, pixels, l2", 4))  # no judge of its own features
    run_pool("head_ct", "classes", effort, **places, n_workers=1)
    assert found.read_bytes() == before
