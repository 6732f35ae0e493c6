"""Which rows have another close by: by the definition, whatever cells they fall into."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from firstpick.selection.cells import have_company


@given(st.integers(1, 900), st.integers(1, 6), st.sampled_from([0.003, 0.05, 0.3, 3.0]), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_company_agrees_with_the_definition(n_rows, dim, radius, seed):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(n_rows, dim)) / (3 * np.sqrt(dim))).astype(np.float32)
    X[rng.integers(n_rows, size=n_rows // 10)] = X[0]
    squared = ((X[:, None].astype(np.float64) - X[None]) ** 2).sum(axis=2)
    np.fill_diagonal(squared, np.inf)
    found = have_company(X, radius)
    assert found[(squared <= radius**2).any(axis=1)].all()
    assert not found[(squared > radius**2 + 2e-5).all(axis=1)].any()


def test_copies_of_one_row_have_company():
    assert have_company(np.ones((20_000, 3), np.float32), 0.01).all()
    assert not have_company(np.ones((1, 3), np.float32), 0.01).any()
