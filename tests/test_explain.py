"""Who a pick stands for, what is unusual, and how much a batch covers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstpick.proposal.explain import Reason, coverage, coverage_radius, explain, sentence
from firstpick.selection import outliers
from firstpick.selection.geometry import distances
from firstpick.selection.outliers import unusual

settings.register_profile("calm", deadline=None, max_examples=60)
settings.load_profile("calm")


def directions(*degrees):
    """Rows of various lengths in these directions of the plane."""
    angles = np.radians(degrees)
    return np.column_stack([np.cos(angles), np.sin(angles)]) * np.linspace(1, 9, len(degrees))[:, None]


def blob(n, dim=32, seed=0, spread=0.3, centre=1.0):
    return centre + spread * np.random.default_rng(seed).normal(size=(n, dim))


def test_each_study_goes_to_the_pick_in_the_nearest_direction():
    # picks at 0 and 90 degrees; 10, 20 and 40 are nearer to the first, 60 to the second
    first, second = explain(directions(20, 0, 60, 10, 90, 40), [1, 4])
    assert (first.n_stands_for, first.share, first.lookalikes) == (4, 4 / 6, (3, 0, 5))
    assert (second.n_stands_for, second.share, second.lookalikes) == (2, 2 / 6, (2,))
    assert first.n_unlabelled == second.n_unlabelled == 6


def test_nobody_stands_for_labelled_or_excluded_studies():
    first, second = explain(directions(20, 0, 60, 10, 90, 40), [1, 4], labelled=[3], excluded=[2, 5])
    assert (first.n_stands_for, first.lookalikes, first.n_unlabelled) == (2, (0,), 3)
    assert (second.n_stands_for, second.lookalikes, second.share) == (1, (), 1 / 3)


def test_a_pick_that_has_been_labelled_since_still_stands_for_its_own():
    assert explain(directions(0, 10, 90), [0, 2], labelled=[0]) == explain(directions(0, 10, 90), [0, 2])


def test_two_picks_that_are_copies_each_stand_at_least_for_themselves():
    # the third copy and the study at 10 degrees go to the first of the two
    first, second = explain(directions(0, 0, 0, 10), [2, 1])
    assert (first.n_stands_for, first.lookalikes) == (3, (0, 3))
    assert (second.n_stands_for, second.lookalikes) == (1, ())


def test_of_many_lookalikes_the_five_nearest_are_named_ties_by_row():
    (reason,) = explain(directions(0, 30, -30, 5, 10, 15, 20), [0])
    assert reason.lookalikes == (3, 4, 5, 6, 1)


@given(
    n_rows=st.integers(1, 30),
    seed=st.integers(0, 10**6),
    n_values=st.integers(1, 4),
    data=st.data(),
)
def test_shares_of_a_batch_sum_to_one(n_rows, seed, n_values, data):
    X = np.random.default_rng(seed).integers(-n_values, n_values, size=(n_rows, 3))  # many copies and zero rows
    rows = data.draw(st.permutations(range(n_rows)))
    n_picks = data.draw(st.integers(1, n_rows))
    n_labelled = data.draw(st.integers(0, n_rows - n_picks))
    picks, labelled, excluded = rows[:n_picks], rows[n_picks:][:n_labelled], rows[n_picks + n_labelled :][:2]
    reasons = explain(X, picks, labelled=labelled, excluded=excluded)
    n_unlabelled = n_rows - len(labelled) - len(excluded)
    assert sum(reason.n_stands_for for reason in reasons) == n_unlabelled
    assert sum(reason.share for reason in reasons) == pytest.approx(1)
    named = [row for reason in reasons for row in reason.lookalikes]
    assert len(named) == len(set(named))
    assert not set(named) & {*picks, *labelled, *excluded}
    curve = coverage(X, picks, labelled=labelled, excluded=excluded)
    values = [0, curve.before, *curve.after, 1]
    assert values == sorted(values)


class TestUnusual:
    def flags(self, X, picks, **options):
        return [reason.unusual for reason in explain(X, picks, **options)]

    def test_one_far_from_all_others_is_and_the_others_are_not(self):
        X = np.vstack([blob(60), blob(1, centre=-1.0)])
        flags = self.flags(X, range(61))
        assert flags[-1]
        assert sum(flags) <= 2

    def test_copies_do_not_make_it_usual(self):
        X = np.vstack([blob(60), np.repeat(blob(1, centre=-1.0), 8, axis=0)])
        assert self.flags(X, [60]) == [True]

    def test_copies_of_the_others_do_not_make_a_study_unusual(self):
        assert not any(self.flags(np.vstack([np.repeat(blob(5), 20, axis=0), blob(40, seed=1)]), range(100, 140)))

    def test_a_loose_group_of_its_own_is_not(self):
        loose = blob(30, seed=1, spread=0.8) * np.resize([1, -1], 32)
        flags = self.flags(np.vstack([blob(120, spread=0.1), loose]), range(150))
        assert sum(flags[120:]) <= 2

    def test_a_pair_among_a_dozen_is_not_but_a_single_one_is(self):
        X = np.vstack([blob(10), blob(2, centre=-1.0)])
        assert self.flags(X, range(12)) == [False] * 12
        assert self.flags(X[:11], range(11)) == [False] * 10 + [True]

    def test_equally_spaced_studies_are_not(self):
        assert not any(self.flags(np.eye(12), range(12)))

    def test_nobody_is_where_there_are_too_few_to_tell(self):
        assert self.flags(directions(0, 1, 2, 180), range(4)) == [False] * 4
        assert self.flags(np.zeros((3, 2)), [0]) == [False]

    def test_it_is_found_among_more_studies_than_the_sample(self):
        X = np.vstack([blob(5000, dim=16), blob(1, dim=16, centre=-1.0)])
        assert self.flags(X, [10, 5000]) == [False, True]

    @pytest.mark.parametrize(("n_others", "n_group"), [(450, 5), (40, 4)])
    def test_so_is_a_group_of_up_to_five_or_a_tenth(self, n_others, n_group):
        rng = np.random.default_rng(0)
        X = np.vstack([rng.normal(size=(n_others, 3)), 50 + 0.01 * rng.normal(size=(n_group + 1, 3))])
        assert unusual(X[:-1], X[:-1])[n_others:].all()
        assert not unusual(X, X)[n_others:].any()

    @pytest.mark.parametrize(
        ("away", "neighbours_gap", "expected"), [(14.4, 8, False), (14.5, 8, True), (17.9, 12, False), (18.1, 12, True)]
    )
    def test_three_deviations_and_half_as_far_again_as_its_neighbour(self, away, neighbours_gap, expected):
        # pairs with gaps 8, ... 12 have a median of 10 and a deviation of 1.4826 * 1: the limit is 14.448
        pairs = [[100.0 * gap, 100.0 * gap + gap] for gap in range(8, 13)]
        X = np.array([*np.ravel(pairs), 100.0 * neighbours_gap - away])[:, None]
        np.testing.assert_array_equal(unusual(X, X), 10 * [False] + [expected])

    def test_whatever_is_looked_at_together(self, monkeypatch):
        X = np.vstack([blob(60), blob(3, centre=-1.0)])
        at_once = unusual(X, X)
        monkeypatch.setattr(outliers, "_BLOCK", 7)
        np.testing.assert_array_equal(unusual(X[::-1], X), at_once[::-1])
        assert at_once.any()

    def test_never_by_more_than_two_thousand(self):
        n_taken = [len(range(0, n, outliers.reference_stride(n))) for n in (2000, 2001, 3999, 4001)]
        assert n_taken == [2000, 1001, 2000, 1334]

    def test_an_excluded_lookalike_group_does_not_make_it_usual(self):
        X = np.vstack([blob(60), blob(9, centre=-1.0)])
        assert self.flags(X, [60]) == [False]
        assert self.flags(X, [60], excluded=range(61, 69)) == [True]


def test_sentences():
    assert (
        sentence(Reason(41 / 240, 41, 240, (1, 3, 0), unusual=False), ["case_2", "case_4", "case_1"])
        == "Stands for 41 of the 240 unlabelled studies (17 %); most like case_2, case_4."
    )
    assert sentence(Reason(0.002, 2, 1000, (1,), unusual=False), ["case_2"]).endswith("(under 1 %); most like case_2.")
    assert sentence(Reason(0.1, 1, 10, (), unusual=False), []) == "Stands for itself alone."
    assert (
        sentence(Reason(0.2, 2, 10, (0,), unusual=True), ["case_1"])
        == "Unusual: unlike most other studies; stands for 2 of the 10 unlabelled studies (20 %); most like case_1."
    )


class TestCoverage:
    def test_by_hand(self):
        # radius: chord of 15 degrees. The label at 0 covers 0 and 10; the pick at 40 covers 30, 40, 50; 90 is left
        X = directions(0, 10, 30, 40, 50, 90)
        curve = coverage(X, [3, 5], labelled=[0], radius=2 * np.sin(np.radians(7.5)))
        assert (curve.before, curve.after) == (2 / 6, (5 / 6, 1.0))

    def test_the_rim_counts(self):
        assert coverage(directions(0, 20), [0], radius=2 * np.sin(np.radians(10))).after == (1.0,)

    def test_excluded_studies_are_not_counted(self):
        X = directions(0, 10, 30, 40, 50, 90)
        assert coverage(X, [3], excluded=[5, 0, 1], radius=0.2).after == (1.0,)

    def test_without_labels_it_starts_at_zero(self):
        assert coverage(directions(0, 10), []).before == 0
        assert coverage(directions(0, 10), []).after == ()

    def test_many_picks_cover_as_if_taken_one_by_one(self):
        X = blob(150, dim=3, spread=1.0)
        curve = coverage(X, range(150), radius=0.1)
        assert curve.after[69] == coverage(X, range(69, -1, -1), radius=0.1).after[-1]
        assert curve.after[-1] == 1

    def test_one_from_each_group_covers_nearly_all_and_one_group_its_part(self):
        rng = np.random.default_rng(0)
        X = np.repeat(rng.normal(size=(10, 32)), 24, axis=0) + 0.1 * rng.normal(size=(240, 32))
        groups = X.reshape(10, 24, 32)
        to_middle = np.linalg.norm(groups - groups.mean(axis=1, keepdims=True), axis=2)
        middles = 24 * np.arange(10) + to_middle.argmin(axis=1)
        curve = coverage(X, middles)
        assert 0.03 < curve.after[0] <= 0.1
        assert curve.after[-1] > 0.8
        assert coverage(X, range(10)).after[-1] <= 0.1

    @pytest.mark.parametrize("spread", [0.001, 0.3, 3.0])
    @pytest.mark.parametrize("n", [30, 300])
    def test_neither_one_pick_covers_everything_nor_a_batch_nothing(self, spread, n):
        X = blob(n, dim=64, spread=spread)
        first, *_, tenth = coverage(X, range(10)).after
        assert first < 0.5
        assert tenth > 0.1


class TestRadius:
    def test_it_ignores_length_order_and_copies(self):
        X = blob(50)
        order = np.random.default_rng(0).permutation(50)
        radius = coverage_radius(X)
        assert coverage_radius((X * np.linspace(1, 100, 50)[:, None])[order]) == pytest.approx(radius)
        assert coverage_radius(np.repeat(X, 7, axis=0)) == radius > 0

    def test_it_hardly_heeds_outliers(self):
        X = blob(80)
        assert coverage_radius(np.vstack([X, blob(3, centre=-1.0)])) == pytest.approx(coverage_radius(X), rel=0.05)

    def test_copies_alone_do_not_make_it_zero(self):
        assert coverage_radius(np.vstack([np.tile(blob(1), (500, 1)), blob(20, seed=1)])) > 0.1

    def test_the_sample_of_a_large_pool_tells_about_the_same(self, monkeypatch):
        X = blob(1800, dim=8)
        exact = coverage_radius(X)
        monkeypatch.setattr("firstpick.selection.outliers.MAX_REFERENCE", 300)
        assert coverage_radius(X) == pytest.approx(exact, rel=0.05)

    @pytest.mark.parametrize("X", [np.ones((1, 3)), np.ones((5, 3)), np.zeros((4, 2)), np.zeros((0, 3))])
    def test_of_one_and_the_same_study_it_is_zero(self, X):
        assert coverage_radius(X) == 0
        assert coverage(X, [0][: len(X)]).after == (1.0,)[: len(X)]


def test_the_unusual_are_those_of_the_rule_written_down_plainly():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 3)) + np.where(np.arange(200)[:, None] < 190, [9.0, 0, 0], 0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    away = distances(rows, rows)
    fifth = np.sort(away, axis=1)[:, 5]
    last = np.argsort(away, axis=1, kind="stable")[:, 5]
    limit = np.median(fifth) + 3 * 1.4826 * np.median(np.abs(fifth - np.median(fifth)))
    expected = (fifth > limit) & (fifth > 1.5 * fifth[last])
    assert 0 < expected.sum() < 20
    np.testing.assert_array_equal(unusual(rows, rows), expected)
