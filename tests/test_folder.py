"""Which studies a folder holds, what they are called, and which are left out."""

from __future__ import annotations

import hashlib
import json
import os
import re
from concurrent.futures import Future
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


def titles(folder, **kwargs):
    studies, _ = list_studies(folder, **kwargs)
    return sorted(study.title for study in studies)


def reasons(folder, **kwargs):
    _, left_out = list_studies(folder, **kwargs)
    return {entry.study_id: entry.reason for entry in left_out}


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_ids_of_files_are_their_paths(tmp_path):
    names = [*(f"s{index}{ending}" for index, ending in enumerate(ENDINGS)), "a/b/c/Ünï cödé 1.v2.NII.GZ", "z.JPG"]
    touch(tmp_path, *names)
    assert ids(tmp_path) == titles(tmp_path) == sorted(names)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("new\nline.nii", r"new\nline.nii"),
        ("tab\t\x1b[31m.nii", r"tab\t\x1b[31m.nii"),
        ("right\u202eleft.nii", r"right\u202eleft.nii"),
        ("日本語 🧠.nii", "日本語 🧠.nii"),
        (f"{'x' * 250}.nii", f"{'x' * 120}…{'x' * 75}.nii"),
    ],
)
def test_a_title_is_one_line_that_can_be_read(tmp_path, name, title):
    touch(tmp_path, name)
    assert ids(tmp_path) == [name]
    assert titles(tmp_path) == [title]


def test_ids_are_unique_whatever_the_names(phantom_volume):
    folder = phantom_volume.folder
    phantom_volume.series("ct", uid="1.2.3")
    (uid,) = ids(folder)
    touch(folder, "ct.nii", f"ct/{uid}.nii", "ct.dcm", "x.dcm", "x.ima", "x.DCM")
    phantom_volume.dicom(uid, PICTURE, Modality="DX")
    assert ids(folder) == sorted([uid, "ct.nii", f"ct/{uid}.nii", "ct.dcm", "x.dcm", "x.ima", "x.DCM"])
    assert reasons(folder) == {uid: "its name could be the id of a DICOM series: rename it"}


def test_a_file_tells_where_it_lies(tmp_path):
    touch(tmp_path, "a/b.nii")
    (study,) = list_studies(tmp_path)[0]
    assert study == Study("a/b.nii", study.stamp, str(tmp_path / "a" / "b.nii"))
    assert (study.title, study.folder) == ("a/b.nii", "a")


def test_a_stamp_changes_with_size_and_time_and_not_with_the_path(phantom_volume):
    folder = phantom_volume.folder
    phantom_volume.nifti("a.nii")
    series = phantom_volume.series("ct")

    def stamps():
        return [study.stamp for study in sorted(list_studies(folder)[0], key=lambda study: study.is_series)]

    before = stamps()
    (folder / "moved").mkdir()
    (folder / "a.nii").rename(folder / "moved" / "b.nii")
    series.rename(folder / "moved" / "mr")
    assert stamps() == before
    file = folder / "moved" / "b.nii"
    os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))
    one = max((folder / "moved" / "mr").iterdir())
    one.write_bytes(one.read_bytes() + b"\0\0")
    assert not {*stamps()} & {*before}
    after = stamps()
    one.unlink()
    assert stamps()[1] != after[1]


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr"])
def test_the_stamp_changes_with_the_voxels_of_a_detached_header(phantom_volume, name):
    folder = phantom_volume.itk(name).parent
    before = list_studies(folder)[0]
    data = next(path for path in folder.iterdir() if path.name != name)
    data.write_bytes(data.read_bytes() + b"more")
    assert list_studies(folder)[0] != before
    assert ids(folder) == [name]


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    touch(tmp_path, ".a.nii", ".lock", ".hidden/b.nii", "c.nii", "sub/.d.nii")
    assert ids(tmp_path) == ["c.nii"]
    assert reasons(tmp_path) == {}


