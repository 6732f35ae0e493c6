"""The short form of ``tests/benchmarks/hostile_requests.py``: no documented route answers with a server error."""

import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
pytest.importorskip("schemathesis", reason="pip install 'firstpick[test]'")

from hostile import attack
from server_process import Server, write_studies

pytestmark = pytest.mark.slow


def test_no_request_ends_in_a_server_error(tmp_path):
    with Server(write_studies(tmp_path / "studies", 4), tmp_path / "state", "batch_size", "2") as server:
        server.wait_until_ready()
        said, status = attack(server, n_examples=5)
        assert status == 0, said[-20_000:]
        assert "57 passed" in said, said
        assert server.status()["state"] == "ready"
        assert "Traceback" not in server.log.read_text()
