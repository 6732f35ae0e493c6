"""What the module says and keeps when the server, the network or the reader does something unwanted."""

import json
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import slicer
from stage import MODULE, wait_for

SERVER = MODULE / "Testing" / "Python" / "RecordedServer.py"


class Recorded:
    """The recorded server as a process."""

    def __init__(self, port=0):
        self.process = subprocess.Popen([sys.executable, str(SERVER), str(port)], stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()

    def post(self, path, /, **body):
        request = urllib.request.Request(self.address + path, json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def get(self, path):
        with urllib.request.urlopen(self.address + path, timeout=10) as answer:
            return json.load(answer)

    def requests(self):
        with urllib.request.urlopen(self.address + "/test/requests", timeout=10) as answer:
            return json.load(answer)

    def bodies(self, path):
        with urllib.request.urlopen(self.address + "/test/bodies", timeout=10) as answer:
            return [body for where, body in json.load(answer) if where == path]

    def fail(self, path, how, **more):
        self.post("/test/fail", path=path, how=str(how), **{"times": 20 if how == "drop" else 1, **more})

    def heal(self):
        self.post("/test/fail", path="", how="", times=0)

    def again(self):
        """Another one at the same address, which knows nothing of what was decided."""
        return Recorded(int(self.address.rpartition(":")[2]))

    def stop(self):
        self.process.kill()
        self.process.wait(timeout=10)
        self.process.stdout.close()


@pytest.fixture
def recorded():
    one = Recorded()
    yield one
    one.stop()


@pytest.fixture
def connected(reader, recorded):
    reader.connect(recorded.address)
    assert reader.ids(), reader.ui.serverLabel.text
    return reader


def block(reader, corner=2):
    mask = np.zeros(reader.reading.volume.GetImageData().GetDimensions(), bool)
    mask[corner : corner + 3, 2:6, 3:5] = True
    return mask


@pytest.fixture
def drawn(connected):
    connected.press("openButton")
    connected.draw("tumour", block(connected))
    return connected


# -- the server


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("", "is not the address of a server"),
        ("ftp://host", "is not the address of a server"),
    ],
)
def test_what_is_no_address(reader, address, text):
    reader.connect(address)
    assert text in reader.ui.serverLabel.text
    assert not reader.ui.serverSection.collapsed
    assert not reader.ui.newBatchButton.enabled


def test_an_address_where_nobody_is(reader):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        reader.connect("{}:{}".format(*taken.getsockname()))
    assert "does not answer (Connection refused). Is the server running?" in reader.ui.serverLabel.text
    assert not reader.ui.serverSection.collapsed
    assert not reader.ui.newBatchButton.enabled


def test_a_reader_without_a_name_is_asked_for_it(reader, recorded):
    reader.connect(recorded.address, "  ")
    assert "Type your name" in reader.ui.serverLabel.text
    assert recorded.requests() == ["GET /test/requests"]


@pytest.mark.parametrize(
    ("how", "text"),
    [(401, "wants a login"), (403, "wants a login"), (503, "Ask again in a minute"), ("drop", "answer")],
)
def test_a_server_that_refuses_or_fails(reader, recorded, how, text):
    recorded.fail("/firstpick/status", how)
    reader.connect(recorded.address)
    assert text in reader.ui.serverLabel.text
    recorded.heal()
    reader.press("connectButton")
    assert len(reader.ids()) == 3


def test_a_server_that_is_none_of_firstpick(reader, recorded):
    recorded.fail("/firstpick/status", 404)
    reader.connect(recorded.address)
    assert "Is it a FirstPick server?" in reader.ui.serverLabel.text


