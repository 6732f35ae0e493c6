"""Reading voxels: every format, every orientation, every kind of damage."""

from __future__ import annotations

import gzip
import itertools
import locale
import os
import pickle
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image
from pydicom.dataset import Dataset

from firstpick.studies import Study
from firstpick.voxels import raw
from firstpick.voxels.volumes import VolumeError, read_volume

AXIS_CODES = [
    "".join(axes)
    for order in itertools.permutations(("RL", "AP", "SI"))
    for axes in itertools.product(*order)
]  # fmt: skip


def assert_is_phantom(volume, phantom):
    np.testing.assert_array_equal(volume.array, phantom.array)
    np.testing.assert_allclose(volume.spacing, phantom.spacing, rtol=1e-6)
    assert volume.array.dtype == np.float32
    assert not volume.is_picture


@pytest.mark.parametrize("axes", AXIS_CODES)
def test_every_orientation_of_nifti_gives_the_same_volume(phantom_volume, axes):
    assert_is_phantom(read_volume(phantom_volume.nifti("a.nii", axes=axes)), phantom_volume)


@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.mha", "a.mhd", "a.nii.gz", "A.NII", "A.NII.GZ", "A.NRRD"])
def test_all_volume_formats_agree(phantom_volume, name):
    path = phantom_volume.nifti(name) if "nii" in name.lower() else phantom_volume.itk(name)
    volume = read_volume(path)
    assert_is_phantom(volume, phantom_volume)
    assert volume.modality == ""
    assert volume.notes == ()


def test_a_dicom_series_agrees_with_nifti(phantom_volume):
    volume = read_volume(phantom_volume.series("ct"))
    assert_is_phantom(volume, phantom_volume)
    assert volume.modality == "CT"
    assert volume.notes == ()


def test_a_sagittal_series_is_turned_to_ras(phantom_volume):
    pixels = phantom_volume.array[::-1, ::-1, ::-1].transpose(0, 2, 1)  # slices to the left, rows down, columns back
    for index, slice_ in enumerate(pixels):
        phantom_volume.dicom(
            f"mr/{index}",
            slice_,
            ImagePositionPatient=[index * 0.5, 0, 0],
            ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
            PixelSpacing=[2.0, 0.75],
            Modality="MR",
        )
    volume = read_volume(phantom_volume.folder / "mr")
    assert_is_phantom(volume, phantom_volume)
    assert volume.modality == "MR"


def test_an_oblique_volume_keeps_its_grid(phantom_volume):
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn * phantom_volume.spacing
    assert_is_phantom(read_volume(phantom_volume.nifti(affine=affine)), phantom_volume)


def test_nifti_slope_and_intercept_are_applied(phantom_volume):
    path = phantom_volume.nifti("a.nii")
    image = nib.load(path)
    data = bytearray(path.read_bytes())
    data[112:120] = np.array([0.5, 24], image.header["scl_slope"].dtype).tobytes()
    path.write_bytes(data)
    np.testing.assert_array_equal(read_volume(path).array, phantom_volume.array * 0.5 + 24)


def test_dicom_slope_and_intercept_are_applied_to_each_slice_by_itself(phantom_volume):
    for index in range(3):
        phantom_volume.dicom(
            f"pt/{index}",
            np.full((4, 5), 10, np.uint16),
            ImagePositionPatient=[0, 0, index],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            RescaleSlope=str(0.5 + index),
            RescaleIntercept="-3",
        )
    values = read_volume(phantom_volume.folder / "pt").array[0, 0]
    np.testing.assert_array_equal(values, [2, 12, 22])


@pytest.mark.parametrize(("bits", "white"), [(8, 255), (16, 4095)])
def test_monochrome1_is_inverted_once(phantom_volume, bits, white):
    pixels = np.arange(12, dtype=f"uint{bits}").reshape(3, 4)
    stored = {"BitsStored": 12, "HighBit": 11} if bits == 16 else {}
    for photometric, expected in {"MONOCHROME1": white - pixels, "MONOCHROME2": pixels}.items():
        path = phantom_volume.dicom("xray.dcm", pixels, Modality="DX", PhotometricInterpretation=photometric, **stored)
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.array[:, :, 0], expected.T)
        assert volume.is_picture
        assert volume.modality == "DX"


