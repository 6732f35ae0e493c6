"""A folder of broken files behind the real server: the rest is served, and each failure has its reason."""

import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
pytest.importorskip("requests", reason="pip install 'firstpick[server]'")

from server_process import FAST, Server, firstpick, snapshot, wait_for, write_studies

pytestmark = pytest.mark.slow

GOOD = {f"study_{number:02d}.nii.gz" for number in range(4)}
READABLE = {
    f"{name}.nii.gz" for name in ("four_d", "one_voxel", "Äpfel und Öl ß", "twin", "with space/a b", "zero")
} | {"twin.nii"}
BROKEN = {
    "cut.nii.gz": "truncated",
    "empty.nii.gz": "empty",
    "nan.nii.gz": "no finite value",
    "hangs.nhdr": "longer than the time limit",
    "text.nii": "is text, not NIfTI",
}
HANGS = """NRRD0004
type: short
dimension: 3
sizes: 8 8 8
encoding: raw
endian: little
data file: {}
"""


def save(path, array):
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)


@pytest.fixture(scope="module")
def bad_studies(tmp_path_factory):
    """Good and bad files, and a snapshot of them."""
    folder = write_studies(tmp_path_factory.mktemp("bad") / "studies", 4)
    noise = np.random.default_rng(0).normal(0, 100, (12, 12, 12)).astype(np.float32)
    (folder / "empty.nii.gz").touch()
    (folder / "cut.nii.gz").write_bytes((folder / "study_00.nii.gz").read_bytes()[:3000])
    (folder / "text.nii").write_text("This is no image.\n" * 50)
    save(folder / "zero.nii.gz", np.zeros((12, 12, 12), np.float32))
    save(folder / "nan.nii.gz", np.full((12, 12, 12), np.nan, np.float32))
    save(folder / "one_voxel.nii.gz", np.ones((1, 1, 1), np.float32))
    save(folder / "four_d.nii.gz", np.stack([noise, noise + 5], axis=-1))
    save(folder / "twin.nii", noise * 2)
    save(folder / "twin.nii.gz", noise * 3)
    save(folder / "with space" / "a b.nii.gz", noise * 4)
    save(folder / "Äpfel und Öl ß.nii.gz", noise * 5)
    (folder / "nowhere.nii.gz").symlink_to(folder / "does not exist.nii.gz")
    (folder / "secret.nii.gz").write_bytes((folder / "study_00.nii.gz").read_bytes())
    (folder / "secret.nii.gz").chmod(0)
    os.mkfifo(folder / "pipe.nii")
    os.mkfifo(folder / ".voxels")
    (folder / "hangs.nhdr").write_text(HANGS.format(".voxels"))
    (folder / "vanishes.nii").write_text("soon gone")
    return folder


@pytest.fixture(scope="module")
def server(bad_studies, tmp_path_factory):
    """Serves the bad folder, which it must not write."""
    state = tmp_path_factory.mktemp("bad-state") / "state"
    with Server(bad_studies, state, "batch_size", "20", "time_limit_s", "8") as started:
        wait_for(lambda: (status := started.answers()) and status["state"] == "embedding", what="the embedding")
        (bad_studies / "vanishes.nii").unlink()
        before = snapshot(bad_studies)
        started.wait_until_ready()
        yield started
    assert snapshot(bad_studies) == before


def is_root():
    return os.geteuid() == 0


def test_the_rest_is_served(server):
    expected = GOOD | READABLE | ({"secret.nii.gz"} if is_root() else set())
    assert {point["study_id"] for point in server.get("/firstpick/map")["points"]} == expected
    assert {pick["study_id"] for pick in server.picks()} == expected
    assert server.next_sample("alice")["id"] == server.picks()[0]["study_id"]


def test_each_failure_has_its_reason(server):
    failed = {row["study_id"]: row["reason"] for row in server.status()["failed"]}
    assert failed.keys() - {"secret.nii.gz"} == BROKEN.keys()
    for study_id, text in BROKEN.items():
        assert text in failed[study_id], failed[study_id]
        assert str(server.studies) not in failed[study_id]
    in_batch = server.get("/firstpick/proposal")["failed"]
    assert all(row in in_batch for row in server.status()["failed"])
    assert server.status()["progress"]["failed"] == len(failed)


