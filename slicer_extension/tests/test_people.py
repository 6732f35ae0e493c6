"""What people need: their own language, way of looking and time, and to see what others did."""

import re

import nibabel as nib
import numpy as np
import pytest
import qt
import slicer
from servers import Server, write_studies
from stage import settle
from test_bad_paths import block, connected, recorded  # noqa: F401 - fixtures

# -- after a scene was closed


def test_list_and_map_are_open_again_after_the_scene_was_closed(connected):  # noqa: F811
    connected.press("openButton")
    assert connected.ui.worklistSection.collapsed
    slicer.mrmlScene.Clear(0)
    settle()
    assert connected.reading is None
    assert not connected.ui.worklistSection.collapsed
    assert not connected.ui.mapSection.collapsed


def test_what_the_reader_folds_stays_folded_while_the_list_changes(connected, recorded):  # noqa: F811
    connected.ui.mapSection.collapsed = True
    recorded.post("/firstpick/reserve", study_id=connected.ids()[2], client_id="bob")
    connected.refresh()
    assert connected.cell(connected.ids()[2], 4) == "in progress by bob"
    assert connected.ui.mapSection.collapsed


# -- language


def test_every_word_of_the_list_and_the_messages_is_translated(reader, recorded, monkeypatch):  # noqa: F811
    """In a language where every word is in brackets: what is in none was not asked for."""
    monkeypatch.setattr(slicer.app, "translate", lambda context, text: f"⟦{text}⟧", raising=False)
    from FirstPickLib import words

    words.translateWith(slicer.app.translate)
    try:
        reader.connect(recorded.address)
        first, second = reader.ids()[:2]
        recorded.post("/firstpick/reserve", study_id=second, client_id="bob")
        reader.press("openButton")
        reader.draw("tumour", block(reader))
        reader.press("submitButton")
        reader.press("closeButton")
        reader.logic.skip(reader.ids()[-1], "metal")
        reader.wait()
        recorded.post("/firstpick/release", study_id=second, client_id="bob")
        recorded.post("/firstpick/reserve", study_id=second, client_id="bob")
        reader.refresh()
        statuses = [reader.cell(study_id, 4) for study_id in reader.ids()]
        assert {text[0] for text in statuses} == {"⟦"}, statuses
        assert reader.cell(first, 3).startswith("⟦")
        for study_id in reader.ids():
            lines = qt.QTextDocumentFragment.fromHtml(
                reader.ui.table.item(reader.ids().index(study_id), 0).toolTip()
            ).toPlainText()
            row = reader.logic.worklist.row(study_id)
            for line in lines.splitlines():
                assert line.startswith("⟦") or line in (row.title, row.reason), line
        assert "⟦" in reader.ui.progressLabel.text
        assert re.match("⟦.*⟧", reader.message)
        header = [reader.ui.table.horizontalHeaderItem(column).text() for column in (2, 3, 4)]
        assert header == ["Study", "Stands\nfor", "Status"]  # were made before the language changed
    finally:
        words.translateWith(lambda context, text: text)


def test_a_translation_that_lost_a_placeholder_is_not_used():
    from FirstPickLib import words

    words.translateWith(lambda context, text: "fertig" if context == __name__ else text)
    try:
        assert words.tr("done") == "fertig"
        assert words.tr("done by {reader}") == "done by {reader}"
    finally:
        words.translateWith(lambda context, text: text)


# -- the way of looking, by kind of picture


def folder_of_two_kinds(folder):
    """MR-like volumes, CT-like ones and flat pictures, without a word of their modality: all are NIfTI."""
    write_studies(folder, 4)
    rng = np.random.default_rng(3)
    for number in range(2):
        ct = rng.integers(-1000, 1500, (16, 18, 14)).astype(np.int16)
        nib.save(nib.Nifti1Image(ct, np.eye(4)), folder / f"ct_{number}.nii.gz")
    return folder


@pytest.fixture
def two_kinds(reader, tmp_path):
    with Server(folder_of_two_kinds(tmp_path / "studies"), tmp_path / "state", batch_size="6") as server:
        server.wait_until_ready()
        reader.connect(server.address)
        yield reader


