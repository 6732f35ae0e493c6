"""The work list in process: titles for readers, ids for programs; and picks that nobody can open."""

import gzip
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")

from fastapi import HTTPException
from server_process import wait_for

from firstpick.board.events import Labelled, Named, Proposed, SavedLabel
from firstpick.board.log import Log
from firstpick.config import load_config
from firstpick.database import StoreError
from firstpick.embedding.cache import Cache, Embedded
from firstpick.studies import LeftOut, Study
from firstpick.workers import LocalPool

with warnings.catch_warnings():  # of what MONAI Label imports
    warnings.simplefilter("ignore")
    from firstpick.server.answers import NewProposal
    from firstpick.server.datastore import StudiesDatastore
    from firstpick.server.desk import Desk
    from firstpick.server.filing import Filing
    from firstpick.server.label_folder import LabelFolder
    from firstpick.server.proposer import Proposer
    from firstpick.server.served import ServedFiles
    from firstpick.server.snapshot import Snapshot
    from firstpick.server.worklist import Worklist

STUDIES = [Study(f"1.2.840.{n}-0a1b2c", "1-1", f"/studies/{n}", f"Knee {n}: T1 sag") for n in range(6)]
BROKEN = Study("1.2.840.9-0a1b2c", "1-1", "/studies/9", "Knee 9: T1 sag")
LEFT_OUT = LeftOut("1.2.840.7-0a1b2c", "A localizer.", "Knee 7: scout")
TITLES = {study.study_id: study.title for study in [*STUDIES, BROKEN]}


@pytest.fixture
def worklist(tmp_path):
    """The work list of a server that has six studies, and one that cannot be read."""
    (tmp_path / "studies").mkdir()
    config = load_config(None, {"encoder": "pixels", "batch_size": "2"})
    cache, desk = Cache(tmp_path), Desk(Log(tmp_path))
    pool = LocalPool(n_workers=1)
    served = ServedFiles(tmp_path / "served", 1e9, pool)
    filing = Filing(tmp_path / "incoming", tmp_path / "served", set(), pool)
    folder, labels = str(tmp_path / "studies"), tmp_path / "datastore"
    label_folder = LabelFolder(labels / "labels", n_versions=1, is_new=True)
    datastore = StudiesDatastore(folder, labels, desk=desk, labels=label_folder, served=served, filing=filing)
    now = Snapshot(config, cache)
    proposer = Proposer(config, desk, now, served)
    worklist = Worklist(config, desk, datastore, now=now, proposer=proposer)
    vectors = np.random.default_rng(0).normal(size=(6, 1, 4)).astype(np.float32)
    cache.put(
        worklist.now.fingerprint, [Embedded(*one, (), b"PNG", (), "") for one in zip(STUDIES, vectors, strict=True)]
    )
    cache.put_failure(worklist.now.fingerprint, BROKEN, "It is empty.")
    datastore.update([*STUDIES, BROKEN], {})
    now.take_listing([*STUDIES, BROKEN], [LEFT_OUT])
    now.take_pool()
    proposer._keep_standing("kmeans")
    yield worklist
    pool.close()
    cache.close()
    desk.close()


def test_picks_points_and_lists_have_titles_beside_their_ids(worklist):
    picks = worklist.proposal().picks
    assert [pick.title for pick in picks] == [TITLES[pick.study_id] for pick in picks]
    for pick in picks:
        assert set(pick.lookalikes) <= TITLES.keys()
        assert all(TITLES[like] in pick.reason for like in pick.lookalikes[:2])
        assert "0a1b2c" not in pick.reason
    points = json.loads(gzip.decompress(worklist.map()))["points"]
    assert {point["study_id"]: point["title"] for point in points} == {s.study_id: s.title for s in STUDIES}
    worklist.reserve(picks[0].study_id, "alice")
    status = worklist.status()
    (held,) = status.readers[0].studies
    assert (held.study_id, held.title) == (picks[0].study_id, picks[0].title)
    for lists in (status, worklist.proposal()):
        assert [*lists.failed] == [LeftOut(BROKEN.study_id, "It is empty.", BROKEN.title)]
        assert [*lists.left_out] == [LEFT_OUT]


