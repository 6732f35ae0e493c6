"""Strategy ``calr`` on pools whose answer can be worked out by hand."""

import numpy as np
from sklearn.cluster import Birch

from firstpick.selection import merging, select
from firstpick.selection.calr import _birch_labels, calr


def pick(X, n_select, labelled=(), **params):
    return select("calr", np.asarray(X, dtype=float), n_select, labelled=labelled, scaling="none", **params)


def directions(*degrees):
    angle = np.radians(degrees)
    return np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)


def test_the_most_alike_of_each_cluster_the_largest_first():
    # by the mean cosine, which is the cosine to the mean direction, 49 stands for 40 to 60, and 5 for 0 to 13
    picked = pick(directions(60, 0, 40, 5, 49, 13, 48), 2)
    np.testing.assert_array_equal(picked.indices, [4, 3])
    np.testing.assert_allclose(picked.scores, [4 / 7, 3 / 7])


def test_directions_decide_and_not_lengths():
    # directions of 0, 11.3, 16.7 and 6.4 degrees, 8.6 on average: the last is nearest to that, though the second is
    # nearest to the mean (9.5, 1.475) and the third has the largest product with it
    picked = pick([[10, 0], [10, 2], [10, 3], [8, 0.9], [-50, 0], [-50, 1]], 2)
    assert picked.indices[0] == 3


def test_as_many_clusters_as_picks_although_all_rows_are_within_the_threshold():
    # the published code finds one subcluster here, and so picks one row instead of three
    X = directions(0, 0.5, 1.1, 5, 5.5, 6.1, 10, 10.5, 11.1)
    np.testing.assert_array_equal(np.sort(pick(X, 3).indices), [1, 4, 7])


def test_the_same_clusters_as_scikit_learn():
    X = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    theirs = Birch(threshold=0.5, n_clusters=7).fit(X).labels_
    assert len(Birch(threshold=0.5, n_clusters=None).fit(X).subcluster_centers_) < 150  # rows were condensed
    ours = _birch_labels(X, 7, 0.5)
    assert len(set(zip(theirs.tolist(), ours.tolist(), strict=True))) == 7


def test_a_finer_threshold_is_used_when_asked_for():
    # coarse subclusters of 300 rows cannot be told apart any more, fine ones can
    X = np.random.default_rng(1).normal(size=(300, 2)).astype(np.float32)
    assert not np.array_equal(pick(X, 12).indices, pick(X, 12, threshold=0.01).indices)


def test_a_labelled_cluster_is_not_picked_again():
    # four clusters of 5, 4, 3 and 2 directions; labels in the largest and in the third
    X = directions(0, 1, 2, 3, 4.5, 80, 81, 82, 84, 160, 161, 163, 240, 242)
    picked = pick(X, 2, labelled=[0, 11])
    assert picked.indices[0] in {6, 7}
    assert picked.indices[1] in {12, 13}
    np.testing.assert_allclose(picked.scores, [4 / 14, 2 / 14])


def test_a_row_that_may_not_be_picked_still_counts():
    # 10 and 12 are in the middle of 0 10 12 30, but may not be picked: 0 is 13 away from the mean, 30 is 17
    X, free = directions(0, 10, 12, 30, 90, 100), np.array([0, 3, 4, 5])
    picked = calr(X, 2, labelled=np.array([], int), candidates=free, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(picked.indices, [0, 4])
    np.testing.assert_allclose(picked.scores, [4 / 6, 2 / 6])


def test_copies_are_taken_only_when_nothing_else_is_left():
    picked = pick(directions(50, 0, 0, 90, 0, 50, 0), 5)
    np.testing.assert_array_equal(picked.indices[:3], [1, 0, 3])
    assert len(set(picked.indices.tolist())) == 5


def test_rows_of_zeros_are_like_nothing():
    # two groups; in the one with the zero row the others are alike
    picked = pick([[0, 0], [0.1, 0], [0.1, 0.01], [9, 9], [9, 9.1], [9, 9.3]], 2)
    assert 0 not in picked.indices


def test_the_seed_does_not_matter_on_a_pool_of_ordinary_size():
    X = np.random.default_rng(0).normal(size=(200, 5))
    np.testing.assert_array_equal(pick(X, 9, seed=1).indices, pick(X, 9, seed=2).indices)


def test_many_rows_are_condensed_first(monkeypatch):
    monkeypatch.setattr(merging, "MAX_ROWS", 100)
    monkeypatch.setattr(merging, "_N_MICRO", 40)
    rng = np.random.default_rng(0)
    blob = np.repeat(np.arange(8), np.arange(30, 110, 10))
    fitted = []
    fit = Birch.fit
    monkeypatch.setattr(Birch, "fit", lambda self, X: fitted.append(len(X)) or fit(self, X))
    picked = pick(50 * np.eye(8)[blob] + rng.normal(size=(len(blob), 8)), 8)
    assert max(fitted) <= 40
    np.testing.assert_array_equal(blob[picked.indices], np.arange(8)[::-1])
