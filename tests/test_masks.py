"""What is a mask, by its name, its folder or its header; and what only sounds like one."""

import struct

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from firstpick.sources.folder import Eligibility, list_studies
from firstpick.sources.masks import is_mask_by_header, is_mask_by_name, why_no_folder_of_studies

MASKS = [
    "case_seg", "case-seg", "case.seg", "case_segmentation", "case_label", "case-label", "case_labels", "case_mask",
    "case-mask", "case_masks", "case_gt", "case_dseg", "case_probseg", "case_msk", "case_roi", "case_groundtruth",
    "case_ground_truth", "case_annotation", "case_pred", "case_labelmap", "case_seg-2", "case-label_1", "case_gts",
    "case_mask_12", "case_seg_a", "case_mask-b", "case_seg1", "patient001_frame01_gt", "BraTS-GLI-00000-000-seg",
    "BraTS19_2013_0_1_seg", "sub-01_space-T1w_desc-brain_mask", "sub-01_label-GM_probseg",
    "sub-verse500_dir-ax_seg-vert_msk", "sub-01_label-L_desc-T1lesion_mask", "ISIC_0000000_segmentation",
    "CASE_SEG", "Case00_Segmentation", "aparc+aseg", "wmparc", "aseg", "segmentation", "segmentation-12",
    "segmentation_00012", "labels-0", "label0001", "mask", "mask_01", "gt", "GT", "seg.3", "1_1_mask",
    "benign (1)_mask", "benign (1)_mask_1", "Segmentation 2", "my scan label",
]  # fmt: skip
IMAGES = [
    "case", "case_0000", "segmented_patient_ct", "masked", "mask_ct_01", "label_free_01", "unlabelled", "gt350",
    "gt350_ct", "label_free", "all_blood_masks_0361", "labelled_case", "imaging", "volume-12", "img0001",
    "patient001_frame01", "sub-01_label-WM_T1w", "sub-01_T1w", "ct_unmasked", "segway", "roi_study_ct",
    "seg_study_3_t1", "maske", "t1_gtv_plan", "predator", "brainmasking", "case_mask_0361", "presegmentation",
    "amos_0001", "Dataset_labels_0012", "landmark", "bookmark", "bitmask", "dataset_gt_0123", "case_0001_T2",
]  # fmt: skip
FOLDERS = [
    "labelsTr", "labelsTs", "labelsVal", "labelsVa", "LABELSTR", "labels", "Labels", "label", "masks", "mask",
    "segmentations", "segmentation", "seg", "gt", "gt_segmentations", "ground_truth", "GroundTruth", "Ground",
    "annotations", "manual_masks", "test_labels", "train_masks", "TrainMask", "labels_test", "predictions",
    "predictionsTs", "brain_masks",
]  # fmt: skip
NO_FOLDERS = [
    "imagesTr", "imagesTs", "images", "label_1", "label_free", "masked", "segmented", "unlabelled", "gt350",
    "background", "playground", "patient_7", "seg_study_3", "labelling", "mask_study", "all_blood_masks_2",
    "derivatives",
]  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_names_of_masks(name):
    assert is_mask_by_name(name)


@pytest.mark.parametrize("name", IMAGES)
def test_names_of_images(name):
    assert not is_mask_by_name(name)


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_of_masks(name):
    assert why_no_folder_of_studies(name, masks=False, system_folders=False)
    assert not why_no_folder_of_studies(name, masks=True, system_folders=False)


@pytest.mark.parametrize("name", NO_FOLDERS)
def test_folders_of_images(name):
    assert not why_no_folder_of_studies(name, masks=False, system_folders=False)


def reasons(folder, **kwargs):
    return {entry.study_id: entry.reason for entry in list_studies(folder, **kwargs)[1]}


def ids(folder, **kwargs):
    return [study.study_id for study in list_studies(folder, **kwargs)[0]]


def test_masks_are_left_out_with_a_reason_once_for_a_folder(phantom_volume):
    folder = phantom_volume.folder
    for name in (
        "imagesTr/a.nii.gz",
        "labelsTr/a.nii.gz",
        "labelsTr/sub/b.nii.gz",
        "b.nii",
        "b_seg.nii",
        "c-label.nrrd",
    ):
        (phantom_volume.itk if name.endswith("nrrd") else phantom_volume.nifti)(name)
    (folder / "labelsTr" / "readme.txt").write_text("masks")
    (folder / "labelsTr" / ".hidden").write_text("x")
    phantom_volume.nifti("p/segmentations/liver.nii.gz")
    phantom_volume.nifti("site/labels/final/a.nii.gz")
    assert ids(folder) == ["b.nii", "imagesTr/a.nii.gz"]
    assert reasons(folder) == {
        "b_seg.nii": "a mask by its name, not a study",
        "c-label.nrrd": "a mask by its name, not a study",
        "labelsTr/": "a folder of masks, not studies: 3 files",
        "p/segmentations/": "a folder of masks, not studies: 1 file",
        "site/labels/": "a folder of masks, not studies: 1 file",
    }
    wanted = Eligibility(masks=True)
    assert len(ids(folder, eligibility=wanted)) == 8
    assert reasons(folder, eligibility=wanted) == {"*.txt": "1 file ending in .txt is not read"}


def test_the_studies_folder_itself_may_have_any_name(phantom_volume):
    phantom_volume.nifti("labels/a.nii")
    assert ids(phantom_volume.folder / "labels") == ["a.nii"]


@pytest.mark.parametrize("name", ["liver.nrrd", "liver.nhdr"])
def test_a_segmentation_of_slicer_says_so_itself(phantom_volume, name):
    image = sitk.GetImageFromArray(np.zeros((4, 5, 6), np.uint8))
    image.SetMetaData("Segment0_ID", "Segment_1")
    image.SetMetaData("Segmentation_MasterRepresentation", "Binary labelmap")
    sitk.WriteImage(image, str(phantom_volume.folder / name))
    phantom_volume.itk("ct.nrrd")
    assert ids(phantom_volume.folder) == ["ct.nrrd"]
    assert reasons(phantom_volume.folder) == {name: "a mask by its header, not a study"}


@pytest.mark.parametrize("name", ["liver.nii", "liver.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_nifti_label_says_so_itself(tmp_path, name, kind):
    image = kind(np.zeros((4, 5, 6), np.uint8), np.eye(4))
    image.header.set_intent("label")
    nib.save(image, tmp_path / name)
    assert ids(tmp_path) == []
    assert reasons(tmp_path) == {name: "a mask by its header, not a study"}
    known = {}
    assert ids(tmp_path, known=known) == ids(tmp_path, known=known) == []


def test_either_byte_order_tells_and_damage_tells_nothing():
    header = bytearray(348)
    struct.pack_into(">i", header, 0, 348)
    struct.pack_into(">h", header, 68, 1002)
    assert is_mask_by_header(bytes(header))
    for head in (b"", b"x" * 348, bytes(header[:100]), b"\x1f\x8b broken", b"NRRD0004\n\nSegment0_ID:=x"):
        assert not is_mask_by_header(head)
    assert is_mask_by_header(b"NRRD0004\r\ntype: int16\r\nSegment0_ID:=x\r\n\r\n")
