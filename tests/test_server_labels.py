"""What a reader opens and what comes back of it, through the real server: pick, download, label, and again."""

import threading
import time
import unicodedata
from urllib.parse import quote

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
requests = pytest.importorskip("requests", reason="pip install 'firstpick[server]'")

from conftest import Phantom  # noqa: E402
from server_process import Server, wait_for  # noqa: E402 - needs requests

from firstpick.board.events import saved_tag  # noqa: E402

pytestmark = pytest.mark.slow

NAMES = ["new\nline", "x" * 248, "with space ", "back\\slash", "100%", "#1+2?.v2", "<b>"]
NAMES += [unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD")]
LABELS = '[{name: liver, value: 1, color: "#ff0080"}]'


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Studies of many kinds and names, no two alike."""
    phantom = Phantom(tmp_path_factory.mktemp("labels") / "studies")
    phantom.nifti("plain.nii.gz")
    phantom.nifti("las.nii.gz", axes="LAS", array=phantom.array + 3)
    phantom.series("ct", uid="1.2.8")
    phantom.series("tilted", uid="1.2.7")
    for path in (phantom.folder / "tilted").iterdir():
        header = pydicom.dcmread(path)
        z = float(header.ImagePositionPatient[2])
        header.ImagePositionPatient = [0, round(z * np.sin(np.radians(20)), 6), round(z * np.cos(np.radians(20)), 6)]
        header.PixelData = (header.pixel_array + 11).astype(np.int16).tobytes()
        header.save_as(path)
    phantom.series("pet", uid="1.2.9", Modality="PT")
    for number, path in enumerate(sorted((phantom.folder / "pet").iterdir())):
        header = pydicom.dcmread(path)
        header.RescaleSlope, header.RescaleIntercept = 0.5 + number, 0
        header.save_as(path)
    for number, name in enumerate(NAMES):
        array = np.roll(phantom.array, number + 1, axis=0)
        (phantom.folder / f"{name}.nii").write_bytes(nib.Nifti1Image(array, np.eye(4)).to_bytes())
    return phantom


@pytest.fixture(scope="module")
def server(tree, tmp_path_factory):
    state = tmp_path_factory.mktemp("labels-state") / "state"
    with Server(tree.folder, state, "batch_size", "30", "labels", LABELS, "duplicates", "0") as started:
        started.wait_until_ready()
        yield started


def study_of(server, start):
    """The study whose id begins like that."""
    return next(i for i in server.get("/datastore/", output="all")["objects"] if i.startswith(start))


def label_file(server, study_id, folder, tag="final"):
    """A study's label as it can be downloaded, read by nibabel."""
    path = folder / "downloaded.nii.gz"
    path.write_bytes(server.get("/datastore/label", label=study_id, tag=tag).content)
    return nib.load(path)


def test_every_study_is_offered_opened_labelled_and_done(server):
    ids = set(server.get("/datastore/", output="all")["objects"])
    assert len(ids) == 5 + len(NAMES)
    for _ in range(len(ids)):
        sample = wait_for(lambda: next_or_none(server), 30, "a study that is ready")
        info = server.get("/datastore/image/info", image=sample["id"])
        assert sample["path"] == info["path"]
        assert sample["name"] == info["name"]
        assert info["path"].endswith(info["name"].split(".", 1)[-1].rpartition(".")[2])
        kind = "label.nrrd" if sample["name"].endswith(".nrrd") else "label.nii.gz"  # NIfTI cannot carry a shear
        label = server.mask(sample["id"], kind)
        server.upload(sample["id"], "alice", name=kind, content=label)
        assert server.get("/datastore/label", label=sample["id"], tag="final").content == label
        facts = server.get("/datastore/label/info", label=sample["id"], tag="final")
        assert (facts["client_id"], facts["changes"], facts["values"][0]["value"]) == ("alice", "", 1)
        assert server.pick(sample["id"])["status"] == "done"
        for route in ("thumbnail", "lookalikes"):
            server.get(f"/firstpick/{route}/{quote(sample['id'])}")
        ids.discard(sample["id"])
    assert ids == set()
    assert server.next_sample("alice") == {}
    assert server.status()["unmatched_labels"] == server.status()["unknown_values"] == []


def next_or_none(server):
    answer = requests.post(
        f"http://127.0.0.1:{server.port}/activelearning/firstpick", json={"client_id": "alice"}, timeout=30
    )
    assert answer.status_code in (200, 503), answer.text
    return answer.json() if answer.status_code == 200 else None


def test_a_label_flipped_by_its_reader_lies_as_its_study_does(server, tmp_path):
    study_id = study_of(server, "las")
    study = nib.load(server.get("/datastore/image/info", image=study_id)["path"])
    mask = np.zeros(study.shape, np.uint8)
    mask[1:3, 2:5, 0:2] = 1
    label = nib.Nifti1Image(mask, study.affine)
    turn = nib.orientations.axcodes2ornt("LAI")  # 3D Slicer flips k of a left-handed volume
    flipped = label.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(study.affine), turn))
    server.upload(study_id, "alice", tag="flipped", content=flipped.to_bytes(), name="label.nii")
    path = server.state / "datastore" / "labels" / "flipped" / "las.nii"
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), mask)
    np.testing.assert_allclose(nib.load(path).affine, study.affine, atol=1e-5)
    assert server.get("/datastore/label/info", label=study_id, tag="flipped")["changes"] == "flipped along z"


