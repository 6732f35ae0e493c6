"""Nothing that was drawn is lost: on any way out, while the server is away, when Slicer is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import qt
import slicer
from servers import Server, write_studies
from stage import HERE, Reader, wait_for
from test_story import ALICE_SAVED, LABELS, assert_label, threshold

pytestmark = pytest.mark.server
COLOR = (0.2, 0.4, 0.6)


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    return write_studies(tmp_path_factory.mktemp("drawing") / "studies", 8)


@pytest.fixture
def server(studies, tmp_path):
    with Server(studies, tmp_path / "state", labels=LABELS, batch_size="6") as running:
        running.wait_until_ready()
        yield running


def box(reader, corner=3):
    mask = np.zeros(reader.reading.volume.GetImageData().GetDimensions(), bool)
    mask[corner : corner + 4, 4:9, 2:6] = True
    return mask


def add_segment(reader, mask, name="Segment_1"):
    """What the editor's + Add does, and strokes that may go over other segments."""
    inner = reader.reading.segmentation.GetSegmentation()
    inner.AddEmptySegment(name, name, COLOR)
    inner.SeparateSegmentLabelmap(name)
    reader.draw(name, mask)


def drawn(reader):
    """The voxels of each segment that is not empty, by name."""
    inner = reader.reading.segmentation.GetSegmentation()
    found = {}
    for number in range(inner.GetNumberOfSegments()):
        segment_id = inner.GetNthSegmentID(number)
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(
            reader.reading.segmentation, segment_id, reader.reading.volume
        )
        if mask is not None and mask.any():
            found[inner.GetNthSegment(number).GetName()] = mask.T != 0
    return found


def assert_drawn(reader, expected):
    found = drawn(reader)
    assert found.keys() == expected.keys()
    for name, mask in expected.items():
        np.testing.assert_array_equal(found[name], mask)


def choose(reader, text):
    """Take the choice that begins so of those that the question offers."""
    choices = [reader.ui.choiceBox.itemText(i) for i in range(reader.ui.choiceBox.count)]
    assert reader.ui.questionFrame.isVisible(), reader.message
    (number,) = [i for i, choice in enumerate(choices) if choice.startswith(text)]
    reader.ui.choiceBox.currentIndex = number
    reader.press("yesButton")


def kept_files(reader):
    folder = Path(reader.logic.kept.folder)
    return sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


WAYS = {
    "saveButton": lambda reader: reader.press("saveButton"),
    "nextButton": lambda reader: reader.press("nextButton"),
    "previousButton": lambda reader: reader.press("previousButton"),
    "closeButton": lambda reader: reader.press("closeButton"),
    "open": lambda reader: (reader.logic.open(reader.ids()[4]), reader.wait()),
}


def test_no_way_out_loses_a_segment_that_the_server_does_not_know(reader, server):
    reader.connect(server.address)
    study_id = reader.ids()[1]
    for name, leave in WAYS.items():
        reader.open(study_id)
        tumour, other = box(reader), box(reader, 5)
        reader.draw("tumour", tumour)
        add_segment(reader, other, f"Segment_{name}")
        leave(reader)
        assert f"no label 'Segment_{name}' (80 voxels drawn)" in reader.message, name
        assert reader.reading.studyId == study_id
        choose(reader, "Save it as it is")
        saved = server.get(f"/firstpick/labels/{study_id}", client_id="alice")[0]
        assert (saved["tag"], saved["ending"], saved["n_voxels"]) == (ALICE_SAVED, ".seg.nrrd", 160), name
        if reader.reading:
            reader.press("closeButton")
        reader.open(study_id)
        assert "Resumed your saved work" in reader.message
        assert_drawn(reader, {"tumour": tumour, f"Segment_{name}": other})
        inner = reader.reading.segmentation.GetSegmentation()
        color = inner.GetSegment(inner.GetSegmentIdBySegmentName(f"Segment_{name}")).GetColor()
        np.testing.assert_allclose(color, COLOR, atol=1e-6)
        assert not reader.reading.isDirty
        inner.RemoveSegment(inner.GetSegmentIdBySegmentName(f"Segment_{name}"))
        reader.press("closeButton")
        assert server.get(f"/firstpick/labels/{study_id}", client_id="alice")[0]["ending"] == ".nii.gz"
        assert kept_files(reader) == []


