"""Final labels as DICOM SEG in a PACS: on the slices of their series, once for each save, and later if need be."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from orthanc import Faulty, Orthanc, requests, uid, write_hospital
from server_process import Server, wait_for

from firstpick.sources.connection import DicomWeb, SourceError
from firstpick.sources.dicomweb import Pacs
from firstpick.sources.dicomweb_labels import seg_uid, send_label
from firstpick.sources.eligibility import Eligibility
from firstpick.sources.fetching import Fetching, fetch_by
from firstpick.sources.series import SeriesRule
from firstpick.sources.source import serve_study
from firstpick.voxels.label_formats import LabelError

pytest.importorskip("highdicom", reason="pip install 'firstpick[dicomweb]'")

CLASSES = {1: "liver", 2: "spleen"}


@pytest.fixture(scope="module")
def pacs(tmp_path_factory):
    with Orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        running.send(write_hospital(tmp_path_factory.mktemp("hospital")))
        yield running


@pytest.fixture
def studies(pacs, tmp_path):
    fetch_by(Fetching(folder=str(tmp_path)))
    yield {study.title: study for study in Pacs(pacs.address, Eligibility(), DicomWeb(), dict).look()[0]}
    fetch_by(Fetching())


def segs(pacs, study):
    """What the PACS holds of our labels of a study, the oldest first."""
    found = []
    for instance in pacs.find("Instance", StudyInstanceUID=study.folder, Modality="SEG"):
        file = requests.get(f"{pacs.root}/instances/{instance}/file", auth=pacs.auth, timeout=30).content
        found.append(pydicom.dcmread(BytesIO(file)))
    own = [seg for seg in found if seg.ReferencedSeriesSequence[0].SeriesInstanceUID == study.source.split("/")[-1]]
    return sorted(own, key=lambda seg: int(seg.InstanceNumber))


def drawn(study, folder, name="label.nii.gz", seed=0):
    """A label of noise on the grid of the file that readers open, as array (z, y, x) and file."""
    image = sitk.ReadImage(str(serve_study(study, folder / "served")))
    array = np.random.default_rng(seed).integers(0, 3, image.GetSize()[::-1]).astype(np.uint8)
    array[2] = 0  # a slice with nothing
    label = sitk.GetImageFromArray(array)
    label.CopyInformation(image)
    sitk.WriteImage(label, str(folder / name))
    return label, folder / name


@pytest.mark.parametrize("title", ["Visit 1/Thorax 2.0 B31f", "Visit 4/t2 cor", "Visit 6/Compressed"])
def test_each_voxel_lies_where_it_was_drawn(pacs, studies, tmp_path, title):
    pydicom_seg = pytest.importorskip("pydicom_seg", reason="another reader of DICOM SEG, for pydicom 2 alone")
    label, path = drawn(studies[title], tmp_path)
    send_label(studies[title], path, seg_uid(title), CLASSES, "alice")
    (seg,) = segs(pacs, studies[title])
    assert (int(seg.NumberOfFrames), len(seg.SegmentSequence)) == (16, 2)  # none dropped, though one slice is empty
    read = pydicom_seg.SegmentReader().read(seg)  # by the place of each frame in the patient
    for number, name in enumerate(("liver", "spleen"), start=1):
        assert read.segment_infos[number].SegmentLabel == name
        back = sitk.Resample(read.segment_image(number), label, sitk.Transform(), sitk.sitkNearestNeighbor)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(back) > 0, sitk.GetArrayFromImage(label == number))
    assert (seg.PatientID, seg.StudyInstanceUID) == (f"MRN-000{title[6]}", studies[title].folder)
    assert (str(seg.ContentCreatorName), seg.SeriesDescription) == ("alice^", "FirstPick final label")


def test_slices_keep_their_labels_where_one_is_missing(pacs, studies, tmp_path):
    """The grid takes all slices to be evenly apart: each frame must say where its slice really is."""
    study = studies["Visit 2/Abdomen"]
    label, path = drawn(study, tmp_path)
    send_label(study, path, seg_uid("missing"), CLASSES, "")
    (seg,) = segs(pacs, study)
    array = sitk.GetArrayFromImage(label)
    groups = seg.PerFrameFunctionalGroupsSequence
    heights = sorted({float(group.PlanePositionSequence[0].ImagePositionPatient[2]) for group in groups})
    assert heights == [0, 2, 4, 8, 10, 12, 14]
    for frame, group in zip(seg.pixel_array, groups, strict=True):
        index = heights.index(float(group.PlanePositionSequence[0].ImagePositionPatient[2]))
        number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        np.testing.assert_array_equal(frame, array[index] == number)


def test_a_second_save_is_the_next_of_one_series_and_the_same_save_is_there_once(pacs, studies, tmp_path):
    study = studies["Visit 3/t1 tse"]
    for save in ("1", "1", "2"):
        send_label(study, drawn(study, tmp_path, seed=int(save))[1], seg_uid("saves", save), CLASSES, "alice")
    first, second = segs(pacs, study)
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert [(seg.InstanceNumber, seg.ContentDescription) for seg in (first, second)] == [
        (1, "Final label 1"),
        (2, "Final label 2"),
    ]
    listed, left_out = Pacs(pacs.address, Eligibility(), DicomWeb(), dict).look()
    assert len(listed) == 9
    assert [entry.reason for entry in left_out] == ["a structured report, not an image (Modality SR)"]


def test_a_label_without_a_voxel_has_every_class_and_every_slice(pacs, studies, tmp_path):
    study = studies["Visit 5/Kopf"]
    label, path = drawn(study, tmp_path)
    sitk.WriteImage(label * 0, str(path))
    send_label(study, path, seg_uid("empty"), CLASSES, "alice")
    (seg,) = segs(pacs, study)
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["liver", "spleen"]
    assert (int(seg.NumberOfFrames), int(seg.pixel_array.sum())) == (16, 0)


def test_layers_that_overlap_are_segments_that_overlap(pacs, studies, tmp_path):
    study = studies["Visit 4/t2 ax"]
    label, _ = drawn(study, tmp_path)
    one, other = label > 0, label == 2
    both = sitk.Compose([one, other])
    for key, value in {"Name": "liver", "LabelValue": "1", "Layer": "0"}.items():
        both.SetMetaData(f"Segment0_{key}", value)
    for key, value in {"Name": "spleen", "LabelValue": "1", "Layer": "1"}.items():
        both.SetMetaData(f"Segment1_{key}", value)
    for number in (0, 1):
        both.SetMetaData(f"Segment{number}_ID", f"Segment_{number}")
    sitk.WriteImage(both, str(tmp_path / "label.seg.nrrd"))
    send_label(study, tmp_path / "label.seg.nrrd", seg_uid("layers"), CLASSES, "alice")
    (seg,) = segs(pacs, study)
    counts = [int(np.count_nonzero(sitk.GetArrayFromImage(layer))) for layer in (one, other)]
    found = [0, 0]
    for frame, group in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        found[int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber) - 1] += int(frame.sum())
    assert ([segment.SegmentLabel for segment in seg.SegmentSequence], found) == (["liver", "spleen"], counts)


def test_what_cannot_be_a_seg_and_what_is_not_taken_are_told_apart(pacs, studies, tmp_path):
    study = studies["Visit 1/Thorax 2.0 B31f"]
    sitk.WriteImage(sitk.Image(5, 5, 5, sitk.sitkUInt8), str(tmp_path / "other.nii.gz"))
    with pytest.raises(LabelError, match="does not lie on the slices"):
        send_label(study, tmp_path / "other.nii.gz", seg_uid("other"), CLASSES, "alice")
    _, path = drawn(study, tmp_path)
    with Faulty(pacs) as before:
        before.fault = lambda asked: 500 if asked.endswith("/studies") else None
        through = Pacs(before.address, Eligibility(), DicomWeb(), dict).look()[0][0]
        with pytest.raises(SourceError, match="answers 500") as error:
            send_label(through, path, seg_uid("refused"), CLASSES, "alice")
        assert not error.value.is_down


@pytest.mark.slow
def test_final_labels_of_readers_get_there_also_after_the_next_start(pacs, tmp_path):
    pytest.importorskip("monailabel", reason="pip install --no-deps monailabel==0.8.5")
    conf = ("batch_size", "4", "labels", "[{name: liver, value: 1}]")
    with Faulty(pacs) as before:
        with Server(before.address, tmp_path / "state", *conf) as server:
            server.wait_until_ready()
            first, second, third = [pick["study_id"] for pick in server.picks()][:3]
            here = {study.study_id: study for study in Pacs(pacs.address, Eligibility(), DicomWeb(), dict).look()[0]}
            n_before = {study_id: len(segs(pacs, here[study_id])) for study_id in (first, second, third)}
            server.upload(first, "alice")
            wait_for(lambda: len(segs(pacs, here[first])) == n_before[first] + 1, what="the SEG")
            wait_for(lambda: "pacs" in label_info(server, first), what="the note of it")
            server.upload(third, "bob", tag="saved")
            before.fault = lambda path: 503
            server.upload(second, "bob")
            assert server.pick(second)["status"] == "done"
            told = "1 final label is not in the PACS yet: "
            wait_for(lambda: told in server.status()["notice"], what="the notice")
            assert "pacs" not in label_info(server, second)
        before.fault = None
        with Server(before.address, tmp_path / "state", *conf) as server:
            server.wait_until_ready()
            wait_for(lambda: len(segs(pacs, here[second])) == n_before[second] + 1, what="the SEG after the next start")
            wait_for(lambda: "pacs" in label_info(server, second), what="the note of it")
            assert server.status()["notice"] == ""
            server.upload(first, "alice")
            wait_for(lambda: len(segs(pacs, here[first])) == n_before[first] + 2, what="the second SEG")
            own = [seg for seg in segs(pacs, here[first]) if len(seg.SegmentSequence) == 1]  # the other tests' have two
            assert [int(seg.InstanceNumber) for seg in own] == [1, 2]
            assert own[0].SeriesInstanceUID == own[1].SeriesInstanceUID
            assert len(segs(pacs, here[third])) == n_before[third]


def label_info(server, study_id):
    return server.get("/datastore/label/info", label=study_id, tag="final")


def test_nothing_is_left_here(studies, tmp_path):
    study = studies["Visit 1/Thorax 2.0 B31f"]
    serve_study(study, tmp_path / "served")
    assert list(Path(tmp_path, "fetched").iterdir()) == []
    assert uid(1, 1) in study.source


@pytest.mark.slow
def test_the_label_of_several_series_is_of_their_primary(pacs, tmp_path):
    pytest.importorskip("monailabel", reason="pip install --no-deps monailabel==0.8.5")
    rule = SeriesRule("study_uid", primary=("*cor",))
    studies = Pacs(pacs.address, Eligibility(), DicomWeb(), dict, rule).look()[0]
    (visit,) = [study for study in studies if [one.name for one in study.series] == ["t2 cor", "t2 ax"]]
    conf = ("series.by", "study_uid", "series.primary", "*cor", "labels", "[{name: liver, value: 1}]")
    with Server(pacs.address, tmp_path / "state", *conf) as server:
        server.wait_until_ready()
        n_before = len(segs(pacs, visit.primary))
        names = [one["name"] for one in server.get(f"/firstpick/series/{visit.study_id}")]
        assert names == ["t2 cor", "t2 ax"]
        server.upload(visit.study_id, "alice")
        wait_for(lambda: len(segs(pacs, visit.primary)) == n_before + 1, what="the SEG")
        assert server.status()["notice"] == ""
