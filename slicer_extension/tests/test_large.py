"""Large studies: what takes long is announced or done in pieces, and stays what Slicer itself would make of it."""

import gzip

import numpy as np
import pytest
import qt
import slicer
import vtk
from servers import Server, write_studies
from stage import wait_for
from test_bad_paths import block, connected, drawn, recorded  # noqa: F401 - fixtures

from FirstPickLib import packing, scene
from FirstPickLib.layers import countVoxels, drawnCopy, layers, merge, overlaps
from FirstPickLib.network import Network
from FirstPickLib.tasks import Compress, Task

LABELS = [{"name": name, "value": value, "color": "#ff0000"} for name, value in (("a", 7), ("b", 2), ("c", 300))]


@pytest.fixture
def segmentation():
    """Three segments on a volume that lies aslant; b and c overlap a."""
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    slicer.util.updateVolumeFromArray(volume, np.zeros((10, 12, 14), np.int16))
    volume.SetIJKToRASDirections(0, -1, 0, 0, 0, 1, -1, 0, 0)
    volume.SetSpacing(0.7, 1.1, 2.3)
    volume.SetOrigin(-30, 11, 5)
    node = scene.makeSegmentation(volume, LABELS)
    for name, part in (("a", np.s_[2:8, 3:9, 1:5]), ("b", np.s_[1:5, 4:10, 2:9]), ("c", np.s_[7:10, 0:4, 4:14])):
        mask = np.zeros((10, 12, 14), np.uint8)
        mask[part] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, name, volume)
    yield node, volume
    scene.removeNodes([node, volume])


def ofSlicer(node, volume, names):
    """What Slicer's own export makes, by the same values."""
    table = scene._colorTable(LABELS)
    labelmap = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    ids = vtk.vtkStringArray()
    for name in names:
        ids.InsertNextValue(name)
    extent = slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY
    logic = slicer.modules.segmentations.logic()
    logic.ExportSegmentsToLabelmapNode(node, ids, labelmap, volume, extent, table)
    array = slicer.util.arrayFromVolume(labelmap).copy()
    scene.removeNodes([labelmap, *slicer.util.getNodesByClass("vtkMRMLColorTableNode")[-2:]])
    return array


@pytest.mark.parametrize("names", ["abc", "cba", "bac", "ac", "b", ""])
def test_layers_are_merged_as_slicer_does_it(segmentation, names):
    node, volume = segmentation
    values = {label["name"]: label["value"] for label in LABELS}
    merged = merge(layers(node, volume), {name: values[name] for name in names}, (10, 12, 14))
    expected = ofSlicer(node, volume, names) if names else np.zeros((10, 12, 14))
    np.testing.assert_array_equal(merged, expected)


def test_what_shares_a_layer_or_lies_on_another_grid_is_the_same(segmentation):
    node, volume = segmentation
    before = merge(layers(node, volume), {"a": 1, "c": 2}, (10, 12, 14))
    counts, overlap = (
        countVoxels(layers(node, volume)),
        overlaps(layers(node, volume), {name: name for name in "abc"})[0],
    )
    assert overlap == np.count_nonzero(sum(part(node, volume, name) for name in "abc") > 1) > 0
    assert counts == {name: np.count_nonzero(part(node, volume, name)) for name in "abc"}
    node.GetSegmentation().RemoveSegment("b")
    node.GetSegmentation().CollapseBinaryLabelmaps(True)
    assert len(layers(node, volume)) == 1
    shared = merge(layers(node, volume), {"a": 1, "c": 2}, (10, 12, 14))
    assert np.count_nonzero(shared != before) <= overlap  # one layer holds one of them there

    twice = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "finer")
    slicer.util.updateVolumeFromArray(twice, np.zeros((20, 24, 28), np.int16))
    twice.CopyOrientation(volume)
    twice.SetSpacing(0.35, 0.55, 1.15)
    finer = merge(layers(node, twice), {"a": 1, "c": 2}, (20, 24, 28))
    assert finer.shape == (20, 24, 28)
    np.testing.assert_array_equal(finer[::2, ::2, ::2], shared)
    scene.removeNodes([twice])


@pytest.mark.parametrize("moved", ["both", "segmentation", "volume"])
def test_what_was_moved_is_drawn_where_it_is_seen(segmentation, moved):
    node, volume = segmentation
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 2.3)  # a voxel along k, which runs to the left
    transform.SetMatrixTransformToParent(matrix)
    for one in (node, volume) if moved == "both" else (node,) if moved == "segmentation" else (volume,):
        one.SetAndObserveTransformNodeID(transform.GetID())
    merged = merge(layers(node, volume), {label["name"]: label["value"] for label in LABELS}, (10, 12, 14))
    np.testing.assert_array_equal(merged, ofSlicer(node, volume, "abc"))
    scene.removeNodes([transform])


