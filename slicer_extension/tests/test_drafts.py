"""The server's drafts: offered, accepted as they are, corrected, refused; no reader's work gives way to one."""

import base64
import gzip
import json
import time
import urllib.request

import nibabel as nib
import numpy as np
import pytest
import qt
import record
import slicer
import vtk
from stage import Reader, wait_for
from test_bad_paths import block, connected, recorded  # noqa: F401 - fixtures
from test_drawing import assert_drawn, choose, kept_files
from vtk.util.numpy_support import numpy_to_vtk

from FirstPickLib import client
from FirstPickLib.shapes import isOf

ANSWERS = json.loads(record.RECORDED.read_text(encoding="utf-8"))
TUMOUR = 5
QUESTION = "Submit the draft as it is?"


def draft_of(study_id, corner=2):
    """A label file of a study with one box, and the box."""
    image = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(ANSWERS["images"][study_id])))
    mask = np.zeros(image.shape, np.uint8)
    mask[corner : corner + 3, 2:6, 4:7] = TUMOUR
    return gzip.compress(nib.Nifti1Image(mask, image.affine).to_bytes()), mask > 0


def correction(number, dice, **more):
    taken = {"study_id": f"s{number}", "title": f"Study {number}", "client": "Ada", "ts": time.time(), "dice": dice}
    return {**taken, "distance_mm": None, "n_changed": 3, "n_voxels": 24, "seconds": 90.0, "is_taken": True, **more}


def drafts_status(study_ids=(), **more):
    listed = [{"study_id": i, "title": i, "n_labels": 5, "dice": 0.87, "unsure": 0.1, "ts": 0.0} for i in study_ids]
    status = {"state": "ready", "message": "Learnt from 5 labels.", "n_labels": 5, "dice": 0.87, "dice_of": {}}
    return {**status, "drafts": listed, "warnings": [], "corrections": [], "stop": "", **more}


def publish(server, study_ids, corner=2, **more):
    """Have the server make drafts of some studies; their masks by study."""
    drafts = {i: draft_of(i, corner) for i in study_ids}
    files = {i: base64.b64encode(data).decode() for i, (data, _mask) in drafts.items()}
    server.post("/test/set", draft_files=files, drafts=drafts_status(study_ids, **more))
    return {i: mask for i, (_data, mask) in drafts.items()}


@pytest.fixture
def masks(recorded):  # noqa: F811
    """Drafts of the whole batch."""
    return publish(recorded, [pick["study_id"] for pick in ANSWERS["proposal"]["picks"]])


@pytest.fixture
def drafted(masks, reader, recorded):  # noqa: F811
    reader.connect(recorded.address)
    return reader


def puts(server):
    return [line for line in server.requests() if line.startswith("PUT")]


def final(server, study_id):
    """The voxels of the final label that the server has."""
    with urllib.request.urlopen(f"{server.address}/firstpick/label/{study_id}?tag=final", timeout=10) as answer:
        return nib.Nifti1Image.from_bytes(gzip.decompress(answer.read())).get_fdata()


def paint(reader, name, mask):
    """Add to a segment as the Segment Editor's brush does."""
    segmentation, stroke, grid = reader.reading.segmentation, slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
    reader.reading.volume.GetIJKToRASMatrix(grid)
    stroke.SetDimensions(*mask.shape)
    stroke.SetGeometryFromImageToWorldMatrix(grid)
    segment_id = segmentation.GetSegmentation().GetSegmentIdBySegmentName(name)
    value = segmentation.GetSegmentation().GetSegment(segment_id).GetLabelValue()
    stroke.GetPointData().SetScalars(numpy_to_vtk((value * mask.T).astype(np.uint8).ravel(), deep=True))
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.SetBinaryLabelmapToSegment(stroke, segmentation, segment_id, logic.MODE_MERGE_MAX)


# -- the story


