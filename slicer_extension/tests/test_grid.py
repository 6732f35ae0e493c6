"""Labels and views on a study's own grid, whatever that is, against the real server."""

import nibabel as nib
import numpy as np
import pytest
import slicer
from PIL import Image
from servers import Server, oblique
from stage import wait_for

from FirstPickLib import geometry, scene

pytestmark = pytest.mark.server
LABELS = '[{name: tumour, value: 5, color: "#ff0080"}, {name: organ, value: 2, color: "#00ff00"}]'
SHAPE = (14, 11, 9)
ORIENTATIONS = {"las": "LAS", "lps": "LPS", "permuted": "PIR", "permuted_left": "ILP"}


def write_volume(path, axes="RAS", degrees=(0, 0, 0), shape=SHAPE, seed=0):
    """No two voxels alike in a corner that no flip and no exchange of axes leaves where it is."""
    array = np.random.default_rng(seed).permutation(int(np.prod(shape))).reshape(shape).astype(np.int16)
    upright = nib.Nifti1Image(array, oblique(degrees))
    wanted = nib.orientations.axcodes2ornt(axes)
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), wanted)
    nib.save(upright.as_reoriented(turn), path)


def write_picture(path, mode, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    pixels[4:9, 20:33] = 255
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture(scope="module")
def grids(tmp_path_factory):
    """Studies on grids of every kind."""
    folder = tmp_path_factory.mktemp("grids")
    for name, axes in ORIENTATIONS.items():
        write_volume(folder / f"{name}.nii.gz", axes)
        write_volume(folder / f"oblique_{name}.nii.gz", axes, (20, -15, 10))
    write_volume(folder / "flat_las.nii.gz", "LAS", (20, -15, 10), (14, 11, 1))
    write_volume(folder / "sagittal_slice.nii.gz", "LPS", shape=(1, 14, 11))
    write_picture(folder / "colour.png", "RGB")
    write_picture(folder / "transparent.png", "RGBA")
    write_picture(folder / "grey.png", "L")
    write_picture(folder / "photo.jpg", "RGB")
    write_picture(folder / "scan.tif", "RGB")
    return folder


@pytest.fixture(scope="module")
def server(grids, tmp_path_factory):
    n_studies = len(list(grids.iterdir()))
    with Server(grids, tmp_path_factory.mktemp("of") / "state", labels=LABELS, batch_size=str(n_studies)) as running:
        running.wait_until_ready()
        yield running


def voxels_of(path):
    """What a file holds, (x, y, z), by other means than Slicer's; of colours the red."""
    if path.name.endswith(".nii.gz"):
        return np.asarray(nib.load(path).dataobj)
    pixels = np.asarray(Image.open(path))
    return (pixels if pixels.ndim == 2 else pixels[..., 0]).T[..., np.newaxis]


def seen(reader):
    """What Slicer shows of the open study, with the axes of its own grid."""
    array = slicer.util.arrayFromVolume(reader.reading.volume)
    return (array[..., 0] if array.ndim == 4 else array).T


def drawn(reader, name):
    segmentation = reader.reading.segmentation
    segment_id = segmentation.GetSegmentation().GetSegmentIdBySegmentName(name)
    return slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, reader.reading.volume).T != 0


def test_the_stand_in_turns_left_handed_grids_as_slicer_does_while_loading(tmp_path):
    write_volume(tmp_path / "scan.nii.gz", "LAS")
    file, volume = nib.load(tmp_path / "scan.nii.gz"), scene.loadVolume(str(tmp_path / "scan.nii.gz"), "scan")
    assert np.linalg.det(file.affine) < 0 < np.linalg.det(geometry.affineOf(volume))
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(volume).T, np.asarray(file.dataobj)[:, :, ::-1])
    scene.removeNodes([volume])


STUDIES = (
    *(f"{kind}{name}.nii.gz" for name in ORIENTATIONS for kind in ("", "oblique_")),
    *("flat_las.nii.gz", "sagittal_slice.nii.gz"),
    *("colour.png", "transparent.png", "grey.png", "photo.jpg", "scan.tif"),
)


@pytest.mark.parametrize("study_id", STUDIES)
def test_the_labels_array_pairs_with_the_studys(study_id, reader, server, grids):
    reader.connect(server.address)
    reader.open(study_id)
    assert reader.reading.studyId == study_id, reader.message
    volume = reader.reading.volume
    isColour = study_id.partition(".")[0] in ("colour", "transparent", "photo", "scan")
    assert volume.IsA("vtkMRMLVectorVolumeNode") == isColour
    shown = seen(reader)
    limits = np.percentile(shown, (60, 90))
    organ, tumour = (shown > limits[0]) & (shown <= limits[1]), shown > limits[1]
    reader.draw("organ", organ)
    reader.draw("tumour", tumour)
    reader.press("saveButton")
    reader.press("closeButton")
    reader.open(study_id)
    assert "Resumed your saved work" in reader.message
    np.testing.assert_array_equal(drawn(reader, "organ"), organ)
    np.testing.assert_array_equal(drawn(reader, "tumour"), tumour)
    reader.press("submitButton")

    label, file = server.label(study_id), voxels_of(grids / study_id)
    expected = np.where(file > limits[1], 5, np.where(file > limits[0], 2, 0))
    np.testing.assert_array_equal(np.asarray(label.dataobj), expected)
    if study_id.endswith(".nii.gz"):
        np.testing.assert_allclose(label.affine, nib.load(grids / study_id).affine, atol=1e-4)


def test_an_oblique_study_is_shown_in_its_own_planes_and_its_slices_are_ticked_off(reader, tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    for number, axes in enumerate(("LAS", "PIR")):
        write_volume(studies / f"{axes}.nii.gz", axes, (20, -15, 10), (20, 22, 24), seed=number)
    views = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    before = [slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS()) for view in views]
    slices = {"unit": "slice", "views.planes": "[axial]", "batch_size": "4"}
    with Server(studies, tmp_path / "state", labels=LABELS, **slices) as server:
        server.wait_until_ready()
        reader.connect(server.address)
        reader.press("openButton")
        study_id, volume = reader.reading.studyId, reader.reading.volume
        proposed = server.pick(study_id)["slices"]
        n_slices = len(proposed)
        assert n_slices > 1
        assert reader.ui.sliceLabel.text == f"0 of {n_slices} slices done"
        mask = np.zeros(volume.GetImageData().GetDimensions(), bool)
        for number, one in enumerate(proposed):
            axis, index = geometry.sliceIndex(volume, one)
            place = [2, 3, 4]
            place[axis] = index
            mask[tuple(place)] = True
            assert any(shows(view, volume, axis, index) for view in views)
            assert reader.ui.sliceList.currentRow == number
            reader.ui.nextSliceButton.click()
        reader.draw("organ", mask)
        wait_for(lambda: reader.ui.sliceLabel.text == f"{n_slices} of {n_slices} slices done")
        reader.press("submitButton")

        label = nib.as_closest_canonical(server.label(study_id))
        on_slice = {int(k) for k in np.nonzero(np.asarray(label.dataobj))[2]}
        assert on_slice == {one["index"] for one in proposed}
        if reader.reading:
            reader.press("closeButton")
        after = [slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS()) for view in views]
        np.testing.assert_allclose(after, before, atol=1e-6)


def shows(view, volume, axis, index):
    """A view's plane runs through the middles of all voxels of a slice."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in volume.GetImageData().GetDimensions()])).reshape(3, -1)
    corners[axis] = index
    places = geometry.affineOf(volume) @ [*corners, np.ones(8)]
    return np.abs(np.linalg.inv(slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS())) @ places)[2].max() < 1e-3
