"""Strategy ``facility_location`` on directions whose answer can be worked out by hand, and against a plain one."""

import numpy as np
import pytest

from firstpick.selection.facility_location import facility_location


def pick(X, n_select, labelled=(), closed=()):
    labelled = np.array(labelled, dtype=np.intp)
    free = np.setdiff1d(np.arange(len(X)), [*labelled, *closed])
    rng = np.random.default_rng(0)
    return facility_location(np.asarray(X, np.float32), n_select, labelled=labelled, candidates=free, rng=rng)


def angles(*degrees):
    turn = np.deg2rad(degrees)
    return np.column_stack([np.cos(turn), np.sin(turn)])


def plain(X, n_select, labelled, free):
    """Every step over the whole matrix."""
    Z = X / np.linalg.norm(X, axis=1, keepdims=True)
    similar = (1 + Z @ Z.T) / 2
    picks, scores = [], []
    for _ in range(n_select):
        best_yet = similar[:, [*labelled, *picks]].max(axis=1, initial=0)
        gains = np.maximum(similar - best_yet[:, None], 0).mean(axis=0)
        gains[[row for row in range(len(X)) if row not in free or row in picks]] = -1
        picks.append(int(gains.round(9).argmax()))  # two rows that cover only one another gain exactly as much
        scores.append(gains.max())
    return picks, scores


def test_the_direction_nearest_to_all_then_the_one_left_out():
    # cosines summed: at 10 degrees 1 + cos 10 + cos 20 + cos 80 = 3.098, at 0 only 1 + 2 cos 10 + cos 90 = 2.970.
    # then 90 degrees gains 1 - (1 + cos 80) / 2 = .413, the two others .030 each
    picked = pick(angles(-10, 0, 10, 90), 2)
    np.testing.assert_array_equal(picked.indices, [2, 3])
    np.testing.assert_allclose(picked.scores, [(4 + 3.09815) / 8, 0.41318 / 4], atol=1e-5)


def test_equally_good_directions_go_to_the_lowest_row():
    # at 10 degrees 1 + 2 cos 10 + cos 170, at 20 degrees 1 + cos 10 + cos 20 + cos 160: both are 1 + cos 10
    assert pick(angles(0, 10, 20, 180), 1).indices[0] == 1
    assert pick(angles(20, 0, 10, 180), 1).indices[0] == 0


def test_what_is_like_a_labelled_row_is_covered():
    # with 90 degrees labelled the middle of the others is best: at 0 degrees 1.485 against 1.462 at both sides
    picked = pick(angles(-10, 0, 10, 90), 1, labelled=[3])
    np.testing.assert_array_equal(picked.indices, [1])
    np.testing.assert_allclose(picked.scores, [1.4848 / 4], atol=1e-4)


def test_rows_that_may_not_be_picked_are_to_be_covered():
    # three rows around 90 degrees may not be picked; the one at 60 is the nearest to them that may
    X = angles(0, 2, 4, 60, 88, 90, 92)
    np.testing.assert_array_equal(pick(X, 1, closed=[4, 5, 6]).indices, [3])
    np.testing.assert_array_equal(pick(X[:4], 1).indices, [2])


def test_opposite_directions_are_told_from_crossing_ones():
    # after 0 degrees, 180 gains 1 and 100 gains .587: cosines clipped at 0 would have called it a tie
    np.testing.assert_array_equal(pick(angles(0, 100, 180), 1, labelled=[0]).indices, [1])
    np.testing.assert_array_equal(pick(angles(0, 0, 100, 180, 180, 180), 1, labelled=[0]).indices, [3])


def test_only_the_direction_of_a_row_matters():
    X = np.random.default_rng(0).normal(size=(40, 4))
    longer = X * np.random.default_rng(1).uniform(0.1, 9, size=(40, 1))
    np.testing.assert_array_equal(pick(X, 8).indices, pick(longer, 8).indices)


@pytest.mark.parametrize("seed", range(6))
def test_it_agrees_with_a_plain_greedy(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(90, 5)).astype(np.float32)
    order = rng.permutation(90).tolist()
    labelled, closed, free = order[: seed * 2], order[12:30], order[seed * 2 : 12] + order[30:]
    picks, scores = plain(X.astype(float), 20, labelled, free)
    picked = pick(X, 20, labelled, closed)
    np.testing.assert_array_equal(picked.indices, picks)
    np.testing.assert_allclose(picked.scores, scores, atol=1e-6)
