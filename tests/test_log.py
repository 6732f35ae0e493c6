"""The log: append-only, replayed, compacted, restored from its copy, and never silently a new start."""

import contextlib
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from firstpick.board import log as module
from firstpick.board.board import Board
from firstpick.board.events import (
    FINAL,
    Given,
    Labelled,
    Named,
    Proposed,
    Released,
    Renewed,
    Reopened,
    Reserved,
    SavedLabel,
    Skipped,
)
from firstpick.board.log import LOG_VERSION, Log, check_log, new_state, read_log
from firstpick.database import LockedError, StoreError, lock_folder, transaction
from firstpick.proposal import Pick, Proposal
from firstpick.studies import Slice

FULL = 2  # as SQLite numbers it


def batch(*study_ids, strategy="kmeans"):
    picks = tuple(Pick(rank, study, 0.5, (Slice("axial", rank, 2.5),)) for rank, study in enumerate(study_ids, 1))
    guards = {"min_distance_mm": 10.0}
    return Proposal(
        strategy=strategy, encoder="e", batch_size=4, partial=False, picks=picks, provenance={"guards": guards}
    )


def reserved(study_id="a", client="alice", tick=1.0, seconds=1800.0, **more):
    return Reserved(study_id=study_id, client=client, tick=tick, at=1e9 + tick, seconds=seconds, **more)


def labelled(study_id, client="alice", tick=1.0, given=None):
    label = SavedLabel(".nii", "1-1", {"client_id": client, "checksum": "SHA256:0", "n_voxels": 3})
    return Labelled(study_id=study_id, client=client, tag=FINAL, label=label, tick=tick, given=given)


def skipped(study_id, tick=1.0, at=0.0):
    return Skipped(study_id=study_id, client="alice", reason="poor quality", tick=tick, at=at)


STORY = (
    Proposed(proposal=batch("a", "b")),
    Proposed(proposal=batch("b", strategy="random"), tick=1.0),
    reserved(given=Given("kmeans", (Slice("axial", 1, 2.5),))),
    Renewed(study_id="a", client="alice", tick=60.0, seconds=1800.0),
    Named(study_id="a", name="case/a", tick=70.0),
    labelled("a", tick=70.0),
    skipped("b\udcff", tick=80.0),
    Proposed(proposal=batch("b", "c"), tick=90.0),
    Reopened(study_id="a", client="bob", tick=95.0),
    reserved("a", "bob", tick=99.0, anonymous=True),
    Renewed(study_id="a", client="bob", tick=200.0, seconds=14400.0),
)


@contextlib.contextmanager
def opened(folder, **options):
    log = Log(folder, **options)
    try:
        yield log
    finally:
        log.close()


def told(folder, *events):
    """Start a server, decide and end it."""
    with opened(folder) as log:
        return log.append(*events)


def rows(folder, query="select * from events order by id"):
    with contextlib.closing(sqlite3.connect(folder / "decisions.sqlite")) as connection:
        return connection.execute(query).fetchall()


# -- append and replay


def test_what_is_replayed_is_what_was_in_memory(tmp_path):
    board = told(tmp_path, *STORY)
    assert board == Board().replayed(STORY)
    for _ in range(2):
        with opened(tmp_path) as log:
            assert (log.board, log.tick, log.notice) == (board, 200.0, "")
    assert read_log(tmp_path)[0] == board


def test_the_history_is_all_events_in_order_but_renewals(tmp_path):
    with opened(tmp_path) as log:
        for event in STORY:
            log.append(event)
        expected = [event for event in STORY if not isinstance(event, Renewed)]
        assert list(log.history()) == read_log(tmp_path)[1] == expected
        assert len(rows(tmp_path, "select * from renewed")) == 1  # however often


def test_rows_are_only_added(tmp_path):
    with opened(tmp_path) as log:
        before = []
        for event in STORY:
            log.append(event)
            assert rows(tmp_path)[: len(before)] == before
            before = rows(tmp_path)


