"""With ``unit: slice`` the pool's rows are slices: embedded, chosen, told and replaced as such."""

from concurrent import futures
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import to_jsonable_python

from firstpick.board.board import Board
from firstpick.board.events import Given, Labelled, Proposed, Reserved, SavedLabel
from firstpick.embedding.cache import Cache
from firstpick.embedding.chunk import embed_chunk
from firstpick.embedding.run import embed
from firstpick.encoders import EncoderError, EncoderSpec
from firstpick.proposal import Pick, advise, n_chosen, pool_hash, propose, read_proposal, with_replacement
from firstpick.selection import LATER, NESTED, STRATEGIES, Guards, select
from firstpick.sources.folder import list_studies
from firstpick.studies import Pool, Sample, Slice
from firstpick.voxels.views import ViewSpec, make_views, view_slices
from firstpick.voxels.volumes import Volume, read_volume

AXIAL = ViewSpec(planes=("axial",), size=32, every_mm=4)
SPEC = EncoderSpec(name="pixels", views=AXIAL, unit="slice")


NOISE = np.random.default_rng(0).integers(100, 900, (3, 10, 12, 9), np.int16)


def at(index, plane="axial", spacing=5.0):
    return Slice(plane, index, index * spacing)


def fan(**degrees):
    """Make a pool of studies whose slices, 5 mm apart, lie in these directions of the plane."""
    angles = np.radians([angle for own in degrees.values() for angle in own])
    samples = [Sample(study_id, at(i)) for study_id, own in degrees.items() for i in range(len(own))]
    return Pool(tuple(samples), np.column_stack([np.cos(angles), np.sin(angles)]).round(6).astype(np.float32))


# Four regions: around 0, 60, 120 and 180 degrees. "a" has slices in three of them, "b" and "c" in two.
POOL = fan(a=(0, 2, 60, 120), b=(1, 61, 62), c=(121, 122, 180), d=(181, 182))


def test_titles_go_where_their_samples_go():
    titled = replace(POOL, titles=tuple("Knee" if study_id == "b" else "Head" for study_id in POOL.study_ids))
    assert titled.by_study().titles == ("Head", "Knee", "Head", "Head")
    assert titled.trimmed({"a": [at(1)], "b": [at(2)]}).titles == ("Head", "Knee", *["Head"] * 5)
    assert (titled.title_of("b"), titled.title_of("stranger"), POOL.title_of("b")) == ("Knee", "stranger", "b")
    with pytest.raises(ValueError, match="12 samples need as many titles, or none; got 1"):
        replace(POOL, titles=("Knee",))


def chosen(proposal):
    return {pick.study_id: [where.index for where in pick.slices] for pick in proposal.picks}