def test_long_lists_come_in_pages(worklist):
    now = worklist.now
    left_out = [LeftOut(f"{n}", "A localizer.") for n in range(2500)]
    now.take_listing([*STUDIES, BROKEN], left_out)
    status = worklist.status()
    assert status.left_out == left_out[:1000] == [*worklist.proposal().left_out]
    assert status.progress.left_out == 2500
    pages = [now.listed_page("left_out", offset, 1000) for offset in (0, 1000, 2000, 3000)]
    assert [study for page in pages for study in page.studies] == left_out
    assert [(page.total, page.offset, len(page.studies)) for page in pages[2:]] == [(2500, 2000, 500), (2500, 3000, 0)]
    assert [*now.listed_page("failed", 0, 9).studies] == [LeftOut(BROKEN.study_id, "It is empty.", BROKEN.title)]


def test_notes_come_in_pages_and_for_each_study(worklist):
    first, second = (study.study_id for study in STUDIES[:2])
    worklist.now.more_notes = {first: ["Cut.", "Turned."], second: ["Cut."]}
    status = worklist.status()
    assert (status.notes, status.n_noted) == (worklist.now.more_notes, 2)
    (noted,) = worklist.now.listed_page("noted", 0, 1).studies
    assert noted == LeftOut(first, "Cut.; Turned.", STUDIES[0].title)
    assert [worklist.notes(study.study_id) for study in STUDIES[:3]] == [["Cut.", "Turned."], ["Cut."], []]
    with pytest.raises(HTTPException, match="nobody"):
        worklist.notes("nobody")


def test_a_refusal_says_the_title(worklist):
    study = STUDIES[3]
    worklist.reserve(study.study_id, "alice")
    for refused in (
        lambda: worklist.reserve(study.study_id, "bob"),
        lambda: worklist.release(study.study_id, "bob"),
        lambda: worklist.skip(study.study_id, "bob", "blurred"),
    ):
        with pytest.raises(HTTPException) as refusal:
            refused()
        assert refusal.value.detail.startswith("Study 'Knee 3: T1 sag' is in progress by alice until ")
    for missing in (worklist.lookalikes, worklist.now.thumbnail):
        with pytest.raises(HTTPException, match="Knee 9: T1 sag"):
            missing(BROKEN.study_id)


def test_a_heartbeat_after_the_end_of_a_reservation_keeps_what_its_reader_was_given(worklist):
    order = worklist._proposer.order("random", NewProposal(strategy="random", batch_size=6))
    worklist._proposer._make_ordered()
    order.result()
    study_id = worklist.proposal().picks[0].study_id
    worklist.reserve(study_id, "alice", "random")
    worklist._desk._start += 1801  # half an hour later
    assert worklist._desk.status(study_id).status == "open"
    assert worklist.heartbeat(study_id, "alice").status == "reserved"
    assert worklist._desk.board.statuses[study_id].given["alice"].strategy == "random"


def test_a_pick_that_cannot_be_opened_is_replaced_and_not_proposed_again(worklist):
    before = [pick.study_id for pick in worklist.proposal().picks]
    with pytest.raises(HTTPException) as asked:
        worklist._datastore.get_image_uri(before[0])  # there is no such file
    assert asked.value.status_code == 503
    wait_for(lambda: worklist._datastore.served.refused() == {before[0]}, what="the refusal")
    worklist._proposer._keep_standing("kmeans")
    picks = worklist.proposal().picks
    assert before[0] not in {pick.study_id for pick in picks}
    assert {pick.replaces for pick in picks} == {"", before[0]}
    order = worklist._proposer.order("kmeans", NewProposal(batch_size=5))
    worklist._proposer._make_ordered()
    again = order.result()
    assert {pick.study_id for pick in again.picks} == TITLES.keys() - {before[0], BROKEN.study_id}


