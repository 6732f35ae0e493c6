"""What the reader sees and clicks: list, map, keys, slices."""

import nibabel as nib
import numpy as np
import pytest
import qt
import slicer
from servers import oblique
from speed import answers
from stage import wait_for
from test_bad_paths import block, connected, recorded  # noqa: F401 - fixtures

from FirstPickLib import scene
from FirstPickLib.worklist import WorkList


def mouse(widget, kind, x, y):
    place = qt.QPointF(x, y)
    button = qt.Qt.LeftButton if kind == qt.QEvent.MouseButtonPress else qt.Qt.NoButton
    event = qt.QMouseEvent(kind, place, widget.mapToGlobal(place), button, button, qt.Qt.NoModifier)
    qt.QApplication.sendEvent(widget, event)


def place_of(reader, study_id):
    pool_map = reader.widget.map
    pool_map._draw()
    return pool_map._place(pool_map._map.index(study_id))


def test_a_click_on_a_pick_in_the_map_selects_it_in_the_list_and_back(connected):  # noqa: F811
    second = connected.ids()[1]
    mouse(connected.widget.map, qt.QEvent.MouseButtonPress, *place_of(connected, second))
    assert connected.widget.table.selectedStudy() == second
    third = connected.ids()[2]
    connected.ui.table.selectRow(2)
    assert connected.widget.map._selected == third
    connected.ui.filterBox.currentIndex = 3  # done: nothing
    mouse(connected.widget.map, qt.QEvent.MouseButtonPress, *place_of(connected, second))
    assert connected.ui.filterBox.currentIndex == 0
    assert connected.widget.table.selectedStudy() == second


def test_a_click_on_another_study_selects_the_pick_that_stands_for_it(connected):  # noqa: F811
    worklist = connected.logic.worklist
    others = [point for point in worklist.points if not worklist.rank(point["study_id"])]
    at = connected.widget.map.studyAt
    point = next(one for one in others if at(*place_of(connected, one["study_id"])) == one["study_id"])
    mouse(connected.widget.map, qt.QEvent.MouseButtonPress, *place_of(connected, point["study_id"]))
    assert connected.widget.table.selectedStudy() == point["stands_with"]
    assert f"{point['stands_with']} stands for it" in connected.message


def test_the_mouse_over_a_dot_shows_its_picture(connected, recorded):  # noqa: F811
    pool_map = connected.widget.map
    study_id = connected.ids()[0]
    x, y = place_of(connected, study_id)
    before = pool_map.grab().toImage()
    mouse(pool_map, qt.QEvent.MouseMove, x, y)
    wait_for(lambda: connected.logic.thumbnails.get(study_id))
    assert pool_map.grab().toImage() != before
    pool_map.leaveEvent(None)
    assert pool_map.grab().toImage() == before


def test_the_map_changes_with_the_statuses(connected):  # noqa: F811
    before = connected.widget.map.grab().toImage()
    connected.press("openButton")
    connected.draw("tumour", block(connected))
    connected.press("submitButton")
    connected.press("closeButton")
    connected.widget.map.select("")
    assert connected.widget.map.grab().toImage() != before


def test_double_click_or_enter_opens(connected):  # noqa: F811
    table = connected.ui.table
    table.activated.emit(table.model().index(1, 2))
    connected.wait()
    assert connected.reading.studyId == connected.ids()[1]


def test_search_and_tooltip(connected):  # noqa: F811
    study_id = connected.ids()[1]
    connected.ui.searchEdit.text = study_id
    assert study_id in connected.ids()
    tooltip = connected.ui.table.item(0, 4).toolTip()
    assert connected.logic.worklist.row(connected.ids()[0]).reason in tooltip
    connected.ui.searchEdit.text = "no such study"
    assert connected.ids() == []


def test_pictures_are_fetched_for_the_lines_in_view_only(reader):
    asked = []
    reader.logic.loadThumbnail = lambda study_id, done: asked.append(study_id)
    reader.logic.worklist = WorkList(*answers(), "alice")
    reader.widget._updateWorkList()
    wait_for(lambda: asked)
    assert len(set(asked)) < 20
    reader.ui.table.scrollToBottom()
    wait_for(lambda: reader.ids()[-1] in asked)
    assert len(set(asked)) < 40


