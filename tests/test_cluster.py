"""A cluster embeds what this machine would have, whatever its workers do; and lets nobody else look on."""

import importlib.util
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from dask_cluster import DaskCluster

from firstpick.cli.sample_studies import make_studies
from firstpick.cluster import Cluster, ClusterError
from firstpick.config import ConfigError, load_config
from firstpick.embedding.cache import Cache
from firstpick.embedding.dask import DaskWorkers
from firstpick.embedding.dask_worker import Assignment, difference, what_decides
from firstpick.embedding.run import embed
from firstpick.encoders import EncoderError, EncoderSpec
from firstpick.proposal import propose
from firstpick.sources.folder import list_studies
from firstpick.studies import Study
from firstpick.workers import LocalPool, MemoryLimitError, ProcessExpired, WorkersLostError, why_failed

MINE = """
import os, time
from firstpick.encoders import EncoderSpec, build_encoder
from firstpick.voxels.views import ViewSpec

class Mine:
    def __init__(self, spec):
        self.encoder = build_encoder(EncoderSpec("{name}", views=ViewSpec(size=64)))

    def parts(self, volume):
        {parts}
        return self.encoder.parts(volume)

    def encode(self, parts):
        return self.encoder.encode(parts)
"""
KILL_THE_WORKER = "volume.array.max() == 905 and os.kill(os.getppid(), 9)"


@pytest.fixture
def studies(phantom_volume):
    for number in range(48):
        array = np.roll(phantom_volume.array, number, axis=number % 3) + number
        phantom_volume.nifti(f"studies/case_{number:02d}.nii", array=array)  # their highest values are 900 to 947
    return list_studies(phantom_volume.folder / "studies")[0]


@pytest.fixture
def encoder(tmp_path):
    """Make an encoder that does something else as well when it cuts a volume."""

    def make(parts, name="pixels"):
        path = tmp_path / "mine.py"
        path.write_text(MINE.format(parts=parts, name=name))
        return EncoderSpec(f"python:{path}:Mine")

    return make


@pytest.fixture
def dask(tmp_path):
    with DaskCluster(tmp_path / "dask") as cluster:
        yield cluster


def run(studies, spec, cache, dask, **limits):
    """Embed on a cluster; the last progress and why studies failed."""
    with DaskWorkers(Cluster(dask.address), {"time_limit_s": 60, **limits}) as workers:
        *_, last = embed(studies, spec, cache, executor=workers)
    return last, {item.study_id: item.reason for item in cache.failures(spec.fingerprint(), studies)}


# -- whom it is safe to talk to


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("tcp://10.1.2.3:8786", "is another machine, and tcp:// is not encrypted"),
        ("tcp://localhost.example:8786", "insecure: true"),
        ("tls://10.1.2.3:8786", "needs ca, cert and key, files with certificates; ca and cert and key missing"),
        ("10.1.2.3:8786", "must be an address such as tls://cluster.example:8786; got '10.1.2.3:8786'"),
        ("tls://:8786", "must be an address"),
        ("tls://cluster.example", "must be an address"),
        ("tcp://127.0.0.1:99999", "must be an address"),
        ("http://127.0.0.1:8786", "must be an address"),
    ],
)
def test_an_address_that_is_open_to_others_or_none_is_refused_when_the_configuration_is_read(address, said):
    with pytest.raises(ConfigError, match=r"^configuration: cluster: ") as error:
        load_config(overrides={"cluster.scheduler": address})
    assert said in str(error.value)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786", "tcp://[::1]:8786", "tcp://localhost:8786"])
def test_this_machine_and_what_is_said_to_be_insecure_are_taken(address):
    assert load_config(overrides={"cluster.scheduler": address}).cluster.scheduler == address
    other = {"cluster.scheduler": "tcp://10.1.2.3:8786", "cluster.insecure": "true"}
    assert load_config(overrides=other).cluster.insecure


def test_certificates_that_cannot_be_read_are_said(tmp_path):
    with pytest.raises(ConfigError, match=r"cluster: ca '.*missing.pem' cannot be read\."):
        load_config(overrides={"cluster.ca": str(tmp_path / "missing.pem")})


