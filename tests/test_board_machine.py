"""Anything that readers, files, disks and clocks may do, in any order, held against what was acknowledged.

Desk, log, label folder, datastore, proposer and work list are the real ones, in one process and without threads. A
`Book` beside them is told what was acknowledged and keeps the rules in plain words; after every step both must agree.
"""

import atexit
import contextlib
import functools
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")

from fastapi import HTTPException
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from pydantic_core import to_jsonable_python
from room import Room

from firstpick.board.events import FINAL, READING, reading_tag
from firstpick.board.log import read_log
from firstpick.config import load_config
from firstpick.database import StoreError
from firstpick.embedding.cache import Cache, Embedded
from firstpick.server import proposer as proposer_module
from firstpick.server.answers import NewProposal
from firstpick.server.proposer import Proposer
from firstpick.server.snapshot import Snapshot
from firstpick.server.worklist import Worklist
from firstpick.studies import Slice

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # while MONAI Label is imported

NAMES = ("a/case.nii", "b.nii", "c.nii", "case.nii", "late.nii", "later.nii")
READERS = ("alice", "bob", "carol")
STRATEGIES = ("kcenter", "random", "kmeans")
CONFIG = {
    "encoder": "pixels",
    "unit": "slice",
    "strategy": "kcenter",
    "batch_size": "4",
    "duplicates": "0",
    "starts": "1",
}
MINUTE, DAY = 60.0, 86_400.0
HALF_AN_HOUR, FOUR_HOURS = 30 * MINUTE, 240 * MINUTE

names, readers = st.sampled_from(NAMES), st.sampled_from(READERS)
clients, strategies = st.sampled_from([*READERS, ""]), st.sampled_from(STRATEGIES)
tags = st.sampled_from([FINAL, FINAL, FINAL, "saved-x"])
endings = st.sampled_from([".nii", ".nii", ".nrrd"])
listings = st.just(sorted(NAMES)) | st.just(sorted(NAMES)) | st.sets(names).map(sorted)
numbers = st.integers(0, 2 * len(NAMES) - 1)
"""Which study: half of them any, half of them one of those that are apt."""


# -- what stands behind the routes


class Clock:
    """Takes the place of `time`: the wall clock jumps, the other one goes on by what a test waits."""

    def __init__(self):
        self.jumped = self.ran = 0.0

    def __getattr__(self, name):
        return getattr(time, name)

    def time(self):
        return 1.8e9 + self.jumped + self.ran

    def monotonic(self):
        self.ran += 0.001
        return self.ran


