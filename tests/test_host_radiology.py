"""FirstPick inside MONAI Label's own ``radiology`` app, changed as the README shows it."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import requests
import SimpleITK as sitk  # noqa: N813

needed = ("monailabel", "torchvision", "tensorboard")
if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
    pytest.skip(f"radiology needs {', '.join(missing)}", allow_module_level=True)

from host_app import Host, changed  # noqa: E402
from server_process import write_studies  # noqa: E402

pytestmark = pytest.mark.slow

OF_HOST = ("models", "segmentation", "use_pretrained_model", "false", "scribbles", "false", "sam2", "false")


@pytest.fixture(scope="module")
def radiology(tmp_path_factory):
    """The app as it is given out, with the lines of the README; its model is not trained."""
    folder = tmp_path_factory.mktemp("radiology")
    command = [sys.executable, "-m", "monailabel.main", "apps", "--download", "--name", "radiology"]
    subprocess.run([*command, "--output", str(folder)], check=True, capture_output=True, timeout=120)
    main = folder / "radiology" / "main.py"
    main.write_text(changed(main.read_text(encoding="utf-8")), encoding="utf-8")
    studies = write_studies(folder / "studies", 5)
    with Host(main.parent, studies, folder / "state", "batch_size", "3", of_host=OF_HOST) as server:
        server.wait_until_ready()
        yield server


def test_it_serves_its_model_and_its_strategies_and_first_of_all_the_batch(radiology):
    info = radiology.get("/info/")
    assert list(info["strategies"])[:4] == ["firstpick", "random", "first", "last"]
    assert "segmentation" in info["trainers"]
    labels = {label["name"]: label["value"] for label in radiology.status()["labels"]}
    assert (labels["spleen"], labels["heart_myocardium"]) == (1, 44)
    first = radiology.picks()[0]["study_id"]
    assert radiology.next_sample("alice")["id"] == first
    assert radiology.next_sample("bob", "first")["id"] == "study_00"
    assert radiology.next_sample("bob", "last")["id"] == "study_04"
    assert radiology.next_sample("bob", "random")["id"].startswith("study_")


def test_its_infer_answers_with_a_mask_that_counts_once_it_is_saved_as_final(radiology, tmp_path):
    pick = radiology.picks()[1]["study_id"]
    url = f"http://127.0.0.1:{radiology.port}/infer/segmentation"
    answer = requests.post(url, params={"image": pick, "output": "image"}, timeout=300)
    assert answer.status_code == 200, answer.text
    (tmp_path / "mask.nii.gz").write_bytes(answer.content)
    mask = sitk.ReadImage(tmp_path / "mask.nii.gz")
    assert mask.GetSize() == radiology.opened(pick).GetSize()
    drawn = {int(value) for value in np.unique(sitk.GetArrayFromImage(mask))}
    assert 0 < max(drawn) <= len(radiology.status()["labels"])  # of the classes of its network
    assert status_of(radiology, pick) == "open"
    radiology.upload(pick, "alice", content=answer.content)
    assert status_of(radiology, pick) == "done"
    assert radiology.get("/datastore/")["completed"] == 1
    assert radiology.next_sample("carol", "random")["id"] != pick


def status_of(server, study_id):
    return next(point["status"] for point in server.get("/firstpick/map")["points"] if point["study_id"] == study_id)


def test_reload_keeps_all_that_was_decided(radiology):
    before = radiology.picks()
    radiology.post("/reload")
    assert list(radiology.get("/info/")["strategies"])[:4] == ["firstpick", "random", "first", "last"]
    assert radiology.picks() == before
    assert radiology.next_sample("dora")["id"]
