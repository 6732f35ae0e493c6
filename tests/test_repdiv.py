"""Strategy ``repdiv`` on directions whose answer can be worked out by hand."""

import numpy as np
import pytest

from firstpick.selection import select
from firstpick.selection.repdiv import repdiv


def pick(X, n_select, labelled=(), closed=(), **params):
    labelled = np.array(labelled, dtype=np.intp)
    free = np.setdiff1d(np.arange(len(X)), [*labelled, *closed])
    rng = np.random.default_rng(0)
    return repdiv(np.asarray(X, np.float32), n_select, labelled=labelled, candidates=free, rng=rng, **params)


def angles(*degrees):
    turn = np.deg2rad(degrees)
    return np.column_stack([np.cos(turn), np.sin(turn)])


def test_seven_of_ten_are_those_of_facility_location():
    X = np.random.default_rng(0).normal(size=(60, 5))
    for n_select, n_typical in ((1, 1), (2, 1), (5, 4), (10, 7), (40, 28)):
        mixed, typical = select("repdiv", X, n_select), select("facility_location", X, n_select)
        np.testing.assert_array_equal(mixed.indices[:n_typical], typical.indices[:n_typical])
        np.testing.assert_array_equal(mixed.scores[:n_typical], typical.scores[:n_typical])
        assert n_select == 1 or mixed.indices[n_typical] != typical.indices[n_typical]


def test_the_rest_is_farthest_from_any_pick_even_beside_another():
    # after 0 degrees, 170 is the farthest; then a copy of 0, 170 away from 170, and not 90; were there none left, 165
    picked = pick(angles(0, 0, 0, 0, 90, 165, 170), 3, share=0)
    np.testing.assert_array_equal(picked.indices, [0, 6, 1])
    np.testing.assert_allclose(picked.scores[1:], (1 - np.cos(np.deg2rad([170, 170]))) / 2, atol=1e-6)
    np.testing.assert_array_equal(
        pick(angles(0, 0, 0, 0, 90, 165, 170), 3, closed=[1, 2, 3], share=0).indices, [0, 6, 5]
    )


def test_a_later_pick_counts_as_well():
    # 0 is labelled, 120 typical, 300 opposite to it; then 100, 160 away from 300, and not 150, 150 away from 0 and 300
    X = angles(0, 80, 100, 120, 150, 300)
    picked = pick(X, 3, labelled=[0], share=0)
    np.testing.assert_array_equal(picked.indices, [3, 5, 2])
    np.testing.assert_allclose(picked.scores[1:], (1 - np.cos(np.deg2rad([180, 160]))) / 2, atol=1e-6)


def test_labelled_rows_count_as_picked():
    # 90 is typical, and 200 the farthest from it; but 180 is labelled, and 10 is 170 away from that
    picked = pick(angles(10, 90, 90, 90, 200, 180), 2, labelled=[5])
    np.testing.assert_array_equal(picked.indices, [1, 0])


def test_rows_that_may_not_be_picked_are_left_out_of_the_rest_only():
    X = angles(0, 2, 4, 60, 88, 90, 92, 180)
    np.testing.assert_array_equal(pick(X, 2, closed=[4, 5, 6, 7]).indices, [3, 0])


def test_equally_far_rows_go_by_their_order():
    np.testing.assert_array_equal(pick(angles(0, 0, 0, 120, 240), 2).indices[1:], [3])


def test_an_outlier_is_drawn_by_the_second_part():
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal([5, 0, 0], 1, size=(60, 3)), [[-9, 0, 0]]])
    assert select("repdiv", X, 2, scaling="none", share=0).indices[1] == 60


def test_a_share_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"share must be from 0 to 1; got 7\."):
        select("repdiv", np.eye(3), 1, share=7)