@pytest.mark.server
def test_window_and_segments_are_kept_by_kind_of_picture(two_kinds):
    reader = two_kinds
    mr = [study_id for study_id in reader.ids() if study_id.startswith("study")]
    ct = [study_id for study_id in reader.ids() if study_id.startswith("ct")]

    def look(window=None, is_visible=None, opacity=None):
        """Set, or read, how the open study is shown."""
        display = reader.reading.volume.GetScalarVolumeDisplayNode()
        segments = reader.reading.segmentation.GetDisplayNode()
        segment_id = reader.reading.segmentation.GetSegmentation().GetNthSegmentID(0)
        if window is not None:
            display.AutoWindowLevelOff()
            display.SetWindowLevel(*window)
            segments.SetSegmentVisibility(segment_id, is_visible)
            segments.SetSegmentOpacity2DFill(segment_id, opacity)
            segments.SetOpacity3D(opacity)
        return (
            (display.GetWindow(), display.GetLevel()) if not display.GetAutoWindowLevel() else None,
            segments.GetSegmentVisibility(segment_id),
            segments.GetSegmentOpacity2DFill(segment_id),
            segments.GetOpacity3D(),
        )

    reader.open(mr[0])
    look((300, 150), False, 0.25)
    reader.open(ct[0])
    assert look()[:2] == (None, True)  # another kind: as Slicer shows it
    look((1500, -600), True, 0.75)
    reader.open(mr[1])
    assert look() == ((300, 150), False, 0.25, 0.25)
    assert not reader.reading.isDirty
    reader.open(ct[1])
    assert look() == ((1500, -600), True, 0.75, 0.75)
    slicer.mrmlScene.Clear(0)
    settle()
    reader.wait()
    reader.open(ct[0])
    assert look() == ((1500, -600), True, 0.75, 0.75)


def test_a_study_whose_display_was_deleted_is_closed_all_the_same(connected):  # noqa: F811
    connected.press("openButton")
    slicer.mrmlScene.RemoveNode(connected.reading.segmentation.GetDisplayNode())
    connected.press("closeButton")
    assert connected.reading is None


# -- time


def test_a_long_pause_does_not_count():
    from FirstPickLib.activity import ActiveTime

    now = [0.0]
    time = ActiveTime(300, lambda: now[0])
    for pause, expected in ((200, 200), (299, 499), (301, 499), (5, 504)):
        now[0] += pause
        time.seen()
        assert time.seconds == expected
    now[0] += 250
    assert time.seconds == 754  # still in the pause
    now[0] += 100
    assert time.seconds == 504


def test_a_sign_of_life_is_another_slice_or_a_moved_mouse(connected):  # noqa: F811
    from FirstPickLib.activity import Lookout

    connected.press("openButton")
    seen = []
    lookout = Lookout(lambda: seen.append(True))
    view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode")
    lookout.start()
    lookout.look()
    assert not seen
    view.SetSliceOffset(4)
    lookout.look()
    assert len(seen) == 1
    qt.QCursor.setPos(qt.QCursor.pos() + qt.QPoint(3, 3))
    lookout.look()
    assert len(seen) == 2
    lookout.look()
    assert len(seen) == 2
    lookout.stop()
    slicer.mrmlScene.RemoveNode(view)


def test_the_time_sent_with_a_label_leaves_a_long_pause_out(connected, recorded):  # noqa: F811
    qt.QSettings().setValue("FirstPick/idleMinutes", 10)
    connected.press("openButton")
    study_id = connected.reading.studyId
    connected.reading.active._last -= 9 * 60
    connected.draw("tumour", block(connected))
    connected.reading.active._last -= 11 * 60
    connected.press("submitButton")
    info = recorded.get(f"/datastore/label/info?label={study_id}&tag=final")
    assert 9 * 60 <= info["seconds"] < 10 * 60


# -- readers


def test_progress_by_reader_is_shown(reader, recorded):  # noqa: F811
    readers = [
        {"client": name, "studies": [], "n_done": done, "n_skipped": skipped, "seconds": seconds}
        for name, done, skipped, seconds in (("bo", 9, 0, 5400.0), ("cy", 1, 2, 40.0), ("alice", 4, 1, 480.0))
    ]
    recorded.post("/test/set", readers=readers)
    reader.connect(recorded.address)
    assert reader.ui.readersLabel.text.splitlines() == [
        "You: 4 done, 1 skipped, 2 min a study",
        "bo: 9 done, 10 min a study",
        "cy: 1 done, 2 skipped, 40 s a study",
    ]
    assert reader.ui.readersLabel.isVisible()
    more = [{**readers[0], "client": f"reader {number}", "n_done": 1} for number in range(4)]
    recorded.post("/test/set", readers=[*readers, *more])
    reader.connect(recorded.address)
    assert reader.ui.readersLabel.text.splitlines()[3:] == ["and 4 more"]
    assert "reader 3: 1 done" in reader.ui.readersLabel.toolTip


def test_a_second_reading_says_so(reader, recorded):  # noqa: F811
    proposal = recorded.get("/firstpick/proposal")
    for pick in proposal["picks"]:
        pick["read_by"] = ["Bo"]
    recorded.post("/test/set", proposal=proposal)
    reader.connect(recorded.address)
    assert reader.cell(reader.ids()[0], 4) == "second reading, first by Bo"
    reader.press("openButton")
    assert reader.ui.reasonLabel.text.splitlines()[-1] == "Second reading, first by Bo."