def test_a_file_that_vanishes_while_it_is_embedded_is_forgotten(server):
    assert "vanishes.nii does not exist" in server.log.read_text()
    assert "vanishes.nii" not in {row["study_id"] for row in server.status()["failed"]}


@pytest.mark.skipif(is_root(), reason="root may read every file")
def test_a_file_that_may_not_be_read_is_said_to_be_so(server):
    failed = {row["study_id"]: row["reason"] for row in server.status()["failed"]}
    assert "permission denied" in failed["secret.nii.gz"]


def test_the_command_line_lists_the_same_failures(server):
    pairs = [item for key, value in zip(FAST[::2], FAST[1::2], strict=True) for item in ("--conf", key, value)]
    done = firstpick("list", "--failed", "--studies", server.studies, "--state", server.state, *pairs)
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert {row[0]: row[2] for row in rows if row[1] == "failed"} == {
        row["study_id"]: row["reason"] for row in server.status()["failed"]
    }


def test_what_was_done_to_the_data_is_noted(server):
    assert "first" in " ".join(server.status()["notes"]["four_d.nii.gz"])


@pytest.mark.parametrize("study_id", sorted(READABLE))
def test_odd_names_work_with_every_route(server, study_id):
    assert server.get(f"/firstpick/thumbnail/{study_id}").content.startswith(b"\x89PNG")
    assert (
        server.get("/datastore/image", image=study_id).content
        == Path(server.get("/datastore/image/info", image=study_id)["path"]).read_bytes()
    )
    label = server.mask(study_id)
    server.upload(study_id, "alice", tag="draft", content=label)
    assert server.get("/datastore/label", label=study_id, tag="draft").content == label


# -- a folder that changes while it is served


@pytest.fixture(scope="module")
def changing(tmp_path_factory):
    """A server over a folder that is empty at first."""
    folder = tmp_path_factory.mktemp("changing")
    (folder / "studies").mkdir()
    with Server(folder / "studies", folder / "state", "batch_size", "3", "time_limit_s", "20") as started:
        yield started


def rank_ids(server):
    return {pick["study_id"] for pick in server.picks()}


def test_a_folder_is_empty_then_filled_then_changed(changing, tmp_path):
    source = write_studies(tmp_path / "source", 6)
    status = changing.wait_until_ready("empty")
    assert status["message"] == "The studies folder holds no study that FirstPick can read."
    assert "holds no study" in changing.get("/firstpick/proposal", 409)
    assert "holds no study" in changing.next_sample("alice", expect=409)

    shutil.copy(source / "study_00.nii.gz", changing.studies)
    changing.wait_until_ready()
    assert rank_ids(changing) == {"study_00.nii.gz"}
    assert changing.next_sample("alice")["id"] == "study_00.nii.gz"

    for number in range(1, 5):
        shutil.copy(source / f"study_{number:02d}.nii.gz", changing.studies)
    wait_for(lambda: changing.status()["n_pool"] == 5)
    wait_for(lambda: len(changing.picks()) == 3, what="the short batch to grow")
    assert changing.picks()[0]["study_id"] == "study_00.nii.gz"
    assert changing.picks()[0]["client"] == "alice"

    before = changing.get("/firstpick/thumbnail/study_00.nii.gz").content
    shutil.copy(source / "study_03.nii.gz", changing.studies / "new")
    (changing.studies / "new").replace(changing.studies / "study_00.nii.gz")
    wait_for(lambda: changing.get("/firstpick/thumbnail/study_00.nii.gz").content != before, what="the new content")

    gone = changing.picks()[1]["study_id"]
    (changing.studies / gone).unlink()
    wait_for(lambda: gone not in rank_ids(changing) and len(changing.picks()) == 3, what="the deleted pick's heir")
    assert next(pick for pick in changing.picks() if pick["replaces"])["replaces"] == gone
    assert gone not in changing.get("/datastore/", output="all")["objects"]