def test_a_single_frame_is_a_picture_and_never_flipped(phantom_volume):
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    path = phantom_volume.dicom(
        "IM0001",
        pixels,
        Modality="CR",
        PixelSpacing=[0.2, 0.1],
        ImagePositionPatient=[0, 0, 0],
        ImageOrientationPatient=[-1, 0, 0, 0, -1, 0],
    )
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array[:, :, 0], pixels.T)
    assert volume.spacing[:2] == (0.1, 0.2)
    assert volume.is_picture


def test_a_multi_frame_file_is_a_volume(phantom_volume):
    frames = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    volume = read_volume(phantom_volume.dicom("us.dcm", frames, Modality="US"))
    assert volume.array.shape == (5, 4, 3)
    assert not volume.is_picture


def test_frames_of_an_enhanced_file_are_sorted_by_position(phantom_volume):
    order = [3, 0, 7, 1, 2, 6, 5, 4]
    frames = []
    for index in order:
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, index * phantom_volume.spacing[2]]
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [phantom_volume.spacing[1], phantom_volume.spacing[0]]
    measures.SliceThickness = "2"
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    path = phantom_volume.dicom(
        "enhanced",
        np.ascontiguousarray(phantom_volume.array[::-1, ::-1].T[order]),
        SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1",
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=frames,
    )
    assert_is_phantom(read_volume(path), phantom_volume)


def test_jpeg_2000_slices_without_any_uid_are_read(shared_data):
    volume = read_volume(shared_data / "full_size" / "dicom_ct")
    assert volume.array.shape == (512, 512, 20)
    np.testing.assert_allclose(volume.spacing, (0.9765625, 0.9765625, 2.0))
    assert volume.modality == "CT"
    assert volume.array.min() == -1024
    one = read_volume(min((shared_data / "full_size" / "dicom_ct").iterdir()))
    assert one.is_picture
    assert one.array.shape == (512, 512, 1)


def test_of_a_folder_with_two_series_each_is_read_by_its_files(phantom_volume):
    folder = phantom_volume.series("two", uid="1.2.3")
    first = tuple(sorted(path.name for path in folder.iterdir()))
    phantom_volume.array = phantom_volume.array + 5
    phantom_volume.series("two", uid="1.2.4")
    second = tuple(sorted({path.name for path in folder.iterdir()} - {*first}))
    assert read_volume(Study("one", "", str(folder), files=first)).array.min() == -1000
    assert read_volume(Study("other", "", str(folder), files=second)).array.min() == -995
    with pytest.raises(VolumeError, match="two holds 2 DICOM series"):
        read_volume(folder)


def test_a_missing_slice_is_noted_and_does_not_stretch_the_volume(phantom_volume):
    volume = read_volume(phantom_volume.series("ct", without=[3]))
    assert volume.array.shape[2] == 7
    np.testing.assert_allclose(volume.spacing, phantom_volume.spacing)
    assert "2 to 4 mm apart" in volume.notes[0]


def test_of_slices_at_one_position_the_first_is_taken(phantom_volume):
    folder = phantom_volume.series("ct")
    for path in list(folder.iterdir()):
        path.rename(path.with_suffix(""))
    phantom_volume.array = phantom_volume.array + 5
    phantom_volume.series("ct", InstanceNumber="100")
    volume = read_volume(folder)
    assert volume.array.min() == -1000
    assert "16 slices share 8 positions" in volume.notes[0]


def test_slices_without_positions_are_sorted_by_number(phantom_volume):
    for number, value in [(2, 20), (1, 10), (3, 30)]:
        phantom_volume.dicom(f"a/{5 - number}", np.full((2, 3), value, np.uint8), InstanceNumber=str(number))
    volume = read_volume(phantom_volume.folder / "a")
    np.testing.assert_array_equal(volume.array[0, 0], [10, 20, 30])
    assert "no position" in volume.notes[0]


