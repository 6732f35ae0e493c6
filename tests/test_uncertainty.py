"""What labels leave unsure: patches of real files, a probe, and what a batch makes of it."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from firstpick.encoders import EncoderSpec
from firstpick.learning import uncertainty
from firstpick.learning.draft import Labelled, LearningError
from firstpick.learning.look import Look, kept_patches, look, teach
from firstpick.learning.patches import patch_classes, pictured
from firstpick.learning.uncertainty import LabelledPatches, Uncertainty, doubt, drawn, looked_at
from firstpick.learning.weigh import weigh_here
from firstpick.learning.work import Teaching
from firstpick.studies import Pool, Sample, Slice, Study
from firstpick.voxels.labels import checksum
from firstpick.voxels.views import ViewSpec
from firstpick.voxels.volumes import VolumeError

SPEC = EncoderSpec("random-init", views=ViewSpec(size=112))
LABELS = (("block", 3), ("rod", 1))


def rng(seed=0):
    return np.random.default_rng(seed)


# -- the probe


def two_kinds(n=40, seed=0):
    """Two clouds far apart in the first feature, and what they are."""
    y = np.arange(n) % 2
    return LabelledPatches(np.column_stack([8.0 * y - 4, rng(seed).normal(size=n)]), y.astype(np.uint8), np.ones(n))


def test_a_probe_is_unsure_between_what_it_knows():
    taught = [two_kinds(seed=1), two_kinds(seed=2)]
    bits = doubt(taught, np.array([[0.0, 0], [-4, 0], [4, 0]]))
    np.testing.assert_allclose(bits, [1, 0, 0], atol=0.1)
    np.testing.assert_array_equal(bits, doubt(taught[::-1], np.array([[0.0, 0], [-4, 0], [4, 0]])))


def test_three_classes_that_nothing_tells_apart_are_worth_their_entropy():
    y = np.arange(300) % 3
    bits = doubt([LabelledPatches(np.zeros((300, 2)), y.astype(np.uint8), np.ones(300))], np.zeros((1, 2)))
    np.testing.assert_allclose(bits, [np.log2(3)], atol=1e-3)


def test_one_class_alone_says_nothing():
    with pytest.raises(ValueError, match="All labelled patches are of one class"):
        doubt([LabelledPatches(np.ones((5, 2)), np.zeros(5, np.uint8), np.ones(5))], np.ones((1, 2)))


def test_few_patches_of_a_label_are_all_taken_and_the_others_stand_for_more():
    classes = np.zeros(1000, np.uint8)
    classes[:10] = 2
    taught = drawn(np.arange(1000.0)[:, None], classes, 100, rng())
    assert len(taught.rows) == 100
    assert (taught.classes == 2).sum() == 10
    np.testing.assert_allclose([taught.weights[taught.classes == k].sum() for k in (2, 0)], [10, 990])
    fewer = taught.thinned(20)
    assert len(fewer.rows) == 20
    np.testing.assert_allclose(fewer.weights.sum(), 1000, rtol=0.1)


# -- patches of a picture


def test_a_patch_is_what_most_of_it_is_where_half_of_it_is_anything():
    masks = np.zeros((1, 6, 4), np.uint8)  # twice as many rows and columns as patches, below an edge of nothing
    masks[0, 0:2, 0:2] = [[1, 1], [2, 2]]  # a tie goes to the first
    masks[0, 2:4, 2:4] = [[1, 0], [0, 0]]
    masks[0, 4:6, 0:2] = 2
    found = patch_classes(masks, (slice(2, 8), slice(0, 4)), 8, 4, 2)
    assert found[0].tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [2, 0, 0, 0]]


def test_a_mask_that_is_larger_than_its_picture_is_seen_all_the_same():
    masks = np.zeros((1, 300, 300), np.uint8)
    masks[0, 150:, :] = 1
    found = patch_classes(masks, (slice(0, 28), slice(0, 28)), 28, 2, 1)
    assert found[0].tolist() == [[0, 0], [1, 1]]


def test_of_a_picture_thinner_than_a_patch_one_row_is_taken():
    inside = pictured((slice(5, 7), slice(0, 16)), 16, 4)
    assert inside.astype(int).tolist() == [[0] * 4, [1] * 4, [0] * 4, [0] * 4]
    assert pictured((slice(15, 16), slice(0, 16)), 16, 4).sum() == 4


# -- which studies


def test_labelled_studies_come_first_and_the_rest_is_drawn_by_ids_alone(monkeypatch):
    monkeypatch.setattr(uncertainty, "MOST_STUDIES", 5)
    pool = {f"study {n}": 64 for n in range(20)}
    found = [*looked_at(pool, ["study 7", "gone", "study 3"])]
    assert found[:2] == ["study 7", "study 3"]
    assert len(found) == 5
    backwards = dict(sorted(pool.items(), reverse=True))
    assert [*looked_at(backwards, ["study 7", "study 3"])] == found
    fewer = {name: n for name, n in pool.items() if name in found or name > "study 5"}
    assert [*looked_at(fewer, ["study 7", "study 3"])] == found, "those that are gone were not drawn"


def test_studies_of_many_slices_are_fewer(monkeypatch):
    monkeypatch.setattr(uncertainty, "MOST_PATCHES", 1000)
    assert len([*looked_at({f"study {n}": 480 for n in range(20)}, [])]) == 2


# -- what is known


KNOWN = Uncertainty(
    samples=(Sample("a"), Sample("b"), Sample("c")),
    rows=np.eye(4, dtype=np.float16),
    owner=np.array([0, 0, 1, 2]),
    bits=np.array([0.5, 1.5, 0.25, 1.0], np.float32),
    marks=("one",),
)


def test_patches_are_those_of_the_pool_whatever_its_rows():
    pool = Pool((Sample("0 new"), Sample("b"), Sample("c")), np.ones((3, 2), np.float32))
    patches = KNOWN.patches(pool)
    assert patches.owner.tolist() == [1, 2]
    np.testing.assert_array_equal(patches.rows, KNOWN.rows[2:])
    np.testing.assert_array_equal(patches.weights, KNOWN.bits[2:])


def test_studies_are_ranked_by_their_mean_entropy():
    assert KNOWN.of_study == {"a": 1.0, "b": 0.25, "c": 1.0}
    ranked = KNOWN.ranked(["a", "b", "c", "never looked at"])
    assert ranked == pytest.approx({"a": 0.0, "b": 2 / 3, "c": 0.0})
    assert KNOWN.quarters == {"a": 1, "b": 3, "c": 1}


# -- from files


class Ward:
    """Studies with a bright block and a brighter rod, stored with flipped axes, and their labels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def study(self, name, *, slices=(), fill=None):
        of = rng(int(name))
        classes = np.zeros((24, 20, 6), np.uint8)
        at = of.integers(0, 3)
        classes[11 + at : 20 + at, 3 + at : 12 + at, 1:5] = 3
        classes[11 + at : 20 + at, 12 + at : 17 + at, 1:6] = 1
        array = of.normal(0, 0.1, classes.shape) + (classes == 3) + 2 * (classes == 1)
        classes = classes if fill is None else np.full_like(classes, fill)
        affine = np.diag([-1.0, -1.0, 2.5, 1.0])  # LPS+ as stored
        path, label = self.folder / "images" / f"{name}.nii.gz", self.folder / "labels" / f"{name}-{fill}.nii.gz"
        for file, values in ((path, array.astype(np.float32)), (label, classes)):
            file.parent.mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(values[::-1, ::-1], affine), file)
        return Labelled(Study(f"{name}.nii.gz", "1", str(path)), label, checksum(label), float(name), slices)

    def teaching(self, labelled):
        return Teaching(tuple(labelled), SPEC, LABELS, self.folder / "tokens", 1.0, 0)

    def looked(self, one, slices=()):
        at = Look(one.study, slices)
        path = self.folder / "patches" / at.name(SPEC.fingerprint())
        if not path.exists():
            look(at, SPEC, path.parent)
        return path


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """Encoded once for all tests."""
    return Ward(tmp_path_factory.mktemp("ward"))


