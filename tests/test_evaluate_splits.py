"""Laws of the splits: what no arm may see, and that all arms see the same."""

from collections import Counter

import numpy as np
import pytest

from firstpick.evaluate.splits import make_split, seeds_of

GROUPS = [f"patient {row // 3}" for row in range(45)] + [""] * 15
CLASSES = ["a"] * 40 + ["b"] * 16 + ["c"] * 4


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", [{}, {"groups": GROUPS}, {"classes": CLASSES}, {"groups": GROUPS, "classes": CLASSES}])
def test_each_row_is_in_one_part_and_no_group_in_both(kind, seed):
    split = make_split(60, seed, **kind)
    np.testing.assert_array_equal(np.sort(np.concatenate([split.pool, split.test])), np.arange(60))
    names = [GROUPS[row] or row for row in range(60)] if "groups" in kind else list(range(60))
    assert not {names[row] for row in split.pool} & {names[row] for row in split.test}
    again = make_split(60, seed, **kind)
    np.testing.assert_array_equal(split.test, again.test)
    assert not np.array_equal(split.test, make_split(60, seed + 1, **kind).test)


def test_classes_keep_their_proportions_where_there_are_no_groups():
    split = make_split(60, 3, test_fraction=0.25, classes=CLASSES)
    assert Counter(CLASSES[row] for row in split.test) == {"a": 10, "b": 4, "c": 1}
    assert split.test_ratio == pytest.approx(15 / 45)


def test_a_group_is_one_draw_whatever_its_size():
    split = make_split(60, 0, test_fraction=0.5, groups=["big"] * 50 + [f"small {row}" for row in range(10)])
    assert {len(split.pool), len(split.test)} in ({55, 5}, {54, 6})


def test_a_class_of_one_and_a_single_group_are_told():
    with pytest.raises(ValueError, match="class 'c' has one study only"):
        make_split(3, 0, classes=["a", "a", "c"])
    with pytest.raises(ValueError, match="all 3 studies are of one group"):
        make_split(3, 0, groups=["a", "a", "a"])


def test_the_seeds_of_selection_and_training_differ_from_each_other_and_between_splits():
    seeds = [seed for number in range(100) for seed in seeds_of(number)]
    assert len(set(seeds)) == 200
    assert seeds_of(7) == seeds_of(7)


def test_each_draw_of_random_has_a_seed_of_its_own_and_the_training_keeps_its():
    draws = [seeds_of(7, draw) for draw in range(10)]
    assert draws[0] == seeds_of(7)
    assert len({selection for selection, _ in draws}) == 10
    assert len({training for _, training in draws}) == 1
