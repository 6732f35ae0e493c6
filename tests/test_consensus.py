"""Strategy ``consensus`` on lists that are given by hand."""

import numpy as np
import pytest

from firstpick.selection import Selection, select
from firstpick.selection.consensus import consensus, nearness


@pytest.fixture
def lists(monkeypatch):
    """Let strategies ``a``, ``b``, ... propose given rows; says what each was asked for."""
    asked = []

    def give(**proposals):
        def strategy(rows):
            def propose(X, n_select, *, labelled, candidates, rng):
                asked.append((n_select, labelled.tolist(), candidates.tolist(), rng.random()))
                return Selection(np.array(rows[:n_select]), np.zeros(n_select))

            return propose

        table = {name: strategy(rows) for name, rows in proposals.items()}
        monkeypatch.setattr("firstpick.selection.STRATEGIES", table)
        return asked

    return give


def pick(X, n_select, of, labelled=(), closed=()):
    X, labelled = np.asarray(X, np.float32), np.array(labelled, dtype=np.intp)
    free = np.setdiff1d(np.arange(len(X)), [*labelled, *closed])
    return consensus(X, n_select, labelled=labelled, candidates=free, rng=np.random.default_rng(0), of=of)


LINE = np.array([0.0, 1.0, 10.0, 20.0, 40.0])[:, None]


def test_a_vote_speaks_for_rows_nearer_than_the_lists_next_vote():
    # the votes 0 and 10 reach 10 far, 40 reaches 30 far
    np.testing.assert_allclose(
        nearness(LINE, np.array([0, 2, 4]), np.arange(5)),
        [[1, 0.9, 0, 0, 0], [0, 0.1, 1, 0, 0], [0, 0, 0, 1 / 3, 1]],
    )


def test_copies_and_single_votes():
    copies = np.array([[1.0], [1.0], [3.0]])
    np.testing.assert_array_equal(nearness(copies, np.array([0, 1]), np.arange(3)), [[1, 1, 0], [1, 1, 0]])
    np.testing.assert_array_equal(nearness(copies, np.array([2]), np.arange(3)), [[0, 0, 1]])


def test_votes_for_rows_side_by_side_add_up(lists):
    # a: 0 then 10, b: 1 then 20; weights 1 and 1/2. Row 0 answers 1 + 18/19, row 1 answers .9 + .05 + 1, the most;
    # row 10 answers 1/2 + 10/19 + 9/38
    lists(a=[0, 2], b=[1, 3])
    picked = pick(LINE, 1, ["a", "b"])
    np.testing.assert_array_equal(picked.indices, [1])
    np.testing.assert_allclose(picked.scores, [1.95 / 3])


def test_a_vote_that_is_answered_is_spent(lists):
    # both lists begin at one place; after row 0 its neighbour, named by b, adds next to nothing, so 40 is second
    lists(a=[0, 4, 2, 3], b=[1, 4, 3, 2])
    picked = pick(LINE, 2, ["a", "b"])
    assert picked.indices[0] in (0, 1)
    assert picked.indices[1] == 4


def test_first_places_weigh_more_than_last_ones(lists):
    # far apart, no vote speaks for another row: weights 1, 3/4, 1/2, 1/4 from a and from b
    X = np.array([0.0, 100.0, 200.0, 300.0])[:, None]
    lists(a=[2, 0, 3, 1], b=[0, 2, 1, 3])
    picked = pick(X, 2, ["a", "b"])
    np.testing.assert_array_equal(picked.indices, [0, 2])
    np.testing.assert_allclose(picked.scores, [1.75 / 5, 1.75 / 5])


def test_each_is_asked_for_twice_as_many_of_the_candidates(lists):
    asked = lists(a=[0, 2, 3, 4], b=[2, 3, 4, 0])
    pick(LINE, 2, ["a", "b"], labelled=[1])
    assert [row[:3] for row in asked] == [(4, [1], [0, 2, 3, 4])] * 2
    own = np.random.default_rng(0).spawn(2)
    assert [row[3] for row in asked] == [rng.random() for rng in own]  # what one draws does not change the other
    asked.clear()
    pick(LINE, 2, ["a"], labelled=[1], closed=[4])
    assert asked[0][:3] == (3, [1], [0, 2, 3])


def test_one_strategy_alone_keeps_its_first_place(lists):
    lists(a=[4, 0, 2, 3])
    assert pick(LINE, 2, ["a"]).indices[0] == 4


def test_three_blobs_get_a_pick_each():
    rng = np.random.default_rng(0)
    X = np.repeat([[9, 0, 0], [0, 9, 0], [0, 0, 9]], [30, 20, 10], axis=0) + rng.normal(size=(60, 3))
    picked = select("consensus", X, 3).indices
    assert sorted(np.digitize(picked, [30, 50])) == [0, 1, 2]
    by_label = select("consensus", X, 2, labelled=[0]).indices
    assert sorted(np.digitize(by_label, [30, 50])) == [1, 2]


def test_names_that_make_no_sense_are_refused():
    for of in ([], "kmeans", ["kmeans", "consensus"]):
        with pytest.raises(ValueError, match="of must list one or more strategies other than 'consensus'; got"):
            select("consensus", np.eye(3), 1, of=of)
    with pytest.raises(ValueError, match="strategy 'kmaens' is not known"):
        select("consensus", np.eye(3), 1, of=["kmaens"])
