"""Strategy ``kmeans`` on pools whose answer can be worked out by hand."""

import numpy as np
import threadpoolctl
from sklearn.cluster import KMeans

from firstpick.selection import select
from firstpick.selection.kmeans import kmeans


def pick(X, n_select, labelled=(), **params):
    return select("kmeans", np.asarray(X, dtype=float), n_select, labelled=labelled, scaling="none", **params)


def line(*values):
    return np.array(values, dtype=float)[:, None]


def test_the_middle_of_each_cluster_the_largest_first():
    # two clusters: 10 11 13 (centre 11.33, nearest 11, row 3) and 0 1 2.5 4 (centre 1.875, nearest 2.5, row 6)
    picked = pick(line(10, 0, 13, 11, 4, 1, 2.5), 2)
    np.testing.assert_array_equal(picked.indices, [6, 3])
    np.testing.assert_allclose(picked.scores, [4 / 7, 3 / 7])


def test_equally_large_clusters_and_equally_near_rows_go_by_content():
    # clusters {0, 1} and {8, 9}: both of two rows, each row half a unit from its centre
    np.testing.assert_array_equal(pick(line(9, 8, 1, 0), 2).indices, [3, 1])


def test_a_labelled_cluster_is_not_picked_again():
    # four clusters of 6, 5, 4 and 3 rows; labels in the largest and in the third: the second and the fourth are left
    X = line(0, 1, 2, 3, 4, 5.5, 100, 101, 102, 103, 105, 200, 201, 202, 204, 300, 301, 303)
    picked = pick(X, 2, labelled=[1, 12])
    np.testing.assert_array_equal(picked.indices, [8, 16])
    np.testing.assert_allclose(picked.scores, [5 / 18, 3 / 18])


def test_labelled_rows_shape_the_clusters():
    # with 0 and 100 labelled and one to pick there are three clusters; the new one is around 50
    picked = pick(line(0, 1, 2, 49, 50, 51.5, 100, 101, 102), 1, labelled=[0, 6])
    np.testing.assert_array_equal(picked.indices, [4])


def test_labels_close_together_cover_one_cluster():
    # three labels and one pick make four clusters: 0s | 50 51 | 52 53.5 | 100 101 102.5, since splitting the 50s saves
    # most; the largest without a label is the last, of centre 101.17
    picked = pick(line(0, 0.1, 0.2, 50, 51, 52, 53.5, 100, 101, 102.5), 1, labelled=[0, 1, 2])
    np.testing.assert_array_equal(picked.indices, [8])
    np.testing.assert_allclose(picked.scores, [0.3])


def test_copies_are_taken_only_when_nothing_else_is_left():
    # three distinct points of 4, 2 and 1 rows, five picks: first one of each, the largest cluster first; the fourth
    # from the cluster with the most rows left per row taken: 3 against 1; the fifth likewise: 2/2 against 1/1, a tie
    # of the urgency that goes to the lowest row by content, a 0
    picked = pick(line(5, 0, 0, 9, 0, 5, 0), 5)
    np.testing.assert_array_equal(picked.indices, [1, 0, 3, 2, 4])
    np.testing.assert_allclose(picked.scores, np.array([4, 2, 1, 4, 4]) / 7)


def test_copies_of_a_labelled_row_come_last():
    picked = pick(line(5, 5, 5, 5, 1, 9), 3, labelled=[0])
    assert set(picked.indices[:2].tolist()) == {4, 5}
    assert picked.indices[2] == 1


def test_many_labels_do_not_make_more_than_500_clusters_each_with_its_starts(monkeypatch):
    asked = []

    class Watched(KMeans):
        def __init__(self, n_clusters, **params):
            asked.append(n_clusters)
            super().__init__(n_clusters, **params)

    monkeypatch.setattr("sklearn.cluster.KMeans", Watched)
    X = np.random.default_rng(0).normal(size=(700, 2))
    picked = pick(X, 20, labelled=range(600), n_init=2, starts=1)
    assert asked == [500, 500]
    assert len(set(picked.indices.tolist())) == 20
    assert picked.indices.min() >= 600
    pick(X, 600, n_init=1, starts=1)
    assert asked == [500, 500, 600]


def test_the_default_scaling_looks_at_directions_only():
    # four rows along x of any length, two along y; without scaling the row of length 1000 would be a cluster of its own
    X = [[1, 0.01], [1000, 0], [3, 0.03], [2, 0.05], [0.1, 5], [0, 70]]
    picked = select("kmeans", X, 2)
    assert picked.indices[0] in {0, 1, 2, 3}
    assert picked.indices[1] in {4, 5}
    assert select("kmeans", X, 2, scaling="none").indices[1] == 1


def test_its_picks_represent_the_pool_better_than_random_ones():
    rng = np.random.default_rng(0)
    X = np.repeat(9 * rng.normal(size=(10, 16)), 12, axis=0) + rng.normal(size=(120, 16))

    def left_over(rows):
        return np.linalg.norm(X[:, None] - X[rows][None], axis=2).min(axis=1).mean()

    by_chance = [left_over(select("random", X, 10, seed=seed).indices) for seed in range(20)]
    assert left_over(pick(X, 10).indices) < 0.6 * min(by_chance)


def test_the_number_of_threads_does_not_matter():
    X = np.random.default_rng(0).normal(size=(600, 32))
    picks = []
    for n_threads in (1, 4):
        with threadpoolctl.threadpool_limits(n_threads):
            picks.append(pick(X, 12, n_init=2).indices)
    np.testing.assert_array_equal(*picks)


def test_the_seed_comes_from_the_generator():
    X = np.random.default_rng(0).normal(size=(60, 5))
    by_seed = {
        tuple(
            kmeans(
                X, 5, labelled=np.array([], int), candidates=np.arange(60), rng=np.random.default_rng(s), n_init=1
            ).indices
        )
        for s in range(5)
    }
    assert len(by_seed) > 1


def test_a_row_that_may_not_be_picked_still_shapes_the_clusters():
    # {0 1 2} and {10}: the 1 in the middle may not be picked, so the lower of the two at a distance of 1 stands for it
    X = line(0, 1, 2, 10).astype(np.float32)
    nobody, free = np.array([], int), np.array([0, 2, 3])
    picked = kmeans(X, 2, labelled=nobody, candidates=free, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(picked.indices, [0, 3])
    np.testing.assert_allclose(picked.scores, [0.75, 0.25])
