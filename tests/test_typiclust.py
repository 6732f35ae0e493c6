"""Strategy ``typiclust`` on pools whose answer can be worked out by hand."""

import importlib

import numpy as np
import pytest
from sklearn.cluster import KMeans

from firstpick.selection import select
from firstpick.selection.clustering import Clusters
from firstpick.selection.typiclust import typiclust

module = importlib.import_module("firstpick.selection.typiclust")  # the package's attribute is the function


def pick(X, n_select, labelled=(), scaling="none", **params):
    return select("typiclust", np.asarray(X, dtype=float), n_select, labelled=labelled, scaling=scaling, **params)


def raw(X, n_select, labelled=(), candidates=None, **params):
    """The strategy itself, so that scores are in the units of X."""
    X, labelled = np.asarray(X, dtype=np.float32), np.array(labelled, dtype=int)
    free = np.setdiff1d(np.arange(len(X)), labelled) if candidates is None else np.array(candidates)
    return typiclust(X, n_select, labelled=labelled, candidates=free, rng=np.random.default_rng(0), **params)


def line(*values):
    return np.array(values, dtype=np.float32)[:, None]


def gaussian_blobs(sizes, spread=1.0, dim=5):
    rng = np.random.default_rng(0)
    blob = np.repeat(np.arange(len(sizes)), sizes)
    return blob, 100 * np.eye(len(sizes), dim)[blob] + spread * rng.normal(size=(len(blob), dim))


@pytest.fixture
def given_clusters(monkeypatch):
    """Replaces k-means by clusters that the test knows."""

    def give(label):
        monkeypatch.setattr(module, "kmeans_clusters", lambda *_: Clusters(label, np.zeros((1, 1), np.float32)))

    return give


def test_the_densest_place_of_each_cluster_the_largest_first():
    # eight rows, so 4 neighbours: for the 2 they are at 1 1 2 2, 1.5 on average; for the 1 and the 3 farther away.
    # Six rows, so 3 neighbours: for the 101 they are at 1 1 2, and for the 102 as well, but 101 is lower
    X = line(0, 1, 2, 3, 4, 7, 11, 16, 100, 101, 102, 103, 108, 115)
    picked = raw(X, 2, min_size=0)
    np.testing.assert_array_equal(picked.indices, [2, 9])
    np.testing.assert_allclose(picked.scores, [1 / 1.5, 3 / 4], rtol=1e-4)


def test_typical_is_not_central():
    # the centre of the first cluster is (0+0+0.2+6+10+11)/6 = 4.5, near the 6; the dense place is at 0
    assert pick(line(0, 0.1, 0.3, 6, 10, 11, 500), 2, min_size=0).indices[0] == 1


def test_twenty_neighbours_where_the_cluster_has_them():
    # a pair that is close, in a crowd of 60 evenly spaced rows: one neighbour would prefer the pair at the edge
    X = np.concatenate([np.arange(60.0), [59.001]])[:, None]
    assert raw(X, 1, n_neighbours=1).indices.tolist() in ([59], [60])
    assert 9 <= raw(X, 1).indices[0] <= 50
    # for a row in the middle of a unit grid the 20 nearest are at 1 1 2 2 ... 10 10, 5.5 on average
    np.testing.assert_allclose(raw(X[:60], 1).scores, 1 / 5.5, rtol=1e-4)


def test_neighbours_are_half_of_a_small_cluster():
    # four rows, two neighbours: 0 -> 1 and 3, 1 -> 1 and 2, 3 -> 2 and 3, 9 -> 6 and 8: the 1 at 1.5 wins
    picked = raw(line(0, 1, 3, 9), 1)
    np.testing.assert_array_equal(picked.indices, [1])
    np.testing.assert_allclose(picked.scores, 1 / 1.5, rtol=1e-4)


def test_small_clusters_are_left_alone():
    # four far rows are a cluster of their own, but not one that a batch of two should spend a pick on
    blob, X = gaussian_blobs([30, 28, 4])
    picked = pick(X, 3)
    assert sorted(blob[picked.indices].tolist()) == [0, 0, 1]
    assert blob[picked.indices[2]] == 0
    assert sorted(blob[pick(X, 3, min_size=3).indices].tolist()) == [0, 1, 2]


def test_small_clusters_have_their_turn_when_most_are_small():
    # 26 rows in 7 clusters, 3 on average, of which half is 1: nothing is dropped and each gives one. The published
    # limit of 5 would leave the cluster of 8 only, which then gives all seven
    blob, X = gaussian_blobs([8] + [3] * 6, dim=7)
    assert sorted(blob[pick(X, 7).indices].tolist()) == list(range(7))


