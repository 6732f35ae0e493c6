"""A saved label on its study's grid."""

import gzip
import hashlib

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from firstpick.voxels.grids import read_grid
from firstpick.voxels.label_formats import LabelError
from firstpick.voxels.labels import on_grid

SIZE = (10, 12, 8)
LAS = np.array([[-1.5, 0, 0, 20], [0, 1.2, 0, -5], [0, 0, 3, 7], [0, 0, 0, 1]])
OBLIQUE = LAS.copy()
OBLIQUE[:3, :3] = nib.eulerangles.euler2mat(0.3, -0.2, 0.5) @ LAS[:3, :3]


def mask():
    """Every flip and exchange of axes moves something; value 7 is no label's."""
    array = np.zeros(SIZE, np.uint8)
    array[1:4, 2:5, 1:3] = 1
    array[7:9, 8:11, 5:7] = 2
    array[9, 0, 7] = 7
    return array


def study(folder, affine=LAS, name="study.nii.gz"):
    nib.save(nib.Nifti1Image(np.arange(960, dtype=np.int16).reshape(SIZE), affine), folder / name)
    return read_grid(folder / name)


def saved(folder, array, affine, name="label.nii.gz"):
    nib.save(nib.Nifti1Image(array, affine), folder / name)
    return folder / name


def reoriented(folder, axes, affine=LAS):
    """The same label in the same place, its axes stored in another order or direction."""
    image = nib.Nifti1Image(mask(), affine)
    there = nib.orientations.axcodes2ornt(axes)
    turn = nib.orientations.ornt_transform(nib.orientations.io_orientation(affine), there)
    nib.save(image.as_reoriented(turn), folder / "label.nii.gz")
    return folder / "label.nii.gz"


def test_a_label_that_lies_on_the_grid_stays_the_same_bytes(tmp_path):
    source = saved(tmp_path, mask(), LAS)
    label = on_grid(source, study(tmp_path), tmp_path / "out.nii.gz")
    assert (tmp_path / "out.nii.gz").read_bytes() == source.read_bytes()
    assert label.checksum == "SHA256:" + hashlib.sha256(source.read_bytes()).hexdigest()
    assert {value.value: value.n_voxels for value in label.values} == {1: 18, 2: 12, 7: 1}
    assert (label.n_voxels, label.changes) == (31, "")


@pytest.mark.parametrize("affine", [LAS, OBLIQUE], ids=["LAS", "oblique"])
@pytest.mark.parametrize("axes", ["RAS", "LAI", "LPS", "SRP", "ASL"])
def test_flipped_and_exchanged_axes_are_put_back(tmp_path, axes, affine):
    grid = study(tmp_path, affine)
    label = on_grid(reoriented(tmp_path, axes, affine), grid, tmp_path / "out.nii.gz")
    out = nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(np.asarray(out.dataobj), mask())
    np.testing.assert_allclose(out.affine, affine, atol=1e-4)
    itk = sitk.ReadImage(str(tmp_path / "out.nii.gz"))
    np.testing.assert_allclose(itk.GetOrigin(), sitk.ReadImage(str(tmp_path / "study.nii.gz")).GetOrigin(), atol=1e-4)
    assert label.changes
    assert label.n_voxels == 31


