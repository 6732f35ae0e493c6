"""The recorded answers have the shape of the real server's; the module's own test passes with both."""

import json

import pytest
import record

import FirstPick


def shape(value):
    """Keys and types; lists by their first entry, maps from ids by any."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def test_the_modules_own_test_passes_with_the_recorded_server(monkeypatch):
    monkeypatch.delenv("FIRSTPICK_SERVER", raising=False)
    FirstPick.FirstPickTest().runTest()


def assert_alike(fresh, recorded):
    for name in ("infos", "thumbnails", "images"):
        assert set(fresh.pop(name)) == set(recorded.pop(name))
    for answers in (fresh, recorded):
        for pick in answers["proposal"]["picks"]:
            del pick["lookalikes"]
    assert shape(fresh) == shape(recorded)


@pytest.mark.server
def test_the_recorded_answers_are_like_the_real_servers_and_the_modules_own_test_passes(tmp_path, monkeypatch):
    recorded = json.loads(record.RECORDED.read_text(encoding="utf-8"))
    del recorded["sequences"]
    with record.studies_server(tmp_path) as server:
        server.wait_until_ready()
        assert_alike(record.record(server), recorded)
        monkeypatch.setenv("FIRSTPICK_SERVER", server.address)
        FirstPick.FirstPickTest().test_realServer()
        assert server.get("/firstpick/status")["n_labelled"] == 1


@pytest.mark.server
def test_the_recorded_answers_about_several_series_are_like_the_real_servers(tmp_path):
    recorded = json.loads(record.RECORDED.read_text(encoding="utf-8"))["sequences"]
    assert_alike(record.record_sequences(tmp_path), recorded)
