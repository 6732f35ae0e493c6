"""Drafts inside another MONAI Label app: one of its own models draws them, and nothing is learnt."""

import gzip
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
requests = pytest.importorskip("requests", reason="pip install 'firstpick[server]'")

from host_app import Host, changed  # noqa: E402 - needs requests
from monailabel.interfaces.tasks.infer_v2 import InferType  # noqa: E402
from server_process import wait_for, write_studies  # noqa: E402

from firstpick.config import ConfigError  # noqa: E402
from firstpick.server.host_drafter import check_model  # noqa: E402

MAIN = """\
import tempfile

import nibabel as nib
import numpy as np
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType


class Bright(InferTask):
    def __init__(self):
        super().__init__(InferType.SEGMENTATION, {"background": 0, "bright": 7, "dark": 4}, 3, "What is bright")

    def is_valid(self):
        return True

    def __call__(self, request):
        if "study_02" in request["image"]:
            raise RuntimeError("out of light")
        image = nib.load(request["image"])
        array = np.asarray(image.dataobj)
        mask = np.where(array > np.median(array), 7, 4).astype(np.uint8)
        with tempfile.NamedTemporaryFile(suffix=request["result_extension"], delete=False) as file:
            nib.save(nib.Nifti1Image(mask, image.affine), file.name)
        return file.name, {}


class MyApp(MONAILabelApp):
    def __init__(self, app_dir, studies, conf):
        super().__init__(app_dir, studies, conf, name="Mine")

    def init_infers(self):
        return {"bright": Bright()}
"""
LABELS = '[{name: bright, value: 2, color: "#ff0080"}]'


def drafts(server):
    return server.get("/firstpick/drafts")


@pytest.mark.slow
def test_a_model_of_the_app_drafts_the_next_picks_and_what_readers_make_of_them_is_told(tmp_path):
    app = tmp_path / "app"
    app.mkdir()
    (app / "main.py").write_text(changed(MAIN), encoding="utf-8")
    studies = write_studies(tmp_path / "studies", 4)
    pairs = ("drafts.enabled", "true", "drafts.model", "bright", "labels", LABELS, "batch_size", "4")
    with Host(app, studies, tmp_path / "state", *pairs) as server:
        server.wait_until_ready()
        said = wait_for(lambda: (now := drafts(server))["state"] == "ready" and now["drafts"] and now, 60, "the drafts")
        assert {one["study_id"] for one in said["drafts"]} == {"study_00", "study_01", "study_03"}
        assert [(one["dice"], one["unsure"], one["n_labels"]) for one in said["drafts"]] == [(None, None, 0)] * 3
        server.get("/firstpick/draft/study_02", 422)
        assert "the model 'bright' failed (RuntimeError: out of light)" in server.log.read_text()

        study_id = said["drafts"][0]["study_id"]
        content = server.ask("GET", f"/firstpick/draft/{study_id}").content
        draft = nib.Nifti1Image.from_bytes(gzip.decompress(content))
        array = np.asarray(nib.load(studies / f"{study_id}.nii.gz").dataobj)
        np.testing.assert_array_equal(np.asarray(draft.dataobj), 2 * (array > np.median(array)))
        (listed,) = server.get(f"/firstpick/labels/{study_id}", client_id="ann")
        assert (listed["kind"], listed["title"]) == ("draft", "Draft of the model 'bright'")

        server.post("/firstpick/reserve", study_id=study_id, client_id="ann")
        server.upload(study_id, "ann", content=content)
        found = wait_for(lambda: drafts(server)["corrections"], 60, "what became of it")
        assert [(one["study_id"], one["client"], one["is_taken"], one["dice"]) for one in found] == [
            (study_id, "ann", True, 1.0)
        ]
        assert study_id not in {one["study_id"] for one in drafts(server)["drafts"]}
        server.post("/reload")
        assert [one["study_id"] for one in drafts(server)["corrections"]] == [study_id]


class Model:
    def __init__(self, kind, labels):
        self.type, self.labels = kind, labels


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("brigt", r"segments by itself; got 'brigt'\. This app has bright, spleens"),
        ("clicks", r"segments by itself; got 'clicks'"),
        ("spleens", r"The model 'spleens' draws spleen: none of the configured labels"),
    ],
)
def test_a_model_that_cannot_draft_is_refused(name, text):
    models = {
        "bright": Model(InferType.SEGMENTATION, {"background": 0, "bright": 7}),
        "clicks": Model(InferType.DEEPGROW, ["bright"]),
        "spleens": Model(InferType.SEGMENTATION, ["spleen"]),
    }
    app = SimpleNamespace(_infers=models)
    check_model(app, "bright", ["bright"])
    with pytest.raises(ConfigError, match=text):
        check_model(app, name, ["bright"])