def test_a_server_that_is_still_embedding_says_how_far_and_the_list_comes_by_itself(reader, recorded):
    with urllib.request.urlopen(recorded.address + "/firstpick/status", timeout=10) as answer:
        status = json.load(answer)
    progress = {"total": 260, "done": 36, "failed": 1, "left_out": 0, "rate": 2.0, "seconds_left": 110.0}
    recorded.post("/test/set", status={**status, "state": "embedding", "progress": progress})
    reader.connect(recorded.address)
    assert reader.ui.serverLabel.text == "Still embedding: 37 of 260, about 2 min left."
    assert reader.ids() == []
    recorded.post("/test/set", status=status)
    wait_for(reader.ids)
    assert "Ready" in reader.ui.serverLabel.text


def test_a_batch_without_picks(reader, recorded):
    with urllib.request.urlopen(recorded.address + "/firstpick/proposal", timeout=10) as answer:
        proposal = json.load(answer)
    recorded.post("/test/set", proposal={**proposal, "picks": [], "coverage": []})
    reader.connect(recorded.address)
    assert reader.ids() == []
    assert not reader.ui.openButton.enabled
    assert not reader.ui.allDoneFrame.isVisible()


def test_the_address_book_and_the_name_are_remembered(connected, recorded, reader):
    from stage import Reader

    later = Reader()
    assert later.ui.addressBox.currentText == recorded.address
    assert later.ui.readerEdit.text == "alice"
    later.close()


def test_the_stock_plugins_address_is_the_first_default(settings):
    import qt
    from stage import Reader

    qt.QSettings().setValue("MONAILabel/serverUrl", "http://elsewhere:8000")
    qt.QSettings().setValue("MONAILabel/clientId", "user-xyz")
    one = Reader()
    assert one.ui.addressBox.currentText == "http://elsewhere:8000"
    assert one.ui.readerEdit.text == ""
    one.close()


# -- opening


@pytest.mark.parametrize(
    ("path", "how", "text"),
    [
        ("/datastore/image", "truncate", "broke off"),
        ("/datastore/image", "drop", "does not answer"),
        ("/datastore/image", 404, "does not know this"),
        ("/datastore/image", 500, "answered with error 500"),
        ("/datastore/image/info", 500, "answered with error 500"),
        ("/firstpick/labels/", 503, "Ask again in a minute"),
        ("/firstpick/reserve", 401, "wants a login"),
    ],
)
def test_a_study_that_does_not_arrive_whole_is_not_opened(connected, recorded, path, how, text):
    study_id = connected.ids()[0]
    recorded.fail(path, how)
    connected.open(study_id)
    assert connected.reading is None
    assert text in connected.message
    assert connected.cell(study_id, 4) == "open"
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 0
    assert not list(Path(connected.logic.cacheFolder).glob("*.part"))
    recorded.heal()
    connected.open(study_id)
    assert connected.reading.studyId == study_id


def test_a_download_can_be_cancelled(connected, recorded):
    recorded.fail("/datastore/image", "slow")
    connected.ui.openButton.click()
    wait_for(lambda: connected.ui.transferFrame.isVisible() and "Loading" in connected.ui.transferLabel.text, 10)
    connected.ui.cancelButton.click()
    connected.wait()
    assert connected.message == "Cancelled."
    assert connected.reading is None
    connected.refresh()
    assert connected.cell(connected.ids()[0], 4) == "open"


def test_a_study_that_somebody_took_meanwhile_is_said_before_anything_is_loaded(connected, recorded):
    first, second = connected.ids()[:2]
    recorded.post("/firstpick/reserve", study_id=first, client_id="bob")
    connected.open(first)
    assert "in progress by bob" in connected.message
    assert connected.reading is None
    assert connected.cell(first, 4) == "in progress by bob"
    connected.widget.ui.table.clearSelection()
    connected.press("openButton")
    assert connected.reading.studyId == second


# -- submitting


def test_a_label_that_the_server_refuses_is_told_why_and_kept(drawn, recorded):
    study_id = drawn.reading.studyId
    why = f"The label of study '{study_id}' was not saved. It has 12 x 15 x 9 voxels, the study 12 x 15 x 10."
    for button in ("saveButton", "submitButton"):
        recorded.fail("/datastore/label", 422, detail=why)
        drawn.press(button)
        assert why in drawn.message
        assert "kept on this computer" in drawn.message
        assert drawn.reading.studyId == study_id
        assert drawn.reading.isDirty
    assert drawn.logic.kept.read(drawn.logic.client, study_id)
    drawn.press("submitButton")
    assert "Submitted" in drawn.message