def test_a_skip_a_closed_scene_another_server_and_the_end_keep_everything(reader, server, studies, tmp_path):
    reader.connect(server.address)
    skipped, closed, left, ended = reader.ids()[:4]

    def draw(study_id):
        reader.open(study_id)
        add_segment(reader, box(reader, 5))
        reader.draw("tumour", box(reader))
        return {"tumour": box(reader), "Segment_1": box(reader, 5)}

    expected = draw(skipped)
    reader.logic.skip(skipped, "poor quality")
    choose(reader, "Save it as it is")
    assert server.get("/firstpick/status")["n_skipped"] == 1
    assert server.get(f"/firstpick/labels/{skipped}", client_id="alice")[0]["n_voxels"] == 160
    reader.press("closeButton")

    draw(closed)
    slicer.mrmlScene.Clear(0)
    assert "is kept" in reader.message
    wait_for(lambda: kept_files(reader) == [])
    assert server.get(f"/firstpick/labels/{closed}", client_id="alice")[0]["n_voxels"] == 160
    reader.open(closed)
    assert_drawn(reader, expected)
    reader.press("closeButton")

    draw(left)
    with Server(studies, tmp_path / "other", labels=LABELS) as other:
        other.wait_until_ready()
        reader.connect(other.address)
        choose(reader, "Save it as it is")
        assert reader.reading is None
        assert reader.logic.client.address == other.address
        assert server.get(f"/firstpick/labels/{left}", client_id="alice")[0]["n_voxels"] == 160
        reader.connect(server.address)

    draw(ended)
    reader.close()
    again = Reader()
    again.connect(server.address)
    again.open(ended)
    assert_drawn(again, expected)
    again.close()


def test_a_submit_asks_what_becomes_of_what_a_label_file_cannot_hold(reader, server):
    reader.connect(server.address)
    reader.press("openButton")
    study_id = reader.reading.studyId
    tumour, organ, mine, more = box(reader), box(reader, 6), box(reader, 10), box(reader, 1)
    reader.draw("tumour", tumour)
    inner = reader.reading.segmentation.GetSegmentation()
    inner.SeparateSegmentLabelmap("organ")
    reader.draw("organ", organ)
    add_segment(reader, mine)
    add_segment(reader, more, "Segment_2")
    add_segment(reader, more, "Segment_3")
    inner.GetSegment("organ").SetName("Organ ")
    reader.press("submitButton")
    assert "no label 'Organ '" in reader.message
    assert reader.ui.choiceBox.itemText(0) == "Make it 'organ'"
    reader.press("noButton")
    assert_drawn(reader, {"tumour": tumour, "Organ ": organ, "Segment_1": mine, "Segment_2": more, "Segment_3": more})
    reader.press("submitButton")
    choose(reader, "Make it 'organ'")
    choose(reader, "Make it 'tumour'")
    choose(reader, "Discard it")
    choose(reader, "Move it to a copy on this computer")
    overlap = int((organ & (tumour | mine)).sum())
    assert f"Segments overlap in {overlap} voxels (tumour, organ)" in reader.message
    choose(reader, "Give these to 'tumour'")
    assert f"Submitted {study_id}." in reader.message
    assert_label(server, study_id, np.where(tumour | mine, 5, np.where(organ, 2, 0)))
    copies = sorted((Path(reader.logic.kept.folder) / "copies").iterdir())
    assert len(copies) == 2
    assert all(path.name in reader.message for path in copies)
    read = slicer.vtkMRMLSegmentationStorageNode()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    read.SetFileName(str(copies[0]))
    assert read.ReadData(node)
    names = [node.GetSegmentation().GetNthSegment(i).GetName() for i in range(4)]
    assert "Segment_3" in names
    slicer.mrmlScene.RemoveNode(node)


