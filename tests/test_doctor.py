"""``firstpick doctor``: what it says of a good installation, and of broken ones."""

import http.server
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout

import pytest
from server_process import Server, firstpick, snapshot, write_studies

from firstpick.board.events import Skipped
from firstpick.board.log import Log
from firstpick.cli import main

FAST = ("--conf", "encoder", "pixels")
CHECKS = ["versions", "tested", "config", "encoder", "gpu", "studies", "state", "clock", "port", "sign-in", "reach"]


@pytest.fixture
def setup(tmp_path):
    """Arguments of a good installation."""
    studies, state = write_studies(tmp_path / "studies", 2), tmp_path / "state"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {"--studies": studies, "--state": state, "--port": port}


def doctor(setup, *more, **environment):
    """Ask the doctor, in a process of its own if its environment is another; its findings, and how it ended."""
    words = ["doctor", "--json", *(str(word) for pair in setup.items() for word in pair), *FAST, *map(str, more)]
    if environment:
        command = [sys.executable, "-m", "firstpick.cli", *words]
        environment = {**os.environ, **environment}
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
        status, out, err = done.returncode, done.stdout, done.stderr
    else:
        with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()) as complained:
            status = main(words)
        out, err = printed.getvalue(), complained.getvalue()
    findings = json.loads(out)
    assert list(dict.fromkeys(one["what"] for one in findings)) == CHECKS
    return findings, status, err


def told(findings, level):
    return {one["what"]: f"{one['text']} {one['do']}".strip() for one in findings if one["level"] == level}


def assert_only(setup, check, text, *more, level="BAD", **environment):
    """The doctor finds just this, and says so."""
    findings, status, err = doctor(setup, *more, **environment)
    bad = told(findings, "BAD")
    assert (set(bad) == {check}) is (level == "BAD"), bad
    assert text in told(findings, level)[check]
    assert status == (2 if level == "BAD" else 0)
    assert (f"would not work as it is: {check}" in err) is (level == "BAD")


def test_a_good_installation_is_told_to_be_well_and_nothing_is_written(setup, tmp_path):
    before = snapshot(tmp_path)
    findings, status, err = doctor(setup)
    assert (status, err) == (0, "")
    assert {one["level"] for one in findings} <= {"ok", "care"}
    assert snapshot(tmp_path) == before
    lines = firstpick("doctor", *(word for pair in setup.items() for word in pair), *FAST).stdout.splitlines()
    assert [line.split()[1] for line in lines if not line.startswith(" ")][: len(CHECKS)] == CHECKS


def test_what_chooses_later_rounds_is_said_if_it_is_another(setup):
    findings, _, _ = doctor(setup, "--conf", "next_round", "ward")
    assert "strategy kmeans (later rounds: ward), batches of 10." in told(findings, "ok")["config"]


def test_a_configuration_with_mistakes(setup):
    assert_only(setup, "config", "Did you mean 'kmeans'?", "--conf", "strategy", "kmens")


def test_weights_that_are_not_there(setup, tmp_path):
    assert_only(setup, "encoder", "gone.onnx", "--conf", "encoder", f"onnx:{tmp_path}/gone.onnx#x")


def test_weights_that_the_first_start_would_fetch_cost_nothing_and_are_no_mistake(setup, tmp_path):
    pytest.importorskip("transformers", reason="the hub's encoders need it")
    conf = ("--conf", "encoder", "hf:nobody/has-this")
    assert_only(setup, "encoder", "The first start fetches nobody/has-this", *conf, level="care", HF_HOME=str(tmp_path))


def test_a_disk_that_is_not_mounted(setup, tmp_path):
    (tmp_path / "mount").mkdir()
    assert_only({**setup, "--studies": tmp_path / "mount"}, "studies", "is empty. Is the disk mounted?")


def test_a_state_among_the_studies(setup):
    assert_only({**setup, "--state": setup["--studies"] / "state"}, "state", "Choose another place")


def test_a_state_that_cannot_be_written(setup):
    assert_only({**setup, "--state": "/proc/self/state"}, "state", "cannot be written")


def test_decisions_that_are_lost(setup):
    state = setup["--state"]
    with closing(Log(state)) as log:
        log.append(Skipped(study_id="study_00.nii.gz", client="alice", reason="metal", at=time.time()))
    for name in ("decisions.sqlite", "decisions.backup.sqlite"):
        (state / name).write_bytes(b"not a database" * 1000)
    assert_only(setup, "state", "--new-state")