@pytest.mark.parametrize("name", ["label.nrrd", "label.mha"])
def test_other_formats_are_put_on_the_grid_in_their_own_format(tmp_path, name):
    grid = study(tmp_path)
    image = sitk.ReadImage(str(reoriented(tmp_path, "LAI")))
    sitk.WriteImage(image, str(tmp_path / name))
    on_grid(tmp_path / name, grid, tmp_path / f"out-{name}")
    out, expected = sitk.ReadImage(str(tmp_path / f"out-{name}")), sitk.ReadImage(str(tmp_path / "study.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(out).T, mask())
    for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(out, what)(), getattr(expected, what)(), atol=1e-4)


def segmentation(path, layers, *, start=(0, 0, 0), grid):
    """Write a segmentation as 3D Slicer does: cropped, its layers as the first axis of kind list."""
    nrrd = pytest.importorskip("nrrd", reason="pip install pynrrd")
    header = {
        "space": "left-posterior-superior",
        "kinds": ["list", "domain", "domain", "domain"],
        "space directions": [[np.nan] * 3, *grid.affine[:3, :3].T.tolist()],
        "space origin": (grid.affine @ [*start, 1])[:3].tolist(),
        "encoding": "gzip",
        "Segmentation_ReferenceImageExtentOffset": " ".join(map(str, start)),
    }
    for number, name in enumerate(["liver", "tumour"][: len(layers)]):
        said = {"ID": f"S{number}", "Name": name, "LabelValue": "1", "Layer": str(number), "Extent": "0 1 0 1 0 1"}
        header |= {f"Segment{number}_{key}": value for key, value in said.items()}
    nrrd.write(str(path), np.stack(layers), header)
    return path


def test_a_cropped_segmentation_of_two_layers_is_padded_and_keeps_its_names(tmp_path):
    grid = study(tmp_path)
    crop = np.s_[1:4, 2:6, 1:7]
    layers = [np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)]
    layers[0][1:3, 2:5, 1:3] = 1
    layers[1][2:4, 3:6, 2:7] = 1  # they overlap
    source = segmentation(tmp_path / "a.seg.nrrd", [layer[crop] for layer in layers], start=(1, 2, 1), grid=grid)
    label = on_grid(source, grid, tmp_path / "out.seg.nrrd")
    out = sitk.ReadImage(str(tmp_path / "out.seg.nrrd"))
    assert out.GetSize() == SIZE
    for number, layer in enumerate(layers):
        np.testing.assert_array_equal(sitk.GetArrayFromImage(out)[..., number].T, layer)
    assert out.GetMetaData("Segment1_Name") == "tumour"
    assert out.GetMetaData("Segment1_Extent") == "0 9 0 11 0 7"
    assert out.GetMetaData("Segmentation_ReferenceImageExtentOffset") == "0 0 0"
    assert [(value.name, value.layer, value.n_voxels) for value in label.values] == [
        ("liver", 0, 12),
        ("tumour", 1, 30),
    ]


def test_a_cropped_label_that_says_nothing_of_it_does_not_fit(tmp_path):
    with pytest.raises(LabelError, match=r"has 5 x 6 x 4 voxels of 1.5 x 1.2 x 3 mm.*the study has 10 x 12 x 8"):
        on_grid(saved(tmp_path, mask()[:5, :6, :4], LAS), study(tmp_path), tmp_path / "out.nii.gz")


def test_a_segmentation_that_reaches_beyond_its_study_does_not_fit(tmp_path):
    grid = study(tmp_path)
    source = segmentation(tmp_path / "a.seg.nrrd", [mask()[:5]], start=(8, 0, 0), grid=grid)
    with pytest.raises(LabelError, match="does not lie on the grid"):
        on_grid(source, grid, tmp_path / "out.seg.nrrd")


def shifted(millimetres):
    moved = LAS.copy()
    moved[0, 3] += millimetres
    return moved


@pytest.mark.parametrize(
    "affine",
    [shifted(1.5), shifted(0.6), LAS @ np.diag([1.02, 1, 1, 1]), OBLIQUE],
    ids=["a voxel off", "part of a voxel off", "other spacing", "other direction"],
)
def test_another_place_is_refused_with_both_geometries(tmp_path, affine):
    with pytest.raises(LabelError, match=r"It has 10 x 12 x 8 voxels of .* mm from .* the study has 10 x 12 x 8"):
        on_grid(saved(tmp_path, mask(), affine), study(tmp_path), tmp_path / "out.nii.gz")


def test_rounded_headers_are_within_tolerance_and_get_the_study_s_geometry(tmp_path):
    grid = study(tmp_path)
    on_grid(saved(tmp_path, mask(), shifted(0.01)), grid, tmp_path / "out.nii.gz")
    np.testing.assert_allclose(nib.load(tmp_path / "out.nii.gz").affine, LAS, atol=1e-5)


