"""Several sequences, one study: which belong together, whatever the order of files and whichever of them there are."""

import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstpick.config import ConfigError, load_config
from firstpick.embedding.cache import Cache, Embedded
from firstpick.embedding.run import embed
from firstpick.embedding.series import MOST_NAMES, grid_text, pool_series, same_grid
from firstpick.encoders import EncoderSpec
from firstpick.evaluate.bench import make_bench
from firstpick.sources.attributes import read_attribute
from firstpick.sources.eligibility import Facts
from firstpick.sources.folder import list_studies
from firstpick.sources.names import names_of
from firstpick.sources.series import SeriesRule, joined, notes_on
from firstpick.studies import Slice, Study
from firstpick.voxels.served import serve_file, served_path
from firstpick.voxels.views import ViewSpec
from firstpick.voxels.volumes import Volume, VolumeError, read_volume
from firstpick.workers import LocalPool

BRATS = r"regex:^(?P<study>.+)_(?P<series>t1|t1ce|t2|flair)$"
BRAINS = r"regex:^(?P<study>(?:cs_)?patient[0-9]+(?:_study[0-9])?)_(?P<series>.+)$"


def files(*names, patient=""):
    """Files as they are listed."""
    return [(Study(name, f"stamp of {name}", f"/data/{name}", patient=patient), Facts()) for name in names]


def named(studies):
    """Names of the series of each study."""
    return {study.study_id: [one.name for one in study.series] for study in studies}


def listed(folder, by, **rule):
    return list_studies(folder, series=SeriesRule(by, **rule))


# -- laws of what belongs together

CASES = st.dictionaries(
    st.sampled_from(["a", "b", "ward/a", "a_t9", "ä"]),
    st.sets(st.sampled_from(["t1", "t1ce", "t2", "flair"]), min_size=1),
    min_size=1,
)


