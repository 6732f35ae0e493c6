"""Studies whose file the server must make first: the module waits as it is told, and asks again."""

import json
import time
from pathlib import Path

import pytest
import record
from stage import wait_for
from test_bad_paths import block, connected, recorded  # noqa: F401 - fixtures

from FirstPickLib.answers import readAnswer

IMAGE = "/datastore/image"
PREPARED = "Study '{}' is being prepared. Ask again in a few seconds."


def prepare(recorded, study_id, times=2, retry_after=1):  # noqa: F811
    recorded.fail(IMAGE, 503, image=study_id, times=times, retry_after=retry_after, detail=PREPARED.format(study_id))


def asked(recorded, study_id):  # noqa: F811
    return recorded.requests().count(f"GET {IMAGE}?image={study_id}")


def infos():
    return json.loads(record.RECORDED.read_text(encoding="utf-8"))["infos"]


def wait_for_text(reader, text):
    wait_for(lambda: reader.ui.transferFrame.isVisible() and text in reader.ui.transferLabel.text, 10)


def test_a_study_is_opened_once_it_is_prepared(connected, recorded):  # noqa: F811
    study_id = connected.ids()[0]
    prepare(recorded, study_id)
    begin, shown = time.monotonic(), []
    connected.logic.listeners.append(lambda what: shown.append(connected.ui.transferLabel.text))
    connected.ui.openButton.click()
    assert time.monotonic() - begin < 0.5  # the window does not wait
    wait_for_text(connected, f"The server is preparing {connected.logic.title(study_id)} ...")
    connected.wait()
    assert connected.reading.studyId == study_id, connected.message
    assert asked(recorded, study_id) == 3
    assert time.monotonic() - begin >= 2  # seconds that the server asked for
    texts = [text.split()[0] for text in dict.fromkeys(shown) if text]
    assert texts == ["Reserving", "Loading", "The", "Slicer"]
    assert [text for text, before in zip(shown, ["", *shown]) if text != before and "preparing" in text] == [
        f"The server is preparing {connected.logic.title(study_id)} ..."
    ]  # does not flicker


def test_the_format_that_is_known_only_when_the_file_is_made_is_the_one_it_gets(connected, recorded):  # noqa: F811
    study_id, known = connected.ids()[0], infos()
    bare = known[study_id]["name"].removesuffix(".nii.gz")
    recorded.post("/test/set", infos={**known, study_id: {**known[study_id], "path": "", "name": bare}})
    prepare(recorded, study_id)
    connected.ui.openButton.click()
    wait_for_text(connected, "preparing")
    recorded.post("/test/set", infos=known)
    connected.wait()
    assert connected.reading.cached.endswith(".nii.gz"), connected.message


def test_a_file_that_became_ready_before_its_format_was_known_gets_its_ending(connected, recorded):  # noqa: F811
    study_id, known = connected.ids()[0], infos()
    recorded.post("/test/set", infos={**known, study_id: {**known[study_id], "path": "", "name": "scan"}})
    recorded.fail(IMAGE, "slow", image=study_id)
    connected.ui.openButton.click()
    wait_for(lambda: asked(recorded, study_id))
    recorded.post("/test/set", infos=known)
    connected.wait()
    assert connected.reading.cached.endswith(".nii.gz"), connected.message
    assert asked(recorded, study_id) == 1
    wait_for(lambda: not connected.logic.files.isFetchingAhead)
    assert all(path.name.endswith(".nii.gz") for path in Path(connected.logic.cacheFolder).iterdir())


def test_waiting_can_be_cancelled_at_once(connected, recorded):  # noqa: F811
    study_id = connected.ids()[0]
    prepare(recorded, study_id, times=20, retry_after=60)
    connected.ui.openButton.click()
    wait_for_text(connected, "preparing")
    begin = time.monotonic()
    connected.ui.cancelButton.click()
    connected.wait()
    assert time.monotonic() - begin < 5
    assert connected.message == "Cancelled."
    assert connected.reading is None
    connected.refresh()
    assert connected.cell(study_id, 4) == "open"
    assert connected.logic.network.nPending == 0
    recorded.heal()
    connected.press("openButton")
    assert connected.reading.studyId == study_id