def test_slices_that_do_not_stack_up_are_an_error(phantom_volume):
    folder = phantom_volume.series("ct", uid="1.2.3")
    tags = {"ImagePositionPatient": [0, 0, 50], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    other = phantom_volume.dicom("ct/zz.dcm", np.zeros((3, 4), np.int16), SeriesInstanceUID="1.2.3", **tags)
    with pytest.raises(VolumeError, match=r"ct: slices differ in size \(10 x 12 and 4 x 3 voxels; zz.dcm"):
        read_volume(folder)
    tags = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [0, 1, 0, 0, 0, 1]}
    phantom_volume.dicom("ct/zz.dcm", np.zeros((12, 10), np.int16), SeriesInstanceUID="1.2.3", **tags)
    with pytest.raises(VolumeError, match="different orientations"):
        read_volume(folder)
    phantom_volume.dicom("ct/zz.dcm", np.zeros((3, 4), np.int16), SeriesInstanceUID="1.2.3", ImageType=["LOCALIZER"])
    assert_is_phantom(volume := read_volume(folder), phantom_volume)
    assert volume.notes == ("1 localizers among the slices left out",)
    other.unlink()
    slice_ = min(folder.iterdir())
    slice_.write_bytes(slice_.read_bytes()[:-50])
    with pytest.raises(VolumeError, match=f"ct: its slice {slice_.name} cannot be read"):
        read_volume(folder)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_colour_becomes_luminance_and_alpha_is_ignored(tmp_path, name):
    pixels = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]], [[0, 0, 0], [255, 255, 255]]], np.uint8)
    expected = (pixels @ [0.299, 0.587, 0.114]).T
    Image.fromarray(pixels).save(tmp_path / name)
    volume = read_volume(tmp_path / name)
    np.testing.assert_allclose(volume.array[:, :, 0], expected, rtol=1e-5)
    assert volume.is_picture
    assert volume.spacing == (1, 1, 1)
    if name == "a.png":
        Image.fromarray(np.dstack([pixels, np.full((3, 2), 7, np.uint8)])).save(tmp_path / name)
        np.testing.assert_allclose(read_volume(tmp_path / name).array[:, :, 0], expected, rtol=1e-5)


def test_colour_of_dicom_and_nifti_becomes_luminance(phantom_volume):
    pixels = np.random.default_rng(0).integers(0, 255, (4, 5, 3), np.uint8)
    expected = pixels @ [0.299, 0.587, 0.114]
    volume = read_volume(phantom_volume.dicom("us.dcm", pixels, Modality="US"))
    np.testing.assert_allclose(volume.array[:, :, 0], expected.T, rtol=1e-5)
    fields = pixels.view([("R", "u1"), ("G", "u1"), ("B", "u1")])
    volume = read_volume(phantom_volume.nifti("a.nii", array=fields))
    np.testing.assert_allclose(volume.array[:, :, 0], expected, rtol=1e-5)
    image = sitk.GetImageFromArray(np.broadcast_to(pixels, (2, 4, 5, 3)), isVector=True)
    sitk.WriteImage(image, phantom_volume.folder / "a.mha")
    volume = read_volume(phantom_volume.folder / "a.mha")
    np.testing.assert_allclose(volume.array[::-1, ::-1, 0], expected.T, rtol=1e-5)


def test_a_palette_and_a_bilevel_picture_are_read(tmp_path):
    grey = np.array([[0, 255, 0]], np.uint8)
    Image.fromarray(grey).convert("1").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.png").array[:, 0, 0], grey[0])
    Image.fromarray(grey).convert("P").save(tmp_path / "b.png")
    np.testing.assert_allclose(read_volume(tmp_path / "b.png").array[:, 0, 0], grey[0], rtol=1e-5)


