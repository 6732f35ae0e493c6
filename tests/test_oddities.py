"""Kinds of oddities of real archives, in variations: the same id, the same voxels, whatever lies beside them."""

import json

import numpy as np
import oddities
import pytest
from archive import Outcome
from oddities import SHAPE, SPACING, phantom

PLAIN = np.diag([*SPACING, 1.0])
FLIPPED = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
PERMUTED = np.array([[0, 1.2, 0, 0], [1.5, 0, 0, 0], [0, 0, 3.0, 0], [0, 0, 0, 1.0]])
ZERO, NAN = np.zeros((4, 4)), np.full((4, 4), np.nan)
SINGULAR = np.diag([1.5, 1.2, 0.0, 1.0])
HALF_NAN = np.array([[1.5, 0, 0, np.nan], [0, 1.2, 0, 0], [0, 0, 3.0, 0], [0, 0, 0, 1]])


@pytest.fixture
def outcome_of(tmp_path):
    def outcome_of(folder):
        return Outcome.of(folder, tmp_path / "served")

    return outcome_of


def assert_is(volume, array, spacing=SPACING):
    np.testing.assert_allclose(volume.spacing, spacing, rtol=1e-5)
    np.testing.assert_allclose(volume.array, array, rtol=1e-5)


@pytest.mark.parametrize(
    ("sform", "qform", "codes", "expected", "spacing"),
    [
        (FLIPPED, PLAIN, (1, 1), phantom()[::-1, ::-1], SPACING),
        (PERMUTED, PLAIN, (1, 2), phantom().swapaxes(0, 1), (1.2, 1.5, 3.0)),
        (ZERO, FLIPPED, (1, 1), phantom()[::-1, ::-1], SPACING),
        (NAN, FLIPPED, (1, 1), phantom()[::-1, ::-1], SPACING),
        (NAN, PLAIN, (2, 1), phantom(), SPACING),
        (SINGULAR, FLIPPED, (1, 3), phantom()[::-1, ::-1], SPACING),
        (HALF_NAN, FLIPPED, (1, 1), phantom()[::-1, ::-1], SPACING),
        (FLIPPED, PLAIN, (0, 1), phantom(), SPACING),
    ],
    ids=["sform wins", "permuted", "zero", "nan", "nan, qform plain", "singular", "half nan", "not coded"],
)
def test_an_unusable_sform_falls_back_to_the_qform(tmp_path, outcome_of, sform, qform, codes, expected, spacing):
    oddities.nifti(tmp_path / "in" / "a.nii", sform=sform, qform=qform, sform_code=codes[0], qform_code=codes[1])
    assert_is(outcome_of(tmp_path / "in").one("a.nii"), expected, spacing)


def test_without_any_usable_form_the_spacing_is_that_of_pixdim(tmp_path, outcome_of):
    oddities.nifti(tmp_path / "in" / "none.nii", sform_code=0, qform_code=0)
    oddities.nifti(tmp_path / "in" / "broken.nii", sform=NAN, sform_code=1, qform_code=0)
    for name in ("none.nii", "broken.nii"):
        assert outcome_of(tmp_path / "in").one(name).spacing == pytest.approx(SPACING)


@pytest.mark.parametrize("without", [(2,), (3, 4), (1, 5, 6), (2, 5), (1, 2, 4)])
def test_missing_slices_neither_stretch_nor_shift_what_is_there(tmp_path, outcome_of, without):
    oddities.series(tmp_path / "in" / "gap", without=without, backwards=len(without) > 2)
    volume = outcome_of(tmp_path / "in").one("gap")
    kept = [index for index in range(SHAPE[2]) if index not in without]
    assert_is(volume, phantom()[:, :, kept])
    assert any("missing" in note for note in volume.notes)


