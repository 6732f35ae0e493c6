"""Strategy ``probcover`` and its radius on points whose answer can be worked out by hand, and against a plain one."""

import numpy as np
import pytest

from firstpick.selection import radius as radius_module
from firstpick.selection import select
from firstpick.selection.probcover import probcover
from firstpick.selection.radius import pure_radius


def pick(X, n_select, labelled=(), closed=(), **params):
    labelled = np.array(labelled, dtype=np.intp)
    free = np.setdiff1d(np.arange(len(X)), [*labelled, *closed])
    rng = np.random.default_rng(0)
    return probcover(np.asarray(X, np.float32), n_select, labelled=labelled, candidates=free, rng=rng, **params)


def line(*values):
    return np.array(values, dtype=float)[:, None]


def blobs(n_each=100, n_blobs=7, dim=64):
    rng = np.random.default_rng(0)
    centres = 3 * rng.normal(size=(n_blobs, dim))
    return np.repeat(centres, n_each, axis=0) + rng.normal(size=(n_blobs * n_each, dim))


@pytest.fixture
def kinds(monkeypatch):
    """Give the pseudo-classes by hand."""

    def give(*kind):
        monkeypatch.setattr(radius_module, "_pseudo_classes", lambda X, n_classes, rng: np.array(kind))

    return give


def find(X, purity, n_classes=2):
    return pure_radius(X, purity=purity, n_classes=n_classes, rng=np.random.default_rng(0))


def test_the_most_uncovered_rows_within_the_radius():
    # 2 covers 1 2 3 4 within 2 (and nothing else); 8 and 9 cover 8 9, 20 itself
    picked = pick(line(20, 9, 8, 4, 3, 2, 1), 3, radius=2)
    np.testing.assert_array_equal(picked.indices, [4, 1, 0])
    np.testing.assert_allclose(picked.scores, [4 / 7, 2 / 7, 1 / 7])


def test_what_is_within_the_radius_of_a_label_is_covered():
    # 3 is labelled and covers 1 to 4
    picked = pick(line(20, 9, 8, 4, 3, 2, 1), 2, labelled=[4], radius=2)
    np.testing.assert_array_equal(picked.indices, [1, 0])


def test_rows_that_may_not_be_picked_are_to_be_covered():
    # 6 may be picked and covers three rows that may not, 0 covers itself and 1
    np.testing.assert_array_equal(pick(line(0, 1, 6, 7, 7, 7), 1, closed=[3, 4, 5], radius=1).indices, [2])


def test_of_those_that_cover_as_much_the_one_with_most_rows_around_it():
    # 1 is labelled and covers 0 to 2; 9, 3 and 2 all newly cover one row, with one, two and three rows around them
    picked = pick(line(9, 0, 1, 3, 2), 2, labelled=[2], radius=1)
    np.testing.assert_array_equal(picked.indices, [4, 0])
    np.testing.assert_allclose(picked.scores, [1 / 5, 1 / 5])


def test_once_all_is_covered_the_farthest_comes_first():
    # 0 covers all; the farthest is 4, then 2 (2 away from both), then 1 and 3 in the order of their rows
    picked = pick(line(0, 3, 1, 4, 2), 4, labelled=[0], radius=5)
    np.testing.assert_array_equal(picked.indices, [3, 4, 1, 2])
    np.testing.assert_array_equal(picked.scores, 0)
    # without a label, and from what was picked: 2 has most rows within 2, then 7 its own, then 0 and 4 are 2 away
    np.testing.assert_array_equal(pick(line(3, 4, 7, 2, 1, 0), 4, radius=2).indices, [3, 2, 1, 5])


def test_every_row_may_be_picked_whatever_the_size_of_the_pool():
    # the published code leaves out the last n mod 500 rows, and fails below 500
    for n_far in (20, 500):
        X = line(*(10.0 * np.arange(n_far)), -50, -50, -50.5)
        assert pick(X, 1, radius=1).indices[0] == n_far


