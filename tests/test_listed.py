"""Studies that another program lists: its ids, our reasons, and nothing outside of its folder."""

import os

import pytest

from firstpick.sources.eligibility import Eligibility
from firstpick.sources.listed import Listed
from firstpick.voxels.volumes import read_volume


def look(folder, paths, **eligible):
    source = Listed(
        "The archive", lambda: (folder, {key: str(path) for key, path in paths.items()}), Eligibility(**eligible)
    )
    studies, left_out = source.look()
    return studies, {one.study_id: one.reason for one in left_out}


def test_ids_are_those_given_and_voxels_those_of_the_very_file(phantom_volume, tmp_path):
    paths = {"b": phantom_volume.nifti("x/deep/one.nii.gz"), "a/b": phantom_volume.itk("two.mha")}
    studies, left_out = look(tmp_path, paths)
    assert [(study.study_id, study.title, study.source, study.folder) for study in studies] == [
        ("a/b", "a/b", str(paths["a/b"]), ""),
        ("b", "b", str(paths["b"]), "x/deep"),
    ]
    assert left_out == {}
    assert all(read_volume(study).array.max() == 900 for study in studies)


def test_another_stamp_when_the_file_changes(phantom_volume, tmp_path):
    path = phantom_volume.nifti("one.nii")
    before = look(tmp_path, {"one": path})[0][0].stamp
    assert look(tmp_path, {"one": path})[0][0].stamp == before
    os.utime(path, ns=(1, 1))
    assert look(tmp_path, {"one": path})[0][0].stamp != before


def test_what_is_not_read_is_said_with_its_reason(phantom_volume, tmp_path):
    archive = tmp_path / "archive"
    archive.mkdir()
    good = phantom_volume.nifti("archive/good.nii.gz")
    phantom_volume.nifti("secret.nii.gz")
    (archive / "out.nii.gz").symlink_to(tmp_path / "secret.nii.gz")
    (archive / "header.mhd").write_text("ObjectType = Image\nNDims = 3\nElementDataFile = ../secret.nii.gz\n")
    odd = os.fsdecode(os.fsencode(archive) + b"/\xff.nii.gz")
    paths = {
        "good": good,
        "twice": good,
        "mask": phantom_volume.nifti("archive/case_seg.nii.gz"),
        "slide": archive / "slide.svs",
        "none": archive / "none",
        "folder": archive,
        "gone": archive / "gone.nii.gz",
        "out": archive / "out.nii.gz",
        "beyond": tmp_path / "secret.nii.gz",
        "header": archive / "header.mhd",
        "\udcff": odd,
        "nothing": "",
    }
    studies, left_out = look(archive, paths)
    assert [study.study_id for study in studies] == ["good"]
    expected = {
        "twice": "its file is that of good",
        "mask": "a mask by its name",
        "slide": "files ending in .svs are not read",
        "none": "no ending that is known",
        "folder": "a folder, not a file",
        "gone": "does not exist",
        "out": "outside of the folder",
        "beyond": "outside of the folder",
        "header": "its voxels lie outside",
        "\\xff": "not UTF-8",
        "nothing": "no file is given",
    }
    assert left_out.keys() == expected.keys()
    assert all(text in left_out[study_id] for study_id, text in expected.items()), left_out
    studies, left_out = look(archive, paths, follow_links=True, masks=True)
    assert {"good", "mask", "out", "beyond"} <= {study.study_id for study in studies}


def test_rules_on_size_hold(phantom_volume, tmp_path):
    studies, left_out = look(tmp_path, {"one": phantom_volume.nifti("one.nii.gz")}, min_slices=9)
    assert studies == []
    assert "its number of slices is 8" in left_out["one"]


def test_a_folder_that_is_gone_is_an_error_and_changes_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        look(tmp_path / "unmounted", {})