def test_what_to_type_is_said_where_dask_is_not_installed(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "distributed" else find(name))
    assert load_config().cluster.scheduler == ""
    with pytest.raises(ConfigError, match=r"which is not installed\. Type: pip install 'firstpick\[cluster\]'"):
        load_config(overrides={"cluster.scheduler": "tcp://127.0.0.1:8786"})


# -- what a worker must be like


def test_a_worker_must_have_the_versions_recipe_and_weights_of_the_caller(encoder):
    here = what_decides(encoder("pass"))
    assert {"firstpick", "recipe", "numpy", "torch", "nibabel", "SimpleITK", "fingerprint"} <= here.keys()
    assert "+" not in here["torch"]
    assert difference(here, dict(here)) == ""
    assert difference(here, {**here, "recipe": "0"}).startswith(f"has recipe 0, and {here['recipe']} is needed")
    assert difference(here, {**here, "torch": ""}).startswith("has torch not at all")
    assert "other weights" in difference(here, what_decides(encoder("1 + 1")))


@pytest.mark.parametrize("error", [ProcessExpired(-9), MemoryLimitError(10**9), WorkersLostError()])
def test_what_ends_a_process_is_said_in_the_same_words_on_another_machine(error):
    sent = pickle.loads(pickle.dumps(error))  # noqa: S301 - as Dask does
    assert type(sent) is type(error)
    assert why_failed(sent, "Reading it") == why_failed(error, "Reading it")


# -- real processes


