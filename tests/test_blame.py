"""Whose fault it is: what an encoder does wrong stops the run, and only what a study does wrong is that study's."""

import os
import pickle
import re
import sys

import numpy as np
import pytest

from firstpick.embedding.chunk import embed_chunk
from firstpick.embedding.run import embed
from firstpick.embedding.start import start_ahead
from firstpick.encoders import EncoderError, EncoderSpec, build_encoder
from firstpick.encoders.gpu import see_only
from firstpick.encoders.memory import is_out_of_memory
from firstpick.encoders.ready import fetch_weights, gpus_for
from firstpick.sources.folder import list_studies
from firstpick.voxels.views import ViewSpec
from firstpick.workers import LocalPool

MINE = """
import os, time
import numpy as np

class Mine:
    def __init__(self, spec):
        {build}

    def parts(self, volume):
        {parts}
        return np.full((4, 3), volume.array.max(), np.float32)

    def encode(self, parts):
        {encode}
        return parts
"""


@pytest.fixture
def studies(phantom_volume):
    for number in range(6):
        phantom_volume.nifti(f"studies/case_{number}.nii", array=phantom_volume.array + number)
    return list_studies(phantom_volume.folder / "studies")[0]  # their highest values are 900 to 905


@pytest.fixture
def encoder(tmp_path):
    """Make an encoder of someone else out of what it does at each of its three occasions."""

    def make(**does):
        path = tmp_path / "mine.py"
        path.write_text(MINE.format(**{"build": "pass", "parts": "pass", "encode": "pass", **does}))
        return EncoderSpec(f"python:{path}:Mine")

    return make


def stopped(studies, spec, cache, **limits):
    """The sentence that a run stops with; no study is at fault."""
    with LocalPool(n_workers=2, **limits) as pool, pytest.raises(EncoderError) as error:
        list(embed(studies, spec, cache, executor=pool))
    assert cache.failures(spec.fingerprint(), studies) == []
    return str(error.value)


def reasons(studies, spec, cache, **how):
    """What a run says of the studies that failed."""
    with LocalPool(n_workers=2, time_limit_s=how.pop("time_limit_s", 60)) as pool:
        last = list(embed(studies, spec, cache, executor=pool, **how))[-1]
    failures = cache.failures(spec.fingerprint(), studies)
    assert (last.n_done, last.n_failed) == (len(studies) - len(failures), len(failures))
    return {failure.study_id: failure.reason for failure in failures}


@pytest.mark.parametrize("apart", [False, True])
def test_a_studys_clock_does_not_run_while_the_encoder_is_built(studies, cache, encoder, apart):
    spec = encoder(build="time.sleep(3)")
    assert reasons(studies, spec, cache, time_limit_s=2, apart=apart) == {}


@pytest.mark.parametrize(
    ("build", "said"),
    [
        ("raise LookupError('no such layer')", r"cannot be built \(LookupError: no such layer\)"),
        ("raise MemoryError", r"cannot be built \(memory ran out\)"),
        ("os._exit(9)", r"died \(exit code 9\).*n_workers: 1"),
        ("os.kill(os.getpid(), 9)", r"died \(exit code -9\).*n_workers: 1"),
        ("time.sleep(60)", "not built within the time"),
        (
            "self.much = b'x' * 10**9; time.sleep(60)",
            "takes more than 0.8 GB of memory to build. Raise worker_memory_gb",
        ),
    ],
)
def test_what_goes_wrong_while_an_encoder_is_built_stops_the_run_in_a_sentence(studies, cache, encoder, build, said):
    assert re.search(
        rf"^encoder 'python:.*{said}.*\.$",
        stopped(studies, encoder(build=build), cache, start_limit_s=5, memory_gb=0.8),
    )


def test_a_worker_that_dies_of_a_study_builds_anew_outside_of_the_clock_of_the_next(studies, cache, encoder):
    spec = encoder(build="time.sleep(2)", parts="if volume.array.max() == 902: os._exit(1)")
    assert list(reasons(studies, spec, cache, time_limit_s=1.5)) == ["case_2.nii"]


@pytest.mark.parametrize("where", ["parts", "encode"])
def test_an_error_over_one_study_is_that_studys_if_the_encoder_manages_a_blank_one(studies, cache, encoder, where):
    value = "volume.array" if where == "parts" else "parts"
    spec = encoder(**{where: f"if {value}.max() == 903: raise IndexError('beyond the end')"})
    assert reasons(studies, spec, cache) == {"case_3.nii": "The encoder fails on it (IndexError: beyond the end)."}


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ({"parts": "raise IndexError('beyond the end')"}, "IndexError: beyond the end"),
        ({"encode": "raise IndexError('beyond the end')"}, "IndexError: beyond the end"),
        ({"encode": "return parts[0]"}, r"shape \(3,\) for"),
        ({"encode": "return parts[:2]"}, r"shape \(2, 3\) for"),
        ({"encode": "return parts * np.nan"}, "numbers that are not finite"),
    ],
)
def test_an_error_over_every_study_is_the_encoders(studies, cache, encoder, does, said):
    assert re.search(rf"fails on every study, a blank one too \(.*{said}", stopped(studies, encoder(**does), cache))


MEMORY_ERRORS = [
    "MemoryError()",
    "RuntimeError('[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.')",
    'RuntimeError("DefaultCPUAllocator: can\'t allocate memory")',
    "type('OutOfMemoryError', (RuntimeError,), {})('CUDA')",
    "RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED')",
]


