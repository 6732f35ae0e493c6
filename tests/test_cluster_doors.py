"""A cluster behind the command line and the server: TLS, studies in a PACS, and what is said when it is away."""

import os
import socket
from contextlib import closing

import numpy as np
import pytest
from dask_cluster import DaskCluster
from orthanc import Orthanc, write_hospital
from server_process import Server, wait_for, write_studies

from firstpick.cli import main
from firstpick.cluster import Cluster, ClusterError
from firstpick.embedding.cache import Cache
from firstpick.embedding.dask import connect
from firstpick.encoders import EncoderSpec
from firstpick.sources.connection import DicomWeb
from firstpick.sources.dicomweb import Pacs
from firstpick.sources.eligibility import Eligibility
from firstpick.sources.folder import list_studies

trustme = pytest.importorskip("trustme", reason="pip install 'firstpick[test]'")


def certificates(folder):
    """An authority of our own, and a certificate that it signed, as files: ca, cert and key."""
    folder.mkdir()
    authority = trustme.CA()
    ours = authority.issue_cert("cluster.example", "127.0.0.1")
    paths = {name: str(folder / f"{name}.pem") for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(paths["ca"])
    ours.cert_chain_pems[0].write_to_path(paths["cert"])
    ours.private_key_pem.write_to_path(paths["key"])
    return paths


def embed(studies, state, address, **cluster):
    """Run the command; its exit status."""
    pairs = {"cluster.scheduler": address, **{f"cluster.{key}": value for key, value in cluster.items()}}
    conf = [word for key, value in pairs.items() for word in ("--conf", key, value)]
    return main(["embed", "--studies", str(studies), "--state", str(state), "--encoder", "pixels", *conf])


def pool_of(state, studies):
    with closing(Cache(state)) as cache:
        return cache.pool(EncoderSpec("pixels").fingerprint(), studies)


def test_a_scheduler_that_does_not_answer_is_said_in_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("firstpick.embedding.dask._CONNECT_S", 1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    assert embed(write_studies(tmp_path / "studies", 1), tmp_path / "state", address) == 2
    said = capsys.readouterr().err
    assert f"firstpick: The cluster's scheduler at {address} cannot be reached" in said


@pytest.mark.slow
def test_over_tls_a_cluster_embeds_and_who_has_no_certificate_of_its_authority_stays_out(tmp_path, monkeypatch, capsys):
    folder = write_studies(tmp_path / "studies", 6)
    keys = certificates(tmp_path / "ours")
    with DaskCluster(tmp_path / "dask", "tls", keys) as dask:
        dask.add_worker()
        assert dask.address.startswith("tls://")
        assert embed(folder, tmp_path / "state", dask.address, **keys) == 0
        assert capsys.readouterr().out == "6 of 6 studies embedded, 0 failed, 0 left out.\n"
        assert embed(folder, tmp_path / "state", "tls://127.0.0.1:1", **keys) == 0  # there is nothing to do
        monkeypatch.setattr("firstpick.embedding.dask._CONNECT_S", 2)
        with pytest.raises(ClusterError, match="certificates of the same authority"):
            connect(Cluster(dask.address, **certificates(tmp_path / "others")))
        with pytest.raises(ClusterError, match="cannot be reached"):
            connect(Cluster(dask.address.replace("tls", "tcp")))
    assert len(pool_of(tmp_path / "state", list_studies(folder)[0])) == 6


@pytest.mark.slow
def test_the_server_embeds_on_a_cluster_and_waits_where_there_is_none(tmp_path):
    folder = write_studies(tmp_path / "studies", 6)
    with (
        DaskCluster(tmp_path / "dask") as dask,
        Server(folder, tmp_path / "state", "cluster.scheduler", dask.address) as server,
    ):
        said = "No worker of the cluster is there; FirstPick waits for one."
        wait_for(lambda: server.answers() and server.status()["notice"] == said, 90)
        assert server.status()["progress"]["workers"] == 0
        dask.add_worker()
        wait_for(lambda: server.status()["state"] == "ready", 60)
        assert server.status()["n_pool"] == 6
        assert server.status()["notice"] == ""
        assert "Starting Worker plugin firstpick-" in dask.log.read_text()  # so it was not embedded here
        assert "is not encrypted" in server.log.read_text()
        assert server.log.read_text().count(said) == 1
        dask.kill(dask.scheduler)
        write_studies(folder, 7)
        wait_for(lambda: "cannot be reached" in server.status()["notice"], 60)
        assert server.status()["state"] == "ready"
        assert server.next_sample("alice")["id"]


@pytest.mark.slow
def test_workers_fetch_the_studies_of_a_pacs_themselves(tmp_path):
    with (
        Orthanc(tmp_path / "orthanc", users={"alice": "wonder"}) as pacs,
        DaskCluster(tmp_path / "dask") as dask,
        pytest.MonkeyPatch.context() as patch,
    ):
        pacs.send(write_hospital(tmp_path / "hospital"))
        patch.setenv("FIRSTPICK_DICOMWEB_USER", "alice")
        patch.setenv("FIRSTPICK_DICOMWEB_PASSWORD", "wonder")
        dask.add_worker(TMPDIR=str(tmp_path))
        assert embed(pacs.address, tmp_path / "there", dask.address) == 0
        assert main(["embed", "--studies", pacs.address, "--state", str(tmp_path / "here"), "--encoder", "pixels"]) == 0
        studies, _ = Pacs(pacs.address, Eligibility(), DicomWeb(), dict).look()
    here, there = (pool_of(tmp_path / state, studies) for state in ("here", "there"))
    assert len(here) > 6
    assert here.samples == there.samples
    np.testing.assert_allclose(here.vectors, there.vectors, rtol=1e-5)
    assert os.listdir(tmp_path / "fetched") == []  # noqa: PTH208
