"""Comparisons in which slices are chosen: they are told apart, kept together, and cut from the right place."""

import csv
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from firstpick.cli import main
from firstpick.evaluate.plain_slices import middle, strided
from firstpick.evaluate.segmentation import read_slices
from firstpick.studies import Sample, Slice, Study

# MONAI warns of torch.jit while it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def slices_of(study, n, *, plane="axial"):
    return [Sample(study, Slice(plane, index, 2.0 * index)) for index in range(n)]


SAMPLES = [*slices_of("a", 5), *slices_of("b", 4), *slices_of("c", 3, plane="coronal")]


def test_strided_takes_steps_of_equal_length_through_all_studies():
    found = strided(4, SAMPLES, seed=1)
    assert np.diff(sorted(found)).tolist() == [3, 3, 3]
    assert sorted(strided(12, SAMPLES, seed=0)) == list(range(12))
    assert len({strided(1, SAMPLES, seed=seed)[0] for seed in range(40)}) > 6  # the first is drawn
    assert strided(5, SAMPLES, seed=3) == strided(5, SAMPLES, seed=3)


def test_middle_takes_the_middle_of_each_study_and_then_its_neighbours():
    # of five slices the third; of four, two are as near: the first of them; of other planes where there is no axial one
    assert sorted(middle(3, SAMPLES, seed=0)) == [2, 6, 10]
    assert sorted(middle(6, SAMPLES, seed=0)) == [1, 2, 6, 7, 9, 10]
    assert sorted(middle(12, SAMPLES, seed=0)) == list(range(12))
    assert {middle(1, SAMPLES, seed=seed)[0] for seed in range(30)} == {2, 6, 10}  # whose turn it is, is drawn


@pytest.mark.parametrize(("plane", "axis"), [("sagittal", 0), ("coronal", 1), ("axial", 2)])
def test_a_slice_and_its_mask_are_cut_at_the_same_place(phantom_volume, plane, axis):
    labels = (phantom_volume.array > 0).astype(np.int16)
    image = Study("image", "1", str(phantom_volume.nifti("image.nii.gz", axes="LPI")))
    mask = Study("mask", "1", str(phantom_volume.nifti("mask.nii.gz", array=labels)))
    n = phantom_volume.array.shape[axis]
    found = read_slices(image, mask, [1], [Slice(plane, index, 0.0) for index in range(n)])
    for index, example in enumerate(found):
        expected = labels.take(index, axis=axis)
        np.testing.assert_array_equal(example.label, expected)
        if 0 < expected.mean() < 1:
            np.testing.assert_array_equal(example.image > 0, expected == 1)
    assert found[0].spacing == tuple(np.delete(phantom_volume.spacing, axis))


@pytest.fixture
def volumes(tmp_path):
    """Twelve volumes whose bright block lies low in half of them, high in the others; classes and masks of them."""
    import nibabel as nib

    rng = np.random.default_rng(0)
    lines = ["study,class"]
    for number in range(12):
        array, labels = rng.integers(0, 90, (16, 16, 9)).astype(np.int16), np.zeros((16, 16, 9), np.uint8)
        where = np.s_[4:12, 4:12, 1:4] if number % 2 else np.s_[4:12, 4:12, 5:8]
        array[where] += 200
        labels[where] = 1
        for folder, content in (("images", array), ("masks", labels)):
            (tmp_path / folder).mkdir(exist_ok=True)
            nib.Nifti1Image(content, np.eye(4)).to_filename(tmp_path / folder / f"{number:02}.nii.gz")
        lines.append(f"{number:02},{'low' if number % 2 else 'high'}")
    (tmp_path / "classes.csv").write_text("\n".join(lines))
    return tmp_path


@pytest.mark.slow
def test_slices_are_compared_by_class_and_no_study_lies_in_both_parts(volumes):
    code = main(
        [
            *(
                "compare",
                str(volumes / "images"),
                "--labels",
                str(volumes / "classes.csv"),
                "--out",
                str(volumes / "out"),
            ),
            *("--state", str(volumes / "state"), "--encoders", "pixels", "--judges", "random-init", "--seeds", "2"),
            *("--budgets", "4,8", "--random-draws", "2", "--repeats", "2", "--conf", "n_workers", "1"),
            *("--conf", "unit", "slice", "--conf", "views.planes", "[axial]", "--conf", "slices.max_per_study", "1"),
        ]
    )
    assert code == 0
    text = (volumes / "out" / "tables.md").read_text(encoding="utf-8")
    assert "36 slices of 12 groups, 2 classes" in text  # three of each volume
    with (volumes / "out" / "results.csv").open(encoding="utf-8") as file:
        arms = {line["arm"] for line in csv.DictReader(file)}
    assert {"middle slices", "strided slices", "kmeans, pixels, l2", "oracle, pixels, l2", "random"} == arms
    with closing(sqlite3.connect(volumes / "out" / "cells.sqlite")) as connection:
        kinds = "select recipe from cells where recipe like '%\"judge\"%'"
        assert connection.execute(kinds).fetchall()
        assert '["00.nii.gz", "axial",' in " ".join(row[0] for row in connection.execute(kinds))


def test_networks_that_learn_classes_want_whole_studies(volumes, capsys):
    code = main(
        [
            *(
                "compare",
                str(volumes / "images"),
                "--labels",
                str(volumes / "classes.csv"),
                "--out",
                str(volumes / "out"),
            ),
            *("--state", str(volumes / "state"), "--encoders", "pixels", "--train", "--conf", "unit", "slice"),
            *("--budgets", "4", "--conf", "n_workers", "1"),
        ]
    )
    assert code == 2
    assert "whole studies only: leave out --train, or take unit volume" in capsys.readouterr().err


@pytest.mark.slow
def test_slices_are_compared_by_mask_with_patches_made_in_a_worker(volumes):
    arguments = [
        *("compare", str(volumes / "images"), "--labels", str(volumes / "masks"), "--out", str(volumes / "out")),
        *("--state", str(volumes / "state"), "--encoders", "pixels", "--seeds", "2", "--budgets", "4"),
        *("--random-draws", "2", "--repeats", "1", "--conf", "n_workers", "1"),
        *("--conf", "unit", "slice", "--conf", "views.planes", "[axial]"),
    ]
    assert main(arguments) == 0
    (patches,) = (volumes / "state").glob("patches-*.npz")
    with np.load(patches) as kept:
        assert kept["tokens"].shape[:2] == kept["label"].shape == (36, 144)
    with (volumes / "out" / "results.csv").open(encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if (line["judge"], line["measure"]) == ("patches", "dice")]
    assert "random, by foreground" in {line["arm"] for line in lines}
    assert max(float(line["value"]) for line in lines) > 0.5