def test_a_killed_slicer_goes_on_where_it_was(reader, server, settings):
    study_id = server.picks()[0]["study_id"]
    command = [sys.executable, HERE / "reader_process.py", settings, server.address, study_id]
    with (settings / "child.log").open("w") as log:
        child = subprocess.Popen([str(part) for part in command], stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: (settings / "kept").exists() or child.poll() is not None, 60)
        assert child.poll() is None, (settings / "child.log").read_text()
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait(timeout=10)
    server.let_half_an_hour_pass()
    assert server.pick(study_id)["status"] == "open"
    reader.connect(server.address)
    assert reader.cell(study_id, 4) == "kept here, not sent"
    wait_for(lambda: "is saved there" in reader.message)
    assert (server.pick(study_id)["status"], server.pick(study_id)["client"]) == ("reserved", "alice")
    assert reader.cell(study_id, 4) == "in progress by you"
    reader.open(study_id)
    mask = box(reader)
    assert_drawn(reader, {"tumour": mask, "Segment_1": np.roll(mask, 2, axis=0)})
    assert kept_files(reader) == []


def test_every_change_is_kept_soon_and_only_changes_are(reader, server):
    qt.QSettings().setValue("FirstPick/autosaveSeconds", 1)
    reader.connect(server.address)
    reader.press("openButton")
    reader.draw("tumour", box(reader))
    reader.draw("organ", box(reader, 8))
    wait_for(lambda: kept_files(reader))
    before = kept_files(reader)
    assert [name.partition(".")[2] for name in before] == ["seg.nrrd", "json"]
    reader.logic._autosave()
    assert kept_files(reader) == before
    inner = reader.reading.segmentation.GetSegmentation()
    inner.GetSegment("organ").SetName("orgen")
    wait_for(lambda: len(kept_files(reader)) == 2 and kept_files(reader) != before)
    slicer.mrmlScene.RemoveNode(reader.reading.segmentation)
    reader.press("closeButton")
    assert "is kept on this computer" in reader.message
    wait_for(lambda: kept_files(reader) == [])
    reader.press("openButton")
    assert set(drawn(reader)) == {"tumour", "orgen"}


def test_work_is_sent_by_itself_when_the_server_is_back(reader, server):
    reader.connect(server.address)
    first, second = reader.ids()[:2]
    masks = {}
    for study_id in (first, second):
        reader.open(study_id)
        masks[study_id] = box(reader)
        reader.draw("tumour", masks[study_id])
        if study_id == first:
            server.stop()
            reader.refresh()
            reader.press("closeButton")
            assert "sent by itself" in reader.message
            assert reader.cell(first, 4) == "kept here, not sent"
            server.start()
            server.wait_until_ready()
            reader.refresh()
            wait_for(lambda: f"what you drew in {first} is saved there" in reader.message)
            assert reader.cell(first, 4) == "in progress by you"
    server.stop()
    reader.press("submitButton")
    assert "submitted by itself when the server answers, unless you draw on" in reader.message
    server.start()
    server.wait_until_ready()
    reader.refresh()
    wait_for(lambda: server.pick(second)["status"] == "done")
    assert_label(server, second, np.where(masks[second], 5, 0))
    assert_label(server, first, np.where(masks[first], 5, 0), ALICE_SAVED)
    wait_for(lambda: kept_files(reader) == [])  # the server has it before its answer is here


def test_work_on_a_study_that_another_has_by_then_is_told_of_compared_exported_and_submitted(
    reader, another_reader, server, tmp_path
):
    reader.connect(server.address, "alice")
    study_id = reader.ids()[0]
    reader.open(study_id)
    mine = box(reader)
    reader.draw("tumour", mine)
    add_segment(reader, box(reader, 8))
    server.stop()
    reader.refresh()
    reader.press("closeButton")
    choose(reader, "Save it as it is")
    reader.logic._pollTimer.stop()  # or the study would be reserved again before bob comes
    server.let_half_an_hour_pass()
    another_reader.connect(server.address, "bob")
    another_reader.open(study_id)
    reader.refresh()
    wait_for(lambda: "in progress by bob" in reader.message)
    assert "open it to submit it, or export it" in reader.message
    assert reader.cell(study_id, 4) == "kept here, not sent; in progress by bob"
    reader.widget.table.select(study_id)
    assert reader.ui.keptFrame.isVisible()
    reader.logic.exportWork(study_id, str(tmp_path / "mine.seg.nrrd"))
    assert (tmp_path / "mine.seg.nrrd").stat().st_size > 0
    another_reader.draw("organ", box(another_reader, 6))
    another_reader.press("submitButton")
    reader.refresh()
    assert reader.cell(study_id, 4) == "kept here, not sent; done by bob"
    reader.open(study_id)
    assert "done by bob" in reader.message
    assert_drawn(reader, {"tumour": mine, "Segment_1": box(reader, 8)})
    assert reader.ui.labelBox.itemText(0).startswith("Final label by bob")
    reader.press("compareButton")
    assert len(reader.reading.beside) == 1
    beside = reader.reading.beside[0]
    shown = slicer.util.arrayFromSegmentBinaryLabelmap(
        beside, beside.GetSegmentation().GetNthSegmentID(0), reader.reading.volume
    )
    np.testing.assert_array_equal(shown.T != 0, box(reader, 6))
    assert_drawn(reader, {"tumour": mine, "Segment_1": box(reader, 8)})
    reader.press("submitButton")
    assert "done by bob" in reader.message
    reader.press("yesButton")
    choose(reader, "Discard it")
    assert server.pick(study_id)["client"] == "alice"
    assert_label(server, study_id, np.where(mine, 5, 0))
    assert not slicer.mrmlScene.IsNodePresent(beside)
    assert kept_files(reader) == []


