"""Strategy ``bal`` on pools whose answer can be worked out by hand."""

import importlib

import numpy as np

from firstpick.selection import select
from firstpick.selection.bal import bal

module = importlib.import_module("firstpick.selection.bal")  # the package's attribute is the function


def raw(X, n_select, labelled=(), candidates=None, **params):
    """The strategy itself, so that scores are in the units of X."""
    X, labelled = np.asarray(X, dtype=np.float32), np.array(labelled, dtype=int)
    free = np.setdiff1d(np.arange(len(X)), labelled) if candidates is None else np.array(candidates)
    return bal(X, n_select, labelled=labelled, candidates=free, rng=np.random.default_rng(0), **params)


def line(*values):
    return np.array(values, dtype=np.float32)[:, None]


def test_the_largest_difference_between_the_second_and_the_nearest_centre():
    # centres 1 and 12: 0, 1 and 15 are nearer to their own by 11, 2 and 11 by 9, 10 by 7
    picked = raw(line(0, 1, 2, 10, 11, 15), 6, n_clusters=2)
    np.testing.assert_array_equal(picked.indices, [0, 1, 5, 2, 4, 3])
    np.testing.assert_allclose(picked.scores, [11, 11, 11, 9, 9, 7], rtol=1e-4)


def test_it_is_the_second_nearest_and_not_the_farthest():
    # centres 0.5, 10.5 and 100.5; 0 to 10.5 and to its own is 10, 101 to 10.5 and to its own is 90
    picked = raw(line(0, 1, 10, 11, 100, 101), 6, n_clusters=3)
    np.testing.assert_array_equal(picked.indices, [5, 4, 0, 3, 1, 2])
    np.testing.assert_allclose(picked.scores, [90, 89, 10, 10, 9, 9], rtol=1e-4)


def test_a_hundred_clusters_whatever_is_asked_for(monkeypatch):
    asked = []
    original = module.kmeans_clusters
    monkeypatch.setattr(module, "kmeans_clusters", lambda X, k, rng: asked.append(k) or original(X, k, rng, n_init=1))
    X = np.random.default_rng(0).normal(size=(300, 3))
    raw(X, 5)
    raw(X, 200, labelled=[1, 2])
    raw(X[:60], 5)
    raw(np.repeat(X[:60], 4, axis=0), 5)
    raw(X[:60], 5, n_clusters=7)
    assert asked == [100, 100, 30, 30, 7]


def test_labelled_clusters_come_last():
    # as in the second case, but the group at 100 has a label
    picked = raw(line(0, 1, 10, 11, 100, 101), 5, labelled=[4], n_clusters=3)
    np.testing.assert_array_equal(picked.indices, [0, 3, 1, 2, 5])


def test_copies_come_last():
    # published, the batch of three would be three times the 101
    picked = raw(line(0, 1, 10, 11, 100, 101, 101, 101), 8, n_clusters=3)
    np.testing.assert_array_equal(picked.indices, [5, 4, 0, 3, 1, 2, 6, 7])


def test_copies_of_a_labelled_row_come_last_of_all():
    # centres 0.67 and 10.5, both groups labelled: 1 and 11 are new, 0 is a copy of the label
    picked = raw(line(0, 0, 2, 10, 11), 3, labelled=[0, 3], n_clusters=2)
    np.testing.assert_array_equal(picked.indices, [4, 2, 1])


def test_a_row_that_may_not_be_picked_still_shapes_the_clusters():
    # without the 15 the centres would be 1 and 10.5, and the 0 and the 1 nearer to theirs by 9.5
    picked = raw(line(0, 1, 2, 10, 11, 15), 2, candidates=[0, 1, 2, 3, 4], n_clusters=2)
    np.testing.assert_array_equal(picked.indices, [0, 1])
    np.testing.assert_allclose(picked.scores, [11, 11], rtol=1e-4)


def test_one_cluster_has_no_second_nearest():
    picked = raw(np.ones((6, 3)), 3, labelled=[2])
    np.testing.assert_array_equal(picked.indices, [0, 1, 3])
    np.testing.assert_array_equal(picked.scores, [0, 0, 0])


def test_the_seed_comes_from_the_generator():
    X = np.random.default_rng(0).normal(size=(90, 5))
    assert len({tuple(select("bal", X, 8, seed=seed).indices) for seed in range(4)}) > 1
    np.testing.assert_array_equal(select("bal", X, 8, seed=1).indices, select("bal", X, 8, seed=1).indices)


def test_small_blocks_change_nothing(monkeypatch):
    X = np.random.default_rng(0).normal(size=(90, 5))
    whole = raw(X, 20)
    monkeypatch.setattr(module, "_BLOCK_ROWS", 7)
    np.testing.assert_array_equal(raw(X, 20).indices, whole.indices)
