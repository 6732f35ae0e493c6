"""Safeguards: whatever the strategy, a batch keeps to patients, strata, copies and outliers."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstpick.selection import LATER, NESTED, STRATEGIES, Guards, select
from firstpick.selection.duplicates import near_duplicates
from firstpick.selection.geometry import unit_rows
from firstpick.selection.shares import interleave, share_out
from firstpick.selection.uniform import uniform

SOME = ("kcenter", "random", "ward")  # the safeguards know of a strategy only whether it is nested: the last is not
some_strategies = pytest.mark.parametrize("strategy", SOME)


def rng(seed=0):
    return np.random.default_rng(seed)


def blobs(n_rows, n_blobs=8, dim=16, seed=0):
    """Rows around a few directions."""
    centres = 4 * rng(seed).normal(size=(n_blobs, dim))
    return (centres[np.arange(n_rows) % n_blobs] + rng(seed + 1).normal(size=(n_rows, dim))).astype(np.float32)


# -- one patient with most of the studies


def most_of_one_patient():
    return blobs(50), ["A"] * 30 + [f"patient {number // 2}" for number in range(20)]


@some_strategies
def test_a_patient_with_most_of_the_studies_gets_one_pick(strategy):
    X, groups = most_of_one_patient()
    free = Counter(groups[row] for row in select(strategy, X, 10, groups=groups).indices)
    assert free["A"] > 1  # without the safeguard
    kept = Counter(
        groups[row] for row in select(strategy, X, 10, groups=groups, guards=Guards(max_per_group=1)).indices
    )
    assert len(kept) == 10
    assert max(kept.values()) == 1


@some_strategies
def test_more_of_a_patient_come_when_no_other_patient_is_left(strategy):
    X, groups = most_of_one_patient()
    picked = select(strategy, X, 30, groups=groups, guards=Guards(max_per_group=1))
    count = Counter(groups[row] for row in picked.indices)
    assert count == {"A": 10} | {f"patient {number}": 2 for number in range(10)}
    for n_each in (1, 2):
        assert set(Counter(groups[row] for row in picked.indices[: 11 * n_each]).values()) == {n_each}


@some_strategies
def test_labelled_studies_of_a_patient_count(strategy):
    X, groups = most_of_one_patient()
    picked = select(strategy, X, 9, labelled=[0, 30], groups=groups, guards=Guards(max_per_group=1))
    assert not {groups[row] for row in picked.indices} & {"A", "patient 0"}
    two = select(strategy, X, 20, labelled=[0, 30], groups=groups, guards=Guards(max_per_group=2))
    count = Counter(groups[row] for row in two.indices)
    assert count["A"] == 1
    assert count["patient 0"] == 1


def test_the_patient_with_fewest_studies_comes_first():
    groups = ["A"] * 6 + ["B"] * 4  # three of A are labelled and one of B
    for seed in range(10):
        picked = select(
            "random", blobs(10), 2, labelled=[0, 1, 2, 6], groups=groups, guards=Guards(max_per_group=1), seed=seed
        )
        assert [groups[row] for row in picked.indices] == ["B", "B"]


@pytest.mark.parametrize("name", ["random", "ward"])
def test_a_strategy_that_is_asked_again_is_told_what_it_has_got(monkeypatch, name):
    calls = []

    def spy(X, n_select, *, labelled, candidates, rng):
        found = uniform(X, n_select, labelled=labelled, candidates=candidates, rng=rng)
        calls.append((labelled.tolist(), found.indices.tolist()))
        return found

    monkeypatch.setitem(STRATEGIES, name, spy)
    X, groups = most_of_one_patient()
    X[:, 0] = np.arange(50)  # in an order of their content, as a strategy sees them
    select(name, X, 10, labelled=[40], groups=groups, guards=Guards(max_per_group=1))
    assert len(calls) > 1
    for (before, found), (after, _) in pairwise(calls):
        accepted = []
        for row in found:
            if groups[row] not in {groups[other] for other in (*before, *accepted)}:
                accepted.append(row)
            elif name in NESTED:  # or a smaller batch would not be the start of a larger one
                break
        assert after == sorted([*before, *accepted])


def test_a_study_of_no_known_patient_is_its_own():
    X, groups = most_of_one_patient()
    nameless = [name if name == "A" else "" for name in groups]
    picked = select("kmeans", X, 21, groups=nameless, guards=Guards(max_per_group=1))
    assert Counter(nameless[row] for row in picked.indices) == {"A": 1, "": 20}


@pytest.mark.parametrize("strategy", sorted(NESTED - LATER.keys()))
@pytest.mark.parametrize("guards", [Guards(duplicates=0.999, max_per_group=1), Guards(outliers="last")])
def test_a_smaller_batch_is_the_start_of_a_larger_one(strategy, guards):
    X, groups = most_of_one_patient()
    X = np.vstack([X, X[:7]])
    groups = [*groups, *groups[:7]]
    large = select(strategy, X, 20, labelled=[3, 44], groups=groups, guards=guards).indices
    small = select(strategy, X, 7, labelled=[3, 44], groups=groups, guards=guards).indices
    np.testing.assert_array_equal(small, large[:7])


# -- copies


@some_strategies
def test_copies_count_once_come_last_and_are_told(strategy):
    X = blobs(28)
    copies = X[:12] * rng(3).uniform(0.5, 2, size=(12, 1)).astype(np.float32)  # 30 % are copies, of other brightness
    pool = np.vstack([X, copies])
    picked = select(strategy, pool, 32, guards=Guards(duplicates=0.9999))
    pairs = {frozenset((row, row + 28)) for row in range(12)}
    assert {frozenset(pair) for pair in picked.duplicates} == pairs
    distinct = {min(row, row - 28) if row >= 28 else row for row in picked.indices[:28].tolist()}
    assert distinct == set(range(28))
    assert len(set(picked.indices.tolist())) == 32


@some_strategies
def test_copies_do_not_change_which_studies_are_picked(strategy):
    X = blobs(40)
    guards = Guards(duplicates=0.99999)
    without = X[select(strategy, X, 6, guards=guards).indices]
    crowd = np.vstack([X, np.repeat(X[5:6], 30, axis=0)])
    np.testing.assert_array_equal(crowd[select(strategy, crowd, 6, guards=guards).indices], without)


@some_strategies
def test_a_copy_of_a_labelled_study_is_as_good_as_labelled(strategy):
    X = blobs(20)
    pool = np.vstack([X, X[:5]])
    picked = select(strategy, pool, 15, labelled=range(5), guards=Guards(duplicates=0.9999))
    assert set(picked.indices.tolist()) == set(range(5, 20))
    assert picked.duplicates == tuple((row + 20, row) for row in range(5))
    swapped = select(strategy, pool, 15, labelled=range(20, 25), guards=Guards(duplicates=0.9999))
    assert set(swapped.indices.tolist()) == set(range(5, 20))
    assert swapped.duplicates == tuple((row, row + 20) for row in range(5))


@given(st.integers(1, 60), st.integers(1, 40), st.sampled_from([0.9, 0.99, 0.9999, 1.0]), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_near_duplicates_agree_with_the_definition(n_rows, dim, threshold, seed):
    rows = rng(seed).integers(-2, 3, size=(n_rows, dim)) + rng(seed).choice([0, 0.05], (n_rows, 1))
    unit = unit_rows(rows.astype(np.float32)).astype(np.float32)
    first = rng(seed).permutation(n_rows)[: n_rows // 4]
    found = near_duplicates(unit, threshold, first=np.sort(first))
    cosine = unit.astype(np.float64) @ unit.T.astype(np.float64)
    assert set(first.tolist()) <= set(np.flatnonzero(found == np.arange(n_rows)).tolist())
    others = [row for row in range(n_rows) if row not in first]
    for row in others:
        assert found[row] == row or cosine[row, found[row]] >= threshold - 1e-5
        assert found[found[row]] == found[row]
    originals = np.flatnonzero(found == np.arange(n_rows))
    for row in set(originals.tolist()) - set(first.tolist()):
        assert all(cosine[row, other] < threshold + 1e-5 for other in originals if other != row)


def test_each_repeats_the_earliest_original_that_is_near_enough():
    turned = np.radians([0, 20, 45, 66, 10])
    unit = np.column_stack([np.cos(turned), np.sin(turned)]).astype(np.float32)
    cosine = np.cos(np.radians(20.5))  # rows are taken along the first column: 66, 45, 20, 10, 0 degrees
    np.testing.assert_array_equal(near_duplicates(unit, cosine, first=np.array([], int)), [1, 1, 2, 3, 1])
    np.testing.assert_array_equal(near_duplicates(unit, cosine, first=np.array([0, 1])), [0, 1, 2, 3, 0])


def test_near_duplicates_are_found_across_blocks(monkeypatch):
    monkeypatch.setattr("firstpick.selection.duplicates._BLOCK", 7)
    X = unit_rows(blobs(60, dim=40)).astype(np.float32)
    pool = np.vstack([X, X[::-1]])
    found = near_duplicates(pool, 0.99999, first=np.array([], int))
    mirrored = np.arange(119, -1, -1)
    assert np.count_nonzero(found == np.arange(120)) == 60
    assert ((found == np.arange(120)) ^ (found == mirrored)).all()
    labelled = near_duplicates(pool, 0.99999, first=np.arange(60, 120))
    np.testing.assert_array_equal(labelled, [*range(119, 59, -1), *range(60, 120)])


def test_copies_among_many_rows_are_those_of_the_definition(monkeypatch):
    monkeypatch.setattr("firstpick.selection.duplicates.EXACT_ROWS", 150)
    X = unit_rows(rng(0).normal(size=(200, 80)), np.float32)
    X[:40] = X[0] + 0.002 * rng(1).normal(size=(40, 80)) / np.sqrt(80)  # a crowd
    X = unit_rows(np.vstack([X, X[150:]]), np.float32)
    found = near_duplicates(X, 0.9999, first=np.array([160]))
    assert len(set(found[:40].tolist())) == 1
    assert found[210] == 160
    pairs = np.sort(np.column_stack([np.arange(150, 200), np.arange(200, 250)]), axis=1)
    for one, other in pairs[np.arange(50) != 10]:
        assert {found[one], found[other]} in ({one}, {other})
    np.testing.assert_array_equal(found[40:150], np.arange(40, 150))


# -- strata


@some_strategies
@pytest.mark.parametrize(("share", "expected"), [("proportional", [6, 3, 1]), ("equal", [4, 4, 2])])
def test_a_batch_is_shared_out_among_strata_and_so_is_its_start(strategy, share, expected):
    X = blobs(87)
    strata = ["CT"] * 60 + ["MR"] * 25 + ["US"] * 2
    picked = select(strategy, X, 10, strata=strata, guards=Guards(share=share))
    count = Counter(strata[row] for row in picked.indices)
    assert [count["CT"], count["MR"], count["US"]] == (expected if share == "equal" else [7, 3, 0])
    half = Counter(strata[row] for row in picked.indices[:5])
    assert all(abs(half[name] - count[name] / 2) <= 1 for name in count)


def test_shares_are_those_of_the_studies_not_yet_labelled():
    strata = ["CT"] * 30 + ["MR"] * 10  # 10 of each are left
    picked = select("random", blobs(40), 4, labelled=range(20), strata=strata)
    assert Counter(strata[row] for row in picked.indices) == {"CT": 2, "MR": 2}


def test_a_stratum_is_chosen_among_its_own():
    X = blobs(60)
    strata = ["a"] * 30 + ["b"] * 30
    picked = select("kmeans", X, 6, strata=strata)
    alone = select("kmeans", X[:30], 3)
    assert {row for row in picked.indices.tolist() if row < 30} == set(alone.indices.tolist())


def test_of_equal_fractions_the_larger_stratum_gets_more_then_the_first():
    assert share_out(2, [10, 30], "proportional") == [0, 2]
    assert share_out(3, [5, 5], "proportional") == [2, 1]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.data(), st.sampled_from(["proportional", "equal"]))
def test_shares_are_whole_sum_up_and_stay_within_one_of_the_exact_share(sizes, data, how):
    n_select = data.draw(st.integers(0, sum(sizes)))
    counts = share_out(n_select, sizes, how)
    assert sum(counts) == n_select
    assert all(0 <= count <= size for count, size in zip(counts, sizes, strict=True))
    if how == "proportional" and sum(sizes):
        assert all(abs(c - n_select * s / sum(sizes)) < 1 for c, s in zip(counts, sizes, strict=True))
    if how == "equal":
        unfilled = [count for count, size in zip(counts, sizes, strict=True) if count < size]
        assert not unfilled or max(counts) - min(unfilled) <= 1
    assert Counter(interleave(counts)) == {stratum: count for stratum, count in enumerate(counts) if count}


# -- outliers


def with_noise():
    """Forty studies, and five that look like nothing else."""
    close = np.abs(blobs(40, n_blobs=4, dim=64)) * 0.1 + blobs(40, n_blobs=4, dim=64)
    return np.vstack([close, 9 * rng(5).normal(size=(5, 64)).astype(np.float32)])


@some_strategies
def test_outliers_are_left_out_or_come_last(strategy):
    X = with_noise()
    noise = set(range(40, 45))
    last = select(strategy, X, 45, guards=Guards(outliers="last")).indices.tolist()
    assert set(last[-5:]) == noise
    without = select(strategy, X, 45, guards=Guards(outliers="leave out")).indices.tolist()
    assert set(without) == set(range(40))
    np.testing.assert_array_equal(
        select(strategy, X, 6, guards=Guards(outliers="last")).indices, select(strategy, X[:40], 6).indices
    )


def test_without_the_safeguard_some_strategies_pick_outliers():
    X = with_noise()
    assert any(set(select(name, X, 12).indices.tolist()) & set(range(40, 45)) for name in STRATEGIES)


def test_an_outlier_stored_many_times_with_small_changes_is_one_still():
    X = with_noise()
    stored_anew = X[44] + 1e-3 * rng(6).normal(size=(12, 64)).astype(np.float32)
    guards = Guards(outliers="leave out", duplicates=0.9999)
    picked = select("random", np.vstack([X, stored_anew]), 60, guards=guards).indices
    assert 44 not in picked


@some_strategies
def test_a_labelled_outlier_stays_labelled(strategy):
    X = with_noise()
    picked = select(strategy, X, 44, labelled=[44], guards=Guards(outliers="last"))
    assert set(picked.indices[-4:].tolist()) == set(range(40, 44))


def test_strategies_are_told_of_a_labelled_outlier_though_others_are_set_aside(monkeypatch):
    def spy(X, n_select, *, labelled, **arguments):
        assert len(X) == 41
        assert len(labelled) == 1
        return uniform(X, n_select, labelled=labelled, **arguments)

    monkeypatch.setitem(STRATEGIES, "random", spy)
    assert len(select("random", with_noise(), 4, labelled=[44], guards=Guards(outliers="leave out")).indices) == 4


def test_copies_of_noise_do_not_make_it_usual():
    X = with_noise()
    pool = np.vstack([X, np.repeat(X[40:41], 9, axis=0)])
    guards = Guards(duplicates=0.9999, outliers="leave out")
    assert set(select("random", pool, 54, guards=guards).indices.tolist()) == set(range(40))
    kept = Guards(duplicates=0.9999, outliers="last")
    assert set(select("random", pool, 45, guards=kept).indices[40:].tolist()) == set(range(40, 45))


def test_copies_are_picked_after_all_else_even_if_outliers_are_left_out():
    X = np.vstack([with_noise(), with_noise()[:3]])
    picked = select("random", X, 48, guards=Guards(duplicates=0.9999, outliers="leave out")).indices.tolist()
    assert {row % 45 for row in picked[:40]} == set(range(40))
    assert {row % 45 for row in picked[40:]} == {0, 1, 2}


# -- slices


def test_slices_just_the_distance_apart_are_far_enough():
    slices = [("a", "axial", 0.0), ("a", "axial", 10.0), ("a", "axial", 19.0), ("b", "axial", 0.0)]
    picked = select("random", np.eye(4), 4, slices=slices, labelled=[1], guards=Guards(min_distance_mm=10))
    assert set(picked.indices.tolist()) == {0, 3}


def test_two_slices_of_one_study_are_one_study_of_the_patient():
    slices = [(study, "axial", 0.0) for study in "aabc"]
    arguments = {"labelled": [0, 1], "groups": ["p", "p", "p", "q"], "guards": Guards(max_per_group=2)}
    first = [select("random", np.eye(4), 1, slices=slices, seed=seed, **arguments).indices[0] for seed in range(20)]
    assert set(first) == {2, 3}


# -- all at once


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_mixture_gives_exactly_what_is_there(data):
    strategy = data.draw(st.sampled_from(SOME))
    n_rows = data.draw(st.integers(2, 24))
    seed = data.draw(st.integers(0, 999))
    X = blobs(n_rows, n_blobs=5, dim=4, seed=seed)
    X[rng(seed).integers(n_rows, size=n_rows // 3)] = X[0]
    groups = data.draw(st.lists(st.sampled_from(["", "A", "B", "C"]), min_size=n_rows, max_size=n_rows))
    strata = data.draw(st.lists(st.sampled_from(["", "CT", "MR"]), min_size=n_rows, max_size=n_rows))
    labelled = data.draw(st.sets(st.integers(0, n_rows - 1), max_size=n_rows - 1))
    n_select = data.draw(st.integers(1, n_rows))
    guards = Guards(
        duplicates=data.draw(st.sampled_from([0.0, 0.999])),
        max_per_group=data.draw(st.integers(0, 2)),
        share=data.draw(st.sampled_from(["proportional", "equal"])),
        outliers=data.draw(st.sampled_from(["keep", "last"])),
    )
    arguments = {"guards": guards, "seed": seed}
    picked = select(strategy, X, n_select, labelled=labelled, groups=groups, strata=strata, **arguments)
    assert len(picked.indices) == min(n_select, n_rows - len(labelled))
    assert len(set(picked.indices.tolist())) == len(picked.indices)
    assert not set(picked.indices.tolist()) & labelled
    order = rng(seed).permutation(n_rows)
    place = np.argsort(order)
    shuffled = select(
        strategy,
        X[order],
        n_select,
        labelled=place[list(labelled)],
        groups=[groups[row] for row in order],
        strata=[strata[row] for row in order],
        **arguments,
    )
    if len(np.unique(X, axis=0)) == n_rows:
        np.testing.assert_array_equal(order[shuffled.indices], picked.indices)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"duplicates": 1.5}, "cosine from 0"),
        ({"max_per_group": -1}, "max_per_group must be 0 .any number. or more"),
        ({"max_per_study": -1}, "max_per_study must be 0 .any number. or more; got -1"),
        ({"min_distance_mm": np.inf}, "min_distance_mm must be 0 .any number. or more; got inf"),
        ({"min_distance_mm": np.nan}, "min_distance_mm must be"),
        ({"share": "fair"}, "Choose one of proportional, equal"),
        ({"outliers": "drop"}, "Choose one of keep, last, leave out"),
    ],
)
def test_a_wrong_safeguard_is_refused_with_what_is_allowed(wrong, text):
    with pytest.raises(ValueError, match=text):
        Guards(**wrong)