def test_a_skip_whose_batch_cannot_be_mended_now_is_told_as_done_and_mended_later(worklist, monkeypatch):
    first = worklist.proposal().picks[0].study_id
    append = Log.append

    def full(log, *events):
        if any(isinstance(event, Proposed) for event in events):
            message = "database or disk is full"
            raise StoreError(message)
        return append(log, *events)

    monkeypatch.setattr(Log, "append", full)
    assert worklist.skip(first, "alice", "blurred").status == "skipped"
    assert "disk is full" in worklist.status().notice
    monkeypatch.undo()
    worklist._proposer.try_work()
    assert {pick.replaces for pick in worklist.proposal().picks} == {"", first}
    assert worklist.status().notice == ""


def test_a_batch_that_was_skipped_altogether_leaves_the_server_ready(worklist):
    for study in STUDIES:
        worklist.skip(study.study_id, "alice", "blurred")
    assert worklist._desk.board.proposals["kmeans"].picks == ()
    worklist._proposer.work()
    assert worklist._proposer.is_ready


def test_a_study_that_vanished_is_not_handed_out_again(worklist):
    worklist._datastore.served._endings = {(study.study_id, study.stamp): "" for study in STUDIES}
    first, second = [worklist.next_sample("kmeans", "alice")["id"] for _ in range(2)]
    here = [study for study in STUDIES if study.study_id != first]
    worklist._datastore.update(here, {(study.study_id, study.stamp): "" for study in here})
    worklist.now.take_listing(here, [])
    assert worklist.next_sample("kmeans", "alice")["id"] == second


def test_what_keeps_batches_from_being_made_is_told_until_it_is_over(worklist, monkeypatch):
    def fails(*_, **__):
        raise MemoryError(9)

    proposer = worklist._proposer
    with monkeypatch.context() as patch:
        patch.setattr("firstpick.server.proposer.prepare", fails)
        proposer.try_work()
        assert "cannot be made or mended (9)" in worklist.status().notice
        assert worklist.proposal().picks
    proposer.try_work()
    assert worklist.status().notice == ""


def test_readers_need_not_wait_for_the_batch_after_the_first(worklist):
    proposer = worklist._proposer
    worklist._datastore.served._endings = {(study.study_id, study.stamp): "" for study in STUDIES}
    proposer.work()
    assert proposer.is_ready
    assert proposer._following == {}
    proposer.work()
    assert len(proposer._following["kmeans"].following) == 2


def test_a_skip_does_not_choose_the_batch_after_the_next_anew(worklist):
    proposer = worklist._proposer
    proposer.is_ready = True
    batch = proposer._make("kmeans", NewProposal(batch_size=3))
    guessed = proposer._next_best(batch)
    worklist.skip(batch.picks[0].study_id, "alice", "blurred")
    assert proposer._next_best(proposer.standing("kmeans")) is guessed
    assert proposer._next_best(proposer._make("kmeans", NewProposal(batch_size=1))) is not guessed


def test_a_look_makes_anew_what_changed_alone_and_counts_follow_labels(worklist):
    store, board = worklist._datastore, worklist._desk
    before, status = dict(store._datastore.objects), store.status()
    assert status == {"total": 7, "completed": 0, "label_tags": {}}
    changed = replace(STUDIES[1], stamp="2-2")
    store.update([STUDIES[0], changed, *STUDIES[2:]], {})
    now = store._datastore.objects
    assert now[STUDIES[0].study_id] is before[STUDIES[0].study_id]
    assert now[changed.study_id] is not before[changed.study_id]
    assert store.status()["total"] == 6
    assert json.loads(store.as_json()) == store._datastore.model_dump(exclude={"base_path"})
    label = SavedLabel(".nii.gz", "1-1", {"ts": 1})
    store._decide([Named(study_id=changed.study_id, name="one")])
    store._decide([Labelled(study_id=changed.study_id, tag="final", client="alice", label=label)])
    assert board.board.status(changed.study_id, 0.0).status == "done"
    assert store.status() == {"total": 6, "completed": 1, "label_tags": {"final": 1}}
    texts = dict(store._text._kept)
    assert json.loads(store.as_json()) == store._datastore.model_dump(exclude={"base_path"})
    assert {i for i, (_, text) in store._text._kept.items() if text is not texts[i][1]} == {changed.study_id}
