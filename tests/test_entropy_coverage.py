"""Strategy ``entropy_coverage``: by hand, against the formula written plainly, and through `select`."""

import numpy as np
import pytest

from firstpick.selection import Guards, Patches, select
from firstpick.selection.entropy_coverage import entropy_coverage
from firstpick.selection.greedy import SAMPLE_ROWS
from firstpick.studies import Pool, Sample


def rng(seed=7):
    return np.random.default_rng(seed)


def ask(patches, n_rows, n_select, labelled=(), closed=(), seed=0):
    labelled = np.array(labelled, np.intp)
    candidates = np.setdiff1d(np.arange(n_rows), [*labelled, *closed])
    X = np.zeros((n_rows, 1), np.float32)
    return entropy_coverage(X, n_select, labelled=labelled, candidates=candidates, rng=rng(seed), patches=patches)


def plainly(patches, labelled, picks):
    """The part of all weight that some rows cover: the formula, one pair of patches after the other."""
    unit = patches.rows / np.linalg.norm(patches.rows, axis=1, keepdims=True)
    total = 0.0
    for row, weight in zip(unit, patches.weights, strict=True):
        alike = [float(row @ other) for other, owner in zip(unit, patches.owner, strict=True) if owner in labelled]
        alike += [float(row @ other) for other, owner in zip(unit, patches.owner, strict=True) if owner in picks]
        total += weight * max([0.0, *alike])
    return total / patches.weights.sum()


def some(n_rows=9, n_each=4, dim=3, seed=7):
    owner = np.repeat(np.arange(n_rows), n_each)
    return Patches(rng(seed).normal(size=(len(owner), dim)), owner, rng(seed + 1).random(len(owner)))


# three kinds of places; row 0 shows the first, 1 the second, 2 the third, 3 the second and third
KINDS = np.eye(3)[[0, 1, 2, 1, 2]]
OWNER = np.array([0, 1, 2, 3, 3])


@pytest.mark.parametrize(
    ("weights", "labelled", "picks", "scores"),
    [
        ([6, 1, 1, 1, 1], [], [0, 3], [0.6, 0.4]),
        ([1, 2, 3, 2, 2], [], [3, 0], [0.9, 0.1]),
        ([1, 2, 3, 2, 2], [3], [0, 1], [0.1, 0.0]),
        ([6, 1, 1, 1, 1], [0, 1], [2, 3], [0.2, 0.0]),
    ],
)
def test_small_cases_by_hand(weights, labelled, picks, scores):
    found = ask(Patches(KINDS, OWNER, np.array(weights, float)), 4, 2, labelled)
    assert found.indices.tolist() == picks
    np.testing.assert_allclose(found.scores, scores, atol=1e-7)


@pytest.mark.parametrize("labelled", [(), (2, 5)])
def test_each_pick_gains_most_by_the_formula_and_that_is_its_score(labelled):
    patches = some()
    found = ask(patches, 9, 4, labelled)
    for place, (pick, score) in enumerate(zip(found.indices.tolist(), found.scores.tolist(), strict=True)):
        before = found.indices[:place].tolist()
        covered = plainly(patches, labelled, before)
        free = set(range(9)) - {*labelled, *before}
        gains = {row: plainly(patches, labelled, [*before, row]) - covered for row in free}
        assert gains[pick] == pytest.approx(max(gains.values()), abs=1e-6)
        assert score == pytest.approx(gains[pick], abs=1e-6)


def test_where_nothing_is_unsure_all_patches_count_alike():
    rows, owner = some().rows, some().owner
    plain = ask(Patches(rows, owner, np.ones(len(owner))), 9, 5)
    for weights in (None, np.zeros(len(owner))):
        np.testing.assert_array_equal(ask(Patches(rows, owner, weights), 9, 5).indices, plain.indices)


def test_a_row_without_patches_comes_last_and_a_smaller_batch_is_the_start_of_a_larger_one():
    patches = some(n_rows=6)
    found = ask(patches, 8, 8)  # rows 6 and 7 have none
    assert found.indices[-2:].tolist() == [6, 7]
    np.testing.assert_array_equal(ask(patches, 8, 3).indices, found.indices[:3])


def test_no_patch_at_all_still_gives_rows():
    found = ask(Patches(np.empty((0, 3)), np.empty(0, np.intp), np.empty(0)), 3, 2)
    assert found.indices.tolist() == [0, 1]
    assert found.scores.tolist() == [0.0, 0.0]


