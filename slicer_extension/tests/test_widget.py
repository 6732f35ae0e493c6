"""What the reader sees and clicks: list, map, keys, slices."""

import nibabel as nib
import numpy as np
import pytest
import qt
import slicer
import speed
from servers import oblique
from speed import answers
from stage import wait_for
from test_bad_paths import block, connected, recorded  # noqa: F401 - fixtures

from FirstPickLib import geometry, mapwidget, scene
from FirstPickLib.colors import UNSURE
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


def test_the_map_is_coloured_by_what_the_labels_leave_unsure_where_that_is_known(reader):
    proposal, points = answers()
    reader.logic.loadThumbnail = lambda study_id, done: None
    box, pool_map = reader.ui.unsureBox, reader.widget.map

    def shown(quarter):
        some = [{**points[0], "x": 9.0, "y": 0.0, "status": "done", "unsure": quarter}, *points[1:40]]
        reader.logic.worklist = WorkList({**proposal, "picks": []}, some, "alice")
        reader.widget._updateWorkList()
        x, y = place_of(reader, points[0]["study_id"])
        return pool_map._picture.toImage().pixelColor(x, y).name()

    plain = shown(None)
    assert box.isHidden()
    assert shown(1) == plain
    assert not box.isHidden()
    box.checked = True
    assert shown(1) == UNSURE[0]
    assert shown(4) == UNSURE[3]
    assert shown(None) == plain


def test_of_very_many_studies_the_open_ones_are_squares_and_the_others_keep_their_shapes(reader, monkeypatch):
    monkeypatch.setattr(speed, "N_STUDIES", mapwidget.MOST_SHAPES + 1)
    proposal, points = answers()
    reader.logic.loadThumbnail = lambda study_id, done: None
    points[7] |= {"x": 9.0, "y": 0.0, "status": "open"}  # nothing lies near
    points[8] |= {"x": -9.0, "y": 0.0, "status": "skipped"}
    reader.logic.worklist = WorkList(proposal, points, "alice")
    reader.widget._updateWorkList()
    pool_map = reader.widget.map
    places = [place_of(reader, points[number]["study_id"]) for number in (7, 8)]
    assert [pool_map.studyAt(*place) for place in places] == [points[number]["study_id"] for number in (7, 8)]
    picture, colors = pool_map._picture.toImage(), reader.logic.worklist.pointColors()
    (x, y), (left, top) = places
    assert {picture.pixelColor(x + i, y + j).name() for i in (-1, 0, 1) for j in (-1, 0, 1)} == {colors[7]}
    assert picture.pixelColor(x + 3, y) == pool_map.palette.base().color()
    assert len({picture.pixelColor(left + i, top + j).name() for i in (-1, 0, 1) for j in (-1, 0, 1)}) > 1


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
    assert "Saved your work" in connected.message
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
    place[geometry.AXES[plane]] = 2
    expected = (upright.affine @ [*place, 1])[:3]
    got = geometry.jumpTo(volume, {"index": 2, "plane": plane, "position_mm": 0.0})
    np.testing.assert_allclose(got, expected, atol=1e-4)
    scene.removeNodes([volume])


@pytest.fixture
def slices(connected, recorded):  # noqa: F811
    """A reader to whom each pick comes with three slices."""
    proposal = {**connected.logic._answers[0]}
    three = [
        {"index": 3, "plane": "axial", "position_mm": 1.5},
        {"index": 5, "plane": "coronal", "position_mm": 2.0},
        {"index": 6, "plane": "axial", "position_mm": 7.5},
    ]
    proposal["picks"] = [{**pick, "slices": three} for pick in proposal["picks"]]
    recorded.post("/test/set", proposal=proposal)
    connected.refresh()
    connected.press("openButton")
    return connected


def red():
    return slicer.mrmlScene.GetSingletonNode("Red", "vtkMRMLSliceNode")


def ticks(reader):
    items = [reader.ui.sliceList.item(number) for number in range(reader.ui.sliceList.count)]
    return [item.checkState() == qt.Qt.Checked for item in items]


def test_proposed_slices_are_jumped_to_by_click_button_or_key(slices):
    ui, volume = slices.ui, slices.reading.volume
    assert [ui.sliceList.item(i).text() for i in range(ui.sliceList.count)] == ["axial 3", "coronal 5", "axial 6"]
    assert "axial 3 (1.5 mm)" in ui.sliceList.item(0).toolTip()
    places = [geometry.slicePlace(volume, one) for one in slices.reading.slices.slices]

    def isAt(number):
        assert ui.sliceList.currentRow == number
        normal = slicer.util.arrayFromVTKMatrix(red().GetSliceToRAS())[:3, 2]
        np.testing.assert_allclose(red().GetSliceOffset(), normal @ places[number], atol=1e-3)

    isAt(0)
    assert not ui.previousSliceButton.enabled
    ui.sliceList.itemClicked.emit(ui.sliceList.item(2))
    isAt(2)
    assert not ui.nextSliceButton.enabled
    ui.previousSliceButton.click()
    isAt(1)
    keys = {one.key.toString(): one for one in slices.widget.keys._shortcuts}
    keys["Alt+Up"].activated.emit()
    isAt(0)
    keys["Alt+Up"].activated.emit()
    isAt(0)
    keys["Alt+Down"].activated.emit()
    isAt(1)


def test_slices_are_ticked_off_by_what_is_drawn_and_by_hand(slices):
    ui = slices.ui
    assert ui.sliceLabel.text == "0 of 3 slices done"
    slices.draw("tumour", block(slices))  # from 2 to 5 along y, 3 and 4 along z
    wait_for(lambda: ticks(slices) == [True, True, False])
    assert ui.sliceLabel.text == "2 of 3 slices done"
    ui.sliceList.item(2).setCheckState(qt.Qt.Checked)  # nothing is to be seen there
    ui.sliceList.item(1).setCheckState(qt.Qt.Unchecked)  # not finished yet
    assert ticks(slices) == [True, False, True]
    slices.draw("tumour", np.zeros_like(block(slices)))
    wait_for(lambda: ticks(slices) == [False, False, True])
    slices.draw("tumour", block(slices))
    wait_for(lambda: ticks(slices) == [True, False, True])
    study_id = slices.reading.studyId
    slices.press("closeButton")
    slices.open(study_id)
    assert "Resumed your saved work" in slices.message
    assert ticks(slices) == [True, False, True]
