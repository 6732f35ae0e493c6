"""Speed of the small pure steps: ``pytest tests/benchmarks --benchmark-only``."""

import numpy as np
import pytest

from firstpick.proposal import propose
from firstpick.selection import select
from firstpick.studies import Pool, Sample
from firstpick.voxels.views import ViewSpec, make_views, thumbnail
from firstpick.voxels.volumes import read_volume

DIM = 384


def _pool(n_rows):
    """Rows around twelve centres, as embeddings lie."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(12, DIM))
    vectors = centres[rng.integers(12, size=n_rows)] + 0.5 * rng.normal(size=(n_rows, DIM))
    return Pool(tuple(Sample(f"study_{i:05d}") for i in range(n_rows)), vectors.astype(np.float32))


@pytest.fixture
def hippocampus_file(shared_data):
    return min((shared_data / "hippocampus" / "images").iterdir())


@pytest.mark.parametrize("n_rows", [200, 2000])
def test_select_kmeans(benchmark, n_rows):
    pool = _pool(n_rows)
    chosen = benchmark(select, "kmeans", pool.vectors, 10, seed=0)
    assert len(chosen.indices) == 10


@pytest.mark.parametrize("n_rows", [200, 2000])
def test_propose(benchmark, n_rows):
    proposal = benchmark(propose, _pool(n_rows), strategy="kmeans", batch_size=10)
    assert len(proposal.picks) == 10


def test_read_volume(benchmark, hippocampus_file):
    volume = benchmark(read_volume, hippocampus_file)
    assert volume.array.ndim == 3


def test_make_views(benchmark, hippocampus_file):
    views = benchmark(make_views, read_volume(hippocampus_file), ViewSpec(size=112))
    assert len(views) == 9


def test_thumbnail(benchmark, hippocampus_file):
    assert benchmark(thumbnail, read_volume(hippocampus_file)).startswith(b"\x89PNG")