def test_a_study_gives_a_bounded_number_of_patches_the_same_each_time(ward):
    one = ward.study("1")
    path = ward.looked(one)
    before = kept_patches(path)
    path.unlink()
    assert before.rows.shape == (64, 384)
    assert before.rows.dtype == np.float16
    assert not before.part.any()
    np.testing.assert_array_equal(kept_patches(ward.looked(one)).rows, before.rows)
    assert {file.suffix for file in path.parent.iterdir()} == {".npz"}, "nothing half written is left"


def test_slices_give_sixteen_patches_each_in_their_own_planes(ward):
    slices = (Slice("axial", 3, 7.5), Slice("coronal", 8, 8.0), Slice("sagittal", 2, 2.0))
    found = kept_patches(ward.looked(ward.study("1"), slices))
    assert np.bincount(found.part).tolist() == [16, 16, 16]


def test_a_damaged_file_is_deleted_and_said_to_be_missing(ward):
    path = ward.folder / "patches" / "damaged.npz"
    path.write_bytes(ward.looked(ward.study("1")).read_bytes()[:500])
    assert kept_patches(path) is None
    assert not path.exists()
    assert weigh_here(ward.teaching([ward.study("2"), ward.study("3")]), (path,)) is None


def test_labelled_patches_are_what_the_label_says(ward):
    one = ward.study("1")
    taught = teach(one, spec=SPEC, labels=dict(LABELS), folder=ward.folder / "tokens", tokens_gb=1)
    parts = [taught.weights[taught.classes == k].sum() / taught.weights.sum() for k in (0, 1, 2)]
    truth = np.asarray(nib.load(one.label).dataobj)
    np.testing.assert_allclose(parts, [(truth == value).mean() for value in (0, 3, 1)], atol=0.04)


