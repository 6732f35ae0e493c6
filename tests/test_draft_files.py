"""Drafts on the disk: what was written whole is there again, what was not is gone."""

import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")

from firstpick.config import ConfigError, load_config
from firstpick.server.draft_files import DraftFiles, DraftRecord
from firstpick.voxels.labels import checksum

NAMES = ["a.nii.gz", "ward/ä b.nii.gz", "../x", "line\nbreak", "\udcff.png"]


def made(files, study_id, content=b"a mask", **more):
    path = files.new_path(study_id)
    path.write_bytes(content)
    known = {"stamp": "1-1", "marks": ("m1", "m2"), "dice": 0.8, "unsure": 0.1, "n_voxels": {"block": 3}, "ts": 5.0}
    record = DraftRecord(study_id=study_id, checksum=checksum(path), **{**known, **more})
    files.keep(record)
    return record


@pytest.mark.parametrize("study_id", NAMES[:4])
def test_a_draft_is_there_again_under_whatever_name(tmp_path, study_id):
    record = made(DraftFiles(tmp_path / "ready"), study_id)
    again = DraftFiles(tmp_path / "ready")
    assert again.records == {study_id: record}
    assert again.path(study_id).read_bytes() == b"a mask"
    assert {path.parent.parent for path in tmp_path.rglob("draft.nii.gz")} == {tmp_path / "ready"}


def test_a_fetched_draft_stays_marked(tmp_path):
    files = DraftFiles(tmp_path)
    made(files, "a")
    files.take("a")
    files.take("unknown")
    assert DraftFiles(tmp_path).records["a"].is_taken


def test_what_is_not_whole_is_gone_at_the_next_start(tmp_path):
    files = DraftFiles(tmp_path)
    for study_id in ("whole", "changed", "no record", "no mask", "bad record"):
        made(files, study_id)
    files.path("changed").write_bytes(b"another")  # killed between mask and record
    (files.path("no record").parent / "draft.json").unlink()
    files.path("no mask").unlink()
    (files.path("bad record").parent / "draft.json").write_text("{")
    (tmp_path / "stray").write_text("x")
    again = DraftFiles(tmp_path)
    assert list(again.records) == ["whole"]
    assert [path.name for path in tmp_path.iterdir()] == [again.path("whole").parent.name]


def test_a_dropped_draft_is_gone(tmp_path):
    files = DraftFiles(tmp_path)
    made(files, "a")
    made(files, "b")
    files.drop("a")
    files.drop("a")
    assert list(files.records) == list(DraftFiles(tmp_path).records) == ["b"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("drafts.ahead", 0, "ahead must be at least 1; got 0"),
        ("drafts.min_dice", 1.5, "min_dice must be between 0 and 1; got 1.5"),
        ("stop.dice", -1, "dice must be between 0 and 1; got -1"),
        ("stop.last", 0, "last must be at least 1; got 0"),
    ],
)
def test_what_cannot_be_is_refused(key, value, said):
    with pytest.raises(ConfigError, match=said):
        load_config(None, {key: value})
