"""Proposals, their JSON, and what happens when a pick cannot be annotated."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import to_jsonable_python

from firstpick import __version__
from firstpick.board.board import with_statuses
from firstpick.proposal import (
    SCHEMA,
    Pick,
    Proposal,
    advise,
    pool_hash,
    propose,
    read_proposal,
    replacement,
    with_replacement,
)
from firstpick.proposal.nouns import Outlook
from firstpick.selection import LARGEST_FIRST, Guards
from firstpick.studies import LeftOut, Pool, Sample

GOLDEN = Path(__file__).parent / "data" / "proposal_v1.json"
calm = settings(deadline=None, max_examples=40)


def pool_of(vectors, prefix="case"):
    vectors = np.asarray(vectors, dtype=np.float32)
    return Pool(tuple(Sample(f"{prefix}_{i:02d}") for i in range(len(vectors))), vectors)


def fan(*degrees):
    """Make a pool of studies in these directions of the plane."""
    angles = np.radians(degrees)
    return pool_of(np.column_stack([np.cos(angles), np.sin(angles)]).round(6))  # the same bits everywhere


def ids(*numbers):
    return [f"case_{i:02d}" for i in numbers]


def picks(*numbers):
    return [Pick(0, study_id, 0.0) for study_id in ids(*numbers)]


def chosen(proposal):
    return [pick.study_id for pick in proposal.picks]


# five studies around 0 degrees, three around 90, two around 180; the middle ones are 02, 06 and, by content, 09
FAN = fan(0, 2, 5, 9, 11, 87, 90, 94, 178, 182)


def golden_proposal():
    """A proposal of which each number can be worked out by hand; the Slicer module is tested on its JSON."""
    pool = fan(0, 2, 5, 9, 11, 87, 90, 95, 180, 183, 187, 183)  # 95 is far enough to be a cluster of its own
    pool = replace(pool, titles=tuple(f"Case {i}" for i in range(12)))
    first = propose(
        pool,
        strategy="kmeans",
        batch_size=4,
        labelled=ids(3),
        excluded=ids(4),
        seed=1,
        starts=1,
        encoder="pixels",
        fingerprint="0123456789abcdef",
        partial=True,
        keep=picks(6),
        guards=Guards(duplicates=0.999999),
        n_init=3,
    )
    return with_replacement(first, pool, "case_09", labelled=ids(3), excluded=ids(4))


def golden_answer():
    """The same as a server answers it."""
    failed = [LeftOut("broken/scan", "The file ends after 12 of 4,000 bytes.", "Broken scan")]
    left_out = [LeftOut("scout", "Only 3 slices.")]
    return to_jsonable_python(with_statuses(golden_proposal(), {}, failed=failed, left_out=left_out))


def test_a_batch_by_hand():
    proposal = propose(FAN, strategy="kmeans", batch_size=3, encoder="pixels", fingerprint="f00")
    assert chosen(proposal)[:2] == ids(2, 6)
    assert chosen(proposal)[2] in ids(8, 9)
    first, second, _ = proposal.picks
    assert (first.rank, first.score, first.share, first.stands_for) == (1, 0.5, 0.5, 5)
    assert first.lookalikes == tuple(ids(1, 3, 0, 4))
    assert first.reason == "Stands for 5 of the 10 unlabelled studies (50 %); most like case_01, case_03."
    assert (second.rank, second.stands_for, second.lookalikes) == (2, 3, tuple(ids(5, 7)))
    assert (proposal.n_pool, proposal.n_labelled, proposal.covered_before, proposal.note) == (10, 0, 0.0, "")
    assert len(proposal.coverage) == 3
    assert proposal.provenance == {
        "fingerprint": "f00",
        "pool_hash": pool_hash(FAN),
        "strategy": "kmeans",
        "params": {},
        "seed": 0,
        "starts": 6,
        "scaling": "l2",
        "n_components": 32,
        "guards": {
            "duplicates": 0.0,
            "max_per_group": 0,
            "share": "proportional",
            "outliers": "keep",
            "max_per_study": 0,
            "min_distance_mm": 0.0,
        },
        "version": __version__,
    }


def test_people_read_titles_and_programs_ids():
    titled = replace(FAN, titles=("Twin", "Twin", *(f"Head {i}" for i in range(2, 10))))
    made = propose(titled, strategy="kmeans", batch_size=3)
    assert chosen(made) == chosen(propose(FAN, strategy="kmeans", batch_size=3))
    first = made.picks[0]
    assert (first.study_id, first.title) == ("case_02", "Head 2")
    assert first.reason == "Stands for 5 of the 10 unlabelled studies (50 %); most like Twin, Head 3."
    assert first.lookalikes == tuple(ids(1, 3, 0, 4))
    replaced = with_replacement(made, titled, "case_02", labelled=(), excluded=()).picks[0]
    assert (replaced.study_id, replaced.title, replaced.replaces) == ("case_01", "Twin", "case_02")
    kept = propose(titled, strategy="kmeans", batch_size=1, keep=picks(7)).picks[0]
    assert kept.title == "Head 7"
    gone = with_replacement(
        made, Pool(titled.samples[3:], titled.vectors[3:]), chosen(made)[1], labelled=(), excluded=()
    )
    assert gone.picks[0].title == "Head 2"


def test_labelled_and_skipped_studies_are_not_picked_and_strangers_are_ignored():
    proposal = propose(FAN, strategy="kmeans", batch_size=1, labelled=[*ids(0), "gone"], excluded=[*ids(6), "lost"])
    assert proposal.n_labelled == 1
    assert chosen(proposal)[0] not in ids(0, 6)
    assert proposal.picks[0].stands_for == 8
    assert proposal.covered_before > 0


def test_kept_studies_stay_on_top_in_their_order_and_cover_like_labels():
    proposal = propose(
        FAN, strategy="kmeans", batch_size=3, keep=[*picks(9, 2), Pick(0, "gone", 0), *picks(9, 3)], labelled=ids(3)
    )
    assert chosen(proposal) == ids(9, 2, 6)
    assert [pick.rank for pick in proposal.picks] == [1, 2, 3]
    assert proposal.picks[0].score == 0
    assert sum(pick.share for pick in proposal.picks) == pytest.approx(1)


def test_more_kept_studies_than_the_batch_has_room_for_all_stay():
    proposal = propose(FAN, strategy="random", batch_size=1, keep=picks(4, 7))
    assert chosen(proposal) == ids(4, 7)
    assert proposal.note == ""


def test_asking_for_more_than_there_are_gives_all_and_says_so():
    proposal = propose(FAN, strategy="kmeans", batch_size=20, labelled=ids(0))
    assert sorted(chosen(proposal)) == ids(*range(1, 10))
    assert proposal.note == "Only 9 of the 20 asked for: no more unlabelled studies."
    kept_only = propose(FAN, strategy="kmeans", batch_size=2, keep=picks(5), labelled=set(FAN.study_ids) - set(ids(5)))
    assert (chosen(kept_only), kept_only.note) == (ids(5), "Only 1 of the 2 asked for: no more unlabelled studies.")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"batch_size": 0}, r"batch_size must be 1 or more; got 0\."),
        ({"labelled": FAN.study_ids}, r"Nothing left to choose: all 10 studies are labelled or skipped\."),
        ({"pool": pool_of(np.zeros((0, 2)))}, r"Nothing left to choose: no study has an embedding\."),
        ({"strategy": "kmeens"}, r"Did you mean 'kmeans'"),
        ({"strategy": "kmeens", "keep": picks(1), "batch_size": 1}, r"Did you mean 'kmeans'"),
        ({"colour": "red"}, r"parameter 'colour' is not known"),
    ],
)
def test_nonsense_is_refused_in_plain_words(changes, text):
    arguments = {"pool": FAN, "strategy": "kmeans", "batch_size": 2} | changes
    with pytest.raises(ValueError, match=text):
        propose(arguments.pop("pool"), **arguments)


def test_names_of_studies_do_not_matter():
    renamed = Pool(tuple(Sample(f"x{9 - i}") for i in reversed(range(10))), FAN.vectors[::-1].copy())
    first = propose(FAN, strategy="kmeans", batch_size=4, seed=5).picks
    again = propose(renamed, strategy="kmeans", batch_size=4, seed=5).picks
    assert [f"case_{9 - int(pick.study_id[1:]):02d}" for pick in again] == [pick.study_id for pick in first]


def found(pool, batch, skipped, unavailable=()):
    samples = replacement(pool, batch, skipped, unavailable=unavailable)
    return samples[0].study_id if samples else None


class TestReplacement:
    # picks at 0, 90 and 180; 20 and 30 belong to the first, 80 and 60 to the second, nothing to the third
    pool = fan(0, 20, 30, 90, 80, 60, 180)

    def next_best(self, skipped, *unavailable):
        return found(self.pool, picks(0, 3, 6), skipped, ids(*unavailable))

    def test_is_the_nearest_of_those_that_the_pick_stood_for(self):
        assert self.next_best("case_00") == "case_01"
        assert self.next_best("case_00", 1) == "case_02"
        assert self.next_best("case_03") == "case_04"

    def test_its_own_come_before_nearer_ones_of_others(self):
        # 46 is 46 degrees from the pick at 0 and 44 from the one at 90, -50 is farther from 0 but its own
        pool = fan(0, 46, -50, 90)
        assert found(pool, picks(0, 3), "case_00") == "case_02"

    def test_without_any_of_its_own_it_is_the_nearest_of_all(self):
        assert self.next_best("case_06") == "case_04"
        assert self.next_best("case_00", 1, 2) == "case_05"

    def test_there_may_be_none(self):
        assert self.next_best("case_00", 1, 2, 4, 5) is None

    def test_the_only_pick_has_everyone(self):
        assert found(self.pool, picks(6), "case_06") == "case_03"

    def test_for_a_pick_without_embedding_it_is_the_one_farthest_from_the_others(self):
        assert found(self.pool, [*picks(0), Pick(0, "gone", 0)], "gone") == "case_06"
        assert found(self.pool, [Pick(0, "gone", 0)], "gone", ids(0)) == "case_01"


class TestWithReplacement:
    def test_the_new_pick_has_the_place_and_reasons_of_its_own(self):
        before = propose(FAN, strategy="kmeans", batch_size=3)
        after = with_replacement(before, FAN, "case_06", labelled=[], excluded=[])
        assert chosen(after)[:2] == ids(2, 5)
        new = after.picks[1]
        assert (new.rank, new.replaces, new.score) == (2, "case_06", before.picks[1].score)
        assert (new.stands_for, new.lookalikes) == (2, ("case_07",))
        assert new.reason == "Stands for 2 of the 9 unlabelled studies (22 %); most like case_07."
        assert sum(pick.share for pick in after.picks) == pytest.approx(1)
        assert after.provenance == before.provenance

    def test_without_a_replacement_the_ranks_close_up(self):
        before = propose(FAN, strategy="kmeans", batch_size=3)
        rest = set(FAN.study_ids) - set(chosen(before))
        after = with_replacement(before, FAN, "case_02", labelled=[], excluded=[], unavailable=rest)
        assert chosen(after) == chosen(before)[1:]
        assert [pick.rank for pick in after.picks] == [1, 2]
        assert after.note == "Only 2 of the 3 asked for: no more unlabelled studies."
        assert len(after.coverage) == 2

    def test_until_none_is_left(self):
        proposal = propose(FAN, strategy="random", batch_size=2)
        skipped = set()
        while proposal.picks:
            skipped.add(proposal.picks[0].study_id)
            proposal = with_replacement(proposal, FAN, proposal.picks[0].study_id, labelled=[], excluded=skipped)
        assert skipped == set(FAN.study_ids)
        assert proposal.coverage == ()

    def test_a_pick_whose_embedding_is_gone_keeps_its_place_until_it_is_replaced(self):
        before = propose(FAN, strategy="kmeans", batch_size=3)
        rest = Pool(FAN.samples[3:], FAN.vectors[3:])  # case_02 is gone
        after = with_replacement(before, rest, "case_06", labelled=[], excluded=[])
        assert chosen(after)[0] == "case_02"
        assert (after.picks[0].share, after.picks[0].stands_for) == (0, 0)
        assert after.coverage[0] == after.covered_before
        assert sum(pick.share for pick in after.picks) == pytest.approx(1)
        mended = with_replacement(after, rest, "case_02", labelled=[], excluded=ids(6))
        assert mended.picks[0].replaces == "case_02"
        assert mended.picks[0].study_id in rest.study_ids

    def test_a_study_that_is_no_pick_is_refused(self):
        with pytest.raises(ValueError, match=r"study 'case_00' is not among the 3 picks of the proposal\."):
            with_replacement(propose(FAN, strategy="kmeans", batch_size=3), FAN, "case_00", labelled=[], excluded=[])

    @calm
    @given(seed=st.integers(0, 10**6), n_rows=st.integers(2, 20), batch_size=st.integers(1, 8), data=st.data())
    def test_whatever_is_skipped_the_proposal_stays_sound(self, seed, n_rows, batch_size, data):
        pool = pool_of(np.random.default_rng(seed).integers(-2, 3, size=(n_rows, 3)))
        labelled = data.draw(st.sets(st.sampled_from(pool.study_ids), max_size=n_rows - 1))
        proposal = propose(pool, strategy="random", batch_size=batch_size, labelled=labelled, seed=seed)
        skipped = set()
        for _ in range(data.draw(st.integers(1, 3))):
            if not proposal.picks:
                break
            gone = data.draw(st.sampled_from(chosen(proposal)))
            skipped.add(gone)
            n_before = len(proposal.picks)
            n_free = n_rows - len(labelled | skipped | set(chosen(proposal)))
            proposal = with_replacement(proposal, pool, gone, labelled=labelled, excluded=skipped)
            assert len(proposal.picks) == n_before - (n_free == 0)
            assert not set(chosen(proposal)) & (labelled | skipped)
            assert len(set(chosen(proposal))) == len(proposal.picks)
            assert [pick.rank for pick in proposal.picks] == list(range(1, len(proposal.picks) + 1))
            if proposal.picks:
                assert sum(pick.share for pick in proposal.picks) == pytest.approx(1)
                assert sum(pick.stands_for for pick in proposal.picks) == n_rows - len(labelled) - len(skipped)
            assert [proposal.covered_before, *proposal.coverage] == sorted(
                [proposal.covered_before, *proposal.coverage]
            )


class TestJson:
    def test_it_survives_a_round_trip_as_plain_json(self):
        proposal = golden_proposal()
        text = json.dumps(to_jsonable_python(proposal), allow_nan=False)
        assert json.loads(text) == to_jsonable_python(proposal)
        assert read_proposal(json.loads(text)) == proposal

    def test_keys_that_others_added_are_ignored(self):
        data = to_jsonable_python(golden_proposal())
        data["client"] = "reader"
        data["picks"][0]["status"] = "open"
        assert read_proposal(data) == golden_proposal()

    @pytest.mark.parametrize(
        ("schema", "text"), [(2, "schema 2; .* schema 1. Update"), (None, "Make a new"), (0, "Make a new")]
    )
    def test_another_schema_is_refused(self, schema, text):
        with pytest.raises(ValueError, match=text):
            read_proposal(to_jsonable_python(golden_proposal()) | {"schema": schema})

    @pytest.mark.parametrize("path", [("picks",), ("picks", 0, "score"), ("picks", 0, "rank")])
    def test_what_is_missing_is_named(self, path):
        data = entry = to_jsonable_python(golden_proposal())
        for key in path[:-1]:
            entry = entry[key]
        del entry[path[-1]]
        with pytest.raises(ValueError, match=f"cannot be read: {'.'.join(map(str, path))}: Field required. Make a new"):
            read_proposal(data)

    def test_every_key_is_documented(self):
        documented = set(re.findall(r"\w+", Proposal.__doc__ + Outlook.__doc__ + Pick.__doc__))
        assert all_keys(to_jsonable_python(golden_proposal())) - {"n_init"} <= documented
        assert {field.name for field in (*fields(Proposal), *fields(Pick))} <= all_keys(
            to_jsonable_python(golden_proposal())
        )

    def test_the_golden_file_is_what_is_written(self):
        """After a wanted change: ``python tests/test_proposal.py`` writes the file; the Slicer module reads it."""
        golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
        assert_alike(
            golden_answer(),
            golden | {"provenance": golden["provenance"] | {"version": __version__}},
        )
        assert golden["schema"] == SCHEMA


def test_the_pool_hash_knows_every_bit_and_name():
    pool = pool_of([[1, 2], [3, 4]])
    others = [pool_of([[1, 2], [3, 5]]), pool_of([[1, 2, 3, 4]]), pool_of([[1, 2], [3, 4]], prefix="x")]
    assert len({pool_hash(p) for p in (pool, *others)}) == 4
    assert pool_hash(pool) == pool_hash(Pool(pool.samples, np.asfortranarray(pool.vectors)))
    assert re.fullmatch("[0-9a-f]{16}", pool_hash(pool))


def test_a_copy_or_a_patient_of_whom_there_are_enough_replaces_a_pick_only_if_nobody_else_can():
    # 0 and its copy, 3 of the same patient as the pick 90, and 20: the next best of 0 is 20
    pool = replace(fan(0, 0, 3, 20, 90, 91), groups=("", "", "P", "", "P", ""))
    guards = Guards(duplicates=0.999999, max_per_group=1)
    made = propose(pool, strategy="kmeans", batch_size=2, guards=guards)
    picks = (replace(made.picks[0], study_id="case_00"), replace(made.picks[1], study_id="case_04"))
    made = replace(made, picks=picks)
    assert [(entry.study_id, entry.duplicate_of) for entry in made.duplicates] == [("case_01", "case_00")]
    assert chosen(with_replacement(made, pool, "case_00", labelled=(), excluded=())) == ids(3, 4)
    others = ids(3, 5)
    assert chosen(with_replacement(made, pool, "case_00", labelled=others, excluded=())) == ids(1, 4)


def test_a_patient_gets_one_pick():
    pool = replace(fan(0, 30, 60, 90, 120), groups=("P", "P", "P", "Q", ""))
    made = propose(pool, strategy="kmeans", batch_size=3, guards=Guards(max_per_group=1))
    assert {"case_03", "case_04"} < set(chosen(made))
    assert made.provenance["guards"]["max_per_group"] == 1


def test_unusual_studies_are_told():
    close = np.random.default_rng(0).normal([9, 0, 0], 1, size=(40, 3))
    made = propose(pool_of([*close, [0, 9, 0]]), strategy="kmeans", batch_size=2)
    assert "case_40" in made.unusual
    assert len(made.unusual) <= 4


def test_advice_tells_chance_from_signal():
    # three tight clusters: each seed and each sample finds the same middles
    pool = pool_of(np.random.default_rng(0).normal(0, 0.01, (60, 3)) + np.repeat(np.eye(3), 20, axis=0))
    sure, chance = (
        advise(propose(pool, strategy=name, batch_size=3), pool, strategy=name) for name in ("kmeans", "random")
    )
    assert sure.jaccard_seeds == 1
    assert sure.jaccard_bootstrap > chance.jaccard_bootstrap
    assert chance.jaccard_seeds < 0.3
    assert sure.jaccard_chance == pytest.approx(0.15 / 5.85)
    again = to_jsonable_python(replace(propose(pool, strategy="kmeans", batch_size=9), advice=sure))
    assert read_proposal(again).advice == sure


def test_advice_heeds_what_is_labelled_and_excluded():
    among = {"strategy": "facility_location", "labelled": ids(0), "excluded": ids(2, 6)}
    advice = advise(propose(FAN, batch_size=3, **among), FAN, n_repeats=2, **among)
    assert advice.jaccard_seeds == 1
    assert advice.jaccard_chance == pytest.approx((9 / 7) / (6 - 9 / 7))  # 3 of 7


def test_what_a_bootstrap_sample_has_of_the_batch_is_compared_with_a_batch_of_that_size():
    # of three studies that are all alike in being unlike, the two that come first are picked, in any sample
    three = pool_of(np.eye(3))
    proposal = propose(three, strategy="facility_location", batch_size=2)
    assert advise(proposal, three, strategy="facility_location", n_repeats=60).jaccard_bootstrap == 1


def all_keys(value):
    if isinstance(value, dict):
        return set(value).union(*map(all_keys, value.values()))
    return set().union(*map(all_keys, value)) if isinstance(value, list) else set()


def assert_alike(value, golden):
    if isinstance(golden, dict):
        assert list(value) == list(golden)
        for key in golden:
            assert_alike(value[key], golden[key])
    elif isinstance(golden, list):
        assert len(value) == len(golden)
        for one, other in zip(value, golden, strict=True):
            assert_alike(one, other)
    else:
        assert type(value) is type(golden)
        assert value == (pytest.approx(golden) if isinstance(golden, float) else golden)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden_answer(), indent=2) + "\n", encoding="utf-8")


def shares_of(proposal):
    return [pick.share for pick in proposal.picks]


def clouds(seed, n_rows=120):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n_rows, 5)) + 2 * rng.normal(size=(7, 5))[rng.integers(7, size=n_rows)]
    return Pool(tuple(Sample(f"s{row:03d}") for row in range(n_rows)), vectors.astype(np.float32))


class TestOrder:
    @pytest.mark.parametrize("strategy", sorted(LARGEST_FIRST))
    def test_where_the_largest_comes_first_shares_fall_from_pick_to_pick(self, strategy):
        for seed in range(4):
            proposal = propose(clouds(seed), strategy=strategy, batch_size=9, scaling="standardise")
            assert shares_of(proposal) == sorted(shares_of(proposal), reverse=True)
            assert [pick.rank for pick in proposal.picks] == list(range(1, 10))
            assert list(proposal.coverage) == sorted(proposal.coverage)

    def test_what_is_kept_stays_on_top_and_strata_keep_their_turns(self):
        pool = clouds(1)
        strata = tuple("CT" if row % 3 else "MR" for row in range(len(pool)))
        kept = (Pick(1, "s007", 0.0), Pick(2, "s003", 0.0))
        choice = {"strategy": "kmeans", "scaling": "standardise", "guards": Guards(share="equal")}
        proposal = propose(replace(pool, strata=strata), batch_size=10, keep=kept, **choice)
        picks = proposal.picks
        assert [pick.study_id for pick in picks[:2]] == ["s007", "s003"]
        kinds = [strata[int(pick.study_id[1:])] for pick in picks[2:]]
        assert kinds in (["CT", "MR"] * 4, ["MR", "CT"] * 4)
        for kind in ("CT", "MR"):
            own = [pick.share for pick, of in zip(picks[2:], kinds, strict=True) if of == kind]
            assert own == sorted(own, reverse=True)

    def test_copies_and_what_is_unusual_stay_behind_the_others(self):
        pool = clouds(2, n_rows=30)
        vectors = np.vstack([pool.vectors, pool.vectors[:2], np.full((1, 5), (0, 0, 0, 0, 400.0), np.float32)])
        pool = Pool(tuple(Sample(f"s{row:03d}") for row in range(33)), vectors)
        guards = Guards(duplicates=0.9999, outliers="last")
        proposal = propose(pool, strategy="kmeans", batch_size=33, guards=guards)
        behind = {duplicate.study_id for duplicate in proposal.duplicates} | {*proposal.unusual}
        assert len(behind) >= 2
        assert {pick.study_id for pick in proposal.picks[-len(behind) :]} == behind

    def test_a_strategy_with_an_order_of_its_own_keeps_it(self):
        proposal = propose(clouds(0), strategy="facility_location", batch_size=9)
        scores = [pick.score for pick in proposal.picks]
        assert scores == sorted(scores, reverse=True)
        assert shares_of(proposal) != sorted(shares_of(proposal), reverse=True)