@pytest.mark.parametrize(("plane", "at"), [("axial", 0), ("coronal", 8)])
def test_of_a_study_of_which_slices_were_annotated_only_these_teach(ward, plane, at):
    one = ward.study("1", slices=(Slice(plane, at, 5.0),))
    taught = teach(one, spec=SPEC, labels=dict(LABELS), folder=ward.folder / "tokens", tokens_gb=1)
    truth = np.asarray(nib.load(one.label).dataobj)[::-1, ::-1]
    shown = truth[:, :, at] if plane == "axial" else truth[:, at]
    part = taught.weights[taught.classes > 0].sum() / taught.weights.sum()
    np.testing.assert_allclose(part, (shown > 0).mean(), atol=0.1)


def test_labels_say_what_is_unsure_and_their_order_does_not_matter(ward):
    labelled = [ward.study(str(n)) for n in range(3)]
    files = tuple(ward.looked(ward.study(str(n))) for n in (1, 4))
    found = weigh_here(ward.teaching(labelled), files)
    assert np.bincount(found.study).tolist() == [64, 64]
    np.testing.assert_allclose(np.linalg.norm(found.rows.astype(float), axis=1), 1, atol=1e-2)
    assert (found.bits >= 0).all()
    assert (found.bits <= np.log2(3) + 1e-6).all()
    assert found.bits.max() > 0.1
    np.testing.assert_array_equal(found.bits, weigh_here(ward.teaching(labelled[::-1]), files).bits)
    assert (found.bits != weigh_here(ward.teaching(labelled[1:]), files).bits).any(), "a deleted label is forgotten"


def test_labels_that_teach_nothing_are_said_to(ward):
    files = (ward.looked(ward.study("1")),)
    with pytest.raises(LearningError, match="2 labels are needed"):
        weigh_here(ward.teaching([ward.study("1")]), files)
    with pytest.raises(LearningError, match="of one class"):
        weigh_here(ward.teaching([ward.study(str(n), fill=0) for n in range(2)]), files)


def test_a_study_that_cannot_be_read_and_an_encoder_without_patches_are_named(ward):
    broken = Study("broken.nii.gz", "1", str(ward.folder / "broken.nii.gz"))
    Path(broken.source).write_bytes(b"no picture")
    with pytest.raises(VolumeError):
        look(Look(broken), SPEC, ward.folder)
    with pytest.raises(LearningError, match="'pixels' has no patches"):
        look(Look(broken), EncoderSpec("pixels", views=ViewSpec(size=112)), ward.folder)
