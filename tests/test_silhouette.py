"""Strategy ``silhouette`` on pools whose answer can be worked out by hand."""

import importlib

import numpy as np
import pytest

from firstpick.selection import select
from firstpick.selection.silhouette import silhouette

module = importlib.import_module("firstpick.selection.silhouette")  # the package's attribute is the function


def pick(X, n_select, labelled=(), **params):
    return select("silhouette", np.asarray(X, dtype=float), n_select, labelled=labelled, scaling="none", **params)


def line(*values):
    return np.array(values, dtype=np.float32)[:, None]


# three groups, as plain as can be: 0 1 2 3 4 6 | 50 51 52 | 90 91 92
THREE = line(0, 1, 2, 3, 4, 6, 50, 51, 52, 90, 91, 92)


def test_a_medoid_of_each_natural_cluster_the_largest_first():
    # centres 2.67, 51 and 91
    picked = pick(THREE, 3)
    np.testing.assert_array_equal(picked.indices, [3, 7, 10])
    np.testing.assert_allclose(picked.scores, [0.5, 0.25, 0.25])


def test_fewer_picks_than_clusters_are_those_of_the_largest():
    np.testing.assert_array_equal(pick(THREE, 1).indices, [3])
    np.testing.assert_array_equal(pick(THREE, 2).indices, [3, 7])


def test_the_rest_is_shared_out_by_size_and_spread_by_distance():
    # eight picks: five beyond the medoids, due 5 · 6/12 = 2.5, 1.25, 1.25: two, one and one by the whole numbers, the
    # fifth to the largest remainder, the first. In it, from 3: 0 and 6 are equally far, 0 is lower; then 6; of 1 2 4
    # the first, all at 1. In the others, from 51: 50, which is lower than 52
    picked = pick(THREE, 8)
    np.testing.assert_array_equal(picked.indices, [3, 7, 10, 0, 5, 6, 9, 1])


def test_shares_are_those_of_the_largest_remainder():
    # 20, 17 and 9 rows and 13 picks: ten beyond the medoids are due 4.35, 3.70, 1.96: 4, 3 and 1, and the two that are
    # left go to .96 and .70
    rng = np.random.default_rng(0)
    blob = np.repeat([0, 1, 2], [20, 17, 9])
    picked = pick(20 * np.eye(3)[blob] + rng.normal(size=(46, 3)), 13)
    np.testing.assert_array_equal(np.bincount(blob[picked.indices]), [5, 5, 3])


def test_labelled_rows_are_seats_that_are_taken():
    # the first group has its label, so the medoids of the others come first; of four seats in all the one beyond the
    # medoids is the first group's (0.5 due against 0.25): 6, which is farther from the labelled 2 than the 0
    picked = pick(THREE, 3, labelled=[2])
    np.testing.assert_array_equal(picked.indices, [7, 10, 5])


def test_labelled_rows_are_part_of_what_is_shared_out():
    # eight seats, five beyond the medoids: due 3.5, 2.25 and 2.25, of which the first two have one each
    picked = pick(THREE, 6, labelled=[2, 7])
    np.testing.assert_array_equal(np.digitize(picked.indices, [6, 9]), [2, 0, 0, 1, 2, 0])


def test_of_equally_good_numbers_of_clusters_the_fewest(monkeypatch):
    monkeypatch.setattr("sklearn.metrics.silhouette_score", lambda *_, **__: 0.5)
    np.testing.assert_array_equal(pick(THREE, 4).indices, pick(THREE, 4, k_max=2).indices)


def test_a_group_with_too_many_labels_gets_no_more():
    picked = pick(THREE, 4, labelled=[0, 1, 2, 3, 4])
    np.testing.assert_array_equal(picked.indices, [7, 10, 6, 9])


def test_a_group_that_runs_out_leaves_its_seats_to_the_others():
    assert sorted(pick(THREE, 11, labelled=[7]).indices.tolist()) == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11]


def test_a_group_without_candidates_leaves_its_seats_too():
    # the first group is due 1 + 3 · 0.5 = 2.5 of six, but has one row that may be picked
    free = np.array([3, 6, 7, 8, 9, 10, 11])
    picked = silhouette(THREE, 6, labelled=np.array([], int), candidates=free, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(picked.indices, [3, 7, 10, 6, 9, 8])


def test_a_row_that_may_not_be_picked_still_shapes_the_clusters():
    # 3, the medoid of the first group, may not be picked: 2 is the next nearest to 2.67; nor 91: 90 is lower than 92
    free = np.array([0, 1, 2, 4, 5, 6, 7, 8, 9, 11])
    picked = silhouette(THREE, 3, labelled=np.array([], int), candidates=free, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(picked.indices, [2, 7, 9])
    np.testing.assert_allclose(picked.scores, [0.5, 0.25, 0.25])


def test_no_more_clusters_than_allowed():
    # with two clusters the groups at 50 and 90 are one, of centre 71: 52 is nearest
    np.testing.assert_array_equal(sorted(pick(THREE, 2, k_max=2).indices.tolist()), [3, 8])


def test_a_pool_without_clusters():
    np.testing.assert_array_equal(pick(np.ones((5, 2)), 3, labelled=[1]).indices, [0, 2, 3])
    np.testing.assert_array_equal(pick(line(4), 1).indices, [0])
    np.testing.assert_array_equal(sorted(pick(line(4, 7), 2).indices.tolist()), [0, 1])


def test_copies_of_a_pick_come_last():
    # one group of many copies: its medoid, its other two points, and only then a copy
    picked = pick(line(1, 1, 1, 1, 2, 0, 90, 91, 92), 9)
    assert {4, 5} <= set(picked.indices[:6].tolist())


@pytest.mark.parametrize("sample", [60, 2000])
def test_a_sample_is_enough_to_tell_the_number_of_clusters(monkeypatch, sample):
    monkeypatch.setattr(module, "_SAMPLE_ROWS", sample)
    measured = []
    real = np.sort
    monkeypatch.setattr(module.np, "sort", lambda rows: measured.append(len(rows)) or real(rows))
    rng = np.random.default_rng(0)
    blob = np.arange(400) % 5
    picked = pick(20 * np.eye(5)[blob] + rng.normal(size=(400, 5)), 5)
    assert sorted(blob[picked.indices].tolist()) == [0, 1, 2, 3, 4]
    assert measured[0] == min(sample, 400)
