"""Distances that are kept: always what measuring them anew gives."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstpick.selection import outliers, space
from firstpick.selection.geometry import distances, distinct_rows, nearest, squared_distances, unit_rows
from firstpick.selection.outliers import Reference, unusual
from firstpick.selection.space import Space

calm = settings(deadline=None, max_examples=60)
sizes = {"n_rows": st.integers(1, 40), "dim": st.integers(1, 6), "seed": st.integers(0, 10**6)}


def rows_of(n_rows, dim, seed):
    """Rows with copies, multiples of each other and zeros among them."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, dim)) if seed % 2 else rng.integers(-2, 3, size=(n_rows, dim))
    return (X * rng.integers(1, 4, size=(n_rows, 1))).astype(np.float32)


@calm
@given(**sizes)
def test_distances_are_those_of_unit_rows(n_rows, dim, seed):
    X = rows_of(n_rows, dim, seed)
    unit, measured = unit_rows(X), Space(X)
    rows = np.random.default_rng(seed).integers(n_rows, size=7)
    np.testing.assert_allclose(measured.unit(rows), unit[rows], atol=1e-15)
    for _ in range(2):  # the second time from what is kept
        np.testing.assert_allclose([*measured.squared(rows)], squared_distances(unit[rows], unit), atol=1e-14)
    index, distance = measured.nearest(rows)
    expected = nearest(unit, unit[rows])
    np.testing.assert_array_equal(index, expected[0])
    np.testing.assert_array_equal(distance, expected[1])


@pytest.mark.parametrize("length", [1e-38, 1.0, 3e38])
def test_lengths_at_the_ends_of_float32_do_not_matter(length):
    X = np.array([[1, 0], [0, 1], [-1, 0]], np.float32) * np.float32(length)
    np.testing.assert_allclose([*Space(X).squared([0])], [[0, 2, 4]], atol=1e-14)


def test_a_row_is_at_distance_zero_from_its_copies():
    X = np.random.default_rng(0).normal(size=(3, 500)).astype(np.float32)
    (squared,) = Space(np.vstack([X, 3 * X])).squared([4])
    assert np.flatnonzero(squared == 0).tolist() == [1, 4]


def test_more_than_may_be_kept_is_measured_anew(monkeypatch):
    X = rows_of(40, 5, seed=1)
    expected = [*Space(X).squared(range(40))]
    monkeypatch.setattr(space, "_KEPT_BYTES", 3 * 8 * 40)
    monkeypatch.setattr(space, "_AT_ONCE", 4)
    small = Space(X)
    for _ in range(2):
        np.testing.assert_allclose([*small.squared(range(40))], expected, atol=1e-14)
    assert len(small._columns) == 3


@calm
@given(**sizes, data=st.data())
def test_sets_grow_and_shrink(n_rows, dim, seed, data):
    X = rows_of(n_rows, dim, seed)
    measured, unit = Space(X), unit_rows(X)
    for _ in range(6):
        rows = data.draw(st.sets(st.integers(0, n_rows - 1), max_size=n_rows))
        expected = nearest(unit, unit[sorted(rows)])[1]
        np.testing.assert_array_equal(np.round(np.sqrt(measured.nearest_squared(rows)), 6), expected)


def test_only_the_last_sets_are_kept():
    measured = Space(rows_of(40, 5, seed=1))
    for row in range(40):
        measured.nearest_squared([row])
    assert len(measured._sets) == space._KEPT_SETS
    assert frozenset() in measured._sets
    assert frozenset([39]) in measured._sets


@calm
@given(**sizes)
def test_the_reference_is_the_distinct_rows(n_rows, dim, seed):
    X = rows_of(n_rows, dim, seed)
    distinct = distinct_rows(unit_rows(X))
    assert Space(X).n_distinct == len(distinct)
    np.testing.assert_array_equal(Space(X).reference.rows, distinct)


def test_of_too_many_rows_the_reference_is_a_part(monkeypatch):
    monkeypatch.setattr(outliers, "MAX_REFERENCE", 30)
    X = np.repeat(rows_of(100, 5, seed=1), 2, axis=0)
    np.testing.assert_array_equal(Space(X).reference.rows, distinct_rows(unit_rows(X), 30))


@calm
@given(n_rows=st.integers(1, 90), dim=st.integers(1, 6), seed=st.integers(0, 10**6), part=st.floats(0, 1))
def test_unusual_is_told_among_those_that_are_not_excluded(n_rows, dim, seed, part):
    X = rows_of(n_rows, dim, seed)
    is_out = np.random.default_rng(seed).random(n_rows) < part
    unit = unit_rows(X)
    expected = unusual(unit, unit[~is_out])
    measured = Space(X)
    for _ in range(2):  # the second time from what is kept
        np.testing.assert_array_equal(measured.unusual(np.arange(n_rows), excluded=is_out), expected)


def test_unusual_is_told_alike_of_a_few_and_of_many(monkeypatch):
    rng = np.random.default_rng(0)
    X, is_out = np.vstack([rng.normal(size=(60, 3)) + 9, -np.eye(3)]), np.arange(63) < 5
    few = Space(X).unusual(np.arange(63), excluded=is_out)
    monkeypatch.setattr(space, "_FEW", 0)
    monkeypatch.setattr(space, "_BLOCK", 10)
    np.testing.assert_array_equal(Space(X).unusual(np.arange(63), excluded=is_out), few)
    assert few[60:].all()


def test_even_if_nearly_all_neighbours_of_one_are_excluded():
    rng = np.random.default_rng(0)
    X = unit_rows(np.vstack([rng.normal(size=(100, 3)) + 20, rng.normal(size=(100, 3)) - [20, 0, 0]]))
    is_out = np.arange(200) < 97
    reference = Reference(X)
    expected = Reference(X[~is_out]).unusual(distances(X, X[~is_out]))
    np.testing.assert_array_equal(reference.unusual(distances(X, X), ~is_out), expected)
    np.testing.assert_array_equal(reference.unusual(distances(X, X), ~is_out), unusual(X, X[~is_out]))
    assert expected[97:].any()
    np.testing.assert_array_equal(reference._usual(~is_out, 5)[~is_out], Reference(X[~is_out]).neighbour(5))


def test_neighbours_are_counted_without_the_row_itself():
    X = unit_rows(rows_of(70, 4, seed=3))
    by_hand = np.sort(distances(X, X), axis=1)
    for k in (1, 5, 63):
        np.testing.assert_array_equal(Reference(X).neighbour(k), by_hand[:, k])


def test_an_empty_pool_has_no_distances():
    empty = Space(np.zeros((0, 3), np.float32))
    assert (len(empty), empty.n_distinct, len(empty.reference)) == (0, 0, 0)
    assert [*empty.squared([])] == []


def test_threads_may_share_it(monkeypatch):
    monkeypatch.setattr(space, "_KEPT_BYTES", 5 * 8 * 200)
    X = rows_of(200, 8, seed=1)
    expected, shared = squared_distances(unit_rows(X), unit_rows(X)), Space(X)

    def ask(seed):
        rows = np.random.default_rng(seed).integers(200, size=20)
        np.testing.assert_allclose([*shared.squared(rows)], expected[rows], atol=1e-14)
        np.testing.assert_allclose(shared.nearest_squared(rows), expected[rows].min(axis=0), atol=1e-14)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(200)))