def test_a_draft_is_offered_accepted_corrected_and_refused(drafted, recorded, masks):  # noqa: F811
    accepted, corrected, refused = drafted.ids()
    drafted.open(accepted)
    assert drafted.ui.draftFrame.isVisible()
    assert "Draft of the server from 18 labels (Dice 0.87" in drafted.ui.draftLabel.text
    assert_drawn(drafted, {})
    drafted.press("draftButton")
    assert_drawn(drafted, {"tumour": masks[accepted]})
    assert drafted.ui.stateLabel.text == "Draft, not checked"
    assert not drafted.ui.draftButton.enabled
    drafted.press("submitButton")
    assert drafted.message == QUESTION
    assert not puts(recorded)
    drafted.press("noButton")
    assert drafted.ui.stateLabel.text == "Draft, not checked"
    drafted.press("submitButton")
    drafted.press("yesButton")
    assert f"Submitted {accepted}" in drafted.message
    np.testing.assert_array_equal(final(recorded, accepted) == TUMOUR, masks[accepted])

    assert drafted.reading.studyId == corrected
    drafted.press("draftButton")
    mine = block(drafted)
    paint(drafted, "tumour", mine)
    assert drafted.ui.stateLabel.text == "Not saved yet"
    assert not drafted.ui.draftFrame.isVisible()
    drafted.press("submitButton")
    assert f"Submitted {corrected}" in drafted.message  # was not asked
    np.testing.assert_array_equal(final(recorded, corrected) == TUMOUR, masks[corrected] | mine)

    assert drafted.reading.studyId == refused
    mask = block(drafted, 6)
    drafted.draw("organ", mask)
    assert not drafted.ui.draftFrame.isVisible()
    drafted.press("submitButton")
    assert f"Submitted {refused}" in drafted.message
    assert f"/firstpick/draft/{refused}" not in "\n".join(recorded.requests())
    np.testing.assert_array_equal(final(recorded, refused), np.where(mask, 2, 0))


@pytest.mark.parametrize("leave", ["closeButton", "nextButton", "skip", "end"])
def test_a_draft_that_nobody_touched_is_no_work_of_the_reader(drafted, recorded, leave):  # noqa: F811
    study_id = drafted.ids()[0]
    drafted.open(study_id)
    drafted.press("draftButton")
    if leave == "skip":
        drafted.logic.skip(study_id, "poor quality")
        drafted.wait()
    elif leave == "end":
        drafted.logic.end()
    else:
        drafted.press(leave)
    assert not drafted.ui.questionFrame.isVisible()
    assert not puts(recorded)
    assert kept_files(drafted) == []
    skipped = leave == "skip"
    assert skipped or {"study_id": study_id, "client_id": "alice"} in recorded.bodies("/firstpick/release")


def test_there_is_nothing_to_save_of_a_draft_that_nobody_touched(drafted, recorded):  # noqa: F811
    drafted.press("openButton")
    drafted.press("draftButton")
    drafted.press("saveButton")
    assert "nothing of yours to save" in drafted.message
    assert not puts(recorded)
    drafted.logic._autosave()
    assert kept_files(drafted) == []
    paint(drafted, "tumour", block(drafted))
    drafted.press("saveButton")
    assert "Saved your work" in drafted.message


def test_looking_at_a_draft_is_not_touching_it_and_a_new_name_is(drafted):
    drafted.press("openButton")
    drafted.press("draftButton")
    segmentation = drafted.reading.segmentation
    inner = segmentation.GetSegmentation()
    segment_id = inner.GetSegmentIdBySegmentName("tumour")
    segmentation.GetDisplayNode().SetSegmentVisibility(segment_id, False)
    inner.GetSegment(segment_id).SetTag("Segmentation.Status", "inprogress")
    segmentation.CreateClosedSurfaceRepresentation()
    assert drafted.ui.stateLabel.text == "Draft, not checked"
    inner.GetSegment(segment_id).SetName("organ of another")
    assert drafted.ui.stateLabel.text == "Not saved yet"


def test_an_accepted_draft_that_cannot_be_sent_is_the_readers_own(drafted, recorded):  # noqa: F811
    drafted.press("openButton")
    drafted.press("draftButton")
    recorded.fail("/datastore/label", 503)
    drafted.press("submitButton")
    drafted.press("yesButton")
    assert "Not sent" in drafted.message
    assert drafted.ui.stateLabel.text == "Not saved yet"
    drafted.press("submitButton")
    assert "Submitted" in drafted.message  # and was not asked again


