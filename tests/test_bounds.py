"""Small files that unpack to more than the memory: refused by their headers, before anything is unpacked."""

import bz2
import gzip
import re
import struct
import tracemalloc
import zlib
from contextlib import closing

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from fastapi import HTTPException
from oddities import dicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1
from server_process import wait_for

from firstpick.config import load_config
from firstpick.embedding.cache import Cache
from firstpick.embedding.run import embed
from firstpick.encoders import EncoderSpec
from firstpick.server.filing import Filing
from firstpick.server.served import ServedFiles
from firstpick.sources.folder import list_studies
from firstpick.voxels.bounds import DEFAULT_GB, allow_gb
from firstpick.voxels.label_formats import LabelError
from firstpick.voxels.labels import on_grid
from firstpick.voxels.views import ViewSpec
from firstpick.voxels.volumes import VolumeError, read_volume
from firstpick.workers import LocalPool

SIZE = (60_000, 60_000, 30_000)
TOO_LARGE = r"^{} is too large: .* voxels take [\d,.]+ GB unpacked, at most 4 GB are read\. Raise max_study_gb if .*\.$"


def nifti(path):
    header = nib.Nifti1Header()
    header.set_data_dtype(np.float32)
    header["dim"][:4] = 3, 32_767, 32_767, 32_767
    header["magic"] = header.single_magic
    header.set_data_offset(352)
    path.write_bytes(gzip.compress(header.binaryblock + bytes(99)) if path.suffix == ".gz" else header.binaryblock)


def analyze(path):
    header = nib.AnalyzeImage.header_class()
    header.set_data_dtype(np.int16)
    header["dim"][:5] = 4, 30_000, 30_000, 30_000, 1
    path.write_bytes(header.binaryblock)
    path.with_suffix(".img").write_bytes(bytes(99))


def nrrd(path, encoding="raw", sizes=SIZE):
    data = {"raw": bytes(99), "gzip": gzip.compress(bytes(99)), "bzip2": bz2.compress(bytes(99))}[encoding]
    head = f"NRRD0004\ntype: short\ndimension: {len(sizes)}\nsizes: {' '.join(map(str, sizes))}\n"
    path.write_bytes(f"{head}endian: little\nencoding: {encoding}\n\n".encode() + data)


def metaimage(path, rest="CompressedData = False"):
    size = " ".join(map(str, SIZE))
    head = f"ObjectType = Image\nNDims = 3\nBinaryData = True\n{rest}\nDimSize = {size}\nElementType = MET_SHORT\n"
    path.write_bytes(f"{head}ElementDataFile = LOCAL\n".encode() + bytes(99))


def vtk(path):
    head = "# vtk DataFile Version 3.0\nx\nBINARY\nDATASET STRUCTURED_POINTS\nDIMENSIONS 20000 20000 20000\n"
    rest = "SPACING 1 1 1\nORIGIN 0 0 0\nPOINT_DATA 8000000000000\nSCALARS s short 1\nLOOKUP_TABLE default\n"
    path.write_bytes((head + rest).encode() + bytes(99))


def gipl(path):
    head = struct.pack(">5H4f", *SIZE, 1, 64, 1, 1, 1, 1).ljust(252, b"\0")
    path.write_bytes(head + struct.pack(">I", 719_555_000) + bytes(99))


def mrc(path):
    head = struct.pack("<10i6f3i", *SIZE, 1, 0, 0, 0, *SIZE, 1, 1, 1, 90, 90, 90, 1, 2, 3).ljust(208, b"\0")
    path.write_bytes((head + b"MAP \x44\x41\0\0").ljust(1024, b"\0") + bytes(99))


def mgh(path):
    data = struct.pack(">7ih", 1, 30_000, 30_000, 30_000, 1, 3, 0, 0).ljust(384, b"\0")
    path.write_bytes(gzip.compress(data) if path.suffix == ".mgz" else data)


def png(path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">2I5B", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunks = (b"IHDR", head), (b"IDAT", zlib.compress(bytes(999))), (b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks))


def jpeg(path, mode):
    Image.new(mode, (64, 64)).save(path)
    data = bytearray(path.read_bytes())
    struct.pack_into(">HH", data, data.find(b"\xff\xc0") + 5, 65_500, 65_500)
    path.write_bytes(data)


