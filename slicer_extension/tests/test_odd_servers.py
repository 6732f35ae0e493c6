"""Servers that never answer, are not what they should be, or become another in the middle."""

import json
import socket
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
import record
from stage import wait_for
from test_bad_paths import block, connected, drawn, recorded  # noqa: F401 - fixtures

from FirstPickLib import client


@pytest.fixture
def silent():
    """The address of a server that accepts and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def ask(reader, address):
    """Press Connect, and wait for nothing."""
    reader.ui.addressBox.setCurrentText(address)
    reader.ui.readerEdit.text = "alice"
    assert reader.ui.connectButton.enabled
    reader.ui.connectButton.click()


def test_another_address_can_be_tried_while_a_server_never_answers(reader, recorded, silent):  # noqa: F811
    ask(reader, silent)
    assert reader.logic.isBusy
    ask(reader, recorded.address)
    reader.wait()
    assert len(reader.ids()) == 3
    assert reader.logic.client.address == recorded.address
    wait_for(lambda: not reader.logic.network.nPending)
    assert reader.logic.isConnected


def test_asking_a_server_that_never_answers_can_be_cancelled_at_once(reader, silent):
    ask(reader, silent)
    assert reader.ui.cancelButton.isVisible()
    reader.ui.cancelButton.click()
    assert not reader.logic.isBusy
    assert reader.logic.network.nPending == 0
    assert reader.ui.serverLabel.text == "Cancelled."


def test_a_server_that_never_answers_is_given_up_after_ten_seconds(reader, silent, monkeypatch):
    assert client.SHORT_SECONDS == 10
    monkeypatch.setattr(client, "SHORT_SECONDS", 0.3)
    reader.connect(silent)
    assert reader.ui.serverLabel.text == f"{silent} does not answer (nothing came for 0.3 s). Is the server running?"


def test_cancel_waits_for_nothing_that_is_still_to_be_told_to_the_server(connected, recorded):  # noqa: F811
    study_id = connected.ids()[0]
    recorded.fail("/datastore/image", "slow")
    connected.ui.openButton.click()
    wait_for(lambda: [line for line in recorded.requests() if line.startswith("GET /datastore/image?")])
    recorded.fail("/firstpick/release", "slow")
    connected.ui.cancelButton.click()
    assert not connected.logic.isBusy
    assert connected.message == "Cancelled."
    wait_for(lambda: recorded.requests().count("POST /firstpick/release") == 1)
    wait_for(lambda: not connected.logic.network.nPending)
    assert connected.cell(study_id, 4) == "open"


def test_a_reservation_that_is_cancelled_on_its_way_is_given_back(connected, recorded):  # noqa: F811
    study_id = connected.ids()[0]
    recorded.fail("/firstpick/reserve", "slow")
    connected.ui.openButton.click()
    wait_for(lambda: "POST /firstpick/reserve" in recorded.requests())
    connected.ui.cancelButton.click()
    assert not connected.logic.isBusy
    wait_for(lambda: not connected.logic.network.nPending)
    assert recorded.bodies("/firstpick/release") == [{"study_id": study_id, "client_id": "alice"}]


def test_a_server_with_other_studies_at_the_same_address_is_told(drawn, recorded):  # noqa: F811
    def other(path):
        with urllib.request.urlopen(recorded.address + path, timeout=10) as answer:
            return json.loads(answer.read().replace(b"study_0", b"other_0"))

    title = drawn.reading.title
    recorded.post("/firstpick/release", study_id=drawn.reading.studyId, client_id="alice")
    recorded.post("/test/set", proposal=other("/firstpick/proposal"), map=other("/firstpick/map"))
    drawn.refresh()
    assert f"The server has no study '{title}' any more" in drawn.ui.stateLabel.text
    drawn.press("submitButton")
    assert drawn.ui.questionFrame.isVisible()
    drawn.press("noButton")
    assert not [line for line in recorded.requests() if line.startswith("PUT")]


def test_no_label_goes_to_another_file_of_the_same_name(drawn, recorded):  # noqa: F811
    study_id, logic = drawn.reading.studyId, drawn.logic
    infos = json.loads(record.RECORDED.read_text(encoding="utf-8"))["infos"]
    recorded.post("/test/set", infos={name: {**info, "stamp": "another"} for name, info in infos.items()})
    for button in ("saveButton", "submitButton", "closeButton"):
        drawn.press(button)
        assert "has another file of this study than the one that was opened" in drawn.message
        assert logic.kept.read(logic.client, study_id)
    assert not [line for line in recorded.requests() if line.startswith("PUT")]
    drawn.open(study_id)
    drawn.press("submitButton")
    assert "Submitted" in drawn.message


@pytest.mark.parametrize("isCut", [True, False])
def test_a_bad_copy_of_a_study_does_not_stay(connected, isCut):  # noqa: F811
    study_id = connected.ids()[0]
    connected.open(study_id)
    copy = Path(connected.reading.cached)
    good = copy.read_bytes()
    connected.press("closeButton")
    copy.write_bytes(good[:100] if isCut else b"\0" * len(good))
    connected.open(study_id)
    if not isCut:  # only Slicer sees that
        assert "Slicer cannot open" in connected.message
        connected.open(study_id)
    assert connected.reading.studyId == study_id
    assert copy.read_bytes() == good


def test_a_label_file_that_vanished_before_it_was_sent_leaves_nothing_stuck(drawn, monkeypatch):  # noqa: F811
    write = drawn.logic.kept.write
    with monkeypatch.context() as patch:
        patch.setattr(
            drawn.logic.kept, "write", lambda *args, **more: replace(write(*args, **more), label="nowhere.nii")
        )
        drawn.press("submitButton")
    assert "Not sent. The label could not be compressed: [Errno 2] No such file or directory" in drawn.message
    drawn.press("submitButton")
    assert "Submitted" in drawn.message
