"""Statuses: one reader a study, nothing lost, every change on record."""

import sqlite3
import threading

import pytest
from pydantic_core import to_jsonable_python

from firstpick.board import log as module
from firstpick.board.log import DECISIONS_VERSION, OPEN, ConflictError, Decisions, with_statuses
from firstpick.database import StoreError
from firstpick.proposal import Pick, Proposal, read_proposal


@pytest.fixture
def decisions(tmp_path):
    decisions = Decisions(tmp_path)
    yield decisions
    decisions.close()


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets by hand."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    return now


def test_a_study_never_heard_of_is_open(decisions):
    assert decisions.status("a") == OPEN
    assert decisions.statuses() == {}


def test_a_reserved_study_is_refused_to_others_with_the_holders_name(decisions):
    decisions.reserve("a", "Alice")
    with pytest.raises(ConflictError, match=r"Study 'a' is in progress by Alice until \d\d:\d\d\."):
        decisions.reserve("a", "Bob")
    assert decisions.status("a").client == "Alice"


def test_a_reservation_runs_out_after_30_minutes_and_a_heartbeat_renews_it(decisions, clock):
    decisions.reserve("a", "Alice")
    clock[0] += 29 * 60
    assert decisions.heartbeat("a", "Alice").until == clock[0] + 30 * 60
    clock[0] += 29 * 60
    assert decisions.status("a").status == "reserved"
    clock[0] += 2 * 60
    assert decisions.status("a") == OPEN
    assert decisions.statuses()["a"] == OPEN
    decisions.reserve("a", "Bob")
    with pytest.raises(ConflictError, match="in progress by Bob"):
        decisions.heartbeat("a", "Alice")


def test_the_first_open_study_of_a_list_is_reserved_and_the_former_kept(decisions):
    assert decisions.reserve_first(["a", "b"], "Alice") == "a"
    assert decisions.reserve_first(["a", "b"], "Alice") == "b"
    assert decisions.reserve_first(["a", "b"], "Alice") is None
    assert {i: s.client for i, s in decisions.statuses().items()} == {"a": "Alice", "b": "Alice"}


def test_two_readers_at_once_never_get_the_same_study(tmp_path):
    ids = [f"s{i:02d}" for i in range(40)]
    got: list[str] = []

    def read(name):
        own = Decisions(tmp_path)  # a connection of its own, as another process would have
        while (study := own.reserve_first(ids, name)) is not None:
            got.append(study)
        own.close()

    readers = [threading.Thread(target=read, args=(name,)) for name in ("Alice", "Bob", "Carol")]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert sorted(got) == ids


def test_release_gives_back_ones_own_study_only(decisions):
    decisions.reserve("a", "Alice")
    with pytest.raises(ConflictError, match="in progress by Alice"):
        decisions.release("a", "Bob")
    decisions.release("a", "Alice")
    assert decisions.status("a").status == "open"
    decisions.release("a", "Bob")  # open already: nothing to refuse


def test_whoever_uploads_closes_the_study_and_the_holder_is_told(decisions):
    decisions.reserve("a", "Alice")
    decisions.mark_done({"a": "Bob"})
    with pytest.raises(ConflictError, match=r"Study 'a' was done by Bob\."):
        decisions.heartbeat("a", "Alice")


def test_skip_has_a_reason_and_can_be_undone(decisions):
    decisions.skip("a", "Alice", "poor quality")
    assert (decisions.status("a").status, decisions.status("a").reason) == ("skipped", "poor quality")
    with pytest.raises(ConflictError, match="skipped by Alice"):
        decisions.reserve("a", "Bob")
    decisions.unskip("a", "Bob")
    assert decisions.status("a").status == "open"


def test_a_study_in_progress_or_done_is_not_skipped_by_others(decisions):
    decisions.reserve("a", "Alice")
    with pytest.raises(ConflictError, match="in progress by Alice"):
        decisions.skip("a", "Bob", "duplicate")
    decisions.mark_done({"a": "Alice"})
    with pytest.raises(ConflictError, match="done by Alice"):
        decisions.skip("a", "Alice", "duplicate")


def test_reopening_remembers_when(decisions, clock):
    decisions.mark_done({"a": "Alice"})
    clock[0] += 60
    decisions.reopen("a", "Bob")
    assert (decisions.status("a").status, decisions.status("a").reopened_at) == ("open", 1060.0)
    decisions.reserve("a", "Carol")
    assert decisions.status("a").reopened_at == 1060.0