def test_nothing_of_several_events_is_kept_if_one_cannot_be(tmp_path):
    with opened(tmp_path) as log:
        with pytest.raises(TypeError):
            log.append(skipped("a"), Skipped(study_id="b", reason={1, 2}))
        assert log.board == Board()
        assert rows(tmp_path) == []
        assert log.append(skipped("c")).with_status("skipped") == {"c"}


def test_of_batches_the_standing_ones_are_kept_and_everything_else_is(tmp_path):
    many = [Proposed(proposal=batch("x", str(number)), tick=100.0 + number) for number in range(9)]
    board = told(tmp_path, *STORY, *many)
    with opened(tmp_path) as log:
        assert log.board == board
        kept = [event for event in log.history() if isinstance(event, Proposed)]
        assert kept == [STORY[1], many[-1]]
        assert [*log.history()] == [event for event in [*STORY, many[-1]] if event in kept or is_lasting(event)]


def is_lasting(event):
    return not isinstance(event, Proposed | Renewed)


def test_what_a_label_is_of_outlives_the_batch_that_said_it(tmp_path):
    with opened(tmp_path) as log:
        log.append(Proposed(proposal=batch("a")))
        log.append(labelled("a", given=log.board.proposed("a")))
        board = log.append(Proposed(proposal=batch("b")))
        assert board.annotated == {"a": (Slice("axial", 1, 2.5),)}
    with opened(tmp_path) as again:
        assert again.board == board


def test_a_renewal_of_a_former_reservation_is_none_of_a_later_one(tmp_path):
    renewal = Renewed(study_id="a", client="alice", tick=2.0, seconds=14400.0)
    board = told(
        tmp_path, reserved(), renewal, Released(study_id="a", client="alice", tick=3.0), reserved("a", tick=4.0)
    )
    with opened(tmp_path) as again:
        assert again.board == board
        assert again.board.status("a", 0.0).until == 1804.0


def test_a_decision_waits_for_the_disk_and_a_renewal_does_not(tmp_path):
    with opened(tmp_path) as log:
        renewal = Renewed(study_id="a", client="alice", tick=2.0, seconds=1800.0)
        for event, waits in ((reserved(), True), (renewal, False), (skipped("b", tick=3.0), True)):
            log.append(event)
            assert (log._connection.execute("pragma synchronous").fetchone()[0] >= FULL) is waits


def test_a_full_disk_changes_nothing_in_memory_and_what_comes_later_is_kept(tmp_path):
    with opened(tmp_path) as log:
        board = log.append(*STORY)
        pages = log._connection.execute("pragma page_count").fetchone()[0]
        log._connection.execute(f"pragma max_page_count = {pages}")
        with pytest.raises(StoreError, match=r"cannot be written: database or disk is full.*Nothing done so far"):
            log.append(*(Skipped(study_id=f"s{n}", reason="x" * 2000) for n in range(100)))
        assert log.board is board
        log._connection.execute("pragma max_page_count = 100000")
        board = log.append(skipped("c"))
    with opened(tmp_path) as again:
        assert again.board == board


def test_a_transaction_whose_commit_fails_stands_in_nobody_s_way(tmp_path):
    path = tmp_path / "t.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(
            "pragma foreign_keys = on; create table a (id primary key);"
            "create table b (a references a deferrable initially deferred);"
        )
        with pytest.raises(sqlite3.IntegrityError), transaction(connection, path):
            connection.execute("insert into b values (1)")  # the commit says that there is no 1
        with transaction(connection, path):
            connection.execute("insert into a values (1)")
        assert connection.execute("select count(*) from b").fetchone() == (0,)


# -- start and restore

DAMAGES = {
    "corrupt": lambda path: path.write_bytes(b"{ rubbish" * 500),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "scrambled": lambda path: path.write_bytes(path.read_bytes()[:4096] + b"\x07" * (path.stat().st_size - 4096)),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
}
any_damage = pytest.mark.parametrize("damage", DAMAGES)