def test_a_file_that_vanishes_meanwhile_is_skipped(tmp_path, monkeypatch):
    touch(tmp_path, "a.nii", "b.nii")
    scandir = os.scandir

    def remove_after(path):
        entries = scandir(path)
        found = list(entries)
        entries.close()
        (tmp_path / "a.nii").unlink()
        return _Entries(found)

    monkeypatch.setattr("firstpick.sources.walk.os.scandir", remove_after)
    assert ids(tmp_path) == ["b.nii"]


def test_a_dicom_file_that_vanishes_meanwhile_is_skipped(phantom_volume, monkeypatch):
    path = phantom_volume.dicom("a", PICTURE)
    monkeypatch.setattr("firstpick.voxels.dicom.may_be_dicom", lambda _path: path.unlink() or True)
    assert list_studies(phantom_volume.folder) == ([], [])


class InProcess:
    """Runs what is submitted at once, and dies of one file."""

    def __init__(self, dies_of=""):
        self.paths, self.dies_of = [], dies_of

    def submit(self, function, path):
        self.paths.append(path)
        future = Future()
        if path.name == self.dies_of:
            future.set_exception(RuntimeError("died"))
        else:
            future.set_result(function(path))
        return future


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

    monkeypatch.setattr("firstpick.sources.walk.os.scandir", deny)
    assert ids(tmp_path) == ["a.nii"]
    assert reasons(tmp_path) == {"secret/": "cannot be read: Permission denied"}


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone does not exist. Create it or give another one"):
        list_studies(tmp_path / "gone")
    touch(tmp_path, "file.nii")
    with pytest.raises(NotADirectoryError, match=r"file\.nii is a file. Give the folder"):
        list_studies(tmp_path / "file.nii")


def test_an_empty_folder_holds_no_study(tmp_path):
    assert list_studies(tmp_path) == ([], [])


def test_a_series_is_one_study_named_by_its_uid(phantom_volume):
    phantom_volume.series("patient 1/ct", uid="1.2.3", StudyInstanceUID="1.2", PatientID="P1")
    (study,) = list_studies(phantom_volume.folder)[0]
    digits = hashlib.sha256(json.dumps(["1.2", study.patient]).encode()).hexdigest()[:6]
    assert study.study_id == f"1.2.3-{digits}"
    assert study.is_series
    assert study.source == str(phantom_volume.folder / "patient 1" / "ct")
    assert study.folder == "patient 1/ct"
    assert study.files == tuple(sorted(path.name for path in Path(study.source).iterdir()))
    volume = read_volume(study)
    np.testing.assert_array_equal(volume.array, phantom_volume.array)


@pytest.mark.parametrize(
    ("folder", "tags", "title"),
    [
        ("p/ct", {"SeriesDescription": "AX T1/T2"}, "p/ct/AX T1-T2"),
        ("p/ct", {}, "p/ct"),
        (".", {"SeriesDescription": "AX"}, "AX"),
        (".", {}, "1.2.3"),
        (".", {"uid": ""}, "a DICOM series"),
        ("p", {"SeriesDescription": ".."}, "p"),
    ],
)
def test_the_title_of_a_series_is_its_folder_and_description(phantom_volume, folder, tags, title):
    phantom_volume.series(folder, **tags)
    assert titles(phantom_volume.folder) == [title]


def test_several_series_of_a_folder_are_studies_of_their_own(phantom_volume):
    for uid in ("1.2.3", "1.2.4", ""):
        phantom_volume.series("two", uid=uid)
    assert [name.rpartition("-")[0] for name in ids(phantom_volume.folder)] == ["1.2.3", "1.2.4", "two/.series"]


def test_a_text_that_is_no_uid_becomes_one(phantom_volume):
    for number, uid in enumerate((b"../../e", b"a b", b"7", b"1.\n.2")):
        stated = "1.234567"[: len(uid)] if len(uid) > 2 else "7"
        for path in phantom_volume.series(f"s{number}", uid=stated, without=range(2, 8)).iterdir():
            path.write_bytes(path.read_bytes().replace(stated.encode(), uid))
    names = ids(phantom_volume.folder)
    assert len(names) == 4
    assert all(re.fullmatch(r"2\.25\.[0-9]{1,39}-[0-9a-f]{6}", name) for name in names)


