"""Strategy ``ward`` on pools whose answer can be worked out by hand."""

import importlib

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage

from firstpick.selection import merging, select
from firstpick.selection.merging import micro_clusters, ward_labels
from firstpick.selection.ward import ward


def pick(X, n_select, labelled=(), **params):
    return select("ward", np.asarray(X, dtype=float), n_select, labelled=labelled, scaling="none", **params)


def line(*values):
    return np.array(values, dtype=np.float32)[:, None]


def test_the_middle_of_each_cluster_the_largest_first():
    # merged in turn: 0+1, 10+11, then 2.5 to {0 1} and 13 to {10 11}, 4 to the former; the middles of 0 1 2.5 4
    # (1.875) and of 10 11 13 (11.33) are 2.5 and 11
    picked = pick(line(10, 0, 13, 11, 4, 1, 2.5), 2)
    np.testing.assert_array_equal(picked.indices, [6, 3])
    np.testing.assert_allclose(picked.scores, [4 / 7, 3 / 7])


def test_large_clusters_cost_more_to_merge_than_small_ones_as_far_apart():
    # clusters 0 0.1 0.2 0.3, 3 3.1 3.2 3.3 and the pair 7, 10.2: joining the fours costs 4·4/8·9 = 18, the pair
    # 1·1/2·10.24 = 5.12 although it is farther apart; so three clusters are the fours and the pair
    label = ward_labels(line(0, 0.1, 0.2, 0.3, 3, 3.1, 3.2, 3.3, 7, 10.2), np.ones(10), 3)
    np.testing.assert_array_equal(label, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2])


def test_a_weight_counts_as_so_many_copies():
    rng = np.random.default_rng(0)
    X, weight = rng.normal(size=(40, 3)).astype(np.float32), rng.integers(1, 6, size=40)
    copies = np.repeat(np.arange(40), weight)
    for n_clusters in (2, 5, 13):
        np.testing.assert_array_equal(
            ward_labels(X[copies], np.ones(len(copies)), n_clusters), ward_labels(X, weight * 1.0, n_clusters)[copies]
        )


@pytest.mark.parametrize("n_clusters", [1, 2, 7, 30, 150])
def test_the_same_clusters_as_scipy(n_clusters):
    X = np.random.default_rng(1).normal(size=(150, 6)).astype(np.float32)
    theirs = fcluster(linkage(X.astype(float), "ward"), n_clusters, "maxclust")
    ours = ward_labels(X, np.ones(150), n_clusters)
    assert len(set(ours.tolist())) == n_clusters
    assert len(set(zip(theirs.tolist(), ours.tolist(), strict=True))) == n_clusters


def test_a_labelled_cluster_is_not_picked_again():
    # four clusters of 6, 5, 4 and 3 rows; labels in the largest and in the third: the second and the fourth are left
    X = line(0, 1, 2, 3, 4, 5.5, 100, 101, 102, 103, 105, 200, 201, 202, 204, 300, 301, 303)
    picked = pick(X, 2, labelled=[1, 12])
    np.testing.assert_array_equal(picked.indices, [8, 16])
    np.testing.assert_allclose(picked.scores, [5 / 18, 3 / 18])


def test_a_row_that_may_not_be_picked_still_shapes_the_clusters():
    nobody, free = np.array([], int), np.array([0, 2, 3])
    picked = ward(line(0, 1, 2, 10), 2, labelled=nobody, candidates=free, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(picked.indices, [0, 3])
    np.testing.assert_allclose(picked.scores, [0.75, 0.25])


def test_copies_are_taken_only_when_nothing_else_is_left():
    picked = pick(line(5, 0, 0, 9, 0, 5, 0), 5)
    np.testing.assert_array_equal(picked.indices, [1, 0, 3, 2, 4])


def test_the_seed_does_not_matter_on_a_pool_of_ordinary_size():
    X = np.random.default_rng(0).normal(size=(200, 5))
    np.testing.assert_array_equal(pick(X, 9, seed=1).indices, pick(X, 9, seed=2).indices)


def test_many_rows_are_condensed_first(monkeypatch):
    # eight far blobs of 30 to 100 rows each: 40 micro-clusters are too fine to join any two of them
    monkeypatch.setattr(merging, "MAX_ROWS", 100)
    monkeypatch.setattr(merging, "_N_MICRO", 40)
    rng = np.random.default_rng(0)
    blob = np.repeat(np.arange(8), np.arange(30, 110, 10))
    X = 50 * np.eye(8)[blob] + rng.normal(size=(len(blob), 8))
    label, centres, weight = micro_clusters(X.astype(np.float32), 8, rng)
    assert len(centres) == len(weight) <= 40
    np.testing.assert_array_equal(weight, np.bincount(label))
    np.testing.assert_allclose(centres[3], X[label == 3].mean(axis=0), rtol=1e-5)
    assert len(centres) > 20  # four for each that is wanted, some of them empty
    weights = []
    monkeypatch.setattr(
        importlib.import_module("firstpick.selection.ward"),
        "ward_labels",
        lambda centres, weight, n: weights.append(weight) or ward_labels(centres, weight, n),
    )
    picked = pick(X, 8)
    assert weights[0].sum() == len(X)
    np.testing.assert_array_equal(blob[picked.indices], np.arange(8)[::-1])
    np.testing.assert_allclose(picked.scores, np.arange(100, 20, -10) / len(X))
