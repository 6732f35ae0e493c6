"""The contract of a strategy, held against the strategies themselves: no `select` before them that sorts the rows.

A new entry of STRATEGIES is tested without a new line, but for its own criterion in CRITERIA.
"""

import inspect
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstpick.selection import LATER, NESTED, STRATEGIES, describe

every_strategy = pytest.mark.parametrize("strategy", sorted(STRATEGIES))


def rng(seed=7):
    return np.random.default_rng(seed)


def ask(strategy, X, n_select, labelled=(), closed=(), *, seed=0, **params):
    """Call the function itself; ``closed`` rows may not be picked."""
    labelled = np.array(sorted(labelled), dtype=np.intp)
    candidates = np.setdiff1d(np.arange(len(X)), [*labelled, *closed])
    X = np.ascontiguousarray(X, dtype=np.float32)
    return STRATEGIES[strategy](X, n_select, labelled=labelled, candidates=candidates, rng=rng(seed), **params)


POOLS = {
    "blobs": rng().normal(size=(30, 8)) + 5 * np.eye(8)[rng().integers(4, size=30)],
    "one repeated point": np.tile([[1.0, 2.0, 3.0]], (12, 1)),
    "duplicates": rng().permutation(np.repeat(rng().normal(size=(4, 5)), 6, axis=0)),
    "duplicates by rounding": np.repeat(rng().normal(size=(3, 5)), 6, axis=0) * (1 + 2e-7 * np.arange(18)[:, None]),
    "three samples": rng().normal(size=(3, 6)),
    "far outlier": np.vstack([np.ones((1, 4)), rng().normal(size=(20, 4)) * 1e-6]),
    "collinear": np.outer(rng().permutation(15) + 1.0, [1.0, 2.0]),
    "one dimension": rng().normal(size=(14, 1)),
    "zero rows": np.vstack([np.zeros((5, 3)), rng().normal(size=(9, 3))]),
}


def hold_to_the_contract(strategy, X, n_select, labelled, closed):
    X = np.ascontiguousarray(X, dtype=np.float32)
    before = X.copy()
    few = {"k_max": 4} if strategy == "silhouette" else {}  # 10 take three times as long
    picked, again = (ask(strategy, X, n_select, labelled, closed, **few) for _ in range(2))
    assert picked.indices.shape == picked.scores.shape == (n_select,)
    assert len(set(picked.indices.tolist())) == n_select
    assert set(picked.indices.tolist()) <= {*range(len(X))} - {*labelled, *closed}
    assert (picked.indices.dtype, picked.scores.dtype) == (np.intp, np.float64)
    assert np.isfinite(picked.scores).all()
    np.testing.assert_array_equal(picked.indices, again.indices)
    np.testing.assert_array_equal(picked.scores, again.scores)
    np.testing.assert_array_equal(X, before)


@every_strategy
@pytest.mark.parametrize("pool", sorted(POOLS))
def test_exactly_n_unique_candidates_the_same_each_time_and_the_input_untouched(strategy, pool):
    order = rng(3).permutation(len(POOLS[pool])).tolist()
    hold_to_the_contract(strategy, POOLS[pool], len(order), [], [])
    hold_to_the_contract(strategy, POOLS[pool], 1, order[:1], order[1:2])
    hold_to_the_contract(strategy, POOLS[pool], len(order) - len(order) // 2, order[: len(order) // 2], [])


@every_strategy
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_the_contract_holds_on_any_pool(strategy, data):
    n_rows, dim = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 3))
    values = data.draw(st.lists(st.integers(-2, 2), min_size=n_rows * dim, max_size=n_rows * dim))
    roles = data.draw(st.lists(st.sampled_from(["free", "labelled", "closed"]), min_size=n_rows, max_size=n_rows))
    roles[data.draw(st.integers(0, n_rows - 1))] = "free"
    labelled, closed = ([row for row in range(n_rows) if roles[row] == name] for name in ("labelled", "closed"))
    n_select = data.draw(st.integers(1, roles.count("free")))
    hold_to_the_contract(strategy, np.reshape(values, (n_rows, dim)) / 2, n_select, labelled, closed)


@every_strategy
def test_a_smaller_batch_is_the_start_of_a_larger_one_where_that_is_promised(strategy):
    is_start = True
    for seed in range(3):
        X = rng(seed).normal(size=(60, 5))
        large, small = (ask(strategy, X, n, labelled=[3, 44], closed=[7], seed=seed) for n in (15, 6))
        is_start &= np.array_equal(large.indices[:6], small.indices) and np.array_equal(large.scores[:6], small.scores)
    assert is_start == (strategy in NESTED)


# -- each strategy's own criterion, computed plainly, on six groups of rows in no order