@pytest.mark.parametrize("how", [401, 503, 500, "drop"])
def test_a_label_that_does_not_arrive_is_kept_and_sent_again(drawn, recorded, how):
    study_id = drawn.reading.studyId
    recorded.fail("/datastore/label", how)
    drawn.press("submitButton")
    assert "Not sent" in drawn.message
    assert "kept on this computer" in drawn.message
    assert drawn.reading.studyId == study_id
    assert drawn.reading.isDirty
    recorded.heal()
    drawn.press("submitButton")
    assert f"Submitted {study_id}" in drawn.message
    assert not list(Path(drawn.logic.kept.folder).iterdir())


def test_the_server_dies_in_the_middle_and_the_work_is_there_after_a_restart_of_slicer(drawn, recorded, reader):
    study_id = drawn.reading.studyId
    mask = block(drawn)
    recorded.stop()
    drawn.press("submitButton")
    assert "Is the server running?" in drawn.message
    drawn.refresh()
    assert not drawn.logic.isConnected
    assert drawn.reading.isDirty
    drawn.close()
    folder = Path(drawn.logic.kept.folder)
    assert list(folder.glob("*.seg.nrrd"))

    from stage import Reader

    again, later = recorded.again(), Reader()
    later.connect(again.address)
    assert later.cell(study_id, 4) == "kept here, not sent"
    wait_for(lambda: f"your label of {study_id} is submitted" in later.message)
    assert later.cell(study_id, 4) == "done by you"
    assert not list(folder.iterdir())
    later.open(study_id)
    assert "final label" in later.message
    segmentation = later.reading.segmentation
    segment = segmentation.GetSegmentation().GetSegmentIdBySegmentName("tumour")
    got = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment, later.reading.volume)
    np.testing.assert_array_equal(got.T != 0, mask)
    later.close()
    again.stop()


def test_nothing_drawn_is_asked_about(connected, recorded):
    connected.press("openButton")
    connected.press("submitButton")
    assert connected.message == "Nothing is drawn."
    assert connected.ui.questionFrame.isVisible()
    connected.press("noButton")
    assert not connected.ui.questionFrame.isVisible()
    assert not [line for line in recorded.requests() if line.startswith("PUT")]
    connected.press("submitButton")
    connected.press("yesButton")
    assert "Submitted" in connected.message


def test_overlapping_segments_are_asked_about(drawn):
    overlapping = drawn.reading.segmentation
    overlapping.GetSegmentation().SeparateSegmentLabelmap("organ")
    drawn.draw("organ", block(drawn, corner=3))
    drawn.press("submitButton")
    assert "overlap in 16 voxels" in drawn.message
    drawn.press("noButton")
    assert drawn.reading is not None


def test_a_segment_that_the_server_does_not_know_is_asked_about(drawn):
    inner = drawn.reading.segmentation.GetSegmentation()
    inner.AddEmptySegment("mine", "scribble")
    drawn.draw("scribble", block(drawn, corner=7))
    drawn.press("submitButton")
    assert "no label 'scribble' (24 voxels drawn)" in drawn.message
    drawn.press("noButton")


def test_a_study_whose_nodes_were_deleted_is_not_submitted(drawn):
    slicer.mrmlScene.RemoveNode(drawn.reading.segmentation)
    drawn.press("submitButton")
    assert "no longer in the scene" in drawn.message
    drawn.press("closeButton")
    assert drawn.reading is None


# -- unsaved work and other people's nodes