@functools.cache
def archive():
    """Studies with three slices each, embedded once for all."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    room, config = Room(folder), load_config(None, CONFIG)
    studies = {name: room.study(name, seed) for seed, name in enumerate(NAMES)}
    cache = Cache(folder)
    vectors = np.random.default_rng(0).normal(size=(len(NAMES), 3, 4)).astype(np.float32)
    slices = tuple(Slice("axial", index, 12.0 * index) for index in range(3))
    embedded = [
        Embedded(study, own, slices, b"PNG", (), "") for study, own in zip(studies.values(), vectors, strict=True)
    ]
    cache.put(config.encoder_spec.fingerprint(), embedded)
    return config, cache, studies


class House(Room):
    """A room with batches and a work list."""

    def __init__(self, folder, readers_per_study):
        super().__init__(folder, readers_per_study=readers_per_study)
        self.config, self.cache, self.studies = archive()

    def start(self, listed):
        self.now = Snapshot(self.config, self.cache)
        self.proposer = None
        super().start([])
        self.proposer = Proposer(self.config, self.desk, self.now, self.store.served)
        self.worklist = Worklist(self.config, self.desk, self.store, now=self.now, proposer=self.proposer)
        self.list(listed)

    def list(self, listed):
        """Do with a listing what the embedder does."""
        studies = [self.studies[name] for name in listed]
        self.store.update(studies, {(study.study_id, study.stamp): "" for study in studies})
        self.now.take_listing(studies, [])
        self.store.sync_labels()
        self.now.take_pool()
        if self.proposer is not None:
            self.proposer.work()

    def mask(self, number, ending=".nii"):
        """A label like no other."""
        return self.label(1 + number % 250, f"upload{ending}", corner=1 + number // 250)


# -- what was acknowledged


@dataclass
class Entry:
    """What is known of one study."""

    status: str = "open"
    client: str = ""
    until: float = 0.0
    taken: int = 0
    is_anonymous: bool = False
    reopened_by: str | None = None
    given: dict[str, tuple[Slice, ...]] = field(default_factory=dict)  # the newest last
    of: tuple[Slice, ...] | None = None
    files: dict[str, tuple[bytes, str, bool]] = field(default_factory=dict)  # content, whose, sent or put by hand
    read_by: list[str] = field(default_factory=list)
    is_read_anonymously: bool = False

    def open(self):
        self.status, self.client, self.until, self.is_anonymous = "open", "", 0.0, False

    def readings(self):
        return [reader for tag, (_, reader, _) in self.files.items() if tag.startswith(READING)]

    def close(self):
        self.open()
        self.status, self.client, self.reopened_by = "done", self.files[FINAL][1], None
        self.read_by = self.readings()


class Book:
    """The rules in plain words."""

    def __init__(self, clock, readers_per_study):
        self.clock, self.readers_per_study = clock, readers_per_study
        self.entries = {name: Entry() for name in NAMES}
        self.batches = {}  # the newest last
        self.n_taken = 0
        self.lapsed = []

    def __getitem__(self, name):
        entry = self.entries[name]
        if entry.status == "reserved" and entry.until <= self.clock.ran:
            self.lapsed.append((entry, entry.client, entry.until, entry.is_anonymous))
            entry.open()
        return entry

    def forget_time(self, last):
        """Start again: how long nothing was decided nobody knows then, and what ran out meanwhile goes on."""
        self.clock.ran = last
        for entry, client, until, is_anonymous in self.lapsed:
            if until > last:
                entry.status, entry.client, entry.until, entry.is_anonymous = "reserved", client, until, is_anonymous
        self.lapsed.clear()

    def has(self, name, client):
        return self[name].status == "reserved" and self[name].client == client

    def may_take(self, name, client):
        return self[name].status == "open" and client not in self[name].read_by

    def is_offered(self, name, client):
        return self.may_take(name, client) and (client or not self[name].is_read_anonymously)

    def is_closed_to(self, name, client):
        return self[name].status == "reserved" and self[name].client != client

    def take(self, name, client, seconds, slices, *, is_anonymous=False):
        entry = self[name]
        until = self.clock.ran + seconds
        if self.has(name, client):
            entry.until = max(entry.until, until)
            return
        entry.status, entry.client, entry.until, entry.is_anonymous = "reserved", client, until, is_anonymous
        self.n_taken += 1
        entry.taken = self.n_taken
        if slices is not None:
            entry.given.pop(client, None)
            entry.given[client] = slices

    def give_back(self, name, client):
        entry = self[name]
        if entry.status == "reserved" or (entry.status == "open" and entry.reopened_by == client):
            entry.open()
            if entry.reopened_by == client and FINAL in entry.files:
                entry.close()

    def skip(self, name, client):
        self[name].open()
        self[name].status, self[name].client = "skipped", client

    def unskip(self, name):
        if self[name].status == "skipped":
            self[name].open()

    def reopen(self, name, client):
        entry = self[name]
        if entry.status == "done":
            entry.open()
            entry.reopened_by = client
            again = client if client in entry.read_by else (entry.read_by or [None])[-1]
            entry.read_by = [reader for reader in entry.read_by if reader != again]

    def save(self, name, client, tag, content):
        entry = self[name]
        reader = client or (entry.client if entry.status == "reserved" else "")
        if tag != FINAL:
            self.file(name, tag, content, reader)
        elif self.readers_per_study == 1:
            self.finish(name, content, reader)
        elif not reader:
            self.file(name, f"unclaimed-{hashlib.sha256(content).hexdigest()[:8]}", content, "")
        else:
            is_last = len({*entry.read_by, reader}) >= self.readers_per_study
            self.file(name, reading_tag(reader), content, reader)
            entry.read_by = [one for one in entry.read_by if one != reader] + [reader]
            if self.has(name, reader):
                entry.is_read_anonymously |= entry.is_anonymous
                entry.open()
            if is_last:
                self.finish(name, content, reader)

    def file(self, name, tag, content, reader, *, is_sent=True):
        self[name].files.pop(tag, None)
        self[name].files[tag] = (content, reader, is_sent)

    def finish(self, name, content, reader, *, is_sent=True):
        entry = self[name]
        newest = (batch.picks for batch in reversed([*self.batches.values()]))
        proposed = next((pick.slices for picks in newest for pick in picks if pick.study_id == name), ())
        given = entry.given.get(reader, next(reversed([*entry.given.values()]), proposed))
        if entry.of is None:
            entry.of = given
        else:
            entry.of = tuple(sorted({*entry.of, *given})) if entry.of and given else ()
        self.file(name, FINAL, content, reader, is_sent=is_sent)
        entry.close()

    def delete(self, name, tag):
        entry = self[name]
        _, reader, _ = entry.files.pop(tag)
        if tag == FINAL:
            reader = reader or (entry.read_by or [None])[-1]
            entry.of, entry.reopened_by = None, None
            if entry.status == "done":
                entry.open()
        if tag == FINAL or tag.startswith(READING):
            entry.read_by = [one for one in entry.read_by if one != reader]

    def n_done(self):
        done = Counter()
        for entry in self.entries.values():
            done.update(entry.readings() or ([entry.client] if entry.status == "done" else []))
        return {client: n for client, n in done.items() if client}


# -- what may happen


class Machine(RuleBasedStateMachine):
    """Readers, files, disks and clocks."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.patch = pytest.MonkeyPatch()
        self.clock = Clock()
        for module in ("server.desk", "server.datastore", "server.label_folder", "board.log", "board.board"):
            self.patch.setattr(f"firstpick.{module}.time", self.clock)
        self.meanwhile = None
        self.patch.setattr(proposer_module, "propose", functools.partial(self.made, proposer_module.propose))
        self.number = 0
        self.house = None

    def teardown(self):
        if self.house is not None:
            self.house.end()
        self.patch.undo()
        shutil.rmtree(self.folder)

    def made(self, choose, *args, **kwargs):
        """Make a batch; what happens meanwhile happens before it is the standing one."""
        proposal = choose(*args, **kwargs)
        action, self.meanwhile = self.meanwhile, None
        if action:
            action()
        return proposal

    @initialize(readers_per_study=st.sampled_from([1, 1, 2]), listed=listings)
    def begin(self, readers_per_study, listed):
        self.house = House(self.folder, readers_per_study)
        self.book = Book(self.clock, readers_per_study)
        self.listed = listed
        self.seen, self.last = None, 0.0
        self.house.start(listed)

    def study(self, number, is_apt):
        """Choose a study, from half of the numbers one that is apt; the machine would rarely do what matters else."""
        apt = [name for name in NAMES if is_apt(self.book[name])] if number >= len(NAMES) else []
        return (apt or NAMES)[number % len(apt or NAMES)]

    @property
    def board(self):
        return self.house.desk.board

    @contextlib.contextmanager
    def refused(self, *codes):
        """Whatever is refused says so and changes nothing."""
        before, files = self.board, self.house.files()
        with pytest.raises(HTTPException) as refusal:
            yield
        assert refusal.value.status_code in codes, refusal.value
        assert refusal.value.detail
        assert self.board is before
        assert self.house.files() == files

    def on(self, name, is_allowed, ask):
        """Ask for something of one study, and be refused if the book says so; tell whether it was acknowledged."""
        if name not in self.listed or not is_allowed:
            with self.refused(409 if name in self.listed else 404):
                ask()
            return False
        ask()
        return True

    # readers

    @rule(client=clients, strategy=strategies)
    def ask(self, client, strategy):
        """Ask for the next sample."""
        standing = self.board.proposals.get(strategy)
        if standing is None:
            with contextlib.suppress(HTTPException):
                assert self.house.worklist.next_sample(strategy, client) == {}
            self.house.proposer.work()
            return
        book, picks = self.book, [pick for pick in standing.picks if pick.study_id in self.listed]
        free = [pick for pick in picks if book.is_offered(pick.study_id, client)]
        own = sorted((book[name].taken, name) for name in self.listed if client and book.has(name, client))
        left = sorted(
            (book[name].taken, name)
            for name in self.listed
            if not client and book[name].is_anonymous and book[name].until - FOUR_HOURS + HALF_AN_HOUR <= self.clock.ran
        )
        sample = self.house.worklist.next_sample(strategy, client)
        reader = sample["firstpick"]["client"] if sample else client
        assert reader == (client or reader)
        if free:
            assert sample["id"] == free[0].study_id
            book.take(free[0].study_id, reader, FOUR_HOURS, free[0].slices, is_anonymous=not client)
        elif own or left:
            assert sample["id"] == (own or left)[0][1]
            entry = book[sample["id"]]
            slices = entry.given.get(entry.client)
            if left:
                entry.open()
            book.take(sample["id"], reader, FOUR_HOURS, slices, is_anonymous=not client)
        else:
            assert sample == {}

    @rule(client=clients, number=numbers, strategy=st.just("") | strategies)
    def reserve(self, client, number, strategy):
        name = self.study(number, lambda entry: entry.status == "open")
        batches = self.board.proposals
        found = [
            pick.slices
            for one in dict.fromkeys([strategy, self.house.config.strategy, *batches])
            if one in batches
            for pick in batches[one].picks
            if pick.study_id == name
        ]
        answers = []
        is_allowed = self.book.has(name, client) or self.book.may_take(name, client)
        if self.on(name, is_allowed, lambda: answers.append(self.house.worklist.reserve(name, client, strategy))):
            assert answers[0].client == (client or answers[0].client)
            self.book.take(name, answers[0].client, HALF_AN_HOUR, found[0] if found else None)

    @rule(client=readers, number=numbers)
    def heartbeat(self, client, number):
        name = self.study(number, lambda entry: entry.client == client)
        is_allowed = self.book.has(name, client) or self.book.may_take(name, client)
        if self.on(name, is_allowed, lambda: self.house.worklist.heartbeat(name, client)):
            self.book.take(name, client, HALF_AN_HOUR, None)

    @rule(client=readers, number=numbers)
    def release(self, client, number):
        name = self.study(number, lambda entry: client in (entry.client, entry.reopened_by) and entry.status != "done")
        is_allowed = not self.book.is_closed_to(name, client)
        if self.on(name, is_allowed, lambda: self.house.worklist.release(name, client)):
            self.book.give_back(name, client)

    @rule(client=clients, number=numbers)
    def skip(self, client, number):
        name = self.study(number, lambda entry: entry.status == "open")
        is_allowed = not self.book.is_closed_to(name, client) and self.book[name].status != "done"
        if self.on(name, is_allowed, lambda: self.house.worklist.skip(name, client, "blurred")):
            self.book.skip(name, client)

    @rule(client=clients, number=numbers)
    def unskip(self, client, number):
        name = self.study(number, lambda entry: entry.status == "skipped")
        if self.on(name, True, lambda: self.house.worklist.unskip(name, client)):
            self.book.unskip(name)

    @rule(client=clients, number=numbers)
    def reopen(self, client, number):
        name = self.study(number, lambda entry: entry.status == "done")
        if self.on(name, True, lambda: self.house.worklist.reopen(name, client)):
            self.book.reopen(name, client)

    @rule(client=clients, number=numbers, tag=tags, ending=endings)
    def upload(self, client, number, tag=FINAL, ending=".nii"):
        name = self.study(number, lambda entry: client and entry.client == client and entry.status == "reserved")
        self.number += 1
        path = self.house.mask(self.number, ending)
        info = {"client_id": client, "seconds": 60} if client else {"seconds": 60}
        if self.on(name, True, lambda: self.house.store.save_label(name, str(path), tag, info)):
            self.book.save(name, client, tag, path.read_bytes())

    @rule(client=clients, number=numbers, tag=tags, how=st.sampled_from(["grid", "cut", "empty", "text"]))
    def upload_what_is_no_label(self, client, number, tag, how):
        name = self.study(number, lambda entry: tag in entry.files)
        path = self.house.label(shape=(5, 5, 5) if how == "grid" else (4, 5, 6))
        content = path.read_bytes()
        path.write_bytes({"grid": content, "cut": content[:400], "empty": b"", "text": b"no label"}[how])
        with self.refused(422 if name in self.listed else 404):
            self.house.store.save_label(name, str(path), tag, {"client_id": client})
        assert list((self.house.labels.parent / "incoming").iterdir()) == []

    @rule(number=numbers, tag=tags)
    def delete(self, number, tag):
        name = self.study(number, lambda entry: tag in entry.files)
        if tag in self.book[name].files and name in self.listed:
            self.house.store.remove_label(name, tag)
            self.book.delete(name, tag)
        else:
            with self.refused(404):
                self.house.store.remove_label(name, tag)

    # batches

    @rule(strategy=strategies, batch_size=st.integers(1, 6), upload=st.none() | st.tuples(clients, numbers))
    def propose(self, strategy, batch_size, upload):
        """Make a new batch, while a label may come."""
        former = self.board.proposals.get(strategy)
        here = [pick.study_id for pick in former.picks if pick.study_id in self.listed] if former else []
        held = [name for name in here if self.book[name].status == "reserved"]
        if upload:
            self.meanwhile = functools.partial(self.upload, *upload)
        order = self.house.proposer.order(strategy, NewProposal(batch_size=batch_size))
        self.house.proposer._make_ordered()
        self.meanwhile = None
        if error := order.exception():
            assert error.status_code in (409, 503)
            assert error.detail
            return
        picks = [pick.study_id for pick in order.result().picks]
        assert all(self.book[name].status not in ("done", "skipped") for name in picks)
        still_held = [name for name in held if self.book[name].status == "reserved"]
        assert [name for name in picks[: len(held)] if name in still_held] == still_held

    # whole stories, which chance alone tells too seldom

    @rule(client=readers, number=st.integers(0, len(NAMES) - 1))
    def look_at_a_label_again(self, client, number):
        """Label a study, reopen it and give it back unchanged."""
        for step in (self.upload, self.reopen, self.release):
            step(client, number)
            self.all_agree()

    @rule(client=readers, first=strategies, other=strategies)
    def label_what_another_batch_has_too(self, client, first, other):
        """Take a pick of one batch; another strategy's is made before its label comes."""
        self.propose(first, 2, None)
        self.all_agree()
        self.ask(client, first)
        self.propose(other, 6, None)
        self.all_agree()
        for name in [name for name in self.listed if self.book.has(name, client)][:1]:
            self.upload(client, NAMES.index(name))

    # files, disks and clocks

    @rule(listed=listings)
    def list(self, listed):
        """Studies come, go, or none can be seen."""
        self.listed = listed
        self.house.list(listed)

    @rule(number=numbers, tag=tags)
    def delete_by_hand(self, number, tag):
        name = self.study(number, lambda entry: tag in entry.files)
        if tag in self.book[name].files:
            for path in self.house.store._labels.files_of(self.board.names[name], tag):
                path.unlink()
            self.house.store.sync_labels()
            self.book.delete(name, tag)

    @rule(name=names, tag=tags)
    def put_by_hand(self, name, tag):
        if name not in self.listed and name not in self.board.names:
            return
        self.number += 1
        content = self.house.mask(self.number).read_bytes()
        file = self.board.names.get(name, name.removesuffix(".nii"))
        for path in self.house.store._labels.files_of(file, tag):
            path.unlink()
        path = self.house.labels / tag / f"{file}.nii"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.house.store.sync_labels()
        if tag == FINAL:
            self.book.finish(name, content, "", is_sent=False)
        else:
            self.book.file(name, tag, content, "", is_sent=False)

    @rule(name=names)
    def copy_back(self, name):
        """Give labels another time: they are the same labels."""
        for tag, (_, _, is_sent) in self.book[name].files.items():
            for path in self.house.store._labels.files_of(self.board.names[name], tag) if is_sent else []:
                os.utime(path, (1e9 + self.number, 1e9 + self.number))
        self.house.store.sync_labels()

    @rule(client=readers, number=numbers)
    def empty_mount_point(self, client, number):
        """Put an empty folder in the place of the labels for a while."""
        away = self.house.labels.with_name("away")
        self.house.labels.rename(away)
        self.house.labels.mkdir()
        with contextlib.suppress(StoreError):
            self.house.store.sync_labels()
        with contextlib.suppress(StoreError):
            self.upload(client, number)
        shutil.rmtree(self.house.labels)
        away.rename(self.house.labels)
        self.house.store.sync_labels()

    @rule(is_killed=st.booleans(), is_mounted=st.booleans())
    def restart(self, is_killed, is_mounted):
        """End and start again, the studies folder being there or not yet."""
        (self.house.kill if is_killed else self.house.end)()
        self.book.forget_time(self.last)
        self.house.start(self.listed if is_mounted else [])
        self.house.list(self.listed)

    @rule(how=st.sampled_from(["corrupt", "cut", "empty", "missing"]))
    def lose_the_log(self, how):
        """Damage what was copied before: it is restored."""
        self.house.desk.back_up()
        self.house.kill()
        path = self.house.state / "decisions.sqlite"
        if how == "missing":
            path.unlink()
        else:
            path.write_bytes({"corrupt": b"rubbish" * 999, "cut": path.read_bytes()[:5000], "empty": b""}[how])
        self.book.forget_time(self.last)
        self.house.start(self.listed)
        assert "restored from its copy" in self.house.desk.notice

    @rule(minutes=st.sampled_from([11, 31, 31, 241]))
    def wait(self, minutes):
        self.clock.ran += minutes * MINUTE

    @rule(days=st.sampled_from([-400, 400]))
    def set_the_clock(self, days):
        self.clock.jumped += days * DAY

    # what holds after every step

    @invariant()
    def all_agree(self):
        if self.house is not None:
            self.nobody_gets_a_done_study_in_a_batch()
            self.nothing_acknowledged_is_lost()
            self.a_label_is_of_what_its_reader_was_given()
            self.what_is_replayed_is_what_is_in_memory()
            self.monai_label_sees_the_same()
            self.the_status_tells_all_that()

    def nobody_gets_a_done_study_in_a_batch(self):
        for strategy, batch in self.board.proposals.items():
            former = self.book.batches.get(strategy)
            if batch is former:
                continue
            fresh = {pick.study_id for pick in batch.picks} - {
                pick.study_id for pick in (former.picks if former else ())
            }
            assert all(self.book[name].status not in ("done", "skipped") for name in fresh)
            self.book.batches.pop(strategy, None)
            self.book.batches[strategy] = batch

    def nothing_acknowledged_is_lost(self):
        for name in NAMES:
            entry, status = self.book[name], self.house.desk.status(name)
            assert (status.status, status.client) == (entry.status, entry.client), name
            assert status.read_by == tuple(entry.read_by), name
            assert status.labels.keys() == entry.files.keys(), name
            for tag, (content, reader, is_sent) in entry.files.items():
                (path,) = self.house.store._labels.files_of(self.board.names[name], tag)
                assert path.read_bytes() == content, (name, tag)
                label = status.labels[tag]
                assert str(label.info.get("client_id", "")) == reader, (name, tag)
                if is_sent:
                    assert (label.seconds, label.checksum) == (60, f"SHA256:{hashlib.sha256(content).hexdigest()}")

    def a_label_is_of_what_its_reader_was_given(self):
        done = {name: self.book[name].of for name in NAMES if self.book[name].status == "done"}
        assert self.board.annotated == done

    def what_is_replayed_is_what_is_in_memory(self):
        assert read_log(self.house.state)[0] == self.board
        if self.board is not self.seen:
            self.seen, self.last = self.board, self.clock.ran

    def monai_label_sees_the_same(self):
        store, labelled = self.house.store, {name for name in self.listed if FINAL in self.book[name].files}
        assert set(store.list_images()) == set(self.listed)
        assert set(store.get_labeled_images()) == labelled
        assert set(store.get_unlabeled_images()) == set(self.listed) - labelled
        for name in self.listed:
            assert store.get_labels_by_image_id(name).keys() == self.book[name].files.keys()
            for tag, (content, reader, _) in self.book[name].files.items():
                assert str(store.get_label_info(name, tag).get("client_id", "")) == reader
                assert Path(store.get_label_uri(name, tag)).read_bytes() == content

    def the_status_tells_all_that(self):
        status = self.house.worklist.status()
        to_jsonable_python(status)
        assert status.n_labelled == sum(self.book[name].status == "done" for name in self.listed)
        assert {reader.client: reader.n_done for reader in status.readers if reader.n_done} == self.book.n_done()
        held = {study.study_id: reader.client for reader in status.readers for study in reader.studies}
        assert held == {name: self.book[name].client for name in NAMES if self.book[name].status == "reserved"}


CALM = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # a failure that is made shorter takes minutes
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
    max_examples=25,
    stateful_step_count=30,
)


@pytest.fixture(autouse=True)
def _quiet():
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def test_board_and_book_agree():
    run_state_machine_as_test(Machine, settings=CALM)


@pytest.mark.slow
def test_board_and_book_agree_for_long():
    run_state_machine_as_test(Machine, settings=settings(CALM, max_examples=100, stateful_step_count=60))