def put_label(server, study_id, path, client, seconds):
    """Send a label file beside the module."""
    params = json.dumps({"client_id": client, "seconds": round(seconds, 1)})
    head = b'--x\r\nContent-Disposition: form-data; name="params"\r\n\r\n' + params.encode()
    head += f'\r\n--x\r\nContent-Disposition: form-data; name="label"; filename="{path.name}"\r\n\r\n'.encode()
    url = f"{server.address}/datastore/label?image={study_id}&tag=final"
    body = head + path.read_bytes() + b"\r\n--x--\r\n"
    request = urllib.request.Request(url, body, {"Content-Type": "multipart/form-data; boundary=x"}, method="PUT")
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.load(answer)["label"] == study_id


def test_a_label_that_arrived_though_the_answer_did_not_is_not_kept_for_ever(reader, server):
    reader.connect(server.address)
    reader.press("openButton")
    study_id = reader.reading.studyId
    reader.draw("tumour", box(reader))
    server.stop()
    reader.press("submitButton")
    reader.refresh()
    reader.press("closeButton")
    assert "submitted by itself" in reader.message
    kept = reader.logic.kept.read(reader.logic.client, study_id)
    reader.logic._pollTimer.stop()
    server.start()
    server.wait_until_ready()
    put_label(server, study_id, Path(reader.logic.kept.path(kept.label)), "alice", kept.seconds)
    reader.refresh()
    wait_for(lambda: f"The server has what you drew in {study_id}." in reader.message)
    assert reader.cell(study_id, 4) == "done by you"
    assert kept_files(reader) == []


def test_kept_work_is_listed_and_exported_without_a_server_and_sent_once_there_is_one(server, tmp_path):
    first = Reader()
    first.connect(server.address)
    first.press("openButton")
    study_id = first.reading.studyId
    first.draw("tumour", box(first))
    first.close()
    server.stop()
    reader = Reader()
    reader.connect(server.address)
    assert "Is the server running?" in reader.ui.serverLabel.text
    assert reader.cell(study_id, 4) == "kept here, not sent"
    reader.logic.exportWork(study_id, str(tmp_path / "work.seg.nrrd"))
    assert (tmp_path / "work.seg.nrrd").stat().st_size > 0
    server.start()
    server.wait_until_ready()
    wait_for(lambda: f"what you drew in {study_id} is saved there" in reader.message, 30)
    assert reader.cell(study_id, 4) == "in progress by you"
    reader.close()


def test_work_on_a_study_that_is_gone_can_be_exported_and_discarded(reader, studies, tmp_path):
    folder = shutil.copytree(studies, tmp_path / "studies", copy_function=shutil.copy2)
    with Server(folder, tmp_path / "state", labels=LABELS, batch_size="3") as server:
        server.wait_until_ready()
        reader.connect(server.address)
        reader.press("openButton")
        study_id = reader.reading.studyId
        reader.draw("tumour", box(reader))
        (folder / study_id).unlink()
        wait_for(lambda: server.get("/firstpick/status")["n_pool"] == 7)
        reader.press("closeButton")
        reader.refresh()
        wait_for(lambda: "not in the studies folder" in reader.message)
        assert reader.cell(study_id, 4) == "kept here, not sent"
        reader.open(study_id)
        assert "not in the studies folder" in reader.message
        assert "export it" in reader.message
        reader.logic.exportWork(study_id, str(tmp_path / "gone.seg.nrrd"))
        assert (tmp_path / "gone.seg.nrrd").stat().st_size > 0
        reader.widget.table.select(study_id)
        reader.press("discardButton")
        assert "The server does not have it." in reader.message
        reader.press("yesButton")
        assert study_id not in reader.ids()
        assert kept_files(reader) == []