DETACHED = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 10 12 8\nencoding: raw\ndata file: whole\n\n"
DETACHED_META = "ObjectType = Image\nNDims = 3\nDimSize = 10 12 8\nElementDataFile = /etc/passwd\n"


def compressed(array):
    return gzip.compress(nib.Nifti1Image(array, LAS).to_bytes())


BROKEN = {
    "empty": ("label.nii.gz", lambda: b""),
    "text": ("label.nii.gz", lambda: b"This is no label.\n" * 50),
    "truncated": ("label.nii.gz", lambda: compressed(mask())[:90]),
    "cut gzip": ("label.nii.gz", lambda: gzip.compress(gzip.decompress(compressed(mask()))[:-100])),
    "fractions": ("label.nii.gz", lambda: compressed(mask() * np.float32(0.3))),
    "NaN": ("label.nii.gz", lambda: compressed(np.full(SIZE, np.nan, np.float32))),
    "4-D": ("label.nii.gz", lambda: compressed(np.stack([mask(), mask()], axis=-1))),
    "bomb": ("label.nii.gz", lambda: compressed(np.zeros((100, 100, 100), np.uint8))),
    "ending": ("label.zip", lambda: compressed(mask())),
    "detached": ("label.nrrd", DETACHED.encode),
    "detached meta": ("label.mha", DETACHED_META.encode),
}


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", "empty"),
        ("text", "cannot be read"),
        ("truncated", "cannot be read"),
        ("cut gzip", "cannot be read"),
        ("fractions", "no whole numbers such as 0.3"),
        ("NaN", "no whole numbers such as nan"),
        ("4-D", "4 axes"),
        ("bomb", "too large: 100 x 100 x 100 voxels; its study has 960"),
        ("ending", "'.zip' is no format"),
        ("detached", "names another file"),
        ("detached meta", "names another file"),
    ],
)
def test_what_is_no_label_is_refused_in_a_sentence(tmp_path, kind, reason):
    grid = study(tmp_path)
    name, content = BROKEN[kind]
    source = tmp_path / name
    source.write_bytes(content())
    with pytest.raises(LabelError, match=reason) as refused:
        on_grid(source, grid, tmp_path / f"out{''.join(source.suffixes)}")
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)


NRRD_HEAD = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 10 12 8\nencoding: raw\n"
META_HEAD = "ObjectType = Image\nNDims = 3\nDimSize = 10 12 8\nElementType = MET_UCHAR\n"


@pytest.mark.parametrize(
    ("name", "head", "naming"),
    [
        ("label.nrrd", NRRD_HEAD, "DATA FILE: {}\n"),
        ("label.nrrd", NRRD_HEAD + "# a comment of a hundred letters\n" * 10_000, "data file: {}\n"),
        ("label.nrrd", NRRD_HEAD, "# a comment\rdata file: {}\n"),
        ("label.nrrd", NRRD_HEAD.replace("\n", "\r"), "data file: {}\r"),
        ("label.mha", META_HEAD, "ElementDataFile : {}\n"),
        ("label.mha", META_HEAD, "\tElementDataFile\t=\t{}\n"),
        ("label.mha", META_HEAD, "ElementDataFile\n= {}\n"),
        ("label.mha", META_HEAD + "Comment = ElementDataFile = LOCAL\n", "ElementDataFile = {}\n"),
    ],
)
def test_no_header_gets_at_another_file(tmp_path, name, head, naming):
    """Each of these names it in a way that ITK follows."""
    other, source = tmp_path / "others.raw", tmp_path / name
    other.write_bytes(b"\1" * 960)
    source.write_bytes((head + naming.format(other)).encode())
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(source))).all()
    with pytest.raises(LabelError, match="names another file"):
        on_grid(source, study(tmp_path), tmp_path / f"out{source.suffix}")


@pytest.mark.parametrize("name", ["label.nrrd", "label.mha", "label.png"])
def test_a_label_is_read_as_its_name_says_and_as_nothing_else(tmp_path, name):
    """HDF5 is read by ITK whatever its name, and may draw on any file."""
    written = tmp_path / "label.h5"
    sitk.WriteImage(sitk.GetImageFromArray(mask()), str(written))
    assert sitk.ReadImage(str(written.rename(tmp_path / name))).GetSize()
    with pytest.raises(LabelError, match=r"cannot be read|holds no voxel"):
        on_grid(tmp_path / name, None, tmp_path / f"out-{name}")


