"""Label files: their names, whose they are, and how they are kept; all in one process."""

import os
import random
import unicodedata
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstpick.sources.label_files import first_free, match_labels, names_for, spelled, split_label
from firstpick.studies import Study

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")

from fastapi import HTTPException
from room import Room

from firstpick.board.events import Named
from firstpick.board.log import Log

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # while MONAI Label is imported

LABEL_ENDINGS = (".nii.gz", ".nrrd", ".seg.nrrd", ".mha")


def a_study(study_id, title=None, files=()):
    return Study(study_id, "stamp", f"/studies/{study_id}", title or study_id, files=files)


# -- names


def test_a_label_is_named_by_the_title_s_path_ending_off():
    assert names_for(a_study("sub/case.nii.gz"))[0] == "sub/case"
    assert names_for(a_study("1.2.3-abcdef", "CT/Thorax v1.5", files=("a",)))[0] == "CT/Thorax v1.5"


def test_a_twin_gets_another_name():
    first, twin = a_study("sub/case.nii.gz"), a_study("sub/case.nii")
    taken = {spelled(first_free(first, set()))}
    assert first_free(twin, taken) == "sub/case.nii"
    assert first_free(twin, taken | {"sub/case.nii"}).startswith("sub/case-")


@given(st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=300), st.sampled_from(LABEL_ENDINGS))
def test_a_name_is_safe_on_any_file_system_and_can_be_read_back(title, ending):
    for name in names_for(a_study("id", title)):
        parts = name.split("/")
        assert all(part and not part.startswith(".") and len(part.encode()) + len(ending) <= 255 for part in parts)
        assert not any(unicodedata.category(letter) == "Cc" for letter in name)
        assert split_label(name + ending) == (name, ending)


@given(st.lists(st.text("aA.é/\n", min_size=1, max_size=6), unique=True, max_size=12))
def test_no_two_studies_share_a_file(titles):
    taken = set()
    for number, title in enumerate(titles):
        name = spelled(first_free(a_study(f"{number}", title), taken))
        assert name not in taken
        taken.add(name)


def test_labels_of_an_earlier_datastore_are_matched_where_exactly_one_study_fits():
    studies = [a_study("a.nii.gz"), a_study("twin.nii"), a_study("twin.nii.gz"), a_study("1.2-ff", "CT", files=("x",))]
    assert match_labels(["a", "twin", "CT", "stranger"], studies) == {"a.nii.gz": "a", "1.2-ff": "CT"}
    assert match_labels(["twin"], studies[:2]) == {"twin.nii": "twin"}
    assert match_labels(["CT", "1.2-ff"], studies) == {}


# -- the datastore


@pytest.fixture
def room(tmp_path):
    made = Room(tmp_path)
    yield made
    made.end()


def test_every_study_keeps_its_label_whatever_comes_or_goes(room):
    names = ["sub/case.nii", "sub/case.nii.gz.nii", "sub/case.seg.nii", "sub/Case.nii", "other/case.nii", "sub.nii"]
    names += [unicodedata.normalize(form, "Müller.nii") for form in ("NFC", "NFD")] + [
        "new\nline.nii",
        "x" * 251 + ".nii",
    ]
    studies = [room.study(name, number) for number, name in enumerate(names)]
    room.start(studies)
    rng = random.Random(0)
    written = {}
    for number, study in enumerate(rng.sample(studies, len(studies))):
        written[study.study_id] = room.save(study.study_id, value=number + 1)
    assert len(set(written.values())) == len(studies)
    for _ in range(10):
        there = rng.sample(studies, rng.randint(1, len(studies)))
        room.list(there)
        assert {study.study_id: room.read(study.study_id) for study in there} == {
            study.study_id: written[study.study_id] for study in there
        }
        assert room.store.unmatched == []
    (room.state / "datastore" / "datastore_v2.json").write_text("rubbish")
    room.start(studies)
    assert {study.study_id: room.read(study.study_id) for study in studies} == written
    assert set(room.store.get_labeled_images()) == set(written)


def test_a_name_is_never_taken_from_a_study_that_is_away(room):
    first, twin = room.study("case.nii"), Study("case.nii.gz", "1", str(room.study("case.nii").source), "case.nii.gz")
    room.start([first])
    mine = room.save("case.nii")
    room.list([twin])
    assert room.store.get_labeled_images() == []
    room.save("case.nii.gz", value=9)
    room.list([first, twin])
    assert room.read("case.nii") == mine
    assert room.files() == ["final/case.nii", "final/case.nii.gz.nii"]


