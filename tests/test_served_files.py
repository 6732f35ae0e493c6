"""Files that readers open: made by workers, ahead or when somebody asks, within a limit."""

import os
import re
from concurrent import futures
from concurrent.futures import Future

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

pytest.importorskip("fastapi", reason="pip install 'firstpick[server]'")

from conftest import Phantom
from fastapi import HTTPException

from firstpick.server.served import ServedFiles
from firstpick.sources.folder import list_studies
from firstpick.workers import ProcessExpired


class Later:
    """An executor whose tasks run when the test says so."""

    def __init__(self):
        self.waiting = []

    def submit(self, function, *args):
        self.waiting.append((Future(), function, args))
        return self.waiting[-1][0]

    def asked(self):
        return [args[0].study_id for _, _, args in self.waiting]

    def run(self, error=None):
        """Run the first task, or let it fail."""
        future, function, args = self.waiting.pop(0)
        if error is not None:
            future.set_exception(error)
            return
        try:
            future.set_result(function(*args))
        except Exception as raised:  # noqa: BLE001
            future.set_exception(raised)

    def run_all(self):
        while self.waiting:
            self.run()


class Room:
    """Four series and a file, and their served files."""

    def __init__(self, folder, limit_bytes=1e9):
        self.phantom = Phantom(folder / "studies")
        for number in range(4):
            self.phantom.series(f"s{number}", uid=f"1.2.{number}")
        self.phantom.nifti("plain.nii.gz")
        self.executor = Later()
        self.files = ServedFiles(folder / "served", limit_bytes, self.executor)
        self.list()
        self.series = sorted(i for i, study in self.studies.items() if study.is_series)
        self.plain = next(i for i, study in self.studies.items() if not study.is_series)

    def list(self, *, are_read=True):
        self.studies = {study.study_id: study for study in list_studies(self.phantom.folder)[0]}
        endings = {(i, s.stamp): ".nii.gz" if s.is_series else "" for i, s in self.studies.items()}
        self.files.take_listing(self.studies, endings if are_read else {})

    def refused(self, study_id):
        with pytest.raises(HTTPException) as refused:
            self.files.open(study_id)
        return refused.value

    def on_disk(self):
        return sorted(path for path in self.files.folder.rglob("*") if path.is_file())

    def is_there(self):
        return [study_id for study_id in self.series if self.files.is_ready(study_id)]


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path)


def test_a_file_that_is_served_as_it_lies_is_there_at_once(room):
    assert str(room.files.open(room.plain)) == os.path.realpath(room.studies[room.plain].source)
    assert room.executor.waiting == []


def test_asking_never_makes_a_file_but_has_it_made(room):
    first = room.series[0]
    answer = room.refused(first)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "being prepared" in answer.detail
    assert room.executor.asked() == [first]
    room.refused(first)
    assert room.executor.asked() == [first]
    room.executor.run_all()
    path = room.files.open(first)
    assert path.name.endswith(".nii.gz")
    assert path == room.files.place(first).resolve()
    assert sitk.ReadImage(str(path)).GetSize() == (10, 12, 8)


def test_what_somebody_asks_for_goes_before_what_is_wanted_ahead(room):
    room.files.take_wanted(room.series[:3], set())
    assert room.executor.asked() == [room.series[0]]
    room.files.ask(room.series[3])
    made = []
    while room.executor.waiting:
        made += room.executor.asked()
        room.executor.run()
    assert made == [room.series[0], room.series[3], *room.series[1:3]]


def test_a_study_that_cannot_be_served_is_refused_with_the_reason_until_it_changes(room):
    broken = room.series[1]
    for path in (room.phantom.folder / "s1").iterdir():
        path.write_bytes(path.read_bytes()[:-50])
    room.list()
    assert room.refused(broken).status_code == 503
    room.executor.run_all()
    answer = room.refused(broken)
    assert answer.status_code == 422
    assert broken in answer.detail
    assert room.executor.waiting == []
    room.phantom.series("s1", uid="1.2.1")
    room.list()
    assert room.refused(broken).status_code == 503
    room.executor.run_all()
    assert room.files.open(broken).exists()


