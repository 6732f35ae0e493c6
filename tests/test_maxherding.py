"""Strategy ``maxherding`` on points whose answer can be worked out by hand, and against a plain one."""

import numpy as np
import pytest

from firstpick.selection import select
from firstpick.selection.maxherding import maxherding


def pick(X, n_select, labelled=(), closed=(), **params):
    labelled = np.array(labelled, dtype=np.intp)
    free = np.setdiff1d(np.arange(len(X)), [*labelled, *closed])
    rng = np.random.default_rng(0)
    return maxherding(np.asarray(X, np.float32), n_select, labelled=labelled, candidates=free, rng=rng, **params)


def line(*values):
    """Points on a line far from the origin, given in units of the root mean square length."""
    X = np.zeros((len(values), 2))
    X[:, 0] = values
    X[:, 1] = np.sqrt(1 - np.mean(X[:, 0] ** 2))
    return X


def plain(X, n_select, labelled, free, bandwidth):
    """Every step over the whole matrix."""
    unit = bandwidth * np.sqrt((X**2).sum(axis=1).mean())
    kernel = np.exp(-((np.linalg.norm(X[:, None] - X[None], axis=2) / unit) ** 2))
    picks, scores = [], []
    for _ in range(n_select):
        best_yet = kernel[:, [*labelled, *picks]].max(axis=1, initial=0)
        gains = np.maximum(kernel - best_yet[:, None], 0).mean(axis=0)
        gains[[row for row in range(len(X)) if row not in free or row in picks]] = -1
        picks.append(int(gains.round(9).argmax()))  # two rows that cover only one another gain exactly as much
        scores.append(gains.max())
    return picks, scores


def test_the_middle_of_the_most_rows_then_what_is_left():
    # with a bandwidth of 0.1: at 0 there are 1 + 2/e; -0.8 and -0.7 have 1 + 1/e each, and the lower row wins
    picked = pick(line(-0.8, -0.7, -0.1, 0, 0.1), 2, bandwidth=0.1)
    np.testing.assert_array_equal(picked.indices, [3, 0])
    np.testing.assert_allclose(picked.scores, [(1 + 2 / np.e) / 5, (1 + 1 / np.e) / 5], atol=1e-5)


def test_what_is_near_a_labelled_row_is_covered_in_part():
    # 0.1 is labelled: 0 is covered to 1/e and -0.1 to 1/e^4; taking 0 adds 1 - 1/e to itself and 1/e - 1/e^4 to -0.1,
    # .98 in all, and taking -0.1 adds 1 - 1/e^4 to itself alone; the pair on the left has 1 + 1/e
    picked = pick(line(-0.8, -0.7, -0.1, 0, 0.1), 2, labelled=[4], bandwidth=0.1)
    np.testing.assert_array_equal(picked.indices, [0, 2])
    np.testing.assert_allclose(picked.scores, [(1 + 1 / np.e) / 5, (1 - np.exp(-4)) / 5], atol=1e-5)


def test_rows_that_may_not_be_picked_are_to_be_covered():
    # 0.6 covers three rows that may not be picked to 1/e and itself; -0.6 itself and -0.5
    X = line(-0.6, -0.5, 0.6, 0.7, 0.7, 0.7)
    np.testing.assert_array_equal(pick(X, 1, closed=[3, 4, 5], bandwidth=0.1).indices, [2])


def test_the_bandwidth_is_in_units_of_the_typical_length():
    # unit rows 0, 60 and 90 degrees apart, one of zeros left out: the published kernel, exp(-d²), d² = 1 and 2 - 2 cos
    turn = np.deg2rad([0, 60, 90])
    X = np.column_stack([np.cos(turn), np.sin(turn)])
    at_60 = (np.exp(-1) + 1 + np.exp(-(2 - np.sqrt(3)))) / 3
    np.testing.assert_allclose(pick(X, 1).scores, [at_60], atol=1e-6)
    np.testing.assert_allclose(pick(1e-3 * X, 1).scores, [at_60], atol=1e-6)
    with_zero = pick([*X, [0, 0]], 1).scores
    np.testing.assert_allclose(with_zero, [(3 * at_60 + np.exp(-1)) / 4], atol=1e-6)


def test_a_bandwidth_of_nothing_is_refused():
    for bandwidth in (0, -1, np.nan):
        with pytest.raises(ValueError, match="bandwidth must be above 0; got"):
            select("maxherding", np.eye(3), 1, bandwidth=bandwidth)


@pytest.mark.parametrize("seed", range(6))
def test_it_agrees_with_a_plain_greedy(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(90, 5)).astype(np.float32)
    order = rng.permutation(90).tolist()
    labelled, closed, free = order[: seed * 2], order[12:30], order[seed * 2 : 12] + order[30:]
    picks, scores = plain(X.astype(float), 20, labelled, free, 0.5 + seed / 5)
    picked = pick(X, 20, labelled, closed, bandwidth=0.5 + seed / 5)
    np.testing.assert_array_equal(picked.indices, picks)
    np.testing.assert_allclose(picked.scores, scores, atol=1e-6)
