"""A real PACS (Orthanc with its DICOMweb plugin) as a process, and six patients for it."""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from conftest import Phantom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

requests = pytest.importorskip("requests", reason="pip install 'firstpick[server]'")
pytest.importorskip("dicomweb_client", reason="pip install 'firstpick[dicomweb]'")

_ORTHANC = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
_PLUGINS = ("/usr/share/orthanc/plugins/libOrthancDicomWeb.so", "/usr/share/orthanc/plugins/libOrthancGdcm.so")
_MR_CLASS, _SC_CLASS = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.7"
_SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.11"
_CORONAL = [1, 0, 0, 0, 0, -1]


def need_orthanc():
    """Skip where there is no Orthanc; only CI must have it."""
    found = Path(_ORTHANC).exists() and all(Path(plugin).exists() for plugin in _PLUGINS)
    if not found and not os.environ.get("CI"):
        pytest.skip("no Orthanc on this machine (Debian: apt-get install orthanc orthanc-dicomweb orthanc-gdcm)")
    assert found, "CI must ask a real PACS, and has no Orthanc"


class Orthanc:
    """A PACS that can be started, stopped, frozen and started again with what it holds."""

    def __init__(self, folder, users=None):
        need_orthanc()
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.root = f"http://127.0.0.1:{self.port}"
        self.address = f"{self.root}/dicom-web"
        self.auth = next(iter((users or {}).items()), None)
        settings = {
            "Name": "test",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "HttpPort": self.port,
            "HttpBindAddresses": ["127.0.0.1"],
            "DicomServerEnabled": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": bool(users),
            "RegisteredUsers": users or {},
            "Plugins": list(_PLUGINS),
            "SaveJobs": False,
        }
        (self.folder / "orthanc.json").write_text(json.dumps(settings))
        self.process = None
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        with (self.folder / "orthanc.log").open("a") as log:
            command = [_ORTHANC, str(self.folder / "orthanc.json")]
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        end = time.monotonic() + 30
        while True:
            assert self.process.poll() is None, (self.folder / "orthanc.log").read_text()[-2000:]
            try:
                self.ask("GET", "/system")
            except requests.ConnectionError:
                assert time.monotonic() < end, "Orthanc does not answer"
                time.sleep(0.05)
            else:
                return

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=30)

    def ask(self, method, path, **kwargs):
        answer = requests.request(method, f"{self.root}{path}", auth=self.auth, timeout=30, **kwargs)
        answer.raise_for_status()
        return answer.json()

    def send(self, folder):
        """Store all files below a folder."""
        for path in sorted(Path(folder).rglob("*.dcm")):
            self.ask("POST", "/instances", data=path.read_bytes())

    def find(self, level, **query):
        """Orthanc's own ids of what it holds."""
        return self.ask("POST", "/tools/find", json={"Level": level, "Query": query})


def uid(patient, series, study=1):
    return f"1.2.826.0.1.3680043.8.498.{patient}.{study}.{series}"


def write_hospital(folder):
    """Six patients: CT, MR, a missing slice, two orientations, a scout, a secondary capture, a report, JPEG 2000."""
    folder = Path(folder)
    for patient, tags, options in (
        (1, {"SeriesDescription": "Thorax 2.0 B31f"}, {}),
        (2, {"SeriesDescription": "Abdomen"}, {"without": (3,)}),
        (3, {"Modality": "MR", "SOPClassUID": _MR_CLASS, "SeriesDescription": "t1 tse"}, {}),
        (4, {"Modality": "MR", "SOPClassUID": _MR_CLASS, "SeriesDescription": "t2 ax"}, {}),
        (5, {"SeriesDescription": "Kopf"}, {}),
    ):
        _series(folder, patient, 1, **tags, **options)
    coronal = {"SOPClassUID": _MR_CLASS, "Modality": "MR", "SeriesDescription": "t2 cor"}
    for index in range(8):
        place = [0, index * 2.0, 0]
        _one(folder, 4, 2, index, ImagePositionPatient=place, ImageOrientationPatient=_CORONAL, **coronal)
    for index in range(2):
        _one(folder, 5, 2, index, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesDescription="Topo")
    capture = {"SOPClassUID": _SC_CLASS, "ConversionType": "WSD", "Modality": "OT", "SeriesDescription": "Screen"}
    _one(folder, 5, 3, 0, **capture)
    _phantom(folder, 5).dicom("p5/report/1.dcm", None, SOPClassUID=_SR_CLASS, **_who(5, 4), Modality="SR")
    _compressed_series(folder, 6)
    return folder