def test_a_16_bit_png_keeps_its_depth(tmp_path):
    pixels = np.array([[0, 300], [40000, 65535], [1, 2]], np.uint16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.png").array[:, :, 0], pixels.T)


def test_a_jpeg_is_read(tmp_path):
    Image.new("L", (8, 6), 100).save(tmp_path / "a.jpg")
    assert read_volume(tmp_path / "a.jpg").array.shape == (8, 6, 1)


def test_the_first_of_several_frames_is_taken_and_noted(phantom_volume):
    twice = np.stack([phantom_volume.array, phantom_volume.array * 0], axis=3)
    volume = read_volume(phantom_volume.nifti("a.nii.gz", array=twice))
    assert_is_phantom(volume, phantom_volume)
    assert volume.notes == ("first of 2 frames taken",)
    image = sitk.ReadImage(phantom_volume.itk("a.mha"))
    for name in ("b.nrrd", "b.mha"):
        sitk.WriteImage(sitk.JoinSeries([image, image * 0]), phantom_volume.folder / name)
        volume = read_volume(phantom_volume.folder / name)
        assert_is_phantom(volume, phantom_volume)
        assert volume.notes == ("first of 2 frames taken",)
    sitk.WriteImage(sitk.Compose([image, image * 0]), phantom_volume.folder / "c.mha")
    volume = read_volume(phantom_volume.folder / "c.mha")
    assert_is_phantom(volume, phantom_volume)
    assert volume.notes == ("first of 2 components taken",)


def test_the_first_page_of_a_tiff_is_taken_and_noted(tmp_path):
    pages = [Image.new("L", (4, 3), value) for value in (10, 20)]
    pages[0].save(tmp_path / "a.tiff", save_all=True, append_images=pages[1:])
    volume = read_volume(tmp_path / "a.tiff")
    assert volume.array.max() == 10
    assert volume.notes == ("first of 2 pages taken",)


def test_values_that_are_not_finite_become_the_smallest_one(phantom_volume):
    array = phantom_volume.array.astype(np.float64)
    array[0, 0, 0], array[1, 1, 1], array[2, 2, 2] = np.nan, np.inf, 1e300
    volume = read_volume(phantom_volume.nifti(array=array))
    assert_is_phantom(volume, phantom_volume)
    assert volume.notes == ("3 values that were not finite set to the smallest one, -1000",)
    with pytest.raises(VolumeError, match=r"^phantom.nii.gz holds no finite value\.$"):
        read_volume(phantom_volume.nifti(array=array * np.nan))


def test_complex_values_become_their_magnitude(phantom_volume):
    volume = read_volume(phantom_volume.nifti(array=np.full((2, 3, 4), 3 + 4j, np.complex64)))
    np.testing.assert_array_equal(volume.array, np.full((2, 3, 4), 5))
    assert "magnitude" in volume.notes[0]


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 4, 1), (5, 4), (1, 6, 7)])
def test_thin_and_empty_volumes_stay_volumes(phantom_volume, shape):
    volume = read_volume(phantom_volume.nifti(array=np.zeros(shape, np.int16), affine=np.diag([0.5, 0.75, 2.0, 1.0])))
    assert volume.array.shape == (*shape, 1)[:3]
    assert not volume.is_picture
    assert not volume.array.any()


def test_a_2d_metaimage_is_a_volume_of_one_slice(phantom_volume):
    volume = read_volume(phantom_volume.itk("a.mha", array=phantom_volume.array[:, :, 5]))
    np.testing.assert_array_equal(volume.array, phantom_volume.array[:, :, 5:6])


def test_units_of_nifti_become_mm(phantom_volume):
    path = phantom_volume.nifti("a.nii")
    image = nib.load(path)
    image.header.set_xyzt_units("micron")
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), path)
    np.testing.assert_allclose(read_volume(path).spacing, np.array(phantom_volume.spacing) / 1000)


def test_without_any_usable_form_nifti_keeps_its_spacing(phantom_volume):
    path = phantom_volume.nifti("a.nii")
    data = bytearray(path.read_bytes())
    data[320:324] = bytes(4)  # srow_z[2]
    path.write_bytes(data)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, phantom_volume.array[::-1, ::-1])  # to Left and Posterior, as ITK does
    assert volume.spacing == phantom_volume.spacing
    assert volume.notes == ("sform is unusable: spacing alone taken",)


def test_big_endian_nifti_is_read(phantom_volume):
    image = nib.Nifti1Image(phantom_volume.array, np.diag([*phantom_volume.spacing, 1]))
    path = phantom_volume.folder / "a.nii"
    nib.save(nib.Nifti1Image(phantom_volume.array, image.affine, image.header.as_byteswapped(">")), path)
    assert_is_phantom(read_volume(path), phantom_volume)


@pytest.mark.parametrize(
    "name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mhd", "a.dcm", "a.png", "a.jpg", "a.tif", "IM0001"]
)
@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "missing"])
def test_a_damaged_file_is_one_clear_sentence(phantom_volume, name, damage):
    path = phantom_volume.folder / name
    if damage == "empty":
        path.touch()
    elif damage == "text":
        path.write_text("This is no image. " * 50)
    elif damage == "truncated":
        _write_any(phantom_volume, name)
        data = path.with_suffix(".raw") if name == "a.mhd" else path
        data.write_bytes(data.read_bytes()[:-100])
    with pytest.raises(VolumeError) as caught:
        read_volume(path)
    message = str(caught.value)
    assert name in message
    assert message.endswith(".")
    assert "\n" not in message
    assert str(path.parent) not in message
    assert "0x" not in message
    assert len(message) < 300