def test_a_tilted_series_is_served_with_its_shear_and_its_label_keeps_it(server, tree, tmp_path):
    study_id = study_of(server, "1.2.7")
    info = server.get("/datastore/image/info", image=study_id)
    assert info["name"].endswith("tilted.nrrd")
    assert info["path"].endswith(".nrrd")
    served = server.opened(study_id)
    step = np.subtract(served.TransformIndexToPhysicalPoint((0, 0, 1)), served.TransformIndexToPhysicalPoint((0, 0, 0)))
    np.testing.assert_allclose(step, [0, 2 * np.sin(np.radians(20)), 2 * np.cos(np.radians(20))], atol=1e-4)
    array = np.zeros(served.GetSize()[::-1], np.uint8)
    array[1:3, 2:5, 3:7] = 1
    label = sitk.GetImageFromArray(array)
    label.CopyInformation(served)
    sitk.WriteImage(label, str(tmp_path / "label.nii.gz"))  # ITK makes its axes orthogonal
    server.upload(study_id, "alice", tag="tilted", content=(tmp_path / "label.nii.gz").read_bytes())
    saved = label_file(server, study_id, tmp_path, "tilted")
    np.testing.assert_array_equal(np.asarray(saved.dataobj).T, array)
    np.testing.assert_allclose(saved.affine[:3, 2], np.multiply(step, [-1, -1, 1]), atol=1e-4)


def test_a_pet_series_is_served_as_it_was_embedded(server, tree):
    study_id = study_of(server, "1.2.9")
    voxels = sitk.GetArrayFromImage(server.opened(study_id))
    slopes = {}
    for path in (tree.folder / "pet").iterdir():
        header = pydicom.dcmread(path)
        slopes[float(header.ImagePositionPatient[2])] = header.pixel_array * float(header.RescaleSlope)
    np.testing.assert_allclose(voxels, [slopes[z] for z in sorted(slopes)])


def test_a_segmentation_file_is_a_label_and_strange_values_are_named(server):
    study_id = study_of(server, "plain")
    image = server.opened(study_id)
    layers = np.zeros((*image.GetSize()[::-1], 2), np.uint8)
    layers[1:4, 1:4, 1:4, 0] = layers[2:5, 2:5, 2:5, 1] = 1
    label = sitk.GetImageFromArray(layers, isVector=True)
    label.CopyInformation(image)
    for number, name in enumerate(("liver", "tumour")):
        said = {"ID": f"S{number}", "Name": name, "LabelValue": "1", "Layer": str(number)}
        for key, value in said.items():
            label.SetMetaData(f"Segment{number}_{key}", value)
    path = server.state.parent / "label.seg.nrrd"
    sitk.WriteImage(label, str(path))
    server.upload(study_id, "alice", tag="layers", name="label.seg.nrrd", content=path.read_bytes())
    assert (server.state / "datastore/labels/layers/plain.seg.nrrd").read_bytes() == path.read_bytes()
    facts = server.get("/datastore/label/info", label=study_id, tag="layers")
    assert [(value["name"], value["n_voxels"]) for value in facts["values"]] == [("liver", 27), ("tumour", 27)]
    named = server.status()["unknown_values"]
    assert named == [{"study_id": study_id, "tag": "layers", "values": ["1 (tumour)"]}]