@any_damage
def test_a_damaged_log_is_restored_and_says_until_when(tmp_path, damage):
    when = time.mktime((2026, 3, 4, 15, 7, 20, 0, 0, -1))
    told(tmp_path, *STORY)
    board = told(tmp_path, skipped("d", tick=300.0, at=when))
    DAMAGES[damage](tmp_path / "decisions.sqlite")
    with pytest.raises(StoreError, match="Start the server"):
        read_log(tmp_path)  # not as if nothing had been decided
    assert check_log(tmp_path, has_labels=True)
    with opened(tmp_path, has_labels=True) as log:
        assert (log.board.statuses, log.board.proposals) == (board.statuses, board.proposals)
        assert (log.board.names, log.tick) == (board.names, 300.0)
        assert log.board.known_until == when
        assert "restored from its copy: decisions are known up to 2026-03-04 15:07" in log.notice
    aside = [path.name for path in tmp_path.glob("decisions.corrupt-*")]
    assert len(aside) == (damage != "missing")
    assert all(name in log.notice for name in aside)
    with opened(tmp_path) as again:
        assert again.board.statuses == board.statuses
        assert ("Look at" in again.notice) == bool(aside)
        for path in tmp_path.glob("decisions.corrupt-*"):
            path.unlink()
    with opened(tmp_path) as last:
        assert last.notice == ""


@any_damage
def test_a_journal_left_beside_does_not_spoil_the_copy(tmp_path, damage):
    told(tmp_path, *STORY)
    copy = (tmp_path / "decisions.backup.sqlite").read_bytes()
    log = Log(tmp_path)
    log.append(*(skipped(f"s{n}", tick=300.0) for n in range(300)))
    log._connection.execute("pragma wal_checkpoint(truncate)")
    log.append(*(skipped(f"t{n}", tick=300.0) for n in range(300)))
    journal = (tmp_path / "decisions.sqlite-wal").read_bytes()
    log._connection.close()
    DAMAGES[damage](tmp_path / "decisions.sqlite")
    (tmp_path / "decisions.sqlite-wal").write_bytes(journal)  # as a kill leaves it
    (tmp_path / "decisions.backup.sqlite").write_bytes(copy)
    with opened(tmp_path) as restored:
        assert restored.board.statuses == Board().replayed(STORY).statuses
    with opened(tmp_path) as again:
        assert again.board.statuses == restored.board.statuses


@pytest.mark.parametrize("copy_damage", DAMAGES)
@any_damage
def test_where_the_copy_is_no_better_it_says_what_to_do_and_begins_anew_only_if_told(tmp_path, damage, copy_damage):
    told(tmp_path, *STORY)
    DAMAGES[damage](tmp_path / "decisions.sqlite")
    DAMAGES[copy_damage](tmp_path / "decisions.backup.sqlite")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    is_first = {damage, copy_damage} <= {"missing", "empty"}
    for has_labels in (True, False):
        if has_labels or not is_first:
            with pytest.raises(StoreError, match=r"What was decided is lost: .* its copy .* --new-state"):
                Log(tmp_path, has_labels=has_labels)
            assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    new_state(tmp_path)
    with opened(tmp_path, has_labels=False) as log:
        assert (log.board, log.notice) == (Board(), "")
    kept = sorted(path.read_bytes() for path in tmp_path.glob("decisions*.former-*"))
    assert kept == sorted(content for name, content in before.items() if name.endswith(".sqlite"))


def test_begun_anew_after_an_earlier_damage_it_names_no_minute(tmp_path):
    told(tmp_path, *STORY)
    DAMAGES["corrupt"](tmp_path / "decisions.sqlite")
    Log(tmp_path).close()
    new_state(tmp_path)
    with opened(tmp_path) as log:
        assert log.notice == ""


def test_the_first_start_and_one_that_was_killed_in_its_first_moment(tmp_path):
    assert not check_log(tmp_path, has_labels=False)
    assert read_log(tmp_path) == (Board(), [])
    (tmp_path / "decisions.sqlite").touch()
    assert read_log(tmp_path) == (Board(), [])
    with opened(tmp_path) as log:
        assert (log.board, log.tick, log.notice) == (Board(), 0.0, "")
    other = tmp_path / "other"
    other.mkdir()
    with contextlib.closing(sqlite3.connect(other / "decisions.sqlite")) as connection:
        connection.execute("create table events (id integer primary key, at, tick, kind, facts)")  # no version yet
    with opened(other) as log:
        assert log.notice == ""


