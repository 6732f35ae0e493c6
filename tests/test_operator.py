"""For who runs it: metrics, the log as JSON, a unit for systemd, a backup that is put back elsewhere."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
requests = pytest.importorskip("requests", reason="pip install 'firstpick[server]'")

from prometheus_client.parser import text_string_to_metric_families  # noqa: E402 - comes with the server
from server_process import Server, firstpick, write_studies  # noqa: E402

SAMPLES = Path(__file__).parents[1] / "sample_configs"


def metrics(server):
    text = requests.get(f"http://127.0.0.1:{server.port}/firstpick/metrics", timeout=9).text
    rows = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(row.name, *row.labels.values()): row.value for row in rows}, text


@pytest.mark.slow
def test_metrics_count_what_the_status_says_and_name_nobody(tmp_path):
    studies = write_studies(tmp_path / "studies", 6)
    (studies / "broken.nii.gz").write_bytes(b"no volume")
    with Server(studies, tmp_path / "state", "batch_size", "4", "duplicates", "0") as server:
        server.wait_until_ready()
        first, second, third = [pick["study_id"] for pick in server.picks()][:3]
        for study_id, client in ((first, "Alice Ardent"), (second, "Bob Brisk")):
            server.post("/firstpick/reserve", study_id=study_id, client_id=client)
        server.post("/firstpick/skip", study_id=third, client_id="Bob Brisk", reason="metal")
        server.upload(first, "Alice Ardent")
        found, text = metrics(server)
        by_status = {key[1]: value for key, value in found.items() if key[0] == "firstpick_studies"}
        assert by_status == {"open": 3, "reserved": 1, "done": 1, "skipped": 1, "failed": 1, "left_out": 0}
        assert found["firstpick_ready",] == 1
        assert found["firstpick_readers_at_work",] == 1
        assert found["firstpick_studies_embedded",] == 6
        assert found["process_resident_memory_bytes",] > 1e8
        assert not any(word in text for word in ("Alice", "Bob", first, "metal", "broken"))


@pytest.mark.slow
def test_the_log_is_json_lines_by_ids_without_anything_of_a_patient(phantom_volume, tmp_path):
    phantom_volume.series("studies/ct", uid="1.2.3", PatientName="Doe^Jane", PatientID="P-0815")
    phantom_volume.series("studies/cut", uid="1.2.4", PatientName="Roe^Rick", PatientID="P-0816")
    first = min((phantom_volume.folder / "studies" / "cut").iterdir())
    first.write_bytes(first.read_bytes()[:-200])
    command = [sys.executable, "-m", "firstpick.cli", "serve", "--state", str(tmp_path / "state")]
    command += ["--log-config", str(SAMPLES / "json_logs.json")]
    with Server(phantom_volume.folder / "studies", tmp_path / "state", "batch_size", "1", command=command) as server:
        server.wait_until_ready()
        assert requests.get(f"http://127.0.0.1:{server.port}/logs/", timeout=9).status_code < 500
        printed = server.log.read_text()
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert "(firstpick." not in printed  # as MONAI Label logs without it
    assert {"time", "level", "logger", "process", "message"} <= set.intersection(*map(set, lines))
    assert any(line["logger"].startswith("firstpick") for line in lines)
    assert not any(word in printed for word in ("Jane", "Rick", "P-0815", "P-0816"))


def test_a_log_configuration_that_is_none_is_refused(tmp_path):
    studies = write_studies(tmp_path / "studies", 1)
    (tmp_path / "log.json").write_text("{")
    done = firstpick("serve", "--studies", studies, "--log-config", tmp_path / "log.json", "--state", tmp_path / "s")
    assert done.returncode == 2
    assert "logging.config.dictConfig" in done.stderr
    assert len(done.stderr.splitlines()) <= 2


@pytest.mark.slow
def test_a_backup_is_put_back_elsewhere(tmp_path):
    studies, state = write_studies(tmp_path / "studies", 5), tmp_path / "state"
    conf = ("batch_size", "3", "duplicates", "0")
    with Server(studies, state, *conf) as server:
        server.wait_until_ready()
        first, second = [pick["study_id"] for pick in server.picks()][:2]
        server.upload(first, "alice")
        server.post("/firstpick/skip", study_id=second, client_id="bob", reason="metal")
    moved, studies = tmp_path / "elsewhere", studies.rename(tmp_path / "archive")
    shutil.copytree(state / "datastore" / "labels", moved / "datastore" / "labels")
    shutil.copy(state / "decisions.backup.sqlite", moved)
    with Server(studies, moved, *conf) as server:
        server.wait_until_ready()
        status = server.get("/firstpick/status")
        assert (status["n_labelled"], status["n_skipped"]) == (1, 1)
        assert "decisions are known up to" in status["notice"]
        assert {pick["study_id"]: pick["status"] for pick in server.picks()}[first] == "done"
        assert server.get("/firstpick/map")["points"]


def test_the_unit_of_systemd_is_one(tmp_path):
    verify = shutil.which("systemd-analyze")
    if verify is None and not os.environ.get("CI"):
        pytest.skip("no systemd-analyze on this machine (Debian: apt-get install systemd)")
    assert verify, "CI must have systemd's own tool"
    python = "ExecStart=/opt/firstpick/bin/firstpick"
    unit = (SAMPLES / "firstpick.service").read_text(encoding="utf-8")
    assert python in unit
    path = tmp_path / "firstpick.service"
    path.write_text(unit.replace(python, f"ExecStart={sys.executable}").replace("User=firstpick", "User=root"))
    done = subprocess.run([verify, "verify", str(path)], capture_output=True, text=True, check=False, timeout=60)
    ours = [line for line in done.stderr.splitlines() if "firstpick" in line]
    assert ours == []