def test_a_study_that_hangs_or_ends_its_worker_is_refused_and_not_tried_again(room):
    for study_id, error, reason in [
        (room.series[0], futures.TimeoutError(), r"Reading it took longer than the time limit\."),
        (room.series[1], ProcessExpired(-9), r"Reading it ended the process \(exit code -9\)"),
    ]:
        assert room.refused(study_id).status_code == 503
        room.executor.run(error)
        assert re.search(reason, room.refused(study_id).detail)
        assert room.refused(study_id).status_code == 422
        assert room.executor.asked() == []


def test_a_full_disk_is_nobody_s_fault_and_is_tried_again(room):
    first = room.series[0]
    room.refused(first)
    room.executor.run(OSError(28, "No space left on device"))
    answer = room.refused(first)
    assert (answer.status_code, "No space left" in answer.detail) == (507, True)
    room.executor.run_all()
    assert room.files.open(first).exists()


def test_how_a_study_is_served_is_found_out_when_nobody_read_it_yet(room):
    room.list(are_read=False)
    unread = ServedFiles(room.files.folder, 1e9, room.executor)
    unread.take_listing(room.studies, {})
    assert unread.place(room.plain) is None
    for study_id in (room.plain, room.series[0]):
        with pytest.raises(HTTPException, match="being prepared"):
            unread.open(study_id)
    room.executor.run_all()
    assert str(unread.open(room.plain)) == os.path.realpath(room.studies[room.plain].source)
    assert unread.open(room.series[0]).exists()


def test_a_changed_study_gets_a_new_file_and_the_old_one_goes(room):
    first = room.series[0]
    room.files.take_wanted(room.series, set())
    room.executor.run_all()
    before = room.files.open(first)
    room.phantom.array = np.roll(room.phantom.array, 2, axis=2)
    room.phantom.series("s0", uid="1.2.0")
    room.list()
    assert not before.exists()
    assert room.refused(first).status_code == 503
    room.executor.run_all()
    assert room.files.open(first) != before
    for path in (room.phantom.folder / "s3").iterdir():
        path.unlink()
    room.list()
    assert len(room.on_disk()) == 3


def test_nothing_is_left_of_a_worker_that_was_killed(room):
    room.files.folder.mkdir()
    (room.files.folder / ".123-half.nii.gz").write_bytes(b"half a file")
    ServedFiles(room.files.folder, 1e9, room.executor).take_listing(room.studies, {})
    assert room.on_disk() == []


def size_of_one(folder):
    room = Room(folder)
    room.files.take_wanted(room.series[:1], set())
    room.executor.run_all()
    return room.on_disk()[0].stat().st_size


@pytest.fixture
def small(tmp_path):
    """Room for two files and a half."""
    return Room(tmp_path / "small", limit_bytes=2.5 * size_of_one(tmp_path / "one"))


def test_what_was_not_opened_for_longest_goes_first(small, monkeypatch):
    times = iter(range(1000, 2000))
    monkeypatch.setattr("firstpick.server.served.time.time", lambda: next(times))
    monkeypatch.setattr("firstpick.server.served._KEPT_WHILE_SENT_S", 0)
    for study_id in small.series[:2]:
        small.files.ask(study_id)
        small.executor.run_all()
    for study_id in (small.series[1], small.series[0]):
        small.files.open(study_id)
    small.files.ask(small.series[2])
    small.executor.run_all()
    assert small.is_there() == [small.series[0], small.series[2]]


def test_a_reserved_study_s_file_stays_whatever_the_limit(small, monkeypatch):
    monkeypatch.setattr("firstpick.server.served._KEPT_WHILE_SENT_S", 0)
    small.files.take_wanted(small.series[:2], set(small.series[:2]))
    small.executor.run_all()
    small.files.take_wanted((), set(small.series[:2]))
    for study_id in small.series[2:]:
        small.refused(study_id)
        small.executor.run_all()
        small.files.open(study_id)  # ready for the repeat
    assert set(small.is_there()) >= set(small.series[:2])
    assert len(small.on_disk()) == 3


def test_wanted_ahead_keeps_to_the_limit_and_does_not_go_round_in_circles(small):
    small.files.take_wanted(small.series, set())
    small.executor.run_all()
    assert small.is_there() == small.series[:2]
    small.files.take_wanted(small.series, set())
    assert small.executor.waiting == []
