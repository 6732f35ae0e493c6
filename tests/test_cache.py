"""The cache: what is stored comes back, what is new is missing, what is broken is rebuilt."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from firstpick.database import StoreError, open_database
from firstpick.embedding.cache import CACHE_VERSION, Cache, Embedded
from firstpick.studies import LeftOut, Study

A, B, C = (Study(name, "1-1", f"/studies/{name}.nii") for name in "abc")


def embedded(study, *, first=1.0, thumbnail=b"png"):
    return Embedded(
        study, np.array([[first, 2, 3]], dtype=np.float32), (), thumbnail, ("first frame of 4 taken",), ".nii.gz"
    )


@pytest.fixture
def cache(tmp_path):
    cache = Cache(tmp_path)
    yield cache
    cache.close()


def test_embeddings_come_back_bit_for_bit_sorted_by_study(cache):
    cache.put("f", [embedded(B, first=np.pi), embedded(A)])
    pool = cache.pool("f", [C, B, A])
    assert pool.study_ids == ("a", "b")
    np.testing.assert_array_equal(pool.vectors, np.array([[1, 2, 3], [np.pi, 2, 3]], dtype=np.float32))


def test_a_pool_of_nothing_is_empty(cache):
    assert len(cache.pool("f", [A, B])) == 0


def test_another_recipe_or_stamp_is_missing(cache):
    cache.put("f", [embedded(A)])
    assert cache.missing("f", [A, B]) == [B]
    assert cache.missing("g", [A]) == [A]
    replaced = Study("a", "2-2", A.source)
    assert cache.missing("f", [replaced]) == [replaced]
    assert len(cache.pool("f", [replaced])) == 0


def test_failures_are_not_missing_unless_tried_again_and_vanish_with_success(cache, tmp_path):
    cache.put_failure("f", A, "a.nii is empty (0 bytes).")
    assert cache.missing("f", [A]) == []
    assert cache.missing("f", [A], retry_failed=True) == []  # not twice in one process
    with closing(Cache(tmp_path)) as of_another_process:
        assert of_another_process.missing("f", [A], retry_failed=True) == [A]
    assert cache.failures("f", [A, B]) == [LeftOut("a", "a.nii is empty (0 bytes).")]
    assert cache.failures("f", [replace(A, title="Head")])[0].title == "Head"
    cache.put("f", [embedded(A)])
    assert cache.failures("f", [A]) == []


def test_thumbnails_and_notes_come_back(cache):
    cache.put("f", [embedded(A, thumbnail=b"\x89PNG")])
    assert cache.thumbnail(A) == b"\x89PNG"
    assert cache.thumbnail(B) is None
    assert cache.notes([A, B]) == {"a": ("first frame of 4 taken",)}
    assert cache.served([A, B]) == {(A.study_id, A.stamp): ".nii.gz"}
    assert cache.served([replace(A, stamp="other")]) == {}


def test_two_processes_share_one_file(cache, tmp_path):
    other = Cache(tmp_path)
    cache.put("f", [embedded(A)])
    other.put("f", [embedded(B)])
    assert cache.missing("f", [A, B]) == other.missing("f", [A, B]) == []
    other.close()


def test_all_of_a_put_is_stored_or_nothing(cache):
    broken = Embedded(B, np.array(["x"]), (), b"", (), "")
    with pytest.raises(ValueError, match="could not convert"):
        cache.put("f", [embedded(A), broken])
    assert cache.missing("f", [A]) == [A]


@pytest.mark.parametrize("damage", ["text", "middle"])
def test_a_corrupt_file_is_kept_aside_and_built_anew(tmp_path, damage):
    cache = Cache(tmp_path)
    cache.put("f", [embedded(Study(f"s{i:04d}", "1", "x"), thumbnail=bytes(3000)) for i in range(50)])
    cache.close()
    path = tmp_path / "cache.sqlite"
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(b"not a database" * 100 if damage == "text" else content[:half] + b"\xff" * half)
    rebuilt = Cache(tmp_path)
    assert len(rebuilt.pool("f", [A])) == 0
    rebuilt.put("f", [embedded(A)])
    assert len(rebuilt.pool("f", [A])) == 1
    assert list(tmp_path.glob("cache.corrupt-*"))
    rebuilt.close()


def test_a_cache_of_a_former_schema_is_kept_aside_and_built_anew(tmp_path, caplog):
    with closing(sqlite3.connect(tmp_path / "cache.sqlite")) as connection:
        connection.execute("create table pictures (study_id text primary key, thumbnail blob, notes text)")
        connection.execute("insert into pictures values ('a', x'00', '')")
        connection.execute(f"pragma user_version = {CACHE_VERSION - 1}")
        connection.commit()
    with closing(Cache(tmp_path)) as rebuilt:
        assert rebuilt.missing("f", [A]) == [A]
        rebuilt.put("f", [embedded(A)])
        assert rebuilt.served([A]) == {(A.study_id, A.stamp): ".nii.gz"}
    (aside,) = tmp_path.glob("cache.outdated-*")
    with closing(sqlite3.connect(aside)) as connection:
        assert connection.execute("select study_id from pictures").fetchall() == [("a",)]
    assert f"an older FirstPick (schema {CACHE_VERSION - 1}): kept aside as {aside.name}" in caplog.text
    Cache(tmp_path).close()
    assert len(list(tmp_path.glob("cache.outdated-*"))) == 1


def test_a_database_of_a_former_schema_is_refused_untouched(tmp_path):
    """Only what can be made again is set aside: decisions cannot."""
    path, tables = tmp_path / "any.sqlite", "create table if not exists things (name text);"
    open_database(path, tables=tables, version=1, durable=True).close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"any\.sqlite was written by an older FirstPick \(schema 1; .*--state"):
        open_database(path, tables=tables, version=2, durable=True)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["any.sqlite"]


def test_state_of_a_newer_version_is_refused_untouched(tmp_path):
    Cache(tmp_path).close()
    with sqlite3.connect(tmp_path / "cache.sqlite") as connection:
        connection.execute(f"pragma user_version = {CACHE_VERSION + 1}")
    connection.close()
    with pytest.raises(StoreError, match=r"newer FirstPick .*Upgrade FirstPick, or choose another folder with --state"):
        Cache(tmp_path)
    assert not list(tmp_path.glob("*.corrupt-*"))


def test_a_full_disk_is_one_sentence_and_loses_nothing(cache):
    cache.put("f", [embedded(A)])
    cache._connection.execute("pragma max_page_count = 10")  # SQLite's own way to run full
    with pytest.raises(StoreError, match=r"cannot be written: database or disk is full .*Nothing done so far is lost"):
        cache.put("f", [embedded(B, thumbnail=bytes(100_000))])
    assert cache.missing("f", [A, B]) == [B]


def test_a_state_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"The state folder .* cannot be used: .*Choose another with --state"):
        Cache(tmp_path / "file" / "state")


def test_what_every_look_asks_for_is_found_without_reading_thumbnails(cache):
    for query in ("study_id, stamp, served from pictures", "study_id, notes from pictures where notes != ''"):
        ((*_, plan),) = cache._rows(f"explain query plan select {query}")
        assert "USING COVERING INDEX" in plan
