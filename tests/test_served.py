"""The file that readers open holds what was embedded: the same voxels in the same places, for SimpleITK and for us."""

from __future__ import annotations

import bz2
import gzip
import os
import struct

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset

from firstpick.studies import Study
from firstpick.voxels import served
from firstpick.voxels.formats import data_files
from firstpick.voxels.itk import kept_locale
from firstpick.voxels.served import serve_file, served_ending, served_path, write_volume
from firstpick.voxels.volumes import Volume, VolumeError, read_volume

LUMINANCE = np.array([0.299, 0.587, 0.114])
OBLIQUE = nib.eulerangles.euler2mat(0.1, 0.2, -0.3)
AXIAL = [1, 0, 0, 0, 1, 0]


def noise(*shape, dtype=np.int16, low=-900, high=3000):
    return np.random.default_rng(len(shape)).integers(low, high, shape).astype(dtype)


def by_simpleitk(path):
    """Voxels (x, y, z) and RAS+ affine as SimpleITK reads them, colour as luminance."""
    with kept_locale():
        image = sitk.ReadImage(str(path))
    n, view = image.GetDimension(), sitk.GetArrayFromImage(image)
    assert n <= 3
    if image.GetNumberOfComponentsPerPixel() > 1:
        view = view[..., :3] @ LUMINANCE
    affine = np.eye(4)
    affine[:n, :n] = np.reshape(image.GetDirection(), (n, n)) * image.GetSpacing()
    affine[:n, 3] = image.GetOrigin()
    return (view if n == 3 else view[np.newaxis]).T, np.diag([-1, -1, 1, 1]) @ affine


