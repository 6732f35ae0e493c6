"""Folders, servers and histories for the benchmark of load."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import requests
import SimpleITK as sitk  # noqa: N813
from conftest import Phantom
from server_process import FAST, Server, firstpick, wait_for

SIDE = 12  # voxels of a study: what is measured is the server, not the reading of files
N_KINDS = 40
ROWS_AT_ONCE = 2000  # even: a skip and its end stay together
CONFIGURED = ("rescan_s", "10", "batch_size", "50", "auto_next", "true", "served_gb", "20")
BARE_APP = """from monailabel.interfaces.app import MONAILabelApp


class BareApp(MONAILabelApp):
    def __init__(self, app_dir, studies, conf):
        super().__init__(app_dir, studies, conf, name="Bare", labels=["foreground"])
"""


def write_studies(folder: Path, n_studies: int) -> Path:
    """Small volumes of many kinds, every one a little different."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(N_KINDS, SIDE, SIDE, SIDE))
    for number in range(n_studies):
        array = 100 * (kinds[number % N_KINDS] + 0.7 * rng.normal(size=(SIDE, SIDE, SIDE)))
        image = nib.Nifti1Image(array.astype(np.int16), np.eye(4))
        (folder / f"study_{number:05d}.nii").write_bytes(image.to_bytes())
    return folder


def label_of_a_study() -> bytes:
    """A label of any of those studies."""
    array = np.zeros((SIDE, SIDE, SIDE), np.uint8)
    array[2:5, 2:5, 2:5] = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "label.nii.gz")
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
        return path.read_bytes()


def write_series(folder: Path, n_slices: int, side: int) -> str:
    """A CT of that size as a DICOM series; return the start of its id."""
    rng = np.random.default_rng(0)
    array = rng.integers(-20, 20, (side, side, n_slices), np.int16)
    array[side // 4 : side // 2, side // 4 :, :] += 1000
    Phantom(folder, array, (0.7, 0.7, 1.0)).series("ct", uid="1.2.840.1")
    return "1.2.840.1"


def label_of_the_series(n_slices: int, side: int) -> bytes:
    """A label on the grid of that CT."""
    label = sitk.Image((side, side, n_slices), sitk.sitkUInt8)
    label.SetSpacing((0.7, 0.7, 1.0))
    label[side // 4, side // 4, n_slices // 2] = 1
    with tempfile.TemporaryDirectory() as folder:
        sitk.WriteImage(label, f"{folder}/label.nii.gz")
        return Path(folder, "label.nii.gz").read_bytes()


@contextlib.contextmanager
def firstpick_server(studies: Path, state: Path) -> Iterator[Server]:
    """FirstPick over studies, once all are embedded by the encoder 'pixels': 1,024 numbers each."""
    pairs = dict(zip(FAST[::2], FAST[1::2], strict=True)) | {"n_workers": "0"}
    conf = [word for pair in pairs.items() for word in ("--conf", *pair)]
    done = firstpick("embed", "--studies", studies, "--state", state, *conf)
    if done.returncode:
        sys.exit(done.stderr)
    with Server(studies, state, *CONFIGURED) as server:
        server.wait_until_ready()
        yield server


@contextlib.contextmanager
def bare_server(studies: Path, folder: Path) -> Iterator[Server]:
    """A bare MONAI Label app over a copy of studies: it writes into their folder."""
    app, copied = folder / "app", folder / "studies"
    shutil.copytree(studies, copied)
    app.mkdir()
    (app / "main.py").write_text(BARE_APP)
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--host", "127.0.0.1", "--app", str(app)]
    with Server(copied, folder / "state", command=command) as server:

        def is_up() -> bool:
            if server.process.poll() is not None:
                sys.exit(server.log.read_text()[-2000:])
            with contextlib.suppress(requests.ConnectionError):
                return bool(requests.get(f"http://127.0.0.1:{server.port}/info/", timeout=60).ok)
            return False

        wait_for(is_up, 180, "the bare MONAI Label app")
        yield server


def first_history(server: Server, n_skips: int, reason: str) -> None:
    """Skip open studies of no batch and take that back, so that all is as before."""
    picked = {pick["study_id"] for pick in server.picks()}
    points = server.get("/firstpick/map")["points"]
    is_open = [point["study_id"] for point in points if point["status"] == "open"]
    others = [study_id for study_id in is_open if study_id not in picked][:n_skips]
    for study_id in others:
        server.post("/firstpick/skip", study_id=study_id, client_id="a reader", reason=reason)
        server.post("/firstpick/unskip", study_id=study_id, client_id="a reader")


def grow_history(database: Path, table: str, since: int, size_mb: float) -> int:
    """Append the rows after number `since` again and again, in their order; return how many rows there are then."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        described = connection.execute(f"pragma table_info({table})").fetchall()
        columns = ", ".join(row[1] for row in described if not row[5])  # but the number
        rows = f"select {columns} from {table} where rowid > ? order by rowid limit {ROWS_AT_ONCE}"  # noqa: S608
        while _size_mb(connection) < size_mb:
            connection.execute(f"insert into {table} ({columns}) {rows}", (since,))
        return int(connection.execute(f"select count(*) from {table}").fetchone()[0])  # noqa: S608


def last_row(database: Path, table: str) -> int:
    """Return the number of a table's last row."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return connection.execute(f"select max(rowid) from {table}").fetchone()[0] or 0  # noqa: S608


def _size_mb(connection: sqlite3.Connection) -> float:
    pages, bytes_each = (connection.execute(f"pragma {what}").fetchone()[0] for what in ("page_count", "page_size"))
    return pages * bytes_each / 1e6