def _phantom(folder, patient):
    """A volume of its own for each patient."""
    phantom = Phantom(folder)
    rng = np.random.default_rng(patient)
    phantom.array = (phantom.array + rng.integers(0, 60, phantom.array.shape)).astype(np.int16)
    phantom.array[:patient] += np.int16(100 * patient)
    return phantom


def _who(patient, series):
    return {
        "PatientID": f"MRN-{patient:04d}",
        "PatientName": f"Name^Of{patient}",
        "StudyInstanceUID": uid(patient, 0),
        "SeriesInstanceUID": uid(patient, series),
        "StudyDescription": f"Visit {patient}",
        "SeriesDate": "20240305",
        "SeriesTime": "101500",
        "FrameOfReferenceUID": uid(patient, 99),
        "StudyID": "1",
        "StudyDate": "20240305",
        "StudyTime": "101000",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "PatientBirthDate": "",
        "PatientSex": "",
        "SeriesNumber": str(series),
        "RescaleSlope": "1",
        "RescaleIntercept": "0",
        "SliceThickness": "2",
    }


def _series(folder, patient, series, *, without=(), **tags):
    who = {key: value for key, value in _who(patient, series).items() if key != "SeriesInstanceUID"}
    _phantom(folder, patient).series(
        f"p{patient}/s{series}", uid=uid(patient, series), without=without, **{**who, **tags}
    )


def _one(folder, patient, series, index, **tags):
    """One slice of a series."""
    phantom = _phantom(folder, patient)
    place = {
        "InstanceNumber": str(index + 1),
        "ImagePositionPatient": [0, 0, index * 2.0],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.75, 0.5],
    }
    pixels = np.ascontiguousarray(phantom.array[::-1, ::-1].T[index])
    phantom.dicom(f"p{patient}/s{series}/{index}.dcm", pixels, **{**_who(patient, series), **place, **tags})


def _compressed_series(folder, patient):
    """The slices as JPEG 2000 without loss, in unsigned values as cameras of today store CT."""
    _series(folder, patient, 1, SeriesDescription="Compressed", RescaleIntercept="-1024")
    for path in sorted((folder / f"p{patient}" / "s1").glob("*.dcm")):
        header = pydicom.dcmread(path)
        pixels = (header.pixel_array.astype(np.int32) + 1024).astype(np.uint16)
        with BytesIO() as packed:
            Image.fromarray(pixels).save(packed, "JPEG2000", no_jp2=True)
            header.PixelData = encapsulate([packed.getvalue()])
        header["PixelData"].is_undefined_length = True
        header.PixelRepresentation = 0
        header.file_meta.TransferSyntaxUID = JPEG2000Lossless
        header.save_as(path)


class Faulty(ThreadingHTTPServer):
    """What stands before a PACS and fails as it is told: ``fault`` is a function of a path, or None for none.

    The function returns None to let a request through, the number of an error, or seconds (a float) to hold it back.
    ``rewrite`` is a function of path and answer that gives another answer.
    """

    daemon_threads = True

    def __init__(self, pacs):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pacs, self.fault, self.rewrite, self.asked, self.logins = pacs, None, None, [], []
        self.address = f"http://127.0.0.1:{self.server_port}/dicom-web"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """Say nothing of clients that went away."""

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.server.logins.append(self.headers.get("Authorization", ""))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault(self.path) if self.server.fault else None
        if isinstance(fault, float):
            time.sleep(fault)
        elif fault:
            self.send_error(fault)
            return
        headers = {key: value for key, value in self.headers.items() if key.lower() != "host"}
        answer = requests.request(
            self.command, f"{self.server.pacs.root}{self.path}", headers=headers, data=body, timeout=60
        )
        content = answer.content
        if self.server.rewrite:
            content = self.server.rewrite(self.path, content)
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815 - so are they called

    def log_message(self, *_):
        """Say nothing."""