# -- nothing of the reader's is lost


def test_a_draft_never_replaces_what_was_drawn_without_a_word(drafted, recorded, masks):  # noqa: F811
    study_id = drafted.ids()[0]
    drafted.open(study_id)
    mine = block(drafted, 6)
    drafted.draw("organ", mine)
    drafted.logic.startFromDraft()
    assert "would make room for: Draft of the server" in drafted.message
    drafted.press("noButton")
    assert_drawn(drafted, {"organ": mine})
    drafted.logic.startFromDraft()
    choose(drafted, "Save it first")
    assert_drawn(drafted, {"tumour": masks[study_id]})
    assert len(puts(recorded)) == 1
    drafted.press("closeButton")
    drafted.open(study_id)
    assert "Resumed your saved work" in drafted.message
    assert_drawn(drafted, {"organ": mine})
    assert not drafted.ui.draftFrame.isVisible()
    assert drafted.ui.labelBox.itemText(1).startswith("Draft of the server")


def test_what_is_drawn_while_the_draft_comes_stays(drafted, recorded):  # noqa: F811
    drafted.press("openButton")
    recorded.fail("/firstpick/draft/", "slow")
    drafted.ui.draftButton.click()
    wait_for(lambda: [line for line in recorded.requests() if "/firstpick/draft/" in line])
    mine = block(drafted, 6)
    drafted.draw("organ", mine)
    drafted.wait()
    assert "You drew on while the label was fetched" in drafted.message
    assert_drawn(drafted, {"organ": mine})
    assert drafted.ui.stateLabel.text == "Not saved yet"


def test_a_draft_that_is_gone_or_newer_is_told_and_fetched_anew(drafted, recorded):  # noqa: F811
    study_id = drafted.ids()[0]
    drafted.open(study_id)
    newer = publish(recorded, [study_id], corner=5)[study_id]
    drafted.press("draftButton")
    assert_drawn(drafted, {"tumour": newer})
    drafted.press("closeButton")
    drafted.open(study_id)
    publish(recorded, [])
    drafted.press("draftButton")
    assert "does not know this" in drafted.message
    assert_drawn(drafted, {})
    assert not drafted.ui.draftFrame.isVisible()


def test_a_draft_is_compared_with_what_is_drawn_from_blank(drafted):
    drafted.press("openButton")
    mine = block(drafted, 6)
    drafted.draw("organ", mine)
    drafted.press("compareButton")
    assert len(drafted.reading.beside) == 1
    assert_drawn(drafted, {"organ": mine})
    assert not drafted.reading.isDraft


# -- begin with the draft


def test_begin_with_the_draft_is_remembered_and_loads_it_by_itself(drafted, recorded, masks):  # noqa: F811
    first, second, third = drafted.ids()
    drafted.open(first)
    drafted.ui.beginWithDraftBox.click()
    assert_drawn(drafted, {})  # of the next study on
    drafted.draw("organ", block(drafted, 6))
    drafted.press("nextButton")
    assert drafted.reading.studyId == second
    assert drafted.ui.stateLabel.text == "Draft, not checked"
    assert_drawn(drafted, {"tumour": masks[second]})
    drafted.press("previousButton")
    assert_drawn(drafted, {"organ": block(drafted, 6)})  # of saved work no draft is made
    drafted.press("closeButton")
    again = Reader()
    again.connect(recorded.address)
    assert again.ui.beginWithDraftBox.checked
    again.open(third)
    assert_drawn(again, {"tumour": masks[third]})
    again.close()


def test_a_study_opens_though_its_draft_cannot_be_loaded(drafted, recorded):  # noqa: F811
    drafted.ui.beginWithDraftBox.checked = True
    recorded.fail("/firstpick/draft/", 503, detail="The draft is being made.")
    drafted.press("openButton")
    assert "The draft is being made." in drafted.message
    assert_drawn(drafted, {})
    drafted.press("draftButton")
    assert drafted.reading.isDraft


