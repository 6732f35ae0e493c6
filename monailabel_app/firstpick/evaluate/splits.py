"""Cut labelled data into a pool to choose from and a test part, once for all arms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Split:
    """Rows to choose from and rows to measure on.

    Attributes
    ----------
    pool, test : ndarray of intp
        Sorted; together all rows, none in both.
    half : ndarray of intp
        In which half of the test part each row of ``test`` lies, 0 or 1: whole groups, and half of each class.
    """

    pool: NDArray[np.intp]
    test: NDArray[np.intp]
    half: NDArray[np.intp]

    @property
    def test_ratio(self) -> float:
        """Size of the test part over that of the pool."""
        return len(self.test) / len(self.pool)


def make_split(
    n_rows: int,
    seed: int,
    *,
    test_fraction: float = 0.2,
    groups: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> Split:
    """Draw a test part: whole groups where there are groups, else in the proportions of the classes.

    Parameters
    ----------
    n_rows : int
    seed : int
        Another seed is another split.
    test_fraction : float
        Part of the groups, or of the rows, that is held out.
    groups : sequence of str
        The patient of each row, empty for a row of its own; or ``()``.
    classes : sequence of str
        The class of each row; or ``()``.

    Returns
    -------
    Split

    Raises
    ------
    ValueError
        If there are fewer than two groups, or a class has a single row.

    Notes
    -----
    With groups, the classes fall as they do: a group may hold several.

    Examples
    --------
    >>> split = make_split(4, 0, test_fraction=0.5, groups=["a", "b", "a", "b"])
    >>> sorted([split.pool.tolist(), split.test.tolist()])
    [[0, 2], [1, 3]]
    """
    from sklearn.model_selection import GroupShuffleSplit, train_test_split  # noqa: PLC0415 - slow to import

    rows = np.arange(n_rows)
    names = [group or f" {row}" for row, group in enumerate(groups)]
    if len(set(names)) < len(names):
        if len(set(names)) < 2:  # noqa: PLR2004 - one for each part
            msg = f"all {n_rows} studies are of one group ({groups[0]}): no test part can be held out by group."
            raise ValueError(msg)
        cut = GroupShuffleSplit(1, test_size=test_fraction, random_state=seed)
        pool, test = next(cut.split(rows, groups=names))
    else:
        rare = [name for name, count in Counter(classes).items() if count == 1]
        if rare:
            msg = f"class {rare[0]!r} has one study only; two are needed, one for the pool and one for the test part."
            raise ValueError(msg)
        pool, test = train_test_split(
            rows, test_size=test_fraction, random_state=seed, stratify=list(classes) if len(classes) else None
        )
    pool, test = np.sort(pool).astype(np.intp), np.sort(test).astype(np.intp)
    kinds = [classes[row] if len(classes) else "" for row in test]
    return Split(pool, test, halve(kinds, [names[row] if names else str(row) for row in test], seed))


def halve(kinds: Sequence[str], groups: Sequence[str], seed: int) -> NDArray[np.intp]:
    """Cut rows into two halves, whole groups each, in which every kind is about as frequent.

    Group by group, the largest first and those alike in an order drawn by the seed, each goes to the half that has
    fewer of its kinds so far, of equal ones to the smaller.

    Examples
    --------
    >>> kinds = ["a", "a", "b", "b"]
    >>> sorted(zip(kinds, halve(kinds, ["1", "2", "3", "4"], 0).tolist(), strict=True))
    [('a', 0), ('a', 1), ('b', 0), ('b', 1)]
    """
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    order = np.random.default_rng(seed).permutation(sorted(members))
    counts = (Counter[str](), Counter[str]())
    half = np.zeros(len(groups), np.intp)
    for group in sorted(order, key=lambda name: -len(members[name])):
        own = Counter(kinds[row] for row in members[group])
        alike = [sum(own[kind] * count[kind] for kind in own) for count in counts]
        place = min((0, 1), key=lambda i: (alike[i], counts[i].total()))
        half[members[group]] = place
        counts[place].update(own)
    return half


def seeds_of(seed: int, draw: int = 0) -> tuple[int, int]:
    """Return two unrelated seeds of one split: the selection's, another for each draw, and the training's."""
    first, second = np.random.SeedSequence(seed).generate_state(2)
    if draw:
        first = np.random.SeedSequence((seed, draw)).generate_state(1)[0]
    return int(first), int(second)
