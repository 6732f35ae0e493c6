"""The real server over an odd archive: list, pick, download, and a label there and back, of every study."""

from pathlib import Path

import nibabel as nib
import numpy as np
import oddities
import pytest
import SimpleITK as sitk  # noqa: N813

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
requests = pytest.importorskip("requests", reason="pip install 'firstpick[server]'")

from archive import assert_same_as_served  # noqa: E402 - needs the server's packages
from server_process import Server, snapshot, wait_for  # noqa: E402

from firstpick.sources.folder import list_studies  # noqa: E402
from firstpick.voxels.volumes import read_volume  # noqa: E402

pytestmark = pytest.mark.slow


def write_archive(folder):
    """Gaps, a tilted gantry, PET, two patients with one UID, a spread series, masks and bytes that are no text."""
    oddities.series(folder / "gap", uid="1.2.1", without=(3, 4))
    oddities.tilted(folder / "tilt", 20)
    pet = {"Modality": "PT", "SOPClassUID": oddities.PET, "RescaleSlope": lambda k: 1 if k == 0 else 0.01 * k}
    oddities.series(folder / "pet", uid="1.2.4", **pet)
    oddities.series(folder / "one", uid="1.2.5", where=lambda k: f"A{k}.dcm")
    oddities.series(
        folder / "one", uid="1.2.5", where=lambda k: f"B{k}.dcm", PatientID="P2", array=oddities.phantom() + 9
    )
    oddities.series(folder / "spread", uid="1.2.6", where=lambda k: f"S{k}/IMG")
    oddities.nifti(folder / "imagesTr" / "case_0.nii")
    oddities.nifti(folder / "las" / "new\nline #1.nii", sform=np.diag([-1.5, 1.2, 3.0, 1]))
    oddities.nifti(folder / f"{'z' * 247}.nii")
    oddities.mask(folder / "labelsTr" / "case_0.nii.gz")
    oddities.mask(folder / "case_seg.nii.gz")
    oddities.mask(folder / "case.seg.nrrd")
    oddities.named_in_bytes(folder, b"M\xfcller.nii")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    with Server(write_archive(folder / "studies"), folder / "state", "batch_size", "20") as server:
        server.wait_until_ready()
        yield server


def next_sample(server):
    """The next study, once its file is prepared; empty when there is none."""

    def ask():
        url = f"http://127.0.0.1:{server.port}/activelearning/firstpick"
        answer = requests.post(url, json={"client_id": "alice"}, timeout=30)
        return None if answer.status_code == 503 else answer

    return wait_for(ask, what="the next sample").json().get("id", "")


def downloaded(server, study_id, folder):
    """Download as the stock plugin does, again while it is being prepared, under the name that the server gives."""

    def ask():
        url = f"http://127.0.0.1:{server.port}/datastore/image"
        answer = requests.get(url, params={"image": study_id}, timeout=30)
        if answer.status_code == 503:
            assert int(answer.headers["Retry-After"]) >= 1
            return None
        assert answer.status_code == 200, answer.text
        return answer.content

    content = wait_for(ask, what=study_id)
    name = server.get("/datastore/image/info", image=study_id)["name"]
    ending = next(ending for ending in (".nii.gz", ".nii", ".nrrd") if name.endswith(ending))
    path = folder / f"image-{len(list(folder.iterdir()))}{ending}"  # ITK takes x.nii for the voxels of x.nii.gz
    path.write_bytes(content)
    return path


def test_every_study_is_picked_opened_as_embedded_and_labelled(server, tmp_path):
    listed = {study.study_id: study for study in list_studies(server.studies)[0]}
    assert len(listed) == 9
    before = snapshot(server.studies)
    status = server.status()
    told = " ".join(f"{entry['study_id']} {entry['reason']}" for entry in status["left_out"])
    assert all(word in told for word in ("labelsTr", "case_seg.nii.gz", "case.seg.nrrd", "UTF-8"))
    assert not status["failed"]
    seen = set()
    while study_id := next_sample(server):
        seen.add(study_id)
        path = downloaded(server, study_id, tmp_path)
        assert_same_as_served(read_volume(listed[study_id]), path)
        info = server.get("/datastore/image/info", image=study_id)
        assert Path(info["path"]).name.endswith("".join(path.suffixes))
        assert (
            server.ask("GET", "/firstpick/thumbnail/" + requests.utils.quote(study_id, safe="")).content[:4]
            == b"\x89PNG"
        )
        there_and_back(server, study_id, path, tmp_path)
    assert seen == {*listed}
    assert server.status()["n_labelled"] == len(listed)
    assert snapshot(server.studies) == before


def there_and_back(server, study_id, image_path, folder):
    """Send a label on the image's grid; what comes back pairs with the image voxel by voxel."""
    image = sitk.ReadImage(str(image_path))
    mask = np.zeros(image.GetSize()[::-1], np.uint8)
    mask[1, 2, 3:6] = 1
    label = sitk.GetImageFromArray(mask)
    label.CopyInformation(image)
    path = image_path.with_name(f"label-of-{image_path.name}")
    sitk.WriteImage(label, str(path))
    with path.open("rb") as file:
        answer = server.ask(
            "PUT",
            "/datastore/label",
            params={"image": study_id, "tag": "final"},
            data={"params": '{"client_id": "alice"}'},
            files={"label": (path.name, file, "application/octet-stream")},
        )
    assert answer["image"] == study_id
    content = server.ask("GET", "/datastore/label", params={"label": study_id, "tag": "final"}).content
    back = folder / f"back-of-{image_path.name}"
    back.write_bytes(content)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(back))), mask)


def test_a_label_that_slicer_flipped_comes_back_on_the_grid_of_its_study(server, tmp_path):
    (study_id,) = [study.study_id for study in list_studies(server.studies)[0] if "las" in study.study_id]
    path = downloaded(server, study_id, tmp_path)
    stored = nib.load(path)
    mask = np.zeros(stored.shape, np.uint8)
    mask[1:3, 2, 5] = 1
    flip = nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt("".join(nib.aff2axcodes(stored.affine)))
    as_slicer = nib.Nifti1Image(mask, stored.affine).as_reoriented(nib.orientations.ornt_transform(*flip[::-1]))
    nib.save(as_slicer, tmp_path / "flipped.nii.gz")
    with (tmp_path / "flipped.nii.gz").open("rb") as file:
        server.ask(
            "PUT",
            "/datastore/label",
            params={"image": study_id, "tag": "final"},
            data={"params": "{}"},
            files={"label": ("flipped.nii.gz", file, "application/octet-stream")},
        )
    (tmp_path / "back.nii.gz").write_bytes(
        server.ask("GET", "/datastore/label", params={"label": study_id, "tag": "final"}).content
    )
    back = nib.load(tmp_path / "back.nii.gz")
    np.testing.assert_array_equal(np.asarray(back.dataobj), mask)
    np.testing.assert_allclose(back.affine, stored.affine, atol=1e-4)
