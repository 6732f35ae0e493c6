"""What `select` does around every strategy: checks, scales, puts rows in an order of their content, maps back."""

import tracemalloc

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from firstpick.selection import SCALINGS, STRATEGIES, check_strategy, select
from firstpick.selection.uniform import uniform


def rng(seed=7):
    return np.random.default_rng(seed)


POOLS = {
    "float64": rng().normal(size=(40, 8)) + 5,
    "float32": rng().normal(size=(40, 8)).astype(np.float32),
    "columns of few values": np.column_stack([rng().integers(2, size=(20, 2)), rng().permutation(20), np.ones(20)]),
    "three samples": rng().normal(size=(3, 6)),
    "far outlier": np.vstack([rng().normal(size=(20, 4)), np.full((1, 4), 1e6)]),
    "collinear": np.outer(np.arange(1.0, 16.0), [1.0, 2.0]),
    "huge": rng().normal(size=(12, 4)) * 1e37,
    "tiny": rng().normal(size=(12, 4)) * 1e-37,
}


@pytest.fixture
def given(monkeypatch):
    """What strategy ``random`` is given, call by call."""
    calls = []

    def spy(X, n_select, *, labelled, candidates, rng):
        calls.append((X.copy(), n_select, labelled.tolist(), candidates.tolist()))
        assert X.flags.c_contiguous
        assert X.dtype == np.float32
        assert (np.diff(labelled) > 0).all()
        assert (np.diff(candidates) > 0).all()
        return uniform(X, n_select, labelled=labelled, candidates=candidates, rng=rng)

    monkeypatch.setitem(STRATEGIES, "random", spy)
    return calls


def assert_same(one, other):
    np.testing.assert_array_equal(one[0], other[0])
    assert one[1:] == other[1:]


@pytest.mark.parametrize("scaling", sorted(SCALINGS))
@pytest.mark.parametrize("pool", sorted(POOLS))
def test_a_strategy_is_given_the_same_whatever_the_order_and_layout_of_the_rows(given, pool, scaling):
    X = POOLS[pool]
    order = rng().permutation(len(X))
    place = np.argsort(order)  # row i of X is row place[i] of X[order]
    straight = select("random", X, 2, labelled=[1], excluded=[0], scaling=scaling)
    shuffled = select("random", X[order], 2, labelled=[place[1]], excluded=[place[0]], scaling=scaling)
    select("random", np.asfortranarray(X), 2, labelled=[1], excluded=[0], scaling=scaling)
    assert_same(given[0], given[1])
    assert_same(given[0], given[2])
    np.testing.assert_array_equal(order[shuffled.indices], straight.indices)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_the_order_of_the_rows_and_the_number_of_threads_do_not_matter(strategy):
    X = rng().normal(size=(70, 6))
    before = X.copy()
    order = rng().permutation(len(X))
    place = np.argsort(order)
    straight = select(strategy, X, 5, labelled=[2, 60], excluded=[9], seed=3, n_jobs=1)
    shuffled = select(strategy, X[order], 5, labelled=place[[2, 60]], excluded=place[[9]], seed=3, n_jobs=2)
    np.testing.assert_array_equal(order[shuffled.indices], straight.indices)
    np.testing.assert_array_equal(shuffled.scores, straight.scores)
    np.testing.assert_array_equal(X, before)


def test_excluded_rows_take_no_part_at_all_unless_they_are_labelled(given):
    X = rng().normal(size=(12, 3))
    junk = 100 * rng(8).normal(size=(15, 3))
    for scaling in SCALINGS:
        given.clear()
        select("random", X, 6, labelled=[4], scaling=scaling)
        select("random", np.vstack([X, junk]), 6, labelled=[4], excluded=range(12, 27), scaling=scaling)
        select("random", X, 6, labelled=[4], excluded=[4], scaling=scaling)
        assert_same(given[0], given[1])
        assert_same(given[0], given[2])


