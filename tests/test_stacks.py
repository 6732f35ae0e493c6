"""Which slices of a series, and which frames of a file, make its volume; and where it lies."""

from __future__ import annotations

import struct

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from firstpick.studies import Study
from firstpick.voxels import dicom
from firstpick.voxels.volumes import VolumeError, read_volume

AXIAL, SAGITTAL = [1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1]
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"


def slices(phantom, places, **tags):
    """Write a slice of constant value for each (value, position along z); a tag may be a tuple, one for each slice."""
    for index, (value, z) in enumerate(places):
        own = {
            "SeriesInstanceUID": "1.2.3",
            "InstanceNumber": str(index + 1),
            "ImageOrientationPatient": AXIAL,
            "ImagePositionPatient": [0, 0, z],
            "PixelSpacing": [1, 1],
            "SliceThickness": "3",
        }
        own |= {keyword: value[index] if isinstance(value, tuple) else value for keyword, value in tags.items()}
        phantom.dicom(f"s/{index * 37 % 101}.dcm", np.full((3, 4), value, np.int16), **own)
    return read_volume(phantom.folder / "s")


def values(volume):
    return volume.array[0, 0].tolist()


STEPS = [0, 3, 6, 9]
TWICE = [(10 + k, z) for k, z in enumerate(STEPS)] + [(20 + k, z + 1) for k, z in enumerate(STEPS)]
AGAIN = [(10 + k, z) for k, z in enumerate(STEPS)] + [(20 + k, z) for k, z in enumerate(STEPS)]