@given(CASES, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_a_shuffled_listing_gives_the_same_studies(cases, random):
    found = files(*(f"{case}_{name}.nii.gz" for case, names in cases.items() for name in names), "phantom.nii")
    studies, left_out, notes = joined(found, SeriesRule(BRATS))
    random.shuffle(found)
    assert joined(found, SeriesRule(BRATS)) == (studies, left_out, notes)
    assert {i: {*names} for i, names in named(studies).items()} == {**cases, "phantom.nii": set()}
    assert left_out == []


@given(CASES, st.data())
@settings(max_examples=50, deadline=None)
def test_a_series_that_is_missing_changes_neither_ids_nor_what_is_in_other_studies(cases, data):
    found = files(*(f"{case}_{name}.nii.gz" for case, names in cases.items() for name in names))
    before, _, _ = joined(found, SeriesRule(BRATS))
    gone = data.draw(st.sampled_from(found))
    after, _, _ = joined([one for one in found if one is not gone], SeriesRule(BRATS))
    changed = [study for study in before if gone[0].study_id in {one.study_id for one in study.series}]
    assert [study for study in after if study.study_id != changed[0].study_id] == [
        study for study in before if study.study_id != changed[0].study_id
    ]
    if len(changed[0].series) > 1:
        (left,) = (study for study in after if study.study_id == changed[0].study_id)
        assert left.stamp != changed[0].stamp
        assert {one.study_id for one in left.series} == {one.study_id for one in changed[0].series} - {gone[0].study_id}
        if changed[0].primary.study_id != gone[0].study_id:
            assert left.primary == changed[0].primary


SERIES = st.tuples(
    st.sampled_from("ab"),
    st.sampled_from(["t1", "t2", "t3"]),
    st.sampled_from(["", "p", "q"]),
    st.sampled_from(["", "1", "2"]),
)


@given(st.lists(SERIES))
@settings(max_examples=100, deadline=None)
def test_no_study_ever_holds_series_of_two_patients_and_nothing_vanishes_unsaid(found):
    pairs = [
        (
            Study(f"{folder}/{number}", "", f"/{number}", f"{folder}/{name}", patient=patient, folder=folder),
            Facts("MR", name, visit=visit),
        )
        for number, (folder, name, patient, visit) in enumerate(found)
    ]
    studies, left_out, _ = joined(pairs, SeriesRule("folder"))
    for study in studies:
        assert len({one.patient for one in study.series} - {""}) <= 1
        assert {one.patient for one in study.series} - {""} == {study.patient} - {""}
        assert len({one.name for one in study.series}) == len(study.series)
    kept = [one.study_id for study in studies for one in study.series]
    assert sorted([*kept, *(item.study_id for item in left_out)]) == sorted(study.study_id for study, _ in pairs)
    assert all(item.reason for item in left_out)


def test_a_series_of_another_patient_is_left_out_and_that_is_said():
    found = [*files("a_t1.nii", patient="1"), *files("a_t2.nii", patient="2"), *files("a_flair.nii")]
    studies, left_out, _ = joined(found, SeriesRule(BRATS, ("t1",)))
    assert named(studies) == {"a": ["t1", "flair"]}
    (item,) = left_out
    assert item.study_id == "a_t2.nii"
    assert item.reason == "its headers name another patient than those of a_t1.nii, with which it would be one study"


def test_of_patients_with_a_placeholder_for_an_id_the_visits_tell():
    found = [
        (Study(f"p/{name}", "", "", f"p/{name}", patient=patient, folder="p"), Facts("MR", name, visit=visit))
        for name, patient, visit in (("a", "", "1"), ("b", "", "1"), ("c", "", "2"), ("d", "", ""), ("e", "P", "1"))
    ]
    studies, left_out, _ = joined(found, SeriesRule("folder"))
    assert named(studies) == {"p": ["a", "b", "d", "e"]}
    assert [(item.study_id, "another visit" in item.reason) for item in left_out] == [("p/c", True)]


def test_of_two_series_of_one_name_the_first_is_taken_and_both_are_said():
    studies, left_out, _ = joined(files("a_t1.nii", "a_t1.nii.gz", "a_t2.nii"), SeriesRule(BRATS))
    assert named(studies) == {"a": ["t1", "t2"]}
    assert studies[0].primary.study_id == "a_t1.nii"
    assert (left_out[0].study_id, left_out[0].reason) == (
        "a_t1.nii.gz",
        "study 'a' has a series 't1' already: a_t1.nii (a_t1.nii)",
    )


def test_a_file_whose_id_a_study_of_several_has_is_left_out():
    studies, left_out, _ = joined(files("a_t1.nii", "a"), SeriesRule(BRATS))
    assert [study.study_id for study in studies] == ["a"]
    assert [item.study_id for item in left_out] == ["a"]


# -- the primary


@pytest.mark.parametrize(
    ("primary", "expected"),
    [
        ((), ["flair", "t1", "t1ce", "t2"]),
        (("t1ce",), ["t1ce", "flair", "t1", "t2"]),
        (("T1CE", "t2"), ["t1ce", "flair", "t1", "t2"]),
        (("dwi", "*2"), ["t2", "flair", "t1", "t1ce"]),
        (("dwi",), ["flair", "t1", "t1ce", "t2"]),
    ],
)
def test_the_primary_is_the_first_that_is_wanted_else_the_first_by_name(primary, expected):
    found = files("a_t2.nii", "a_t1ce.nii", "a_flair.nii", "a_t1.nii")
    (study,) = joined(found, SeriesRule(BRATS, primary))[0]
    assert [one.name for one in study.series] == expected
    assert (study.source, study.primary.name) == (f"/data/a_{expected[0]}.nii", expected[0])


def test_the_primary_may_be_wanted_by_modality():
    pair = [
        (Study(name, "", f"/{name}", f"p/{name}", modality=modality, folder="p"), Facts(modality, name))
        for name, modality in (("AC", "PT"), ("Thorax", "CT"))
    ]
    assert named(joined(pair, SeriesRule("folder", ("ct",)))[0]) == {"p": ["Thorax", "AC"]}


# -- rules


def test_nnunet_names_are_studies_of_their_channels(phantom_volume):
    for name in ("case_0000", "case_0001", "sub/other_0000", "lonely"):
        phantom_volume.nifti(f"{name}.nii.gz")
    studies, left_out = listed(phantom_volume.folder, "nnunet")
    assert named(studies) == {"case": ["0000", "0001"], "lonely.nii.gz": [], "sub/other": ["0000"]}
    assert left_out == []


@pytest.mark.parametrize(
    ("path", "study_id", "name"),
    [
        ("BraTS_7/BraTS_7_flair.nii.gz", "BraTS_7", "flair"),
        ("sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat", "T1w"),
        ("sub-1/ses-2/anat/sub-1_ses-2_T1w.nii.gz", "sub-1/ses-2/anat", "T1w"),
        ("p1/t1.nii", "p1", "t1"),
        ("1/12.nii", "1", "12"),
        ("p/p.nii", "p", "p"),
        ("p/..nii", "p", "series"),
    ],
)
def test_a_folder_is_a_study_whose_series_are_called_without_what_repeats_its_name(path, study_id, name):
    (listed_one, facts), *_ = files(path)
    found = [(replace(listed_one, folder=path.rpartition("/")[0]), facts)]
    assert named(joined(found, SeriesRule("folder"))[0]) == {study_id: [name]}


def test_dicom_series_of_one_visit_are_one_study_and_two_patients_never_are(phantom_volume):
    visit = {"StudyInstanceUID": "1.9", "PatientID": "P1"}
    phantom_volume.series("p1/a", uid="1.2.1", SeriesDescription="AX T1", **visit)
    phantom_volume.series("p1/b", uid="1.2.2", SeriesDescription="AX/T2", **visit)
    phantom_volume.series("p2", uid="1.2.3", SeriesDescription="AX T1", **{**visit, "PatientID": "P2"})
    phantom_volume.series("p3", uid="1.2.4")
    phantom_volume.nifti("plain.nii")
    studies, left_out = listed(phantom_volume.folder, "study_uid")
    by_name = {tuple(one.name for one in study.series): study for study in studies}
    assert left_out == []
    assert len(studies) == 4
    both = by_name["AX T1", "AX-T2"]
    assert (both.study_id.rpartition("-")[0], both.title) == ("1.9", "p1")
    assert both.study_id != by_name[("AX T1",)].study_id
    assert both.patient
    assert read_volume(both).array.shape == (10, 12, 8)
    shutil.rmtree(phantom_volume.folder / "p1" / "a")
    assert both.study_id in {study.study_id for study in listed(phantom_volume.folder, "study_uid")[0]}


def test_frames_of_one_file_are_series_each_with_its_own_voxels(phantom_volume, tmp_path):
    frames = np.stack([phantom_volume.array, phantom_volume.array + 5], axis=-1)
    phantom_volume.folder = tmp_path / "studies"
    phantom_volume.folder.mkdir()
    nib.save(nib.Nifti1Image(frames, np.diag([*phantom_volume.spacing, 1])), phantom_volume.folder / "both.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 20), np.int16), np.eye(4)), phantom_volume.folder / "time.nii.gz")
    phantom_volume.nifti("one.nii.gz")
    studies, _ = listed(phantom_volume.folder, "4d", primary=("0001",))
    assert named(studies) == {"both.nii.gz": ["0001", "0000"], "one.nii.gz": [], "time.nii.gz": []}
    both = studies[0]
    second, first = both.series
    np.testing.assert_array_equal(read_volume(first).array, phantom_volume.array)
    np.testing.assert_array_equal(read_volume(second).array, phantom_volume.array + 5)
    np.testing.assert_array_equal(read_volume(both).array, phantom_volume.array + 5)
    assert read_volume(first).notes == ()
    for one in both.series:
        path = serve_file(one, tmp_path / "served")
        np.testing.assert_array_equal(read_volume(path).array, read_volume(one).array)
    assert served_path(first, ".nii.gz", tmp_path) != served_path(second, ".nii.gz", tmp_path)
    with pytest.raises(VolumeError, match="has 2 frames"):
        read_volume(replace(first, frame=2))


def test_what_no_rule_fits_is_a_study_of_its_own_and_that_is_said(phantom_volume, caplog):
    for name in ("a_t1", "a_t2", "phantom"):
        phantom_volume.nifti(f"{name}.nii")
    studies, _ = listed(phantom_volume.folder, BRATS)
    assert named(studies) == {"a": ["t1", "t2"], "phantom.nii": []}
    assert "1 of 3 files and DICOM series does not fit series.by" in caplog.text


def test_without_a_rule_each_file_is_a_study(phantom_volume):
    phantom_volume.nifti("a_t1.nii")
    (study,) = list_studies(phantom_volume.folder)[0]
    assert (study.series, study.members, study.primary) == ((), (study,), study)


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"series.by": "fodler"}, "by 'fodler' is not known. Take folder, nnunet, study_uid, 4d or regex:PATTERN"),
        ({"series.by": "regex:("}, "by 'regex:(' is not a regular expression"),
        ({"series.by": "regex:(?P<study>.)"}, "(?P<series>...) is missing"),
        ({"series.by": "regex:x"}, "(?P<series>...) and (?P<study>...) is missing"),
        ({"series.pool": "sum"}, "pool 'sum' is not known. Choose one of join, mean."),
        ({"series.buy": "folder"}, "Did you mean 'series.by'?"),
    ],
)
def test_a_wrong_rule_is_said_at_the_door(conf, said):
    with pytest.raises(ConfigError) as error:
        load_config(None, conf)
    assert said in str(error.value)