def tiff(path, compression):
    tags = {256: 400_000, 257: 400_000, 258: 8, 259: compression, 262: 1, 273: 200, 277: 1, 278: 400_000, 279: 100}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    path.write_bytes((b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries).ljust(400, b"\0"))


def bmp(path):
    head = struct.pack("<IiiHHII", 40, 100_000, 100_000, 1, 24, 0, 0).ljust(40, b"\0")
    path.write_bytes(b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + head + bytes(99))


def plain_dicom(path, **tags):
    dicom(path, np.zeros((4, 4), np.int16), **({"Rows": 65_535, "Columns": 65_535} | tags))


def packed_dicom(path, syntax):
    plain_dicom(path)
    header = pydicom.dcmread(path)
    header.file_meta.TransferSyntaxUID = syntax
    header.PixelData = encapsulate([bytes(64)])
    header["PixelData"].VR = "OB"
    header["PixelData"].is_undefined_length = True
    pydicom.dcmwrite(path, header)


BOMBS = {
    "a.nii": nifti,
    "a.nii.gz": nifti,
    "analyze.hdr": analyze,
    "raw.nrrd": nrrd,
    "gzip.nrrd": lambda path: nrrd(path, "gzip"),
    "bzip2.nrrd": lambda path: nrrd(path, "bzip2"),
    "frames.nrrd": lambda path: nrrd(path, sizes=(100, 100, 100, 10_000)),
    "a.mha": metaimage,
    "packed.mha": lambda path: metaimage(path, "CompressedData = True\nCompressedDataSize = 50000000000"),
    "a.vtk": vtk,
    "a.gipl": gipl,
    "a.mrc": mrc,
    "a.mgh": mgh,
    "a.mgz": mgh,
    "a.png": png,
    "grey.jpg": lambda path: jpeg(path, "L"),
    "colour.jpg": lambda path: jpeg(path, "RGB"),
    "a.tif": lambda path: tiff(path, 1),
    "packed.tif": lambda path: tiff(path, 8),
    "a.bmp": bmp,
    "raw.dcm": plain_dicom,
    "film.dcm": lambda path: plain_dicom(path, Rows=512, Columns=512, NumberOfFrames=100_000),
    "jpeg.dcm": lambda path: packed_dicom(path, JPEGLosslessSV1),
    "jpeg2000.dcm": lambda path: packed_dicom(path, JPEG2000Lossless),
    "series": lambda path: plain_dicom(path / "IM1"),
}


@pytest.fixture(scope="module")
def small_worker():
    """A process that is ended where it unpacks anything of that size."""
    with LocalPool(n_workers=1, memory_gb=1) as pool:
        yield pool


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_claims_to_be_huge_is_refused_by_its_header(tmp_path, small_worker, name):
    path = tmp_path / name
    BOMBS[name](path)
    with pytest.raises(VolumeError, match=TOO_LARGE.format(name)):
        small_worker.submit(read_volume, path).result()


def huge(path, shape=(512, 512, 800), dtype=np.int16):
    """Write a volume of zeros: a small file that unpacks to 839 MB."""
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros(shape, dtype), np.eye(4)), path)
    return path


def test_a_study_that_takes_too_much_memory_fails_with_the_reason_and_the_rest_go_on(phantom_volume, tmp_path):
    for number in range(3):
        phantom_volume.nifti(f"studies/case_{number}.nii.gz", array=phantom_volume.array + number)
    huge(tmp_path / "studies" / "case_1b.nii.gz")
    studies, _ = list_studies(tmp_path / "studies")
    spec = EncoderSpec("pixels", views=ViewSpec(size=56))
    with closing(Cache(tmp_path / "state")) as cache, LocalPool(n_workers=1, memory_gb=0.6) as pool:
        last = list(embed(studies, spec, cache, executor=pool))[-1]
        failures = cache.failures(spec.fingerprint(), studies)
    assert (last.n_done, last.n_failed) == (3, 1)
    said = "Reading and encoding it took more than 0.6 GB of memory, which is all that a worker may have. Raise .*"
    assert [failure.study_id for failure in failures] == ["case_1b.nii.gz"]
    assert re.fullmatch(said, failures[0].reason)


