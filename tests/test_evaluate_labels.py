"""Labels of an old project, as people have them: incomplete, misnamed, doubled."""

import pytest

from firstpick.evaluate.labels import find_masks, read_classes
from firstpick.sources.folder import list_studies
from firstpick.studies import Study

STUDIES = [Study(name, "", "") for name in ("one", "two", "sub/three.v2")]


@pytest.fixture
def table(tmp_path):
    def write(text):
        path = tmp_path / "labels.csv"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_ids_and_file_names_both_name_a_study(table):
    assert read_classes(table("file,class\none.nii.gz,a\nsub/three.v2,b\n\ntwo,\n"), STUDIES) == {
        "one": "a",
        "sub/three.v2": "b",
    }


def test_a_column_can_be_named(table):
    path = table("study,site,class\none,x,a\ntwo,x,b\n")
    assert read_classes(f"{path}#class", STUDIES) == {"one": "a", "two": "b"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have two columns"),
        ("study\none\n", "it has study"),
        ("study,class\none,a\ntwo,a\n", r"gives all 2 studies one class \('a'\); two are needed"),
        ("study,class\none,a\none.png,b\n", "gives study 'one' two classes: 'a' and 'b'"),
        ("study,class\none,a\nsix,b\n", "labels 1 studies that the folder does not hold, such as 'six'"),
        ("study,class\none,\n", "no label for any of the 3 studies, such as 'one'"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(table, text, message):
    with pytest.raises(ValueError, match=message):
        read_classes(table(text), STUDIES)


def test_a_wrong_column_and_a_missing_table_are_told(table, tmp_path):
    path = table("study,class\none,a\ntwo,b\n")
    with pytest.raises(ValueError, match="must have a column 'label'"):
        read_classes(f"{path}#label", STUDIES)
    with pytest.raises(OSError, match="cannot be read: No such file"):
        read_classes(str(tmp_path / "none.csv"), STUDIES)


def test_studies_that_are_left_out_may_have_labels(table):
    path = table("study,class\none,a\ntwo,b\nlocalizer,a\n")
    assert set(read_classes(path, STUDIES, left_out=["localizer"])) == {"one", "two"}


def test_masks_are_found_by_their_names_whatever_their_format(phantom_volume):
    phantom_volume.nifti("masks/one.nii.gz")
    phantom_volume.itk("masks/two.nrrd")
    folder = phantom_volume.folder / "masks"
    found = {name: mask.study_id for name, mask in find_masks(folder, STUDIES).items()}
    assert found == {"one": "one.nii.gz", "two": "two.nrrd"}
    phantom_volume.nifti("masks/other.nii.gz")
    with pytest.raises(ValueError, match=r"such as 'other\.nii\.gz'"):
        find_masks(folder, STUDIES)


def test_masks_and_classes_find_their_study_by_any_of_its_names(phantom_volume, table):
    phantom_volume.nifti("images/a.nii")
    phantom_volume.itk("images/p/b.mha")
    phantom_volume.series("images/p/ct", uid="1.2.3", SeriesDescription="AX")
    studies = list_studies(phantom_volume.folder / "images")[0]
    for name in ("a", "p/b", "p/ct"):
        phantom_volume.nifti(f"masks/labels/{name}.nii.gz")
    found = find_masks(phantom_volume.folder / "masks" / "labels", studies)
    series = next(study.study_id for study in studies if study.is_series)
    assert {*found} == {"a.nii", "p/b.mha", series}
    for name in (series, "1.2.3", "p/ct", "p/ct/AX", "p/ct/1.2.3"):
        assert read_classes(table(f"study,class\n{name},x\na.png,y\n"), studies) == {series: "x", "a.nii": "y"}
    phantom_volume.nifti("images/a.nii.gz")
    twins = list_studies(phantom_volume.folder / "images")[0]
    with pytest.raises(ValueError, match=r"such as 'a\.nii\.gz'"):
        find_masks(phantom_volume.folder / "masks" / "labels", twins)
    classes = read_classes(table("study,class\na.nii,x\na.nii.gz,y\n"), twins)
    assert classes == {"a.nii": "x", "a.nii.gz": "y"}