@pytest.mark.parametrize("other", [{"PatientID": "B"}, {"StudyInstanceUID": "1.9"}])
@pytest.mark.parametrize(("folders", "uid"), [(("one", "one"), "1.2.3"), (("a", "b"), "1.2.3"), (("one", "one"), "")])
def test_two_patients_or_visits_with_one_series_uid_are_two_studies(phantom_volume, folders, uid, other):
    tags = {"PatientID": "A", "StudyInstanceUID": "1.8"}
    phantom_volume.series(folders[0], uid=uid, **tags)
    (first,) = list_studies(phantom_volume.folder)[0]
    for path in (phantom_volume.folder / folders[0]).iterdir():
        path.rename(path.with_name(f"first-{path.name}"))
    phantom_volume.series(folders[1], uid=uid, **{**tags, **other})
    studies, _ = list_studies(phantom_volume.folder)
    assert len(studies) == 2
    assert [len(study.files) for study in studies] == [8, 8]
    assert first.study_id in {study.study_id for study in studies}


def test_a_series_over_several_folders_is_one_study(phantom_volume):
    folder = phantom_volume.folder
    phantom_volume.series("p/all", uid="1.2.3")
    (before,) = ids(folder)
    for number, path in enumerate(sorted((folder / "p" / "all").iterdir())):
        target = folder / "p" / f"DIR{number // 3}" / f"{number % 3}" / "IMG"
        target.parent.mkdir(parents=True)
        path.rename(target)
    (study,) = list_studies(folder)[0]
    assert study.study_id == before
    assert study.source == str(folder / "p")
    assert study.files[:2] == ("DIR0/0/IMG", "DIR0/1/IMG")
    for path in study.files[1:]:
        (folder / "p" / path).unlink()
    assert ids(folder) == [before]


def test_one_file_under_two_names_is_one_slice(phantom_volume):
    series = phantom_volume.series("ct", uid="1.2.3")
    for path in list(series.iterdir()):
        os.link(path, series / f"hard-{path.name}")
        (series / f"soft-{path.name}").symlink_to(path)
    (study,) = list_studies(phantom_volume.folder)[0]
    assert len(study.files) == 8


def test_one_slice_is_a_series_while_projections_and_frames_are_files(phantom_volume):
    phantom_volume.dicom("one/a.dcm", PICTURE, SeriesInstanceUID="1.2.3")
    for name in ("IM0001", "IM0002.17", "c.IMA"):
        phantom_volume.dicom(f"xray/{name}", PICTURE, Modality="DX", SeriesInstanceUID="1.2.4")
    phantom_volume.dicom("xray/film.dcm", np.zeros((6, 4, 5), np.uint8), Modality="CT", SeriesInstanceUID="1.2.4")
    studies, _ = list_studies(phantom_volume.folder)
    first, *others = studies
    assert (first.study_id[:6], first.files) == ("1.2.3-", ("a.dcm",))
    assert [study.study_id for study in others] == ["xray/IM0001", "xray/IM0002.17", "xray/c.IMA", "xray/film.dcm"]
    assert not any(study.is_series for study in others)
    assert all(read_volume(study).array.size for study in studies)


def test_what_is_not_read_is_counted_by_its_ending(phantom_volume):
    touch(phantom_volume.folder, "IM1", "damaged.dcm", "readme", "a.xyz", "b.XYZ", "sub/c.json", "scan.0001", "v 1. 2")
    phantom_volume.dicom("real.xyz", PICTURE, Modality="CR")
    phantom_volume.dicom("DICOMDIR", PICTURE, Modality="CR")
    assert ids(phantom_volume.folder) == ["damaged.dcm", "real.xyz"]
    assert reasons(phantom_volume.folder) == {
        "*": "4 files without a known ending are not DICOM",
        "*.json": "1 file ending in .json is not read",
        "*.xyz": "2 files ending in .xyz are not read",
        "DICOMDIR": "an index of DICOM files, not an image",
    }


