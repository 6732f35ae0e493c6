"""Round two on the real server: labels, drafts of the next picks, what readers make of them, and what is forgotten."""

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
requests = pytest.importorskip("requests", reason="pip install 'firstpick[server]'")

from server_process import Server, wait_for  # noqa: E402 - needs requests

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:'cgi' is deprecated", "ignore:unclosed:ResourceWarning"),  # the stock client's
]

LABELS = '[{name: block, value: 3, color: "#ff0080"}]'
NEXT = ("next_round", "entropy_coverage")
SIZE = 24


def write_blocks(folder, n_studies, n_slices=SIZE):
    """Write volumes with one bright block each, on noise, and return where each block is."""
    folder.mkdir(parents=True)
    blocks = {}
    for number in range(n_studies):
        rng = np.random.default_rng(number)
        array = rng.normal(0, 20, (SIZE, SIZE, SIZE))[:, :, :n_slices]
        low = np.minimum(rng.integers(3, 9, 3), (SIZE, SIZE, n_slices - 4))
        block = tuple(slice(start, start + 9) for start in low)
        array[block] += 600
        mask = np.zeros(array.shape, np.uint8)
        mask[block] = 3
        nib.save(nib.Nifti1Image(array.astype(np.int16), np.eye(4)), folder / f"study_{number:02d}.nii.gz")
        blocks[f"study_{number:02d}.nii.gz"] = mask
    return blocks


def sent(server, study_id, mask, tag="final", **params):
    """Send a label as stock clients do."""
    path = server.state.with_name("sent.nii.gz")
    nib.save(nib.Nifti1Image(mask, np.eye(4)), path)
    with path.open("rb") as file:
        query = {"image": study_id, "tag": tag}
        data = {"params": json.dumps({"client_id": "ann", **params})}
        return server.ask("PUT", "/datastore/label", params=query, data=data, files={"label": ("x.nii.gz", file)})


def state(server):
    return server.get("/firstpick/drafts")


def is_settled(server, n_labels):
    """What is said once these labels were learnt from and nothing is left to do."""
    said = state(server)
    return said if said["state"] in ("ready", "below", "problem") and said["n_labels"] == n_labels else None


def dice(path, mask):
    found = np.asarray(nib.load(path).dataobj)
    assert set(np.unique(found)) <= {0, 3}, "a draft has the values of the configured labels"
    return 2 * ((found > 0) & (mask > 0)).sum() / ((found > 0).sum() + (mask > 0).sum())


@pytest.fixture
def blocks(tmp_path):
    return write_blocks(tmp_path / "studies", 14)


@pytest.fixture
def server(blocks, tmp_path):
    pairs = ("labels", LABELS, "drafts.enabled", "true", "drafts.ahead", "3", "batch_size", "12")
    with Server(tmp_path / "studies", tmp_path / "state", *pairs) as started:
        started.wait_until_ready()
        yield started


