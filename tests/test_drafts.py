"""What a worker learns from label files, and the masks that it writes, on real files."""

import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from firstpick.encoders import EncoderSpec
from firstpick.encoders.patches import patch_encoder
from firstpick.learning.draft import Labelled, LearningError, draft, learn, lesson_key
from firstpick.learning.labels import read_classes
from firstpick.learning.stack import Stack
from firstpick.learning.tokens import TokenCache
from firstpick.studies import Study
from firstpick.voxels.grids import read_grid
from firstpick.voxels.labels import checksum, on_grid
from firstpick.voxels.views import ViewSpec
from firstpick.voxels.volumes import read_volume

pytestmark = pytest.mark.usefixtures("few_steps")

LABELS = {"block": 3, "rod": 1}
SPEC = EncoderSpec("pixels", views=ViewSpec(size=112))


class Ward:
    """Studies with a bright block and a brighter rod in the right, stored with flipped axes, and their labels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def study(self, name, *, mask=None):
        """Write a study; its label is right, or what `mask` makes of it."""
        of = np.random.default_rng(int(name))
        classes = np.zeros((24, 20, 8), np.uint8)
        at = of.integers(0, 3)
        classes[13 + at : 20 + at, 4 + at : 12 + at, 2:6] = 3
        classes[13 + at : 19 + at, 12 + at : 17 + at, 1:7] = 1
        array = of.normal(0, 0.1, classes.shape) + (classes == 3) + 2 * (classes == 1)
        affine = np.diag([-1.0, -1.0, 2.5, 1.0])  # LPS+ as stored
        path, label = self.folder / "images" / f"{name}.nii.gz", self.folder / "labels" / f"{name}.nii.gz"
        for file, values in ((path, array.astype(np.float32)), (label, classes if mask is None else mask(classes))):
            file.parent.mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(values[::-1, ::-1], affine), file)
        return Labelled(Study(f"{name}.nii.gz", "1", str(path)), label, checksum(label), float(name))


@pytest.fixture
def ward(tmp_path):
    return Ward(tmp_path)


def taught(ward, labelled, spec=SPEC, **others):
    return learn(labelled, spec=spec, labels=LABELS, folder=ward.folder / "tokens", tokens_gb=1, **others)


def drafted(ward, lesson, study, spec=SPEC, **others):
    out = ward.folder / "drafts" / "draft.nii.gz"
    return draft(lesson, study, spec=spec, folder=ward.folder / "tokens", tokens_gb=1, out=out, **others)


def test_five_labels_draft_a_mask_on_the_studys_own_grid_that_counts_as_a_label(ward, tmp_path):
    lesson = taught(ward, [ward.study(str(n)) for n in range(5)])
    assert (lesson.n_labels, lesson.warnings, lesson.classes) == (5, (), LABELS)
    assert lesson.held_out > 0.8
    assert {*lesson.per_study} == {f"{n}.nii.gz" for n in range(5)}
    assert {*lesson.per_class} == {*LABELS}
    next_one = ward.study("7")
    made = drafted(ward, lesson, next_one.study, served=Path(next_one.study.source))
    label = on_grid(made.path, read_grid(Path(next_one.study.source)), tmp_path / "as_sent.nii.gz")
    assert label.changes == "", "it lies on the grid of the file that readers open, axes and all"
    found, truth = nib.load(made.path).get_fdata(), nib.load(next_one.label).get_fdata()
    assert {*np.unique(found)} == {0, 1, 3}
    for name, value in LABELS.items():
        both = ((found == value) & (truth == value)).sum()
        assert 2 * both / ((found == value).sum() + (truth == value).sum()) > 0.8
        assert made.n_voxels[name] == (found == value).sum()
    assert 0 < made.unsure < 1
    assert [path.name for path in made.path.parent.iterdir()] == ["draft.nii.gz"]


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (lambda classes: np.ascontiguousarray(classes[::-1]), "disagrees with what the others teach"),
        (np.zeros_like, "is empty; 5 of the 5 others are not"),
        (lambda classes: np.roll(classes, (-9, 9), axis=(0, 1)), "disagrees with what the others teach"),
    ],
    ids=["flipped", "empty", "another organ"],
)
def test_a_bad_label_is_named(ward, mask, says):
    lesson = taught(ward, [ward.study(str(n), mask=mask if n == 2 else None) for n in range(6)])
    assert [doubt.study_id for doubt in lesson.warnings] == ["2.nii.gz"]
    assert says in lesson.warnings[0].sentence


def test_a_label_or_a_study_that_cannot_be_read_is_named_and_the_others_teach(ward):
    labelled = [ward.study(str(n)) for n in range(5)]
    labelled[1].label.write_bytes(b"no label")
    Path(labelled[3].study.source).unlink()
    lesson = taught(ward, labelled)
    assert lesson.n_labels == 3
    assert {doubt.study_id for doubt in lesson.warnings} == {"1.nii.gz", "3.nii.gz"}
    assert all(doubt.sentence.startswith("Nothing was learnt from its label.") for doubt in lesson.warnings)


def test_one_label_and_empty_ones_teach_nothing(ward):
    with pytest.raises(LearningError, match="2 labels are needed to learn from; 1 can be read"):
        taught(ward, [ward.study("1")])
    with pytest.raises(LearningError, match="No label holds block or rod yet"):
        taught(ward, [ward.study(str(n), mask=np.zeros_like) for n in range(3)])


def test_a_lesson_is_known_by_what_it_was_learnt_from_whatever_the_order(ward):
    labelled = [ward.study(str(n)) for n in range(3)]
    key = lesson_key(labelled, spec=SPEC, labels=LABELS)
    assert key == lesson_key(labelled[::-1], spec=SPEC, labels=LABELS)
    changed = replace(labelled[0], checksum="SHA256:0")
    others = [
        lesson_key(labelled[1:], spec=SPEC, labels=LABELS),
        lesson_key([changed, *labelled[1:]], spec=SPEC, labels=LABELS),
        lesson_key(labelled, spec=SPEC, labels={**LABELS, "rod": 2}),
        lesson_key(labelled, spec=EncoderSpec("random-init"), labels=LABELS),
        lesson_key(labelled, spec=SPEC, labels=LABELS, seed=1),
    ]
    assert len({key, *others}) == 6


def test_the_same_labels_draft_the_same_mask(ward):
    labelled = [ward.study(str(n)) for n in range(4)]
    masks = []
    for order in (labelled, labelled[::-1]):
        made = drafted(ward, taught(ward, order), ward.study("9").study)
        masks.append(np.asarray(nib.load(made.path).dataobj))
    np.testing.assert_array_equal(*masks)


def test_a_segmentation_file_is_read_by_its_names(ward):
    one = ward.study("1")
    image = sitk.ReadImage(str(one.label), sitk.sitkUInt8)
    other = sitk.Cast(image == 3, sitk.sitkUInt8) * 5 + sitk.Cast(image == 1, sitk.sitkUInt8) * 6
    for number, (name, value) in enumerate((("block", 5), ("somebody's own", 6))):
        for what, said in (("ID", name), ("Name", name), ("LabelValue", value), ("Layer", 0)):
            other.SetMetaData(f"Segment{number}_{what}", str(said))
    path = ward.folder / "label.seg.nrrd"
    sitk.WriteImage(other, str(path))
    volume = read_volume(one.study)
    np.testing.assert_array_equal(read_classes(path, volume, LABELS), read_classes(one.label, volume, {"block": 3}))


# -- tokens


def test_tokens_are_encoded_once_and_the_longest_unused_go_first(ward):
    encoder = patch_encoder(EncoderSpec("random-init"), 112)
    cache = TokenCache(ward.folder / "tokens", 1e9, encoder, "fingerprint")
    studies = [ward.study(str(n)).study for n in range(3)]
    for study in studies[:2]:
        assert cache.kept(study) is None
        tokens = cache.of(study, Stack(read_volume(study), ViewSpec(size=112)))
        assert tokens.rows.shape == (8, 8, 8, 384)
        np.testing.assert_array_equal(cache.kept(study).rows, tokens.rows)
    assert cache.kept(replace(studies[0], stamp="2")) is None, "its voxels are others now"
    n_bytes = sum(path.stat().st_size for path in (ward.folder / "tokens").iterdir())
    for path in (ward.folder / "tokens").iterdir():
        os.utime(path, (1, 1))
    assert cache.kept(studies[0]) is not None  # used last
    small = TokenCache(ward.folder / "tokens", 1.2 * n_bytes, encoder, "fingerprint")
    small.of(studies[2], Stack(read_volume(studies[2]), ViewSpec(size=112)))
    assert [small.kept(study) is not None for study in studies] == [True, False, True]


def test_a_damaged_file_of_tokens_is_made_again(ward):
    cache = TokenCache(ward.folder / "tokens", 1e9, patch_encoder(EncoderSpec("random-init"), 112), "fingerprint")
    study = ward.study("1").study
    cache.of(study, Stack(read_volume(study), ViewSpec(size=112)))
    (path,) = (ward.folder / "tokens").iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    assert cache.kept(study) is None


def test_drafts_with_tokens(ward):
    spec = EncoderSpec("random-init", views=ViewSpec(size=112))
    lesson = taught(ward, [ward.study(str(n)) for n in range(3)], spec)
    assert lesson.reduction is not None
    made = drafted(ward, lesson, ward.study("5").study, spec)
    assert made.n_voxels["block"] > 0
    assert len(list((ward.folder / "tokens").iterdir())) == 4
