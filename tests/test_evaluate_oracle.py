"""What there is to gain: the arms that are told the labels, and the luck of random batches."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from firstpick.evaluate.arms import (
    FOREGROUND,
    ORACLE,
    RANDOM,
    Arm,
    all_arms,
    choose_batches,
    components_of,
    is_told,
    recipe_of,
    told_arms,
)
from firstpick.evaluate.bench import Bench
from firstpick.evaluate.grid import Cells
from firstpick.evaluate.headroom import headroom
from firstpick.evaluate.judges import class_judges, mask_judges
from firstpick.evaluate.oracle import Truth, balanced, draw_foreground, truth_of_masks
from firstpick.evaluate.patches import Patches
from firstpick.evaluate.run import Outcome, Plan, Result, compare
from firstpick.evaluate.segmentation import Example
from firstpick.evaluate.splits import make_split
from firstpick.evaluate.statistics import corrected_t, ratio_of
from firstpick.evaluate.summary import summarise
from firstpick.evaluate.tables import sections
from firstpick.selection import STRATEGIES, Guards
from firstpick.studies import Study

NO_GUARDS = Guards()
KMEANS = Arm("kmeans", "pixels", "l2")


def blobs(counts, *, seed=0):
    """Rows around one direction for each class."""
    classes = np.repeat(np.arange(len(counts)), counts)
    noise = np.random.default_rng(seed).normal(scale=0.1, size=(len(classes), len(counts)))
    return (np.eye(len(counts))[classes] + noise).astype(np.float32), [f"class {c}" for c in classes]


def test_the_oracle_takes_as_many_of_each_class_however_rare():
    X, classes = blobs([50, 30, 3])
    chosen = balanced(X, 9, Truth(tuple(classes)), groups=(), seed=0, guards=NO_GUARDS)
    assert Counter(classes[row] for row in chosen) == {"class 0": 3, "class 1": 3, "class 2": 3}
    assert len(set(chosen)) == 9


def test_of_each_class_the_oracle_takes_the_typical():
    # on a circle: of a class of three, the middle one is nearest to their mean
    angles = np.deg2rad([0, 10, 30, 90, 100, 120])
    X = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    chosen = balanced(X, 2, Truth(tuple("aaabbb")), groups=(), seed=0, guards=NO_GUARDS)
    assert sorted(chosen) == [1, 4]


def test_with_fewer_labels_than_classes_the_oracle_takes_the_largest_classes():
    X, classes = blobs([9, 20, 30])
    chosen = balanced(X, 2, Truth(tuple(classes)), groups=(), seed=0, guards=NO_GUARDS)
    assert {classes[row] for row in chosen} == {"class 1", "class 2"}


def test_the_oracle_keeps_to_the_guards():
    X, classes = blobs([10, 10])
    groups = ["one patient" if row % 2 else f"patient {row}" for row in range(20)]
    chosen = balanced(X, 6, Truth(tuple(classes)), groups=groups, seed=0, guards=Guards(max_per_group=1))
    assert sum(groups[row] == "one patient" for row in chosen) <= 1


def test_masks_are_balanced_over_size_and_the_labels_they_hold():
    masks = [np.zeros((2, 4), np.uint8) for _ in range(6)]
    for row, mask in enumerate(masks):
        mask.ravel()[: row + 1] = 1
    masks[5][1, 3] = 2
    truth = truth_of_masks([Example(np.zeros((2, 4), np.float32), mask, (0.5, 2.0)) for mask in masks])
    assert truth.foreground == (1.0, 2.0, 3.0, 4.0, 5.0, 7.0)
    assert truth.strata == ("0: 1", "0: 1", "1: 1", "1: 1", "2: 1", "2: 1 2")
    assert truth.of(np.array([5, 0])) == Truth(("2: 1 2", "0: 1"), (7.0, 1.0))


def test_foreground_draws_two_of_three_by_size_and_the_rest_by_chance():
    truth = Truth(("",) * 4, (0.0, 0.0, 0.0, 8.0))
    first = Counter(
        draw_foreground(1, truth, groups=(), seed=seed, max_per_group=0)[0] for seed in range(600)
    )  # row 3 with 2/3 + 1/3 * 1/4 = .75
    assert 0.75 - 3 * 0.018 < first[3] / 600 < 0.75 + 3 * 0.018
    assert all(first[row] for row in range(3))


def test_foreground_draws_each_once_the_same_way_twice_and_a_small_batch_starts_a_large_one():
    truth = Truth(("",) * 6, (1.0, 2.0, 0.0, 0.0, 5.0, 1.0))
    groups = ["a", "a", "a", "", "", ""]
    largest = draw_foreground(6, truth, groups=groups, seed=3, max_per_group=1)
    assert sorted(largest) == list(range(6))
    assert sum(groups[row] == "a" for row in largest[:4]) == 1  # while others remain
    assert draw_foreground(3, truth, groups=groups, seed=3, max_per_group=1) == largest[:3]


def test_a_pool_without_foreground_is_drawn_by_chance():
    truth = Truth(("",) * 3, (0.0, 0.0, 0.0))
    assert sorted(draw_foreground(3, truth, groups=(), seed=0, max_per_group=0)) == [0, 1, 2]


def test_no_strategy_is_told_the_labels():
    assert not {ORACLE, FOREGROUND.strategy} & set(STRATEGIES)
    with pytest.raises(ValueError, match="strategy 'oracle' is not known"):
        all_arms([ORACLE], ["pixels"], ["l2"])
    arms = told_arms(["pixels", "dinov2-s"], with_masks=False, n_draws=3, n_repeats=2)
    assert all(is_told(arm) for arm in arms)
    assert [arm.name for arm in arms if not arm.draw] == ["oracle, pixels, l2", "oracle, dinov2-s, l2"]


def test_a_scaling_may_name_its_number_of_components():
    assert components_of("whiten:4", 32) == ("whiten", 4)
    assert recipe_of(Arm("kmeans", "pixels", "pca:4"), NO_GUARDS, 32, 6)["n_components"] == 4
    assert recipe_of(Arm("kmeans", "pixels", "pca"), NO_GUARDS, 32, 6)["n_components"] == 32
    X = np.random.default_rng(0).normal(size=(60, 20)).astype(np.float32)

    def batch(scaling, n_components):
        return choose_batches(X, Arm("kcenter", "pixels", scaling), [8], (), 0, NO_GUARDS, n_components, None)

    assert batch("whiten:2", 12) == batch("whiten", 2) != batch("whiten", 12)


@pytest.mark.parametrize("scaling", ["l2:4", "whiten:", "whiten:-1", "whiten:x", "white:4"])
def test_a_number_that_makes_no_sense_is_told(scaling):
    with pytest.raises(ValueError, match=f"scaling '{scaling}' is not known"):
        components_of(scaling, 32)


def test_a_ratio_is_that_of_the_means_and_its_interval_is_fiellers():
    gains, best = np.array([0.02, 0.05, 0.03, 0.04]), np.array([0.10, 0.12, 0.08, 0.09])
    found = ratio_of(gains, best, test_ratio=0.25)
    assert found.mean == pytest.approx(0.14 / 0.39)
    for end in (found.low, found.high):  # at the ends the difference is just told from 0
        assert corrected_t(gains - end * best, test_ratio=0.25).p == pytest.approx(0.05)
    assert corrected_t(gains - (found.low + found.high) / 2 * best, test_ratio=0.25).p > 0.05


@pytest.mark.parametrize(
    ("best", "share"),
    [([0.1, -0.2, 0.0], np.nan), ([0.3, -0.1, 0.1], 0.5), ([0.1], 0.5)],
    ids=["nothing to gain", "not known to gain", "one split"],
)
def test_a_share_of_what_may_be_nothing_has_no_interval(best, share):
    found = ratio_of([0.05] * len(best), best, test_ratio=0.25)
    np.testing.assert_allclose(found.mean, share)
    assert np.isnan([found.low, found.high]).all()


def outcome_of(values, *, halves=None):
    """``{arm: one value for each split}`` of one judge at ten labels."""
    results = [
        Result("probe", measure, 10, seed, arm, value)
        for measure, table in {"auroc": values, **(halves or {})}.items()
        for arm, line in table.items()
        for seed, value in enumerate(line)
    ]
    order = sorted(results, key=lambda r: (r.judge, r.measure, r.budget, r.arm, r.seed))
    return Outcome(tuple(order), 0.25, {"probe": "auroc"})


def test_an_arms_share_is_that_of_the_oracle_on_its_own_features():
    values = {
        RANDOM: [0.5, 0.5],
        KMEANS: [0.6, 0.6],
        Arm(ORACLE, "other", "l2"): [0.9, 0.9],
        Arm(ORACLE, "pixels", "l2"): [0.7, 0.7],
    }
    rows = {row.arm: row for row in summarise(outcome_of(values))}
    assert rows[KMEANS].of_oracle.mean == pytest.approx(0.5)
    assert rows[RANDOM].of_oracle is None
    assert rows[Arm(ORACLE, "pixels", "l2")].of_oracle is None
    assert np.isnan(rows[Arm(ORACLE, "pixels", "l2")].p_holm)  # no candidate, so it does not count for Holm
    assert rows[KMEANS].p_holm == rows[KMEANS].difference.p


def test_the_starts_of_an_arm_count_as_their_mean():
    values = {RANDOM: [0.5, 0.5], KMEANS: [0.6, 0.7], replace(KMEANS, draw=1): [0.8, 0.7]}
    (row,) = (row for row in summarise(outcome_of(values)) if row.arm == KMEANS)
    assert row.difference.mean == pytest.approx(0.2)
    assert row.worst == pytest.approx((0.6 + 0.7) / 2)


def test_the_best_random_batch_by_one_half_is_read_on_the_other():
    draws = [replace(RANDOM, draw=draw) for draw in range(3)]
    whole, one, other = ([0.5, 0.6, 0.7], [0.4, 0.8, 0.6], [0.6, 0.5, 0.7])
    tables = [{draw: [value] for draw, value in zip(draws, line, strict=True)} for line in (whole, one, other)]
    outcome = outcome_of(tables[0], halves={"auroc, half 0": tables[1], "auroc, half 1": tables[2]})
    (found,) = headroom(outcome)
    assert (found.budget, found.n_draws) == (10, 3)
    assert found.mean.mean == pytest.approx(0.6)
    assert found.best.mean == pytest.approx(0.69 - 0.6)  # 95 % of the way from .5 to .7
    # the second is best by the first half, with .5 on the other (mean .6); the third by the other, with .6 (mean .6)
    assert found.best_of_halves.mean == pytest.approx((-0.1 + 0.0) / 2)
    assert {row.measure for row in summarise(outcome)} == {"auroc"}  # halves are no measures of their own
    titles = [title for title, _ in sections(summarise(outcome), outcome, tests=True)]
    assert "What there is to gain: auroc, probe" in titles


def test_where_the_test_part_is_luck_nothing_is_left_on_its_other_half():
    rng = np.random.default_rng(0)
    tables = [
        {replace(RANDOM, draw=draw): rng.normal(size=30).tolist() for draw in range(40)} for _ in range(2)
    ]  # the halves have nothing in common
    whole = {draw: np.mean([table[draw] for table in tables], axis=0).tolist() for draw in tables[0]}
    (found,) = headroom(outcome_of(whole, halves=dict(zip(("auroc, half 0", "auroc, half 1"), tables, strict=True))))
    assert found.best.low > 0.5
    assert found.best_of_halves.low < 0 < found.best_of_halves.high


def planted(n_rare=12):
    """Classes that the judging features tell, and the selecting ones do not."""
    X, classes = blobs([60, 60, n_rare])
    noise = np.random.default_rng(1).normal(size=(len(X), 8)).astype(np.float32)
    return Bench(
        studies=tuple(Study(f"study {row:03}", "1", "") for row in range(len(X))),
        groups=("",) * len(X),
        classes=tuple(classes),
        masks=(),
        features={"pixels": noise, "judging": X},
        fingerprints={"pixels": "s", "judging": "j"},
        truth=Truth(tuple(classes)),
    )


def finish(work):
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


@pytest.mark.slow
def test_where_a_class_is_rare_the_oracle_gains_and_a_strategy_that_sees_noise_does_not(tmp_path):
    bench = planted()
    arms = (
        *all_arms(["kmeans"], ["pixels"], ["l2"], n_draws=10, n_repeats=5),
        *told_arms(["pixels"], with_masks=False, n_draws=10, n_repeats=2),
    )
    with closing(Cells(tmp_path)) as cells, ThreadPoolExecutor(1) as executor:
        work = compare(
            bench,
            class_judges(bench, ["judging"], None),
            Plan(arms, (6,), n_seeds=8, starts=1),
            cells,
            executor,
            n_waiting=2,
        )
        outcome = finish(work)
    rows = {row.arm: row for row in summarise(outcome) if row.measure == "auroc"}
    oracle, kmeans = rows[Arm(ORACLE, "pixels", "l2")], rows[KMEANS]
    assert oracle.difference.low > 0
    assert kmeans.of_oracle.low < 0 < kmeans.of_oracle.high < 0.6
    assert {r.arm.strategy for r in outcome.results if "half" in r.measure} == {"random"}
    counts = {r.arm: r.value for r in outcome.results if r.measure == "classes"}
    assert counts[Arm(ORACLE, "pixels", "l2")] == 3.0


def test_steps_of_kmeans_are_counted_on_features_alone(tmp_path):
    bench = replace(planted(), truth=Truth(planted().classes, tuple(map(float, range(132)))))
    reduced = Arm("kmeans", "pixels", "pca:4")
    arms = (RANDOM, KMEANS, reduced, *told_arms(["pixels"], with_masks=True, n_draws=1, n_repeats=1))
    plan = Plan(arms, (4,), n_seeds=1, with_convergence=True)
    with closing(Cells(tmp_path)) as cells, ThreadPoolExecutor(1) as executor:
        outcome = finish(compare(bench, [], plan, cells, executor, n_waiting=2))
    assert {r.arm for r in outcome.results if r.measure == "iterations"} == {KMEANS, reduced}


def test_a_judge_is_scaled_by_the_pool_alone():
    bench = planted()
    split = make_split(len(bench.studies), 0, classes=bench.classes)
    moved = {name: X.copy() for name, X in bench.features.items()}
    moved["judging"][split.test] *= 100
    rows = split.pool[:4]
    (here,) = class_judges(bench, ["judging"], None)
    (there,) = class_judges(replace(bench, features=moved), ["judging"], None)
    learnt, _, measured, *_ = here.arguments(rows, split, 0)
    learnt_there, _, measured_there, *_ = there.arguments(rows, split, 0)
    np.testing.assert_array_equal(learnt, learnt_there)
    assert not np.allclose(measured, measured_there)


def test_patches_are_projected_by_the_pool_alone():
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(6, 30, 5)).astype(np.float16)
    label = (tokens[..., 0] > 0).astype(np.uint8)
    moved = tokens.copy()
    moved[4:] += 50
    pool = np.arange(4)
    before, after = Patches(tokens, label).reduced(pool), Patches(moved, label).reduced(pool)
    np.testing.assert_array_equal(before[:4], after[:4])
    flat = before[:4].reshape(-1, before.shape[-1])
    np.testing.assert_allclose(flat.std(axis=0, ddof=1), 1, rtol=1e-3)
    split = make_split(6, 0, test_fraction=0.5)
    (judge,) = mask_judges([], ["organ"], Patches(tokens, label), encoder="dinov2-s", train=False)
    arguments = judge.arguments(split.pool, split, 0)
    np.testing.assert_array_equal(arguments[0], Patches(tokens, label).reduced(split.pool)[split.pool])


def test_a_test_part_has_halves_alike_in_classes_and_apart_in_groups():
    classes = ["a"] * 40 + ["b"] * 20
    split = make_split(60, 1, test_fraction=0.5, classes=classes)
    counts = [Counter(classes[row] for row in split.test[split.half == half]) for half in (0, 1)]
    assert counts == [{"a": 10, "b": 5}] * 2
    groups = [f"patient {row // 5}" for row in range(60)]
    split = make_split(60, 1, test_fraction=0.5, groups=groups, classes=classes)
    one, other = ({groups[row] for row in split.test[split.half == half]} for half in (0, 1))
    assert not one & other
    assert len(one) == len(other) == 3