def test_the_copy_of_a_log_where_nothing_was_decided_is_none_of_a_lost_one(tmp_path):
    Log(tmp_path).close()
    DAMAGES["corrupt"](tmp_path / "decisions.sqlite")
    with opened(tmp_path) as log:
        assert log.board.statuses == {}
        assert "nothing was decided" in log.notice


def test_a_log_of_another_version_is_refused_untouched(tmp_path):
    told(tmp_path, *STORY)
    for version, said in ((LOG_VERSION + 1, "newer FirstPick"), (LOG_VERSION - 1, "older FirstPick")):
        with contextlib.closing(sqlite3.connect(tmp_path / "decisions.sqlite")) as connection:
            connection.execute(f"pragma user_version = {version}")
        before = rows(tmp_path)
        with pytest.raises(StoreError, match=said):
            Log(tmp_path)
        with pytest.raises(StoreError, match="another FirstPick"):
            read_log(tmp_path)
        assert rows(tmp_path) == before


# -- the copy


def test_the_copy_is_whole_while_others_decide_and_made_only_after_changes(tmp_path, monkeypatch):
    log = Log(tmp_path)
    copies = []
    monkeypatch.setattr(module, "_copy", lambda *args, copy=module._copy: copies.append(1) or copy(*args))
    numbers = iter(range(100_000))
    is_over = threading.Event()

    def decide():
        while not is_over.is_set():
            log.append(skipped(f"s{next(numbers)}"))

    reader = threading.Thread(target=decide)
    reader.start()
    try:
        for _ in range(5):
            log.back_up()
            with contextlib.closing(sqlite3.connect(tmp_path / "decisions.backup.sqlite")) as copy:
                assert copy.execute("pragma quick_check").fetchone() == ("ok",)
    finally:
        is_over.set()
        reader.join()
    log.back_up()
    n_copies = len(copies)
    log.back_up()
    assert len(copies) == n_copies
    log.append(skipped("last"))
    log.close()
    assert len(copies) == n_copies + 1
    with contextlib.closing(sqlite3.connect(tmp_path / "decisions.backup.sqlite")) as copy:
        assert copy.execute("select count(*) from events").fetchone()[0] == next(numbers) + 1


def test_what_was_decided_before_a_kill_is_in_the_next_copy(tmp_path):
    told(tmp_path, *STORY)
    killed = Log(tmp_path)
    board = killed.append(skipped("d"))
    killed._connection.close()
    with opened(tmp_path) as log:
        log.back_up()
    DAMAGES["missing"](tmp_path / "decisions.sqlite")
    with opened(tmp_path) as log:
        assert log.board.statuses == board.statuses


def test_a_copy_that_cannot_be_written_costs_no_decision_and_is_tried_again(tmp_path, monkeypatch, caplog):
    log = Log(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(module, "_copy", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        log.append(skipped("a"))
        log.back_up()
    assert "could not be written" in caplog.text
    log.close()
    assert (tmp_path / "decisions.backup.sqlite").exists()


def test_what_a_killed_copy_left_is_gone_at_the_next_start(tmp_path):
    told(tmp_path, *STORY)
    for name in ("decisions.backup.partial", "decisions.backup.partial-journal"):
        (tmp_path / name).write_bytes(b"half")
    with opened(tmp_path) as log:
        assert log.notice == ""
        assert not list(tmp_path.glob("*partial*"))


# -- one server a state

HOLDER = """
import sys
from pathlib import Path
from firstpick.database import lock_folder

lock_folder(Path(sys.argv[1]), "the server on port 8123 (process 77)")
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_told_who_has_the_state(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(LockedError, match=r"in use by the server on port 8123 \(process 77\)\. Stop it first"):
            lock_folder(tmp_path, "another")
        holder.kill()
    lock_folder(tmp_path, "another")  # a killed one holds nothing
    lock_folder(tmp_path, "another")
    assert (tmp_path / "server.txt").read_text() == "another"
