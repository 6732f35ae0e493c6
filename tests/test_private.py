"""What is written, where, and who may see it: the real server and commands, in a home of their own."""

import importlib.util
import logging
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing

import pytest
from server_process import Server, firstpick, wait_for, write_studies

from firstpick.database import keep_private, lock_folder, open_database
from firstpick.embedding.cache import Cache

FOLDERS = ("HF_HOME", "HF_TOKEN_PATH", "MPLCONFIGDIR", "TORCH_HOME")


def rights(folder):
    """The rights of a folder and all in it, by path; links apart."""
    paths = [path for path in (folder, *folder.rglob("*")) if not path.is_symlink()]
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in paths}


def open_to_others(folder):
    return {path: oct(mode) for path, mode in rights(folder).items() if mode & 0o077}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home that nobody has written to; others may read what is written without a thought."""
    home = tmp_path / "home"
    home.mkdir()
    for name in os.environ:
        if name.startswith("XDG_") or name in FOLDERS or name.endswith("_DISABLE_TELEMETRY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    before = os.umask(0o022)
    yield home
    os.umask(before)


@pytest.mark.slow
def test_a_server_writes_to_its_state_alone_and_for_its_owner_alone(home, tmp_path):
    write_studies(tmp_path / "studies", 4)
    state = tmp_path / "state"
    with Server(tmp_path / "studies", state) as server:
        wait_for(lambda: server.answers() and server.status()["state"] == "ready", 90)
        study = "study_00.nii.gz"
        server.upload(study)
        server.get("/info/")
        server.get("/firstpick/map")
        assert {"cache.sqlite-wal", "datastore/labels/final/study_00.nii.gz", "app/main.py"} <= rights(state).keys()
        assert open_to_others(state) == {}
    assert open_to_others(state) == {}
    assert [path for path in home.rglob("*") if ".cache" in path.parts] == []


def test_commands_write_to_no_cache_and_for_their_owner_alone(home, tmp_path):
    studies = write_studies(tmp_path / "studies", 4)
    fast = ("--encoder", "pixels", "--conf", "views.size", "56", "--batch-size", "2")
    assert firstpick("embed", "--studies", studies, *fast).returncode == 0
    assert firstpick("report", "--studies", studies, "--out", tmp_path / "page.html", *fast).returncode == 0
    assert firstpick("bench", "encoder", "pixels").returncode == 0
    assert [path for path in home.rglob("*") if ".cache" in path.parts] == []
    (state,) = (path.parent for path in home.rglob("cache.sqlite"))
    assert state.is_relative_to(home / ".local" / "state" / "firstpick")
    assert open_to_others(state) == {}
    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o644  # what was asked for is the user's to share


LOOK = """
from firstpick.libraries import settle_libraries
settle_libraries()
import os, time
import matplotlib, onnxruntime, huggingface_hub.constants
matplotlib.get_cachedir()
time.sleep(1)
print(huggingface_hub.constants.HF_HUB_CACHE, huggingface_hub.constants.HF_TOKEN_PATH, os.environ["MPLCONFIGDIR"])
"""


def looked(**environment):
    environment = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.split()


def test_libraries_keep_nothing_in_the_cache_and_begin_no_telemetry(home):
    if not all(importlib.util.find_spec(name) for name in ("matplotlib", "onnxruntime", "huggingface_hub")):
        pytest.skip("pip install 'firstpick[evaluate,hf,onnx]'")
    own = home / ".local" / "state" / "firstpick"
    token = home / ".cache" / "huggingface" / "token"
    assert looked() == [str(own / "huggingface" / "hub"), str(token), str(own / "matplotlib")]
    assert not (home / ".cache").exists()
    mine = home / "mine"
    assert looked(HF_HOME=str(mine))[:2] == [str(mine / "hub"), str(mine / "token")]


def test_a_database_and_its_journals_are_their_owners_alone(home, tmp_path):
    with closing(open_database(tmp_path / "new" / "a.sqlite", tables="create table t (a);", version=1, durable=True)):
        assert rights(tmp_path / "new") == {
            ".": 0o700,
            **dict.fromkeys(("a.sqlite", "a.sqlite-wal", "a.sqlite-shm"), 0o600),
        }


def older_state(folder):
    """A state folder as it was before rights were narrowed."""
    for name in ("served/ab", "datastore/labels/final"):
        (folder / name).mkdir(parents=True)
    for name in ("cache.sqlite", "served/ab/a.nii.gz", "datastore/labels/final/a.nii.gz"):
        (folder / name).touch()
    with closing(sqlite3.connect(folder / "cache.sqlite")) as connection:
        connection.execute("pragma journal_mode = wal")
    return folder


def test_wider_rights_are_narrowed_at_the_start_and_it_is_said_once(home, tmp_path, caplog):
    state = older_state(tmp_path / "state")
    outside = tmp_path / "outside"
    outside.touch()
    (state / "served" / "link").symlink_to(outside)
    assert len(open_to_others(state)) == 9
    with caplog.at_level(logging.WARNING), closing(Cache(state)):
        assert open_to_others(state) == {}
        assert "their rights to 9 files and folders were taken away" in caplog.text
    caplog.clear()
    with closing(Cache(state)):
        assert caplog.text == ""
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644


def test_a_folder_that_holds_other_things_keeps_its_rights_and_theirs(home, tmp_path, caplog):
    shared = tmp_path / "shared"
    (shared / "app").mkdir(parents=True)
    (shared / "mine.txt").touch()
    (shared / "app" / "mine.py").touch()
    keep_private(shared)
    assert open_to_others(shared).keys() == {".", "app", "mine.txt", "app/mine.py"}
    assert "holds other things too, such as" in caplog.text
    with closing(Cache(older_state(shared / "state"))):
        pass
    assert open_to_others(shared).keys() == {".", "app", "mine.txt", "app/mine.py"}


def test_what_a_killed_process_left_half_copied_is_deleted_at_the_start_and_nothing_else(tmp_path):
    state = tmp_path / "state"
    for name in (".copy-ab12/copy.sqlite", ".copy-ab12/copy.sqlite-journal", ".copy-cd34/of mine", ".copy-ef56"):
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).touch()
    before = os.umask(0o022)
    lock_folder(state, "a test")
    os.umask(before)
    assert {path.name for path in state.glob(".copy-*")} == {".copy-cd34", ".copy-ef56"}
    assert (state / ".copy-cd34" / "of mine").exists()