SIZES = (5, 9, 13, 17, 21, 25)
RADIUS = 2.5
PARAMS = {
    "bal": {"n_clusters": 6},
    "kcenter": {"trim": 0},
    "probcover": {"radius": RADIUS},
    "repdiv": {"share": 0.5},
    "typiclust": {"min_size": 0},
}


def groups(seed):
    """Rows of six groups of 5 to 25, far apart, and the group of each."""
    group = rng(seed).permutation(np.repeat(np.arange(6), SIZES))
    return (10 * np.eye(6)[group] + rng(seed + 1).normal(size=(len(group), 6))).astype(np.float32), group


def apart(X, rows):
    """Distance of every row to some rows."""
    return np.linalg.norm(X[:, None].astype(float) - X[rows][None], axis=2)


def likeness(X, rows):
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    return (1 + unit.astype(float) @ unit[rows].T) / 2


def kernel(X, rows):
    return np.exp(-((apart(X, rows) / np.sqrt((X.astype(float) ** 2).sum(axis=1).mean())) ** 2))


def is_within(X, rows):
    return (apart(X, rows) <= RADIUS).astype(float)


def clearness(X, group, rows):
    """How much nearer rows are to the middle of their group than to the next one."""
    middles = np.array([X[group == g].mean(axis=0) for g in range(6)])
    away = np.sort(np.linalg.norm(X[rows][:, None] - middles[None], axis=2), axis=1)
    return away[:, 1] - away[:, 0]