def test_labels_and_tables_may_name_a_study_or_any_of_its_files():
    (study,) = joined(files("w/a_t1.nii.gz", "w/a_t2.nii.gz"), SeriesRule(BRATS))[0]
    assert {"w/a", "w/a_t1", "w/a_t2.nii.gz"} <= names_of(study)
    assert read_attribute([study], "id:(.)$") == {"w/a": "a"}


# -- one embedding


def rows(**of):
    return {name: np.float32(values) for name, values in of.items()}


def test_a_name_that_a_study_lacks_makes_it_neither_near_nor_far():
    each = [rows(t1=[0, 0], t2=[8, 0]), rows(t1=[2, 0], t2=[0, 8]), rows(t1=[1, 0])]
    found = pool_series(each, "join")
    assert found.tolist() == [[0, 0, 8, 0], [2, 0, 0, 8], [1, 0, 4, 4]]
    away = np.linalg.norm(found[2] - found[:2], axis=1)
    assert away[0] == away[1] < np.linalg.norm(found[0] - found[1])


def test_the_mean_is_of_the_series_that_are_there():
    assert pool_series([rows(t1=[0, 2], t2=[2, 4]), rows(t2=[6, 6])], "mean").tolist() == [[1, 3], [6, 6]]


def test_a_study_that_is_not_of_several_has_its_own_row_under_each_name():
    each = [rows(t1=[1], t2=[2]), {"": np.float32([5])}]
    assert pool_series(each, "join").tolist() == [[1, 2], [5, 5]]