def test_what_is_no_label_is_refused_and_changes_nothing(server):
    study_id = study_of(server, "plain")
    before = server.get("/datastore/label", label=study_id, tag="final").content
    for content, reason in ((b"", "empty"), (b"no label", "cannot be read"), (before[:60], "cannot be read")):
        assert reason in server.upload(study_id, "bob", content=content, expect=422)
    other = server.mask(study_of(server, "back"), "label.nii.gz")
    assert "does not lie on the grid of its study" in server.upload(study_id, "bob", content=other, expect=422)
    assert server.get("/datastore/label", label=study_id, tag="final").content == before
    assert server.get("/datastore/label/info", label=study_id, tag="final")["client_id"] == "alice"
    assert list((server.state / "datastore" / "incoming").iterdir()) == []


def test_nobody_waits_while_a_label_is_checked(server, tmp_path):
    study_id = study_of(server, "plain")
    label = server.mask(study_id)
    seconds = []

    def upload():
        for _ in range(20):
            server.upload(study_id, "alice", tag="busy", content=label)

    thread = threading.Thread(target=upload)
    thread.start()
    while thread.is_alive():
        start = time.monotonic()
        server.get("/info/")
        seconds.append(time.monotonic() - start)
    thread.join()
    assert len(seconds) > 3
    assert server.get("/datastore/label/info", label=study_id, tag="busy")["n_voxels"] > 0


def test_labels_are_listed_and_fetched_as_they_were_sent(server, tree, tmp_path):
    """A segmentation with layers, names and a cropped extent comes back bit by bit; earlier final labels, too."""
    study_id, client = "plain.nii.gz", "Zoë, the 2nd"
    first = server.mask(study_id, value=1)
    server.upload(study_id, client, content=first)
    server.upload(study_id, "bob")
    image = server.opened(study_id)
    layers = np.zeros((*image.GetSize()[::-1], 2), np.uint8)
    layers[1:3, 1:4, 1:4, 0], layers[2:4, 2:4, 2:4, 1] = 1, 1
    sent = sitk.GetImageFromArray(layers, isVector=True)
    sent.CopyInformation(image)
    for number, name in enumerate(("liver", "Segment_1")):
        for key, value in (("ID", name), ("Name", name), ("Layer", str(number)), ("LabelValue", "1")):
            sent.SetMetaData(f"Segment{number}_{key}", value)
    path = tmp_path / "work.seg.nrrd"
    sitk.WriteImage(sent, str(path), useCompression=True)
    server.upload(study_id, client, tag=saved_tag(client), name=path.name, content=path.read_bytes())

    listed = server.get(f"/firstpick/labels/{study_id}", client_id=client)
    assert [label["title"] for label in listed[:2]] == ["Your saved work", "Final label by bob"]
    saved, earlier = listed[0], next(label for label in listed if label["version"])
    assert earlier["title"] == f"Earlier final label by {client}"
    assert (saved["ending"], saved["is_resumed"], saved["n_voxels"]) == (".seg.nrrd", True, 26)
    assert server.get(saved["path"]).content == path.read_bytes()
    assert server.get(earlier["path"]).content == first
    assert saved["n_bytes"] == path.stat().st_size


def test_the_labels_of_a_study_of_any_name_are_found_by_their_paths(server):
    for name in NAMES:
        study_id = study_of(server, name)
        content = server.mask(study_id)
        server.upload(study_id, "carol", content=content)
        (label, *_) = server.get(f"/firstpick/labels/{quote(study_id)}", client_id="carol")
        assert server.get(label["path"]).content == content


def test_names_and_labels_survive_a_kill(server, tree):
    server.kill()
    with Server(tree.folder, server.state, "labels", LABELS, "batch_size", "30", "duplicates", "0") as again:
        again.wait_until_ready()
        assert again.status()["n_labelled"] == 5 + len(NAMES)
        assert again.status()["unmatched_labels"] == []