@pytest.mark.parametrize(
    ("degrees", "along", "backwards"), [(20, 3, 0), (-12, 3, 0), (8, 5, 1), (30, 2.5, 1), (3, 3, 0)]
)
def test_a_tilted_gantry_shears_what_is_embedded_and_what_is_served(tmp_path, outcome_of, degrees, along, backwards):
    expected = oddities.tilted(tmp_path / "in" / "ct", degrees, along=along, backwards=bool(backwards))
    volume = outcome_of(tmp_path / "in").one("ct")
    np.testing.assert_array_equal(volume.array, phantom())
    np.testing.assert_allclose(volume.affine[:3, :3], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("slopes", "intercepts", "order", "shared"),
    [
        ([1, 2, 3, 4], [0, 10, 20, 30], None, False),
        ([0.5, 0.25, 2, 1], [-100, 0, 7, 1], [3, 2, 1, 0], False),
        ([3, 1, 1, 2], [1, 2, 3, 4], [1, 0, 3, 2], False),
        ([2, 2, 2, 2], [-50, -50, -50, -50], None, True),
        ([1e-3, 2e-3, 4e-3, 8e-3], [0, 0, 0, 0], None, False),
    ],
)
def test_each_frame_has_its_own_rescale_and_place(tmp_path, outcome_of, slopes, intercepts, order, shared):
    oddities.enhanced(tmp_path / "in" / "mr.dcm", slopes, intercepts, order=order, shared=shared)
    volume = outcome_of(tmp_path / "in").one("mr.dcm")
    frames = [100 * slope + intercept for slope, intercept in zip(slopes, intercepts, strict=True)]
    places = order or range(4)
    expected = [frames[[*places].index(place)] for place in range(4)]
    np.testing.assert_allclose(volume.array[0, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(volume.spacing, SPACING)


@pytest.mark.parametrize(
    ("slope", "intercept"),
    [
        (lambda k: 1 if k == 0 else round(0.01 + 0.002 * k, 4), lambda _: 0),
        (lambda k: round(0.5 / (k + 1), 6), lambda _: 0),
        (lambda k: 1 + 40 * k, lambda _: 0),
        (lambda _: 1, lambda k: 0 if k else -1024),
        (lambda k: 1 if k % 2 else 0.125, lambda k: -3 * k),
    ],
    ids=["first is 1", "falling", "beyond 16 bit", "intercepts", "alternating"],
)
def test_each_slice_has_its_own_slope(tmp_path, outcome_of, slope, intercept):
    tags = {"Modality": "PT", "SOPClassUID": oddities.PET, "RescaleSlope": slope, "RescaleIntercept": intercept}
    oddities.series(tmp_path / "in" / "pet", **tags)
    n = range(SHAPE[2])
    expected = phantom() * np.array([slope(k) for k in n]) + np.array([intercept(k) for k in n])
    np.testing.assert_allclose(outcome_of(tmp_path / "in").one("pet").array, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("others", "apart"),
    [
        ([{"PatientID": "P2"}], False),
        ([{"PatientID": "P2", "StudyInstanceUID": "1.2.10"}], True),
        ([{"StudyInstanceUID": "1.2.10"}], False),
        ([{"PatientID": "P2"}, {"PatientID": "P3"}], True),
        ([{"PatientID": ""}, {"PatientID": "p1"}], False),
    ],
)
def test_patients_and_visits_with_one_series_uid_are_studies_of_their_own(tmp_path, outcome_of, others, apart):
    folder = tmp_path / "in"
    oddities.series(folder / "ct0" if apart else folder, where=lambda index: f"A{index}.dcm")
    before = {study.study_id for study in outcome_of(folder).studies}
    for number, tags in enumerate(others, start=1):
        array = phantom()[::-1] + np.int16(1000 * number)
        where = lambda index, number=number: f"{'BCD'[number]}{index}.dcm"  # noqa: E731
        oddities.series(folder / f"ct{number}" if apart else folder, array=array, where=where, **tags)
    outcome = outcome_of(folder)
    assert len({study.study_id for study in outcome.studies}) == 1 + len(others)
    assert before < {study.study_id for study in outcome.studies}
    volumes = [volume for found in outcome.read.values() for volume in found]
    assert sorted(volume.array.max() for volume in volumes) == [
        phantom().max() + 1000 * number for number in range(1 + len(others))
    ]


@pytest.mark.parametrize(
    "where",
    [
        lambda k: f"DIR{k // 4:03d}/IM{k:04d}",
        lambda k: f"S{k:03d}/IMG",
        lambda k: f"{k % 2}/{k % 3}/{k}.dcm",
        lambda k: f"IM{k}" if k < 4 else f"more/IM{k}",
        lambda k: f"DIR{k // 4:03d}/IM{k % 4:04d}",
    ],
    ids=["four each", "one each", "nested", "root and below", "same names"],
)
def test_a_series_over_several_folders_is_one_study(tmp_path, outcome_of, where):
    folder = tmp_path / "in" / "scans"
    oddities.series(folder, uid="1.2.5")
    (alone,) = outcome_of(tmp_path / "in").studies
    oddities.series(tmp_path / "in" / "spread", uid="1.2.6", where=where)
    oddities.series(tmp_path / "in" / "spread", uid="1.2.7", where=lambda k: f"{where(k)}.second")
    outcome = outcome_of(tmp_path / "in")
    assert len(outcome.studies) == 3
    assert alone.study_id in {study.study_id for study in outcome.studies}
    for volume in (volume for found in outcome.read.values() for volume in found):
        assert_is(volume, phantom())


@pytest.mark.parametrize(
    "name", [b"M\xfcller.nii", b"\x93\xfa\x96{.nii", b"\xff.nii", b"ok/\x80\x81.nii", b"Stra\xdfe/scan.nii"]
)
def test_a_name_that_is_not_utf_8_is_said_and_stops_nothing(tmp_path, outcome_of, name):
    for good in ("a.nii", "b.nii"):
        oddities.nifti(tmp_path / "in" / good)
    oddities.named_in_bytes(tmp_path / "in", name)
    outcome = outcome_of(tmp_path / "in")
    assert {*outcome.read} == {"a.nii", "b.nii"}
    told = [f"{entry.study_id}: {entry.reason}" for entry in outcome.left_out]
    assert any("UTF-8" in text for text in told)
    json.dumps(told).encode()  # nothing of it breaks a listing


@pytest.mark.parametrize("folder", ["labelsTr", "labelsTs", "labelsVal", "cohort/labelsTr", "masks", "a/segmentations"])
def test_folders_of_masks_are_left_out_and_said_once(tmp_path, outcome_of, folder):
    for number in range(3):
        oddities.nifti(tmp_path / "in" / "imagesTr" / f"case_{number}.nii")
        oddities.mask(tmp_path / "in" / folder / f"case_{number}.nii.gz")
    outcome = outcome_of(tmp_path / "in")
    assert {*outcome.read} == {f"imagesTr/case_{number}.nii" for number in range(3)}
    (told,) = outcome.left_out
    assert told.study_id.startswith(folder)
    assert "mask" in told.reason
    assert "3" in told.reason


@pytest.mark.parametrize(
    "name",
    ["case_seg.nii.gz", "case-label.nrrd", "case.seg.nrrd", "case_mask.mha", "case_dseg.nii.gz", "sub/case-seg.nii.gz"],
)
def test_masks_beside_the_images_are_left_out_and_said(tmp_path, outcome_of, name):
    oddities.nifti(tmp_path / "in" / "case.nii")
    oddities.mask(tmp_path / "in" / name)
    outcome = outcome_of(tmp_path / "in")
    assert {*outcome.read} == {"case.nii"}
    assert "mask" in outcome.why(name) or "segmentation" in outcome.why(name)
