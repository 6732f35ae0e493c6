"""Strategy ``yuan_hong`` on pools whose answer can be worked out by hand."""

import importlib

import numpy as np
import pytest

from firstpick.selection import clustering, select
from firstpick.selection.yuan_hong import _cluster_counts, yuan_hong


def pick(X, n_select, labelled=(), **params):
    return select("yuan_hong", np.asarray(X, dtype=float), n_select, labelled=labelled, scaling="none", **params)


def line(*values):
    return np.array(values, dtype=np.float32)[:, None]


# two groups that split in turn: {0 1 3} {100 101 102.5 120}, then {120} on its own, then {3}, then {102.5}
GROUPS = line(0, 1, 3, 100, 101, 102.5, 120)


@pytest.fixture
def asked(monkeypatch):
    """The number of clusters of every start of k-means."""
    asked = []
    one_start = clustering._one_start
    monkeypatch.setattr(clustering, "_one_start", lambda *args: asked.append((args[1], args[3])) or one_start(*args))
    return asked


def test_the_medoids_of_two_clusters_then_the_new_ones_of_three():
    # k = 2: centres 1.33 and 105.9, so rows 1 (1) and 5 (102.5). k = 3: {0 1 3}, {100 101 102.5} of centre 101.17,
    # row 4 (101), and row 6 (120): a medoid that is in the list already is not taken twice
    picked = pick(GROUPS, 4)
    assert set(picked.indices[:2].tolist()) == {1, 5}
    assert set(picked.indices[2:].tolist()) == {4, 6}
    np.testing.assert_allclose(picked.scores, [1 / 2, 1 / 2, 1 / 3, 1 / 3])


def test_it_stops_when_the_list_is_long_enough(asked):
    pick(GROUPS, 2)
    assert asked == [(2, "random")] * 10
    asked.clear()
    pick(GROUPS, 3)
    assert [k for k, _ in asked] == [2] * 10 + [3] * 10


def test_labelled_clusters_wait_until_the_others_have_nothing_left():
    # with the 0 labelled, the medoid 1 of {0 1 3} is passed over at k = 2, 3. k = 4: {0 1} {3} {100 101 102.5} {120},
    # the 3 is free. k = 5: {100 101} {102.5}, of the former the lower one by a tie. k = 6 or 7: {0} {1}, the 1 is free
    picked = pick(GROUPS, 6, labelled=[0])
    assert picked.indices[0] == 5
    assert set(picked.indices[1:3].tolist()) == {4, 6}
    np.testing.assert_array_equal(picked.indices[3:], [2, 3, 1])


def test_a_labelled_medoid_is_not_picked_nor_replaced_by_its_neighbour():
    # k = 2: the medoid 1 is labelled, and 0 and 3, which are as good as labelled, do not stand in for it
    picked = pick(GROUPS, 3, labelled=[1])
    assert picked.indices[0] == 5
    assert set(picked.indices[1:].tolist()) == {4, 6}


def test_passed_over_medoids_come_before_rows_that_are_nobodys_medoid():
    # two clusters of copies, both with a label: the medoid of the 0s, the lowest, is the label itself; that of the 9s
    # is not, and so it is passed over, and the first when nothing else is left
    for seed in range(5):
        picked = pick(line(0, 0, 9, 9), 2, labelled=[0, 3], seed=seed)
        np.testing.assert_array_equal(picked.indices, [2, 1])
        np.testing.assert_array_equal(picked.scores, [0, 0])


def test_copies_of_labelled_rows_come_last():
    picked = pick(line(0, 0, 0.4, 9, 9, 9), 4, labelled=[0, 3])
    np.testing.assert_array_equal(picked.indices, [2, 1, 4, 5])
    np.testing.assert_array_equal(picked.scores > 0, [True, False, False, False])


def test_a_passed_over_medoid_that_gets_free_later_is_picked_once():
    X = np.random.default_rng(2).normal(size=(30, 3))
    picked = pick(X, 25, labelled=[0, 1, 2, 3, 4])
    assert sorted(picked.indices.tolist()) == list(range(5, 30))


def test_a_row_that_may_not_be_picked_still_shapes_the_clusters():
    # 101 may not be picked: at k = 3 the 100, which is nearer to 101.17 than the 102.5, stands for its cluster
    nobody, free = np.array([], int), np.array([0, 1, 2, 3, 5, 6])
    picked = yuan_hong(GROUPS, 4, labelled=nobody, candidates=free, rng=np.random.default_rng(0))
    assert set(picked.indices[:2].tolist()) == {1, 5}
    assert set(picked.indices[2:].tolist()) == {3, 6}


def test_past_k_max_the_number_of_clusters_grows_by_a_tenth():
    assert list(_cluster_counts(28, 43)) == [*range(2, 29), 30, 33, 36, 39, 42]
    assert list(_cluster_counts(3, 9)) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert list(_cluster_counts(50, 1)) == []


def test_up_to_50_clusters_as_in_the_paper(monkeypatch):
    asked = []

    def evenly(X, k, rng, **_):
        asked.append(k)
        return clustering.Clusters(np.arange(len(X)) % k, np.zeros((k, 1), np.float32))

    monkeypatch.setattr(importlib.import_module("firstpick.selection.yuan_hong"), "kmeans_clusters", evenly)
    pick(line(*range(90)), 90)
    assert asked[:51] == [*range(2, 51), 55, 60]


def test_all_rows_can_be_had():
    X = np.random.default_rng(0).normal(size=(40, 2))
    assert sorted(pick(X, 40, k_max=5).indices.tolist()) == list(range(40))


def test_copies_of_one_row_have_no_two_clusters():
    picked = pick(np.ones((5, 3)), 3, labelled=[1])
    np.testing.assert_array_equal(picked.indices, [0, 2, 3])
    np.testing.assert_array_equal(picked.scores, [0, 0, 0])


def test_another_seed_is_another_list():
    # the paper has one seed for all; its list hangs on it
    X = np.random.default_rng(0).normal(size=(90, 6))
    assert len({tuple(pick(X, 10, seed=seed).indices) for seed in range(4)}) > 1
