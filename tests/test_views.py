import tracemalloc
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from firstpick.voxels.views import PLANES, ViewSpec, make_views, thumbnail
from firstpick.voxels.volumes import Volume

SMALL = ViewSpec(size=56)
ONE_EACH = ViewSpec(size=64, per_plane=1)


def volume_of(array, spacing=(1.0, 1.0, 1.0), *, modality=""):
    return Volume(array=np.asarray(array, np.float32), spacing=spacing, is_picture=False, modality=modality, notes=())


def picture_of(rows, spacing=(1.0, 1.0, 1.0), *, modality=""):
    """Make a picture from rows as one sees them."""
    array = np.asarray(rows, np.float32).T[:, :, np.newaxis]
    return Volume(array=array, spacing=spacing, is_picture=True, modality=modality, notes=())


def body_with_block(air=0.0, body=100.0, block=200.0):
    """Return a body in air; a block near its Right-Anterior-Superior corner crosses all three middle slices."""
    array = np.full((44, 52, 36), air, np.float32)
    array[4:40, 4:48, 4:32] = body
    array[20:38, 23:46, 16:30] = block
    return array


def sphere(spacing, radius_mm=30.0, extent_mm=80.0):
    axes = [(np.arange(round(extent_mm / mm)) + 0.5) * mm - extent_mm / 2 for mm in spacing]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    return volume_of(100.0 * (x**2 + y**2 + z**2 < radius_mm**2), spacing)


def noise(rng, shape=(30, 32, 34)):
    return rng.normal(100, 10, shape).astype(np.float32)


def mean_of_quarters(view):
    """Return the mean brightness: upper left, upper right, lower left, lower right."""
    half = view.shape[0] // 2
    return [float(q.mean()) for q in (view[:half, :half], view[:half, half:], view[half:, :half], view[half:, half:])]


def bright_extent(view, threshold=0.5):
    """Return how many rows and columns hold something bright."""
    bright = view > threshold
    return int(bright.any(axis=1).sum()), int(bright.any(axis=0).sum())


def pixels_of(png):
    image = Image.open(BytesIO(png))
    assert (image.format, image.mode) == ("PNG", "L")
    return np.asarray(image)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize("plane", PLANES)
def test_a_block_at_the_right_anterior_superior_corner_shows_at_the_upper_left_of_every_plane(plane):
    (view,) = make_views(volume_of(body_with_block()), replace(ONE_EACH, planes=(plane,)))
    upper_left, *others = mean_of_quarters(view)
    assert upper_left > 1.3 * max(others)


@pytest.mark.parametrize(
    ("axis", "plane", "bright_quarter"),
    [(0, "axial", 1), (1, "axial", 2), (0, "coronal", 1), (2, "coronal", 2), (1, "sagittal", 1), (2, "sagittal", 2)],
)
def test_mirroring_the_patient_mirrors_the_views(axis, plane, bright_quarter):
    array = np.flip(body_with_block(), axis)
    (view,) = make_views(volume_of(array), replace(ONE_EACH, planes=(plane,)))
    assert int(np.argmax(mean_of_quarters(view))) == bright_quarter


def test_views_have_the_promised_shape_type_and_range(rng):
    views = make_views(volume_of(noise(rng)))
    assert views.shape == (9, 112, 112, 3)
    assert views.dtype == np.float32
    assert views.min() >= 0
    assert views.max() <= 1
    assert views.std() > 0.1


def test_planes_come_in_the_order_given_and_slices_from_low_to_high():
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32), (40, 40, 40)) + 100  # brighter towards superior
    volume = volume_of(ramp)
    views = make_views(volume, replace(SMALL, planes=("sagittal", "axial")))
    brightness = views[3:].mean(axis=(1, 2, 3))
    assert brightness[0] < brightness[1] < brightness[2]
    np.testing.assert_allclose(brightness, (0.25, 0.5, 0.75), atol=0.03)
    np.testing.assert_array_equal(views[:3], make_views(volume, replace(SMALL, planes=("sagittal",))))


def test_one_slice_per_plane_is_the_middle_one():
    ramp = np.broadcast_to(np.arange(41, dtype=np.float32), (40, 40, 41)) + 100
    (view,) = make_views(volume_of(ramp), replace(ONE_EACH, planes=("axial",)))
    np.testing.assert_allclose(view, 0.5, atol=0.02)


def test_slices_follow_the_foreground_not_the_field_of_view():
    array = np.zeros((40, 40, 100), np.float32)
    array[5:35, 5:35, 60:99] = np.arange(60, 99)
    views = make_views(volume_of(array), replace(SMALL, planes=("axial",), percentiles=(0, 100)))
    assert np.all(views > 0)  # all three are cut from the body, and to its box
    np.testing.assert_allclose(views.mean(axis=(1, 2, 3)), (0.25, 0.5, 0.75), atol=0.03)