def test_only_so_many_names_are_joined_the_most_common(caplog):
    names = [f"s{number:02d}" for number in range(MOST_NAMES + 1)]
    each = [rows(**{name: [number]}) for number, name in enumerate(names)] + [rows(**{names[-1]: [99]})]
    found = pool_series(each, "join")
    assert found.shape == (len(each), MOST_NAMES)
    assert found[-1].max() == 99  # the last name is the most common
    assert "series.pool: mean" in caplog.text


def test_grids_are_told_apart():
    volume = Volume(np.zeros((4, 5, 6), np.float32), (1.0, 1.0, 2.0))
    text = grid_text(volume)
    assert same_grid(text, text)
    assert same_grid(text, "")
    assert same_grid(text, grid_text(replace(volume, affine=volume.affine + 1e-5)))
    assert not same_grid(text, grid_text(Volume(np.zeros((4, 5, 7), np.float32), (1.0, 1.0, 2.0))))
    assert not same_grid(text, grid_text(Volume(volume.array, (1.0, 1.0, 2.1))))


def test_only_what_is_new_is_embedded_when_series_come_go_or_become_one(phantom_volume, tmp_path):
    spec = EncoderSpec("pixels", views=ViewSpec(size=32, per_plane=1))
    phantom_volume.folder = tmp_path / "studies"
    for number, name in enumerate(("a_t1", "a_t2", "b_t1")):
        phantom_volume.nifti(f"{name}.nii", array=phantom_volume.array + 100 * number)
    cache = Cache(tmp_path / "state")
    singles = list_studies(phantom_volume.folder)[0]
    assert [at.n_total for at in embed(singles, spec, cache)][-1] == 3
    studies = listed(phantom_volume.folder, BRATS)[0]
    assert cache.missing(spec.fingerprint(), studies) == []
    pool = cache.pool(spec.fingerprint(), studies)
    single = cache.pool(spec.fingerprint(), singles)
    assert pool.study_ids == ("a", "b")
    np.testing.assert_array_equal(pool.vectors[0], np.concatenate(single.vectors[:2]))
    np.testing.assert_array_equal(pool.vectors[1], np.concatenate([single.vectors[2], single.vectors[1]]))
    assert (
        cache.pool(spec.fingerprint(), studies, series_pool="mean").vectors.shape == single.by_study().vectors[:2].shape
    )
    phantom_volume.nifti("b_t2.nii")
    (phantom_volume.folder / "a_t2.nii").write_bytes(b"no image")
    studies = listed(phantom_volume.folder, BRATS)[0]
    assert [one.study_id for one in cache.missing(spec.fingerprint(), studies)] == ["a_t2.nii", "b_t2.nii"]
    assert cache.pool(spec.fingerprint(), studies).study_ids == ()
    *_, last = embed(studies, spec, cache)
    assert (last.n_total, last.n_done, last.n_failed) == (2, 2, 0)
    assert cache.pool(spec.fingerprint(), studies).study_ids == ("a", "b")
    assert cache.failures(spec.fingerprint(), studies) == []
    odd = cache.odd_series(spec.fingerprint(), studies)
    assert odd.keys() == {"a"}
    assert odd["a"]["t2"].startswith("cannot be read: a_t2.nii")
    cache.close()