@pytest.mark.parametrize("places", [TWICE, AGAIN], ids=["shifted", "same places"])
@pytest.mark.parametrize(
    ("keyword", "first", "second", "said"),
    [
        ("AcquisitionNumber", "1", "2", "acquisitions"),
        ("EchoNumbers", "1", "2", "echoes"),
        ("EchoTime", "4.6", "102", "echo times"),
        ("TemporalPositionIdentifier", "1", "2", "time points"),
        ("TriggerTime", "0", "350.5", "time points"),
        ("DiffusionBValue", 0.0, 1000.0, "b-values"),
        ("StackID", "a", "b", "stacks"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"], "image types"),
    ],
)
def test_volumes_that_share_a_series_are_never_mixed(phantom_volume, places, keyword, first, second, said):
    volume = slices(phantom_volume, places, **{keyword: (first,) * 4 + (second,) * 4})
    assert values(volume) == [10, 11, 12, 13]
    assert volume.spacing[2] == 3
    assert volume.notes == (f"2 {said} in one series: the first taken",)


def test_the_lower_acquisition_is_the_first_whatever_its_slices_numbers(phantom_volume):
    volume = slices(phantom_volume, TWICE, AcquisitionNumber=("7",) * 4 + ("5",) * 4)
    assert values(volume) == [20, 21, 22, 23]


@pytest.mark.parametrize(
    ("acquisitions", "z"),
    [
        (("1", "2", "3", "4", "5", "6"), [0, 3, 6, 9, 12, 15]),
        (("1", "1", "1", "2", "2", "2"), [0, 3, 6, 9, 12, 15]),
        (("1", "1", "1", "2", "2", "2"), [0, 6, 12, 3, 9, 15]),
    ],
    ids=["one each", "one behind the other", "odd and even"],
)
def test_acquisitions_that_make_one_volume_stay_together(phantom_volume, acquisitions, z):
    volume = slices(phantom_volume, [(depth, depth) for depth in z], AcquisitionNumber=acquisitions)
    assert values(volume) == [0, 3, 6, 9, 12, 15]
    assert volume.notes == ()


def test_of_several_orientations_the_first_is_taken(phantom_volume):
    planes = (SAGITTAL,) * 4 + (AXIAL,) * 4
    positions = (*([x, 0, 0] for x in STEPS), *([0, 0, z] for z in STEPS))
    volume = slices(phantom_volume, AGAIN, ImageOrientationPatient=planes, ImagePositionPatient=positions)
    assert volume.array[:, 0, 0].tolist() == [13, 12, 11, 10]
    assert volume.notes == ("2 orientations in one series: the first taken",)


def test_of_several_sizes_the_first_is_taken_and_a_single_odd_one_is_named(phantom_volume):
    common = {"SeriesInstanceUID": "1.2.3", "ImageOrientationPatient": AXIAL, "PixelSpacing": [1, 1]}
    slices(phantom_volume, AGAIN[:4])
    for k in range(2):
        place = {"ImagePositionPatient": [0, 0, 50 + k], "InstanceNumber": str(50 + k)}
        phantom_volume.dicom(f"s/odd{k}.dcm", np.zeros((5, 6), np.int16), **common, **place)
    volume = read_volume(phantom_volume.folder / "s")
    assert volume.array.shape == (4, 3, 4)
    assert volume.notes == ("2 sizes in one series: the first taken",)
    (phantom_volume.folder / "s" / "odd0.dcm").unlink()
    with pytest.raises(VolumeError, match=r"s: slices differ in size \(4 x 3 and 6 x 5 voxels; odd1\.dcm"):
        read_volume(phantom_volume.folder / "s")


@pytest.mark.parametrize("spacing", [None, [0, 0], [0, 1]])
def test_slices_without_spacing_are_1_mm_apart_and_said_so(phantom_volume, spacing):
    volume = slices(phantom_volume, AGAIN[:4], PixelSpacing=spacing)
    assert volume.spacing == (1, 1, 3)
    assert "PixelSpacing" in volume.notes[0]


def test_a_decimal_comma_is_a_decimal_point(phantom_volume):
    slices(phantom_volume, AGAIN[:4], PixelSpacing=["1.25", "0.75"])
    for path in (phantom_volume.folder / "s").iterdir():
        path.write_bytes(path.read_bytes().replace(b"1.25\\0.75", b"1,25\\0,75"))
    volume = read_volume(phantom_volume.folder / "s")
    assert volume.spacing == (0.75, 1.25, 3)
    assert volume.notes == ()


@pytest.mark.parametrize("z", [[0, 6, 9, 12, 21], [0, 9, 15, 18, 21], [0, 3, 12], [0, 2.99, 6.01, 9, 18]])
def test_missing_slices_do_not_stretch_a_volume_however_many_they_are(phantom_volume, z):
    volume = slices(phantom_volume, [(round(depth), depth) for depth in z])
    assert volume.spacing[2] == pytest.approx(3, abs=0.02)
    assert values(volume) == [round(depth) for depth in z]
    assert "some may be missing" in volume.notes[0]


def test_without_orientation_positions_still_tell_the_order(phantom_volume):
    volume = slices(phantom_volume, AGAIN[:4][::-1], ImageOrientationPatient=None)
    assert values(volume) == [10, 11, 12, 13]
    assert volume.notes == ("slices state no orientation: axial assumed",)


def test_slices_that_lie_apart_in_folders_are_read_from_where_they_are(phantom_volume):
    for k in range(4):
        place = {"ImagePositionPatient": [0, 0, k], "ImageOrientationPatient": AXIAL}
        phantom_volume.dicom(f"d{k % 2}/{k}/IM", np.full((3, 4), k, np.int16), SeriesInstanceUID="1.2", **place)
    files = tuple(f"d{k % 2}/{k}/IM" for k in range(4))
    assert values(read_volume(Study("a", "", str(phantom_volume.folder), files=files))) == [0, 1, 2, 3]
    (phantom_volume.folder / files[2]).unlink()
    with pytest.raises(VolumeError, match=r"its slice d0/2/IM does not exist\.$"):
        read_volume(Study("a", "", str(phantom_volume.folder), files=files))


def test_a_transfer_syntax_that_cannot_be_read_is_named(phantom_volume):
    slices(phantom_volume, AGAIN[:4])
    for path in (phantom_volume.folder / "s").iterdir():
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.77"))
    with pytest.raises(VolumeError, match=r"^s: its slice .* its transfer syntax 1\.2\.840\.10008\.1\.2\.77 cannot"):
        read_volume(phantom_volume.folder / "s")


def item(**values):
    found = Dataset()
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return [found]


def enhanced(phantom, places, **groups):
    """Write a multi-frame file; `places` as in `slices`, a group as functions of the frame's index."""
    frames = []
    for index, (_, z) in enumerate(places):
        frame = Dataset()
        frame.PlanePositionSequence = item(ImagePositionPatient=[0, 0, z])
        for sequence, content in groups.items():
            setattr(frame, sequence, item(**content(index)))
        frames.append(frame)
    shared = item(
        PixelMeasuresSequence=item(PixelSpacing=[1, 1], SliceThickness="3"),
        PlaneOrientationSequence=item(ImageOrientationPatient=AXIAL),
    )
    pixels = np.stack([np.full((3, 4), value, np.uint16) for value, _ in places])
    return read_volume(
        phantom.dicom(
            "enhanced.dcm",
            pixels,
            SOPClassUID=ENHANCED_MR,
            SharedFunctionalGroupsSequence=shared,
            PerFrameFunctionalGroupsSequence=frames,
        )
    )


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"FrameContentSequence": lambda k: {"TemporalPositionIndex": 1 + k // 4}}, "time points"),
        ({"FrameContentSequence": lambda k: {"StackID": str(1 + k // 4)}}, "stacks"),
        ({"MREchoSequence": lambda k: {"EffectiveEchoTime": 10.0 + k // 4}}, "echo times"),
        ({"MRDiffusionSequence": lambda k: {"DiffusionBValue": 500.0 * (k // 4)}}, "b-values"),
        ({"MRImageFrameTypeSequence": lambda k: {"FrameType": ["ORIGINAL", "MP"[k // 4]]}}, "image types"),
    ],
)
def test_volumes_that_share_a_file_are_never_mixed(phantom_volume, groups, said):
    volume = enhanced(phantom_volume, AGAIN, **groups)
    assert values(volume) == [10, 11, 12, 13]
    assert volume.notes == (f"2 {said} in one series: the first taken",)


def test_frames_of_one_place_are_a_film(phantom_volume):
    volume = enhanced(phantom_volume, [(5, 0), (6, 0), (7, 0)])
    assert volume.array.shape == (4, 3, 1)
    assert volume.is_picture
    assert "3 slices share 1 positions" in volume.notes[0]


@pytest.mark.parametrize(
    ("tags", "is_film"),
    [
        ({"FrameTime": "33"}, True),
        ({"FrameIncrementPointer": 0x00181063, "FrameTime": "33"}, True),
        ({"FrameIncrementPointer": 0x00181065, "FrameTimeVector": ["0", "33", "33"]}, True),
        ({"FrameIncrementPointer": 0x00540080}, False),
        ({}, False),
    ],
)
def test_of_a_film_the_first_frame_is_taken(phantom_volume, tags, is_film):
    path = phantom_volume.dicom("us.dcm", np.arange(60, dtype=np.uint8).reshape(3, 4, 5), Modality="US", **tags)
    volume = read_volume(path)
    assert volume.is_picture == is_film
    assert volume.array.shape == (5, 4, 1 if is_film else 3)
    assert volume.notes == (("a film: first of 3 frames taken",) if is_film else ())


def mosaic(phantom, n_images, **tags):
    """Write a mosaic of 2 x 2 or 3 x 3 tiles of 4 x 3 pixels."""
    n = int(np.ceil(np.sqrt(n_images)))
    tiles = np.zeros((3 * n, 4 * n), np.int16)
    for k in range(n_images):
        tiles[k // n * 3 : k // n * 3 + 3, k % n * 4 : k % n * 4 + 4] = 100 * k + np.arange(12).reshape(3, 4)
    return phantom.dicom(
        f"m/{len(tags)}.dcm",
        tiles,
        Modality="MR",
        ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"],
        PixelSpacing=[2, 1.5],
        SpacingBetweenSlices="4",
        ImageOrientationPatient=AXIAL,
        # The corner that one slice of the mosaic's size would have around the middle of the first slice.
        ImagePositionPatient=[10 - (n - 1) * 4 * 1.5 / 2, 20 - (n - 1) * 3 * 2 / 2, 30],
        **tags,
    )


@pytest.mark.parametrize("n_images", [3, 4, 7])
def test_a_mosaic_is_unfolded_where_it_says_of_how_many_slices(phantom_volume, n_images):
    path = mosaic(phantom_volume, n_images)
    header = pydicom.dcmread(path)
    block = header.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0A, "US", n_images)
    header.save_as(path)
    volume = read_volume(path)
    expected = np.stack([100 * k + np.arange(12).reshape(3, 4) for k in range(n_images)])
    np.testing.assert_array_equal(volume.array[::-1, ::-1], expected.T)
    lps = np.array([[-1.5, 0, 0, 10 + 3 * 1.5], [0, -2, 0, 20 + 2 * 2], [0, 0, 4, 30], [0, 0, 0, 1]])
    np.testing.assert_allclose(volume.affine, np.diag([-1, -1, 1, 1]) @ lps)
    assert volume.notes == (f"a mosaic of {n_images} slices unfolded",)


def csa(**tags):
    """Write a header of Siemens, version 2: texts by name."""
    found = b"SV10\4\3\2\1" + struct.pack("<II", len(tags), 77)
    for name, values in tags.items():
        found += struct.pack("<64si4siii", name.encode(), len(values), b"FD\0\0", 4, len(values), 77)
        for value in values:
            text = value.encode() + b"\0"
            found += struct.pack("<4i", len(text), len(text), 77, len(text)) + text + bytes(-len(text) % 4)
    return found


@pytest.mark.parametrize("up", [1, -1])
def test_a_mosaic_goes_the_way_that_its_private_header_says(phantom_volume, up):
    path = mosaic(phantom_volume, 4)
    header = pydicom.dcmread(path)
    block = header.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", csa(NumberOfImagesInMosaic=["4"], SliceNormalVector=["0.0", "0.0", f"{up}.0"]))
    header.save_as(path)
    volume = read_volume(path)
    assert (volume.array[-1, -1] // 100).tolist() == [0, 1, 2, 3][::up]
    assert volume.affine[2, 3] == (30 if up > 0 else 30 - 3 * 4)


def test_a_mosaic_that_does_not_say_is_refused_with_what_to_do(phantom_volume):
    mosaic(phantom_volume, 4)
    with pytest.raises(VolumeError, match=r"is a mosaic .* convert it with dcm2niix"):
        read_volume(phantom_volume.folder / "m")


@pytest.mark.parametrize("name", ["IM1", "scan.img", "scan.dcm.txt", "scan.17", "note.json"])
@pytest.mark.parametrize("cut", [0, 132], ids=["whole", "without preamble"])
def test_dicom_is_known_by_its_content(phantom_volume, name, cut):
    path = phantom_volume.dicom(name, np.arange(12, dtype=np.uint16).reshape(3, 4), SeriesInstanceUID="1.2")
    path.write_bytes(path.read_bytes()[cut:])
    assert dicom.may_be_dicom(path)
    assert read_volume(path).array[:, 0, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "content", [b"hello", b"\x08\0\x05\0 hello, this is no DICOM", b"\x08\0" * 600, b"\2\0" + bytes(1000), b""]
)
def test_what_is_not_dicom_is_not_taken_for_it(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert not dicom.may_be_dicom(tmp_path / "a")


def test_a_series_is_that_of_one_patient_and_visit(phantom_volume):
    tags = {"SeriesInstanceUID": "1.2", "StudyInstanceUID": "1.1", "PatientID": "Ada"}
    others = [tags, {**tags, "PatientID": "Bob"}, {**tags, "StudyInstanceUID": "1.3"}]
    pixels = np.zeros((3, 4), np.uint8)
    paths = [phantom_volume.dicom(f"p/{k}.dcm", pixels, **each) for k, each in enumerate(others)]
    keys = [dicom.series_key(instance) for instance in dicom.read_instances(paths)]
    assert len({*keys}) == 3
    assert all("Ada" not in part for key in keys for part in key)
    with pytest.raises(VolumeError, match="p holds 3 DICOM series"):
        read_volume(phantom_volume.folder / "p")
