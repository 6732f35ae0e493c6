"""The server on a PACS: batch, files, labels and new series; and what it does while the PACS does nothing."""

import os
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest
import SimpleITK as sitk  # noqa: N813
from orthanc import Faulty, Orthanc, uid, write_hospital
from server_process import Server, requests, wait_for

from firstpick.sources.folder import list_studies
from firstpick.voxels.volumes import read_volume

pytest.importorskip("monailabel", reason="pip install --no-deps monailabel==0.8.5")
pytestmark = pytest.mark.slow

CONF = ("batch_size", "4", "dicomweb.timeout_s", "1")
KOPF = f"{uid(5, 1)}-a41354"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_hospital(tmp_path_factory.mktemp("hospital"))


@pytest.fixture(scope="module")
def here(files):
    """The same studies, in a folder."""
    return {study.study_id: study for study in list_studies(files)[0]}


@pytest.fixture(scope="module")
def pacs(files, tmp_path_factory):
    with Orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        running.send(files)
        yield running


@pytest.fixture(scope="module")
def before(pacs):
    with Faulty(pacs) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def server(before, tmp_path_factory):
    with Server(before.address, tmp_path_factory.mktemp("server") / "state", *CONF) as running:
        running.wait_until_ready()
        yield running


def same_voxels(image, study):
    """Whether what a reader opens are the voxels that were read from the study's own files."""
    array = sitk.GetArrayFromImage(sitk.DICOMOrient(image, "RAS")).T  # in ITK's words, to where its axes lead
    np.testing.assert_array_equal(array, read_volume(study).array)


def test_from_the_first_batch_to_a_label(here, before, server):
    status = server.status()
    assert (status["n_pool"], status["progress"]["failed"], status["notice"]) == (7, 0, "")
    assert len(status["left_out"]) == 3
    picks = server.picks()
    assert len({pick["study_id"] for pick in picks} & here.keys()) == 4
    first = server.next_sample("alice")
    assert first["id"] == picks[0]["study_id"]
    assert first["name"].endswith(".nii.gz")
    for pick in picks:
        same_voxels(server.opened(pick["study_id"]), here[pick["study_id"]])
    for pick in picks:  # nor did anybody wait for a second time
        assert sum(here[pick["study_id"]].study_id[:-7] in path for path in before.asked) == 1
    server.upload(first["id"], "alice")
    assert server.pick(first["id"])["status"] == "done"
    assert list((server.state / "fetched").iterdir()) == []
    assert server.post("/firstpick/skip", 404, study_id="x", reason="?") == "Study 'x' is not in the PACS."


def test_series_go_and_come(files, pacs, server):
    (series,) = pacs.find("Series", SeriesInstanceUID=uid(3, 1))
    pacs.ask("DELETE", f"/series/{series}")
    wait_for(lambda: server.status()["n_pool"] == 6, what="the series to be gone")
    pacs.send(files / "p3")
    wait_for(lambda: server.status()["n_pool"] == 7, what="the series to be back")


def work_without_the_pacs(server, reader):
    """All that readers do with studies that are here, while the PACS does nothing."""
    sample = server.next_sample(reader)
    server.opened(sample["id"])
    server.post("/firstpick/heartbeat", study_id=sample["id"], client_id=reader)
    server.get(f"/firstpick/thumbnail/{sample['id']}")
    server.get("/firstpick/map")
    server.upload(sample["id"], reader)
    assert server.pick(sample["id"])["status"] == "done"


@pytest.mark.parametrize("how", ["stopped", "frozen", "full of errors"])
def test_readers_go_on_while_the_pacs_does_nothing(pacs, before, server, how):
    batch, n_labelled = [pick["study_id"] for pick in server.picks()], server.status()["n_labelled"]
    if how == "stopped":
        pacs.stop()
    elif how == "frozen":
        os.kill(pacs.process.pid, signal.SIGSTOP)
    before.fault = lambda path: 500 if how == "full of errors" else None
    try:
        wait_for(lambda: "FirstPick asks again in" in server.status()["notice"], what="the notice")
        status = server.status()
        assert status["state"] == "ready"
        assert f"The PACS at {before.address}" in status["notice"]
        work_without_the_pacs(server, "alice")
        assert [pick["study_id"] for pick in server.picks()] == batch
        assert server.status()["n_pool"] == 7
    finally:
        before.fault = None
        if how == "stopped":
            pacs.start()
        elif how == "frozen":
            os.kill(pacs.process.pid, signal.SIGCONT)
    wait_for(lambda: server.status()["notice"] == "", what="the end of the notice")
    assert server.status()["n_labelled"] == n_labelled + 1