def test_sixty_rows_and_a_batch_of_twenty():
    # the published code ends in "argmax of an empty sequence"
    X = np.random.default_rng(1).normal(size=(60, 16))
    assert len(set(pick(X, 20, scaling="l2").indices.tolist())) == 20


def test_exhausted_clusters_hand_over_to_the_next():
    # two far clusters of 8 and 3, ten picks: 8, 3, 8, 3, 8, 3 in turn and then the larger one alone
    X = line(0, 1, 2, 3, 4, 5, 6, 7, 100, 101, 102)
    picked = raw(X, 10, labelled=[], candidates=range(10), min_size=0)
    assert sorted(picked.indices.tolist()) == list(range(10))


def test_the_cluster_with_the_fewest_labels_is_next(given_clusters):
    # blobs of 40, 30 and 20 rows with 2, 1 and 0 labels: the third, then by size among those with one: the second
    blob, X = gaussian_blobs([40, 30, 20], spread=0.1)
    given_clusters(blob)
    picked = raw(X, 4, labelled=[0, 1, 40])
    np.testing.assert_array_equal(blob[picked.indices], [2, 1, 2, 0])


def test_a_row_that_may_not_be_picked_is_still_a_neighbour():
    # 1 may not be picked, but makes its neighbours typical: of the rest, 0 -> 1 and 1.5, 1.5 -> 0.5 and 1.5 is nearest
    picked = raw(line(0, 1, 1.5, 9), 1, candidates=[0, 2, 3])
    np.testing.assert_array_equal(picked.indices, [2])
    np.testing.assert_allclose(picked.scores, 1 / 1.0, rtol=1e-4)


def test_exact_copies_are_as_typical_as_can_be():
    picked = raw(np.ones((7, 3)), 3)
    np.testing.assert_array_equal(picked.indices, [0, 1, 2])
    np.testing.assert_allclose(picked.scores, 1e5)


def test_a_lone_row_has_no_neighbours():
    picked = raw(line(3), 1)
    assert picked.indices.tolist() == [0]
    assert np.isfinite(picked.scores).all()


def test_equally_large_clusters_go_by_their_lowest_row():
    # so do the rows: with one neighbour, 0 and 1 are equally typical
    X = line(100, 101, 103, 0, 1, 3)
    for seed in range(5):
        np.testing.assert_array_equal(pick(X, 2, seed=seed).indices, [3, 0])


def test_never_more_than_500_clusters(monkeypatch):
    asked = []
    original = module.kmeans_clusters
    monkeypatch.setattr(module, "kmeans_clusters", lambda X, k, rng: asked.append(k) or original(X, k, rng, n_init=1))
    X = np.random.default_rng(0).normal(size=(700, 2))
    assert len(set(pick(X, 20, labelled=range(600), starts=1).indices.tolist())) == 20
    assert asked == [500]


def test_large_clusters_and_small_blocks_change_little(monkeypatch):
    X = np.random.default_rng(0).normal(size=(900, 2)) * [1, 0.2]
    full = pick(X, 1)
    monkeypatch.setattr(module, "_BLOCK_ROWS", 7)
    np.testing.assert_array_equal(pick(X, 1).indices, full.indices)
    monkeypatch.setattr(module, "_MOST_OTHERS", 300)
    assert np.linalg.norm(X[pick(X, 1).indices[0]]) < 0.5


@pytest.mark.filterwarnings("ignore")  # theirs
def test_the_same_picks_as_scikit_activeml():
    skactiveml = pytest.importorskip("skactiveml.pool", reason="the peer to agree with is scikit-activeml")
    X = gaussian_blobs([70, 60, 50, 45], spread=3.0)[1].astype(np.float32)
    y = np.full(len(X), np.nan)
    theirs = skactiveml.TypiClust(random_state=0, cluster_algo_dict={"n_init": 10}, k=20)
    np.testing.assert_array_equal(raw(X, 4).indices, theirs.query(X, y, batch_size=4))


@pytest.mark.filterwarnings("ignore")
def test_the_same_picks_as_scikit_activeml_beside_labels(given_clusters):
    # labels in the first and the second blob, so that a batch of two is one from each of the others
    skactiveml = pytest.importorskip("skactiveml.pool", reason="the peer to agree with is scikit-activeml")
    blob, X = gaussian_blobs([70, 60, 50, 45], spread=3.0)
    given_clusters(blob)
    y = np.full(len(X), np.nan)
    y[[0, 70]] = 0

    class Given(KMeans):
        def fit_predict(self, _):
            return blob

    theirs = skactiveml.TypiClust(random_state=0, cluster_algo=Given, k=20)
    np.testing.assert_array_equal(raw(X, 2, labelled=[0, 70]).indices, theirs.query(X, y, batch_size=2))
