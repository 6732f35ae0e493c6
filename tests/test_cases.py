"""The oddities that people report of real archives, row by row: read right and served alike, or refused in a sentence.

``make_cases.py``, beside the example data, writes them; a clone alone has the kinds of `test_oddities`.
"""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from archive import Outcome

from firstpick.sources.folder import list_studies

MAKER = Path(__file__).parents[2] / "shared" / "cases" / "make_cases.py"
SPACING = (1.5, 1.2, 3.0)
X, Y, Z = np.meshgrid(range(20), range(24), range(12), indexing="ij")
P = (X + 20 * Y + 480 * Z).astype(np.float64)
SLICE = P[:, :, 3:4]
GREY = SLICE % 255
RGB = 0.299 * GREY + 0.587 * (GREY // 2) + 0.114 * (GREY // 3)


def volume(array=P, spacing=SPACING, note=""):
    """Expect these voxels, RAS+, and a note that matches."""

    def check(outcome, name):
        found = outcome.one(name)
        np.testing.assert_allclose(found.array, array, rtol=1e-5, atol=0.51 if note == "lossy" else 1e-4)
        np.testing.assert_allclose(found.spacing, spacing, rtol=1e-4)
        assert note == "lossy" or re.search(note, "; ".join(found.notes), re.IGNORECASE), found.notes

    return check


def picture(array=GREY, note="", within=0.51):
    """Expect a picture of these pixels (luminance may be rounded)."""

    def check(outcome, name):
        found = outcome.one(name)
        assert found.is_picture
        np.testing.assert_allclose(found.array, array, atol=within)
        assert re.search(note, "; ".join(found.notes), re.IGNORECASE), found.notes

    return check


def readable(note=""):
    """Expect that it is read, whatever its values, and served alike."""

    def check(outcome, name):
        assert re.search(note, "; ".join(outcome.one(name).notes), re.IGNORECASE), outcome.one(name).notes

    return check


def refused(why):
    """Expect a sentence that says what it is."""

    def check(outcome, name):
        assert name not in outcome.read
        assert re.search(why, outcome.why(name), re.IGNORECASE), f"{name}: {outcome.why(name)!r}"

    return check


def volumes(*arrays):
    """Expect several studies of one folder."""

    def check(outcome, name):
        found = sorted(outcome.read.get(name, []), key=lambda volume: volume.array.max())
        assert len(found) == len(arrays)
        for one, array in zip(found, sorted(arrays, key=np.max), strict=True):
            np.testing.assert_allclose(one.array, array)
            np.testing.assert_allclose(one.spacing, SPACING)

    return check


FLIPPED = P[::-1, ::-1]
HALVES = np.where((X[:, :1] >= 3) & (X[:, :1] < 9), 0, 1)
TILT = np.deg2rad(20)
CASES = {
    "01_sform_qform": {
        "sform_wins.nii.gz": volume(FLIPPED, note="disagree"),
        "only_qform.nii.gz": volume(FLIPPED),
        "zero_sform_coded.nii": volume(FLIPPED, note="sform"),
        "nan_sform_good_qform.nii": volume(note="sform"),
        "no_form.nii": readable(),
    },
    "02_not_orthonormal": {"sheared.nii.gz": volume(P, (1.5, np.hypot(1.2, 0.3), np.hypot(3, 0.5)))},
    "03_pixdim": {
        f"{form}_{kind}.nii": readable() for form in ("qform", "sform") for kind in ("negative", "zero", "nan")
    },
    "04_datatypes": {
        **dict.fromkeys(("int64.nii.gz", "uint64.nii.gz", "uint32.nii.gz", "float64.nii.gz"), volume()),
        **dict.fromkeys(("int8.nii.gz", "uint8.nii.gz"), volume(P % 120)),
        "rgb24.nii.gz": volume(0.299 * (P % 200) + 0.587 * (P % 100), note="lossy"),
        "complex64.nii.gz": volume(P * np.sqrt(2), note="magnitude"),
        "bilevel_code1.nii": refused(r"."),
    },
    "05_nifti2": dict.fromkeys(("two.nii.gz", "two_plain.nii"), volume()),
    "06_slope": {
        **dict.fromkeys(("slope0.nii", "nan_nan.nii"), volume()),
        "slope2.nii": volume(2 * P - 100),
    },
    "07_range": {
        "float_huge.nii.gz": readable(),
        "float_tiny.nii.gz": volume(P * 1e-30),
        "nan_block.nii.gz": readable(note="not finite"),
        "all_zero.nii.gz": volume(0 * P),
    },
    "08_other_formats": {
        **dict.fromkeys(("brain.mgz", "brain.mgh", "bz.nii.bz2", "known.nii.gz", "pair.hdr", "old.gipl"), volume()),
        **dict.fromkeys(("array.npy", "scans.zip"), refused("not read")),
    },
    "09_units": {
        **dict.fromkeys(
            ("unknown0.nii", "mm_sec10.nii", "bad4.nii", "bad7.nii", "bits_255.nii", "mm_hz34.nii"), volume()
        ),
        "micron19.nii": volume(P, (1.5e-3, 1.2e-3, 3e-3)),
    },
    "10_gzip": {
        **dict.fromkeys(("members.nii.gz", "trailing_zeros.nii.gz", "trailing_garbage.nii.gz", "padded.nii"), volume()),
        **dict.fromkeys(("UPPER.NII.GZ", "Mixed.Nii.Gz", "UPPER2.NII", "plain_named_gz.nii.gz"), volume()),
        "gz_named_plain.nii": readable(),
        "short.nii": refused("truncated"),
        "empty.nii.gz": refused("empty"),
        "html_error.nii.gz": refused("HTML|web page|text"),
        "lfs.nii.gz": refused("LFS|pointer|text"),
    },
    "11_nrrd": {
        **dict.fromkeys(
            ("lps_raw.nrrd", "lps_gzip.nrrd", "ras_raw.nrrd", "las_raw.nrrd", "spacings_only.nrrd", "permuted.nrrd"),
            volume(),
        ),
        **dict.fromkeys(("bzip2.nrrd", "ascii.nrrd", "detached.nhdr", "detached_other_name.nhdr"), volume()),
        "missing_data.nhdr": refused("."),
    },
    "12_metaimage": {
        **dict.fromkeys(("plain.mhd", "packed.mhd", "one.mha", "other.mhd", "listed.mhd", "UPPER.MHD"), volume()),
        "lost.mhd": refused("."),
        "vector.mha": volume(note="components"),
    },
    "13_missing_slices": {"complete": volume(), "gap": volume(np.delete(P, (4, 5, 6), axis=2), note="missing")},
    "14_gantry_tilt": {"tilted": volume()},
    "16_duplicate_slices": {"dup": volume(note="first of each")},
    "17_enhanced_per_frame_rescale": {"per_frame.dcm": volume(0 * P + 100 + 110 * Z)},
    "18_pet_slopes": {
        "first_slope_1": volume(P * np.where(Z == 0, 1, 0.01 + 0.002 * Z)),
        "all_fractional": volume(P * (0.01 + 0.002 * Z)),
        "intercepts_differ": volume(P - 1024 * (Z == 0)),
    },
    "19_same_series_uid": {"one_folder": volumes(P, P[::-1] + 3000), "apart/a": volume(), "apart/b": volume(P[::-1])},
    "20_series_over_folders": {".": volume(), "per_slice": volume()},
    "21_names_dicom": dict.fromkeys(
        ("noext", "uidnames", "upper", "dicom", "nopreamble_noext", "img_ending", "numbered"), volume()
    ),
    "22_no_spacing": {
        "comma": volume(),
        **dict.fromkeys(("zero_spacing", "no_position", "empty_orientation"), readable(note=".")),
    },
    "23_overlay_bits": {
        "ov": volume(P.astype(np.int64) & 0x0FFF),
        "signed12": volume(P % 3000 - 1500),
        "alloc16_stored8": volume(P % 256),
    },
    "24_mixed_objects": {"mix": volume()},
    "25_charsets": dict.fromkeys(("latin1", "jp", "bogus", "utf8_undeclared", "gb", "id_umlaut"), volume()),
    "26_syntaxes": {
        **dict.fromkeys((".", "rle"), volume()),
        "unknown_syntax": refused(r"transfer syntax.*1\.2\.840\.10008\.1\.2\.77"),
    },
    "27_two_acquisitions": {"s": volume(note="acquisition")},
    "29_pictures": {
        **dict.fromkeys(("grey.bmp", "apng.png", "la.png", "png_named.jpg", "gif_named.png"), picture()),
        **dict.fromkeys(("png16.png", "lzw.tiff", "deflate.tif"), picture(SLICE * 20)),
        "multi.tif": picture(SLICE * 20, note="pages|frames"),
        **dict.fromkeys(("rgba.png", "webp_named.png"), picture(RGB)),
        "float.tif": picture(SLICE * 20 / 7, within=0.01),
        "int32.tif": picture(SLICE * 20 - 9000),
        "int16.tif": picture((SLICE * 20 - 3000 + 2**15) % 2**16 - 2**15),
        **dict.fromkeys(
            ("rgb16.tif", "rgb16.png"), picture(20 * (0.299 * SLICE + 0.587 * SLICE / 2 + 0.114 * SLICE / 3), within=1)
        ),
        "trunc.jpg": refused("truncated|damaged|incomplete"),
        "bomb.png": refused("14000 x 13000|182"),
        "large.png": picture(np.full((10000, 9500, 1), 7)),
    },
    "30_names": {},
    "31_nfc_nfd": {},
    "34_msd_layout": {"labelsTr/case_000.nii.gz": refused("mask"), "imagesTr/case_001.nii.gz": volume(P + 100)},
    "35_labels_beside": {
        **{f"case{k}_seg.nii.gz": refused("mask") for k in range(3)},
        "case9.seg.nrrd": refused("mask|segmentation"),
        "case1.nii.gz": volume(P + 50),
        "case9.nrrd": volume(),
    },
    "36_monai_datastore": {"case1.nii.gz": volume(P + 50), "labels/final/case0.nii.gz": refused("mask|label")},
    "39_multichannel": {
        "4d.nii.gz": volume(note="first of 3"),
        "singletons.nii.gz": volume(),
        "flat2d.nii.gz": readable(),
        "vector5d.nii.gz": volume(note="first of 3"),
    },
    "41_mixed_case": {
        **dict.fromkeys(("a.NII.gz", "b.nii.GZ", "c.Nii.gz", "d.Nii", "e.NIi", "f.Nrrd", "g.MHA"), volume()),
        **dict.fromkeys(("h.Png", "i.JPeG"), picture(within=60)),
    },
    "44_uid_per_slice": {"odd": refused("screen.dcm")},
    "45_tiff": {
        **dict.fromkeys(("u32.tif", "i32.tif", "f32.tif", "i16.tif", "u16.tif"), picture(SLICE)),
        "i8.tif": picture(SLICE.astype(np.int64).astype(np.int8)),
        "two_channels.tif": picture(SLICE),
    },
    "46_wrong_content": {
        "text.dcm": refused("not DICOM"),
        "png.dcm": refused("PNG"),
        "nifti.dcm": refused("NIfTI|not DICOM"),
        "zip.nii.gz": refused("zip"),
        "text.png": refused("text|not a"),
        "text.nrrd": refused("."),
        "text.mha": refused("."),
        "text.nii": refused("."),
        "good.nii.gz": volume(),
        "only_meta.dcm": refused("."),
    },
    "50_markup_names": {},
    "53_placeholder_patient": {},
}


@pytest.fixture(scope="session")
def cases(tmp_path_factory):
    if not MAKER.is_file():
        pytest.skip("the oddities (shared/cases beside the checkout) are not on this machine")
    folder = tmp_path_factory.mktemp("cases")
    subprocess.run([sys.executable, "-W", "ignore", MAKER, folder], check=True)
    return folder


@pytest.fixture(scope="session")
def outcome_of(cases, tmp_path_factory):
    known = {}

    def outcome_of(name):
        if name not in known:
            known[name] = Outcome.of(cases / name, tmp_path_factory.mktemp("served"))
        return known[name]

    return outcome_of


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CASES))
def test_each_is_read_right_and_served_alike_or_refused_in_a_sentence(name, outcome_of):
    outcome, wrong = outcome_of(name), []
    for file, check in CASES[name].items():
        try:
            check(outcome, file)
        except AssertionError as error:
            wrong.append(f"{file}: {error}")
    assert not wrong, "\n".join(wrong)