def test_the_radius_does_not_depend_on_the_size_of_the_batch():
    # with k-means of as many clusters as picks, 60 of 76 picks of such a pool cover themselves alone, all of them 14 %
    X = blobs()
    small, large = (select("probcover", X, n, scaling="none") for n in (38, 76))
    np.testing.assert_array_equal(large.indices[:38], small.indices)
    by_kind = select("probcover", X, 7, scaling="none", n_classes=7)
    assert sorted(by_kind.indices // 100) == list(range(7))
    assert by_kind.scores.sum() > 0.9
    assert small.scores.sum() > 0.7
    assert (small.scores > 2 / 700).all()


def test_the_radius_is_a_quantile_of_the_distances_to_strangers(kinds):
    # strangers are 7, 8, 9 away on the left and 7, 8, 9 on the right: all are pure below 7, four of six below 8
    X = line(0, 1, 2, 9, 10, 11)
    kinds(0, 0, 0, 1, 1, 1)
    assert find(X, 1.0) == pytest.approx(7, rel=1e-5)
    assert find(X, 0.7) == pytest.approx(7, rel=1e-5)
    assert find(X, 4 / 6) == pytest.approx(8, rel=1e-5)
    assert find(X, 0.0) == pytest.approx(9, rel=1e-5)


@pytest.mark.parametrize("purity", [0.4, 0.6, 0.8])
def test_as_many_rows_are_pure_as_asked_for_and_at_no_larger_radius(purity):
    X = blobs(n_each=40, dim=3)
    kind = radius_module._pseudo_classes(X, 7, np.random.default_rng(0))
    apart = np.linalg.norm(X[:, None] - X[None], axis=2)
    stranger = np.where(kind[:, None] == kind, np.inf, apart).min(axis=1)
    found = find(X, purity, n_classes=7)
    assert (stranger > found).mean() >= purity
    assert (stranger > 1.00001 * found).mean() < purity


def test_where_kinds_touch_the_radius_still_reaches_five_neighbours(kinds):
    # every row has a stranger at 1; of rows on a line the fifth nearest is 3 away, at the ends up to 5
    kinds(*[0, 1] * 10)
    assert find(line(*range(20)), 0.95) == pytest.approx(3, rel=1e-5)
    # a pool of six has kinds of three: two neighbours
    kinds(*[0, 1] * 3)
    assert find(line(*range(6)), 0.95) == pytest.approx(1, rel=1e-5)


def test_rows_of_one_kind_alone_have_no_end():
    assert find(np.ones((9, 2)), 0.95) == np.inf
    assert find(np.ones((1, 2)), 0.95) == np.inf


def test_a_sample_of_rows_finds_about_the_same_radius(monkeypatch):
    X = blobs(dim=8)
    X[:300] = X[[0, 100, 200]].repeat(100, axis=0) + 0.01 * X[:300]  # the first rows are not like the others
    exact = find(X, 0.7, n_classes=7)
    monkeypatch.setattr(radius_module, "_ASKED", 300)
    assert exact != find(X, 0.7, n_classes=7) == pytest.approx(exact, rel=0.1)


def test_parameters_that_make_no_sense_are_refused():
    for params in ({"radius": 0}, {"purity": 1.5}, {"n_classes": 1}):
        with pytest.raises(ValueError, match="radius must be above 0, purity from 0 to 1, and n_classes 2 or more"):
            select("probcover", np.eye(3), 1, **params)


@pytest.mark.parametrize("seed", range(6))
def test_it_agrees_with_a_plain_greedy(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(90, 3)).astype(np.float32)
    order = rng.permutation(90).tolist()
    labelled, closed, free = order[: seed * 2], order[12:30], order[seed * 2 : 12] + order[30:]
    within = np.linalg.norm(X[:, None] - X[None], axis=2) <= 0.9
    covered = within[:, labelled].any(axis=1)
    picks, scores = [], []
    while len(picks) < 12:
        gains = (within & ~covered[:, None]).sum(axis=0)
        order = sorted(set(free) - set(picks), key=lambda row: (-gains[row], -within[:, row].sum(), row))
        picks.append(order[0])
        scores.append(gains[order[0]] / 90)
        covered |= within[:, order[0]]
    picked = pick(X, 12, labelled, closed, radius=0.9)
    assert scores[-1] > 0
    np.testing.assert_array_equal(picked.indices, picks)
    np.testing.assert_allclose(picked.scores, scores)
