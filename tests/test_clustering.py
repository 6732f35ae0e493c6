"""The clusters and the queues that strategies share."""

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.cluster import KMeans, kmeans_plusplus

from firstpick.selection import clustering
from firstpick.selection.clustering import (
    distance_to_centre,
    first_of_each,
    kmeans_clusters,
    members,
    n_clusters_for,
    n_distinct,
)
from firstpick.selection.queues import largest_free_first


def blobs(n_rows, n_blobs=12, dim=16, spread=0.5):
    rng = np.random.default_rng(3)
    centres = 3 * rng.normal(size=(n_blobs, dim))
    return (centres[rng.integers(n_blobs, size=n_rows)] + spread * rng.normal(size=(n_rows, dim))).astype(np.float32)


def inertia(X, clusters):
    return float((distance_to_centre(X, clusters).astype(float) ** 2).sum())


def seeded(seed=0):
    return np.random.default_rng(seed)


def test_as_tight_as_those_of_scikit_learn():
    X = blobs(600, spread=2.0)
    theirs = KMeans(12, n_init=10, random_state=0).fit(X).inertia_
    assert inertia(X, kmeans_clusters(X, 12, seeded())) < 1.01 * theirs


def test_every_row_is_in_the_cluster_of_the_nearest_centre():
    X = blobs(200)
    found = kmeans_clusters(X, 12, seeded())
    squared = ((X[:, None] - found.centres[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(found.label, squared.argmin(axis=1))


def test_the_best_of_the_starts_wins():
    X = blobs(300)
    single = [inertia(X, kmeans_clusters(X, 12, seeded(s), n_init=1, init="random")) for s in range(10)]
    several = [inertia(X, kmeans_clusters(X, 12, seeded(s), n_init=10, init="random")) for s in range(10)]
    assert np.median(several) < 0.9 * np.median(single)


@pytest.fixture
def fitted(monkeypatch):
    """How many rows each k-means saw, with lower bounds from which on rows are sampled."""
    seen = []
    for name in ("_one_start", "_settled"):
        step = getattr(clustering, name)
        monkeypatch.setattr(clustering, name, lambda *args, step=step: seen.append(len(args[0])) or step(*args))
    monkeypatch.setattr(clustering, "_START_ROWS", 400)
    monkeypatch.setattr(clustering, "_SAMPLE_ROWS", 800)
    return seen


@pytest.mark.parametrize(
    ("n_rows", "expected"),
    [(400, 10 * [400]), (401, [*10 * [400], 401]), (800, [*10 * [400], 800]), (801, [*10 * [400], 800, 801])],
)
def test_the_best_of_several_starts_on_few_rows_goes_on_with_more(fitted, n_rows, expected):
    kmeans_clusters(blobs(n_rows), 4, seeded())
    assert fitted == expected


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_the_number_of_threads_does_not_matter(n_threads):
    X = blobs(900, spread=2.0)
    straight = kmeans_clusters(X, 20, seeded(), n_init=4)
    with parallel_config(n_jobs=n_threads):
        threaded = kmeans_clusters(X, 20, seeded(), n_init=4)
    np.testing.assert_array_equal(threaded.label, straight.label)
    np.testing.assert_array_equal(threaded.centres, straight.centres)


@pytest.mark.parametrize("seed", range(3))
def test_samples_of_many_rows_do_nearly_as_well_as_all(fitted, monkeypatch, seed):
    X = blobs(4000, spread=2.0)
    sampled = kmeans_clusters(X, 12, seeded(seed))
    assert fitted == [*10 * [400], 800, 4000]
    assert len(sampled.label) == 4000
    monkeypatch.setattr(clustering, "_START_ROWS", 4000)
    assert inertia(X, sampled) < 1.01 * inertia(X, kmeans_clusters(X, 12, seeded()))


def test_a_sample_never_has_fewer_than_ten_rows_per_cluster(fitted):
    kmeans_clusters(blobs(1000), 60, seeded(), n_init=1)
    assert fitted == [600, 800, 1000]


def test_a_sample_without_the_rare_rows(fitted):
    # three places, two of them with one row in a thousand: a sample may know one only
    X = np.repeat(np.array([[0.0], [1.0], [5.0]], np.float32), [1998, 1, 1], axis=0)
    found = kmeans_clusters(X, 3, seeded())
    assert fitted[0] == 400
    assert inertia(X, found) < 1e-9


def test_the_last_steps_on_many_rows_are_those_of_scikit_learn(fitted):
    X = blobs(4000, spread=2.0) + 50  # a large mean, in which small differences could drown
    found = kmeans_clusters(X, 12, seeded())
    before = kmeans_clusters(X, 12, seeded(), n_last_steps=0)
    theirs = KMeans(12, init=before.centres, n_init=1, max_iter=5, tol=0).fit(X)
    np.testing.assert_array_equal(found.label, theirs.labels_)
    np.testing.assert_allclose(found.centres, theirs.cluster_centers_, rtol=1e-5)


def test_copies_are_found_wherever_they_stand():
    X = np.array([[1, 5], [1, 7], [1 + 1e-8, 5], [-0.0, 0], [0.0, 0], [1, 7.001]])
    np.testing.assert_array_equal(first_of_each(X), [0, 1, 0, 3, 3, 5])


def test_never_more_clusters_than_distinct_rows_or_500():
    X = np.arange(900.0)[:, None]
    assert n_clusters_for(X, 3, 4) == 7
    assert n_clusters_for(X, 700, 4) == 500
    assert n_clusters_for(X, 0, 600) == 600
    assert n_clusters_for(np.repeat(X[:5], 9, axis=0), 3, 4) == 5


def test_members_of_an_empty_cluster():
    assert [rows.tolist() for rows in members(np.array([2, 0, 2]), 4)] == [[1], [], [0, 2], []]


def test_queues_take_the_most_crowded_cluster_when_all_have_a_label():
    # clusters of 5 and 3 rows with one label each: 4 rows to choose from per row taken against 2; then 3/2 against 2
    label = np.array([0, 0, 0, 0, 0, 1, 1, 1])
    distance = np.array([0.0, 3, 1, 2, 4, 0, 2, 1])
    picked = largest_free_first(label, distance, 3, labelled=np.array([0, 5]), candidates=np.array([1, 2, 3, 4, 6, 7]))
    np.testing.assert_array_equal(picked.indices, [2, 7, 3])
    np.testing.assert_allclose(picked.scores, [5 / 8, 3 / 8, 5 / 8])


def test_a_cluster_without_candidates_counts_but_gives_nothing():
    label, distance = np.array([0, 0, 0, 1, 1]), np.zeros(5)
    picked = largest_free_first(label, distance, 2, labelled=np.array([], int), candidates=np.array([3, 4]))
    np.testing.assert_array_equal(picked.indices, [3, 4])
    np.testing.assert_allclose(picked.scores, [0.4, 0.4])


def test_the_size_of_a_cluster_is_all_its_rows():
    # four rows, of which one may be picked, and three rows that all may
    label, distance = np.array([0, 0, 0, 0, 1, 1, 1]), np.zeros(7)
    picked = largest_free_first(label, distance, 2, labelled=np.array([], int), candidates=np.array([3, 4, 5, 6]))
    np.testing.assert_array_equal(picked.indices, [3, 4])


def test_starts_are_far_from_each_other():
    # nine rows at 0 for every row elsewhere: k-means++ draws each of the five places once, whatever the seed
    X = np.repeat(10 * np.eye(5, dtype=np.float32), [36, 1, 1, 1, 1], axis=0)
    for seed in range(20):
        drawn = clustering._plus_plus(X, 5, seeded(seed))
        np.testing.assert_array_equal(np.unique(drawn, axis=0), np.unique(X, axis=0))


def test_of_several_draws_the_one_that_leaves_the_least():
    # greedy k-means++ ends nearer to the optimum than plain draws in proportion to the squared distance
    X = blobs(400, spread=1.0)

    def left(drawn):
        return float(((X[:, None] - drawn[None]) ** 2).sum(axis=2).min(axis=1).sum())

    ours = [left(clustering._plus_plus(X, 12, seeded(seed))) for seed in range(10)]
    plain = [left(kmeans_plusplus(X, 12, random_state=seed, n_local_trials=1)[0]) for seed in range(10)]
    assert np.median(ours) < 0.8 * np.median(plain)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_the_first_of_equal_rows_is_found_as_by_looking_at_one_after_the_other(size):
    rng = seeded(4)
    X = (size * rng.integers(-2, 3, size=(300, 3))).astype(np.float32)
    X *= 1 + 1e-7 * rng.uniform(-1, 1, size=X.shape).astype(np.float32)
    seen = {}
    first = [seen.setdefault(tuple(np.rint(row / size)), i) for i, row in enumerate(X)]
    np.testing.assert_array_equal(first_of_each(X), first)
    assert n_distinct(X) == len(seen)
    assert [n_distinct(X, most) for most in (1, 7, len(seen), 999)] == [1, 7, len(seen), len(seen)]