def test_the_voxels_of_a_header_are_neither_studies_nor_counted(phantom_volume):
    folder = phantom_volume.folder
    phantom_volume.itk("a.mhd")
    phantom_volume.itk("b.nhdr")
    header = (folder / "a.mhd").read_text()
    touch(folder, "other.img", "sl1.bin", "sl2.bin", "lone.raw", "data/c.raw")
    for name, data in {
        "c": "data/c.raw",
        "d": "other.img",
        "e": "LIST\nsl1.bin\nsl2.bin",
        "f": "sl%d.bin 1 2 1",
    }.items():
        (folder / f"{name}.mhd").write_text(header.replace("a.raw", data))
    assert ids(folder) == ["a.mhd", "b.nhdr", "c.mhd", "d.mhd", "e.mhd", "f.mhd"]
    assert reasons(folder) == {"*.raw": "1 file ending in .raw is not read"}
    before = list_studies(folder)[0]
    touch(folder, "sl2.bin", "data/c.raw")
    os.utime(folder / "sl2.bin", (5, 5))
    os.utime(folder / "data" / "c.raw", (5, 5))
    changed = [new.study_id for old, new in zip(before, list_studies(folder)[0], strict=True) if old != new]
    assert changed == ["c.mhd", "e.mhd", "f.mhd"]


def test_a_pair_is_one_study_whatever_the_case_of_its_names(tmp_path):
    touch(
        tmp_path, "a.hdr", "a.img", "a.mat", "B.HDR", "B.IMG", "scan.PAR", "scan.REC", "c+orig.HEAD", "c+orig.BRIK.gz"
    )
    touch(tmp_path, "lone.img", "lone.rec")
    assert ids(tmp_path) == ["B.HDR", "a.hdr", "c+orig.HEAD", "scan.PAR"]
    assert reasons(tmp_path) == {
        "*.img": "1 file ending in .img is not read",
        "*.rec": "1 file ending in .rec is not read",
    }
    known = {}
    before = list_studies(tmp_path, known=known)[0]
    touch(tmp_path, "lone.hdr")
    (tmp_path / "a.img").write_bytes(b"other")
    changed = {*list_studies(tmp_path, known=known)[0]}.difference(before)
    assert {study.study_id for study in changed} == {"a.hdr", "lone.hdr"}
    assert reasons(tmp_path, known=known) == {"*.rec": "1 file ending in .rec is not read"}


def test_an_img_that_is_dicom_is_a_slice(phantom_volume):
    for number, path in enumerate(phantom_volume.series("ct").iterdir()):
        path.rename(path.with_name(f"{number}.img"))
    (study,) = list_studies(phantom_volume.folder)[0]
    assert len(study.files) == 8


def test_a_dicom_file_without_preamble_is_grouped_too(phantom_volume):
    folder = phantom_volume.series("ct")
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[132:])
    assert titles(phantom_volume.folder) == ["ct"]


def test_slices_without_any_uid_are_one_study(shared_data):
    (study,) = list_studies(shared_data / "full_size" / "dicom_ct")[0]
    assert study.study_id.startswith(".series-")
    assert study.is_series


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
    assert reasons(phantom_volume.folder, eligibility=everything) == {"a.dcm": expected}
    assert ids(phantom_volume.folder, eligibility=everything) == []


def test_an_object_without_pixels_is_left_out(phantom_volume):
    phantom_volume.dicom("a.dcm", None)
    assert reasons(phantom_volume.folder) == {"a.dcm": "it holds no image"}


def test_what_is_no_image_does_not_take_its_series_along(phantom_volume):
    phantom_volume.series("ct", uid="1.2.3")
    phantom_volume.dicom("ct/0-seg", PICTURE, Modality="SEG", SeriesInstanceUID="1.2.3")
    phantom_volume.dicom("ct/0-shot", PICTURE, ConversionType="WSD", SeriesInstanceUID="1.2.3")
    (study,) = list_studies(phantom_volume.folder)[0]
    assert len(study.files) == 9
    assert list(reasons(phantom_volume.folder)) == ["ct/0-seg"]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer, not a study (ImageType LOCALIZER)"),
        ({"SeriesDescription": "Topogram 0.6"}, "a localizer, not a study (from its series description)"),
    ],
)
def test_localizers_are_left_out_unless_wanted(phantom_volume, tags, expected):
    phantom_volume.series("ct", **tags)
    assert [*reasons(phantom_volume.folder).values()] == [f"{expected}: 8 files in ct"]
    assert len(ids(phantom_volume.folder, eligibility=Eligibility(localizers=True))) == 1


