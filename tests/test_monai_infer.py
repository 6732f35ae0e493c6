"""MONAI Label's own /infer works with the pinned monai.

1.6.0 and 1.6.1 fail here: their ``Spacingd(keys="image")`` takes every key that begins with ``image_`` for a
dictionary of facts, and MONAI Label keeps the file's name under ``image_path``.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import nibabel as nib
import numpy as np
import pytest
import torch

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
pytest.importorskip("expiring_dict", reason="MONAI Label's infer tasks import it: pip install expiring-dict")


def bright_or_dark():
    """Two classes, the second where the scaled intensity is above one half."""
    network = torch.nn.Conv3d(1, 2, kernel_size=1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1, 1))
        network.bias.copy_(torch.tensor([0.5, -0.5]))
    return network


def infer(folder):
    """Serve an app with one model, as MONAI Label's sample apps have it, and ask it for a label of the study "scan"."""
    from fastapi import FastAPI
    from fastapi.testclient import TestClient
    from monai.inferers import SimpleInferer
    from monai.transforms import (
        Activationsd,
        AsDiscreted,
        EnsureChannelFirstd,
        LoadImaged,
        ScaleIntensityRanged,
        Spacingd,
        SqueezeDimd,
    )
    from monailabel.config import settings
    from monailabel.endpoints import infer as endpoint
    from monailabel.interfaces.app import MONAILabelApp
    from monailabel.interfaces.tasks.infer_v2 import InferType
    from monailabel.tasks.infer.basic_infer import BasicInferTask

    class Segmentation(BasicInferTask):
        def pre_transforms(self, data=None):  # noqa: ARG002 - MONAI Label hands it in
            return [
                LoadImaged(keys="image"),
                EnsureChannelFirstd(keys="image"),
                Spacingd(keys="image", pixdim=(0.5, 0.75, 1.0)),
                ScaleIntensityRanged(keys="image", a_min=-1000, a_max=1000, b_min=0, b_max=1, clip=True),
            ]

        def inferer(self, data=None):  # noqa: ARG002 - MONAI Label hands it in
            return SimpleInferer()

        def inverse_transforms(self, data=None):  # noqa: ARG002 - MONAI Label hands it in
            return []  # all of them: back to the grid of the file

        def post_transforms(self, data=None):  # noqa: ARG002 - MONAI Label hands it in
            return [
                Activationsd(keys="pred", softmax=True),
                AsDiscreted(keys="pred", argmax=True),
                SqueezeDimd(keys="pred", dim=0),
            ]

    class App(MONAILabelApp):
        def init_infers(self):
            path = str(folder / "app" / "bright.pt")
            torch.save(bright_or_dark().state_dict(), path)
            return {"bright": Segmentation(path, bright_or_dark(), InferType.SEGMENTATION, ["bright"], 3, "bright")}

    settings.MONAI_LABEL_SESSIONS = settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD = False
    app = App(app_dir=str(folder / "app"), studies=str(folder / "studies"), conf={})
    endpoint.app_instance = lambda: app
    server = FastAPI()
    server.include_router(endpoint.router)
    answer = TestClient(server).post("/infer/bright", params={"image": "scan", "output": "image"})
    return answer.status_code, answer.content


@pytest.mark.slow
def test_infer_gives_a_label_on_the_grid_of_the_image(phantom_volume, tmp_path):
    (tmp_path / "app").mkdir()
    scan = phantom_volume.nifti("studies/scan.nii.gz")
    # In a process of its own: itk, which MONAI Label writes labels with, can crash the interpreter that ends.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        status, content = process.submit(infer, tmp_path).result()
    assert status == 200, content
    (tmp_path / "label.nii.gz").write_bytes(content)
    label, image = nib.load(tmp_path / "label.nii.gz"), nib.load(scan)
    np.testing.assert_allclose(label.affine, image.affine, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(label.dataobj), phantom_volume.array > 0)