def test_the_margin_around_the_foreground_is_cut_off():
    array = np.full((60, 60, 60), -1000, np.float32)
    array[20:50, 10:40, 30:60] = 10 * np.arange(30)
    wide, tight = volume_of(array, modality="CT"), volume_of(array[20:50, 10:40, 30:60], modality="CT")
    np.testing.assert_array_equal(make_views(wide, SMALL), make_views(tight, SMALL))


def test_a_spot_in_a_wide_field_is_shown_with_what_surrounds_it():
    array = np.zeros((40, 40, 40), np.float32)
    array[19:22, 19:22, 19:22] = 1
    for view in make_views(volume_of(array), ONE_EACH):
        assert 2 <= bright_extent(view[:, :, 0])[0] <= 8


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.8, 0.8, 4), (4, 1, 1), (1, 3, 2)])
def test_a_sphere_stays_round_whatever_the_spacing(spacing):
    for view in make_views(sphere(spacing), replace(ONE_EACH, size=112)):
        n_rows, n_columns = bright_extent(view[:, :, 0])
        slack = 112 * max(spacing) / 60 + 2  # one voxel, and the edges' rounding
        assert abs(n_rows - n_columns) <= slack
        assert min(n_rows, n_columns) > 112 - 2 * slack


def test_a_flat_box_is_padded_with_zeros_in_the_middle():
    volume = volume_of(np.full((40, 20, 30), 5) + np.arange(30), (1, 1, 2))
    (view,) = make_views(volume, ViewSpec(planes=("axial",), per_plane=1, size=80, intensity="ct"))
    np.testing.assert_array_equal(view[:20], 0)
    np.testing.assert_array_equal(view[60:], 0)
    assert np.all(view[20:60] > 0)


def test_a_long_scan_does_not_shrink_its_axial_slices():
    body = body_with_block(air=-1000, body=40, block=400)
    long = np.concatenate([body[:, :, 4:32]] * 8, axis=2)
    (view,) = make_views(volume_of(long), replace(ONE_EACH, planes=("axial",)))
    assert bright_extent(view[:, :, 1], 0.4) == (64, round(64 * 36 / 44))


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1, 2)])
def test_the_layout_in_memory_does_not_matter(axes, rng):
    array = noise(rng)
    flipped_view = np.flip(np.flip(array, axes).copy(order="F"), axes)
    assert not flipped_view.flags.c_contiguous
    flipped, plain = replace(volume_of(array), array=flipped_view), volume_of(array)
    np.testing.assert_array_equal(make_views(flipped, SMALL), make_views(plain, SMALL))
    assert thumbnail(flipped) == thumbnail(plain)


def test_views_repeat_exactly_and_leave_the_volume_untouched(rng):
    array = noise(rng)
    array.setflags(write=False)
    volume = volume_of(array)
    before = array.copy()
    np.testing.assert_array_equal(make_views(volume), make_views(volume))
    assert thumbnail(volume) == thumbnail(volume)
    np.testing.assert_array_equal(array, before)


def test_ct_channels_are_the_lung_soft_tissue_and_bone_windows():
    for hu, expected in [
        (-1000, (350 / 1500, 0, 0)),
        (-400, (950 / 1500, 0, 100 / 1800)),
        (40, (1390 / 1500, 0.5, 540 / 1800)),
        (140, (1490 / 1500, 0.75, 640 / 1800)),
        (400, (1, 1, 0.5)),
        (3000, (1, 1, 1)),
    ]:
        (view,) = make_views(picture_of(np.full((8, 8), hu), modality="CT"), SMALL)
        np.testing.assert_allclose(view[28, 28], expected, atol=1e-4)


def test_values_that_look_like_hounsfield_units_are_shown_in_ct_windows():
    array = body_with_block(air=-1000, body=40, block=400)
    unknown = make_views(volume_of(array), SMALL)
    np.testing.assert_array_equal(unknown, make_views(volume_of(array, modality="CT"), SMALL))
    assert not np.array_equal(unknown[..., 0], unknown[..., 1])


@pytest.mark.parametrize("low_high", [(-4096, 4096), (-4, 4), (0, 4000), (-1000, -600), (-5000, 500)])
def test_other_values_are_not_taken_for_hounsfield_units(low_high, rng):
    views = make_views(volume_of(rng.uniform(*low_high, (20, 20, 20))), SMALL)
    np.testing.assert_array_equal(views[..., 0], views[..., 1])


