"""Several starts of one strategy: the batch most like the pool is taken."""

import numpy as np
import pytest

from firstpick.selection import NESTED, SEEDED, STRATEGIES, Guards, select
from firstpick.selection.result import Selection
from firstpick.selection.starts import most_like_all

GUARDED = {"guards": Guards(duplicates=0.9995, max_per_group=1), "groups": [f"p{row % 40}" for row in range(90)]}


def pool(seed=5, n_rows=90):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n_rows, 6)) + 3 * rng.normal(size=(5, 6))[rng.integers(5, size=n_rows)]).astype(np.float32)


def discrepancy(X, batch):
    """By the formula, with every pair of rows at once."""
    rows = X / np.linalg.norm(X, axis=1, keepdims=True)
    rows = rows - rows.mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    kernel = np.exp(-2 * ((rows[:, None] - rows[None]) ** 2).sum(axis=2))
    return kernel.mean() - 2 * kernel[:, batch].mean() + kernel[np.ix_(batch, batch)].mean()


def test_the_batch_with_the_least_discrepancy_is_found():
    X, rng = pool().astype(np.float64), np.random.default_rng(1)
    batches = [rng.permutation(90)[:7] for _ in range(30)]
    wanted = int(np.argmin([discrepancy(X, batch) for batch in batches]))
    assert wanted != 0
    assert most_like_all(X.astype(np.float32), batches) == wanted


def test_of_batches_that_are_equally_like_the_pool_the_first_is_taken():
    X = np.tile(pool(n_rows=10), (2, 1))
    assert most_like_all(X, [np.array([3, 14]), np.array([13, 4]), np.array([3, 4])]) == 0


@pytest.mark.parametrize("kept_to", [{}, GUARDED], ids=["no guards", "guards"])
@pytest.mark.parametrize("strategy", sorted(SEEDED))
def test_the_batch_is_the_best_of_those_that_its_starts_give(monkeypatch, strategy, kept_to):
    X, states = pool(), []
    function = STRATEGIES[strategy]

    def spy(*given, rng, **own):
        if rng not in states:
            states.append(rng)
        return function(*given, rng=rng, **own)

    monkeypatch.setitem(STRATEGIES, strategy, spy)
    chosen = select(strategy, X, 6, labelled=[3, 50], starts=4, **kept_to)
    assert len(states) == 4
    first = select(strategy, X, 6, labelled=[3, 50], starts=1, **kept_to)
    worse_or_same = discrepancy(X, [3, 50, *first.indices])
    assert discrepancy(X, [3, 50, *chosen.indices]) <= worse_or_same + 1e-6


def test_more_starts_are_never_less_like_the_pool_and_on_some_pools_more():
    better = 0
    for seed in range(6):
        X = pool(seed)
        one, six = (discrepancy(X, select("kmeans", X, 8, starts=starts, n_init=1).indices) for starts in (1, 6))
        assert six <= one + 1e-6
        better += six < one - 1e-6
    assert better


@pytest.mark.parametrize("strategy", sorted(STRATEGIES.keys() - SEEDED))
def test_what_is_nested_or_does_not_hang_on_the_seed_is_asked_once(monkeypatch, strategy):
    calls = []

    def once(X, n_select, *, candidates, **_):
        calls.append(n_select)
        return Selection(candidates[:n_select], np.zeros(n_select))

    monkeypatch.setitem(STRATEGIES, strategy, once)
    select(strategy, pool(), 5, starts=6)
    assert calls == [5]


def test_no_strategy_is_both_nested_and_tried_from_several_starts():
    assert not NESTED & SEEDED


@pytest.mark.parametrize("strategy", sorted(STRATEGIES.keys() - SEEDED - NESTED))
def test_the_others_give_the_same_batch_whatever_the_seed(strategy):
    batches = {tuple(select(strategy, pool(), 6, seed=seed).indices.tolist()) for seed in range(4)}
    assert len(batches) == 1


def test_no_start_is_refused():
    with pytest.raises(ValueError, match=r"^starts must be 1 or more; got 0\.$"):
        select("kmeans", pool(), 3, starts=0)
