"""Which studies a folder holds, what they are called, and which are left out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from firstpick.sources import eligibility
from firstpick.sources.folder import Eligibility, list_studies
from firstpick.studies import Study
from firstpick.voxels import dicom
from firstpick.voxels.formats import ENDINGS
from firstpick.voxels.volumes import read_volume

PICTURE = np.zeros((4, 5), np.uint8)
PLACE = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}


def ids(folder, **kwargs):
    studies, _ = list_studies(folder, **kwargs)
    return [study.study_id for study in studies]


def reasons(folder, **kwargs):
    _, left_out = list_studies(folder, **kwargs)
    return {entry.study_id: entry.reason for entry in left_out}


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_ids_are_paths_without_their_ending(tmp_path):
    touch(tmp_path, *(f"s{index}{ending}" for index, ending in enumerate(ENDINGS)))
    touch(tmp_path, "a/b/c/Ünï cödé 1.v2.NII.GZ", "z.JPG")
    expected = [*(f"s{index}" for index in range(len(ENDINGS))), "a/b/c/Ünï cödé 1.v2", "z"]
    assert ids(tmp_path) == sorted(expected)


def test_ids_of_a_flat_folder_are_monai_labels(tmp_path):
    local = pytest.importorskip("monailabel.datastore.local", reason="the ids to agree with are MONAI Label's")
    names = ["a.nii.gz", "b c.nii", "d.e.nrrd", "f.png"]
    touch(tmp_path, *names)
    store = local.LocalDatastore.__new__(local.LocalDatastore)
    store._extensions = ["*.nii.gz", "*.nii", "*.nrrd", "*.png"]
    assert ids(tmp_path) == sorted(store._to_id(name)[0] for name in names)


def test_of_files_that_differ_in_their_ending_the_first_in_the_table_has_the_bare_id(tmp_path):
    touch(tmp_path, "a.nii.gz", "a.nii", "a.png", "a.nii.png")
    studies, _ = list_studies(tmp_path)
    assert {study.study_id: Path(study.source).name for study in studies} == {
        "a": "a.nii.gz",
        "a.nii": "a.nii",
        "a.nii.png": "a.nii.png",
        "a.png": "a.png",
    }


def test_ids_are_unique_whatever_the_names(phantom_volume):
    folder = phantom_volume.folder
    phantom_volume.series("ct", uid="1.2.3")
    touch(folder, "ct.nii", "ct/1.2.3.nii", "ct.dcm", "x.dcm", "x.ima", "x.DCM")
    names = ids(folder)
    assert len(names) == len(set(names)) == 7
    assert {"ct", "ct.dcm", "ct/1.2.3", "ct/1.2.3-2", "x"} < set(names)


def test_source_and_stamp_of_a_file(tmp_path):
    touch(tmp_path, "a/b.nii")
    (study,) = list_studies(tmp_path)[0]
    stat = (tmp_path / "a/b.nii").stat()
    assert study == Study("a/b", f"1-{stat.st_mtime_ns}", str(tmp_path / "a" / "b.nii"))


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr"])
def test_the_stamp_changes_with_the_voxels_of_a_detached_header(tmp_path, name):
    touch(tmp_path, name, "a.raw")
    before = list_studies(tmp_path)[0]
    (tmp_path / "a.raw").write_bytes(b"other")
    assert list_studies(tmp_path)[0] != before
    assert ids(tmp_path) == ["a"]


def test_hidden_files_and_monai_labels_own_are_passed_over(tmp_path):
    touch(tmp_path, ".a.nii", ".lock", ".hidden/b.nii", "labels/final/c.nii", "labels/original/c.nii", "c.nii")
    touch(tmp_path, "datastore_v2.json", "notes.txt", "sub/labels/final/d.nii")
    assert ids(tmp_path) == ["c", "sub/labels/final/d"]
    touch(tmp_path / "other", "labels/e.nii")
    assert ids(tmp_path / "other") == ["labels/e"]


def test_links_are_followed_once_and_never_in_a_circle(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    touch(root, "z/a.nii")
    touch(outside, "b.nii", "c.nii")
    (root / "a-link-to-z").symlink_to(root / "z")
    (root / "z" / "circle").symlink_to(root)
    (root / "outside").symlink_to(outside)
    (root / "file.nii").symlink_to(outside / "c.nii")
    (root / "broken.nii").symlink_to(outside / "gone.nii")
    (root / "itself.nii").symlink_to(root / "itself.nii")
    assert ids(root) == ["file", "outside/b", "outside/c", "z/a"]


def test_a_file_that_vanishes_meanwhile_is_skipped(tmp_path, monkeypatch):
    touch(tmp_path, "a.nii", "b.nii")
    scandir = os.scandir

    def remove_after(path):
        entries = scandir(path)
        found = list(entries)
        entries.close()
        (tmp_path / "a.nii").unlink()
        return _Entries(found)

    monkeypatch.setattr("firstpick.sources.folder.os.scandir", remove_after)
    assert ids(tmp_path) == ["b"]


def test_a_dicom_file_that_vanishes_meanwhile_is_skipped(phantom_volume, monkeypatch):
    path = phantom_volume.dicom("a.dcm", PICTURE)
    monkeypatch.setattr("firstpick.voxels.dicom.may_be_dicom", lambda _path: path.unlink() or True)
    assert ids(phantom_volume.folder) == []


class _Entries(list):
    def __enter__(self):
        return self

    def __exit__(self, *args):
        return None


def test_a_folder_that_must_not_be_read_is_left_out(tmp_path, monkeypatch):
    touch(tmp_path, "a.nii", "secret/b.nii")
    scandir = os.scandir

    def deny(path):
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("firstpick.sources.folder.os.scandir", deny)
    assert ids(tmp_path) == ["a"]
    assert reasons(tmp_path) == {"secret": "cannot be read: Permission denied"}


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone does not exist. Create it or give another one"):
        list_studies(tmp_path / "gone")
    touch(tmp_path, "file.nii")
    with pytest.raises(NotADirectoryError, match=r"file\.nii is a file. Give the folder"):
        list_studies(tmp_path / "file.nii")


def test_an_empty_folder_holds_no_study(tmp_path):
    assert list_studies(tmp_path) == ([], [])


def test_a_series_is_one_study_named_after_its_folder(phantom_volume):
    phantom_volume.series("patient 1/ct", uid="1.2.3")
    (study,) = list_studies(phantom_volume.folder)[0]
    assert study.study_id == "patient 1/ct"
    assert study.is_series
    assert study.source == str(phantom_volume.folder / "patient 1" / "ct")
    assert study.stamp.startswith("1.2.3-8-")
    volume = read_volume(study)
    np.testing.assert_array_equal(volume.array, phantom_volume.array)


def test_several_series_of_a_folder_are_told_apart_by_uid(phantom_volume):
    for uid in ("1.2.3", "1.2.4", ""):
        phantom_volume.series("two", uid=uid)
    assert ids(phantom_volume.folder) == ["two/1.2.3", "two/1.2.4", "two/series"]


@pytest.mark.parametrize(("uid", "expected"), [("1.2.3", "1.2.3"), ("", "ct")])
def test_a_series_at_the_top_is_named_after_its_uid_or_the_folder(phantom_volume, uid, expected):
    phantom_volume.series("ct", uid=uid)
    assert ids(phantom_volume.folder / "ct") == [expected]


def test_a_series_of_one_instance_and_projections_are_files(phantom_volume):
    phantom_volume.dicom("one/a.dcm", PICTURE, SeriesInstanceUID="1.2.3")
    for name in ("IM0001", "IM0002.17", "c.IMA"):
        phantom_volume.dicom(f"xray/{name}", PICTURE, Modality="DX", SeriesInstanceUID="1.2.4")
    phantom_volume.dicom("xray/film.dcm", np.zeros((6, 4, 5), np.uint8), Modality="CT", SeriesInstanceUID="1.2.4")
    studies, _ = list_studies(phantom_volume.folder)
    assert [study.study_id for study in studies] == ["one/a", "xray/IM0001", "xray/IM0002.17", "xray/c", "xray/film"]
    assert not any(study.is_series for study in studies)
    assert all(read_volume(study.source).array.size for study in studies)


def test_only_files_with_the_magic_are_dicom_unless_they_are_named_so(phantom_volume):
    touch(phantom_volume.folder, "IM1", "damaged.dcm", "readme", "a.xyz")
    phantom_volume.dicom("real.xyz", PICTURE, Modality="CR")
    phantom_volume.dicom("report.pdf", PICTURE, Modality="CR")
    phantom_volume.dicom("DICOMDIR", PICTURE, Modality="CR")
    assert ids(phantom_volume.folder) == ["damaged", "real.xyz"]


def test_a_dicom_file_without_preamble_is_grouped_too(phantom_volume):
    folder = phantom_volume.series("ct")
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[132:])
    assert ids(phantom_volume.folder) == ["ct"]


def test_slices_without_any_uid_are_one_study(shared_data):
    (study,) = list_studies(shared_data / "full_size" / "dicom_ct")[0]
    assert (study.study_id, study.is_series) == ("dicom_ct", True)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"Modality": "SR"}, "a structured report, not an image (Modality SR)"),
        ({"Modality": "SEG"}, "a segmentation, not an image (Modality SEG)"),
        ({"Modality": "RTDOSE"}, "a dose distribution, not an image (Modality RTDOSE)"),
        ({"Modality": "KO"}, "a key object selection, not an image (Modality KO)"),
        (
            {"Modality": "OT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"},
            "an encapsulated document, not an image (SOP class 1.2.840.10008.5.1.4.1.1.104.1)",
        ),
        ({"SeriesDescription": "Dose Report"}, "a dose report, not a study (from its series description)"),
    ],
)
def test_what_is_no_image_is_always_left_out(phantom_volume, tags, expected):
    phantom_volume.dicom("a.dcm", PICTURE, **tags)
    everything = Eligibility(localizers=True, secondary_captures=True)
    assert reasons(phantom_volume.folder, eligibility=everything) == {"a": expected}
    assert ids(phantom_volume.folder, eligibility=everything) == []


def test_an_object_without_pixels_is_left_out(phantom_volume):
    phantom_volume.dicom("a.dcm", None)
    assert reasons(phantom_volume.folder) == {"a": "it holds no image"}


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer, not a study (ImageType LOCALIZER)"),
        ({"SeriesDescription": "Topogram 0.6"}, "a localizer, not a study (from its series description)"),
    ],
)
def test_localizers_are_left_out_unless_wanted(phantom_volume, tags, expected):
    phantom_volume.series("ct", **tags)
    assert reasons(phantom_volume.folder) == {"ct": expected}
    assert ids(phantom_volume.folder, eligibility=Eligibility(localizers=True)) == ["ct"]


def test_a_bone_survey_on_film_is_no_localizer(phantom_volume):
    phantom_volume.dicom("a.dcm", PICTURE, Modality="CR", SeriesDescription="Bone survey")
    assert ids(phantom_volume.folder) == ["a"]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"ConversionType": "WSD"}, "a secondary capture, not a study (ConversionType WSD)"),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.4"},
            "a secondary capture, not a study (SOP class 1.2.840.10008.5.1.4.1.1.7.4)",
        ),
    ],
)
def test_secondary_captures_are_left_out_unless_wanted(phantom_volume, tags, expected):
    phantom_volume.dicom("a.dcm", PICTURE, **tags)
    assert reasons(phantom_volume.folder) == {"a": expected}
    assert ids(phantom_volume.folder, eligibility=Eligibility(secondary_captures=True)) == ["a"]


def test_modalities_are_kept_or_left_out(phantom_volume):
    phantom_volume.series("ct", uid="1.2.3")
    phantom_volume.series("mr", uid="1.2.4", Modality="MR")
    phantom_volume.nifti("a.nii")
    only_mr = Eligibility(modalities=("mr",))
    assert ids(phantom_volume.folder, eligibility=only_mr) == ["a", "mr"]
    assert reasons(phantom_volume.folder, eligibility=only_mr) == {"ct": "its modality is CT, wanted is MR"}


def test_series_are_judged_by_description_where_they_state_one(phantom_volume):
    phantom_volume.series("a", uid="1", SeriesDescription="AX T1 post")
    phantom_volume.series("b", uid="2", SeriesDescription="DWI")
    phantom_volume.series("c", uid="3")
    wanted = Eligibility(series_description="t1|t2")
    assert ids(phantom_volume.folder, eligibility=wanted) == ["a", "c"]
    assert reasons(phantom_volume.folder, eligibility=wanted) == {"b": "its series description does not match 't1|t2'"}


def test_a_wrong_regular_expression_is_said():
    with pytest.raises(ValueError, match=r"series_description '\(' is not a regular expression"):
        Eligibility(series_description="(")


def test_patterns_exclude_ids(tmp_path):
    touch(tmp_path, "old/x/a.nii", "b.nii", "b_seg.nii")
    excluding = Eligibility(exclude=("old/*", "*_seg"))
    assert ids(tmp_path, eligibility=excluding) == ["b"]
    assert reasons(tmp_path, eligibility=excluding)["old/x/a"] == "excluded by the pattern 'old/*'"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"min_slices": 9}, "its number of slices is 8, wanted are at least 9"),
        ({"min_slices": 8}, None),
        ({"min_size_mm": 16.5}, "it measures 16 mm at most, wanted are at least 16.5 mm"),
        ({"min_size_mm": 16.0}, None),
        ({"max_spacing_mm": 1.9}, "its spacing is 2 mm, wanted are at most 1.9 mm"),
        ({"max_spacing_mm": 2.0}, None),
    ],
)
def test_volumes_of_every_format_are_judged_by_their_headers(phantom_volume, rule, expected):
    phantom_volume.nifti("a.nii.gz")
    phantom_volume.itk("b.nrrd")
    phantom_volume.itk("c.mha")
    phantom_volume.series("d")
    touch(phantom_volume.folder, "damaged.nii", "picture.png")
    phantom_volume.dicom("xray.dcm", PICTURE, Modality="DX")
    judged = {} if expected is None else dict.fromkeys("abcd", expected)
    assert reasons(phantom_volume.folder, eligibility=Eligibility(**rule)) == judged
    assert {"damaged", "picture", "xray"} <= set(ids(phantom_volume.folder, eligibility=Eligibility(**rule)))


def test_a_2d_nifti_is_judged_as_one_slice(phantom_volume):
    phantom_volume.nifti("a.nii", array=PICTURE)
    judged = reasons(phantom_volume.folder, eligibility=Eligibility(min_slices=2, min_size_mm=1))
    assert judged == {"a": "its number of slices is 1, wanted are at least 2"}


def test_ids_do_not_depend_on_what_is_left_out(phantom_volume):
    phantom_volume.series("ct", uid="1.2.3", SeriesDescription="scout")
    phantom_volume.series("ct", uid="1.2.4")
    assert ids(phantom_volume.folder) == ["ct/1.2.4"]
    assert ids(phantom_volume.folder, eligibility=Eligibility(localizers=True)) == ["ct/1.2.3", "ct/1.2.4"]


def test_known_headers_are_not_read_again_until_a_file_changes(phantom_volume, monkeypatch):
    folder, known, read = phantom_volume.folder, {}, []
    phantom_volume.series("ct")
    phantom_volume.nifti("a.nii")
    for module, name in [(dicom, "_read_instance"), (eligibility, "read_geometry")]:
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda path, original=original: read.append(path) or original(path))
    rule = Eligibility(min_slices=2)
    first = list_studies(folder, rule, known=known)
    assert len(read) == 9
    assert list_studies(folder, rule, known=known) == first
    assert len(read) == 9
    changed = min((folder / "ct").iterdir())
    os.utime(changed, ns=(1, changed.stat().st_mtime_ns + 10**9))
    assert list_studies(folder, rule, known=known) != first
    assert len(read) == 17
    changed.unlink()
    (study, _) = list_studies(folder, rule, known=known)[0][::-1]
    assert study.stamp.startswith("1.2.3-7-")
    for path in (folder / "ct").iterdir():
        path.unlink()
    (folder / "a.nii").unlink()
    assert list_studies(folder, rule, known=known) == ([], [])
    assert known == {}


def test_without_rules_for_geometry_no_plain_file_is_opened(phantom_volume, monkeypatch):
    phantom_volume.nifti("a.nii")
    monkeypatch.setattr(eligibility, "read_geometry", lambda _path: pytest.fail("opened a file"))
    assert ids(phantom_volume.folder) == ["a"]


def test_listing_writes_nothing(phantom_volume):
    phantom_volume.series("ct")
    phantom_volume.nifti("a.nii")
    before = {path: path.stat().st_mtime_ns for path in phantom_volume.folder.rglob("*")}
    list_studies(phantom_volume.folder, Eligibility(min_slices=3))
    assert {path: path.stat().st_mtime_ns for path in phantom_volume.folder.rglob("*")} == before