def test_what_is_left_out_has_a_title_too(phantom_volume):
    phantom_volume.series("p/ct", SeriesDescription="scout")
    (phantom_volume.folder / "gone\n.nii").symlink_to(phantom_volume.folder / "nowhere")
    assert sorted(entry.title for entry in list_studies(phantom_volume.folder)[1]) == ["gone\\n.nii", "p/ct/scout"]


def test_a_bone_survey_on_film_is_no_localizer(phantom_volume):
    phantom_volume.dicom("a.dcm", PICTURE, Modality="CR", SeriesDescription="Bone survey")
    assert ids(phantom_volume.folder) == ["a.dcm"]


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
    assert [*reasons(phantom_volume.folder).values()] == [f"{expected}: 1 file in the top folder"]
    assert len(ids(phantom_volume.folder, eligibility=Eligibility(secondary_captures=True))) == 1


def test_modalities_are_kept_or_left_out(phantom_volume):
    phantom_volume.series("ct", uid="1.2.3")
    phantom_volume.series("mr", uid="1.2.4", Modality="MR")
    phantom_volume.nifti("a.nii")
    only_mr = Eligibility(modalities=("mr",))
    assert titles(phantom_volume.folder, eligibility=only_mr) == ["a.nii", "mr"]
    why = [*reasons(phantom_volume.folder, eligibility=only_mr).values()]
    assert why == ["its modality is CT, wanted is MR: 8 files in ct"]


def test_series_are_judged_by_description_where_they_state_one(phantom_volume):
    phantom_volume.series("a", uid="1", SeriesDescription="AX T1 post")
    phantom_volume.series("b", uid="2", SeriesDescription="DWI")
    phantom_volume.series("c", uid="3")
    wanted = Eligibility(series_description="t1|t2")
    assert titles(phantom_volume.folder, eligibility=wanted) == ["a/AX T1 post", "c"]
    why = [*reasons(phantom_volume.folder, eligibility=wanted).values()]
    assert why == ["its series description does not match 't1|t2': 8 files in b"]


def test_a_wrong_regular_expression_is_said():
    with pytest.raises(ValueError, match=r"series_description '\(' is not a regular expression"):
        Eligibility(series_description="(")


def test_patterns_exclude_paths(phantom_volume):
    folder = phantom_volume.folder
    touch(folder, "old/x/a.nii", "b.nii", "b_copy.nii")
    phantom_volume.series("phantoms")
    phantom_volume.series("keep", uid="1.2.4", SeriesDescription="DWI raw")
    excluding = Eligibility(exclude=("old/*", "*_copy", "phantoms/*", "*/DWI*"))
    assert ids(folder, eligibility=excluding) == ["b.nii"]
    why = reasons(folder, eligibility=excluding)
    assert why["old/x/a.nii"] == "excluded by the pattern 'old/*'"
    assert len(why) == 4
    by_id = Eligibility(exclude=("1.2.4-*",))
    assert titles(folder, eligibility=by_id) == ["b.nii", "b_copy.nii", "old/x/a.nii", "phantoms"]


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
    touch(phantom_volume.folder, "damaged.nii", "damaged.nrrd", "picture.png")
    phantom_volume.dicom("xray.dcm", PICTURE, Modality="DX")
    why = reasons(phantom_volume.folder, eligibility=Eligibility(**rule), executor=InProcess())
    judged = [] if expected is None else [*[expected] * 3, f"{expected}: 8 files in d"]
    assert sorted(why.values()) == judged
    kept = ids(phantom_volume.folder, eligibility=Eligibility(**rule), executor=InProcess())
    assert {"damaged.nii", "damaged.nrrd", "picture.png", "xray.dcm"} <= {*kept}


def test_a_slice_on_its_own_is_judged_as_one_slice(phantom_volume):
    phantom_volume.dicom("a.dcm", PICTURE)
    (why,) = reasons(phantom_volume.folder, eligibility=Eligibility(min_slices=2)).values()
    assert why == "its number of slices is 1, wanted are at least 2: 1 file in the top folder"