def test_another_study_or_the_end_saves_what_is_drawn(drawn, recorded):
    first = drawn.reading.studyId
    drawn.press("nextButton")
    assert drawn.reading.studyId == drawn.ids()[1]
    assert [line for line in recorded.requests() if line.startswith("PUT") and "saved-alice" in line]
    assert drawn.cell(first, 4) == "in progress by you"
    drawn.press("previousButton")
    assert drawn.reading.studyId == first
    assert "Resumed your saved work" in drawn.message


def test_saved_work_that_was_put_aside_stays_reserved_until_somebody_else_has_it(drawn, recorded):
    study_id = drawn.reading.studyId
    drawn.press("closeButton")

    def beats():
        return recorded.requests().count("POST /firstpick/heartbeat")

    drawn.logic.heartbeat()
    wait_for(lambda: beats() == 1)
    recorded.post("/firstpick/release", study_id=study_id, client_id="alice")
    recorded.post("/firstpick/reserve", study_id=study_id, client_id="bob")
    drawn.logic.heartbeat()
    wait_for(lambda: beats() == 2)
    wait_for(lambda: drawn.logic.network.nPending == 0)
    drawn.logic.heartbeat()
    assert drawn.logic.network.nPending == 0


def test_a_reopened_study_that_is_closed_untouched_is_done_as_before(drawn):
    study_id = drawn.reading.studyId
    drawn.press("submitButton")
    drawn.press("closeButton")
    drawn.open(study_id)
    assert "final label" in drawn.message
    drawn.press("closeButton")
    assert drawn.message == f"{study_id} is unchanged: done as before."
    assert drawn.cell(study_id, 4) == "done by you"


@pytest.mark.parametrize("path", ["/firstpick/reserve", "/datastore/image"])
def test_a_reopened_study_that_cannot_be_opened_is_done_as_before(drawn, recorded, path):
    study_id = drawn.reading.studyId
    drawn.press("submitButton")
    drawn.press("closeButton")
    recorded.fail(path, 500)
    for copy in Path(drawn.logic.cacheFolder).iterdir():
        copy.unlink()
    drawn.open(study_id)
    assert drawn.reading is None
    assert "answered with error 500" in drawn.message
    assert drawn.cell(study_id, 4) == "done by you"


def test_a_study_is_not_reopened_while_another_must_stay_open(drawn, recorded, monkeypatch):
    first = drawn.reading.studyId
    drawn.press("submitButton")
    second = drawn.reading.studyId
    drawn.draw("tumour", block(drawn))

    def full(*_arguments, **_more):
        raise OSError("No space left on device")

    monkeypatch.setattr(drawn.logic.kept, "write", full)
    drawn.open(first)
    assert "No space left on device" in drawn.message
    assert drawn.reading.studyId == second
    assert "POST /firstpick/reopen" not in recorded.requests()


def test_the_server_is_told_of_whose_batch_a_study_was_opened(connected, recorded):
    with urllib.request.urlopen(recorded.address + "/firstpick/proposal", timeout=10) as answer:
        proposal = json.load(answer)
    recorded.post("/test/set", proposal={**proposal, "strategy": "kcenter"})
    connected.refresh()
    connected.press("openButton")
    assert [body["strategy"] for body in recorded.bodies("/firstpick/reserve")] == ["kcenter"]


def test_a_study_that_is_refused_though_it_looks_open_is_tried_once(connected, recorded):
    recorded.fail("/firstpick/reserve", 409, times=20, detail="Study 'x' is not to be had.")
    connected.press("openButton")
    assert recorded.requests().count("POST /firstpick/reserve") == 3
    assert connected.reading is None
    assert "No pick is free" in connected.message


def test_closing_the_scene_keeps_what_is_drawn(drawn, recorded):
    study_id = drawn.reading.studyId
    drawn.parent.isEntered = True
    slicer.mrmlScene.Clear(0)
    assert drawn.reading is None
    assert "is kept" in drawn.message
    wait_for(lambda: [line for line in recorded.requests() if line.startswith("PUT")])
    wait_for(lambda: not list(Path(drawn.logic.kept.folder).iterdir()))
    drawn.open(study_id)
    assert "Resumed your saved work" in drawn.message
    assert not drawn.reading.isDirty


