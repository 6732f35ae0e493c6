"""Random selection is what all strategies have to beat, so it has to be random."""

from collections import Counter

import numpy as np

from firstpick.selection import select


def test_each_row_has_the_same_chance_at_each_place():
    X = np.random.default_rng(0).normal(size=(6, 3))
    batches = [select("random", X, 2, labelled=[5], seed=seed).indices.tolist() for seed in range(1000)]
    for place in (0, 1):
        counts = Counter(batch[place] for batch in batches)
        assert set(counts) == {0, 1, 2, 3, 4}
        assert all(abs(n - 200) < 60 for n in counts.values())  # nearly five standard deviations of 12.6
