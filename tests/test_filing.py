"""Labels are never lost: what fails on the way, what happens at the same time, and what is found without a request."""

import json
import os
import threading
from pathlib import Path

import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")

from room import Room

from firstpick.board.events import Named, reader_of_tag, reading_tag
from firstpick.database import StoreError
from firstpick.server import filing, label_folder

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # while MONAI Label is imported


@pytest.fixture
def room(tmp_path):
    made = Room(tmp_path)
    yield made
    made.end()


@pytest.fixture
def one(room):
    """A room with one study that nobody has labelled."""
    room.start([room.study("case.nii")])
    return room


def status(room, study_id="case.nii"):
    return room.desk.board.statuses[study_id]


def versions(room):
    """Values of the earlier labels that are kept, the oldest first."""
    files = sorted((room.labels / "versions").rglob("*.n*"))
    return [max(path.read_bytes()[352:]) for path in files if path.is_file()]


def beside(function):
    """Start something at the same time; it has some time, unless it has to wait for us."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(2.0)
    return thread


# -- what fails on the way


def test_every_file_that_is_filed_was_flushed_before(one, monkeypatch):
    flushed = set()
    monkeypatch.setattr(os, "fsync", lambda file, fsync=os.fsync: flushed.add(os.fstat(file).st_ino) or fsync(file))
    one.readers_per_study = 2
    one.start([one.study("case.nii")])
    for client in ("alice", "bob"):
        one.save("case.nii", client=client)
    files = [one.labels / file for file in one.files()]
    assert len(files) == 3
    assert {path.stat().st_ino for path in files} <= flushed
    assert {path.parent.stat().st_ino for path in files} <= flushed


def test_what_cannot_be_kept_in_the_log_leaves_the_former_label_and_no_version(one):
    first = one.save("case.nii", value=1)
    one.save("case.nii", value=2)
    before, board, kept = one.files(), one.desk.board, versions(one)
    one.desk._log._connection.execute("pragma query_only = on")
    for name in ("upload.nii", "upload.nrrd"):
        with pytest.raises(StoreError):
            one.save("case.nii", value=3, name=name)
    one.desk._log._connection.execute("pragma query_only = off")
    assert (one.files(), one.desk.board, versions(one)) == (before, board, kept) == (before, board, [1])
    assert one.read("case.nii") != first
    one.store.sync_labels()
    assert one.desk.board is board


def test_labels_that_cannot_be_filed_push_out_no_version(one, monkeypatch):
    for value in (1, 2, 3):
        one.save("case.nii", value=value)

    def full(*_):
        raise OSError(28, "No space left on device")

    for _ in range(5):
        with monkeypatch.context() as patched:
            patched.setattr(label_folder, "rename_durably", full)
            with pytest.raises(OSError, match="No space left"):
                one.save("case.nii", value=9)
    one.save("case.nii", value=4)
    assert versions(one) == [2, 3]
    assert max(one.read("case.nii")[352:]) == 4


def test_a_version_that_does_not_fit_on_a_disk_without_links_leaves_nothing(one, monkeypatch):
    one.save("case.nii", value=1)
    before = one.read("case.nii")
    monkeypatch.setattr(Path, "hardlink_to", lambda *_: (_ for _ in ()).throw(OSError(1, "no links here")))
    with monkeypatch.context() as patched:

        def torn(source, target, copy=filing.shutil.copy2):
            copy(source, target)
            os.truncate(target, 100)
            raise OSError(28, "No space left on device")

        patched.setattr(filing.shutil, "copy2", torn)
        with pytest.raises(OSError, match="No space left"):
            one.save("case.nii", value=2)
    assert (one.read("case.nii"), versions(one)) == (before, [])
    one.save("case.nii", value=3)
    assert versions(one) == [1]


def test_there_is_a_label_at_any_moment_of_giving_up(one, monkeypatch):
    one.save("case.nii", value=1)
    target = one.labels / "final" / "case.nii"
    seen = []

    def rename(source, place, rename=label_folder.rename_durably):
        seen.append(target.exists())
        rename(source, place)
        seen.append(target.exists())

    monkeypatch.setattr(label_folder, "rename_durably", rename)
    one.desk._log._connection.execute("pragma query_only = on")
    with pytest.raises(StoreError):
        one.save("case.nii", value=2)
    assert seen == [True] * 4


def test_versions_are_the_newest_whatever_the_clocks_say(one):
    for value, when in enumerate((5e8, 3e9, 1e8, 4e9, 2e8), start=1):
        one.save("case.nii", value=value)
        os.utime(one.labels / "final" / "case.nii", (when, when))
    assert versions(one) == [3, 4]
    one.store.remove_label("case.nii", "final")
    assert versions(one) == [4, 5]
    one.save("case.nii", tag="saved-alice", value=6)
    one.store.remove_label("case.nii", "saved-alice")
    assert versions(one) == [4, 5]


# -- at the same time


def test_a_label_that_comes_while_a_listing_is_taken_over_is_shown(one, monkeypatch):
    studies = [one.study("case.nii"), one.study("late.nii", 1)]
    threads, once = [], iter([True])

    def slow(study, made=one.store._object):
        shown = made(study)
        if next(once, False):
            threads.append(beside(lambda: one.save("case.nii")))
        return shown

    monkeypatch.setattr(one.store, "_object", slow)
    one.store.update(studies, {})
    threads[0].join()
    assert one.store.get_labeled_images() == ["case.nii"]
    assert one.store.get_label_info("case.nii", "final")["client_id"] == "alice"


def test_a_label_that_is_filed_while_another_look_is_taken_keeps_its_facts(one, monkeypatch):
    one.save("case.nii", value=1)
    for value, name in ((2, "upload.nii"), (3, "upload.nrrd"), (4, "upload.nii")):
        with monkeypatch.context() as patched:
            found = one.store._labels.events(one.desk.board, one.store._studies.values())
            one.save("case.nii", value=value, name=name)
            patched.setattr(one.store._labels, "events", lambda *_, found=found: found)
            one.store.sync_labels()
        assert status(one).labels["final"].info["client_id"] == "alice"
    seen = one.store._labels.find()["final"]["case"]
    one.store.remove_label("case.nii", "final")
    monkeypatch.setattr(one.store._labels, "find", lambda: {"final": {"case": seen}})
    one.store.sync_labels()  # of a file that is gone by now
    assert status(one).status == "open"


def test_a_file_that_goes_while_it_is_looked_at_is_no_label(one, monkeypatch):
    one.save("case.nii")

    def walked(folder, walk=os.walk, **options):
        for entry in [*walk(folder, **options)]:
            if (one.labels / "final" / "case.nii").exists():
                one.store.remove_label("case.nii", "final")
            yield entry

    monkeypatch.setattr(label_folder.os, "walk", walked)
    one.store.sync_labels()
    assert (status(one).status, status(one).labels) == ("open", {})


def test_two_studies_get_no_name_at_the_same_time(room, monkeypatch):
    twins = [room.study("case.nii"), room.study("case.mha.nii", 1)]
    room.start(twins)
    found = [Named(study_id="case.mha.nii", name="case")]
    saved = room.save("case.nii")
    monkeypatch.setattr(room.store._labels, "events", lambda *_: found)
    room.store.sync_labels()
    assert room.desk.board.names == {"case.nii": "case"}
    assert room.read("case.nii") == saved


# -- what is found without a request


@pytest.mark.parametrize("moment", ["before", "while"])
def test_an_empty_mount_point_changes_nothing(one, monkeypatch, moment):
    one.save("case.nii")
    board = one.desk.board
    away = one.labels.with_name("away")

    def go():
        one.labels.rename(away)
        one.labels.mkdir()

    if moment == "before":
        go()
    else:
        monkeypatch.setattr(label_folder.os, "walk", lambda *_, **__: go() or iter(()))
    with pytest.raises(StoreError, match=r"Is a disk not mounted\?"):
        one.store.sync_labels()
    for ask in (lambda: one.save("case.nii"), lambda: one.store.remove_label("case.nii", "final")):
        with pytest.raises(StoreError, match=r"Is a disk not mounted\?"):
            ask()
    assert one.desk.board is board
    monkeypatch.undo()
    one.labels.rmdir()
    away.rename(one.labels)
    one.store.sync_labels()
    assert one.desk.board is board


def test_a_mount_that_goes_after_the_look_changes_nothing(one, monkeypatch):
    one.save("case.nii")
    board = one.desk.board
    (one.labels / "final" / "case.nii").rename(one.state / "case.nii")
    found = one.store._labels.events(board, one.store._studies.values())
    (one.labels / ".firstpick").unlink()
    monkeypatch.setattr(one.store._labels, "events", lambda *_: found)
    with pytest.raises(StoreError, match=r"Is a disk not mounted\?"):
        one.store.sync_labels()
    assert one.desk.board is board


def test_a_folder_that_cannot_be_looked_through_changes_nothing(one, monkeypatch):
    one.save("case.nii")
    board = one.desk.board

    def scandir(path, scandir=os.scandir):
        if Path(path).name == "final":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError):
        one.store.sync_labels()
    assert one.desk.board is board


def test_hidden_folders_and_those_of_the_file_system_hold_no_labels(one):
    for name in (".snapshot/hourly/final", "lost+found", "versions/case"):
        (one.labels / name).mkdir(parents=True)
        (one.labels / name / "case.nii").write_bytes(b"old")
    one.store.sync_labels()
    assert one.store.unmatched == []
    assert one.desk.board.statuses == {}


def test_what_was_put_or_deleted_by_hand_is_told_to_the_board(one):
    final = one.labels / "final" / "case.nii"
    final.write_bytes(one.label(value=3).read_bytes())
    one.store.sync_labels()
    assert (status(one).status, status(one).client) == ("done", "")
    assert one.store.get_labeled_images() == ["case.nii"]
    final.unlink()
    one.store.sync_labels()
    assert status(one).status == "open"
    assert one.store.get_labeled_images() == []


def test_a_label_that_was_only_copied_back_keeps_its_facts_and_another_one_does_not(one):
    one.save("case.nii", value=1)
    path = one.labels / "final" / "case.nii"
    content = path.read_bytes()
    for _ in range(2):
        path.unlink()
        path.write_bytes(content)
        board = one.desk.board
        one.store.sync_labels()
        assert one.desk.board is board
        one.start([one.study("case.nii")])
    path.write_bytes(one.label(value=2).read_bytes())
    one.store.sync_labels()
    assert "client_id" not in status(one).labels["final"].info
    assert status(one).status == "done"


def test_a_reading_is_its_reader_s_whoever_put_it_there(one):
    one.readers_per_study = 2
    one.start([one.study("case.nii")])
    one.save("case.nii", client="Dr. Who")
    for client in ("Dr. Who", "bob", "x" * 50):
        path = one.labels / reading_tag(client) / "case.nii"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(one.label(value=7).read_bytes())
        one.store.sync_labels()
    assert (status(one).status, status(one).read_by) == ("open", ("Dr. Who", "bob"))
    one.save("case.nii", client="Dr. Who")
    assert status(one).read_by == ("bob", "Dr. Who")
    assert status(one).status == "done"


def test_one_reader_and_a_reading_of_nobody_are_no_two_readers(one):
    one.readers_per_study = 2
    one.start([one.study("case.nii")])
    path = one.labels / "reading-nobody-0000" / "case.nii"
    path.parent.mkdir()
    path.write_bytes(one.label().read_bytes())
    one.store.sync_labels()
    one.save("case.nii", client="alice")
    assert (status(one).status, status(one).read_by) == ("open", ("alice",))


def test_a_tag_says_whose_it_is_where_the_name_is_a_plain_word():
    for reader in ("alice", "Müller", "a.b@c-d+e_f", "reading-x"):
        assert reader_of_tag(reading_tag(reader)) == reader
    for reader in ("Dr. Who", "x" * 41, "a/b", "\ud800"):
        assert reader_of_tag(reading_tag(reader)) == ""
    assert reader_of_tag("reading-alice-0000") == reader_of_tag("reading-") == ""


def test_a_log_restored_from_its_copy_is_told_of_newer_labels(room):
    studies = [room.study(name, n) for n, name in enumerate(("a.nii", "b.nii", "c.nii"))]
    room.start(studies)
    room.save("a.nii", value=1)
    room.desk.back_up()
    saved = {"a.nii": room.save("a.nii", value=2), "b.nii": room.save("b.nii", value=3)}
    room.desk.skip("c.nii", "alice", "blurred")
    room.kill()
    (room.state / "decisions.sqlite").write_bytes(b"rubbish" * 999)
    room.start(studies)
    assert "restored from its copy" in room.desk.notice
    assert room.desk.board.with_status("done") == {"a.nii", "b.nii"}
    assert room.desk.board.with_status("skipped") == set()
    assert {study_id: room.read(study_id) for study_id in saved} == saved
    assert sorted(room.store.get_labeled_images()) == ["a.nii", "b.nii"]
    assert [label.info.get("client_id") for label in (status(room, i).labels["final"] for i in saved)] == [None, None]


# -- what comes beside


def test_monai_label_s_json_holds_any_id(room):
    name = os.fsdecode(b"case\xff.nii")
    study = room.study("case.nii")
    odd = type(study)(name, "1", study.source, name)
    room.start([odd])
    room.store.save_label(name, str(room.label()), "final", {"client_id": "alice"})
    room.store.write_json()
    written = json.loads((room.labels.parent / "datastore_v2.json").read_bytes())
    assert written["objects"][name]["labels"]["final"]["info"]["n_voxels"] == 8