def test_of_more_patches_than_are_looked_at_the_unsure_kind_still_comes_first():
    # 3 kinds in 60 rows of 250 patches each; the rarest, in every twentieth row, holds nearly all weight
    kind = np.where(np.arange(60) % 20 == 7, 2, np.arange(60) % 2)
    owner = np.repeat(np.arange(60), 250)
    assert len(owner) > SAMPLE_ROWS
    rows = 4 * np.eye(3)[kind[owner]] + rng().normal(size=(len(owner), 3))
    patches = Patches(rows, owner, np.where(kind[owner] == 2, 1.0, 0.001))
    one, two = (ask(patches, 60, n) for n in (1, 2))
    assert kind[one.indices[0]] == 2
    assert two.indices[0] == one.indices[0]


def test_through_select_neither_the_order_of_rows_nor_that_of_patches_matters():
    patches, X = some(n_rows=30, n_each=5, dim=6), rng(3).normal(size=(30, 4))
    order, mixed = rng(4).permutation(30), rng(5).permutation(150)
    place = np.argsort(order)
    turned = Patches(patches.rows[mixed], place[patches.owner[mixed]], patches.weights[mixed])
    straight = select("entropy_coverage", X, 6, labelled=[2, 9], excluded=[4], patches=patches)
    shuffled = select("entropy_coverage", X[order], 6, labelled=place[[2, 9]], excluded=place[[4]], patches=turned)
    np.testing.assert_array_equal(order[shuffled.indices], straight.indices)
    np.testing.assert_allclose(shuffled.scores, straight.scores)


def test_what_is_excluded_needs_no_covering():
    X = rng().normal(size=(4, 2))
    patches = Patches(KINDS, OWNER, np.array([6.0, 1, 1, 1, 1]))
    found = select("entropy_coverage", X, 1, excluded=[0], patches=patches)
    assert found.indices.tolist() == [3]
    assert found.scores.tolist() == [1.0]  # the first kind, which row 0 alone shows, is none of it


@pytest.mark.parametrize(
    ("patches", "text"),
    [
        (None, "'entropy_coverage' needs patches and what the labels so far say of them"),
        (Patches(np.eye(2), np.array([0, 9])), "owner of patches holds row 9; X has 3 rows"),
    ],
)
def test_it_is_refused_without_what_it_needs(patches, text):
    with pytest.raises(ValueError, match=text):
        select("entropy_coverage", np.eye(3), 1, patches=patches)


@pytest.mark.parametrize(
    ("rows", "owner", "weights", "text"),
    [
        (np.eye(2), np.array([0]), None, r"as many owners and weights as rows; got arrays of shapes \(2, 2\), \(1,\)"),
        (np.eye(2), np.array([0, 1]), np.array([1.0]), r"\(2,\) and \(1,\)"),
        (np.eye(2), np.array([0, 1]), np.array([1.0, -1.0]), "weights 0 or more"),
        (np.full((1, 2), np.nan), np.array([0]), None, "finite"),
    ],
)
def test_patches_that_make_no_sense_are_refused(rows, owner, weights, text):
    with pytest.raises(ValueError, match=text):
        Patches(rows, owner, weights)


def test_reduced_patches_are_centred_unit_rows_of_64_components_at_most():
    tokens = (rng().normal(size=(400, 80)) + 5).astype(np.float16)
    patches = Patches.reduced(tokens, np.repeat(np.arange(4), 100))
    assert patches.rows.shape == (400, 64)
    np.testing.assert_allclose(np.linalg.norm(patches.rows, axis=1), 1, atol=1e-5)
    assert np.abs(patches.rows.mean(axis=0)).max() < 0.05


def test_a_proposal_can_be_made_with_it():
    from firstpick.proposal import propose

    pool = Pool(tuple(Sample(name) for name in "abcd"), rng().normal(size=(4, 3)).astype(np.float32))
    patches = Patches(KINDS, OWNER, np.array([6.0, 1, 1, 1, 1]))
    made = propose(pool, strategy="entropy_coverage", batch_size=2, labelled=["a"], patches=patches)
    assert [pick.study_id for pick in made.picks] == ["d", "b"]
    assert made.provenance["strategy"] == "entropy_coverage"
    assert made.provenance["params"] == {}


@pytest.mark.parametrize("guards", [Guards(max_per_group=1), Guards(duplicates=0.999, outliers="last")])
def test_with_safeguards_a_smaller_batch_is_still_the_start_of_a_larger_one(guards):
    patches, X = some(n_rows=40, n_each=3), rng(3).normal(size=(40, 4))
    groups = [str(row // 3) for row in range(40)]
    large, small = (
        select("entropy_coverage", X, n, groups=groups, guards=guards, patches=patches).indices.tolist() for n in (9, 4)
    )
    assert large[:4] == small
    assert len({groups[row] for row in large}) == 9 or not guards.max_per_group
