"""What is said of a pool before anything is labelled."""

from itertools import combinations

import numpy as np
import pytest

from firstpick.proposal import propose
from firstpick.proposal.outlook import CLUMPED, outlook
from firstpick.studies import Pool, Sample


def kinds(n_kinds, n_rows, *, spread, seed=0, dim=20):
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(dim, dim)))[0][:n_kinds]
    return (np.repeat(centres, n_rows, axis=0) + spread * rng.normal(size=(n_kinds * n_rows, dim))).astype(np.float32)


def nearest(X, batch):
    """Mean squared distance of all rows to the nearest of a batch."""
    rows = X / np.linalg.norm(X, axis=1, keepdims=True)
    return ((rows[:, None] - rows[None, batch]) ** 2).sum(axis=2).min(axis=1).mean()


def test_the_number_of_random_studies_that_do_as_well_is_that_of_all_batches_there_are():
    X = np.random.default_rng(3).normal(size=(9, 4)).astype(np.float64)
    means = [np.mean([nearest(X, batch) for batch in combinations(range(9), n)]) for n in range(1, 10)]
    found = outlook(X.astype(np.float32))
    best = [found.suggested_batch_size]
    greedy = []
    for _ in range(*[best[0]]):
        greedy.append(min(set(range(9)) - {*greedy}, key=lambda row: nearest(X, [*greedy, row])))
    wanted = np.interp(-nearest(X, greedy), [-mean for mean in means], range(1, 10))
    assert found.random_equivalent == pytest.approx(wanted, abs=0.06)


@pytest.mark.parametrize("n_kinds", [2, 5, 13])
def test_kinds_that_are_clearly_apart_are_counted_and_no_fewer_are_suggested(n_kinds):
    found = outlook(kinds(n_kinds, 12, spread=0.05))
    assert found.n_kinds == n_kinds
    assert n_kinds <= found.low <= found.suggested_batch_size <= found.high


def test_what_is_covered_already_asks_for_no_more_picks():
    assert outlook(kinds(3, 50, spread=0.01)).suggested_batch_size == 3


def test_where_all_are_alike_there_is_one_kind():
    for seed in range(5):
        assert outlook(kinds(1, 120, spread=0.1, seed=seed)).n_kinds == 1


def test_clumps_are_told_from_a_cloud():
    for seed in range(4):
        clumped, cloud = outlook(kinds(9, 20, spread=0.1, seed=seed)), outlook(kinds(1, 180, spread=0.3, seed=seed))
        assert cloud.clumping < 0.03 < CLUMPED < clumped.clumping
        assert cloud.text.startswith("No clumps are seen")
        assert clumped.text.startswith("These studies lie in clumps")


def test_it_depends_neither_on_the_order_of_the_rows_nor_on_copies():
    X = kinds(4, 20, spread=0.2)
    found = outlook(X)
    assert outlook(X[::-1].copy()) == found
    assert outlook(np.vstack([X, X[:50]])) == found


def test_a_large_pool_is_judged_by_a_part_of_it():
    small, large = (outlook(kinds(6, n_rows, spread=0.1)) for n_rows in (150, 500))
    assert small.n_kinds == large.n_kinds == 6
    assert abs(small.suggested_batch_size - large.suggested_batch_size) <= 2


@pytest.mark.parametrize(
    "X", [np.eye(7, dtype=np.float32), np.ones((40, 3), np.float32), np.zeros((40, 3), np.float32)]
)
def test_of_too_few_distinct_studies_nothing_is_said(X):
    assert outlook(X) is None


def test_every_proposal_carries_it():
    X = kinds(3, 10, spread=0.05)
    pool = Pool(tuple(Sample(f"s{row:02d}") for row in range(30)), X)
    told = propose(pool, strategy="ward", batch_size=2).outlook
    assert told == outlook(X)
    assert f" A batch of {told.suggested_batch_size} " in told.text