def test_a_draft_that_becomes_ready_while_the_study_is_open_is_offered(connected, recorded):  # noqa: F811
    connected.press("openButton")
    study_id = connected.reading.studyId
    assert not connected.ui.draftFrame.isVisible()
    publish(recorded, [study_id])
    connected.press("closeButton")
    connected.press("connectButton")  # it had made no drafts before
    publish(recorded, [])
    connected.open(study_id)
    assert not connected.ui.draftFrame.isVisible()
    publish(recorded, [study_id])
    connected.refresh()
    assert connected.ui.draftFrame.isVisible()


def test_slices_are_not_ticked_off_by_a_draft(recorded, masks):  # noqa: F811
    proposal = json.loads(json.dumps(ANSWERS["proposal"]))
    proposal["picks"][0]["slices"] = [{"index": 5, "plane": "axial", "position_mm": 1.0}]
    recorded.post("/test/set", proposal=proposal)
    reader = Reader()
    reader.connect(recorded.address)
    reader.open(proposal["picks"][0]["study_id"])
    reader.press("draftButton")
    reader.logic._look()
    assert reader.reading.slices.nTicked == 0
    reader.close()


# -- how the drafts stand


def test_a_server_without_drafts_shows_none_and_is_asked_once(connected, recorded):  # noqa: F811
    connected.refresh()
    connected.refresh()
    assert recorded.requests().count("GET /firstpick/drafts") == 1
    assert not connected.ui.draftsSection.isVisible()
    connected.press("openButton")
    assert not connected.ui.draftFrame.isVisible()


def test_message_stop_warnings_and_the_curve_are_shown(drafted, recorded):  # noqa: F811
    assert drafted.ui.draftsSection.isVisible()
    assert drafted.ui.draftsLabel.text == "Learnt from 5 labels."
    for name in ("stopLabel", "curveFrame", "curveLabel", "warningsLabel"):
        assert not getattr(drafted.ui, name).isVisible(), name
    empty = drafted.widget.drafts.curve.grab().toImage()
    warnings = [{"study_id": f"w{n}", "title": f"Case {n}", "sentence": "its label is <b>empty"} for n in range(5)]
    corrections = [correction(0, 0.4), correction(1, 0.95), correction(2, 0.93, is_taken=False, client="", seconds=0.0)]
    recorded.post("/test/set", drafts=drafts_status(stop="Stop here.", warnings=warnings, corrections=corrections))
    drafted.refresh()
    assert drafted.ui.stopLabel.text == "Stop here."
    lines = drafted.ui.warningsLabel.text.splitlines()
    assert lines == [*(f"Case {n}: its label is <b>empty" for n in range(3)), "and 2 more"]
    assert "Case 4: its label is &lt;b&gt;empty" in drafted.ui.warningsLabel.toolTip
    curve = drafted.widget.drafts.curve
    assert curve.isVisible()
    assert curve.grab().toImage() != empty
    tips = []
    for x, y in curve._places().tolist():
        move = qt.QPointF(round(x), round(y))
        event = qt.QMouseEvent(qt.QEvent.MouseMove, move, move, qt.Qt.NoButton, qt.Qt.NoButton, qt.Qt.NoModifier)
        curve.mouseMoveEvent(event)
        tips.append(curve.toolTip)
    assert "Study 0: Dice 0.40, submitted at" in tips[0]
    assert "by Ada, after 2 min" in tips[0]
    assert "Study 2: Dice 0.93" in tips[2]
    assert tips[2].partition("; ")[2].startswith("the draft was not looked at")
    recorded.fail("/firstpick/drafts", 503)
    drafted.refresh()
    assert drafted.ui.stopLabel.text == "Stop here."  # what was known stays


def test_a_wrong_answer_about_drafts_is_none():
    assert isOf(drafts_status(["a"], corrections=[correction(0, 0.5)]), client.DRAFTS)
    for wrong in ({"drafts": [{}]}, {"corrections": [correction(0, None)]}, {"stop": None}, {"warnings": ["a"]}):
        assert not isOf(drafts_status(**wrong), client.DRAFTS), wrong
