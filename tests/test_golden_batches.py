"""First batches of every strategy on real data, and the vectors of a few volumes, as recorded in ``golden/``.

Recorded anew with ``FIRSTPICK_GOLDEN=write``, never else.
"""

import hashlib
import json
import os
import platform
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import Phantom
from golden_files import compare, run

pytestmark = pytest.mark.slow

N_PER_CLASS = 50
WITH_ANOTHER_SEED = ("kmeans", "random")


def copied(paths, folder):
    """A folder with copies of files."""
    folder.mkdir(parents=True)
    for path in paths:
        shutil.copyfile(path, folder / path.name)
    return folder


def hippocampus(data, folder):
    return copied(sorted((data / "hippocampus" / "images").iterdir()), folder)


def nerve_us(data, folder):
    return copied(sorted((data / "nerve_us" / "images").iterdir()), folder)


def mednist(data, folder):
    """The first fifty by name of each of the six classes, which the names begin with."""
    classes = {}
    for path in sorted((data / "mednist" / "images").iterdir()):
        classes.setdefault(path.name.rpartition("_")[0], []).append(path)
    return copied([path for paths in classes.values() for path in paths[:N_PER_CLASS]], folder)


def exported(studies, state):
    """Vectors of the default encoder, as ``firstpick export`` writes them."""
    out = state.with_suffix(".npz")
    status, _, err = run("export", "--studies", studies, "--state", state, "--out", out)
    assert status == 0, err
    with np.load(out, allow_pickle=False) as pool:
        return pool["vectors"]


def picked(studies, state, strategy, seed):
    """Rank and study of each pick of the first batch."""
    choice = ("--strategy", strategy, "--seed", seed, "--batch-size", 20)
    status, out, err = run("pick", "--studies", studies, "--state", state, *choice, "--json")
    assert status == 0, err
    return [f"{pick['rank']} {pick['study_id']}" for pick in json.loads(out)["picks"]]


def strategies():
    """Those that can choose a first batch."""
    lines = run("list", "strategies")[1].splitlines()
    return [line.split()[0] for line in lines if not line.endswith("For next_round alone.")]


def computer():
    """What the last bits of a vector depend on: processor and libraries."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text(encoding="utf-8").splitlines() if cpu.exists() else []
    facts = dict(reversed([[part.strip() for part in line.partition(":")[::2]] for line in lines]))
    kind = [facts.get(key, "") for key in ("model name", "cpu family", "model", "stepping")]
    threads = f"{os.cpu_count()} x {torch.backends.cpu.get_cpu_capability()}"
    return " ".join([*(kind if any(kind) else [platform.processor()]), f"({threads})"]) + (
        f", torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}, numpy {np.__version__}"
    )


def same_batches(found, recorded):
    """Compare batches where the vectors are the same to the last bit.

    Near duplicates change places with the last bit of a vector. On the computer of the record the
    bits must be the same; on another one vectors must be nearly the same, and that is all.
    """
    some, before = (np.array(value["some_vectors"], float) for value in (found, recorded))
    np.testing.assert_allclose(some, before, rtol=1e-3, atol=1e-3)
    if found["sha256"] != recorded["sha256"]:
        assert found["computer"] != recorded["computer"], "the vectors have changed in their last bits"
        pytest.skip(f"vectors differ in their last bits between {found['computer']} and {recorded['computer']}")
    assert found["batches"].keys() == recorded["batches"].keys()
    for name, batch in recorded["batches"].items():
        assert found["batches"][name] == batch, name


@pytest.mark.parametrize("name", ["hippocampus", "mednist", "nerve_us"])
def test_every_strategy_picks_the_recorded_batch(name, shared_data, tmp_path):
    studies, state = globals()[name](shared_data, tmp_path / name), tmp_path / "state"
    vectors = exported(studies, state)
    found = {
        "computer": computer(),
        "sha256": hashlib.sha256(vectors.tobytes()).hexdigest(),
        "some_vectors": [[round(float(x), 6) for x in row[:8]] for row in vectors[:: len(vectors) // 5]],
        "batches": {
            f"{strategy}, seed {seed}": picked(studies, state, strategy, seed)
            for strategy in strategies()
            for seed in ((0, 1) if strategy in WITH_ANOTHER_SEED else (0,))
        },
    }
    compare("batches", name, found, same_batches)


# -- vectors


def nifti(data, folder):
    return copied(sorted((data / "hippocampus" / "images").iterdir())[:1], folder)


def dicom_ct(data, folder):
    return copied(sorted((data / "full_size" / "dicom_ct").iterdir()), folder)


def nearly(found, recorded):
    np.testing.assert_allclose(np.array(found), np.array(recorded), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["nifti", "dicom_ct"])
def test_a_real_volume_has_the_recorded_vector(name, shared_data, tmp_path):
    vectors = exported(globals()[name](shared_data, tmp_path / name), tmp_path / "state")
    compare("vectors", name, [[float(f"{x:.7g}") for x in row] for row in vectors], nearly)


def test_a_made_series_has_the_recorded_vector(tmp_path):
    series = Phantom(tmp_path).series("studies/one")
    vectors = exported(series.parent, tmp_path / "state")
    compare("vectors", "series", [[float(f"{x:.7g}") for x in row] for row in vectors], nearly)
