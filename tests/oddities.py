"""Oddities of real archives, made on the spot: each kind in several variations."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SHAPE, SPACING = (10, 12, 8), (1.5, 1.2, 3.0)
CT, PET, ENHANCED_MR = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "128", "4.1"))


def phantom(shape=SHAPE) -> np.ndarray:
    """RAS+, every voxel with a value of its own, so that any wrong flip, order or rescale shows."""
    x, y, z = np.meshgrid(*map(np.arange, shape), indexing="ij")
    return (x + 20 * y + 480 * z).astype(np.int16)


def nifti(path: Path, *, sform=None, qform=None, sform_code=1, qform_code=1) -> Path:
    """Write the phantom with the forms as given, however unusable."""
    image = nib.Nifti1Image(phantom(), np.diag([*SPACING, 1.0]))
    image.set_qform(np.diag([*SPACING, 1.0]) if qform is None else qform, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = bytearray(image.to_bytes())
    struct.pack_into("<hh", data, 252, qform_code, sform_code)
    if sform is not None:
        struct.pack_into("<12f", data, 280, *np.asarray(sform, np.float32)[:3].ravel())
    path.write_bytes(data)
    return path


def dicom(path: Path, pixels: np.ndarray, **tags) -> Path:
    """Write one DICOM file; `pixels` as stored, rows of columns, or frames of them."""
    header = pydicom.Dataset()
    header.SOPClassUID, header.SOPInstanceUID = tags.pop("SOPClassUID", CT), generate_uid()
    header.Modality, header.PatientID, header.StudyInstanceUID = "CT", "P1", "1.2.9"
    header.Rows, header.Columns = pixels.shape[-2:]
    if pixels.ndim > 2:
        header.NumberOfFrames = len(pixels)
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, int(pixels.dtype.kind == "i")
    header.PixelData = np.ascontiguousarray(pixels).tobytes()
    for keyword, value in tags.items():
        setattr(header, keyword, value)
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, header, **({"write_like_original": False} if pydicom.__version__ < "3" else {}))
    return path


def series(folder: Path, *, array=None, uid="1.2.3", where=None, without=(), backwards=False, **tags) -> Path:
    """Write the phantom as an axial LPS+ series.

    `where(index)` gives a slice's path below the folder. A tag may be a function of the slice's index.
    """
    stored = (phantom() if array is None else array)[::-1, ::-1].T.astype(np.int16)  # slices of rows of columns
    for index, pixels in enumerate(stored):
        if index in without:
            continue
        own = {
            "SeriesInstanceUID": uid,
            "InstanceNumber": len(stored) - index if backwards else index + 1,
            "PixelSpacing": [SPACING[1], SPACING[0]],
            "SliceThickness": SPACING[2],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "ImagePositionPatient": [0, 0, SPACING[2] * index],
            "RescaleSlope": 1,
            "RescaleIntercept": 0,
        }
        own |= {keyword: value(index) if callable(value) else value for keyword, value in tags.items()}
        dicom(folder / (where(index) if where else f"IM{index * 7 % 64:04d}.dcm"), pixels, **own)
    return folder


def tilted(folder: Path, degrees: float, *, along=3.0, backwards=False) -> np.ndarray:
    """Write the phantom with a tilted gantry; return its RAS+ affine without the origin."""
    angle = np.deg2rad(degrees)
    down = np.array([0, np.cos(angle), -np.sin(angle)])
    series(
        folder,
        backwards=backwards,
        ImageOrientationPatient=[1, 0, 0, *down.tolist()],
        ImagePositionPatient=lambda index: [0, 0, along * index],
        GantryDetectorTilt=degrees,
    )
    lps = np.stack([[SPACING[0], 0, 0], down * SPACING[1], [0, 0, along]], axis=1)
    ras = np.diag([-1.0, -1.0, 1.0]) @ lps
    return ras * [-1, -1, 1]  # axes turned to Right and Anterior


def enhanced(path: Path, slopes, intercepts, *, order=None, shared=False) -> Path:
    """Write a multi-frame file whose frames hold 100 each, rescaled frame by frame; `order[i]` is frame i's place."""
    n = len(slopes)
    order = range(n) if order is None else order
    measures, plane = pydicom.Dataset(), pydicom.Dataset()
    measures.PixelSpacing, measures.SliceThickness = [SPACING[1], SPACING[0]], SPACING[2]
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    common, frames = pydicom.Dataset(), []
    common.PixelMeasuresSequence, common.PlaneOrientationSequence = Sequence([measures]), Sequence([plane])
    for place, slope, intercept in zip(order, slopes, intercepts, strict=True):
        frame, position, rescale = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        position.ImagePositionPatient = [0, 0, SPACING[2] * place]
        rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = slope, intercept, "US"
        frame.PlanePositionSequence = Sequence([position])
        if shared:
            common.PixelValueTransformationSequence = Sequence([rescale])
        else:
            frame.PixelValueTransformationSequence = Sequence([rescale])
        frames.append(frame)
    return dicom(
        path,
        np.full((n, SHAPE[1], SHAPE[0]), 100, np.uint16),
        SOPClassUID=ENHANCED_MR,
        Modality="MR",
        SeriesInstanceUID="1.2.17",
        SharedFunctionalGroupsSequence=Sequence([common]),
        PerFrameFunctionalGroupsSequence=Sequence(frames),
    )


def mask(path: Path) -> Path:
    """Write a mask on the phantom's grid, in the format of its ending."""
    image = sitk.GetImageFromArray((phantom()[::-1, ::-1].T > 2000).astype(np.uint8))
    image.SetSpacing(SPACING)
    if path.name.endswith(".seg.nrrd"):
        image.SetMetaData("Segment0_ID", "Segment_1")
        image.SetMetaData("Segment0_LabelValue", "1")
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def named_in_bytes(folder: Path, name: bytes) -> Path:
    """Write a good NIfTI file under a name that need not be UTF-8."""
    path = os.path.join(os.fsencode(folder), name)  # noqa: PTH118 - pathlib has no bytes
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(nib.Nifti1Image(phantom(), np.diag([*SPACING, 1.0])).to_bytes())
    return Path(os.fsdecode(path))
