"""Strategy ``kcenter`` on points whose answer can be worked out by hand, and against scikit-activeml."""

import warnings

import numpy as np
import pytest

from firstpick.selection import outliers, select
from firstpick.selection.kcenter import kcenter
from firstpick.selection.outliers import remotest


def pick(X, n_select, labelled=(), closed=(), trim=0.0):
    labelled = np.array(labelled, dtype=np.intp)
    free = np.setdiff1d(np.arange(len(X)), [*labelled, *closed])
    rng = np.random.default_rng(0)
    return kcenter(np.asarray(X, np.float32), n_select, labelled=labelled, candidates=free, rng=rng, trim=trim)


def test_the_row_nearest_to_the_mean_comes_first_then_the_farthest():
    # the mean is (3, 1): row 2 at (3, 0) is 1 away, the farthest is (9, 4) at 6.71; from row 2 that is 7.21 away
    # and (0, 0) 3
    picked = pick([[0, 0], [1, 0], [3, 0], [2, 1], [9, 4]], 3)
    np.testing.assert_array_equal(picked.indices, [2, 4, 0])
    np.testing.assert_allclose(picked.scores, [np.hypot(6, 3), np.hypot(6, 4), 3])


def test_labelled_rows_are_centres_already():
    # 0 and 9 are labelled: 5 is 4 away from 9, 4 is 4 away from 0, 1 and 8 are 1 away; a tie, the lower row wins; then
    # 5 and both others are 1 away
    picked = pick([[0], [1], [4], [5], [8], [9]], 3, labelled=[0, 5])
    np.testing.assert_array_equal(picked.indices, [2, 1, 3])
    np.testing.assert_allclose(picked.scores, [4, 1, 1])


def test_for_a_row_that_may_not_be_picked_the_nearest_to_it_is():
    # 0 is labelled; 20 is the farthest and may not be picked: 14 is nearest to it; then -9 is 9 away, while 20 is only
    # 6 away from 14, and nothing comes nearer to it
    picked = pick([[0], [-9], [5], [14], [20]], 3, labelled=[0], closed=[4])
    np.testing.assert_array_equal(picked.indices, [3, 1, 2])
    np.testing.assert_allclose(picked.scores, [20, 9, 5])


def test_a_far_row_to_which_no_candidate_is_nearer_than_a_label_is_passed_over():
    # 30 is the farthest, 20 away from the label at 10, and 25 away from the candidate at 5
    picked = pick([[10], [30], [5], [9]], 1, labelled=[0], closed=[1])
    np.testing.assert_array_equal(picked.indices, [2])


def test_copies_come_last_in_the_order_of_their_rows():
    np.testing.assert_array_equal(pick([[5], [0], [5], [5], [0]], 5).indices, [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(pick([[5], [0], [5], [5], [0]], 3, labelled=[1, 2]).indices, [0, 3, 4])


def test_outliers_are_not_picked_while_others_are_left():
    # 1 % of 300 rows are three: those planted far away, two of them side by side
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(297, 4)), [[90, 0, 0, 0], [90, 0.01, 0, 0], [0, -70, 0, 0]]])
    X[20] = X[10]  # a copy comes before outliers, too
    assert set(pick(X, 4).indices.tolist()) >= {299}  # without trimming an outlier is the second pick
    for labelled in ([], [5]):
        picked = pick(X, 300 - len(labelled), labelled=labelled, trim=0.01).indices
        assert picked[-3:].tolist() in ([297, 299, 298], [298, 299, 297])
    np.testing.assert_array_equal(
        select("kcenter", X, 20, scaling="none").indices, select("kcenter", X, 20, scaling="none", trim=0.01).indices
    )


def test_only_as_many_as_trimmed_and_no_ties_are_broken():
    ring = np.column_stack([np.cos(np.arange(40) * np.pi / 20), np.sin(np.arange(40) * np.pi / 20)])
    rng = np.random.default_rng(0)
    assert not remotest(ring, 0.1, rng).any()  # all alike
    X = rng.normal(size=(50, 3))
    for share, n_out in ((0.0, 0), (0.019, 0), (0.02, 1), (0.5, 25), (1.0, 50)):
        assert remotest(X, share, rng).sum() == n_out


def test_five_rows_alone_are_outliers_and_six_a_group():
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(500, 3)), 50 + 0.01 * rng.normal(size=(6, 3))])
    np.testing.assert_array_equal(np.flatnonzero(remotest(X[:505], 0.01, rng)), range(500, 505))
    assert not remotest(X, 0.01, rng)[500:].any()


def test_a_row_that_is_not_in_the_pool_has_all_of_it_for_neighbours():
    # the pool's rows are 1 degree apart; a row that is 1.4 or 1.6 away from the nearest, and more from the next
    turned = np.radians([*range(10), 10.4, 10.6])
    rows = np.column_stack([np.cos(turned), np.sin(turned)])
    np.testing.assert_array_equal(outliers.unusual(rows[10:], rows[:10]), [False, True])


def test_outliers_are_found_among_many_rows(monkeypatch):
    # 2,000 of 12,003 rows are looked at, here the last: the pair knows one another, and is found all the same
    monkeypatch.setattr(outliers, "sampled", lambda rows, n_rows, rng: rows[-n_rows:])
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(12_000, 3)), [[50, 0, 0], [50, 0.01, 0], [0, -40, 0]]])
    np.testing.assert_array_equal(np.flatnonzero(remotest(X, 3.5 / 12_003, rng)), [12_000, 12_001, 12_002])
    X[12_002] = [50, 0, 0.01]  # three in a sample of 1,000 stand for a group of 36
    assert not remotest(X, 3.5 / 12_003, rng)[12_000:].any()


def test_a_share_that_is_none_is_refused():
    for trim in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"trim must be from 0 to 1; got"):
            select("kcenter", np.eye(3), 1, trim=trim)


@pytest.mark.parametrize("seed", range(4))
def test_it_agrees_with_scikit_activeml(seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pool = pytest.importorskip("skactiveml.pool", reason="the peer to agree with is scikit-activeml")
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(120, 6)).astype(np.float32)
    label = int(rng.integers(120))
    y = np.full(120, np.nan)
    y[label] = 0
    theirs = pool.CoreSet(random_state=0).query(X.astype(float), y, batch_size=25)
    np.testing.assert_array_equal(pick(X, 25, labelled=[label]).indices, theirs)


@pytest.mark.parametrize("seed", range(3))
def test_no_row_is_farther_than_twice_the_least_possible(seed):
    # Gonzalez 1985; the least possible for 12 rows and 3 centres by trying all
    from itertools import combinations

    X = np.random.default_rng(seed).normal(size=(12, 2)).astype(np.float32)
    apart = np.linalg.norm(X[:, None] - X[None], axis=2)
    least = min(apart[:, list(three)].min(axis=1).max() for three in combinations(range(12), 3))
    assert apart[:, pick(X, 3).indices].min(axis=1).max() <= 2 * least
