"""A proposal that is mended again and again says what measuring the whole pool anew would say."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstpick.proposal import prepare, propose, with_replacement
from firstpick.proposal.explain import coverage_radius
from firstpick.selection import Guards
from firstpick.selection.geometry import distances, nearest, unit_rows
from firstpick.selection.outliers import unusual
from firstpick.selection.space import Space
from firstpick.studies import Pool, Sample, Slice

calm = settings(deadline=None, max_examples=150)


def make_pool(n_rows, seed):
    """Whole studies or slices, patients or none, blobs or a grid full of copies."""
    rng = np.random.default_rng(seed)
    dim = int(rng.integers(1, 6))
    if seed % 2:
        vectors = rng.integers(-2, 3, size=(n_rows, dim))
    else:
        vectors = rng.normal(size=(4, dim))[rng.integers(4, size=n_rows)] + 0.2 * rng.normal(size=(n_rows, dim))
    if seed % 3:
        samples = [Sample(f"s{i:02d}") for i in range(n_rows)]
    else:
        samples = [Sample(f"s{i // 3:02d}", Slice("axial", i, 3.0 * i)) for i in range(n_rows)]
    patients = tuple(f"p{int(s.study_id[1:]) // 2}" if s.study_id != "s00" else "" for s in samples)
    return Pool(tuple(samples), vectors.astype(np.float32), groups=patients if seed % 5 else ())


class ByDefinition:
    """All that is said of picks, from the whole table of distances."""

    def __init__(self, pool, picks, labelled, excluded):
        self.pool, self.ids = pool, np.array(pool.study_ids)
        self.unit = unit_rows(pool.vectors)
        picked = [pick.study_id for pick in picks]
        self.rows_of = [pool.rows_at(pick.study_id, pick.slices) for pick in picks]
        self.rows = [row for own in self.rows_of for row in own]
        self.is_out = np.isin(self.ids, [*(excluded - labelled - {*picked})])
        self.is_done = np.isin(self.ids, [*(labelled - {*picked})])

    def stands_for(self):
        """How many rows each pick stands for."""
        is_open = ~(self.is_out | self.is_done)
        is_open[self.rows] = True
        owner, _ = nearest(self.unit, self.unit[self.rows])
        owner[self.rows] = np.arange(len(self.rows))
        n_of = Counter(owner[is_open].tolist())
        in_turn = iter(range(len(self.rows)))
        return [sum(n_of[next(in_turn)] for _ in own) for own in self.rows_of]

    def unusual(self):
        flags = unusual(self.unit[self.rows], self.unit[~self.is_out])
        return [bool(flags[[self.rows.index(row) for row in own]].any()) for own in self.rows_of]

    def covered(self):
        limit = coverage_radius(self.pool.vectors) + 1e-6
        is_close = distances(self.unit, self.unit)[~self.is_out] <= limit
        covering = np.flatnonzero(self.is_done).tolist()
        parts = []
        for own in [[], *self.rows_of]:
            covering += own
            parts.append(is_close[:, covering].any(axis=1).mean() if len(is_close) else 0.0)
        return parts

    def best(self, skipped, others, unavailable):
        """The studies that may take the place of a pick: of its own the nearest, else the nearest of all."""
        free = [row for row in range(len(self.pool)) if self.ids[row] not in {*others, *unavailable, skipped.study_id}]
        first = self.pool.rows_at(skipped.study_id, skipped.slices)[0]
        table = distances(self.unit, self.unit)
        other_rows = [row for pick in others.values() for row in self.pool.rows_at(pick.study_id, pick.slices)]
        own = [row for row in free if all(table[row, first] <= table[row, other] for other in other_rows)]
        return self.ids[min(own or free, key=lambda row: (table[row, first], row))] if free else None


@calm
@given(n_rows=st.integers(3, 36), seed=st.integers(0, 10**6), data=st.data())
def test_mended_again_and_again_it_is_as_if_measured_anew(n_rows, seed, data):
    pool = make_pool(n_rows, seed)
    studies = sorted({*pool.study_ids})
    labelled = data.draw(st.sets(st.sampled_from(studies), max_size=len(studies) - 1))
    proposal = propose(pool, strategy="random", batch_size=data.draw(st.integers(1, 6)), labelled=labelled, seed=seed)
    excluded = set()
    for _ in range(data.draw(st.integers(1, 5))):
        if not proposal.picks:
            break
        skipped = data.draw(st.sampled_from(proposal.picks))
        excluded.add(skipped.study_id)
        labelled ^= {data.draw(st.sampled_from(studies))} - excluded  # one comes or goes
        held = data.draw(st.sets(st.sampled_from(studies), max_size=3))
        others = {pick.study_id: pick for pick in proposal.picks if pick != skipped}
        before = ByDefinition(pool, proposal.picks, labelled, excluded)
        proposal = with_replacement(
            proposal, pool, skipped.study_id, labelled=labelled, excluded=excluded, unavailable=held
        )
        new = [pick.study_id for pick in proposal.picks if pick.study_id not in others]
        best = before.best(skipped, others, labelled | excluded | held)
        assert new == ([] if best is None else [best])
        after = ByDefinition(pool, proposal.picks, labelled, excluded)
        assert [pick.stands_for for pick in proposal.picks] == after.stands_for()
        assert [pick.unusual for pick in proposal.picks] == after.unusual()
        covered = [proposal.covered_before, *proposal.coverage]
        np.testing.assert_allclose(covered, after.covered())


@calm
@given(n_rows=st.integers(3, 36), seed=st.integers(0, 10**6), max_per_group=st.integers(0, 2), data=st.data())
def test_what_is_kept_with_a_pool_changes_nothing(n_rows, seed, max_per_group, data):
    pool = make_pool(n_rows, seed)
    studies = sorted({*pool.study_ids})
    guards = Guards(max_per_group=max_per_group, min_distance_mm=4.0)
    proposal = propose(pool, strategy="random", batch_size=4, seed=seed, guards=guards)
    labelled, excluded = set(), set()
    for _ in range(4):
        if not proposal.picks:
            break
        skipped = data.draw(st.sampled_from(proposal.picks)).study_id
        excluded.add(skipped)
        labelled ^= {data.draw(st.sampled_from(studies))} - excluded
        now = {"labelled": labelled, "excluded": excluded}
        anew = with_replacement(proposal, replace(pool), skipped, **now)
        proposal = with_replacement(proposal, pool, skipped, **now)
        assert proposal == anew


def test_what_is_prepared_is_not_measured_again(monkeypatch):
    pool = make_pool(30, seed=2)
    proposal = propose(pool, strategy="random", batch_size=4, labelled=["s01", "s02"])
    measured, whole = [], Space.measured
    monkeypatch.setattr(Space, "measured", lambda self, rows: measured.extend(rows) or whole(self, rows))
    new = replace(pool)
    prepare(proposal, new, labelled=["s01", "s02", proposal.picks[0].study_id])
    assert len(measured) == 6
    measured.clear()
    skipped = proposal.picks[1].study_id
    after = with_replacement(proposal, new, skipped, labelled=["s01", "s02"], excluded=[])
    (came,) = {pick.study_id for pick in after.picks} - {pick.study_id for pick in proposal.picks}
    assert {new.study_ids[row] for row in measured} == {came}


@pytest.mark.parametrize("seed", [0, 4])
def test_a_pool_keeps_what_is_made_of_it(seed):
    pool = make_pool(9, seed)
    made = []
    assert pool.kept(made.append) is pool.kept(made.append) is None
    assert len(made) == 1
    assert pool.by_study() is pool.by_study()
    assert (pool.by_study() is pool) == (seed == 4)


def test_the_same_annotated_slices_give_the_same_pool():
    pool = make_pool(9, seed=0)
    first, second, third = (pool.samples[row].at for row in pool.rows(["s01"]))
    trimmed = pool.trimmed({"s01": (first, third)})
    assert pool.trimmed({"s01": (third, first), "s02": (), "gone": ()}) is trimmed
    other = pool.trimmed({"s01": (second,)})
    assert [sample.at for sample in other.samples if sample.study_id == "s01"] == [second]
    assert pool.trimmed({"s01": (first, third)}).samples == trimmed.samples


def test_who_a_study_belongs_to_and_who_is_of_a_patient():
    pool = Pool(tuple(map(Sample, "abc")), np.zeros((3, 1), np.float32), groups=("p", "", "p"))
    assert [pool.group_of(study_id) for study_id in ("a", "b", "c", "gone")] == ["p", "", "p", ""]
    assert pool.studies_of("p") == {"a", "c"}
    assert pool.studies_of("nobody") == set()
    assert replace(pool, groups=()).group_of("a") == ""
