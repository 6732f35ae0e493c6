"""Which labels of a study a reader may load, and in which order."""

import hashlib

import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")

from room import Room

from firstpick.board.events import reading_tag, saved_tag

CASE = "case.nii"


@pytest.fixture
def room(tmp_path):
    made = Room(tmp_path)
    yield made
    made.end()


@pytest.fixture
def one(room):
    room.start([room.study(CASE)])
    return room


def listed(room, reader="alice"):
    return room.store.label_list.listed(CASE, reader)


def titles(room, reader="alice"):
    return [label.title for label in listed(room, reader)]


def resumed(room, reader="alice"):
    return [label.title for label in listed(room, reader) if label.is_resumed]


def read(room, label, reader="alice"):
    return room.store.label_list.file(CASE, reader, label.tag, label.version).read_bytes()


def test_a_study_without_labels_has_none(one):
    assert listed(one) == listed(one, "") == []


def test_what_the_reader_goes_on_with_is_first_and_earlier_final_labels_are_last(one):
    contents = [one.save(CASE, client=client, value=value) for client, value in (("bob", 1), ("carol", 2), ("bob", 3))]
    contents.append(one.save(CASE, tag=saved_tag("bob"), client="bob", value=4))
    contents.append(one.save(CASE, tag=saved_tag("alice"), client="alice", value=5))
    assert titles(one) == [
        "Your saved work",
        "Saved work by bob",
        "Final label by bob",
        "Earlier final label by carol",
        "Earlier final label by bob",
    ]
    assert [read(one, label) for label in listed(one)] == [contents[i] for i in (4, 3, 2, 1, 0)]
    assert [label.n_voxels for label in listed(one)] == [8] * 5
    assert [label.n_bytes for label in listed(one)] == [len(contents[0])] * 5
    digests = [f"SHA256:{hashlib.sha256(contents[i]).hexdigest()}" for i in (4, 3, 2, 1, 0)]
    assert [label.checksum for label in listed(one)] == digests
    assert [label.kind for label in listed(one)] == ["saved", "saved", "final", "earlier", "earlier"]
    assert resumed(one) == ["Your saved work"]
    assert resumed(one, "bob") == ["Your saved work"]
    assert resumed(one, "carol") == resumed(one, "") == ["Final label by bob"]
    assert titles(one, "carol")[0] == "Final label by bob"


def test_a_final_label_that_is_newer_than_the_reader_s_own_work_is_gone_on_with(one):
    one.save(CASE, tag=saved_tag("alice"))
    one.save(CASE, client="bob")
    assert titles(one)[0] == "Final label by bob"
    assert resumed(one) == ["Final label by bob"]


def test_what_others_saved_is_offered_and_not_gone_on_with(one):
    one.save(CASE, tag=saved_tag("bob"), client="bob")
    one.save(CASE, tag="draft", client="")
    one.save(CASE, tag="thick slices", client="carol")
    assert titles(one) == ["Label 'thick slices' by carol", "Draft of the server", "Saved work by bob"]
    assert resumed(one) == []


def test_an_earlier_label_is_known_again_after_a_restart_and_without_links(one, monkeypatch):
    def no_links(path, other):
        raise OSError

    monkeypatch.setattr("pathlib.Path.hardlink_to", no_links)
    first = one.save(CASE, client="bob", value=1)
    one.save(CASE, client="carol", value=2)
    one.start([one.study(CASE)])
    (label,) = [label for label in listed(one) if label.version]
    assert (label.title, label.n_voxels, read(one, label)) == ("Earlier final label by bob", 8, first)


def test_a_deleted_final_label_is_an_earlier_one(one):
    content = one.save(CASE, client="bob")
    one.store.remove_label(CASE, "final")
    (label,) = listed(one)
    assert (label.title, label.is_resumed, read(one, label)) == ("Earlier final label by bob", False, content)


def test_what_another_reader_drew_is_not_listed_before_the_study_was_done(room):
    room.readers_per_study = 2
    room.start([room.study(CASE)])
    room.save(CASE, client="alice", value=1)
    room.save(CASE, tag=saved_tag("alice"), client="alice", value=2)
    assert titles(room, "bob") == titles(room, "") == []
    assert titles(room, "alice") == ["Your saved work", "Your reading"]
    find = room.store.label_list.file
    assert find(CASE, "bob", reading_tag("alice"), 0) is None
    room.save(CASE, client="bob", value=3)
    assert set(titles(room, "bob")) == {"Your reading", "Final label by bob", "Reading by alice", "Saved work by alice"}
    assert resumed(room, "bob") == ["Your reading"]
    assert resumed(room, "alice") == ["Your saved work"]
    assert resumed(room, "carol") == ["Final label by bob"]
    assert find(CASE, "bob", reading_tag("alice"), 0).is_file()


@pytest.mark.parametrize(
    ("tag", "version"), [("final", 2), ("final", -1), ("versions", 0), ("../../decisions", 0), ("", 0), ("final\0", 0)]
)
def test_what_is_not_listed_is_not_found(one, tag, version):
    one.save(CASE)
    one.save(CASE)
    assert one.store.label_list.file(CASE, "alice", "final", 1).is_file()
    assert one.store.label_list.file(CASE, "alice", tag, version) is None
    assert one.store.label_list.file("nobody", "alice", "final", 0) is None


def test_a_file_that_was_deleted_by_hand_is_not_found(one):
    one.save(CASE)
    (one.labels / "final" / CASE).unlink()
    assert one.store.label_list.file(CASE, "alice", "final", 0) is None
