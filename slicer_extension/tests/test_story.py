"""The story of a reading room, told by the module to the real server."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import slicer
from servers import Server, write_studies
from stage import HERE, wait_for

from FirstPickLib.client import Client

pytestmark = pytest.mark.server
ALICE_SAVED = Client("http://host", "alice").savedTag
LABELS = '[{name: tumour, value: 5, color: "#ff0080"}, {name: organ, value: 2, color: "#00ff00"}]'


@pytest.fixture(scope="module")
def twelve(tmp_path_factory):
    folder = tmp_path_factory.mktemp("twelve")
    return write_studies(folder / "studies", 12), folder


@pytest.fixture
def server(twelve, tmp_path):
    with Server(twelve[0], tmp_path / "state", labels=LABELS, batch_size="5") as running:
        running.wait_until_ready()
        yield running


def threshold(server, study_id, above=200):
    return np.asarray(server.study(study_id).dataobj) > above


def test_connect_read_submit(reader, server):
    reader.connect(server.address)
    ranked = [pick["study_id"] for pick in server.picks()]
    assert reader.ids() == ranked
    assert "Ready: 12 studies" in reader.ui.serverLabel.text
    first, second = ranked[:2]
    reader.press("openButton")
    assert reader.reading.studyId == first
    assert server.pick(first)["client"] == "alice"
    tumour = threshold(server, first)
    reader.draw("tumour", tumour)
    assert reader.reading.isDirty
    reader.press("submitButton")
    assert reader.reading.studyId == second, reader.message
    label = server.label(first)
    np.testing.assert_array_equal(np.asarray(label.dataobj), np.where(tumour, 5, 0))
    np.testing.assert_allclose(label.affine, server.study(first).affine, atol=1e-5)
    info = server.get("/datastore/label/info", label=first, tag="final")
    assert info["client_id"] == "alice"
    assert info["seconds"] >= 0
    assert {"name": "tumour", "idx": 5} in info["label_info"]
    assert reader.cell(first, 4) == "done by you"


def assert_label(server, study_id, expected, tag="final"):
    """The label on the server's disk is what was drawn, voxel by voxel, on the study's own grid."""
    label, study = server.label(study_id, tag), server.study(study_id)
    np.testing.assert_array_equal(np.asarray(label.dataobj), expected)
    np.testing.assert_allclose(label.affine, study.affine, atol=1e-4)


def test_a_whole_batch_of_real_volumes(reader, tmp_path):
    """Connect, batch of five, three submitted, one skipped and replaced, one resumed, all done, next batch."""
    images = HERE.parents[2] / "shared" / "data" / "hippocampus" / "images"
    if not images.is_dir():
        pytest.skip("the hippocampus volumes (shared/data beside the checkout) are not on this machine")
    studies = tmp_path / "studies"
    studies.mkdir()
    for path in sorted(images.iterdir())[:40]:
        shutil.copy2(path, studies)
    labels = "[{name: anterior, value: 1}, {name: posterior, value: 2}]"
    with Server(studies, tmp_path / "state", labels=labels, batch_size="5") as server:
        server.wait_until_ready()
        reader.connect(server.address)
        assert len(reader.ids()) == 5
        drawn = {}

        def draw():
            study_id = reader.reading.studyId
            voxels = np.asarray(server.study(study_id).dataobj)
            bright, dark = voxels > np.percentile(voxels, 90), voxels < np.percentile(voxels, 5)
            reader.draw("posterior", dark)
            reader.draw("anterior", bright)
            drawn[study_id] = np.where(bright, 1, np.where(dark, 2, 0))
            return study_id

        reader.press("openButton")
        for _ in range(3):
            study_id = draw()
            reader.press("submitButton")
            assert_label(server, study_id, drawn[study_id])

        skipped = reader.reading.studyId
        reader.ui.skipButton.click()
        assert reader.ui.skipFrame.isVisible()
        reader.ui.skipBox.setCurrentText("poor quality")
        reader.press("confirmSkipButton")
        replacement = next(pick for pick in server.picks() if pick["replaces"] == skipped)
        assert skipped in reader.ids()
        assert replacement["study_id"] in reader.ids()
        assert reader.logic.worklist.row(skipped).skippedBecause == "poor quality"

        put_aside = draw()
        reader.press("saveButton")
        assert not reader.reading.isDirty
        assert server.pick(put_aside)["status"] == "reserved"
        assert_label(server, put_aside, drawn[put_aside], ALICE_SAVED)
        reader.press("closeButton")
        assert reader.reading is None
        reader.open(put_aside)
        assert "Resumed your saved work" in reader.message
        assert not reader.reading.isDirty
        reader.press("submitButton")
        assert_label(server, put_aside, drawn[put_aside])

        draw()
        reader.press("submitButton")
        assert reader.reading is None
        assert reader.ui.allDoneFrame.isVisible()
        assert "All done" in reader.message
        assert server.get("/firstpick/status")["n_labelled"] == 5
        for study_id, expected in drawn.items():
            assert_label(server, study_id, expected)

        reader.ui.batchSizeBox.value = 4
        reader.press("newBatchButton")
        assert not reader.ui.allDoneFrame.isVisible()
        fresh = [row.studyId for row in reader.logic.worklist.picks]
        assert len(fresh) == 4
        assert not set(fresh) & {*drawn, skipped}


def test_two_readers_never_get_the_same_study(reader, another_reader, server):
    reader.connect(server.address, "Zoë")
    another_reader.connect(server.address, "bob")
    seen = []
    for one in (reader, another_reader):
        one.press("openButton")
        seen.append(one.reading.studyId)
    assert len(set(seen)) == 2
    another_reader.refresh()
    assert another_reader.cell(seen[0], 4) == "in progress by Zoë"
    another_reader.open(seen[0])
    assert "in progress by Zoë" in another_reader.message
    assert another_reader.reading is None
    for _ in range(2):
        for one in (reader, another_reader):
            if one.reading is None:
                one.press("openButton")
            one.draw("organ", threshold(server, one.reading.studyId))
            seen.append(one.reading.studyId)
            one.press("submitButton")
    done = [pick for pick in server.picks() if pick["status"] == "done"]
    assert {pick["client"] for pick in done} == {"Zoë", "bob"}
    assert len(done) == 4


def test_an_expired_reservation_is_taken_over_and_its_holder_is_told_before_submitting(reader, another_reader, server):
    reader.connect(server.address, "alice")
    reader.press("openButton")
    study_id = reader.reading.studyId
    reader.draw("tumour", threshold(server, study_id))

    server.let_half_an_hour_pass()
    reader.refresh()  # nobody came: it is taken again
    wait_for(lambda: server.pick(study_id)["client"] == "alice")
    assert not reader.reading.lost

    server.let_half_an_hour_pass()
    another_reader.connect(server.address, "bob")
    another_reader.open(study_id)
    assert another_reader.reading.studyId == study_id
    assert server.pick(study_id)["client"] == "bob"
    reader.refresh()
    assert "in progress by bob" in reader.ui.stateLabel.text
    reader.press("submitButton")
    assert "in progress by bob" in reader.message
    assert server.pick(study_id)["status"] == "reserved"
    reader.press("noButton")
    reader.press("closeButton")  # the work stays saved
    assert_label(server, study_id, np.where(threshold(server, study_id), 5, 0), ALICE_SAVED)
    another_reader.draw("organ", threshold(server, study_id, 100))
    another_reader.press("submitButton")
    assert server.pick(study_id)["client"] == "bob"
    assert_label(server, study_id, np.where(threshold(server, study_id, 100), 2, 0))


def test_a_done_study_is_reopened_with_its_segments(reader, server):
    reader.connect(server.address)
    reader.press("openButton")
    study_id = reader.reading.studyId
    tumour, organ = (
        threshold(server, study_id, 400),
        threshold(server, study_id, 100) & ~threshold(server, study_id, 400),
    )
    reader.draw("tumour", tumour)
    reader.draw("organ", organ)
    reader.press("submitButton")
    reader.press("closeButton")
    reader.open(study_id)  # the button says Reopen
    segmentation = reader.reading.segmentation.GetSegmentation()
    names = [segmentation.GetNthSegment(i).GetName() for i in range(segmentation.GetNumberOfSegments())]
    assert names == ["tumour", "organ"]
    np.testing.assert_allclose(
        segmentation.GetSegment(segmentation.GetSegmentIdBySegmentName("tumour")).GetColor(), (1, 0, 128 / 255)
    )
    assert "final label" in reader.message
    assert not reader.reading.isDirty
    for name, mask in (("tumour", tumour), ("organ", organ)):
        got = slicer.util.arrayFromSegmentBinaryLabelmap(
            reader.reading.segmentation, segmentation.GetSegmentIdBySegmentName(name), reader.reading.volume
        )
        np.testing.assert_array_equal(got.T != 0, mask)
    assert server.pick(study_id)["status"] == "reserved"
    reader.draw("organ", np.zeros_like(organ))
    reader.press("submitButton")
    assert_label(server, study_id, np.where(tumour, 5, 0))


def test_a_reopened_study_that_is_given_back_unchanged_is_done_again(reader, server):
    reader.connect(server.address)
    reader.press("openButton")
    study_id = reader.reading.studyId
    organ = threshold(server, study_id)
    reader.draw("organ", organ)
    reader.press("submitButton")
    reader.press("closeButton")
    reader.open(study_id)  # the button says Reopen
    assert server.pick(study_id)["status"] == "reserved"
    assert server.get("/firstpick/status")["n_labelled"] == 0
    reader.press("closeButton")
    assert "unchanged: done as before" in reader.message
    assert reader.cell(study_id, 4) == "done by you"
    assert server.get("/firstpick/status")["n_labelled"] == 1
    assert_label(server, study_id, np.where(organ, 2, 0))


def test_a_study_that_two_readers_read_is_done_with_the_second_reading(reader, another_reader, twelve, tmp_path):
    alice, bob = reader, another_reader
    with Server(twelve[0], tmp_path / "state", labels=LABELS, batch_size="2", readers_per_study="2") as server:
        server.wait_until_ready()
        alice.connect(server.address, "alice")
        first, second = alice.ids()
        by_alice, by_bob = (threshold(server, first, above) for above in (200, 400))
        alice.press("openButton")
        alice.draw("organ", by_alice)
        alice.press("submitButton")
        assert alice.message == f"Your reading of {first} is saved; another reader reads it too."
        assert alice.reading.studyId == second
        assert (alice.cell(first, 4), server.pick(first)["status"]) == ("read by you", "open")
        alice.draw("organ", threshold(server, second))
        alice.press("submitButton")
        assert "waits for another reader" in alice.message
        assert alice.reading is None
        assert not alice.ui.allDoneFrame.isVisible()
        alice.ui.table.clearSelection()
        assert not alice.ui.openButton.enabled
        alice.open(first)
        assert "another reader's turn" in alice.message
        assert alice.reading is None

        bob.connect(server.address, "bob")
        assert bob.cell(first, 4) == "second reading, first by alice"
        bob.press("openButton")
        assert bob.reading.studyId == first
        assert bob.ui.reasonLabel.text.splitlines()[-1] == "Second reading, first by alice."
        assert bob.message == ""  # alice's label is not loaded
        assert bob.reading.findings().nDrawn == 0
        bob.draw("tumour", by_bob)
        bob.press("submitButton")
        assert bob.message == f"Submitted {first}."
        assert_label(server, first, np.where(by_bob, 5, 0))
        bob.press("closeButton")

        alice.refresh()
        assert alice.cell(first, 4) == "done by bob"
        assert [line.partition(",")[0] for line in alice.ui.readersLabel.text.splitlines()] == [
            "You: 2 done",
            "bob: 1 done",
        ]
        for _ in range(2):
            alice.open(first)
            assert "Loaded your reading" in alice.message
            segments = alice.reading.segmentation.GetSegmentation()
            organ = segments.GetSegmentIdBySegmentName("organ")
            got = slicer.util.arrayFromSegmentBinaryLabelmap(alice.reading.segmentation, organ, alice.reading.volume)
            np.testing.assert_array_equal(got.T != 0, by_alice)
            alice.press("closeButton")
            assert "unchanged: done as before" in alice.message
            assert (alice.cell(first, 4), server.pick(first)["read_by"]) == ("done by bob", ["alice", "bob"])
        assert_label(server, first, np.where(by_bob, 5, 0))
        assert_label(server, first, np.where(by_alice, 2, 0), alice.logic.client.readingTag)
        status = server.get("/firstpick/status")
        assert {one["client"]: one["n_done"] for one in status["readers"]} == {"alice": 2, "bob": 1}


def test_a_skip_is_undone(reader, server):
    reader.connect(server.address)
    study_id = reader.ids()[2]
    reader.widget.table.select(study_id)
    reader.logic.skip(study_id, "wrong anatomy")
    reader.wait()
    assert len(reader.ids()) == 6
    reader.ui.filterBox.currentIndex = 4
    assert reader.ids() == [study_id]
    assert "wrong anatomy" in reader.ui.table.item(0, 2).toolTip()
    reader.widget.table.select(study_id)
    assert reader.ui.openButton.text == "Undo skip"
    reader.press("openButton")
    assert reader.ids() == []
    assert server.get("/firstpick/status")["n_skipped"] == 0


def test_a_study_that_was_deleted_on_the_server_is_said_to_be_gone(reader, twelve, tmp_path):
    studies = shutil.copytree(twelve[0], tmp_path / "studies", copy_function=shutil.copy2)
    with Server(studies, tmp_path / "state", labels=LABELS, batch_size="5") as server:
        server.wait_until_ready()
        reader.connect(server.address)
        gone, opened = reader.ids()[0], reader.ids()[1]
        reader.open(opened)
        mask = threshold(server, opened)
        reader.draw("organ", mask)
        for study_id in (gone, opened):
            (studies / study_id).unlink()
        wait_for(lambda: server.get("/firstpick/status")["n_pool"] == 10)
        reader.press("submitButton")
        assert f"'{opened}' is not in the studies folder" in reader.message
        assert "kept on this computer" in reader.message
        assert reader.reading.isDirty
        kept = reader.logic.kept.read(reader.logic.client, opened)
        label = nib.load(reader.logic.kept.path(kept.label))
        np.testing.assert_array_equal(np.asarray(label.dataobj), np.where(mask, 2, 0))
        reader.logic.open(gone)
        reader.wait()
        assert f"'{gone}' is not in the studies folder" in reader.message


def test_names_in_any_script_and_pictures_in_two_dimensions(reader, tmp_path):
    studies = tmp_path / "studies"
    (studies / "été #1").mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = ["été #1/сердце & 心臓?.mha", "été #1/b%20c.mha", "plain.mha"]
    for name in names:
        pixels = rng.integers(0, 80, (30, 40)).astype(np.uint8)
        pixels[5:12, 20:33] = 250
        header = "ObjectType = Image\nNDims = 2\nDimSize = 40 30\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
        (studies / name).write_bytes(header.encode() + pixels.tobytes())
    with Server(studies, tmp_path / "state", labels=LABELS, batch_size="3") as server:
        server.wait_until_ready()
        reader.connect(server.address, "Łukasz ß/7")
        assert sorted(reader.ids()) == sorted(names)
        study_id = names[0]
        reader.open(study_id)
        assert reader.reading.volume.GetImageData().GetDimensions() == (40, 30, 1)
        assert server.pick(study_id)["client"] == "Łukasz ß/7"
        mask = slicer.util.arrayFromVolume(reader.reading.volume).T > 200
        assert mask.sum() == 7 * 13
        reader.draw("tumour", mask)
        reader.press("saveButton")
        reader.press("submitButton")
        label = np.asarray(server.label(study_id).dataobj)
        assert (label == 5).sum() == 7 * 13
        np.testing.assert_array_equal(label.squeeze(), np.where(mask, 5, 0).squeeze())
        wait_for(lambda: reader.widget.table._icons)


def assert_same_place(one, other):
    """Two images have the same values at the same places, however their axes run."""
    one, other = nib.as_closest_canonical(one), nib.as_closest_canonical(other)
    np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
    np.testing.assert_allclose(one.affine, other.affine, atol=1e-4)


def test_a_study_in_a_format_that_slicer_does_not_read_is_prepared_and_labelled_where_it_lies(reader, tmp_path):
    studies = write_studies(tmp_path / "studies", 3)
    image = nib.load(studies / "study_02.nii.gz")
    nib.save(nib.MGHImage(np.asarray(image.dataobj).astype(np.int16), image.affine), studies / "scan.mgz")
    with Server(studies, tmp_path / "state", labels=LABELS, batch_size="4") as server:
        server.wait_until_ready()
        reader.connect(server.address)
        reader.open("scan.mgz")
        assert reader.reading.cached.endswith(".nii.gz"), reader.message
        voxels = slicer.util.arrayFromVolume(reader.reading.volume).T
        assert_same_place(nib.load(reader.reading.cached), server.study("scan.mgz"))
        reader.draw("organ", voxels > 200)
        reader.press("submitButton")
        study = server.study("scan.mgz")
        organ = np.where(np.asarray(study.dataobj) > 200, 2, 0).astype(np.uint8)
        assert_same_place(server.label("scan.mgz"), nib.Nifti1Image(organ, study.affine))


def test_a_label_of_another_grid_is_refused_in_a_sentence_and_kept(reader, server, monkeypatch):
    reader.connect(server.address)
    reader.press("openButton")
    study_id = reader.reading.studyId
    reader.draw("organ", threshold(server, study_id))
    write = reader.logic.kept.write

    def write_half(*arguments, **more):
        kept = write(*arguments, **more)
        path = reader.logic.kept.path(kept.label)
        label = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(label.dataobj)[::2].copy(), label.affine), path)
        return kept

    monkeypatch.setattr(reader.logic.kept, "write", write_half)
    reader.press("submitButton")
    assert f"The label of study '{study_id}' was not saved." in reader.message
    assert "kept on this computer" in reader.message
    assert reader.reading.isDirty
    assert server.pick(study_id)["status"] == "reserved"
    monkeypatch.undo()
    reader.press("submitButton")
    assert_label(server, study_id, np.where(threshold(server, study_id), 2, 0))


def test_a_study_on_another_computer_is_streamed_and_the_next_one_fetched_ahead(reader, server, monkeypatch):
    monkeypatch.setattr("FirstPickLib.studyfile.isHere", lambda info: False)
    reader.connect(server.address)
    reader.press("openButton")
    first = reader.reading
    assert Path(first.cached).read_bytes() == (server.studies / first.studyId).read_bytes()
    wait_for(lambda: not reader.logic.files.isFetchingAhead)
    ahead = set(Path(reader.logic.cacheFolder).iterdir()) - {Path(first.cached)}
    assert [path.stat().st_size for path in ahead] == [(server.studies / reader.ids()[1]).stat().st_size]
    reader.draw("organ", threshold(server, first.studyId))
    reader.press("submitButton")
    assert not Path(first.cached).exists()
    assert {Path(reader.reading.cached)} == ahead


def test_all_done_and_everything_taken_are_said(reader, another_reader, server):
    reader.connect(server.address, "alice")
    another_reader.connect(server.address, "bob")
    for study_id in reader.ids()[1:]:
        server.post("/firstpick/reserve", study_id=study_id, client_id="bob")
    reader.press("openButton")
    reader.draw("organ", threshold(server, reader.reading.studyId))
    reader.press("submitButton")
    assert "in progress by others" in reader.message
    assert reader.reading is None
    assert not reader.ui.openButton.enabled


def test_time_is_counted_on_over_saved_work(reader, server):
    reader.connect(server.address)
    reader.press("openButton")
    study_id = reader.reading.studyId
    reader.reading.active._last -= 100
    reader.draw("organ", threshold(server, study_id))
    reader.press("closeButton")
    assert 100 <= server.get("/datastore/label/info", label=study_id, tag=ALICE_SAVED)["seconds"] < 130
    reader.open(study_id)
    reader.reading.active._last -= 50
    reader.press("submitButton")
    assert 150 <= server.get("/datastore/label/info", label=study_id, tag="final")["seconds"] < 190