@pytest.mark.slow
def test_a_cluster_gives_what_one_process_gives_though_one_worker_dies_and_another_comes(
    encoder, tmp_path, dask, monkeypatch
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("firstpick.cli.sample_studies.N_STUDIES", 24)
    studies = list_studies(make_studies())[0]
    gate = tmp_path / "gate"  # while it is there, workers wait
    wait = f"time.sleep(0.05)\n        while os.path.exists({str(gate)!r}): time.sleep(0.1)"
    spec = encoder(wait, name="efficientnet-lite0")
    workers = [dask.add_worker() for _ in range(3)]
    here, there = Cache(tmp_path / "here"), Cache(tmp_path / "there")
    stored, seen = [], [0]
    put = there.put
    there.put = lambda fingerprint, items: stored.extend(i.study.study_id for i in items) or put(fingerprint, items)
    with DaskWorkers(Cluster(dask.address), {"time_limit_s": 60}) as executor:
        while executor.n_workers < 3:
            time.sleep(0.2)
        for progress in embed(studies, spec, there, executor=executor):
            seen += [progress.n_workers] if progress.n_workers != seen[-1] else []
            if seen[-1] == 3 and progress.n_done and len(workers) == 3:
                gate.touch()
                dask.kill(workers.pop())
            if seen[-1] == 2 and gate.exists() and len(workers) == 2:
                workers += [dask.add_worker(), None]  # four now: this is done once
            if seen[-3:] == [3, 2, 3]:
                gate.unlink(missing_ok=True)
    assert (progress.n_done, progress.n_failed) == (24, 0)
    assert seen[-3:] == [3, 2, 3]
    assert sorted(stored) == [study.study_id for study in studies]
    with LocalPool(n_workers=1) as pool:
        list(embed(studies, spec, here, executor=pool))
    pools = [cache.pool(spec.fingerprint(), studies) for cache in (here, there)]
    assert pools[0].samples == pools[1].samples
    rows = [pool.vectors / np.linalg.norm(pool.vectors, axis=1, keepdims=True) for pool in pools]
    assert np.einsum("ij,ij->i", *rows).min() > 0.99999
    batches = [propose(pool, strategy="kmeans", batch_size=8, labelled=(), excluded=(), seed=0) for pool in pools]
    assert [pick.study_id for pick in batches[0].picks] == [pick.study_id for pick in batches[1].picks]
    here.close()
    there.close()


@pytest.mark.slow
def test_a_study_that_kills_workers_fails_alone(studies, encoder, cache, dask):
    for _ in range(2):
        dask.add_worker()
    last, reasons = run(studies[:12], encoder(KILL_THE_WORKER), cache, dask)
    said = "Reading and encoding it ended two workers of the cluster: the file is broken, or memory ran out."
    assert reasons == {"case_05.nii": said}
    assert (last.n_done, last.n_failed) == (11, 1)
    assert dask.log.read_text().count("killed by signal 9") == 4  # two with others, two alone


@pytest.mark.slow
def test_limits_on_time_and_memory_hold_on_a_worker(studies, encoder, cache, dask):
    dask.add_worker()
    bad = (
        "volume.array.max() == 901 and time.sleep(60); "
        "volume.array.max() == 902 and (bytearray(10**9).replace(b'0', b'1'), time.sleep(5)); "
        "volume.array.max() == 903 and os._exit(3)"
    )
    last, reasons = run(studies[:6], encoder(bad), cache, dask, time_limit_s=2, memory_gb=0.8)
    assert last.n_done == 3
    assert "longer than the time limit" in reasons["case_01.nii"]
    assert "more than 0.8 GB of memory" in reasons["case_02.nii"]
    assert "exit code 3" in reasons["case_03.nii"]
    assert "case_0" not in dask.log.read_text(), "logs of the cluster name no study"


def test_a_worker_must_see_the_very_files_of_the_caller(studies, tmp_path):
    sent, path = Assignment.of(tuple(studies)), Path(studies[0].source)
    assert sent.witness == (str(path), path.stat().st_size)
    series, fetched = Study("1.2-abcdef", "1", str(tmp_path)), Study("1.2-abcdef", "1", "https://pacs.example/series/2")
    assert Assignment.of((series,)).witness == (str(tmp_path), 0)
    assert Assignment.of((fetched,)).witness is None
    assert sent.unseen() == Assignment.of((series,)).unseen() == Assignment.of((fetched,)).unseen() == ""
    path.write_bytes(b"another")
    assert f"does not see the studies ({path} is another file there)" in sent.unseen()
    path.unlink()
    assert f"({path} is not there)" in sent.unseen()
    assert Assignment.of(tuple(studies)).witness[0] == studies[1].source


@pytest.mark.slow
def test_a_worker_that_differs_is_dismissed_before_its_first_study(studies, encoder, cache, dask, tmp_path, caplog):
    dask.add_worker(DASK_DISTRIBUTED__WORKER__DAEMON="True")
    with pytest.raises(ClusterError, match=r"No worker of the cluster is left.* may start no processes"):
        run(studies[:6], encoder("pass"), cache, dask)
    other = tmp_path / "other" / "numpy-1.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0\n")
    path = f"{other.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    dask.add_worker(PYTHONPATH=path)
    with pytest.raises(ClusterError, match=r"No worker of the cluster is left.* has numpy 1\.0, and .* is needed"):
        run(studies[:6], encoder("pass"), cache, dask)
    assert cache.failures(encoder("pass").fingerprint(), studies) == []
    dask.add_worker(PYTHONPATH=path)
    dask.add_worker()
    last, reasons = run(studies[:6], encoder("time.sleep(0.2)"), cache, dask)
    assert (last.n_done, reasons) == (6, {})
    assert "is dismissed: it has numpy 1.0" in caplog.text


@pytest.mark.slow
def test_an_encoder_that_cannot_be_built_on_a_worker_stops_the_run_and_names_it(studies, encoder, cache, dask):
    dask.add_worker()
    with pytest.raises(EncoderError, match=r"no such encoder.*So says worker tcp://127\.0\.0\.1"):
        run(studies[:3], encoder("pass", name="no such encoder"), cache, dask)
    assert cache.failures(encoder("pass").fingerprint(), studies) == []


@pytest.mark.slow
def test_a_scheduler_that_is_lost_ends_the_run_in_a_sentence_and_what_was_embedded_stays(
    studies, encoder, cache, dask, monkeypatch
):
    monkeypatch.setattr("firstpick.embedding.dask._CONNECT_S", 2)
    dask.add_worker()
    spec = encoder("time.sleep(0.2)")
    with DaskWorkers(Cluster(dask.address), {"time_limit_s": 60}) as executor:
        running = embed(studies, spec, cache, executor=executor)
        next(progress for progress in running if progress.n_done)
        dask.kill(dask.scheduler)
        with pytest.raises(ClusterError, match="scheduler was lost"):
            list(running)
    assert 0 < len(cache.pool(spec.fingerprint(), studies)) < 48
