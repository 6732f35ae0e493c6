"""Masks: what counts, what an empty one costs, and what cannot be compared."""

from collections.abc import Mapping

import numpy as np
import pytest

from firstpick.evaluate.bench import Bench, read_examples
from firstpick.evaluate.patches import patch_probe
from firstpick.evaluate.segmentation import crop_size, mask_measures, read_example, segment
from firstpick.studies import Study
from firstpick.voxels.volumes import VolumeError

# MONAI warns of torch.jit while it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def mask(*columns, n=8):
    """An n x n label map with whole columns set to 1."""
    found = np.zeros((n, n), np.uint8)
    found[list(columns)] = 1
    return found


def test_dice_and_distance_by_hand():
    # 2 columns against 2, one in common: Dice 2*8 / 32; each border column is 1 away from the other's, 2 mm apart
    found = mask_measures([mask(2, 3)], [mask(3, 4)], [(2.0, 1.0)], ["organ"], [0])
    assert found["dice"] == found["dice: organ"] == pytest.approx(0.5)
    assert found["hd95"] == pytest.approx(2.0)


def test_a_missed_label_costs_the_diagonal_and_one_that_nobody_has_does_not_count():
    empty = mask()
    spacing = [(3.0, 4.0)] * 3
    found = mask_measures([empty, mask(1), empty], [mask(1), empty, empty], spacing, ["organ", "other"], [0, 1, 1])
    assert found["dice: organ"] == 0.0
    assert found["hd95: organ"] == pytest.approx(8 * 5.0)  # 8 voxels of 3 and of 4 mm
    assert np.isnan(found["dice: other"])
    assert (found["dice"], found["hd95"]) == (0.0, pytest.approx(40.0))


def test_the_mean_is_over_labels_not_over_studies():
    two = mask(1) + 2 * mask(5)
    found = mask_measures([two, mask(1)], [two, mask(2)], [(1.0, 1.0)] * 2, ["a", "b"], [0, 1])
    assert (found["dice: a"], found["dice: b"], found["dice"]) == (0.5, 1.0, 0.75)
    assert (found["dice, half 0"], found["dice, half 1"]) == (1.0, 0.0)


def as_study(path):
    return Study(path.name.partition(".")[0], "1", str(path))


def test_an_example_has_its_labels_numbered_and_its_intensities_scaled(phantom_volume):
    labels = np.where(phantom_volume.array > 0, 7, 0).astype(np.int16)
    study = as_study(phantom_volume.nifti("image.nii.gz", axes="LPI"))
    example = read_example(study, as_study(phantom_volume.nifti("mask.nii.gz", array=labels)), [3, 7])
    assert example.image.shape == example.label.shape == (10, 12, 8)
    assert set(np.unique(example.label)) == {0, 2}
    np.testing.assert_array_equal(example.image > 0, example.label == 2)  # flipped alike
    assert example.spacing == phantom_volume.spacing
    assert example.image.mean() == pytest.approx(0, abs=1e-5)


def test_a_mask_of_another_size_or_with_fractions_is_told(phantom_volume):
    study = as_study(phantom_volume.nifti("image.nii.gz"))
    small = as_study(phantom_volume.nifti("small.nii.gz", array=np.zeros((10, 12, 7), np.int16)))
    with pytest.raises(VolumeError, match=r"image has \(10, 12, 8\) voxels, but its mask \(10, 12, 7\)"):
        read_example(study, small, [1])
    soft = as_study(phantom_volume.nifti("soft.nii.gz", array=np.full((10, 12, 8), 0.5, np.float32)))
    with pytest.raises(VolumeError, match="The mask of soft is no label map"):
        read_example(study, soft, [1])


def bench_of(pairs: Mapping):
    names = sorted(pairs)
    return Bench(
        studies=tuple(Study(name, "1", str(pairs[name][0])) for name in names),
        groups=("",) * len(names),
        classes=(),
        masks=tuple(Study(name, "1", str(pairs[name][1])) for name in names),
        features={"pixels": np.arange(len(names), dtype=np.float32)[:, None]},
        fingerprints={"pixels": "p"},
    )


def finished(work):
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def test_a_study_that_does_not_fit_its_mask_is_left_out_and_noted(phantom_volume):
    image = phantom_volume.nifti("image.nii.gz")
    good = phantom_volume.nifti("good.nii.gz", array=(phantom_volume.array > 0).astype(np.int16))
    small = phantom_volume.nifti("small.nii.gz", array=np.ones((10, 12, 7), np.int16))
    broken = phantom_volume.folder / "broken.nii.gz"
    broken.write_bytes(b"")
    bench, examples, names = finished(
        read_examples(bench_of({"a": (image, good), "b": (image, small), "c": (image, broken)}), {1: "organ"})
    )
    assert [study.study_id for study in bench.studies] == ["a"]
    assert bench.features["pixels"].tolist() == [[0.0]]
    assert len(examples) == 1
    assert names == ("organ",)
    assert [note.partition(":")[0] for note in bench.notes] == ["Study c was left out", "Study b was left out"]


def test_masks_without_a_label_are_told(phantom_volume):
    image, empty = phantom_volume.nifti("i.nii"), phantom_volume.nifti("e.nii", array=np.zeros((10, 12, 8), np.int16))
    with pytest.raises(ValueError, match="the masks hold 0 labels besides the background"):
        finished(read_examples(bench_of({"a": (image, empty)}), {}))


def test_the_stand_in_learns_what_a_patch_is():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, (10, 40)).astype(np.uint8)
    X = (np.eye(3)[label] * 4 + rng.normal(size=(10, 40, 3))).astype(np.float32)
    half = np.arange(7) % 2
    found = patch_probe(X[:3], label[:3], X[3:], label[3:], half, ["a", "b"], 0)
    assert found["dice"] > 0.9
    assert set(found) == {"dice", "dice: a", "dice: b", "dice, half 0", "dice, half 1"}
    shuffled = patch_probe(X[:3], rng.permuted(label[:3], axis=1), X[3:], label[3:], half, ["a", "b"], 0)
    assert shuffled["dice"] < 0.6


def test_a_batch_without_a_label_predicts_background():
    X, label = np.zeros((2, 4, 3), np.float32), np.zeros((2, 4), np.uint8)
    assert patch_probe(X, label, X, label + 1, [0, 1], ["a"], 0)["dice"] == 0.0


@pytest.mark.slow
def test_a_segmenter_finds_a_bright_block_the_same_way_twice(phantom_volume):
    rng = np.random.default_rng(0)
    examples = []
    for number in range(6):
        array = rng.normal(size=(16, 16, 16)).astype(np.float32)
        corner = rng.integers(2, 8, 3)
        block = tuple(slice(int(start), int(start) + 6) for start in corner)
        array[block] += 8
        labels = np.zeros(array.shape, np.int16)
        labels[block] = 1
        image = phantom_volume.nifti(f"{number}.nii", array=array, affine=np.eye(4))
        on_top = phantom_volume.nifti(f"{number}m.nii", array=labels, affine=np.eye(4))
        examples.append(read_example(as_study(image), as_study(on_top), [1]))
    crop = crop_size(examples)
    assert crop == (16, 16, 16)
    first = segment(examples[:4], examples[4:], [0, 1], ["block"], crop, 3, 25)
    assert first["dice"] > 0.8
    assert first["hd95"] < 5
    assert segment(examples[:4], examples[4:], [0, 1], ["block"], crop, 3, 25) == first