def test_a_known_modality_outweighs_how_the_values_look():
    views = make_views(volume_of(body_with_block(air=-1000, body=40, block=400), modality="MR"), SMALL)
    np.testing.assert_array_equal(views[..., 0], views[..., 2])


def test_the_intensity_can_be_forced_either_way():
    array = body_with_block(air=-1000, body=40, block=400)
    ct, mr = volume_of(array, modality="CT"), volume_of(array, modality="MR")
    np.testing.assert_array_equal(
        make_views(mr, replace(SMALL, intensity="ct")), make_views(ct, replace(SMALL, intensity="auto"))
    )
    np.testing.assert_array_equal(
        make_views(ct, replace(SMALL, intensity="percentile")), make_views(mr, replace(SMALL, intensity="auto"))
    )


def test_percentiles_are_those_of_the_foreground():
    array = np.zeros((40, 40, 40), np.float32)
    array[10:30, 10:30, 10:30] = np.linspace(500, 600, 20)
    (view,) = make_views(volume_of(array), replace(ONE_EACH, planes=("axial",)))
    np.testing.assert_allclose(view[2:-2, 2:-2], 0.5, atol=0.1)  # of 500 to 600, not of 0 to 600


def test_one_hot_voxel_does_not_darken_the_rest(rng):
    array = noise(rng)
    hot = array.copy()
    hot[3, 4, 5] = 1e30
    np.testing.assert_allclose(make_views(volume_of(hot)), make_views(volume_of(array)), atol=0.02)
    calm, disturbed = (pixels_of(thumbnail(volume_of(a))).astype(int) for a in (array, hot))
    np.testing.assert_allclose(disturbed, calm, atol=4)


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e20, 1e36])
def test_views_do_not_depend_on_the_unit_of_the_values(scale, rng):
    array = noise(rng)
    scaled = volume_of(array.astype(np.float64) * scale)
    np.testing.assert_allclose(make_views(scaled, SMALL), make_views(volume_of(array), SMALL), atol=1e-3)


def test_the_whole_range_of_float32_is_mapped_without_overflow(rng):
    top = float(np.finfo(np.float32).max)
    views = make_views(volume_of(rng.uniform(-1, 1, (12, 12, 12)) * top), SMALL)
    assert np.isfinite(views).all()
    assert views.std() > 0.1


@pytest.mark.parametrize("value", [0, 7, -1000, 3e38])
@pytest.mark.parametrize("modality", ["", "MR"])
def test_a_constant_volume_gives_zeros(value, modality):
    volume = volume_of(np.full((6, 7, 8), value), modality=modality)
    np.testing.assert_array_equal(make_views(volume, SMALL), np.zeros((9, 56, 56, 3)))
    np.testing.assert_array_equal(pixels_of(thumbnail(volume)), np.zeros((160, 160)))


def test_one_voxel_gives_one_view():
    assert make_views(volume_of([[[5]]]), SMALL).shape == (1, 56, 56, 3)
    assert pixels_of(thumbnail(volume_of([[[5]]]))).shape == (160, 160)


@pytest.mark.parametrize("shape", [(9, 1, 1), (1, 9, 1), (1, 1, 9)])
def test_one_row_of_voxels_gives_one_view_of_a_line(shape):
    (view,) = make_views(volume_of(np.arange(9).reshape(shape)), SMALL)
    assert sorted(bright_extent(view[:, :, 0], 0.0)) > [1, 40]


@pytest.mark.parametrize(("axis", "plane"), [(0, "sagittal"), (1, "coronal"), (2, "axial")])
def test_a_single_slice_is_seen_in_its_own_plane_alone(axis, plane, rng):
    volume = volume_of(np.take(noise(rng), [0], axis))
    views = make_views(volume, SMALL)
    assert len(views) == 3  # the slice repeats
    np.testing.assert_array_equal(views[0], views[2])
    np.testing.assert_array_equal(views, make_views(volume, replace(SMALL, planes=(plane,))))
    elsewhere = next(other for other in PLANES if other != plane)
    np.testing.assert_array_equal(views, make_views(volume, replace(SMALL, planes=(elsewhere,))))


def test_slices_repeat_where_the_volume_has_fewer(rng):
    views = make_views(volume_of(noise(rng, (20, 20, 2))), replace(SMALL, planes=("axial",), per_plane=5))
    assert len(views) == 5
    assert len(np.unique(views.reshape(5, -1), axis=0)) == 2


def test_a_picture_is_shown_once_as_stored():
    rows = np.zeros((30, 30))
    rows[3:10, 18:28] = 1  # upper right as one sees it
    (view,) = make_views(picture_of(rows), SMALL)
    assert int(np.argmax(mean_of_quarters(view))) == 1
    assert int(np.argmax(mean_of_quarters(pixels_of(thumbnail(picture_of(rows)))))) == 1


