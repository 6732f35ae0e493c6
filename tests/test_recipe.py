"""The numbers of fixed volumes: who changes them has to raise `RECIPE`, so that no archive mixes two recipes.

Written anew with ``FIRSTPICK_GOLDEN=write``, never else, and only together with a new `RECIPE`.
"""

from dataclasses import replace

import numpy as np
import pytest
from golden_files import compare

from firstpick.encoders import ENCODERS, RECIPE, EncoderError, EncoderSpec, build_encoder, pool_parts
from firstpick.encoders.weights import packaged_file
from firstpick.voxels.views import ViewSpec, view_slices
from firstpick.voxels.volumes import Volume

ADVICE = "the recipe changed: raise RECIPE and rewrite the golden with FIRSTPICK_GOLDEN=write"
N_NUMBERS = 8


def ramp(shape):
    """Waves of other lengths along each axis, the brightest towards Right, Anterior and Superior: nothing repeats."""
    x, y, z = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    return np.sin(7 * x) + np.cos(11 * y + 2 * x) + np.sin(5 * z + 3 * y) + x + 2 * y + 3 * z


def heavy_tailed(shape):
    """A few voxels far above all others, so that it shows where intensities are cut; far below if it is negated."""
    return np.sinh(4 * ramp(shape) / 7) ** 3


VOLUMES = {
    "ct": Volume((600 * ramp((50, 44, 36)) - 1500).astype(np.float32), (1.5, 1.0, 2.5), modality="CT"),
    "mr": Volume(heavy_tailed((40, 52, 30)).astype(np.float32), (1.0, 0.8, 3.0), modality="MR"),
    "dark tail": Volume(-heavy_tailed((40, 52, 30)).astype(np.float32), (1.0, 0.8, 3.0), modality="MR"),
    "thin": Volume(heavy_tailed((60, 48, 3)).astype(np.float32), (0.7, 0.7, 6.0)),
    "picture": Volume(heavy_tailed((70, 45, 1)).astype(np.float32), (1.0, 1.0, 1.0), is_picture=True),
}
SPECS = {
    "pixels": EncoderSpec("pixels"),
    "pixels, mean+max": EncoderSpec("pixels", pooling="mean+max"),
    "pixels, per-plane": EncoderSpec("pixels", pooling="per-plane"),
    "pixels, every 5 mm": EncoderSpec("pixels", views=ViewSpec(every_mm=5.0)),
    "dinov2-s": EncoderSpec("dinov2-s"),
}


def numbers(spec, volume):
    """A few mixtures of a volume's embedding; a change of any of its numbers shows in each."""
    encoder = build_encoder(spec)
    resolved = spec.resolved()
    shown = [at.plane for at in view_slices(volume, resolved.views)] if spec.needs_slices else []
    rows = encoder.encode(encoder.parts(volume))
    vector = pool_parts(rows, spec.pooling, shown=shown, planes=resolved.views.planes).astype(float)
    mixing = np.random.default_rng(0).normal(size=(N_NUMBERS, len(vector))) / np.sqrt(len(vector))
    return [round(float(number), 6) for number in mixing @ vector]


def is_installed(name):
    try:
        return all(packaged_file(name, ENCODERS[name], file) for file in ENCODERS[name].files)
    except EncoderError:
        return False


@pytest.mark.parametrize("kind", VOLUMES)
@pytest.mark.parametrize("name", SPECS)
def test_fixed_volumes_have_the_numbers_of_their_recipe(name, kind):
    if not is_installed(SPECS[name].name):
        pytest.skip(f"the weights of {SPECS[name].name} are not installed")
    tolerance = 2e-3 if SPECS[name].name == "dinov2-s" else 1e-4  # processors add up in another order

    def same(found, recorded):
        np.testing.assert_allclose(found, recorded, rtol=tolerance, atol=tolerance, err_msg=ADVICE)

    compare("recipe", f"{name}, {kind}", numbers(SPECS[name], VOLUMES[kind]), same)


def test_the_numbers_were_recorded_for_this_recipe():
    def same(found, recorded):
        assert found == recorded, ADVICE

    compare("recipe", "recipe", RECIPE, same)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("dark tail", {"percentiles": (1.0, 99.5)}),
        ("mr", {"percentiles": (0.5, 99.0)}),
        ("mr", {"percentiles": (0.0, 100.0)}),
        ("mr", {"per_plane": 2}),
        ("mr", {"planes": ("axial",)}),
    ],
)
def test_a_change_of_the_views_is_seen_in_the_numbers(kind, change):
    """What the test above is for, tried."""
    spec = SPECS["pixels"]
    changed = replace(spec, views=replace(spec.views, **change))
    assert not np.allclose(numbers(changed, VOLUMES[kind]), numbers(spec, VOLUMES[kind]), rtol=1e-3, atol=1e-3)