class TestEmbedding:
    def test_slices_lie_a_distance_apart_as_far_from_both_ends(self):
        volume = Volume(np.ones((6, 7, 11), np.float32), (1.0, 1.0, 3.0))
        found = view_slices(volume, ViewSpec(planes=("sagittal", "axial"), every_mm=12))
        # 5 mm of sagittal slices have room for one, in the middle; 30 mm of axial ones for 3, mm 12 to 24 +- 3
        assert found == (Slice("sagittal", 3, 3.0), at(1, spacing=3.0), at(5, spacing=3.0), at(9, spacing=3.0))

    def test_no_slice_is_shown_twice_however_small_the_distance(self):
        volume = Volume(np.ones((4, 4, 6), np.float32), (1.0, 1.0, 2.0))
        assert [s.index for s in view_slices(volume, ViewSpec(planes=("axial",), every_mm=0.1))] == [0, 1, 2, 3, 4, 5]

    def test_they_are_the_slices_that_are_shown(self):
        array = np.broadcast_to(np.arange(1, 31, dtype=np.float32), (8, 8, 30)).copy()  # slice i is all i + 1
        volume, spec = Volume(array, (1.0, 1.0, 1.0)), replace(AXIAL, percentiles=(0, 100))
        levels = make_views(volume, spec)[:, 16, 16, 0]
        shown = [where.index for where in view_slices(volume, spec)]
        np.testing.assert_allclose(levels, (np.array(shown) + 1 - 6) / 24, atol=1e-5)  # 6: above 15 % of the way

    @pytest.mark.parametrize("shape", [(9, 8, 1), (1, 9, 8), (1, 1, 9), (1, 1, 1)])
    def test_flat_volumes_and_pictures_have_as_many_as_they_can(self, shape):
        volume = Volume(np.ones(shape, np.float32), (1.0, 1.0, 1.0))
        for some in (volume, replace(volume, is_picture=True)):
            if some.is_picture and shape[2] != 1:
                continue
            assert len(view_slices(some, SPEC.views)) == len(make_views(some, SPEC.views)) >= 1

    def test_every_study_has_a_row_for_each_slice_and_comes_back_from_the_cache(self, phantom_volume, tmp_path):
        for number in range(3):
            phantom_volume.nifti(f"studies/case_{number}.nii", array=NOISE[number])
        studies = list_studies(phantom_volume.folder / "studies")[0]
        with closing(Cache(tmp_path / "state")) as cache:
            last = list(embed(studies, SPEC, cache, executor=_Inline()))[-1]
            assert (last.n_done, last.n_failed) == (3, 0)
            pool = cache.pool(SPEC.fingerprint(), studies)
        volume = read_volume(studies[1].source)
        own = pool.rows(["case_1.nii"])
        assert tuple(pool.samples[row].at for row in own) == view_slices(volume, AXIAL)
        assert len(own) > 1
        (alone,) = embed_chunk([studies[1]], SPEC).embedded
        np.testing.assert_allclose(pool.vectors[own], alone.vectors, atol=1e-5)

    def test_repeated_slices_of_a_thin_volume_count_once(self, phantom_volume):
        phantom_volume.nifti("studies/thin.nii", array=NOISE[0, :, :, :2])
        spec = replace(SPEC, views=ViewSpec(planes=("axial",), per_plane=5, size=32))
        (embedded,) = embed_chunk(list_studies(phantom_volume.folder / "studies")[0], spec).embedded
        assert [where.index for where in embedded.slices] == [0, 1]
        assert len(embedded.vectors) == 2

    def test_the_unit_is_part_of_the_recipe(self):
        assert SPEC.fingerprint() != replace(SPEC, unit="volume").fingerprint()
        assert SPEC.fingerprint() != replace(SPEC, views=replace(AXIAL, every_mm=5)).fingerprint()

    def test_an_encoder_that_sees_no_single_slices_is_refused(self, phantom_volume, monkeypatch):
        phantom_volume.nifti("studies/case.nii", array=NOISE[0])
        studies = list_studies(phantom_volume.folder / "studies")[0]
        whole = lambda self, volume: np.zeros((1, 4), np.float32)  # noqa: E731
        monkeypatch.setattr("firstpick.encoders.pixels.Pixels.parts", whole)
        with pytest.raises(EncoderError, match=r"does not look at single slices.*unit: volume"):
            embed_chunk(studies, replace(SPEC, views=replace(AXIAL, every_mm=3)))


class _Inline:
    def submit(self, function, chunk, spec):
        future = futures.Future()
        future.set_result(function(chunk, spec))
        return future


