"""Laws that every strategy keeps on every awkward pool. A new entry of STRATEGIES is tested without a new line."""

import inspect
from pathlib import Path

import numpy as np
import pytest

from firstpick.selection import NESTED, SCALINGS, STRATEGIES, check_strategy, describe, select


def rng():
    return np.random.default_rng(7)


def blobs(n_blobs=4, n_each=10, dim=8):
    centres = 5 * rng().normal(size=(n_blobs, dim))
    return np.repeat(centres, n_each, axis=0) + rng().normal(size=(n_blobs * n_each, dim))


POOLS = {
    "blobs": blobs(),
    "one repeated point": np.tile([[1.0, 2.0, 3.0]], (12, 1)),
    "duplicates": np.repeat(rng().normal(size=(4, 5)), 6, axis=0),
    "duplicates by rounding": np.repeat(rng().normal(size=(3, 5)), 6, axis=0) * (1 + 1e-15 * np.arange(18)[:, None]),
    "three samples": rng().normal(size=(3, 6)),
    "far outlier": np.vstack([rng().normal(size=(20, 4)), np.full((1, 4), 1e6)]),
    "collinear": np.outer(np.arange(1.0, 16.0), [1.0, 2.0]),
    "one dimension": rng().normal(size=(14, 1)),
    "huge": rng().normal(size=(12, 4)) * 1e37,
    "tiny": rng().normal(size=(12, 4)) * 1e-37,
    "zero rows": np.vstack([np.zeros((5, 3)), rng().normal(size=(9, 3))]),
    "float32": blobs().astype(np.float32),
}
LABELLED = {"none": 0, "one": 1, "many": 8}

pytestmark = pytest.mark.parametrize("strategy", sorted(STRATEGIES))
on_every_pool = pytest.mark.parametrize("pool", sorted(POOLS))


def setup_of(pool, labels):
    X = POOLS[pool]
    n_labelled = min(LABELLED[labels], len(X) - 1)
    shuffled = rng().permutation(len(X))
    labelled = shuffled[:n_labelled].tolist()
    excluded = shuffled[n_labelled : n_labelled + (2 if len(X) - n_labelled > 3 else 0)].tolist()
    return X, labelled, excluded, len(X) - n_labelled - len(excluded)


@on_every_pool
@pytest.mark.parametrize(
    ("labels", "scaling"), [("none", "l2"), ("one", "standardise"), ("many", "l2"), ("many", "none")]
)
def test_exactly_as_many_as_asked_for_unique_and_free(strategy, pool, labels, scaling):
    X, labelled, excluded, n_left = setup_of(pool, labels)
    before = X.copy()
    for n_select in {1, min(5, n_left), n_left + 3}:
        picked = select(strategy, X, n_select, labelled=labelled, excluded=excluded, scaling=scaling)
        assert len(picked.indices) == len(picked.scores) == min(n_select, n_left)
        assert len(set(picked.indices.tolist())) == len(picked.indices)
        assert not set(picked.indices.tolist()) & {*labelled, *excluded}
        assert picked.indices.dtype == np.intp
        assert picked.scores.dtype == np.float64
        assert np.isfinite(picked.scores).all()
    np.testing.assert_array_equal(X, before)


@on_every_pool
def test_same_seed_same_picks(strategy, pool):
    X, labelled, excluded, n_left = setup_of(pool, "many")
    first, second = (
        select(strategy, X, min(5, n_left), labelled=labelled, excluded=excluded, seed=3) for _ in range(2)
    )
    np.testing.assert_array_equal(first.indices, second.indices)
    np.testing.assert_array_equal(first.scores, second.scores)


@on_every_pool
@pytest.mark.parametrize("scaling", sorted(SCALINGS))
def test_the_order_of_the_rows_does_not_matter(strategy, pool, scaling):
    X, labelled, excluded, n_left = setup_of(pool, "one")
    order = rng().permutation(len(X))
    place = np.argsort(order)  # row i of X is row place[i] of X[order]
    straight = select(strategy, X, min(5, n_left), labelled=labelled, excluded=excluded, scaling=scaling)
    shuffled = select(
        strategy, X[order], min(5, n_left), labelled=place[labelled], excluded=place[excluded], scaling=scaling
    )
    # by content: which of two exact copies is taken may depend on their order, and which are labelled is then moot
    if len(np.unique(X.astype(np.float32), axis=0)) == len(X):
        np.testing.assert_array_equal(X[order][shuffled.indices], X[straight.indices])
    else:
        assert len(shuffled.indices) == len(straight.indices)


def test_excluded_rows_take_no_part_at_all(strategy):
    X = blobs()
    junk = 100 * rng().normal(size=(15, X.shape[1]))
    picked = select(strategy, X, 6)
    beside_junk = select(strategy, np.vstack([X, junk]), 6, excluded=range(len(X), len(X) + len(junk)))
    np.testing.assert_array_equal(beside_junk.indices, picked.indices)
    np.testing.assert_array_equal(beside_junk.scores, picked.scores)


def test_a_row_both_labelled_and_excluded_counts_as_labelled(strategy):
    both = select(strategy, blobs(), 4, labelled=[0, 1], excluded=[1])
    np.testing.assert_array_equal(both.indices, select(strategy, blobs(), 4, labelled=[0, 1]).indices)


def test_the_first_line_of_its_docstring_is_a_label(strategy):
    label = describe(strategy)
    assert label.endswith(".")
    assert 20 < len(label) < 100
    text = inspect.getdoc(STRATEGIES[strategy])
    for section in ("Parameters\n---", "Returns\n---", "Notes\n---", "Examples\n---"):
        assert section in text


def test_the_readmes_table_has_it_and_says_whether_it_is_nested(strategy):
    readme = Path(__file__).parents[1] / "monailabel_app" / "firstpick" / "selection" / "README.md"
    lines = readme.read_text(encoding="utf-8").splitlines()
    (cells,) = (
        line.split("|") for line in lines if line.startswith(f"| `{strategy}` |") and line.endswith((" yes |", " no |"))
    )
    assert cells[-2].strip() == ("yes" if strategy in NESTED else "no")


def test_a_parameter_that_it_does_not_have_is_refused(strategy):
    with pytest.raises(ValueError, match="parameter 'colour' is not known to strategy"):
        select(strategy, blobs(), 2, colour="red")
    with pytest.raises(ValueError, match="parameter 'rng' is not known"):
        check_strategy(strategy, {"rng": 0})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"n_select": 0}, r"n_select must be 1 or more; got 0\."),
        ({"X": np.zeros(3)}, r"one row of numbers per study; got an array of shape \(3,\)"),
        ({"X": [[1.0], [np.nan]]}, r"finite numbers within the range of float32; row 1 does not"),
        ({"X": [[1e300], [1.0]]}, "row 0 does not"),
        ({"X": [[-np.inf], [1.0]]}, "row 0 does not"),
        ({"labelled": [3]}, "labelled holds row 3; X has 3 rows, counted from 0"),
        ({"excluded": [-1]}, "excluded holds row -1"),
        ({"labelled": [0, 1], "excluded": [1, 2]}, r"nothing left to choose: all 3 rows are labelled or excluded\."),
        (
            {"scaling": "standardize"},
            r"Did you mean 'standardise'\? Choose one of l2, none, standardise, pca, whiten\.",
        ),
        ({"seed": -1}, "non-negative"),
    ],
)
def test_nonsense_is_refused_in_plain_words(strategy, changes, text):
    arguments = {"X": [[1.0], [2.0], [4.0]], "n_select": 1} | changes
    with pytest.raises(ValueError, match=text):
        select(strategy, **arguments)