def test_headers_that_native_code_parses_are_read_in_another_process(phantom_volume):
    phantom_volume.itk("a.nrrd")
    phantom_volume.itk("b.mha")
    phantom_volume.nifti("c.nii")
    touch(phantom_volume.folder, "d.png")
    executor = InProcess()
    assert ids(phantom_volume.folder, eligibility=Eligibility(min_slices=9), executor=executor) == ["d.png"]
    assert sorted(path.name for path in executor.paths) == ["a.nrrd", "b.mha"]
    assert ids(phantom_volume.folder, eligibility=Eligibility(min_slices=9)) == ["d.png"]


def test_a_header_that_ends_its_worker_costs_that_study_its_facts_alone(phantom_volume):
    phantom_volume.itk("a.nrrd")
    phantom_volume.itk("b.nrrd")
    executor = InProcess(dies_of="a.nrrd")
    assert ids(phantom_volume.folder, eligibility=Eligibility(min_slices=9), executor=executor) == ["a.nrrd"]


def test_a_2d_nifti_is_judged_as_one_slice(phantom_volume):
    phantom_volume.nifti("a.nii", array=PICTURE)
    judged = reasons(phantom_volume.folder, eligibility=Eligibility(min_slices=2, min_size_mm=1))
    assert judged == {"a.nii": "its number of slices is 1, wanted are at least 2"}


def test_ids_do_not_depend_on_what_is_left_out(phantom_volume):
    phantom_volume.series("ct", uid="1.2.3", SeriesDescription="scout")
    phantom_volume.series("ct", uid="1.2.4")
    (one,) = ids(phantom_volume.folder)
    both = ids(phantom_volume.folder, eligibility=Eligibility(localizers=True))
    assert one == both[1]
    assert [name.partition("-")[0] for name in both] == ["1.2.3", "1.2.4"]


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
    assert len(read) == 10
    changed.unlink()
    (study, _) = list_studies(folder, rule, known=known)[0]
    assert len(study.files) == 7
    assert len(read) == 10
    for path in (folder / "ct").iterdir():
        path.unlink()
    (folder / "a.nii").unlink()
    assert list_studies(folder, rule, known=known) == ([], [])
    (kept,) = known.values()
    assert (kept.dicom, kept.plain, kept.files, kept.series) == ({}, {}, {}, {})


def test_what_is_unchanged_is_the_same_study_and_a_file_written_over_in_its_place_another(phantom_volume):
    folder, known = phantom_volume.folder, {}
    for name in ("a.nii", "b.nii", "c.nii"):
        phantom_volume.nifti(f"deep/{name}")
    first = {study.study_id: study for study in list_studies(folder, known=known)[0]}
    before, content = (folder / "deep").stat().st_mtime_ns, (folder / "deep" / "b.nii").read_bytes()
    with (folder / "deep" / "b.nii").open("r+b") as file:
        file.write(content + b"longer")
    phantom_volume.nifti("new/d.nii")
    assert (folder / "deep").stat().st_mtime_ns == before  # a folder does not tell
    again = {study.study_id: study for study in list_studies(folder, known=known)[0]}
    assert again.keys() - first.keys() == {"new/d.nii"}
    assert again["deep/a.nii"] is first["deep/a.nii"]
    assert again["deep/b.nii"].stamp != first["deep/b.nii"].stamp
    assert list_studies(folder)[0] == [*again.values()]


def test_without_rules_for_geometry_no_plain_file_is_parsed(phantom_volume, monkeypatch):
    phantom_volume.nifti("a.nii")
    monkeypatch.setattr(eligibility, "read_geometry", lambda _path: pytest.fail("parsed a file"))
    assert ids(phantom_volume.folder) == ["a.nii"]


def test_listing_writes_nothing(phantom_volume):
    phantom_volume.series("ct")
    phantom_volume.nifti("a.nii")
    before = {path: path.stat().st_mtime_ns for path in phantom_volume.folder.rglob("*")}
    list_studies(phantom_volume.folder, Eligibility(min_slices=3))
    assert {path: path.stat().st_mtime_ns for path in phantom_volume.folder.rglob("*")} == before