def test_a_study_without_anything_drawn_is_given_back(connected):
    connected.press("openButton")
    study_id = connected.reading.studyId
    connected.press("nextButton")
    assert connected.cell(study_id, 4) == "open"


def test_only_nodes_of_its_own_are_touched(connected):
    own = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "mine")
    slicer.util.updateVolumeFromArray(own, np.zeros((3, 4, 5), np.int16))
    mark = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "also mine")

    def nodes():
        return sorted(node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode"))

    before, time_before = nodes(), (own.GetMTime(), mark.GetMTime())
    connected.press("openButton")
    connected.draw("tumour", block(connected))
    for node in slicer.util.getNodesByClass("vtkMRMLLabelMapVolumeDisplayNode"):  # what drawing from an array leaves
        slicer.mrmlScene.RemoveNode(node)
    connected.press("saveButton")
    connected.press("closeButton")
    slicers = {"vtkMRMLScriptedModuleNodeFirstPick", "vtkMRMLSubjectHierarchyNode1"}
    assert set(nodes()) - set(before) <= slicers
    assert set(before) <= set(nodes())
    assert (own.GetMTime(), mark.GetMTime()) == time_before


def test_window_and_level_stay_when_they_were_set_by_hand(connected):
    connected.press("openButton")
    display = connected.reading.volume.GetScalarVolumeDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(123, 45)
    connected.press("nextButton")
    display = connected.reading.volume.GetScalarVolumeDisplayNode()
    assert (display.GetWindow(), display.GetLevel()) == (123, 45)


def test_a_new_batch_is_asked_about_while_picks_are_open(connected, recorded):
    connected.press("newBatchButton")
    assert "3 picks of this batch are not segmented yet" in connected.message
    assert not [line for line in recorded.requests() if line == "POST /firstpick/proposal"]
    connected.press("yesButton")
    assert [line for line in recorded.requests() if line == "POST /firstpick/proposal"]


# -- life of the module


def test_the_end_leaves_no_observers_timers_or_requests(reader, recorded):
    import FirstPick

    reader.connect(recorded.address)
    reader.press("openButton")
    reader.draw("tumour", block(reader))
    logic = reader.logic
    reader.close()
    assert logic.network.nPending == 0
    assert logic.Observations == []
    assert reader.widget.Observations == []
    assert not logic._pollTimer.isActive()
    assert not logic._heartbeatTimer.isActive()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    slicer.mrmlScene.Clear(0)
    widget = FirstPick.FirstPickWidget(reader.parent)
    widget.setup()
    widget.cleanup()


def test_every_signal_that_is_connected_exists(reader, capfd):
    assert "does not exist" not in capfd.readouterr().err


def test_leaving_the_module_gives_the_keys_back(reader):
    assert reader.widget.editor._widget.hasKeys
    assert reader.widget.keys.held
    reader.widget.exit()
    assert not reader.widget.editor._widget.hasKeys
    assert reader.widget.keys.held == []
    reader.widget.enter()


def test_the_logic_works_without_any_window(recorded):
    import FirstPick

    logic = FirstPick.FirstPickLogic()
    logic.connect(recorded.address, "script")
    wait_for(lambda: logic.worklist)
    logic.openNext()
    wait_for(lambda: logic.reading)
    logic.end()


def test_the_heartbeat_tells_of_a_lost_reservation(drawn, recorded):
    study_id = drawn.reading.studyId
    recorded.post("/firstpick/release", study_id=study_id, client_id="alice")
    recorded.post("/firstpick/reserve", study_id=study_id, client_id="bob")
    drawn.logic.heartbeat()
    wait_for(lambda: drawn.reading.lost)
    assert "in progress by bob" in drawn.ui.stateLabel.text
    assert "Save your work" in drawn.message
