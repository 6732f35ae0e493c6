"""What is known of a study besides its voxels."""

import numpy as np
import pytest

from firstpick.sources.attributes import read_attribute, with_attributes
from firstpick.sources.folder import list_studies
from firstpick.studies import Pool, Sample, Study

STUDIES = [
    Study("sub-1/t1", "", ""),
    Study("sub-1/t2", "", ""),
    Study("sub-22/t1", "", "", "Knee, T1"),
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
    assert read_attribute(studies, "modality") == {"plain": "", "s0": "CT", "s1": "MR", "s2": "MR", "s3": "MR"}
    patient = read_attribute(studies, "patient")
    assert patient["s0"] == patient["s1"] != patient["s2"]
    assert patient["s3"] == patient["plain"] == ""
    assert "DOE" not in str(studies)


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