def test_whole_numbers_kept_as_floats_are_a_label(tmp_path):
    label = on_grid(saved(tmp_path, mask().astype(np.float32), LAS), study(tmp_path), tmp_path / "out.nii.gz")
    assert [value.value for value in label.values] == [1, 2, 7]


def test_a_mask_without_a_voxel_is_a_finding(tmp_path):
    label = on_grid(saved(tmp_path, np.zeros(SIZE, np.uint8), LAS), study(tmp_path), tmp_path / "out.nii.gz")
    assert (label.n_voxels, label.values) == (0, ())


def test_without_a_grid_the_label_alone_is_checked(tmp_path):
    source = saved(tmp_path, mask(), shifted(9))
    assert on_grid(source, None, tmp_path / "out.nii.gz").n_voxels == 31


@pytest.mark.parametrize("flips", [(1, 1, 1), (1, 1, -1)], ids=["as stored", "flipped by its reader"])
def test_nifti_that_cannot_carry_the_shear_of_its_study_gets_it_back(tmp_path, flips):
    image = sitk.GetImageFromArray(np.arange(960, dtype=np.int16).reshape(SIZE).T)
    image.SetSpacing((1.5, 1.2, 3))
    tilt = np.radians(20)
    image.SetDirection([1, 0, 0, 0, 1, np.sin(tilt), 0, 0, np.cos(tilt)])
    image.SetOrigin((3, -4, 5))
    sitk.WriteImage(image, str(tmp_path / "study.nrrd"))
    label = sitk.GetImageFromArray(mask().T)
    label.CopyInformation(image)
    if flips[2] < 0:
        label = label[:, :, ::-1]
    sitk.WriteImage(label, str(tmp_path / "label.nii.gz"))  # ITK makes the axes orthogonal
    on_grid(tmp_path / "label.nii.gz", read_grid(tmp_path / "study.nrrd"), tmp_path / "out.nii.gz")
    out = nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(np.asarray(out.dataobj), mask())
    grid = read_grid(tmp_path / "study.nrrd")
    np.testing.assert_allclose(out.affine, np.diag([-1, -1, 1, 1]) @ grid.affine, atol=1e-4)


@pytest.mark.parametrize("name", ["label.png", "label.nii.gz"])
def test_a_picture_s_label_needs_its_size_alone(tmp_path, name):
    picture = sitk.GetImageFromArray(np.arange(600, dtype=np.uint8).reshape(20, 30))
    sitk.WriteImage(picture, str(tmp_path / "study.png"))
    flat = np.zeros((20, 30), np.uint8)
    flat[2:5, 3:9] = 1
    label = sitk.GetImageFromArray(flat if name.endswith("png") else flat[np.newaxis])
    label.SetSpacing((0.35, 0.35, 2)[: label.GetDimension()])
    sitk.WriteImage(label, str(tmp_path / name))
    found = on_grid(tmp_path / name, read_grid(tmp_path / "study.png"), tmp_path / f"out-{name}")
    assert (found.n_voxels, found.changes) == (18, "")
    sitk.WriteImage(label[:, :19] if name.endswith("png") else label[:, :19, :], str(tmp_path / name))
    with pytest.raises(LabelError, match="30 x 19 x 1"):
        on_grid(tmp_path / name, read_grid(tmp_path / "study.png"), tmp_path / f"out-{name}")


def test_one_slice_fits_whatever_its_thickness(tmp_path):
    flat = np.zeros((10, 12, 1), np.uint8)
    flat[1:4, 2:5] = 1
    nib.save(nib.Nifti1Image(flat, LAS), tmp_path / "study.nii.gz")
    grid = read_grid(tmp_path / "study.nii.gz")
    label = on_grid(saved(tmp_path, flat, LAS @ np.diag([1, 1, 4, 1])), grid, tmp_path / "out.nii.gz")
    assert label.n_voxels == 9