def test_a_tilted_gantry_is_a_sheared_affine(outcome_of):
    found = outcome_of("14_gantry_tilt").one("tilted")
    expected = [[1.5, 0, 0], [0, 1.2 * np.cos(TILT), 0], [0, -1.2 * np.sin(-TILT), 3.0]]
    np.testing.assert_allclose(found.affine[:3, :3], expected, atol=1e-4)


@pytest.mark.parametrize(("name", "n"), [("30_names", 24), ("31_nfc_nfd", 2), ("50_markup_names", 5)])
def test_whatever_their_names_all_are_studies(outcome_of, name, n):
    outcome = outcome_of(name)
    assert len(outcome.read) == n
    assert not outcome.failed
    titles = [study.title for study in outcome.studies]
    assert all(title and title.isprintable() for title in titles), titles


def test_a_name_that_is_not_utf_8_is_said_and_the_others_are_read(outcome_of):
    outcome = outcome_of("32_not_utf8")
    assert {*outcome.read} == {"good_a.nii.gz", "good_b.nii.gz"}
    (told,) = outcome.left_out
    assert "UTF-8" in told.reason


def test_masks_are_said_once_for_a_folder(outcome_of):
    left_out = [entry for entry in outcome_of("34_msd_layout").left_out if "mask" in entry.reason]
    assert len(left_out) == 1


def test_a_mosaic_is_unfolded_or_named(outcome_of):
    outcome = outcome_of("42_mosaic")
    told = [reason for reasons in outcome.failed.values() for reason in reasons]
    told += [entry.reason for entry in outcome.left_out]
    volumes = [found for some in outcome.read.values() for found in some]
    assert volumes or told
    assert all("mosaic" in reason for reason in told)
    for found in volumes:
        np.testing.assert_allclose(found.array, P)


def test_slices_with_a_series_uid_each_are_read_with_a_hint(cases, outcome_of, caplog):
    assert len(outcome_of("44_uid_per_slice").read["each"]) == 12
    list_studies(cases / "44_uid_per_slice")
    assert "each holds 12 DICOM series of one slice each" in caplog.text


def test_a_placeholder_is_no_patient(outcome_of):
    patients = [study.patient for study in outcome_of("53_placeholder_patient").studies]
    assert patients.count("") == 8
    assert len({*patients} - {""}) == 4