def test_errors_at_the_start_and_in_mid_run_are_waited_for(before, tmp_path):
    before.fault = lambda path: 503
    with Server(before.address, tmp_path / "state", *CONF) as server:
        status = server.wait_until_ready("problem")
        text = f"The PACS at {before.address} answers 503 Service Unavailable. FirstPick asks again in"
        assert text in status["message"]
        assert text in server.get("/firstpick/proposal", 503)
        n_before = len(before.asked)
        before.fault = lambda path: 503 if sum("/studies/" in path for path in before.asked[n_before:]) > 2 else None
        wait_for(lambda: text in server.status()["notice"], what="the notice in mid-run")
        assert server.status()["state"] == "embedding"
        before.fault = None
        status = server.wait_until_ready()
        assert (status["n_pool"], status["progress"]["failed"]) == (7, 0)


def test_what_was_given_up_here_is_fetched_again_when_the_pacs_can(here, before, tmp_path):
    """And no label is sent where none shall be."""
    with Server(before.address, tmp_path / "state", *CONF, "served_gb", "0", "dicomweb.labels", "false") as server:
        server.wait_until_ready()
        same_voxels(server.opened(KOPF), here[KOPF])
        for path in (tmp_path / "state" / "served").rglob("*.nii.gz"):
            path.unlink()
        before.fault = lambda path: 503
        assert "being prepared" in server.get("/datastore/image", 503, image=KOPF)
        text = wait_for(lambda: asks_in_vain(server, KOPF), what="the reason")
        assert f"The PACS at {before.address} answers 503" in text
        before.fault = None
        same_voxels(server.opened(KOPF), here[KOPF])
        label = server.mask(KOPF)
        for path in (tmp_path / "state" / "served").rglob("*.nii.gz"):
            path.unlink()
        before.fault = lambda path: 503  # nor does a label wait for the PACS
        server.upload(KOPF, "alice", content=label)
        before.fault = None
        n_asked = len(before.asked)
        wait_for(lambda: sum("/series?" in path for path in before.asked[n_asked:]) > 4, what="two looks at the PACS")
        assert not [path for path in before.asked[n_asked:] if path.endswith("/studies")]  # which labels are sent to
        assert "pacs" not in server.get("/datastore/label/info", label=KOPF, tag="final")


def asks_in_vain(server, study_id):
    text = server.get("/datastore/image", 503, image=study_id)
    return "answers 503" in text and text


def test_no_credential_is_to_be_seen_anywhere(files, tmp_path, monkeypatch):
    monkeypatch.setenv("FIRSTPICK_DICOMWEB_USER", "alice")
    monkeypatch.setenv("FIRSTPICK_DICOMWEB_PASSWORD", "s3cret-pass")
    with Orthanc(tmp_path / "orthanc", users={"alice": "s3cret-pass"}) as pacs:
        pacs.send(files / "p1")
        with Server(pacs.address, tmp_path / "state", *CONF) as server:
            server.wait_until_ready()
            pacs.stop()
            wait_for(lambda: server.status()["notice"], what="the notice")
            process = psutil.Process(server.process.pid)
            seen = [" ".join(each.cmdline()) for each in (process, *process.children(recursive=True))]
            seen += [str(server.get(path)) for path in ("/info/", "/firstpick/status", "/firstpick/proposal")]
            address = f"http://127.0.0.1:{server.port}/openapi.json"
            seen += [server.log.read_text(), requests.get(address, timeout=30).text]
            seen += [path.read_bytes().decode(errors="replace") for path in files_of(tmp_path / "state")]
            assert not [text[:300] for text in seen if "s3cret" in text or "YWxpY2U6" in text]


def files_of(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file()]