def _write_any(phantom, name):
    noise = np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)
    if name in {"a.dcm", "IM0001"}:
        phantom.dicom(name, noise)
    elif name[2:] in {"png", "jpg", "tif"}:
        Image.fromarray(noise).save(phantom.folder / name)
    elif "nii" in name:
        phantom.nifti(name)
    else:
        phantom.itk(name)


@pytest.mark.parametrize("library", ["Python's", "Intel's"])
def test_whatever_unpacks_gzip_reads_the_same_and_sees_the_same_damage(phantom_volume, monkeypatch, library):
    if library == "Intel's":
        pytest.importorskip("isal")
        assert raw.open_gzip is not gzip.open
    monkeypatch.setitem(raw._PACKED, b"\x1f\x8b", raw.open_gzip if library == "Intel's" else gzip.open)
    path = phantom_volume.nifti("a.nii.gz")
    sound = path.read_bytes()
    np.testing.assert_array_equal(read_volume(path).array, phantom_volume.array)
    path.write_bytes(sound + b"more")
    assert read_volume(path).notes == ("bytes behind the packed data ignored",)
    np.testing.assert_array_equal(read_volume(path).array, phantom_volume.array)
    wrong = bytearray(sound)
    wrong[-8] ^= 255
    path.write_bytes(wrong)
    with pytest.raises(VolumeError, match=r"a\.nii\.gz cannot be read.*CRC"):
        read_volume(path)
    path.write_bytes(sound[: len(sound) // 2])
    with pytest.raises(VolumeError, match=r"a\.nii\.gz cannot be read.*end-of-stream"):
        read_volume(path)


def test_a_file_without_voxels_is_an_error(phantom_volume):
    with pytest.raises(VolumeError, match=r"a\.nii holds no voxel \(size 0 x 3 x 4\)"):
        read_volume(phantom_volume.nifti("a.nii", array=np.zeros((0, 3, 4), np.int16)))


def test_an_unsupported_ending_is_named_with_the_allowed_ones(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(VolumeError, match=r"notes\.txt is not DICOM.*\.nii\.gz .*\.bmp\.$"):
        read_volume(tmp_path / "notes.txt")


def test_a_folder_without_dicom_is_an_error(tmp_path):
    with pytest.raises(VolumeError, match="holds 0 DICOM series"):
        read_volume(tmp_path)


def test_permission_denied_is_said(phantom_volume, monkeypatch):
    path = phantom_volume.nifti("a.nii")
    path.chmod(0)
    if os.access(path, os.R_OK):  # the superuser may read anything
        monkeypatch.setattr("pathlib.Path.open", lambda *_args: (_ for _ in ()).throw(PermissionError(13, "denied")))
    with pytest.raises(VolumeError, match=r"^a\.nii may not be read: permission denied\.$"):
        read_volume(path)


def test_a_header_that_claims_too_much_is_an_error(phantom_volume):
    path = phantom_volume.nifti("a.nii")
    data = bytearray(path.read_bytes())
    data[42:48] = np.array([32767, 32767, 32767], np.int16).tobytes()
    path.write_bytes(data)
    with pytest.raises(VolumeError, match=r"a\.nii is too large: .* max_study_gb"):
        read_volume(path)


def test_an_error_crosses_processes(tmp_path):
    with pytest.raises(VolumeError) as caught:
        read_volume(tmp_path / "gone.nii")
    assert str(pickle.loads(pickle.dumps(caught.value))) == "gone.nii does not exist."  # noqa: S301


def test_reading_needs_little_more_memory_than_the_result(phantom_volume):
    path = phantom_volume.nifti("a.nii", array=np.zeros((256, 256, 200), np.int16), axes="LPI")
    tracemalloc.start()
    volume = read_volume(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert volume.array.nbytes == 256 * 256 * 200 * 4
    assert peak < 1.2 * volume.array.nbytes


def test_reading_leaves_the_locale_as_it_was(phantom_volume):
    before = locale.setlocale(locale.LC_ALL)
    try:
        read_volume(phantom_volume.itk("a.vtk"))
        assert locale.setlocale(locale.LC_ALL) == before
    finally:
        locale.setlocale(locale.LC_ALL, before)