def test_a_study_fails_with_its_primary_alone(tmp_path):
    (study,) = joined(files("a_t1.nii", "a_t2.nii"), SeriesRule(BRATS))[0]
    cache = Cache(tmp_path)
    cache.put_failure("f", study.primary, "It is empty.")
    assert [(item.study_id, item.reason) for item in cache.failures("f", [study])] == [("a", "It is empty.")]
    assert [one.name for one in cache.missing("f", [study])] == ["t2"]
    cache.close()


def test_slices_are_those_of_the_primary(tmp_path):
    (study,) = joined(files("a_t1.nii", "a_t2.nii"), SeriesRule(BRATS, ("t2",)))[0]
    cache = Cache(tmp_path)
    at = (Slice("axial", 0, 0.0), Slice("axial", 1, 2.0))
    for number, one in enumerate(study.series):
        cache.put("f", [Embedded(one, np.full((2, 3), number, np.float32), at, b"", (), "")])
    pool = cache.pool("f", [study])
    assert [sample.at for sample in pool.samples] == list(at)
    assert pool.vectors.max() == 0
    cache.close()


def test_a_comparison_takes_labels_of_studies_and_joins_their_series(phantom_volume, tmp_path):
    spec = EncoderSpec("pixels", views=ViewSpec(size=32, per_plane=1))
    phantom_volume.folder = tmp_path / "studies"
    for number, name in enumerate(("a_t1", "a_t2", "b_t1", "b_t2", "c_t2")):
        phantom_volume.nifti(f"{name}.nii", array=phantom_volume.array + 100 * number)
    table = tmp_path / "classes.csv"
    table.write_text("study,class\na,one\nb,two\nc_t2,two\n", encoding="utf-8")
    studies, cache = listed(phantom_volume.folder, BRATS)[0], Cache(tmp_path / "state")
    benches = {}
    with LocalPool(n_workers=1) as executor:
        for pool in ("join", "mean"):
            work = make_bench(studies, str(table), [spec], cache, executor, series_pool=pool)
            benches[pool] = _result_of(work)
    joined_bench, mean = benches["join"], benches["mean"]
    assert [study.study_id for study in joined_bench.studies] == ["a", "b", "c"]
    assert joined_bench.classes == ("one", "two", "two")
    assert joined_bench.features["pixels"].shape[1] == 2 * mean.features["pixels"].shape[1]
    assert joined_bench.fingerprints != mean.fingerprints
    cache.close()


def _result_of(work):
    """What a generator returns."""
    try:
        while True:
            next(work)
    except StopIteration as end:
        return end.value


def test_notes_name_the_series_that_half_of_the_studies_have():
    found = files("a_t1.nii", "a_t2.nii", "b_T1.nii", "b_T2.nii", "c_t1.nii", "x_flair.nii")
    studies = joined(found, SeriesRule(r"regex:^(?P<study>.)_(?P<series>.+)$"))[0]
    notes = notes_on(studies, {"a": ("t1: first of 2 frames taken",)}, {"a": {"t2": "has another grid than t1"}})
    lacking = {"c": ["it has no T2"], "x": ["it has no t1", "it has no T2"]}
    assert notes == {"a": ["t1: first of 2 frames taken", "t2 has another grid than t1"], **lacking}


# -- real brains


def test_the_brains_are_fourteen_studies(shared_data):
    source = shared_data / "brain_ms_mr" / "images"
    studies, left_out = listed(source, BRAINS)
    assert (len(studies), sum(len(study.series) for study in studies), left_out) == (14, 38, [])
    for study in studies:
        assert all(one.study_id.startswith(f"{study.study_id}_") for one in study.series)