def test_a_round_with_drafts(server, blocks, tmp_path):
    from monailabel.client.client import MONAILabelClient, MONAILabelClientException

    client = MONAILabelClient(f"http://127.0.0.1:{server.port}", tmpdir=str(tmp_path), client_id="ann")
    picks = [pick["study_id"] for pick in server.get("/firstpick/proposal")["picks"]]
    assert server.get("/info/")["models"]["firstpick_draft"]["labels"] == {"block": 3}

    # Nothing is known yet, and that is said at once.
    assert state(server)["state"] == "waiting"
    server.ask("GET", f"/firstpick/draft/{picks[0]}", expect=409)
    with pytest.raises(MONAILabelClientException, match="Drafts begin with 2 final labels"):
        client.infer("firstpick_draft", picks[0], {})

    # Five labels: the next three picks have drafts.
    for study_id in picks[:5]:
        sent(server, study_id, blocks[study_id])
    said = wait_for(lambda: is_settled(server, 5), what="five labels to be learnt from")
    assert said["state"] == "ready", said["message"]
    assert said["dice"] > 0.8
    assert [one["study_id"] for one in said["drafts"]] == picks[5:8]
    assert (said["corrections"], said["stop"]) == ([], "")
    (listed,) = server.get(f"/firstpick/labels/{picks[5]}")
    assert (listed["kind"], listed["is_resumed"]) == ("draft", False)
    content = server.ask("GET", listed["path"]).content
    assert f"SHA256:{hashlib.sha256(content).hexdigest()}" == listed["checksum"]

    # The stock client gets the same mask, and MONAI Label deletes only its copy.
    for _ in range(2):
        path, told = client.infer("firstpick_draft", picks[5], {})
        assert Path(path).read_bytes() == content
        assert told["label_names"] == {"block": 3}
    assert dice(path, blocks[picks[5]]) > 0.8
    with pytest.raises(MONAILabelClientException, match="has a final label"):
        client.infer("firstpick_draft", picks[0], {})
    with pytest.raises(MONAILabelClientException, match="not in the studies folder"):
        client.infer("firstpick_draft", "../../etc/passwd", {})

    # A draft that a client saves is no reader's label.
    client.infer("firstpick_draft", picks[6], {"save_label": True, "label_tag": "draft"})
    with pytest.raises(MONAILabelClientException, match="alone"):
        client.infer("firstpick_draft", picks[6], {"save_label": True, "label_tag": "final"})
    assert server.get("/firstpick/status")["n_labelled"] == 5

    # One is accepted, one corrected, one drawn from nothing: each is compared with its draft.
    accepted = np.asarray(nib.load(path).dataobj).astype(np.uint8)
    sent(server, picks[5], accepted, seconds=4)
    corrected = np.asarray(nib.load(client.infer("firstpick_draft", picks[6], {})[0]).dataobj).astype(np.uint8)
    corrected[:, :, SIZE // 2 :] = 0
    sent(server, picks[6], corrected, seconds=60)
    wait_for(lambda: is_settled(server, 7), what="seven labels to be learnt from")
    wait_for(lambda: len(state(server)["corrections"]) == 2, what="both to be compared")
    first, second = state(server)["corrections"]
    assert (first["study_id"], first["dice"], first["n_changed"], first["seconds"]) == (picks[5], 1.0, 0, 4.0)
    assert (second["study_id"], second["is_taken"]) == (picks[6], True)
    assert second["dice"] < 1
    assert second["n_changed"] > 0
    assert [one["study_id"] for one in state(server)["drafts"]] == picks[7:10]

    # A label that is deleted is forgotten at once: no draft that was learnt from it is offered.
    server.ask("DELETE", "/datastore/label", params={"id": picks[0], "tag": "final"})
    server.ask("GET", f"/firstpick/draft/{picks[7]}", expect=503)
    said = wait_for(lambda: is_settled(server, 6), what="six labels to be learnt from")
    assert all(one["n_labels"] == 6 for one in said["drafts"])

    # Train queues, and returns at once; it starts no process of MONAI Label's.
    assert client.train_start("firstpick_draft", {})["request"] == {"model": "firstpick_draft"}
    wait_for(lambda: is_settled(server, 6), what="the labels to be learnt from again")
    assert server.get("/train/")["status"] == "DONE"


def test_drafts_outlive_the_server_and_a_bad_label_is_named(server, blocks, tmp_path):
    picks = [pick["study_id"] for pick in server.get("/firstpick/proposal")["picks"]]
    for study_id in picks[:5]:
        sent(server, study_id, blocks[study_id])
    sent(server, picks[5], np.ascontiguousarray(blocks[picks[5]][::-1, ::-1, ::-1]))
    said = wait_for(lambda: is_settled(server, 6), what="six labels to be learnt from")
    assert [one["study_id"] for one in said["warnings"]] == [picks[5]]
    before = {one["study_id"]: one["ts"] for one in said["drafts"]}
    assert before
    server.kill()
    pairs = ("labels", LABELS, "drafts.enabled", "true", "drafts.ahead", "3", "batch_size", "12")
    with Server(tmp_path / "studies", tmp_path / "state", *pairs) as again:
        again.wait_until_ready()
        said = wait_for(lambda: is_settled(again, 6), what="the labels to be learnt from again")
        assert {one["study_id"]: one["ts"] for one in said["drafts"]} == before


def test_the_next_batch_is_chosen_by_what_the_first_labels_leave_unsure(tmp_path):
    blocks = write_blocks(tmp_path / "studies", 10, n_slices=6)
    pairs = ("labels", LABELS, "drafts.enabled", "true", "batch_size", "5", "encoder", "random-init")
    with Server(tmp_path / "studies", tmp_path / "state", *pairs, "drafts.ahead", "1", *NEXT) as server:
        server.wait_until_ready()

        def knows(n_labels):
            sentence = f"What {n_labels} labels leave unsure is known of 10 studies."
            return wait_for(lambda: state(server)["next_round"] == sentence, what=sentence)

        def made(**wanted):
            return server.post("/firstpick/proposal", **{"batch_size": 3, **wanted})

        # Before there are labels, whoever asks for it gets the configured first strategy, and is told.
        first = server.get("/firstpick/proposal")
        assert (first["round"], first["provenance"]["strategy"], first["note"]) == (1, "kmeans", "")
        asked = made(strategy="entropy_coverage")
        assert (asked["strategy"], asked["provenance"]["strategy"]) == ("entropy_coverage", "kmeans")
        assert asked["note"].startswith("Chosen by kmeans, not yet by entropy_coverage:")
        assert made()["round"] == 1

        # Five labels: the next batch is of the second round, chosen by what they leave unsure.
        picks = [pick["study_id"] for pick in first["picks"]]
        for study_id in picks:
            sent(server, study_id, blocks[study_id])
        knows(5)
        second = made()
        assert (second["strategy"], second["round"], second["n_labelled"]) == ("kmeans", 2, 5)
        assert (second["provenance"]["strategy"], second["note"]) == ("entropy_coverage", "")
        assert len(second["provenance"]["taught"]) == 16
        assert not {*picks} & {pick["study_id"] for pick in second["picks"]}
        assert all(0 <= pick["unsure"] < 1 for pick in second["picks"])
        assert all("the labels so far leave" in pick["reason"].lower() for pick in second["picks"])
        assert made()["picks"] == second["picks"], "the same labels give the same picks"
        assert made()["round"] == 2, "no label came since"

        # It stands until another one is asked for; a study that cannot be annotated is replaced.
        gone = second["picks"][0]["study_id"]
        server.post("/firstpick/skip", study_id=gone, client_id="ann", reason="metal")
        mended = server.get("/firstpick/proposal")
        assert (mended["round"], mended["provenance"]["strategy"]) == (2, "entropy_coverage")
        assert mended["picks"][0]["replaces"] == gone

        # A label that is deleted is forgotten at once, then the others are learnt from.
        server.ask("DELETE", "/datastore/label", params={"id": picks[0], "tag": "final"})
        while (third := made())["provenance"]["strategy"] == "kmeans":
            assert "entropy_coverage: A label was deleted" in third["note"]
        assert third["note"] == ""
        knows(4)


def test_without_drafts_there_is_no_model(blocks, tmp_path):
    with Server(tmp_path / "studies", tmp_path / "state", "labels", LABELS) as server:
        server.wait_until_ready()
        assert server.get("/info/")["models"] == {}
        server.ask("GET", "/firstpick/drafts", expect=404)
        server.ask("POST", "/infer/firstpick_draft", params={"image": "study_00.nii.gz"}, expect=404)
