"""The desk: what is acknowledged is in the log, whoever asks how often, and whatever the clocks do."""

import threading

import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")

import room  # noqa: F401 - imports MONAI Label without its warnings

from firstpick.board.board import RESERVED_SECONDS, Refused
from firstpick.board.events import Given, Labelled, Proposed, Reserved, SavedLabel
from firstpick.board.log import Log
from firstpick.proposal import Pick, Proposal
from firstpick.server import desk as module
from firstpick.server.desk import Desk
from firstpick.studies import Slice


class Clock:
    """Takes the place of `time`; both clocks are set by hand."""

    def __init__(self):
        self.wall, self.ran = 1.8e9, 500.0

    def time(self):
        return self.wall

    def monotonic(self):
        return self.ran


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def desk(tmp_path, clock):
    made = Desk(Log(tmp_path))
    yield made
    made.close()


def again(desk, tmp_path):
    """Another server on the same log."""
    desk.close()
    return Desk(Log(tmp_path))


def first(desk, client, ids="ab", seconds=14400.0, *, again=True):
    """What a client gets of some studies, as from MONAI Label's next sample."""

    def choose(board, now):
        study_id = board.first_open(ids, client, now) or (board.oldest_held(ids, client, now) if again else None)
        return Reserved(study_id=study_id, client=client, seconds=seconds) if study_id else None

    return desk.take(choose)


def test_two_readers_at_once_never_get_the_same_study(desk):
    ids, got = [f"s{n:02d}" for n in range(40)], []

    def read(name):
        while study_id := first(desk, name, ids, again=False):
            got.append((study_id, name))

    readers = [threading.Thread(target=read, args=(name,)) for name in ("alice", "bob", "carol")]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert sorted(study_id for study_id, _ in got) == ids
    assert {study_id: status.client for study_id, status in desk.statuses().items()} == dict(got)


def test_a_reservation_that_was_renewed_for_less_is_as_long_after_a_restart(desk, clock, tmp_path):
    desk.reserve("a", "alice")
    assert first(desk, "alice", "a") == "a"
    desk.reserve("a", "alice")
    until = desk.status("a").until
    assert until == clock.wall + 14400.0
    after = again(desk, tmp_path)
    assert after.status("a").until == until
    clock.ran += 14000.0
    after.reserve("a", "alice")
    assert after.status("a").until == clock.wall + RESERVED_SECONDS
    after.close()


@pytest.mark.parametrize("days", [-400, 400])
def test_a_wall_clock_that_jumps_ends_no_reservation_and_keeps_none(desk, clock, days, tmp_path):
    desk.reserve("a", "alice")
    clock.wall += days * 86400.0
    clock.ran += 600.0
    assert desk.status("a").until == clock.wall + RESERVED_SECONDS - 600.0
    with pytest.raises(Refused, match="in progress by alice"):
        desk.reserve("a", "bob")
    desk.skip("b", "bob", "blurred")
    after = again(desk, tmp_path)
    assert after.status("a").client == "alice"
    clock.ran += RESERVED_SECONDS - 600.0
    assert after.reserve("a", "bob").client == "bob"
    assert [event.client for event in after.history() if event.study_id == "a"] == ["alice", "bob"]
    after.close()


def test_a_server_that_was_off_has_not_run_meanwhile(desk, clock, tmp_path):
    desk.reserve("a", "alice")
    clock.ran += 60.0
    desk.skip("b", "bob", "blurred")
    desk.close()
    clock.wall += 9 * 3600.0
    clock.ran = 3.0  # the machine was switched off
    after = Desk(Log(tmp_path))
    assert after.status("a").until == clock.wall + RESERVED_SECONDS - 60.0
    after.close()


def test_a_label_where_nobody_was_given_anything_is_of_what_is_proposed_now(desk, tmp_path):
    picks = (Pick(1, "a", 0.0, (Slice("axial", 3, 9.0),)),)
    batch = {"encoder": "e", "batch_size": 1, "partial": False, "provenance": {}}
    desk.decide(Proposed(proposal=Proposal(strategy="kmeans", picks=picks, **batch)))
    label = SavedLabel(".nii", "1-1", {"client_id": "bob"})
    desk.decide(Labelled(study_id="a", client="bob", tag="final", label=label))
    desk.decide(Proposed(proposal=Proposal(strategy="kmeans", picks=(), **batch)))
    board = desk.board
    assert board.annotated == {"a": (Slice("axial", 3, 9.0),)}
    after = again(desk, tmp_path)
    assert after.board == board
    after.close()


def test_what_was_given_stays_while_a_reservation_is_renewed_or_taken_again(desk, clock):
    given = Given("random", (Slice("axial", 3, 9.0),))
    desk.reserve("a", "alice", given)
    desk.reserve("a", "alice", Given("kmeans"))
    assert desk.board.statuses["a"].given == {"alice": given}
    clock.ran += 2 * RESERVED_SECONDS
    desk.reserve("a", "alice")
    assert desk.board.statuses["a"].given == {"alice": given}


def test_whose_a_label_is(desk, clock):
    desk.reserve("a", "alice")
    for info, whose in (
        ({"client_id": "bob", "user": "carol"}, "bob"),
        ({"client_id": "user-xyz", "user": "carol"}, "carol"),
        ({"client_id": " admin "}, "alice"),
        ({"client_id": None}, "alice"),
        ({}, "alice"),
    ):
        assert desk.reader_of("a", info) == whose
    assert desk.reader_of("b", {}) == ""
    clock.ran += RESERVED_SECONDS
    assert desk.reader_of("a", {}) == ""
