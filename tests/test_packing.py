"""Long lists go compressed to whoever takes that, and nothing else does."""

import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")

from fastapi import FastAPI, Response
from fastapi.testclient import TestClient

from firstpick.server.packing import pack_lists

TEXT = "a long list of studies; " * 10_000


@pytest.fixture
def client():
    server = FastAPI()
    pack_lists(server)

    @server.get("/{path:path}")
    def answer(path: str) -> Response:
        return Response(TEXT[:100] if path.startswith("short") else TEXT, media_type="text/plain")

    return TestClient(server)


@pytest.mark.parametrize(
    "path", ["/firstpick/status", "/firstpick/proposal", "/monai/firstpick/proposal", "/datastore/"]
)
def test_a_long_list_is_packed_for_whoever_takes_it(client, path):
    answer = client.get(path, headers={"Accept-Encoding": "gzip"})
    assert (answer.headers["content-encoding"], answer.text) == ("gzip", TEXT)
    assert int(answer.headers["content-length"]) < len(TEXT) / 50
    plain = client.get(path, headers={"Accept-Encoding": "identity"})
    assert ("content-encoding" in plain.headers, plain.text) == (False, TEXT)


@pytest.mark.parametrize("path", ["/datastore/image", "/firstpick/image/a/T1", "/short/firstpick/status"])
def test_files_and_short_answers_are_not(client, path):
    assert "content-encoding" not in client.get(path, headers={"Accept-Encoding": "gzip"}).headers