class TestSelecting:
    X = np.vstack([np.random.default_rng(0).normal(size=(40, 8)) + 4 * np.eye(8)[i % 8] for i in range(6)])
    slices = tuple((f"s{row // 40}", "axial" if row % 40 < 30 else "coronal", 2.0 * (row % 40)) for row in range(240))

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_no_study_has_too_many_and_no_two_lie_too_close(self, strategy):
        guards = Guards(max_per_study=3, min_distance_mm=9)
        found = select(strategy, self.X, 14, slices=self.slices, labelled=[0, 41], guards=guards).indices
        assert len(set(found)) == 14
        picked = [self.slices[row] for row in (*found, 0, 41)]
        for study, plane, mm in picked:
            assert sum(other[0] == study for other in picked) <= 3
            beside = [other for other in picked if other[:2] == (study, plane)]
            assert all(abs(other[2] - mm) >= 9 for other in beside if other[2] != mm)

    @pytest.mark.parametrize("strategy", sorted(NESTED - LATER.keys()))
    def test_a_smaller_batch_stays_the_start_of_a_larger_one(self, strategy):
        guards = Guards(max_per_study=3, min_distance_mm=9)
        small, large = (select(strategy, self.X, n, slices=self.slices, guards=guards).indices for n in (6, 12))
        assert large[:6].tolist() == small.tolist()

    def test_the_distance_is_kept_to_even_if_the_batch_gets_smaller(self):
        # 30 axial slices 2 mm apart have room for 2 that are 30 mm apart, or 1; 10 coronal ones, 18 mm, for 1
        guards = Guards(min_distance_mm=40)
        found = select("random", self.X, 240, slices=self.slices, guards=guards).indices
        assert 12 <= len(found) <= 18
        assert len(select("random", self.X, 100, slices=self.slices, guards=Guards(max_per_study=1)).indices) == 6

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_no_study_gives_a_second_slice_while_another_has_given_none(self, strategy):
        lopsided = self.X + 9 * np.eye(8)[0] * (np.arange(240) >= 200)[:, None] * np.arange(240)[:, None] % 40
        given = [0, 1, 2, 3, 4, 5]
        for n_select, wanted in ((8, [1, 1, 1, 1, 2, 2]), (15, [2, 2, 2, 3, 3, 3])):
            guards = Guards(max_per_study=3)
            found = select(strategy, lopsided, n_select, slices=self.slices, guards=guards, starts=1).indices
            assert sorted(sum(self.slices[row][0] == f"s{study}" for row in found) for study in given) == wanted

    def test_of_a_patient_studies_count_not_slices(self):
        groups = ["p" if study in ("s0", "s1", "s2") else study for study, _, _ in self.slices]
        guards = Guards(max_per_group=1, max_per_study=4)
        found = select("kmeans", self.X, 16, slices=self.slices, groups=groups, guards=guards).indices
        studies = [self.slices[row][0] for row in found]
        assert len({*studies} & {"s0", "s1", "s2"}) == 1
        assert len(studies) == 16

    def test_a_stratum_without_room_leaves_its_share_to_the_others(self):
        strata = ["one" if study == "s0" else "rest" for study, _, _ in self.slices]
        guards = Guards(share="equal", max_per_study=3)
        found = select("kmeans", self.X, 12, slices=self.slices, strata=strata, guards=guards).indices
        assert len(found) == 12
        assert sum(self.slices[row][0] == "s0" for row in found) == 3

    def test_a_large_stratum_in_which_all_is_labelled_takes_nobodys_place(self):
        strata = ["full" if study != "s5" else "free" for study, _, _ in self.slices]
        full = [40 * study + slice_ for study in range(5) for slice_ in range(3)]
        guards = Guards(share="equal", max_per_study=3)
        found = select("random", self.X, 3, slices=self.slices, strata=strata, labelled=full, guards=guards).indices
        assert {self.slices[row][0] for row in found} == {"s5"}
        assert len(found) == 3

    @settings(deadline=None, max_examples=60)
    @given(data=st.data())
    def test_any_mixture_keeps_to_all_of_it(self, data):
        n_rows = data.draw(st.integers(2, 30))
        X = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=n_rows, max_size=n_rows))
        studies = data.draw(st.lists(st.sampled_from("abcd"), min_size=n_rows, max_size=n_rows))
        slices = [
            (study, data.draw(st.sampled_from(["axial", "coronal"])), float(i)) for i, study in enumerate(studies)
        ]
        guards = Guards(
            max_per_study=data.draw(st.integers(0, 3)),
            min_distance_mm=data.draw(st.sampled_from([0.0, 2.5, 7.0])),
            max_per_group=data.draw(st.integers(0, 2)),
            duplicates=data.draw(st.sampled_from([0.0, 0.999])),
        )
        groups = [
            data.draw(st.sampled_from(["p", "q", ""])) if i == studies.index(s) else "" for i, s in enumerate(studies)
        ]
        groups = [groups[studies.index(study)] for study in studies]
        n_select = data.draw(st.integers(1, n_rows))
        strategy = data.draw(st.sampled_from(["kmeans", "facility_location", "random"]))
        found = select(
            strategy, np.array(X) + 1.0, n_select, slices=slices, groups=groups, guards=guards
        ).indices.tolist()
        assert len(found) == len(set(found)) <= n_select

        def room(row):
            own = [slices[other] for other in found if other != row and slices[other][0] == slices[row][0]]
            near = [
                mm
                for _, plane, mm in own
                if plane == slices[row][1] and abs(mm - slices[row][2]) < guards.min_distance_mm
            ]
            return not near and len(own) < (guards.max_per_study or n_rows)

        assert all(room(row) for row in found)
        if len(found) < n_select:
            assert not any(room(row) for row in range(n_rows) if row not in found)


