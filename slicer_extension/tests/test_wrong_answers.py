"""A part of the table of `wrong_answers.py`: every wrong answer to a submitted label, and one to each other request."""

import pytest
from trial import room
from wrong_answers import ANSWERS, ROUTES, attempt

pytestmark = pytest.mark.server
SUBMITTED = "save label, submitted"
CELLS = [(SUBMITTED, answer) for answer in ANSWERS]
CELLS += [(name, ANSWERS[i * 5 % len(ANSWERS)]) for i, name in enumerate(name for name in ROUTES if name != SUBMITTED)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with room(tmp_path_factory.mktemp("room")) as both:
        yield both


@pytest.mark.parametrize(("name", "answer"), CELLS)
def test_a_wrong_answer_loses_nothing_claims_nothing_and_stops_nothing(place, tmp_path, name, answer):
    assert attempt(*place, name, answer, tmp_path).faults == []


def test_a_plain_monai_label_server_is_recognised_and_named(place, reader):
    _server, proxy = place
    proxy.set(("GET", "/firstpick/.*", "404"))
    reader.connect(proxy.address)
    proxy.set()
    assert "is a MONAI Label server ('FirstPick') without FirstPick" in reader.ui.serverLabel.text
    assert not reader.logic.isConnected
    reader.press("connectButton")
    assert reader.ids()


@pytest.mark.parametrize(("answer", "where"), [("301", "http://portal.invalid"), ("circle", "itself")])
def test_where_a_server_sends_the_reader_is_said(place, reader, answer, where):
    _server, proxy = place
    proxy.set(("GET", "/firstpick/status", answer))
    reader.connect(proxy.address)
    proxy.set()
    assert f"{proxy.address} sends FirstPick on to {where}, where it does not go" in reader.ui.serverLabel.text