def test_every_change_is_on_record(decisions):
    decisions.reserve("a", "Alice")
    decisions.heartbeat("a", "Alice")
    decisions.skip("a", "Alice", "wrong anatomy")
    decisions.unskip("a", "Bob")
    decisions.mark_done({"a": "Bob", "b": ""})
    decisions.reopen("a", "Bob", detail="label deleted")
    kinds = [(event["study_id"], event["kind"], event["client"], event["detail"]) for event in decisions.events()]
    assert kinds == [
        ("a", "reserved", "Alice", ""),
        ("a", "skipped", "Alice", "wrong anatomy"),
        ("a", "unskipped", "Bob", ""),
        ("a", "done", "Bob", ""),
        ("b", "done", "", ""),
        ("a", "reopened", "Bob", "label deleted"),
    ]


def test_the_newest_proposal_of_a_strategy_stands(decisions):
    decisions.put_proposal("kmeans", {"picks": [{"study_id": "1"}]}, "")
    decisions.put_proposal("random", {"picks": [{"study_id": "2"}]}, "")
    decisions.put_proposal("kmeans", {"picks": [{"study_id": "3"}]}, "Alice")
    assert decisions.proposal("kmeans") == {"picks": [{"study_id": "3"}]}
    assert decisions.proposal("typiclust") is None


def test_picks_show_the_status_of_their_study(decisions):
    decisions.reserve("a", "Alice")
    proposal = Proposal(
        strategy="kmeans",
        encoder="pixels",
        batch_size=2,
        partial=False,
        picks=(Pick(1, "a", 0.0), Pick(2, "b", 0.0)),
        failed=(),
        left_out=(),
        provenance={},
    )
    shown = with_statuses(proposal, decisions.statuses())
    assert [(pick.status, pick.client) for pick in shown.picks] == [("reserved", "Alice"), ("open", "")]
    assert read_proposal(to_jsonable_python(shown)) == proposal


@pytest.mark.parametrize("damage", [b"not a database at all", b""])
def test_a_corrupt_file_is_restored_with_every_decision(tmp_path, damage):
    before = Decisions(tmp_path)
    before.skip("a", "Alice", "poor quality")
    before.put_proposal("kmeans", {"picks": []}, "")
    before.close()
    path = tmp_path / "decisions.sqlite"
    path.write_bytes(damage + path.read_bytes()[len(damage) :] if damage else path.read_bytes()[:5000])
    after = Decisions(tmp_path)
    assert after.status("a").reason == "poor quality"
    assert after.proposal("kmeans") == {"picks": []}
    assert "restored from its copy" in after.notice
    assert list(tmp_path.glob("decisions.corrupt-*"))
    after.close()


def test_where_the_copy_is_corrupt_too_both_are_kept_aside(tmp_path):
    before = Decisions(tmp_path)
    before.skip("a", "Alice", "poor quality")
    before.close()
    for name in ("decisions.sqlite", "decisions.backup.sqlite"):
        (tmp_path / name).write_bytes(b"not a database at all" * 100)
    after = Decisions(tmp_path)
    assert after.status("a") == OPEN
    assert len(list(tmp_path.glob("decisions.corrupt-*"))) == 2
    after.close()


def test_the_notice_stays_until_the_corrupt_file_is_removed(tmp_path):
    Decisions(tmp_path).close()
    (tmp_path / "decisions.sqlite").write_bytes(b"not a database at all" * 100)
    for _ in range(2):
        decisions = Decisions(tmp_path)
        assert "restored from its copy" in decisions.notice
        decisions.close()
    next(tmp_path.glob("decisions.corrupt-*")).unlink()
    decisions = Decisions(tmp_path)
    assert decisions.notice == ""
    decisions.close()


def test_decisions_of_a_newer_version_are_refused_untouched(tmp_path):
    Decisions(tmp_path).close()
    with sqlite3.connect(tmp_path / "decisions.sqlite") as connection:
        connection.execute(f"pragma user_version = {DECISIONS_VERSION + 1}")
    connection.close()
    with pytest.raises(StoreError, match="newer FirstPick"):
        Decisions(tmp_path)