class TestProposal:
    def test_picks_are_studies_with_their_slices(self):
        proposal = propose(POOL, strategy="kmeans", batch_size=4, guards=Guards(max_per_study=2, min_distance_mm=8))
        # the middle of each region: a0, b0 or a1; b1; c0 or c1; d0 (180, 181, 182)
        picks = chosen(proposal)
        assert n_chosen(proposal.picks) == 4
        assert picks["d"] == [0]
        assert 1 in picks["b"]
        assert sum(pick.share for pick in proposal.picks) == pytest.approx(1)
        assert sum(pick.stands_for for pick in proposal.picks) == 12
        assert (proposal.n_pool, proposal.note) == (4, "")
        assert proposal.coverage == tuple(sorted(proposal.coverage))

    def test_slices_of_one_study_are_one_pick_that_stands_for_all_of_theirs(self):
        pool = fan(a=(0, 90, 180), b=(1, 91), c=(179, 178))
        kept = Pick(0, "a", 0.0, (at(0), at(1), at(2)))
        (pick,) = propose(pool, strategy="kmeans", batch_size=3, keep=[kept]).picks
        assert (pick.share, pick.stands_for, pick.slices) == (1.0, 7, kept.slices)
        assert pick.lookalikes == ("b", "c")
        assert pick.reason == "Axial 0, 1, 2: stands for 7 of the 7 unlabelled slices (100 %); most like b, c."

    def test_of_a_kept_study_no_other_slice_is_picked(self):
        kept = Pick(0, "a", 0.0, (at(0),))
        proposal = propose(POOL, strategy="facility_location", batch_size=9, keep=[kept])
        assert chosen(proposal)["a"] == [0]
        assert n_chosen(proposal.picks) == 9

    def test_of_an_annotated_study_those_slices_are_labelled_and_the_others_out(self):
        pool = POOL.trimmed({"a": (at(0), at(3)), "b": ()})
        assert [sample.at.index for sample in pool.samples if sample.study_id == "a"] == [0, 3]
        proposal = propose(pool, strategy="kcenter", batch_size=2, labelled=["a"], trim=0.0)
        # 0 and 120 are labelled: farthest is 182 (62 away), then 61 (59 from 120); 122 is nearer to 182
        assert chosen(proposal) == {"d": [1], "b": [1]}
        assert proposal.n_labelled == 1
        assert proposal.picks[0].reason.startswith("Axial 1: stands for 4 of the 8 unlabelled slices")

    def test_a_slice_that_was_annotated_but_is_no_row_any_more_counts_as_the_nearest(self):
        between = Slice("axial", 99, 11.0)
        assert [sample.at.index for sample in POOL.trimmed({"a": (between,)}).samples if sample.study_id == "a"] == [2]
        assert len(POOL.trimmed({"a": (Slice("coronal", 0, 0.0),)}).rows(["a"])) == 0

    def test_too_few_slices_is_said(self):
        proposal = propose(POOL, strategy="kmeans", batch_size=9, guards=Guards(max_per_study=1))
        assert proposal.note == "Only 4 of the 9 asked for: no more unlabelled slices far enough from these."

    def test_copies_and_unusual_slices_make_a_study_so_only_if_most_are(self):
        pool = fan(a=(0, 30, 60), b=(0, 30, 99), c=(0, 140, 180))
        proposal = propose(pool, strategy="kmeans", batch_size=2, guards=Guards(duplicates=0.9999))
        assert [(d.study_id, d.duplicate_of) for d in proposal.duplicates] == [("b", "a")]

    def test_a_skipped_pick_is_replaced_slice_by_slice_within_one_study(self):
        pool = fan(a=(0, 90), b=(3, 50, 95), c=(10, 92), d=(180,))
        made = propose(pool, strategy="kmeans", batch_size=2, keep=[Pick(0, "a", 0.0, (at(0), at(1)))])
        after = with_replacement(made, pool, "a", labelled=[], excluded=[])
        (pick,) = after.picks
        assert (pick.study_id, pick.replaces) == ("b", "a")
        assert pick.slices == (at(0), at(2))

    def test_a_replacement_keeps_the_distance(self):
        pool = fan(a=(0, 3), b=(1, 3, 40))
        made = propose(
            pool,
            strategy="kmeans",
            batch_size=2,
            guards=Guards(min_distance_mm=6),
            keep=[Pick(0, "a", 0.0, (at(0), at(1)))],
        )
        after = with_replacement(made, pool, "a", labelled=[], excluded=[])
        assert chosen(after) == {"b": [0, 2]}

    def test_json_there_and_back(self):
        proposal = propose(POOL, strategy="kmeans", batch_size=4)
        data = to_jsonable_python(proposal)
        assert data["picks"][0]["slices"][0].keys() == {"plane", "index", "position_mm"}
        assert read_proposal(data) == proposal

    def test_advice_compares_studies(self):
        proposal = propose(POOL, strategy="facility_location", batch_size=4)
        advice = advise(proposal, POOL, strategy="facility_location")
        assert advice.jaccard_seeds == 1.0
        assert 0 < advice.jaccard_bootstrap <= 1
        n_studies, common = len(proposal.picks), len(proposal.picks) ** 2 / 4
        assert advice.jaccard_chance == pytest.approx(common / (2 * n_studies - common))

    def test_the_pools_hash_knows_the_slices(self):
        moved = replace(POOL, samples=(*POOL.samples[:-1], Sample("d", at(7))))
        assert pool_hash(moved) != pool_hash(POOL)


def labelled(study_id, client, given=None):
    label = SavedLabel(".nii", "", {"client_id": client})
    return Labelled(study_id=study_id, client=client, tag="final", label=label, given=given)


def test_a_done_study_was_annotated_where_its_reader_was_given_it():
    proposal = propose(POOL, strategy="kmeans", batch_size=12)
    of_b = next(pick.slices for pick in proposal.picks if pick.study_id == "b")
    board = Board().after(Proposed(proposal=proposal))
    board = board.after(
        Reserved(study_id="a", client="alice", seconds=60, given=Given("random", (at(1), at(3)))),
        labelled("a", "alice", board.proposed("a")),
        labelled("b", "bob", board.proposed("b")),
        labelled("elsewhere", ""),
    )
    assert board.annotated == {"a": (at(1), at(3)), "b": of_b, "elsewhere": ()}
