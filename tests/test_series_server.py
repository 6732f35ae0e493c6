"""Several sequences, one study: the real server over real brains, and over series that are odd."""

import csv
import io
import json
import shutil
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
requests = pytest.importorskip("requests", reason="pip install 'firstpick[server]'")

from conftest import Phantom  # noqa: E402 - needs requests
from server_process import Server, firstpick, wait_for  # noqa: E402

pytestmark = pytest.mark.slow

RULE = r"regex:^(?P<study>(?:cs_)?patient[0-9]+(?:_study[0-9])?)_(?P<series>.+)$"
CONF = ("series.by", RULE, "series.primary", "[T2*, FLAIR*]", "batch_size", "14", "groups.max", "0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, shared_data):
    """Real brains: 38 volumes of 14 studies."""
    copy = tmp_path_factory.mktemp("brains") / "studies"
    shutil.copytree(shared_data / "brain_ms_mr" / "images", copy)
    return copy


@pytest.fixture(scope="module")
def server(folder):
    with Server(folder, folder.with_name("state"), *CONF) as server:
        wait_for(server.answers, 180, "an answer")  # reading 38 volumes is not the point of it
        server.wait_until_ready()
        yield server


def expected(folder):
    """The series of each study, told by the names of its files alone."""
    found = {}
    for path in folder.iterdir():
        study, _, name = path.name.removesuffix(".nii.gz").removeprefix("cs_").partition("_")
        if name.startswith("study"):
            study, _, name = f"{study}_{name}".rpartition("_")
        prefix = "cs_" if path.name.startswith("cs_") else ""
        found.setdefault(f"{prefix}{study}", set()).add(name)
    return found


def series_file(server, study_id, name):
    """Download the file of a series, asking again while it is being prepared."""

    def answer():
        address = f"http://127.0.0.1:{server.port}/firstpick/image/{study_id}/{name}"
        asked = requests.get(address, timeout=30)
        assert asked.status_code in (200, 503), asked.text
        return asked if asked.status_code == 200 else None

    return wait_for(answer, 30, f"{name} of {study_id}").content


def voxels(content, ending=".nii.gz"):
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, f"image{ending}")
        path.write_bytes(content)
        image = sitk.ReadImage(str(path))
        return sitk.GetArrayFromImage(image), image.GetOrigin()


def test_the_batch_the_list_and_the_map_are_of_fourteen_studies_with_all_their_series(server, folder):
    wanted = expected(folder)
    assert (len(wanted), sum(map(len, wanted.values()))) == (14, 38)
    status = server.status()
    assert (status["n_pool"], status["progress"]["total"], status["progress"]["done"]) == (14, 14, 14)
    assert {pick["study_id"]: set(pick["series"]) for pick in server.picks()} == wanted
    assert {point["study_id"] for point in server.get("/firstpick/map")["points"]} == wanted.keys()
    assert server.get("/datastore/", output="all")["objects"].keys() == wanted.keys()


def test_the_primary_comes_first_and_is_what_stock_clients_get(server, folder):
    for pick in server.picks():
        listed = server.get(f"/firstpick/series/{pick['study_id']}")
        assert [one["name"] for one in listed] == pick["series"]
        assert [one["is_primary"] for one in listed] == [True] + [False] * (len(listed) - 1)
        wanted = "T2" if any(name.startswith("T2") for name in pick["series"]) else "FLAIR"
        assert listed[0]["name"].startswith(wanted)
        assert [one["name"] for one in listed[1:]] == sorted(pick["series"][1:], key=str.casefold)
        own = folder / f"{pick['study_id']}_{listed[0]['name']}.nii.gz"
        assert server.get("/datastore/image/info", image=pick["study_id"])["path"] == str(own.resolve())


def test_every_series_has_its_own_file_and_thumbnail(server, folder):
    study_id = "patient12_study1"
    pictures = set()
    for one in server.get(f"/firstpick/series/{study_id}"):
        array, origin = voxels(series_file(server, study_id, one["name"]))
        source = sitk.ReadImage(str(folder / f"{study_id}_{one['name']}.nii.gz"))
        np.testing.assert_array_equal(array, sitk.GetArrayFromImage(source))
        assert origin == source.GetOrigin()
        assert one["file_name"].endswith(f"{study_id}_{one['name']}.nii.gz")
        assert one["note"] == ("" if one["is_primary"] else "has another grid than T2W")
        head = server.ask("HEAD", f"/firstpick/image/{study_id}/{one['name']}")
        size = (folder / f"{study_id}_{one['name']}.nii.gz").stat().st_size
        assert int(head.headers["content-length"]) == one["size"] == size
        picture = server.get(f"/firstpick/thumbnail/{study_id}", series=one["name"]).content
        assert Image.open(io.BytesIO(picture)).size[0] > 0
        pictures.add(picture)
    assert len(pictures) == 3
    assert [one["note"] for one in server.get("/firstpick/series/cs_patient07")] == [""] * 4
    assert server.get(f"/firstpick/thumbnail/{study_id}").content in pictures