def assert_served_alike(study, folder):
    """Hold the law for one study; return its volume and the file that readers open."""
    volume = read_volume(study)
    path = serve_file(study, folder)
    assert path == serve_file(study, folder)
    array, affine = by_simpleitk(path)
    if not volume.is_picture:
        turn = nib.orientations.io_orientation(affine)
        affine = affine @ nib.orientations.inv_ornt_aff(turn, array.shape)
        array = nib.orientations.apply_orientation(array, turn)
    again = read_volume(path)
    for found, place in ((array, affine), (again.array, again.affine)):
        np.testing.assert_allclose(found, volume.array, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(place, volume.affine, atol=1e-3)
    assert again.is_picture == volume.is_picture
    np.testing.assert_allclose(np.linalg.norm(volume.affine[:3, :3], axis=0), volume.spacing)
    return volume, path


def check(tmp_path, path, *, as_it_lies, files=()):
    study = Study(path.name, "1", str(path), title=path.name, files=tuple(files))
    volume, opened = assert_served_alike(study, tmp_path / "served")
    assert (opened == path) == as_it_lies
    assert as_it_lies or opened.name.endswith((".nii.gz", ".nrrd"))
    return volume, opened


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "PIR", "SAL"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
def test_nifti_lies_as_it_is_read(phantom_volume, tmp_path, name, axes):
    check(tmp_path, phantom_volume.nifti(name, axes=axes, array=noise(5, 6, 7)), as_it_lies=True)


def test_an_oblique_volume_off_the_origin(phantom_volume, tmp_path):
    affine = nib.affines.from_matvec(OBLIQUE * [0.7, 0.9, 2.5], [-81.5, 12.25, 1034.125])
    volume, _ = check(tmp_path, phantom_volume.nifti("a.nii", affine=affine), as_it_lies=True)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-3)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "uint64", "float32", "float64"]
)
@pytest.mark.parametrize("scaling", [(1, 0), (0.03, -7)], ids=["plain", "scaled"])
def test_every_type_of_nifti(phantom_volume, tmp_path, dtype, scaling):
    array = noise(5, 6, 7, dtype=dtype, low=0, high=100)
    path = phantom_volume.folder / "a.nii"
    nib.save(nib.Nifti1Image(array, np.diag([1, 2, 3, 1.0]), dtype=dtype), path)
    data = bytearray(path.read_bytes())
    struct.pack_into("<ff", data, 112, *scaling)
    path.write_bytes(data)
    volume, _ = check(tmp_path, path, as_it_lies=True)
    np.testing.assert_allclose(volume.array, array * scaling[0] + scaling[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("offset", "values"),
    [
        (112, (0.0, 5.0)),  # ITK adds an intercept beside a slope of 0
        (112, (2.0, np.nan)),
        (280, (np.nan,) * 12),  # sform
        (280, (0.0,) * 12),
        (280, (1.0, 0.3, 0, 0, 0, 1, 0, 0, 0, 0, 2, 0)),  # sheared
        (108, (0.0,)),  # the offset of the voxels
    ],
    ids=["slope 0", "intercept nan", "sform nan", "sform zero", "sheared", "offset 0"],
)
def test_nifti_that_itk_reads_otherwise_is_written_anew(phantom_volume, tmp_path, offset, values):
    image = nib.Nifti1Image(noise(5, 6, 7), np.diag([-1, -1, 2, 1.0]))
    image.set_qform(image.affine, 1)
    path = phantom_volume.folder / "a.nii"
    nib.save(image, path)
    data = bytearray(path.read_bytes())
    struct.pack_into(f"<{len(values)}f", data, offset, *values)
    path.write_bytes(data)
    check(tmp_path, path, as_it_lies=False)


def test_forms_that_disagree_are_said_and_the_sform_is_taken(phantom_volume, tmp_path):
    image = nib.Nifti1Image(noise(5, 6, 7), np.diag([-1, -1, 2, 1.0]))
    image.set_sform(np.diag([-1, -1, 2, 1.0]), 1)
    image.set_qform(np.diag([1, 1, 2, 1.0]), 2)
    nib.save(image, tmp_path / "a.nii")
    volume, _ = check(tmp_path, tmp_path / "a.nii", as_it_lies=True)
    np.testing.assert_array_equal(volume.array, noise(5, 6, 7)[::-1, ::-1])
    assert volume.notes == ("sform and qform disagree: sform taken",)


@pytest.mark.parametrize("unit", [4, 7, 255])
def test_a_unit_that_does_not_exist_is_mm(phantom_volume, tmp_path, unit):
    path = phantom_volume.nifti("a.nii")
    data = bytearray(path.read_bytes())
    data[123] = unit
    path.write_bytes(data)
    volume, _ = check(tmp_path, path, as_it_lies=True)
    assert volume.spacing == phantom_volume.spacing
    assert "mm assumed" in volume.notes[0]


@pytest.mark.parametrize(
    ("name", "pack", "as_it_lies"),
    [
        ("a.nii.gz", lambda raw: raw, True),
        ("a.nii", gzip.compress, False),
        ("a.nii.gz", lambda raw: gzip.compress(raw[:900]) + gzip.compress(raw[900:]), True),
        ("a.nii.gz", lambda raw: gzip.compress(raw) + b"garbage", True),
        ("a.nii.bz2", bz2.compress, False),
        ("a.Nii.Gz", gzip.compress, False),
    ],
    ids=["not packed", "packed", "in two parts", "garbage behind", "bzip2", "mixed case"],
)
def test_packed_or_not_whatever_it_is_named(phantom_volume, tmp_path, name, pack, as_it_lies):
    raw = phantom_volume.nifti("raw.nii").read_bytes()
    (tmp_path / name).write_bytes(pack(raw))
    volume, _ = check(tmp_path, tmp_path / name, as_it_lies=as_it_lies)
    np.testing.assert_array_equal(volume.array, phantom_volume.array)


@pytest.mark.parametrize(
    ("kind", "name", "header"),
    [
        (nib.Nifti2Image, "a.nii", "a.nii"),
        (nib.Nifti1Pair, "a.img", "a.hdr"),
        (nib.Nifti1Pair, "a.img", "a.img"),
        (nib.Nifti2Pair, "a.img", "a.hdr"),
        (nib.Spm99AnalyzeImage, "a.img", "a.hdr"),
        (nib.MGHImage, "a.mgz", "a.mgz"),
        (nib.MGHImage, "a.mgh", "a.mgh"),
    ],
)
def test_formats_that_itk_does_not_read_as_one_file(tmp_path, kind, name, header):
    nib.save(kind(noise(5, 6, 7), np.diag([1, 2, 3, 1.0])), tmp_path / name)
    volume, _ = check(tmp_path, tmp_path / header, as_it_lies=False)
    np.testing.assert_array_equal(volume.array, noise(5, 6, 7))


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.gipl", "a.vtk", "a.mnc", "a.mrc", "a.h5"])
def test_formats_of_one_file_lie_as_they_are_read(phantom_volume, tmp_path, name):
    volume, _ = check(tmp_path, phantom_volume.itk(name), as_it_lies=True)
    np.testing.assert_array_equal(volume.array, phantom_volume.array)


@pytest.mark.parametrize(("name", "voxels"), [("a.nhdr", "a.raw.gz"), ("a.mhd", "a.raw")])
def test_two_files_are_served_as_one(phantom_volume, tmp_path, name, voxels):
    path = phantom_volume.itk(name)
    assert data_files(path) == [voxels] or data_files(path) == ["a.raw"]
    check(tmp_path, path, as_it_lies=False)
    (tmp_path / data_files(path)[0]).unlink()
    with pytest.raises(VolumeError, match=rf"^{name} cannot be read: its file a\.raw\S* does not exist\.$"):
        read_volume(path)


def nrrd(path, array, *fields, encoding="raw", data=None, header_fields=("dimension: 3",)):
    kind = {"int16": "int16", "float32": "float"}[array.dtype.name]
    head = ["NRRD0004", f"type: {kind}", *header_fields, f"sizes: {' '.join(map(str, array.shape))}", "endian: little"]
    raw = array.tobytes(order="F") if data is None else data
    path.write_bytes("\n".join([*head, *fields, f"encoding: {encoding}", "", ""]).encode() + raw)
    return path


@pytest.mark.parametrize(
    ("space", "directions", "as_it_lies"),
    [
        ("left-posterior-superior", "(1,0,0) (0,2,0) (0,0,3)", True),
        ("RAS", "(0,0,3) (1,0,0) (0,2,0)", True),
        ("left-anterior-superior", "(1,0,0) (0,-2,0) (0,0,3)", True),
        ("left-posterior-superior", "(1,0.2,0) (0,2,0.1) (0,0.3,3)", True),  # which ITK keeps
    ],
)
def test_spaces_of_nrrd(tmp_path, space, directions, as_it_lies):
    fields = f"space: {space}", f"space directions: {directions}", "space origin: (10,-20,30.5)"
    check(tmp_path, nrrd(tmp_path / "a.nrrd", noise(5, 6, 7), *fields), as_it_lies=as_it_lies)


def test_bzip2_and_lists_of_nrrd_are_written_anew(tmp_path):
    place = "space: left-posterior-superior", "space directions: (1,0,0) (0,2,0) (0,0,3)"
    packed = bz2.compress(noise(5, 6, 7).tobytes(order="F"))
    nrrd(tmp_path / "a.nrrd", noise(5, 6, 7), *place, encoding="bzip2", data=packed)
    volume, _ = check(tmp_path, tmp_path / "a.nrrd", as_it_lies=False)
    np.testing.assert_array_equal(volume.array[::-1, ::-1], noise(5, 6, 7))
    place = place[0], place[1].replace(":", ": none", 1), "kinds: list domain domain domain"
    twice = np.stack([noise(5, 6, 7), noise(5, 6, 7) + 1])
    nrrd(tmp_path / "b.nrrd", twice, *place, header_fields=("dimension: 4",))
    volume, _ = check(tmp_path, tmp_path / "b.nrrd", as_it_lies=False)
    assert volume.notes == ("first of 2 components taken",)


def test_what_was_replaced_or_dropped_is_written_anew(phantom_volume, tmp_path):
    array = noise(5, 6, 7, dtype=np.float32)
    array[1, 2, 3] = np.nan
    check(tmp_path, phantom_volume.nifti("nan.nii", array=array), as_it_lies=False)
    check(tmp_path, phantom_volume.nifti("4d.nii", array=noise(5, 6, 7, 2)), as_it_lies=False)
    check(tmp_path, phantom_volume.nifti("2d.nii", array=noise(5, 6)), as_it_lies=False)
    check(tmp_path, phantom_volume.nifti("complex.nii", array=array[:1] * np.complex64(1 + 1j)), as_it_lies=False)


# -- DICOM


@pytest.mark.parametrize("degrees", [20, -12, 3])
@pytest.mark.parametrize("without", [(), (2, 3)])
def test_a_tilted_series_is_sheared_alike(phantom_volume, tmp_path, degrees, without):
    angle = np.deg2rad(degrees)
    down = [0, np.cos(angle), -np.sin(angle)]
    folder = phantom_volume.series("ct", ImageOrientationPatient=[1, 0, 0, *down], without=without)
    volume, opened = check(tmp_path, folder, as_it_lies=False)
    assert opened.name.endswith(".nrrd")
    shape = np.subtract(phantom_volume.array.shape, [0, 0, len(without)])
    assert volume.array.shape == (*shape,)
    dx, dy, dz = phantom_volume.spacing
    steps = np.array([[dx, 0, 0], [0, dy * np.cos(angle), 0], [0, dy * np.sin(angle), dz]])
    np.testing.assert_allclose(volume.affine[:3, :3], steps, atol=1e-6)
    # In LPS+ the first voxel of the file lies at the origin: in RAS+ it is the last one of both axes.
    last = volume.affine @ [shape[0] - 1, shape[1] - 1, 0, 1]
    np.testing.assert_allclose(last[:3], 0, atol=1e-6)


def test_a_series_with_missing_slices_keeps_its_spacing(phantom_volume, tmp_path):
    volume, opened = check(tmp_path, phantom_volume.series("ct", without=(3, 4)), as_it_lies=False)
    assert opened.name == "ct.nii.gz"
    np.testing.assert_allclose(volume.spacing, phantom_volume.spacing)


@pytest.mark.parametrize(
    ("slopes", "intercepts"),
    [((1, 0.25, 0.5), (0, 0, 0)), ((40, 1, 900), (0, 0, 0)), ((1, 1, 1), (-1024, 0, 3)), ((0.1, 0.2, 0.3), (0, 1, 2))],
    ids=["first is 1", "wide", "intercepts", "fractions"],
)
def test_each_slice_keeps_its_own_rescale(phantom_volume, tmp_path, slopes, intercepts):
    pixels = noise(4, 5, low=0, high=32000)
    for index, (slope, intercept) in enumerate(zip(slopes, intercepts, strict=True)):
        place = {"ImagePositionPatient": [0, 0, index], "ImageOrientationPatient": AXIAL, "PixelSpacing": [1, 1]}
        scale = {"RescaleSlope": str(slope), "RescaleIntercept": str(intercept)}
        phantom_volume.dicom(f"pt/{index}", pixels, Modality="PT", SeriesInstanceUID="1.2", **place, **scale)
    volume, _ = check(tmp_path, tmp_path / "pt", as_it_lies=False)
    expected = pixels.T[::-1, ::-1, np.newaxis] * np.array(slopes) + np.array(intercepts)
    np.testing.assert_allclose(volume.array, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("sop_class", ["4.1", "2.1", "130", "4.4", "6.2"])
@pytest.mark.parametrize("where", ["frame", "shared"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_each_frame_keeps_its_own_rescale_and_place(phantom_volume, tmp_path, sop_class, where, order):
    slopes, intercepts = [0.5, 3, 0.01], [-10, 0, 7]
    pixels, frames = noise(3, 4, 5, dtype=np.uint16, low=0, high=4000), []
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SpacingBetweenSlices = [1, 2], 3
    plane.ImageOrientationPatient = AXIAL
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    for index in range(3):
        frame, position, rescale = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, 3 * order[index]]
        rescale.RescaleSlope, rescale.RescaleIntercept = slopes[index], intercepts[index]
        frame.PlanePositionSequence = [position]
        (frame if where == "frame" else shared).PixelValueTransformationSequence = [rescale]
        frames.append(frame)
    path = phantom_volume.dicom(
        "enhanced.dcm",
        pixels,
        SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{sop_class}",
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=frames,
    )
    volume = assert_served_alike(Study("a", "1", str(path)), tmp_path / "served")[0]
    if where == "shared":
        slopes, intercepts = [slopes[-1]] * 3, [intercepts[-1]] * 3
    scaled = pixels * np.reshape(slopes, (3, 1, 1)) + np.reshape(intercepts, (3, 1, 1))
    np.testing.assert_allclose(volume.array[::-1, ::-1], scaled[np.argsort(order)].T, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(volume.spacing, (2, 1, 3))


def test_a_picture_of_dicom_lies_as_it_is_read_unless_its_spacing_does_not(phantom_volume, tmp_path):
    tags = {"PixelSpacing": [1.25, 0.75], "ImagePositionPatient": [1, 2, 3], "ImageOrientationPatient": AXIAL}
    path = phantom_volume.dicom("IM1", noise(4, 5), RescaleSlope="0.5", RescaleIntercept="-3", **tags)
    assert check(tmp_path, path, as_it_lies=True)[0].spacing[:2] == (0.75, 1.25)
    (tmp_path / "IM2").write_bytes(path.read_bytes().replace(b"1.25\\0.75", b"1,25\\0,75"))
    assert check(tmp_path, tmp_path / "IM2", as_it_lies=False)[0].spacing[:2] == (0.75, 1.25)


# -- pictures


def pictures():
    grey, colour = noise(20, 30, dtype=np.uint8, low=0, high=255), noise(20, 30, 3, dtype=np.uint8, low=0, high=255)
    grey16 = noise(20, 30, dtype=np.uint16, low=0, high=65000)
    colour16 = sitk.GetImageFromArray(noise(20, 30, 3, dtype=np.uint16, low=0, high=65000), isVector=True)
    of = Image.fromarray
    lies, anew = True, False
    return {
        "grey.png": (of(grey), {}, lies),
        "grey16.png": (of(grey16), {}, lies),
        "rgb.png": (of(colour), {}, lies),
        "rgb16.png": (colour16, {}, lies),
        "rgba.png": (of(np.dstack([colour, grey])), {}, lies),
        "la.png": (of(np.dstack([grey, grey]), "LA"), {}, anew),
        "palette.png": (of(colour).quantize(16), {}, lies),
        "bits.png": (of(grey > 99), {}, lies),
        "transparent.png": (of(grey), {"transparency": 7}, anew),
        "grey.jpg": (of(grey), {"quality": 90}, lies),
        "rgb.jpg": (of(colour), {"quality": 90}, lies),
        "cmyk.jpg": (of(colour).convert("CMYK"), {}, anew),
        "dots.jpg": (of(grey), {"dpi": (72, 144)}, lies),
        "dots.tif": (of(grey), {"dpi": (72, 144)}, lies),
        "grey.jpeg": (of(grey), {}, lies),
        "grey.bmp": (of(grey), {}, lies),
        "rgb.bmp": (of(colour), {}, lies),
        "grey.tif": (of(grey), {}, lies),
        "rgb16.tif": (colour16, {}, lies),
        "float.tif": (of(grey.astype(np.float32) / 7), {}, lies),
        "int8.tif": (sitk.GetImageFromArray(grey.astype(np.int8)), {}, lies),
        "uint32.tif": (sitk.GetImageFromArray(grey16.astype(np.uint32) * 65537), {}, lies),
        "lzw.tif": (of(grey16), {"compression": "tiff_lzw"}, lies),
        "bits.tif": (of(grey > 99), {}, anew),
        "palette.tif": (of(colour).quantize(16), {}, anew),
        "white.tif": (of(grey), {"tiffinfo": {262: 0}}, anew),
        "turned.tif": (of(grey), {"tiffinfo": {274: 6}}, anew),
        "pages.tif": (of(grey16), {"save_all": True, "append_images": [of(grey16 + 1)]}, anew),
    }


@pytest.mark.parametrize("name", sorted(pictures()))
def test_pictures(tmp_path, name):
    image, options, as_it_lies = pictures()[name]
    path = tmp_path / name
    image.save(path, **options) if isinstance(image, Image.Image) else sitk.WriteImage(image, str(path))
    volume, _ = check(tmp_path, path, as_it_lies=as_it_lies)
    assert volume.is_picture
    assert volume.array.shape == (30, 20, 1) or name == "turned.tif"
    np.testing.assert_array_equal(np.sign(np.diag(volume.affine)), [-1, -1, 1, 1])


def test_signed_and_wide_pictures_keep_their_values(tmp_path):
    for name, values in {
        "a.tif": np.array([[-128, 127]], np.int8),
        "b.tif": np.array([[2**32 - 1, 0]], np.uint32),
    }.items():
        sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / name))
        np.testing.assert_allclose(read_volume(tmp_path / name).array[:, 0, 0], values[0])


@pytest.mark.parametrize(("name", "kind"), [("a.png", "JPEG"), ("a.jpg", "PNG"), ("a.tif", "PNG"), ("a.png", "GIF")])
def test_pictures_are_read_by_their_content(tmp_path, name, kind):
    image = Image.fromarray(noise(20, 30, dtype=np.uint8, low=0, high=255))
    image.save(tmp_path / name, kind)
    assert_served_alike(Study(name, "1", str(tmp_path / name)), tmp_path / "served")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.dcm", b"hello", "is text, not DICOM"),
        ("a.dcm", b"\x89PNG\r\n\x1a\n" + bytes(99), "is PNG, not DICOM"),
        ("a.dcm", bytes(128) + b"DICM", "is DICOM without an image"),
        ("a.nii.gz", b"PK\3\4" + bytes(200), "is a zip archive, not NIfTI"),
        ("a.nii.gz", b"<html>404</html>", r"is a web page \(HTML\), not NIfTI"),
        ("a.nii", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        ("a.nii", bytes(5000), "is nothing but zeros, not NIfTI"),
        ("a.nrrd", b"%PDF-1.4", "is PDF, not NRRD"),
        ("a.png", b"hello", "is text, not a picture"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(99), "is not HDF5 that ITK wrote"),
    ],
)
def test_what_is_not_what_its_name_says_is_named(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VolumeError, match=f"^{name} {said}"):
        read_volume(tmp_path / name)


# -- what is written


@given(
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    shear=st.sampled_from([0, 0, 1e-7, 1e-3, 0.4]),
    spacing=st.tuples(*[st.floats(0.01, 20)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    angles=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
    low_high=st.sampled_from(
        [(0, 1), (0, 255), (-128, 127), (-1024, 3071), (0, 65535), (-70000, 9), (0, 2**32), (0, 2**40)]
    ),
    is_whole=st.booleans(),
    is_picture=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_again(
    tmp_path_factory, shape, shear, spacing, origin, angles, low_high, is_whole, is_picture
):
    rng, (low, high) = np.random.default_rng(0), low_high
    values = rng.uniform(low, high, shape)
    values.flat[0] = high
    values = (np.rint(values) if is_whole else values).astype(np.float32)
    skew = np.eye(3)
    skew[0, 1] = shear
    affine = nib.affines.from_matvec(nib.eulerangles.euler2mat(*angles) @ skew * spacing, origin)
    volume = Volume(values, tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist()), is_picture, affine=affine)
    study = Study("a", "1", "/nowhere", files=("x",))
    path = tmp_path_factory.mktemp("written") / f"a{served_ending(study, volume)}"
    assert path.name == ("a.nrrd" if shear > 1e-5 else "a.nii.gz")
    write_volume(volume, path)
    array, place = by_simpleitk(path)
    again = read_volume(path)
    if not is_picture:  # whose axes lie to Left and Posterior in the file
        array = array[::-1, ::-1]
        place = place @ [[-1, 0, 0, shape[0] - 1], [0, -1, 0, shape[1] - 1], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(array.astype(np.float32), volume.array)
    np.testing.assert_allclose(place, affine, atol=1e-3)
    if is_picture and path.name == "a.nii.gz":
        assert again.is_picture
    turn = nib.orientations.io_orientation(affine)
    assert again.is_picture or again.array.shape == tuple(np.array(shape)[np.argsort(turn[:, 0])])


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ([0, 255], "uint8"),
        ([-1, 127], "int8"),
        ([0, 256], "uint16"),
        ([-1024, 3071], "int16"),
        ([0, 70000], "uint32"),
        ([-1, 70000], "int32"),
        ([0, 0.5], "float32"),
        ([0, 2.0**40], "float32"),
    ],
)
def test_the_smallest_type_that_holds_all_values_is_written(tmp_path, values, name):
    write_volume(Volume(np.array(values, np.float32).reshape(2, 1, 1), (1, 1, 1)), tmp_path / "a.nii.gz")
    assert nib.load(tmp_path / "a.nii.gz").get_data_dtype() == name


def test_a_file_that_failed_on_its_way_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        write_volume(Volume(np.zeros((2, 2, 2), np.float32), (1, 1, 1)), tmp_path / "a.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_written_once_and_anew_when_the_study_or_the_recipe_changes(phantom_volume, tmp_path, monkeypatch):
    study = Study("ct", "1", str(phantom_volume.series("ct")), files=())
    folder = tmp_path / "served"
    first = serve_file(study, folder)
    monkeypatch.setattr(served, "read_volume", lambda _study: pytest.fail("read twice"))
    assert serve_file(study, folder) == first
    monkeypatch.undo()
    assert served_path(Study("ct", "2", study.source), ".nii.gz", folder) != first
    assert served_path(Study("mr", "1", study.source), ".nii.gz", folder) != first
    monkeypatch.setattr(served, "SERVED_RECIPE", -1)
    assert served_path(study, ".nii.gz", folder) != first


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("patient 7/T1 axial", "patient_7_T1_axial"),
        ("sub/scan.v2.NII.GZ", "sub_scan.v2"),
        ("../../etc/passwd", "etc_passwd"),
        ("new\nline\t<b>", "new_line_b"),
        ("Müller 日本", "Müller_日本"),
        ("bad \udcfc byte", "bad_byte"),
        ("...", "study"),
        ("日" * 200, "日" * 64),
    ],
)
def test_names_are_readable_and_fit_every_system(tmp_path, title, name):
    for ending in (".nii.gz", ".nrrd"):
        path = served_path(Study("id", "1", "/a", title=title), ending, tmp_path)
        assert path.name.removesuffix(ending).startswith(name)
        assert len(path.name.encode()) <= 200
        assert tmp_path in path.parents


def test_a_file_handed_out_is_where_it_really_lies(phantom_volume, tmp_path):
    path = phantom_volume.nifti("a.nii")
    link = tmp_path / "link.nii"
    link.symlink_to(path)
    assert serve_file(Study("a", "1", str(link)), tmp_path / "served") == path
    assert not (tmp_path / "served").exists()
