"""What is known of a study besides its voxels."""

import shutil

import numpy as np
import pytest

from firstpick.sources.attributes import read_attribute, with_attributes
from firstpick.sources.folder import list_studies
from firstpick.studies import Pool, Sample, Study
from firstpick.voxels import dicom

STUDIES = [
    Study("sub-1/t1", "", "", folder="sub-1"),
    Study("sub-1/t2", "", "", folder="sub-1"),
    Study("sub-22/t1", "", "", "Knee, T1", folder="sub-22/more"),
    Study("phantom", "", ""),
]


def values(rule, studies=STUDIES):
    return list(read_attribute(studies, rule).values())


def test_an_id_tells_by_its_folder_or_an_expression():
    assert values("folder") == ["sub-1", "sub-1", "sub-22", ""]
    assert values("id:^sub-([0-9]+)") == ["1", "1", "22", ""]
    assert values("id:t[12]") == ["t1", "t2", "t1", ""]
    assert values("") == [""] * 4


def test_a_table_tells_by_its_columns(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text(
        "\ufeffstudy,site,patient\nsub-1/t1,north,7\nsub-22/t1, south ,8\nunknown,west,9\nphantom\n", "utf-8"
    )
    assert values(f"csv:{table}") == ["north", "", "south", ""]
    assert values(f"csv:{table}#patient") == ["7", "", "8", ""]


def test_a_table_may_lie_in_a_folder_with_a_number_sign(tmp_path):
    (tmp_path / "ward #3").mkdir()
    table = tmp_path / "ward #3" / "table.csv"
    table.write_text("study,site,patient\nsub-1/t1,north,7\n", "utf-8")
    assert values(f"csv:{table}") == ["north", "", "", ""]
    assert values(f"csv:{table}#patient") == ["7", "", "", ""]


def test_dicom_tells_modality_and_patient_the_latter_as_a_hash(phantom_volume):
    for number, patient in enumerate(("DOE^JANE", "DOE^JANE", "ROE", "")):
        phantom_volume.series(
            f"studies/s{number}", uid=f"1.{number}", PatientID=patient, Modality="MR" if number else "CT"
        )
    phantom_volume.nifti("studies/plain.nii")
    studies, _ = list_studies(phantom_volume.folder / "studies")
    studies.sort(key=lambda study: study.title)
    assert values("modality", studies) == ["", "CT", "MR", "MR", "MR"]
    plain, *patients = values("patient", studies)
    assert patients[0] == patients[1] != patients[2]
    assert patients[3] == plain == ""
    assert "DOE" not in str(studies)


def test_a_series_tells_by_its_folder_its_title_and_any_of_its_names(phantom_volume, tmp_path):
    phantom_volume.series("studies/sub-7/ct", uid="1.2.7", SeriesDescription="AX T1")
    phantom_volume.series("studies/sub-8", uid="1.2.8")
    phantom_volume.nifti("studies/top.nii")
    studies, _ = list_studies(phantom_volume.folder / "studies")
    assert values("folder", studies) == ["sub-7", "sub-8", ""]
    assert values("id:^sub-([0-9]+)", studies) == ["7", "8", ""]
    table = tmp_path / "table.csv"
    table.write_text("study,site\nsub-7/ct,north\n1.2.8,south\ntop,west\n")
    assert values(f"csv:{table}", studies) == ["north", "south", "west"]


def most_have_one_patient(folder, patients):
    for number, patient in enumerate(patients):
        folder.series(f"s{number}", uid=f"1.2.{number}", PatientID=patient, without=range(1, 8))
    return list_studies(folder.folder)[0]


def test_a_patient_that_most_studies_share_is_a_placeholder(phantom_volume, caplog):
    studies = most_have_one_patient(phantom_volume, ["SITE", "A", "SITE", "SITE", "B", "SITE", "SITE"])
    assert [bool(study.patient) for study in studies] == [False, True, False, False, True, False, False]
    assert "5 of 7 studies state one PatientID" in caplog.text
    assert "SITE" not in caplog.text
    before = {study.study_id for study in studies}
    (one,) = (study for study in studies if study.folder == "s2")
    shutil.rmtree(phantom_volume.folder / "s0")
    shutil.rmtree(phantom_volume.folder / "s3")
    again = list_studies(phantom_volume.folder)[0]
    assert {study.study_id for study in again} < before
    assert next(study for study in again if study.study_id == one.study_id).patient


@pytest.mark.parametrize("patients", [["A"] * 5, ["A", "A", "A", "B"], ["A"] * 4 + ["B", "C", "D", "E"]])
def test_a_patient_with_several_studies_is_none(phantom_volume, patients):
    studies = most_have_one_patient(phantom_volume, patients)
    assert len({study.patient for study in studies}) == len({*patients})
    assert all(study.patient for study in studies)


def test_placeholders_and_lost_series_uids_are_said_once(phantom_volume, caplog):
    for number in range(4):
        phantom_volume.series(
            "ct\nx", uid=f"1.2.{number}", PatientID="Anonymous", StudyInstanceUID="1.2", without={*range(8)} - {number}
        )
    known = {}
    for _ in range(2):
        studies, left_out = list_studies(phantom_volume.folder, known=known)
    assert [study.patient for study in studies] == [""] * 4
    assert left_out == []
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith("The PatientID of 4 DICOM studies is empty or a placeholder")
    assert caplog.messages[1].startswith(r"ct\nx holds 4 DICOM series of one slice each, all of one visit")


def test_a_pool_gets_groups_and_strata_in_its_own_order():
    pool = Pool((Sample("phantom"), Sample("sub-22/t1")), np.eye(2, dtype=np.float32))
    known = with_attributes(pool, STUDIES, groups_by="folder", strata_by="id:t[12]")
    assert known.titles == ("phantom", "Knee, T1")
    assert known.groups == ("", "sub-22")
    assert known.strata == ("", "t1")
    assert with_attributes(pool, STUDIES, groups_by="", strata_by="").groups == ()


@pytest.mark.parametrize(
    ("rule", "error", "text"),
    [
        ("patients", ValueError, "'patients' is no attribute of a study. Take patient, modality, folder, id:REGEX"),
        ("id:", ValueError, "is no attribute"),
        ("id:(", ValueError, "is not a regular expression"),
        ("csv:missing.csv", OSError, "The table missing.csv cannot be read: No such file"),
    ],
)
def test_a_wrong_rule_is_refused_with_what_is_allowed(rule, error, text):
    with pytest.raises(error, match=text):
        read_attribute([], rule)


@pytest.mark.parametrize(
    ("content", "text"),
    [("", "it has nothing"), ("study\na\n", "must have a column 'patient'"), ("study,site\n", "it has study, site")],
)
def test_a_table_without_the_column_is_refused(tmp_path, content, text):
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(ValueError, match=text):
        read_attribute([], f"csv:{tmp_path / 'table.csv'}#patient")


@pytest.mark.parametrize("patient", ["", "Anonymous", "ANON^ANON", "0", "000000", "xxx", "N/A", "unknown ", "No_ID"])
def test_a_placeholder_names_no_patient(phantom_volume, patient):
    path = phantom_volume.dicom("a.dcm", np.zeros((2, 2), np.uint8), PatientID=patient)
    (instance,) = dicom.read_instances([path])
    assert not instance.names_patient


@pytest.mark.parametrize("patient", ["P1", "0001", "x7", "TEST01", "ANON-0042", "DOE^JANE"])
def test_a_pseudonym_names_a_patient(phantom_volume, patient):
    path = phantom_volume.dicom("a.dcm", np.zeros((2, 2), np.uint8), PatientID=patient, StudyInstanceUID="1.2.7")
    (instance,) = dicom.read_instances([path])
    assert instance.names_patient
    assert instance.study_uid == "1.2.7"