def test_a_series_that_is_not_there_is_said_with_those_that_are(server):
    for path in ("/firstpick/image/patient12_study1/T9", "/firstpick/image/patient12_study1/FLAIR/T2W"):
        server.get(path, 404)
    said = server.get("/firstpick/image/patient12_study1/T9", 404)
    assert said == "Study 'patient12_study1' has no series 'T9'. It has: T2W, FLAIR, T1W."
    assert "T9" in server.get("/firstpick/thumbnail/patient12_study1", 404, series="T9")
    assert "nobody" in server.get("/firstpick/series/nobody", 404)


def test_a_series_that_goes_missing_leaves_study_label_and_primary_as_they_are(server, folder):
    study_id = "patient12_study2"
    server.upload(study_id, "alice")
    assert server.pick(study_id)["status"] == "done"
    before = {pick["study_id"] for pick in server.picks()}
    (folder / f"{study_id}_T1W.nii.gz").unlink()
    wait_for(lambda: server.pick(study_id)["series"] == ["T2W", "FLAIR"], what="the new listing")
    wait_for(lambda: "it has no T1W" in server.status()["notes"].get(study_id, ()), what="the note")
    assert {pick["study_id"] for pick in server.picks()} == before
    assert server.pick(study_id)["status"] == "done"
    assert server.status()["n_pool"] == 14


def test_the_command_line_counts_studies_and_series_and_exports_them(folder, tmp_path):
    options = ("--studies", folder, "--state", tmp_path / "state", "--encoder", "pixels")
    options += ("--conf", "series.by", RULE, "--conf", "views.size", "56")
    said = firstpick("embed", *options)
    n_series = len([*folder.iterdir()])
    assert f"14 of 14 studies of {n_series} series embedded" in said.stdout, said
    assert firstpick("export", *options, "--series", "--out", tmp_path / "series.csv").returncode == 0
    rows = list(csv.DictReader((tmp_path / "series.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == n_series
    assert {(row["study_id"], row["series"]) for row in rows} == {
        (study_id, name) for study_id, names in expected(folder).items() for name in names
    }
    assert all(Path(row["path"]).is_file() for row in rows)
    assert sum(row["is_primary"] == "yes" for row in rows) == 14
    assert firstpick("export", *options, "--series", "--out", tmp_path / "series.json").returncode == 0
    as_json = json.loads((tmp_path / "series.json").read_text(encoding="utf-8"))
    assert [row["study_id"] for row in as_json] == [row["study_id"] for row in rows]
    picked = json.loads(firstpick("pick", *options, "--json", "--batch-size", "3").stdout)
    assert all(pick["series"] for pick in picked["picks"])


def test_odd_series_are_said_and_the_study_goes_on(tmp_path):
    phantom = Phantom(tmp_path / "studies")
    for number in range(4):
        for name in ("t1", "t2"):
            phantom.nifti(f"p{number}/{name}.nii.gz", array=phantom.array + number)
    phantom.nifti("p0/flair.nii.gz", array=phantom.array[:, :, :5])
    (tmp_path / "studies" / "p1" / "flair.nii.gz").write_bytes(b"no image")
    phantom.nifti("p2/flair.nii.gz")
    (tmp_path / "studies" / "p3" / "t1.nii.gz").write_bytes(b"no image")
    phantom.nifti("alone.nii.gz")
    conf = ("series.by", "folder", "series.primary", "t1", "duplicates", "0")
    with Server(tmp_path / "studies", tmp_path / "state", *conf) as server:
        status = server.wait_until_ready()
        assert [item["study_id"] for item in status["failed"]] == ["p3"]
        assert status["n_pool"] == 4
        notes = {i: {one["name"]: one["note"] for one in server.get(f"/firstpick/series/{i}")} for i in ("p0", "p1")}
        assert notes["p0"] == {"t1": "", "flair": "has another grid than t1", "t2": ""}
        assert notes["p1"]["flair"].startswith("cannot be read: flair.nii.gz")
        assert status["notes"]["p0"] == ["flair has another grid than t1"]
        address = f"http://127.0.0.1:{server.port}/firstpick/image/p1/flair"
        answer = wait_for(lambda: (asked := requests.get(address, timeout=30)).status_code != 503 and [asked], 30)[0]
        assert (answer.status_code, "cannot be opened" in answer.json()["detail"]) == (422, True)
        (own,) = server.get("/firstpick/series/alone.nii.gz")
        assert (own["name"], own["is_primary"]) == ("alone", True)
        assert series_file(server, "alone.nii.gz", "alone") == (tmp_path / "studies" / "alone.nii.gz").read_bytes()
        label = nib.Nifti1Image(np.ones((10, 12, 5), np.uint8), np.diag([0.5, 0.75, 2.0, 1])).to_bytes()
        said = server.upload("p0", "alice", expect=422, name="label.nii", content=label)
        assert "does not lie on the grid" in said
        server.upload("p0", "alice")