LOOKS = {
    "close": lambda reader, other: reader.press("closeButton"),
    "next": lambda reader, other: (reader.logic.openNext(), reader.wait()),
    "open": lambda reader, other: (reader.logic.open(reader.ids()[3]), reader.wait()),
    "scene": lambda reader, other: slicer.mrmlScene.Clear(0),
    "connect": lambda reader, other: reader.connect(other),
    "end": lambda reader, other: reader.close(),
}


def test_a_done_study_that_is_only_looked_at_stays_done_on_every_way_out(server, studies, tmp_path):
    """Also where the reader's own saved work is newer than the label, and an earlier label was loaded to be seen."""
    with Server(studies, tmp_path / "other", labels=LABELS) as other:
        other.wait_until_ready()
        first = Reader()
        first.connect(server.address)
        first.press("openButton")
        study_id = first.reading.studyId
        organ = threshold(server, study_id)
        first.draw("organ", box(first))
        first.press("submitButton")
        first.press("closeButton")
        first.open(study_id)
        first.draw("organ", organ)
        first.press("submitButton")
        first.close()
        for name, look in LOOKS.items():
            reader = Reader()
            reader.connect(server.address)
            reader.open(study_id)
            assert server.pick(study_id)["status"] == "reserved", name
            assert not reader.reading.isDirty
            if name == "close":
                reader.ui.labelBox.currentIndex = 1
                assert reader.ui.labelBox.currentText.startswith("Earlier final label by alice")
                reader.press("loadButton")
                assert "Loaded: Earlier final label" in reader.message
                assert_drawn(reader, {"organ": box(reader)})
            look(reader, other.address)
            wait_for(lambda: server.pick(study_id)["status"] == "done")
            if name != "end":
                reader.close()
        assert_label(server, study_id, np.where(organ, 2, 0))
        saved = (server.state / "datastore" / "labels" / "final").glob(f"{study_id.partition('.')[0]}*")
        (path,) = saved
        reader = Reader()
        reader.connect(server.address)
        reader.open(study_id)
        reader.draw("organ", box(reader))
        reader.press("saveButton")
        server.post("/firstpick/release", study_id=study_id, client_id="alice")
        reader.close()
        again = Reader()
        again.connect(server.address)
        again.open(study_id)
        assert "Resumed your saved work" in again.message
        again.press("closeButton")
        again.close()
        assert server.pick(study_id)["status"] == "done", path


def test_labels_are_chosen_from_one_list(reader, another_reader, server):
    another_reader.connect(server.address, "bob")
    study_id = another_reader.ids()[0]
    another_reader.open(study_id)
    another_reader.draw("organ", box(another_reader))
    another_reader.press("submitButton")
    reader.connect(server.address, "alice")
    reader.open(study_id)
    assert "final label" in reader.message
    reader.draw("organ", box(reader, 5))
    reader.press("saveButton")
    texts = [reader.ui.labelBox.itemText(i) for i in range(reader.ui.labelBox.count)]
    assert [text.partition(",")[0] for text in texts] == ["Your saved work", "Final label by bob"]
    assert texts[0].endswith(" 80 voxels")
    reader.draw("tumour", box(reader, 9))
    reader.ui.labelBox.currentIndex = 1
    reader.press("loadButton")
    assert "did not save would make room for: Final label by bob" in reader.message
    reader.press("noButton")
    assert set(drawn(reader)) == {"organ", "tumour"}
    reader.press("loadButton")
    choose(reader, "Keep a copy")
    assert_drawn(reader, {"organ": box(reader)})
    assert not reader.reading.isDirty
    assert len(list((Path(reader.logic.kept.folder) / "copies").iterdir())) == 1
    reader.press("submitButton")
    assert_label(server, study_id, np.where(box(another_reader), 2, 0) if another_reader.reading else 0)
