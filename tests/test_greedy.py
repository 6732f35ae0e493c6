"""What the greedy strategies share: prefixes, samples of large pools, blocks, and no love of outliers."""

import numpy as np
import pytest
import threadpoolctl

from firstpick.selection import greedy, select
from firstpick.selection.geometry import nearest_squared, squared_distances
from firstpick.selection.greedy import sampled, tied_for_best

GREEDY = ["facility_location", "kcenter", "maxherding", "probcover"]
COVERING = ["facility_location", "maxherding", "probcover"]


def blobs(n_each=50, n_blobs=7, dim=16, seed=0):
    rng = np.random.default_rng(seed)
    centres = 3 * rng.normal(size=(n_blobs, dim))
    return np.repeat(centres, n_each, axis=0) + rng.normal(size=(n_blobs * n_each, dim))


def reached(strategy, X, rows, radius=None):
    """What the strategy maximises, on the whole pool."""
    Z = X / np.linalg.norm(X, axis=1, keepdims=True)
    squared = np.maximum(2 - 2 * Z @ Z[rows].T, 0)
    similar = {
        "facility_location": 1 - squared / 4,
        "maxherding": np.exp(-squared),
        "probcover": squared <= (radius or 0) ** 2,
    }[strategy]
    return similar.max(axis=1).mean()


def test_what_is_equal_on_paper_is_a_tie():
    np.testing.assert_array_equal(tied_for_best(np.array([0.3, 0.1 + 0.2, 0.2, 0.299])), [0, 1])
    np.testing.assert_array_equal(tied_for_best(np.array([np.inf, 1.0, np.inf])), [0, 2])
    np.testing.assert_array_equal(tied_for_best(np.array([0.0, 1e-12, 0.0])), [0, 1, 2])


def test_a_row_is_at_no_distance_from_its_copies():
    X = np.random.default_rng(0).normal(size=(50, 7)) * 10.0 ** np.arange(-25, 25)[:, None]
    squared = squared_distances(X, X)
    np.testing.assert_array_equal(squared == 0, np.eye(50, dtype=bool))
    np.testing.assert_allclose(squared, ((X[:, None] - X[None]) ** 2).sum(axis=2), rtol=1e-9)
    index, least = nearest_squared(X[25:28], X[[29, 27, 27, 26]])
    np.testing.assert_array_equal(index, [3, 3, 1])
    np.testing.assert_array_equal(least, squared[[25, 26, 27], [26, 26, 27]])


def test_a_smaller_sample_is_part_of_a_larger_one():
    rows = np.arange(0, 200, 2)
    small, large = (sampled(rows, n, np.random.default_rng(1)) for n in (10, 30))
    assert len(set(small.tolist())) == 10
    assert set(small.tolist()) < set(large.tolist()) < set(rows.tolist())
    np.testing.assert_array_equal(large, np.sort(large))


@pytest.mark.parametrize("strategy", COVERING)
def test_the_first_picks_come_from_different_blobs(strategy):
    params = {"n_classes": 7} if strategy == "probcover" else {}
    picked = select(strategy, blobs(), 7, scaling="none", **params)
    assert sorted(picked.indices // 50) == list(range(7))


@pytest.mark.parametrize("strategy", GREEDY)
def test_three_planted_outliers_are_not_picked(strategy):
    # each far away in a direction of its own; 3 of 353 rows are less than the 1 % that k-center trims
    rng = np.random.default_rng(1)
    X = np.vstack([blobs(), 60 * np.eye(16)[:3] + 0.1 * rng.normal(size=(3, 16))])
    for n_select in (7, 20) if strategy == "kcenter" else (7,):
        assert select(strategy, X, n_select, scaling="none").indices.max() < 350


@pytest.mark.parametrize("strategy", GREEDY)
def test_copies_are_taken_only_when_nothing_else_is_left(strategy):
    X = np.random.default_rng(0).normal(size=(6, 5))
    picked = select(strategy, np.repeat(X, 4, axis=0), 24)
    assert sorted(picked.indices[:6] // 4) == list(range(6))
    assert len(set(picked.indices.tolist())) == 24


@pytest.mark.parametrize("strategy", COVERING)
def test_what_does_not_fit_into_memory_is_computed_again(strategy, monkeypatch):
    blocks = "firstpick.selection.geometry._CACHE_BYTES"
    monkeypatch.setattr(blocks, 10_000)
    monkeypatch.setattr(np, "empty", np.zeros)  # the memory of an earlier table holds just what this one should
    in_small_blocks = select(strategy, blobs(), 12, labelled=[4, 200])
    monkeypatch.undo()
    kept = select(strategy, blobs(), 12, labelled=[4, 200])
    monkeypatch.setattr(blocks, 10_000)
    monkeypatch.setattr(greedy, "_KEPT_BYTES", 0)
    monkeypatch.setattr(greedy._Similarities, "_fill", None)
    again = select(strategy, blobs(), 12, labelled=[4, 200])
    for picked in (in_small_blocks, again):
        np.testing.assert_array_equal(picked.indices, kept.indices)
        np.testing.assert_allclose(picked.scores, kept.scores, rtol=1e-12)


@pytest.mark.parametrize("strategy", COVERING)
@pytest.mark.parametrize("labelled", [[], [7, 900]])
def test_a_sample_stands_for_a_large_pool(strategy, labelled, monkeypatch):
    X = blobs(n_each=300, n_blobs=10)
    params = {"radius": 0.6} if strategy == "probcover" else {}
    exact = select(strategy, X, 30, labelled=labelled, **params)
    monkeypatch.setattr(greedy, "EXACT_ROWS", 2_000)
    monkeypatch.setattr(greedy, "SAMPLE_ROWS", 1_500)
    by_sample = select(strategy, X, 30, labelled=labelled, **params)
    best, found = (reached(strategy, X, [*labelled, *picked.indices], 0.6) for picked in (exact, by_sample))
    assert set(by_sample.indices.tolist()) != set(exact.indices.tolist())
    assert found > 0.99 * best
    assert reached(strategy, X, list(range(30)), 0.6) < 0.95 * best
    smaller = select(strategy, X, 5, labelled=labelled, **params)
    np.testing.assert_array_equal(smaller.indices, by_sample.indices[:5])


@pytest.mark.parametrize("strategy", COVERING)
def test_more_picks_than_the_sample_has_rows(strategy, monkeypatch):
    monkeypatch.setattr(greedy, "EXACT_ROWS", 200)
    monkeypatch.setattr(greedy, "SAMPLE_ROWS", 100)
    picked = select(strategy, blobs(), 340, labelled=range(10))
    assert len(set(picked.indices.tolist())) == 340
    assert picked.indices.min() == 10


@pytest.mark.parametrize("strategy", [*GREEDY, "repdiv"])
def test_the_number_of_threads_does_not_matter(strategy):
    X = np.random.default_rng(0).normal(size=(600, 32))
    picks = []
    for n_threads in (1, 4):
        with threadpoolctl.threadpool_limits(n_threads):
            picks.append(select(strategy, X, 40).indices)
    np.testing.assert_array_equal(*picks)
