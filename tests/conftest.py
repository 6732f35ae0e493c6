"""Real files for the tests: one phantom, written in any format."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
SPACING = (0.5, 0.75, 2.0)


def _phantom() -> np.ndarray:
    """One bright block near Right-Anterior-Superior; no two axes are of one size."""
    array = np.full((10, 12, 8), -1000, np.int16)
    array[7:9, 8:11, 5:7] = 900
    return array


@dataclass
class Phantom:
    """A RAS+ volume and its spacing in mm, and how to write it to files."""

    folder: Path
    array: np.ndarray = field(default_factory=_phantom)
    spacing: tuple[float, float, float] = SPACING

    def nifti(self, name="phantom.nii.gz", *, array=None, axes="RAS", affine=None) -> Path:
        """Write NIfTI with its axes stored in any order and direction, such as ``"LPI"``."""
        image = nib.Nifti1Image(
            self.array if array is None else array, np.diag([*self.spacing, 1]) if affine is None else affine
        )
        turn = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes)
        )
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(image.as_reoriented(turn), path)
        return path

    def itk(self, name, *, array=None) -> Path:
        """Write NRRD or MetaImage: LPS+, as ITK does."""
        array = self.array if array is None else array
        image = sitk.GetImageFromArray(array[::-1, ::-1].T)
        image.SetSpacing(self.spacing[: array.ndim])
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, path)
        return path

    def dicom(self, name, pixels, **tags) -> Path:
        """Write one DICOM file; `pixels` as (rows, columns), (frames, rows, columns), or either with RGB last."""
        header = pydicom.Dataset()
        header.SOPClassUID = tags.pop("SOPClassUID", CT_CLASS)
        header.SOPInstanceUID = generate_uid()
        header.Modality = "CT"
        if pixels is not None:
            is_colour = pixels.ndim > 2 and pixels.shape[-1] == 3
            size = pixels.shape[:-1] if is_colour else pixels.shape
            header.Rows, header.Columns = size[-2:]
            if len(size) == 3:
                header.NumberOfFrames = size[0]
            header.SamplesPerPixel = 3 if is_colour else 1
            header.PhotometricInterpretation = "RGB" if is_colour else "MONOCHROME2"
            if is_colour:
                header.PlanarConfiguration = 0
            header.BitsAllocated = header.BitsStored = 8 * pixels.dtype.itemsize
            header.HighBit = header.BitsStored - 1
            header.PixelRepresentation = int(pixels.dtype.kind == "i")
            header.PixelData = pixels.tobytes()
        for keyword, value in tags.items():
            setattr(header, keyword, value)
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _save(header, path)
        return path

    def series(self, name, *, uid="1.2.3", without=(), **tags) -> Path:
        """Write a DICOM series into the folder `name`; its files' names do not tell the slices' order."""
        pixels = self.array[::-1, ::-1].T  # LPS+: slices of rows of columns
        for index in [index for index in range(len(pixels)) if index not in without]:
            place = {
                "SeriesInstanceUID": uid,
                "InstanceNumber": str(len(pixels) - index),
                "ImagePositionPatient": [0, 0, index * self.spacing[2]],
                "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
                "PixelSpacing": [self.spacing[1], self.spacing[0]],
            }
            self.dicom(f"{name}/{uid or 'none'}-{index * 7919 % 10007}.dcm", pixels[index], **{**place, **tags})
        return self.folder / name


def _save(header, path) -> None:
    if pydicom.__version__ < "3":
        header.is_little_endian, header.is_implicit_VR = True, False
        header.save_as(path, write_like_original=False)
    else:
        header.save_as(path, enforce_file_format=True)


@pytest.fixture
def phantom_volume(tmp_path) -> Phantom:
    """A bright block near Right-Anterior-Superior, so that an axis flip anywhere fails loudly."""
    return Phantom(tmp_path)


@pytest.fixture
def cache(tmp_path):
    """An empty cache of embeddings."""
    from firstpick.embedding.cache import Cache

    with closing(Cache(tmp_path / "state")) as cache:
        yield cache


@pytest.fixture
def few_steps(monkeypatch):
    """Drafts of toy studies are learnt in a fifth of the steps."""
    monkeypatch.setattr("firstpick.learning.model.N_STEPS", 200)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Example data that lie beside the checkout."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the example data (shared/data beside the checkout) are not on this machine")
    return folder


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium of the system; only CI must have it."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found and not os.environ.get("CI"):
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    assert found, "CI must open the page in Chromium, and has none"
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install 'firstpick[test]'")
    with sync_api.sync_playwright() as playwright:
        names = "--host-resolver-rules=MAP *.example 127.0.0.1"  # as who owns a name can have it lead here
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", names])
        yield chromium
        chromium.close()
