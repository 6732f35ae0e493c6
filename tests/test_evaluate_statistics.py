"""What a comparison says is held to numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from firstpick.evaluate.arms import RANDOM, Arm
from firstpick.evaluate.run import Outcome, Result
from firstpick.evaluate.statistics import area, corrected_t, holm, rank_correlation
from firstpick.evaluate.summary import AREA, agreement, rank_arms, summarise

KMEANS, WARD = Arm("kmeans", "pixels", "l2"), Arm("ward", "pixels", "l2")


def test_the_corrected_test_follows_its_formula():
    # mean 0.02, sum of squared deviations 0.0010, s^2 = 0.0010 / 4 = 0.00025; (1/5 + 1/4) s^2 = 0.0001125
    found = corrected_t([0.00, 0.01, 0.02, 0.03, 0.04], test_ratio=0.25)
    error = np.sqrt(0.0001125)
    assert found.mean == pytest.approx(0.02)
    assert found.high - found.mean == pytest.approx(2.776445 * error, rel=1e-6)  # t for 4 degrees of freedom
    assert found.mean - found.low == pytest.approx(2.776445 * error, rel=1e-6)
    assert found.p == pytest.approx(2 * stats.t.sf(0.02 / error, 4))


def test_without_overlap_it_is_the_usual_paired_t_test():
    a, b = np.random.default_rng(0).normal(size=(2, 12))
    assert corrected_t(a - b, test_ratio=0.0).p == pytest.approx(stats.ttest_rel(a, b).pvalue)


def test_an_interval_holds_0_exactly_where_p_says_so():
    for seed in range(50):
        found = corrected_t(np.random.default_rng(seed).normal(0.8, size=6), test_ratio=0.3)
        assert (found.low < 0 < found.high) == (found.p > 0.05)


@pytest.mark.parametrize(("values", "p"), [([0.0, 0.0], 1.0), ([0.1, 0.1], 0.0)])
def test_values_that_do_not_vary_leave_no_doubt(values, p):
    found = corrected_t(values, test_ratio=0.25)
    assert (found.low, found.high, found.p) == (values[0], values[0], p)


def test_one_split_gives_a_mean_and_no_interval():
    found = corrected_t([0.5], test_ratio=0.25)
    assert found.mean == 0.5
    assert np.isnan([found.low, found.high, found.p]).all()


def test_holm_steps_down_and_never_falls_back():
    # sorted .01 .02 .03 .04 times 4 3 2 1: .04 .06 .06 .04 -> the last may not fall below the one before
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03, 0.02]), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1.0, 1.0])


def test_a_test_that_was_not_made_does_not_count_for_holm():
    found = holm([np.nan, 0.01, 0.04])
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], [0.02, 0.04])


def test_area_weighs_by_the_logarithm_of_the_budget():
    # 5 to 20 is two doublings at mean height .5; 20 to 40 one doubling at height 1
    assert area([5, 20, 40], [0.0, 1.0, 1.0]) == pytest.approx((2 * 0.5 + 1 * 1.0) / 3)
    assert area([7], [0.3]) == 0.3


def test_two_points_do_not_correlate():
    assert np.isnan(rank_correlation([1, 2], [1, 2]))
    assert rank_correlation([1, 2, 9], [3, 5, 4]) == pytest.approx(0.5)


def outcome(values, *, measure="auroc", test_ratio=0.25):
    """``{arm: {budget: [one value for each seed]}}`` as a comparison gives it."""
    results = [
        Result("probe", measure, budget, seed, arm, value)
        for arm, by_budget in values.items()
        for budget, line in by_budget.items()
        for seed, value in enumerate(line)
    ]
    order = sorted(results, key=lambda r: (r.judge, r.measure, r.budget, r.arm, r.seed))
    return Outcome(tuple(order), test_ratio, {"probe": measure})


def test_arms_are_paired_with_random_by_split():
    values = {RANDOM: {10: [0.5, 0.9]}, KMEANS: {10: [0.6, 0.8]}, WARD: {10: [0.7, 1.1]}}
    rows = {row.arm: row for row in summarise(outcome(values))}
    assert rows[RANDOM].difference is None
    assert rows[KMEANS].difference.mean == pytest.approx(0.0)
    assert rows[WARD].difference.mean == pytest.approx(0.2)
    assert rows[WARD].difference.low == pytest.approx(0.2)  # both splits agree
    assert rows[WARD].p_holm == pytest.approx(0.0, abs=1e-9)
    assert (rows[KMEANS].worst, rows[RANDOM].worst) == (0.6, 0.5)
    assert rows[RANDOM].spread == pytest.approx(0.4 / np.sqrt(2))


def test_draws_of_random_count_as_their_mean_but_spread_singly():
    draws = {replace(RANDOM, draw=0): {10: [0.5, 0.9]}, replace(RANDOM, draw=1): {10: [0.7, 0.9]}}
    rows = {row.arm: row for row in summarise(outcome(draws | {KMEANS: {10: [0.7, 1.0]}}))}
    assert set(rows) == {RANDOM, KMEANS}
    assert rows[RANDOM].mean.mean == pytest.approx(0.75)
    assert rows[KMEANS].difference.mean == pytest.approx(0.1)
    assert rows[KMEANS].difference.low == pytest.approx(0.1)  # 0.7 - 0.6 and 1.0 - 0.9
    assert rows[RANDOM].spread == pytest.approx(np.sqrt((0.08 + 0.02) / 2))
    assert rows[RANDOM].worst == pytest.approx((0.5 + 0.7) / 2)


def test_a_draw_without_a_value_on_some_split_does_not_spoil_the_spread():
    draws = {replace(RANDOM, draw=0): {10: [0.5, 0.9]}, replace(RANDOM, draw=1): {10: [0.7, float("nan")]}}
    (row,) = summarise(outcome(draws))
    assert row.spread == pytest.approx(0.4 / np.sqrt(2))
    assert row.mean.mean == pytest.approx((0.6 + 0.9) / 2)


def test_the_worst_distance_is_the_largest():
    rows = summarise(outcome({RANDOM: {10: [3.0, 8.0]}}, measure="hd95: anterior"))
    assert rows[0].worst == 8.0


def test_the_area_is_paired_too_and_only_of_whole_curves():
    values = {RANDOM: {5: [0.0, 0.0], 10: [1.0, 0.0]}, KMEANS: {5: [1.0, 1.0], 10: [1.0, float("nan")]}}
    rows = {row.arm: row for row in summarise(outcome(values)) if row.budget == AREA}
    assert rows[RANDOM].mean.mean == pytest.approx(0.25)
    assert rows[KMEANS].n_splits == 1
    assert rows[KMEANS].difference.mean == pytest.approx(0.5)


def test_judges_agree_where_they_rank_arms_alike():
    arms = [Arm("kmeans", name, "l2") for name in "abcd"]
    gains = {"probe": [0.1, 0.2, 0.3, 0.4], "network": [0.2, 0.4, 0.6, 0.5]}
    results = [
        Result(judge, "auroc", 5, seed, arm, value)
        for judge, line in gains.items()
        for seed in range(2)
        for arm, value in zip([RANDOM, *arms], [0.0, *line], strict=True)
    ]
    both = Outcome(tuple(sorted(results, key=lambda r: (r.judge, r.arm, r.seed))), 0.25, dict.fromkeys(gains, "auroc"))
    assert agreement(summarise(both), both.primary) == [("network", "probe", 5, pytest.approx(0.8))]


def test_ranks_are_over_the_arms_that_all_data_sets_have():
    ranks = rank_arms({"one": {"a": 0.9, "b": 0.8, "c": 0.7}, "two": {"a": 0.1, "b": 0.2}})
    assert ranks == {"a": {"one": 1.0, "two": 2.0, "mean": 1.5}, "b": {"one": 2.0, "two": 1.0, "mean": 1.5}}