def test_labels_of_an_earlier_datastore_are_taken_over_and_what_fits_nobody_is_listed(room):
    old = room.state / "datastore" / "labels"
    for name in ("final/case.nii", "original/case.nii", "final/twin.nii", "final/stranger.nii.gz", "final/notes.txt"):
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        (old / name).write_bytes(b"from before")
    studies = [room.study("case.nii"), room.study("twin.nii"), Study("twin.nrrd", "1", "/t.nrrd", "twin.nrrd")]
    store = room.start(studies)
    assert store.get_labeled_images() == ["case.nii"]
    assert sorted(store.get_labels_by_image_id("case.nii")) == ["final", "original"]
    assert store.unmatched == ["final/stranger.nii.gz", "final/twin.nii"]
    room.save("twin.nii")
    assert (old / "final" / "twin.nii").read_bytes() == b"from before"
    assert room.read("twin.nii") != b"from before"
    assert store.unmatched == ["final/stranger.nii.gz", "final/twin.nii"]


def test_a_refused_label_changes_nothing_and_leaves_nothing(room):
    room.start([room.study("case.nii")])
    before = room.save("case.nii")
    files, info = room.files(), room.store.get_label_info("case.nii", "final")
    with pytest.raises(HTTPException) as refused:
        room.save("case.nii", shape=(5, 5, 5))
    assert refused.value.status_code == 422
    assert "5 x 5 x 5" in refused.value.detail
    assert "4 x 5 x 6" in refused.value.detail
    assert (room.files(), room.read("case.nii")) == (files, before)
    assert room.store.get_label_info("case.nii", "final") == info
    assert list((room.state / "datastore" / "incoming").iterdir()) == []


def test_the_former_label_stays_until_the_new_one_is_there(room, monkeypatch):
    room.start([room.study("case.nii")])
    before = room.save("case.nii")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("firstpick.server.label_folder.rename_durably", full)
    with pytest.raises(OSError, match="No space left"):
        room.save("case.nii", value=5)
    assert room.read("case.nii") == before


def test_what_a_label_holds_is_known_and_strange_values_are_named(room):
    room.start([room.study("case.nii"), room.study("none.nii")])
    room.save("case.nii", value=7)
    room.save("none.nii", value=0)
    info = room.store.get_label_info("case.nii", "final")
    assert (info["client_id"], info["n_voxels"], info["values"]) == ("alice", 8, [{"value": 7, "n_voxels": 8}])
    assert info["checksum"].startswith("SHA256:")
    assert room.store.get_label_info("none.nii", "final")["n_voxels"] == 0
    assert room.store.odd_labels()["unknown_values"] == [{"study_id": "case.nii", "tag": "final", "values": ["7"]}]
    assert room.desk.board.with_status("done") == {"case.nii", "none.nii"}


def test_a_label_in_another_format_replaces_the_former_and_both_go_when_it_is_deleted(room):
    room.start([room.study("case.nii")])
    room.save("case.nii", name="upload.nii")
    os.link(room.state / "datastore/labels/final/case.nii", room.state / "datastore/labels/final/case.nrrd")  # a crash
    room.save("case.nii", name="upload.nii", value=1)
    assert room.files() == ["final/case.nii"]
    room.store.remove_label("case.nii", "final")
    assert room.files() == []
    assert room.store.get_label_uri("case.nii", "final") == ""


def test_names_survive_a_corrupt_database(room):
    studies = [room.study("case.nii"), room.study("case.nii.nii", 1)]
    room.start(studies)
    written = {study.study_id: room.save(study.study_id, value=n + 1) for n, study in enumerate(studies)}
    room.end()
    (room.state / "decisions.sqlite").write_bytes(b"{ rubbish" * 500)
    for left in ("-wal", "-shm"):
        (room.state / f"decisions.sqlite{left}").unlink(missing_ok=True)
    room.start(studies)
    assert {study.study_id: room.read(study.study_id) for study in studies} == written


def test_the_name_of_a_study_s_file_ends_as_the_file_and_is_no_other_study_s(room):
    studies = [room.study("a/case.nii"), room.study("b/case.nii"), room.study("new\nline" + "x" * 230 + ".nii")]
    store = room.start(studies)
    infos = [store.get_image_info(study.study_id) for study in studies]
    assert len({info["name"] for info in infos}) == 3
    for info, study in zip(infos, studies, strict=True):
        assert info["path"] == os.path.realpath(study.source) == store.get_image_uri(study.study_id)
        assert info["name"].endswith(".nii")
        assert len(info["name"]) < 100
        assert "\n" not in info["name"]
    changed = Study("a/case.nii", "other", studies[0].source, "a/case.nii")
    room.list([changed])
    assert store.get_image_info("a/case.nii")["name"] != infos[0]["name"]


def test_decisions_keep_a_name_once_given(tmp_path):
    with closing(Log(tmp_path)) as log:
        log.append(Named(study_id="a", name="one"))
        log.append(Named(study_id="a", name="two"), Named(study_id="b", name="three"))
    with closing(Log(tmp_path)) as again:
        assert again.board.names == {"a": "one", "b": "three"}