def test_patience_ends(connected, recorded, monkeypatch):  # noqa: F811
    monkeypatch.setattr("FirstPickLib.studyfile.PATIENCE_S", 2)
    study_id = connected.ids()[0]
    prepare(recorded, study_id, times=20)
    connected.press("openButton")
    assert connected.message == f"{PREPARED.format(study_id)} Gave up after 2 s: open the study again later."
    assert asked(recorded, study_id) == 3
    assert connected.reading is None
    assert connected.cell(study_id, 4) == "open"


@pytest.mark.parametrize("status", [422, 507, 503])
def test_what_comes_of_no_waiting_is_said_and_not_asked_again(connected, recorded, status):  # noqa: F811
    study_id = connected.ids()[0]
    recorded.fail(IMAGE, status, image=study_id, times=20, detail="The file cannot be made: No space left on device")
    connected.press("openButton")
    assert connected.message == "The file cannot be made: No space left on device"
    assert asked(recorded, study_id) == 1
    assert connected.reading is None


def test_the_next_study_is_waited_for_ahead_of_the_reader(connected, recorded):  # noqa: F811
    first, second = connected.ids()[:2]
    prepare(recorded, second)
    connected.press("openButton")
    assert connected.reading.studyId == first
    wait_for(lambda: asked(recorded, second) == 3)
    wait_for(lambda: not connected.logic.files.isFetchingAhead)
    connected.draw("tumour", block(connected))
    connected.press("submitButton")
    assert connected.reading.studyId == second
    assert asked(recorded, second) == 3


def test_opening_what_is_being_prepared_ahead_says_so_and_can_be_cancelled(connected, recorded):  # noqa: F811
    first, second = connected.ids()[:2]
    prepare(recorded, second, times=3)
    connected.press("openButton")
    assert connected.reading.studyId == first
    wait_for(lambda: asked(recorded, second))
    for cancels in (True, False):
        connected.widget.table.select(second)
        connected.logic.open(second)
        wait_for_text(connected, f"The server is preparing {connected.logic.title(second)} ...")
        if cancels:
            connected.ui.cancelButton.click()
        connected.wait()
        assert connected.message == ("Cancelled." if cancels else "")
    assert connected.reading.studyId == second
    assert asked(recorded, second) == 4


def test_what_is_only_being_prepared_makes_room_for_the_study_after_next(connected, recorded):  # noqa: F811
    _, second, third = connected.ids()
    prepare(recorded, second, times=20, retry_after=60)
    connected.press("openButton")
    wait_for(lambda: asked(recorded, second))
    recorded.post("/firstpick/reserve", study_id=second, client_id="bob")
    connected.press("closeButton")
    connected.press("openButton")
    wait_for(lambda: asked(recorded, third))
    assert asked(recorded, second) == 1


def test_the_end_leaves_nothing_that_waits(reader, recorded):  # noqa: F811
    reader.connect(recorded.address)
    study_id = reader.ids()[0]
    prepare(recorded, study_id, times=20)
    reader.ui.openButton.click()
    wait_for_text(reader, "preparing")
    logic, n_asked = reader.logic, asked(recorded, study_id)
    logic.end()
    assert logic.network.nPending == 0
    end = time.monotonic() + 1.5
    wait_for(lambda: time.monotonic() > end)
    assert asked(recorded, study_id) == n_asked


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [
        (503, "2", 2),
        (503, "0", 1),
        (503, "", 0),
        (503, "Wed, 21 Oct 2026 07:28:00 GMT", 0),
        (503, "-3", 0),
        (429, "2", 0),
    ],
)
def test_seconds_to_wait(status, header, seconds):
    answer = readAnswer(status, b'{"detail": "Wait."}', "application/json", "", "http://host:8000", header)
    assert (answer.error, answer.retryAfter) == ("Wait.", seconds)


def test_a_proxys_own_page_is_not_taken_for_a_study_that_is_being_prepared():
    assert readAnswer(503, b"<html>", "text/html", "", "http://host:8000", "5").retryAfter == 0