def test_keys_do_what_buttons_do(connected):  # noqa: F811
    keys = {one.key.toString(): one for one in connected.widget.keys._shortcuts}
    connected.press("openButton")
    first = connected.reading.studyId
    keys["Ctrl+Shift+N"].activated.emit()
    connected.wait()
    assert connected.reading.studyId == connected.ids()[1]
    keys["Ctrl+Shift+P"].activated.emit()
    connected.wait()
    assert connected.reading.studyId == first
    keys["Ctrl+Shift+K"].activated.emit()
    assert connected.ui.skipFrame.isVisible()
    connected.ui.skipBox.setCurrentText("  ")
    connected.press("confirmSkipButton")
    assert "Type why" in connected.message
    assert connected.reading.studyId == first
    connected.draw("tumour", block(connected))
    keys["Ctrl+Shift+D"].activated.emit()
    connected.wait()
    assert "Saved a draft" in connected.message
    keys["Ctrl+Return"].activated.emit()
    connected.wait()
    assert f"Submitted {first}" in connected.message


def test_the_whole_batch_by_the_next_button_only(connected):  # noqa: F811
    connected.press("openButton")
    for _ in range(3):
        connected.draw("organ", block(connected))
        connected.press("submitButton")
    assert connected.reading is None
    assert connected.ui.allDoneFrame.isVisible()
    assert not connected.ui.openButton.enabled


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "PIR", "SRA", "ILP"])
@pytest.mark.parametrize("turn", [(0, 0, 0), (20, -15, 10)])
@pytest.mark.parametrize("plane", ["sagittal", "coronal", "axial"])
def test_a_proposed_slice_is_where_it_counts_in_the_upright_grid(axes, turn, plane, tmp_path):
    upright = nib.Nifti1Image(np.zeros((10, 12, 8), np.int16), oblique(turn))
    order = nib.orientations.axcodes2ornt(axes)
    image = upright.as_reoriented(nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), order))
    nib.save(image, tmp_path / "scan.nii.gz")
    volume = scene.loadVolume(str(tmp_path / "scan.nii.gz"), "scan")
    place = (np.array(upright.shape) - 1) / 2
    place[scene.AXES[plane]] = 2
    expected = (upright.affine @ [*place, 1])[:3]
    got = scene.jumpTo(volume, {"index": 2, "plane": plane, "position_mm": 0.0})
    np.testing.assert_allclose(got, expected, atol=1e-4)
    scene.removeNodes([volume])


def test_proposed_slices_are_listed_and_jumped_to(connected, recorded):  # noqa: F811
    proposal = {**connected.logic._answers[0]}
    slices = [
        {"index": 3, "plane": "axial", "position_mm": 1.5},
        {"index": 5, "plane": "coronal", "position_mm": 2.0},
    ]
    proposal["picks"] = [{**pick, "slices": slices} for pick in proposal["picks"]]
    recorded.post("/test/set", proposal=proposal)
    connected.refresh()
    view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode")
    view.SetOrientationToAxial() if hasattr(view, "SetOrientationToAxial") else view.SetOrientation("Axial")
    connected.press("openButton")
    box = connected.ui.sliceBox
    assert [box.itemText(i) for i in range(box.count)] == ["axial 3 (1.5 mm)", "coronal 5 (2.0 mm)"]

    def depth():
        matrix = view.GetSliceToRAS()
        return np.array([matrix.GetElement(row, 3) for row in range(3)])

    offset = [view.GetSliceOffset()]
    box.activated.emit(1)
    offset.append(view.GetSliceOffset())
    expected = [scene.slicePlace(connected.reading.volume, one)[2] for one in slices]
    normal = view.GetSliceToRAS().GetElement(2, 2)
    np.testing.assert_allclose(np.array(offset) * np.sign(normal), expected, atol=1e-3)
    assert depth().shape == (3,)
    slicer.mrmlScene.RemoveNode(view)