def test_it_takes_no_more_threads_than_asked_for(monkeypatch):
    def spy(X, n_select, **arguments):
        assert {pool["num_threads"] for pool in threadpool_info()} == {1}
        return uniform(X, n_select, **arguments)

    monkeypatch.setitem(STRATEGIES, "random", spy)
    with threadpool_limits(2):
        select("random", np.eye(3), 1, n_jobs=1)


def test_the_seed_makes_the_generator():
    X = rng().normal(size=(50, 3))
    by_seed = [tuple(select("random", X, 9, seed=seed).indices.tolist()) for seed in (0, 1, 1)]
    assert by_seed[0] != by_seed[1] == by_seed[2]


def test_where_fewer_rows_are_left_all_of_them_come():
    assert sorted(select("random", np.eye(5), 9, labelled=[1], excluded=[1, 3]).indices.tolist()) == [0, 2, 4]


def test_of_exact_copies_the_first_listed_comes_first():
    X = np.repeat(rng().normal(size=(3, 4)), 4, axis=0)
    assert set((select("facility_location", X, 3).indices % 4).tolist()) == {0}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"strategy": "randon"}, r"^strategy 'randon' is not known\. Did you mean 'random'\? Choose one of bal, "),
        (
            {"scaling": "standardize"},
            r"Did you mean 'standardise'\? Choose one of l2, none, standardise, pca, whiten\.$",
        ),
        ({"scaling": "xyz"}, r"^scaling 'xyz' is not known\. Choose one of"),
        ({"colour": "red"}, r"^parameter 'colour' is not known to strategy 'kmeans'\. It has n_init\.$"),
        ({"strategy": "ward", "colour": 1}, r"'colour' is not known to strategy 'ward'\. It has none\.$"),
        ({"n_select": 0}, r"^n_select must be 1 or more; got 0\.$"),
        ({"X": np.zeros(3)}, r"one row of numbers per study; got an array of shape \(3,\)"),
        ({"X": np.zeros((3, 0))}, r"got an array of shape \(3, 0\)"),
        ({"X": [[1.0], [np.nan]]}, r"finite numbers within the range of float32; row 1 does not"),
        ({"X": [[1e300], [1.0]]}, "row 0 does not"),
        ({"X": [[1.0], [-np.inf]]}, "row 1 does not"),
        ({"labelled": [3]}, r"^labelled holds row 3; X has 3 rows, counted from 0\.$"),
        ({"excluded": [-1]}, "excluded holds row -1"),
        ({"labelled": [0, 1], "excluded": [1, 2]}, r"^nothing left to choose: all 3 rows are labelled or excluded\.$"),
        ({"seed": -1}, "non-negative"),
        ({"groups": ["a", "b"]}, "groups must say something of each of the 3 rows of X; got 2"),
        ({"strata": ["a", "b"]}, "strata must say something of each of the 3 rows of X; got 2"),
        ({"slices": [("a", "axial", 0.0)]}, "slices must say something of each of the 3 rows of X; got 1"),
    ],
)
def test_nonsense_is_refused_in_plain_words(changes, text):
    arguments = {"strategy": "kmeans", "X": [[1.0], [2.0], [4.0]], "n_select": 1} | changes
    with pytest.raises(ValueError, match=text):
        select(**arguments)


def test_what_select_gives_is_no_parameter_of_a_strategy():
    for name in STRATEGIES:
        with pytest.raises(ValueError, match="parameter 'rng' is not known"):
            check_strategy(name, {"rng"})


@pytest.mark.parametrize("strategy", ["calr", "kcenter", "kmeans"])
def test_many_rows_are_copied_less_than_four_times(strategy):
    # the rows in order, the rows scaled, and what the strategy needs
    X = np.random.default_rng(0).standard_normal((60_000, 128), np.float32) + np.float32(1)
    select(strategy, X[:100], 3)  # imports
    tracemalloc.start()
    try:
        select(strategy, X, 5, starts=1)
        assert tracemalloc.get_traced_memory()[1] < 4 * X.nbytes
    finally:
        tracemalloc.stop()
