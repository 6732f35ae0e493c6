"""What people, tables and labels call a study, and whose a label is."""

import os

from firstpick.sources.folder import list_studies
from firstpick.sources.names import bare, final_labels, id_of, ids_by_name


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_an_ending_is_cut_off_only_where_it_is_one():
    names = ("a/b.NII.GZ", "a/b.v2", "a.nii/b", ".nii", "a/.nii", "b.dcm", "IM0001")
    assert [bare(name) for name in names] == ["a/b", "a/b.v2", "a.nii/b", ".nii", "a/.nii", "b", "IM0001"]


def test_a_name_that_fits_two_studies_is_nobodys_but_an_id_is_always_its_own(tmp_path):
    touch(tmp_path, "a.nii", "a.nii.gz", "b.png", "c/d.nii")
    by_name = ids_by_name(list_studies(tmp_path)[0])
    found = {name: id_of(name, by_name) for name in ("a", "a.nii", "a.nii.gz", "a.png", "b", "b.jpg", "c/d", "d", "")}
    assert {name: study_id for name, study_id in found.items() if study_id} == {
        "a.nii": "a.nii",
        "a.nii.gz": "a.nii.gz",
        "b": "b.png",
        "b.jpg": "b.png",
        "c/d": "c/d.nii",
    }


def test_final_labels_are_matched_by_any_name_that_fits_one_study(phantom_volume):
    folder = phantom_volume.folder
    phantom_volume.series("p/ct", uid="1.2.3", SeriesDescription="AX")
    touch(folder, "a.nii.gz", "sub/b.png", "twin.nii", "twin.nii.gz")
    studies, _ = list_studies(folder)
    series = next(study.study_id for study in studies if study.is_series)
    labels = ("a.nrrd", "a.seg.nrrd", "sub/b.nii.gz", "p/ct.nii.gz", "1.2.3.nii.gz", "twin.nii.gz", "who.nii", ".x.nii")
    touch(folder / "labels" / "final", *labels)
    for age, name in enumerate(labels, start=1):
        os.utime(folder / "labels" / "final" / name, (age, age))
    times, unmatched = final_labels(folder, studies)
    assert times == {"a.nii.gz": 2.0, "sub/b.png": 3.0, series: 5.0}
    assert unmatched == ["twin.nii.gz", "who.nii"]
    given = final_labels(folder, studies, {"twin.nii": "twin"})
    assert given[0]["twin.nii"] == 6.0
    assert final_labels(folder / "nowhere", studies) == ({}, [])
