"""Several readers on the real server: two readings a study, own studies again, late arrivals that hold up nobody."""

import csv
import json
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
pytest.importorskip("requests", reason="pip install 'firstpick[server]'")

from server_process import Server, firstpick, wait_for, write_studies

pytestmark = pytest.mark.slow

SLOW = """
import time
import numpy as np

class Slow:
    def __init__(self, spec):
        pass

    def parts(self, volume):
        return volume.array[:2, :4, 0].astype(np.float32)

    def encode(self, parts):
        time.sleep(1.0)
        return parts
"""


def test_each_study_goes_to_two_readers_before_it_is_done(tmp_path):
    studies = write_studies(tmp_path / "studies", 4)
    with Server(studies, tmp_path / "state", "readers_per_study", "2", "batch_size", "2") as server:
        server.wait_until_ready()
        first, second = [pick["study_id"] for pick in server.picks()]
        assert server.next_sample("Älice/1")["id"] == first
        assert server.next_sample("bob")["id"] == second
        server.upload(first, "Älice/1")
        assert (server.pick(first)["status"], server.status()["n_labelled"]) == ("open", 0)
        assert [pick["read_by"] for pick in server.picks()] == [["Älice/1"], []]
        assert server.get("/datastore/")["completed"] == 0
        assert server.next_sample("Älice/1") == {}  # it read the one, bob has the other
        assert "another reader" in server.post("/firstpick/reserve", 409, study_id=first, client_id="Älice/1")
        assert server.next_sample("bob")["id"] == first
        mask = server.mask(first)
        server.upload(first, "bob", content=mask)
        assert (server.pick(first)["status"], server.get("/datastore/")["completed"]) == ("done", 1)
        tags = [folder.name for folder in sorted((server.state / "datastore" / "labels").iterdir())]
        (alices,) = [tag for tag in tags if tag.startswith("reading-Älice_1-")]
        (bobs,) = [tag for tag in tags if tag.startswith("reading-bob-")]
        name = first.removesuffix(".nii.gz")
        for tag in (bobs, "final"):
            assert (server.state / "datastore" / "labels" / tag / f"{name}.nii.gz").read_bytes() == mask
        assert server.get("/datastore/label/info", label=first, tag=alices)["client_id"] == "Älice/1"
        for verb in ("reopen", "reserve", "release"):
            status = server.post(f"/firstpick/{verb}", study_id=first, client_id="Älice/1")["status"]
        assert (status, server.pick(first)["read_by"]) == ("done", ["Älice/1", "bob"])
        server.post("/firstpick/release", study_id=second, client_id="bob")
        server.upload(second, "admin")  # nobody said who they are, and nobody has it
        status = server.status()
        assert status["unclaimed_labels"] == [second]
        assert {reader["client"]: reader["n_done"] for reader in status["readers"]} == {"bob": 1, "Älice/1": 1}
        assert server.pick(second)["status"] == "open"


def test_who_asks_again_gets_the_same_study_again_once_nothing_is_open(tmp_path):
    studies = write_studies(tmp_path / "studies", 4)
    with Server(studies, tmp_path / "state", "batch_size", "2") as server:
        server.wait_until_ready()
        first, second = [pick["study_id"] for pick in server.picks()]
        assert [server.next_sample("alice")["id"] for _ in range(4)] == [first, second, first, first]
        assert server.next_sample("bob") == {}
        server.upload(first, "alice")
        assert server.next_sample("alice")["id"] == second
        server.post("/firstpick/reopen", study_id=first, client_id="alice")
        assert server.post("/firstpick/reserve", study_id=first, client_id="alice")["status"] == "reserved"
        assert server.post("/firstpick/release", study_id=first, client_id="alice")["status"] == "done"
    out = tmp_path / "decisions.csv"
    done = firstpick("export", "--studies", studies, "--state", server.state, "--decisions", "--out", out)
    assert "alice: 1 done, 0 skipped" in done.stdout
    with out.open(newline="") as file:
        kinds = [(row["kind"], row["study_id"]) for row in csv.DictReader(file) if row["study_id"]]
    expected = ["reserved", "reserved", "labelled", "reopened", "reserved", "released"]
    assert [kind for kind, _ in kinds] == expected


def test_late_arrivals_hold_up_no_batch(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    studies = write_studies(tmp_path / "studies", 3)
    encoder = f"python:{tmp_path / 'slow.py'}:Slow"
    with Server(studies, tmp_path / "state", "encoder", encoder, "batch_size", "1") as server:
        server.wait_until_ready()
        late = write_studies(tmp_path / "late", 40)
        for path in sorted(late.iterdir()):
            shutil.move(path, studies / f"late_{path.name}")
        wait_for(lambda: server.status()["progress"]["total"] == 43, what="the late ones")
        server.upload(server.next_sample("alice")["id"], "alice")
        assert len(server.post("/firstpick/proposal")["picks"]) == 1
        server.next_sample("bob", strategy="kcenter", expect=503)
        wait_for(lambda: server.picks("kcenter"), 5, what="another strategy's batch")
        assert server.next_sample("bob", strategy="kcenter")["id"]
        assert server.status()["progress"]["done"] < 43


def test_a_second_server_on_the_same_state_says_who_has_it_and_ends_with_2(tmp_path):
    studies = write_studies(tmp_path / "studies", 2)
    with Server(studies, tmp_path / "state") as server:
        server.wait_until_ready()
        second = firstpick("serve", "--studies", studies, "--state", server.state, "--port", "1")
        assert second.returncode == 2
        assert f"in use by the server on port {server.port} (process {server.process.pid})" in second.stderr


def test_a_second_server_that_monai_label_starts_itself_ends_with_2_too(tmp_path):
    studies = write_studies(tmp_path / "studies", 2)
    with Server(studies, tmp_path / "state") as server:
        server.wait_until_ready()
        command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", server.state / "app"]
        command += ["--studies", studies, "--port", "1", "--conf", "state_dir", server.state]
        command += ["--conf", "encoder", "pixels"]
        second = subprocess.run(map(str, command), capture_output=True, text=True, check=False, timeout=120)
        assert second.returncode == 2
        assert f"in use by the server on port {server.port}" in second.stdout + second.stderr
        assert server.status()["state"] == "ready"


def test_at_the_end_all_is_written_that_others_read(tmp_path):
    studies = write_studies(tmp_path / "studies", 2)
    with Server(studies, tmp_path / "state") as server:
        server.wait_until_ready()
        server.upload("study_00.nii.gz", "alice")
    written = json.loads((server.state / "datastore" / "datastore_v2.json").read_text())
    assert written["objects"]["study_00.nii.gz"]["labels"]["final"]["info"]["client_id"] == "alice"
    (server.state / "decisions.sqlite").unlink()
    with Server(studies, server.state) as again:
        status = again.wait_until_ready()
        assert status["n_labelled"] == 1
        assert "decisions are known up to" in status["notice"]
        assert "decisions are known up to" in again.log.read_text()
