"""The list of encoders: what is installed, where weights are, and speeds that were measured here."""

import pytest

from firstpick.cli import catalogue, main
from firstpick.encoders import ENCODERS, FAMILIES


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("firstpick.cli.catalogue.user_folder", lambda: tmp_path / "firstpick")
    return tmp_path / "firstpick" / "encoder_speeds.json"


def line_of(name, text):
    return next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()


def test_a_measured_speed_is_listed_afterwards(cache, capsys):
    main(["list", "encoders"])
    assert line_of("pixels", capsys.readouterr().out)[1:5] == ["2-D", "yes", "none", "-"]
    assert main(["bench", "encoder", "pixels"]) == 0
    assert "s a study (9 parts), ready after" in capsys.readouterr().out
    main(["list", "encoders"])
    assert float(line_of("pixels", capsys.readouterr().out)[4]) >= 0


def test_speeds_that_cannot_be_read_are_none(cache):
    cache.parent.mkdir()
    cache.write_text("{")
    assert catalogue.remembered() == {}


def test_every_name_is_listed_and_weights_that_are_missing_are_said(monkeypatch):
    monkeypatch.setattr("firstpick.encoders.weights.importlib.util.find_spec", lambda name: None)
    text = catalogue.table({})
    assert all(name in text for name in (*ENCODERS, *(row.usage for row in FAMILIES.values())))
    assert line_of("medsam-lite", text)[1:4] == ["2-D", "yes", "no"]
    assert line_of("efficientnet-lite0", text)[2] == "no"
    assert line_of("astra-ct", text)[1] == "3-D"