def test_the_limit_of_a_study_is_that_of_the_configuration(phantom_volume, tmp_path):
    path = phantom_volume.nifti("a.nii.gz")  # 960 voxels
    config = load_config(overrides={"max_study_gb": "1e-6", "worker_memory_gb": "1", "time_limit_s": "20"})
    with LocalPool(n_workers=1, **config.limits) as pool:
        assert (pool.memory_gb, pool.time_limit_s) == (1, 20)
        with pytest.raises(VolumeError, match=r"10 x 12 x 8 voxels take .* at most 1e-06 GB are read"):
            pool.submit(read_volume, path).result()


def test_the_file_of_a_study_that_takes_too_much_memory_is_refused_with_the_reason(phantom_volume, tmp_path):
    phantom_volume.series("studies/small", uid="1.2.3")
    huge(tmp_path / "studies" / "huge.nii.gz")
    studies = {study.title: study for study in list_studies(tmp_path / "studies")[0]}
    small, large = (studies[title].study_id for title in ("small", "huge.nii.gz"))
    with LocalPool(n_workers=1, memory_gb=0.6) as pool:
        files = ServedFiles(tmp_path / "served", 1e9, pool)
        files.take_listing({study.study_id: study for study in studies.values()}, {})
        files.ask(large)
        files.ask(small)
        wait_for(lambda: files.is_ready(small))
        assert re.match(r"Reading it took more than 0\.6 GB of memory.* Raise worker_memory_gb", files.refusal(large))


def test_a_label_that_takes_too_much_memory_is_refused_with_the_reason(phantom_volume, tmp_path):
    path = huge(tmp_path / "studies" / "a.nii.gz")
    label = huge(tmp_path / "label.nii.gz", dtype=np.float32)
    study = list_studies(path.parent)[0][0]
    with LocalPool(n_workers=1, memory_gb=0.6) as pool:
        filing = Filing(tmp_path / "incoming", tmp_path / "served", set(), pool)
        with pytest.raises(HTTPException) as refused, filing.checked(label, study, path):
            pass
    assert refused.value.status_code == 422
    assert re.search(r"was not saved\. Reading it took more than 0\.6 GB", refused.value.detail)


@pytest.fixture
def one_megabyte():
    allow_gb(1e-3)
    yield
    allow_gb(DEFAULT_GB)


@pytest.mark.parametrize("name", ["label.nii.gz", "label.seg.nrrd", "label.png"])
def test_a_label_too_large_for_any_study_is_refused_where_that_of_its_own_is_not_known(tmp_path, one_megabyte, name):
    array = np.zeros((1, 1200, 1200) if name.endswith("png") else (80, 80, 80), np.uint8)
    image = sitk.GetImageFromArray(array[0] if name.endswith("png") else array)
    sitk.WriteImage(image, str(tmp_path / name))
    with pytest.raises(
        LabelError, match=r"^The label is too large: .* at most 0\.001 GB are read\. Raise max_study_gb"
    ):
        on_grid(tmp_path / name, None, tmp_path / f"target-{name}")


def deflated(path, pixels, n_bytes):
    """Write a deflated DICOM file with so many more bytes of pixels, all 0."""
    dicom(path, pixels, SeriesInstanceUID="1.2.3", ImagePositionPatient=[0, 0, 0])
    header = pydicom.dcmread(path)
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    pydicom.dcmwrite(path, header)
    data = path.read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    whole = zlib.decompress(data[start:], -zlib.MAX_WBITS)
    blocks = [packer.compress(block) for block in (whole, *(bytes(10**6) for _ in range(n_bytes // 10**6)))]
    path.write_bytes(data[:start] + b"".join(blocks) + packer.flush())
    return path


def test_the_header_of_a_deflated_file_is_read_without_unpacking_the_rest(tmp_path):
    pixels = np.arange(80, dtype=np.int16).reshape(8, 10)
    path = deflated(tmp_path / "a.dcm", pixels, 200 * 10**6)
    tracemalloc.start()
    (study,), left_out = list_studies(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
    assert (study.files, study.modality, left_out) == (("a.dcm",), "CT", [])
    np.testing.assert_array_equal(read_volume(deflated(path, pixels, 0)).array[:, :, 0].T, pixels)