@pytest.mark.parametrize("error", MEMORY_ERRORS)
def test_where_memory_runs_out_the_batch_is_halved_and_stays_so(studies, cache, encoder, tmp_path, error):
    tell = f"with open({str(tmp_path / 'sizes')!r}, 'a') as file: file.write(f'{{len(parts)}} ')"
    spec = encoder(encode=f"{tell}\n        if len(parts) > 3: raise {error}")
    result = embed_chunk(studies, spec)  # of 4 parts each
    assert (len(result.embedded), result.failed) == (6, [])
    sizes = [int(size) for size in (tmp_path / "sizes").read_text().split()]
    assert sizes == [24, 12, 6] + [3] * 8
    embed_chunk(studies, spec)
    assert max(int(size) for size in (tmp_path / "sizes").read_text().split()[11:]) == 3


def test_torchs_own_error_is_known():
    error = pytest.importorskip("torch").OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))


def test_a_study_for_which_memory_does_not_suffice_alone_is_said(studies, cache, encoder):
    spec = encoder(encode="if parts.max() == 904: raise MemoryError")
    assert reasons(studies, spec, cache) == {"case_4.nii": "It needs more memory than this machine has free."}


# -- on a GPU


@pytest.mark.parametrize("name", ["pixels", "random-init"])
def test_one_process_encodes_what_others_read_and_nothing_else_differs(studies, cache, name, monkeypatch):
    spec = EncoderSpec(name, views=ViewSpec(size=56, per_plane=1))
    done = {}

    def spy(method):
        def spied(self, *args):
            names = [item.__name__ for item in args if callable(item) and hasattr(item, "__name__")]
            done.setdefault((method.__name__, names[0]), set()).add(self.n_workers)
            return method(self, *args)

        return spied

    for method in ("submit", "submit_slow", "submit_after"):
        monkeypatch.setattr(LocalPool, method, spy(getattr(LocalPool, method)))
    (phantom := cache.path.parent.parent / "studies" / "case_9.nii").write_bytes(b"no such thing")
    found = reasons(list_studies(phantom.parent)[0], spec, cache, apart=True)
    assert list(found) == ["case_9.nii"]
    assert done == {  # only what is submitted plainly, or after the encoder was built, is on a study's clock
        ("submit_slow", "gpus_for"): {2},
        ("submit_slow", "cutter"): {1},
        ("submit", "cut_chunk"): {2},
        ("submit_after", "encode_chunk"): {1},
    }
    pool = cache.pool(spec.fingerprint(), studies)
    together = {item.study.study_id: item.vectors[0] for item in embed_chunk(studies, spec).embedded}
    np.testing.assert_allclose(pool.vectors, [together[study_id] for study_id in pool.study_ids], rtol=1e-5, atol=1e-6)


def test_a_process_that_reads_needs_no_network():
    for name in ("pixels", "random-init"):
        assert len(pickle.dumps(build_encoder(EncoderSpec(name)).parts)) < 2000


def test_an_encoder_of_someone_else_reads_where_it_encodes(studies, cache, encoder, tmp_path):
    spec = encoder(build=f"with open({str(tmp_path / 'built')!r}, 'a') as file: file.write('once ')")
    assert reasons(studies, spec, cache, apart=True) == {}
    assert (tmp_path / "built").read_text() == "once "


def test_an_encoder_that_was_built_while_studies_were_listed_is_not_built_again(studies, cache, encoder, tmp_path):
    spec = encoder(build=f"with open({str(tmp_path / 'built')!r}, 'a') as file: file.write('once ')")
    with LocalPool(n_workers=1) as pool:
        start_ahead(spec, pool)
        *_, last = embed(studies, spec, cache, executor=pool)
    assert last.n_done == len(studies)
    assert (tmp_path / "built").read_text() == "once "


def test_what_goes_wrong_while_studies_are_listed_is_said_by_the_run(studies, cache, encoder):
    spec = encoder(build="raise ValueError('no such weights')")
    with LocalPool(n_workers=1) as pool:
        start_ahead(spec, pool)
        with pytest.raises(EncoderError, match="no such weights"):
            list(embed(studies, spec, cache, executor=pool))


def test_a_gpu_is_known_by_torch_and_only_where_the_encoder_imports_it(encoder, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert gpus_for(EncoderSpec("random-init")) == 2
    assert gpus_for(encoder()) == 2
    assert gpus_for(EncoderSpec("pixels")) == 0
    monkeypatch.delitem(sys.modules, "torch")
    assert gpus_for(encoder()) == 0


def test_each_gpu_has_a_process_of_its_own_that_sees_no_other(studies, cache, encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,7")
    name = f"{str(tmp_path)!r} + '/gpu-' + os.environ['CUDA_VISIBLE_DEVICES']"
    spec = encoder(build=f"open({name}, 'w').close()")
    assert reasons(studies, spec, cache, apart=2) == {}
    assert sorted(path.name for path in tmp_path.glob("gpu-*")) == ["gpu-3", "gpu-7"]


def test_without_a_choice_of_the_user_a_gpu_goes_by_its_number(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    see_only(1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"


# -- weights from a hub


def test_weights_are_fetched_once_and_every_worker_gets_the_folder(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    fetched = []
    (tmp_path / "model.safetensors").touch()
    monkeypatch.setattr(
        "firstpick.encoders.hub.snapshot_download", lambda name, **_: fetched.append(name) or str(tmp_path)
    )
    spec = EncoderSpec("hf:owner/model")
    here = fetch_weights(spec)
    assert (here.name, here.weights) == ("hf:owner/model", str(tmp_path))
    assert fetch_weights(here) == here
    assert fetched == ["owner/model"]


def test_weights_that_cannot_be_fetched_stop_the_run_and_the_log_says_what_was_tried(
    studies, cache, monkeypatch, caplog
):
    pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    caplog.set_level("INFO")
    assert "the hub cannot be reached" in stopped(studies, EncoderSpec("hf:owner/model"), cache)
    assert "weights (owner/model) are fetched" in caplog.text