def test_a_copy_of_what_is_drawn_is_read_back_by_slicer_as_it_was(segmentation, tmp_path):
    node, volume = segmentation
    inner = node.GetSegmentation()
    inner.GetSegment("b").SetName("another name")
    inner.AddEmptySegment("empty", "empty", (0, 1, 0))
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(tmp_path / "work.seg.nrrd"))
    storage.SetCropToMinimumExtent(True)
    assert storage.WriteData(drawnCopy(node))
    assert inner.GetNumberOfSegments() == 4  # as it was
    again = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    assert storage.ReadData(again)
    read = again.GetSegmentation()
    assert [read.GetNthSegmentID(number) for number in range(read.GetNumberOfSegments())] == ["a", "b", "c"]
    for name in "abc":
        assert read.GetSegment(name).GetName() == inner.GetSegment(name).GetName()
        np.testing.assert_allclose(read.GetSegment(name).GetColor(), inner.GetSegment(name).GetColor())
        np.testing.assert_array_equal(part(again, volume, name), part(node, volume, name))
    scene.removeNodes([again])


def part(node, volume, name):
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, name, volume).astype(int)


class Painted(qt.QObject):
    """What a label showed whenever it was painted."""

    def __init__(self, label):
        super().__init__()
        self.label, self.texts = label, []
        label.installEventFilter(self)

    def eventFilter(self, _watched, event):
        if event.type() == qt.QEvent.Paint:
            self.texts.append(self.label.text)
        return False


def test_what_slicer_does_is_on_the_screen_before_the_window_stands_still(drawn, monkeypatch):  # noqa: F811
    painted, shown = Painted(drawn.ui.transferLabel), []

    def spy(name):
        original = getattr(slicer.util, name)

        def spied(*arguments):
            cursor = qt.QApplication.overrideCursor()
            shown.append((name, painted.texts[-1], cursor and cursor.shape()))
            return original(*arguments)

        monkeypatch.setattr(slicer.util, name, spied)

    title = drawn.reading.title
    spy("saveNode")
    drawn.press("saveButton")
    assert shown == [("saveNode", f"Writing {title} ...", qt.Qt.WaitCursor)]
    drawn.press("closeButton")
    for name in ("loadVolume", "loadLabelVolume"):
        spy(name)
    drawn.press("openButton")
    sign = (f"Slicer opens {title} ...", qt.Qt.WaitCursor)
    assert shown[1:] == [("loadVolume", *sign), ("loadLabelVolume", *sign)]
    assert qt.QApplication.overrideCursor() is None


def run(story):
    answers = []

    def told():
        answers.append((yield from story))

    Task(Network(), told()).start()
    wait_for(lambda: answers)
    return answers[0]


def compress(source, target, progress=None):
    return (yield Compress(str(source), str(target), progress))


def test_a_file_is_compressed_in_pieces_while_the_window_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "AT_ONCE_S", 0)
    monkeypatch.setattr(packing, "PIECE_BYTES", 1000)
    data = np.random.default_rng(0).integers(0, 9, 100_500).astype(np.uint8).tobytes()
    (tmp_path / "label.nii").write_bytes(data)
    beats, told = [], []
    timer = qt.QTimer()
    timer.setInterval(0)
    timer.connect("timeout()", lambda: beats.append(len(told)))
    timer.start()
    answer = run(compress(tmp_path / "label.nii", tmp_path / "label.nii.gz", lambda done, total: told.append(done)))
    timer.stop()
    assert answer.isGood
    assert gzip.decompress((tmp_path / "label.nii.gz").read_bytes()) == data
    assert told == sorted(told)
    assert len(told) >= 100
    assert len(set(beats)) > 50  # others had their turn in between
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["label.nii", "label.nii.gz"]


def test_what_cannot_be_compressed_is_said(tmp_path):
    answer = run(compress(tmp_path / "label.nii", tmp_path / "gone" / "label.nii.gz"))
    assert "could not be compressed" in answer.error


@pytest.mark.server
def test_a_label_is_sent_in_pieces_and_can_be_stopped_meanwhile(reader, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "AT_ONCE_S", 0)
    monkeypatch.setattr(packing, "PIECE_BYTES", 64)
    studies = write_studies(tmp_path / "studies", 2)
    labels = '[{name: organ, value: 2, color: "#00ff00"}]'
    with Server(studies, tmp_path / "state", labels=labels, batch_size="2") as server:
        server.wait_until_ready()
        reader.connect(server.address)
        reader.press("openButton")
        study_id = reader.reading.studyId
        organ = np.asarray(server.study(study_id).dataobj) > 200
        reader.draw("organ", organ)
        reader.ui.submitButton.click()
        wait_for(lambda: reader.logic.transfer and 0 < reader.logic.transfer[1] < reader.logic.transfer[2])
        assert reader.ui.transferLabel.text.startswith("Sending")
        reader.ui.cancelButton.click()
        reader.wait()
        assert "Cancelled" in reader.message
        assert reader.reading.isDirty
        assert server.pick(study_id)["status"] == "reserved"
        reader.press("submitButton")
        np.testing.assert_array_equal(np.asarray(server.label(study_id).dataobj), np.where(organ, 2, 0))