def test_a_clock_that_was_set_back(setup):
    with closing(Log(setup["--state"])) as log:
        log.append(Skipped(study_id="study_00.nii.gz", client="alice", reason="metal", at=time.time() + 7200))
    assert_only(setup, "clock", "2.0 h from now", level="care")


def test_a_port_that_another_program_has(setup):
    with socket.create_server(("127.0.0.1", setup["--port"])):
        assert_only(setup, "port", "Choose another with --port")


def test_a_server_for_everybody_without_a_login(setup):
    pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
    assert_only(setup, "sign-in", "put a proxy with a login before it", "--host", "0.0.0.0", level="care")  # noqa: S104


def test_a_provider_that_does_not_answer(setup):
    pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        realm = f"http://127.0.0.1:{silent.getsockname()[1]}/realm"
        silent.close()
        on = {"MONAI_LABEL_AUTH_ENABLE": "true", "MONAI_LABEL_AUTH_REALM_URI": realm}
        assert_only(setup, "sign-in", "Until then nobody gets in", **on)


def test_monai_label_is_missing(setup, tmp_path):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.metadata as m, importlib.util as u\n"
        "old, find = m.version, u.find_spec\n"
        "def version(name):\n"
        "    if name == 'monailabel': raise m.PackageNotFoundError(name)\n"
        "    return old(name)\n"
        "m.version, u.find_spec = version, lambda name, *a: None if name == 'monailabel' else find(name, *a)\n"
    )
    path = os.pathsep.join(filter(None, [str(hidden), os.environ.get("PYTHONPATH")]))
    assert_only(setup, "versions", "pip install --no-deps monailabel==0.8.5", PYTHONPATH=path)


def as_if(folder, **versions):
    """An environment in which these packages are of other versions."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import importlib.metadata as m\n"
        "old = m.version\n"
        f"m.version = lambda name: {versions!r}.get(name.replace('-', '_')) or old(name)\n"
    )
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}


@pytest.mark.slow
def test_it_is_said_what_was_tested_and_what_is_newer(setup, tmp_path):
    pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
    assert "monailabel 0.8.5, pydicom 2.4.5 and 3.0.1" in told(doctor(setup)[0], "ok")["tested"]
    # as MONAI Label's main branch has it, where the pins of 0.8.5 mean nothing
    newer = as_if(tmp_path / "main", monailabel="0.9.0", pydicom="3.0.1", highdicom="0.28.2", dicomweb_client="0.61.2")
    text = "monailabel is 0.9.0; FirstPick was tested with 0.8.5."
    assert_only(setup, "tested", text, level="care", **newer)
    newest = as_if(tmp_path / "newest", monailabel="0.9.0", pydicom="4.0.0")
    assert_only(setup, "tested", "pip install --no-deps 'pydicom==3.0.1'", level="care", **newest)
    # but MONAI Label 0.8.5 cannot be imported with pydicom 3
    unfit = as_if(tmp_path / "unfit", pydicom="3.0.1")
    assert_only(setup, "versions", "pip install 'pydicom<3,>=2.4.4'", **unfit)


@pytest.mark.slow
def test_a_server_that_runs_is_known_and_what_others_could_reach_of_it_is_tried(setup, tmp_path):
    pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
    with Server(setup["--studies"], setup["--state"]) as server:
        server.wait_until_ready()
        findings, status, err = doctor({**setup, "--port": server.port})
        assert status == 0, err
        assert "A FirstPick server answers" in told(findings, "ok")["port"]
        assert f"in use by the server on port {server.port}" in told(findings, "care")["state"]
        texts = " ".join(one["text"] for one in findings if one["what"] == "reach")
        assert "refuses a page of another site (403)" in texts
        assert "refuses a foreign name (421)" in texts


@contextmanager
def careless_server(port):
    """One that answers whoever asks, as a proxy that rewrites requests would."""

    class Careless(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b'{"message": "Ready."}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Careless)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield
    server.shutdown()
    server.server_close()


def test_a_proxy_that_lets_strangers_in_is_found(setup):
    with careless_server(setup["--port"]):
        assert_only(setup, "reach", "The server that runs answers a foreign name.")
