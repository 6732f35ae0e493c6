"""The parts around the strategies: names, scalings, geometry, and the strategy ``random``."""

import numpy as np
import pytest

from firstpick.selection import SCALINGS
from firstpick.selection.geometry import (
    content_order,
    distances,
    distinct_rows,
    nearest,
    nearest_squared,
    principal_plane,
    unit_rows,
)


def rng():
    return np.random.default_rng(7)


def test_scalings():
    X = np.array([[3.0, 4.0], [0.0, 0.0], [3e30, 4e30], [3e-30, 4e-30]], np.float32)
    np.testing.assert_allclose(SCALINGS["l2"](X, 0), [[0.6, 0.8], [0, 0], [0.6, 0.8], [0.6, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(SCALINGS["l2"](np.full((2, 2), 3e38, np.float32), 0), np.sqrt(0.5), rtol=1e-6)
    constant = np.array([[0.1, 1.0], [0.1, 2.0], [0.1, 6.0]], np.float32)  # the mean of three 0.1 is not 0.1
    scaled = SCALINGS["standardise"](constant, 0)
    np.testing.assert_array_equal(scaled[:, 0], 0)
    np.testing.assert_allclose([scaled[:, 1].mean(), scaled[:, 1].std()], [0, 1], atol=1e-6)
    nearly = np.array([[1.0, 1e-30], [1.0000001, 2e-30], [1.0, 6e-30]], np.float32)
    np.testing.assert_allclose(SCALINGS["standardise"](nearly, 0), scaled, atol=1e-6)
    np.testing.assert_allclose(SCALINGS["none"](X, 0)[2], [0.75, 1])
    np.testing.assert_array_equal(SCALINGS["none"](np.zeros((2, 3), np.float32), 0), 0)


def test_whitening_gives_each_direction_the_same_weight():
    X = rng().normal(size=(400, 6)) * [30, 10, 3, 1, 0.3, 0] + [0, 0, 0, 0, 0, 300]  # far away: lengths do not matter
    plain, white = (SCALINGS[name](X.astype(np.float32), 3) for name in ("pca", "whiten"))
    assert plain.shape == white.shape == (400, 3)
    assert (plain**2).mean(axis=0)[0] > 0.7
    np.testing.assert_allclose((white**2).mean(axis=0), 1 / 3, atol=0.03)
    assert SCALINGS["whiten"](X[:10].astype(np.float32), 3).shape == (10, 2)  # a quarter of the rows


def test_principal_components_are_those_of_unit_rows_and_never_of_rounding():
    X = rng().normal(size=(60, 2)) @ rng().normal(size=(2, 5)) + 3 * np.eye(5)[0]  # in a plane
    longer = X * rng().uniform(0.1, 9, size=(60, 1))
    for name in ("pca", "whiten"):
        scaled, again = (SCALINGS[name](rows.astype(np.float32), 32) for rows in (X, longer))
        np.testing.assert_allclose(scaled, again, atol=1e-4)
        assert scaled.shape == (60, 3)
        np.testing.assert_array_equal(SCALINGS[name](np.ones((8, 3), np.float32), 5), np.zeros((8, 2)))


def test_distances_agree_with_the_plain_formula_in_blocks_of_any_size(monkeypatch):
    X, Y = unit_rows(rng().normal(size=(30, 5))), unit_rows(rng().normal(size=(7, 5)) + 1)
    plain = np.linalg.norm(X[:, None] - Y[None], axis=2)
    np.testing.assert_allclose(distances(X, Y), plain, atol=1e-6)
    for block_bytes in (1, 200, 10**6):
        monkeypatch.setattr("firstpick.selection.geometry._CACHE_BYTES", block_bytes)
        index, distance = nearest(X, Y)
        np.testing.assert_array_equal(index, plain.argmin(axis=1))
        np.testing.assert_allclose(distance, plain.min(axis=1), atol=1e-6)


def test_equal_rows_are_at_distance_zero_and_ties_go_to_the_lowest_row():
    X = unit_rows(rng().normal(size=(200, 384)))
    twice = np.vstack([X, X])
    index, distance = nearest(twice, twice)
    np.testing.assert_array_equal(index, np.tile(np.arange(200), 2))
    np.testing.assert_array_equal(distance, 0)


def test_what_is_equally_far_on_paper_is_a_tie():
    for away in np.arange(1, 30) / 10:
        index, _ = nearest_squared(np.array([[0.1]]), np.array([[0.1 + away], [0.1 - away]]))
        assert index[0] == 0
    turned = np.radians([-70, -40, -20, 20, 40, 70])
    found = distances(np.array([[1.0, 0.0]]), np.column_stack([np.cos(turned), np.sin(turned)]))[0]
    np.testing.assert_array_equal(found, found[::-1])
    assert len(distinct_rows(np.array([[0.6, 0.8], [0.6 + 1e-9, 0.8], [0.60001, 0.8]]))) == 2


def test_content_order_sorts_by_the_first_column_first():
    X = np.array([[1.0, 5.0], [0.0, 9.0], [1.0, 2.0], [-0.0, 1.0]])
    np.testing.assert_array_equal(content_order(X), [3, 1, 2, 0])


def test_the_plane_keeps_distances_of_rows_that_lie_in_one():
    angles = np.radians([0, 20, 50, 90, 200])
    X = np.column_stack([np.cos(angles), np.zeros(5), np.sin(angles)])
    plane = principal_plane(5 * X)
    for a, b in ((0, 1), (2, 4), (3, 0)):
        assert np.linalg.norm(plane[a] - plane[b]) == pytest.approx(np.linalg.norm(X[a] - X[b]))
    np.testing.assert_allclose(principal_plane(np.ones((4, 3))), 0, atol=1e-12)
    for seed in range(5):  # each component points to where its largest weight is positive
        X = unit_rows(np.random.default_rng(seed).normal(size=(30, 6)) * [5, 3, 1, 1, 1, 1])
        weights = (X - X.mean(axis=0)).T @ principal_plane(X)
        assert (np.take_along_axis(weights, np.abs(weights).argmax(axis=0)[None], axis=0) > 0).all()
    assert principal_plane(np.ones((1, 3))).shape == (1, 2)


def test_the_plane_of_few_long_rows_is_that_of_their_covariance():
    X = np.random.default_rng(0).normal(size=(9, 40))
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, :-3:-1]
    np.testing.assert_allclose(np.abs(principal_plane(X)), np.abs(centred @ axes), atol=1e-12)