def typicality(X, group, rows):
    found = []
    for row in rows:
        own = np.sort(np.linalg.norm(X[group == group[row]] - X[row], axis=1))
        found.append(1 / own[1 : 1 + min(20, len(own) // 2)].mean())
    return np.array(found)


def spread(X, group, rows):
    """Less than nothing: the mean squared distance to the nearest of some rows."""
    return -(apart(X, rows).min(axis=1) ** 2).mean()


def unlike(X, group, rows):
    """How unlike the most different other one each of some rows is."""
    return (1 - likeness(X, rows)[rows].min(axis=1)).mean()


CRITERIA = {  # of all that is labelled or picked: the more the better
    "bal": lambda X, group, rows: clearness(X, group, rows).mean(),
    "calr": lambda X, group, rows: likeness(X, rows).max(axis=1).mean(),
    "consensus": lambda X, group, rows: likeness(X, rows).max(axis=1).mean(),
    "facility_location": lambda X, group, rows: likeness(X, rows).max(axis=1).mean(),
    "kcenter": lambda X, group, rows: -apart(X, rows).min(axis=1).max(),
    "kmeans": spread,
    "maxherding": lambda X, group, rows: kernel(X, rows).max(axis=1).mean(),
    "probcover": lambda X, group, rows: is_within(X, rows).max(axis=1).mean(),
    "repdiv": lambda X, group, rows: likeness(X, rows).max(axis=1).mean() + unlike(X, group, rows),
    "silhouette": spread,
    "typiclust": lambda X, group, rows: typicality(X, group, rows).mean(),
    "ward": spread,
    "yuan_hong": spread,
}


def test_every_strategy_but_chance_has_its_criterion():
    assert {*CRITERIA, "random"} == set(STRATEGIES)


@pytest.mark.parametrize("strategy", sorted(CRITERIA))
def test_its_picks_are_better_than_chance_and_than_the_first_or_last_rows(strategy):
    found = []
    for seed in (1, 2, 3):
        X, group = groups(seed)
        for labelled in ([], [4, 30]):
            candidates = np.setdiff1d(np.arange(len(X)), labelled)
            picked = ask(strategy, X, 6, labelled, seed=seed, **PARAMS.get(strategy, {})).indices
            draws = [rng(s).choice(candidates, 6, replace=False) for s in range(20)]
            batches = [[*labelled, *rows] for rows in (picked, candidates[:6], candidates[-6:], *draws)]
            found.append([CRITERIA[strategy](X, group, rows) for rows in batches])
    ours, first, last, *by_chance = np.mean(found, axis=0)
    assert ours > max(first, last, np.mean(by_chance))


def gains(similarity, X, labelled, picks):
    best = [similarity(X, [*labelled, *picks[:n]]).max(axis=1, initial=0).mean() for n in range(len(picks) + 1)]
    return np.diff(best)


def size_of_group(X, group, labelled, picks):
    return np.bincount(group)[group[picks]] / len(X)


def distance_to_those_before(X, group, labelled, picks):
    return [apart(X, [*labelled, *picks[:n]]).min(axis=1)[pick] for n, pick in enumerate(picks)]


def answered(X, group, labelled, picks):
    """The part of all votes that each pick newly answers; the lists are drawn up as the strategy does."""
    credit, weights = [], []
    for name, own in zip(("facility_location", "kmeans", "maxherding"), rng(0).spawn(3), strict=True):
        candidates = np.setdiff1d(np.arange(len(X)), labelled)
        votes = STRATEGIES[name](X, 2 * len(picks), labelled=np.array(labelled), candidates=candidates, rng=own).indices
        among = apart(X[votes], range(len(votes))) + np.diag([np.inf] * len(votes))
        nearness = np.maximum(1 - apart(X, votes).T / among.min(axis=1)[:, None], 0)
        weights += (1 - np.arange(len(votes)) / len(votes)).tolist()
        credit.append(nearness)
    credit = np.array(weights)[:, None] * np.vstack(credit)
    best = [credit[:, picks[:n]].max(axis=1, initial=0).sum() / sum(weights) for n in range(len(picks) + 1)]
    return np.diff(best)


def typical_then_far(X, group, labelled, picks):
    """Half of them for what they add, the others for how unlike the most different one before they are."""
    n_typical = len(picks) // 2
    far = [1 - likeness(X, [*labelled, *picks[:n]])[picks[n]].min() for n in range(n_typical, len(picks))]
    return [*gains(likeness, X, labelled, picks[:n_typical]), *far]


SCORES = {  # of picks in this order
    "bal": lambda X, group, labelled, picks: clearness(X, group, picks),
    "calr": size_of_group,
    "consensus": answered,
    "facility_location": lambda X, group, labelled, picks: gains(likeness, X, labelled, picks),
    "kcenter": distance_to_those_before,
    "kmeans": size_of_group,
    "maxherding": lambda X, group, labelled, picks: gains(kernel, X, labelled, picks),
    "probcover": lambda X, group, labelled, picks: gains(is_within, X, labelled, picks),
    "random": lambda X, group, labelled, picks: np.full(len(picks), 1 / (len(X) - len(labelled))),
    "repdiv": typical_then_far,
    "silhouette": size_of_group,
    "typiclust": lambda X, group, labelled, picks: typicality(X, group, picks),
    "ward": size_of_group,
}


@pytest.mark.parametrize("strategy", sorted(SCORES))
def test_the_score_is_the_criterion_of_that_pick(strategy):
    for seed in (1, 2, 3):
        X, group = groups(seed)
        labelled = [int(np.flatnonzero(group == g)[0]) for g in (1, 4)]
        picked = ask(strategy, X, 4, labelled, **PARAMS.get(strategy, {}))
        np.testing.assert_allclose(picked.scores, SCORES[strategy](X, group, labelled, picked.indices), rtol=1e-3)


@pytest.mark.parametrize("strategy", sorted(set(STRATEGIES) - {"repdiv", "typiclust"}))
def test_no_score_is_higher_than_the_one_before(strategy):
    X, _ = groups(5)
    for labelled, n_select in (([2], 5), ([], 6)):
        scores = ask(strategy, X, n_select, labelled, **PARAMS.get(strategy, {})).scores
        is_first = int(strategy == "kcenter" and not labelled)  # its first score is a distance to the mean
        assert (np.diff(scores[is_first:]) < 1e-9).all()
        assert scores[0] > 0


def test_random_draws_every_candidate_and_every_order_about_as_often():
    # 1,200 seeds, 3 of 6 rows: each is expected 600 times, and 200 times as the first, with deviations of 17 and 13
    draws = np.array([ask("random", np.zeros((7, 1)), 3, closed=[2], seed=seed).indices for seed in range(1200)])
    np.testing.assert_allclose(np.bincount(draws.ravel(), minlength=7), [600, 600, 0, 600, 600, 600, 600], atol=87)
    np.testing.assert_allclose(np.bincount(draws[:, 0], minlength=7), [200, 200, 0, 200, 200, 200, 200], atol=65)


def test_its_docstring_says_what_is_its_own():
    readme = Path(inspect.getfile(describe)).with_name("README.md")
    table = readme.read_text(encoding="utf-8").splitlines()
    for name, function in {**STRATEGIES, **LATER}.items():
        label = describe(name)
        assert label.endswith(".")
        assert 20 < len(label) < 100
        text = inspect.getdoc(function)
        assert "Notes\n-----" in text
        assert "score is" in text
        for own in list(inspect.signature(function).parameters)[5:]:
            assert f"\n{own} : " in text
        rows = [line.split("|") for line in table if line.startswith(f"| `{name}` |")]
        (nested,) = (cells[-2].strip() for cells in rows if cells[-2].strip() in ("yes", "no"))
        assert nested == ("yes" if name in NESTED else "no")
