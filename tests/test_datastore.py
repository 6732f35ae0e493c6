"""MONAI Label's view of any studies folder."""

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
pytest.importorskip("requests", reason="pip install 'firstpick[server]'")

from conftest import Phantom
from server_process import FAST, Server, firstpick, snapshot

pytestmark = pytest.mark.slow

CT = "1.2.3-5e253a"
IDS = [CT, "1.2.8-5e253a", "1.2.9-5e253a", "a/flat.nii.gz", "chest.dcm", "mha/volume.mha", "one.nii", "photo.jpeg"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """NIfTI, two folders of DICOM series, a single DICOM image, JPEG and MetaImage, at several depths."""
    phantom = Phantom(tmp_path_factory.mktemp("tree") / "studies")
    phantom.nifti("a/flat.nii.gz")
    phantom.nifti("one.nii", array=phantom.array[::-1])
    phantom.series("a/deep/ct", uid="1.2.3")
    phantom.series("two", uid="1.2.8")
    phantom.series("two", uid="1.2.9")
    phantom.dicom(
        "chest.dcm", np.arange(400, dtype=np.uint16).reshape(20, 20), Modality="CR", SeriesInstanceUID="1.2.4"
    )
    phantom.itk("mha/volume.mha")
    sitk.WriteImage(
        sitk.GetImageFromArray(np.arange(600, dtype=np.uint8).reshape(20, 30) % 251), phantom.folder / "photo.jpeg"
    )
    for path in [*phantom.folder.rglob("*"), phantom.folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return phantom


@pytest.fixture(scope="module")
def server(tree, tmp_path_factory):
    """Serves the tree, which it must not write."""
    before = snapshot(tree.folder)
    with Server(tree.folder, tmp_path_factory.mktemp("tree-state") / "state") as started:
        started.wait_until_ready()
        yield started
    assert snapshot(tree.folder) == before


def test_command_line_and_server_give_the_same_ids(server):
    objects = server.get("/datastore/", output="all")["objects"]
    assert sorted(objects) == sorted(IDS)
    pairs = [item for key, value in zip(FAST[::2], FAST[1::2], strict=True) for item in ("--conf", key, value)]
    done = firstpick("pick", "--json", "--studies", server.studies, "--state", server.state, *pairs)
    assert done.returncode == 0, done.stderr
    proposal = json.loads(done.stdout)
    assert sorted(pick["study_id"] for pick in proposal["picks"]) == sorted(IDS)
    served = server.get("/firstpick/proposal")
    assert proposal["picks"] == served["picks"]
    assert {key for key in proposal if proposal[key] != served[key]} == set()


@pytest.mark.parametrize("study_id", IDS)
def test_every_study_can_be_opened(server, study_id, tmp_path):
    answer = server.image(study_id)
    name = answer.headers["content-disposition"].split("filename=")[1].strip('"')
    (tmp_path / name).write_bytes(answer.content)
    image = sitk.ReadImage(str(tmp_path / name))
    assert max(image.GetSize()) in (12, 20, 30)
    server.ask("HEAD", "/datastore/image", params={"image": study_id})


def test_an_unknown_study_cannot_be_opened(server):
    assert "NOT Found" in server.get("/datastore/image", 404, image="a/nobody")


def test_a_dicom_series_comes_with_its_geometry(server, tree, tmp_path):
    path = tmp_path / "ct.nii.gz"
    path.write_bytes(server.image(CT).content)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tree.folder / "a" / "deep" / "ct")))
    series, converted = reader.Execute(), sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(converted), sitk.GetArrayFromImage(series))
    np.testing.assert_allclose(converted.GetSpacing(), series.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(converted.GetOrigin(), series.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(converted.GetDirection(), series.GetDirection(), atol=1e-6)
    canonical = nib.as_closest_canonical(nib.load(path))
    np.testing.assert_array_equal(np.asarray(canonical.dataobj), tree.array)


def test_a_label_of_a_nested_study_lies_below_its_tag(server):
    label = server.mask(CT)
    server.upload(CT, "alice", content=label)
    assert (server.state / "datastore" / "labels" / "final" / "a" / "deep" / "ct.nii.gz").read_bytes() == label
    assert server.get("/datastore/label", label=CT, tag="final").content == label
    assert server.pick(CT)["status"] == "done"
    (pair,) = server.get("/datastore/", output="train")
    assert pair["label"].endswith("labels/final/a/deep/ct.nii.gz")
    assert nib.load(pair["image"]).shape == (10, 12, 8)
    assert server.ask("GET", "/datastore/dataset").content.startswith(b"PK")


def test_a_read_only_folder_stays_as_it_is(server, tree):
    before = snapshot(tree.folder)
    study_id = server.next_sample("alice")["id"]
    server.upload(study_id, "alice")
    other = next(pick["study_id"] for pick in server.picks() if pick["status"] == "open")
    server.post("/firstpick/skip", study_id=other, client_id="alice", reason="blurred")
    server.ask("DELETE", "/datastore/label", params={"id": study_id, "tag": "final"})
    image = {"file": ("new.nii.gz", b"voxels")}
    assert "never writes" in server.ask("PUT", "/datastore/image", 403, params={"image": "new"}, files=image)
    assert "never deletes" in server.ask("DELETE", "/datastore/image", 403, params={"id": study_id})
    server.ask("PUT", "/datastore/image/info", params={"image": study_id}, data={"info": '{"a": 1}'})
    assert server.get("/datastore/image/info", image=study_id)["a"] == 1
    assert snapshot(tree.folder) == before