def test_a_picture_of_the_same_size_is_unchanged(rng):
    rows = rng.random((56, 56))
    (view,) = make_views(picture_of(rows), replace(SMALL, percentiles=(0, 100)))
    expected = (rows - rows.min()) / (rows.max() - rows.min())
    np.testing.assert_allclose(view, np.repeat(expected[:, :, np.newaxis], 3, axis=2), atol=1e-5)


def test_a_picture_is_never_cropped_to_its_foreground():
    rows = np.zeros((60, 60))
    rows[20:40, 20:40] = 1
    (view,) = make_views(picture_of(rows), ViewSpec(size=60))
    np.testing.assert_array_equal(view[:, :, 0], rows)


@pytest.mark.parametrize(("shape", "spacing"), [((20, 40), (1, 1, 1)), ((40, 40), (2, 1, 1))])
def test_a_wide_picture_is_padded_not_stretched(shape, spacing):
    volume = picture_of(np.tile([5, 6], (shape[0], shape[1] // 2)), spacing)
    (view,) = make_views(volume, ViewSpec(size=80, intensity="ct"))
    np.testing.assert_array_equal(view[:20], 0)
    np.testing.assert_array_equal(view[60:], 0)
    assert np.all(view[20:60] > 0)


def test_shrinking_averages_instead_of_skipping():
    checkered = np.indices((560, 560)).sum(axis=0) % 2
    (view,) = make_views(picture_of(checkered), SMALL)
    np.testing.assert_allclose(view[2:-2, 2:-2], 0.5, atol=0.01)


@pytest.mark.parametrize("size", [64, 160, 256])
def test_a_thumbnail_is_a_png_of_the_size_asked_for(size):
    pixels = pixels_of(thumbnail(volume_of(body_with_block()), size=size))
    assert pixels.shape == (size, size)
    upper_left, *others = mean_of_quarters(pixels)
    assert upper_left > 1.3 * max(others)


@pytest.mark.parametrize(
    ("shape", "plane"), [((40, 36, 8), "axial"), ((40, 8, 36), "coronal"), ((8, 40, 36), "sagittal")]
)
def test_a_thumbnail_shows_the_plane_with_most_to_see(shape, plane, rng):
    volume = volume_of(noise(rng, shape))
    (view,) = make_views(volume, ViewSpec(planes=(plane,), per_plane=1, size=160))
    np.testing.assert_array_equal(pixels_of(thumbnail(volume)), np.rint(view[:, :, 0] * 255))


def test_a_thumbnail_of_ct_is_the_soft_tissue_window():
    volume = volume_of(body_with_block(air=-1000, body=40, block=140), modality="CT")
    pixels = pixels_of(thumbnail(volume))
    np.testing.assert_allclose(np.percentile(pixels[pixels > 0], (1, 99)), (0.5 * 255, 0.75 * 255), atol=1)


def test_memory_stays_far_below_the_size_of_the_volume():
    volume = volume_of(np.random.default_rng(0).random((240, 240, 240), np.float32))
    tracemalloc.start()
    try:
        make_views(volume)
        thumbnail(volume)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.15 * volume.array.nbytes


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"planes": ("axial", "oblique")}, "planes must be one or more of axial, .*got axial, oblique"),
        ({"planes": ()}, "planes must be one or more of .*got nothing"),
        ({"planes": ("axial", "axial")}, "each once; got axial, axial"),
        ({"per_plane": 0}, "per_plane must be a whole number of slices, 1 or more; got 0"),
        ({"per_plane": 1.5}, "per_plane .*got 1.5"),
        ({"size": -1}, "size must be a whole number of pixels from 1 to 4096; got -1"),
        ({"size": 5000}, "got 5000"),
        ({"intensity": "mri"}, "intensity 'mri' is not known. Choose one of auto, ct, percentile"),
        ({"percentiles": (99, 1)}, "percentiles must be two rising numbers between 0 and 100; got 99, 1"),
        ({"percentiles": (1, 101)}, "got 1, 101"),
        ({"percentiles": (1,)}, "got 1"),
    ],
)
def test_a_wrong_spec_is_refused_with_what_is_allowed(wrong, message):
    with pytest.raises(ValueError, match=message):
        ViewSpec(**wrong)


def test_a_thumbnail_of_no_size_is_refused():
    with pytest.raises(ValueError, match="size must be a whole number of pixels from 1 to 4096; got 0"):
        thumbnail(volume_of(body_with_block()), size=0)
