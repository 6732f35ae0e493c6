"""Sample studies made on the spot, and the demonstration that serves them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import platformdirs
from numpy.typing import NDArray
from tqdm import tqdm

from firstpick.report import table

_nibabel: Any = nibabel  # has no types

N_STUDIES = 36
_KINDS = ("head", "abdomen", "head", "limb", "head", "abdomen")
_BODIES: dict[str, list[tuple[Any, Any, float]]] = {  # centre, radii and brightness of the body, then of each organ
    "head": [
        ((0, 0, 0), (0.66, 0.82, 0.78), 900),
        ((0, 0, 0), (0.58, 0.74, 0.7), 450),
        ((-0.12, 0.05, 0.1), (0.07, 0.3, 0.14), 150),
        ((0.12, 0.05, 0.1), (0.07, 0.3, 0.14), 150),
    ],
    "abdomen": [
        ((0, 0, 0), (0.9, 0.62, 0.95), 250),
        ((0.38, 0.1, 0.3), (0.38, 0.38, 0.4), 480),
        ((-0.5, -0.1, 0.3), (0.18, 0.2, 0.25), 560),
        ((0.35, -0.25, -0.35), (0.13, 0.13, 0.25), 650),
        ((-0.35, -0.25, -0.35), (0.13, 0.13, 0.25), 650),
        ((0, -0.4, 0), (0.12, 0.14, 0.9), 1000),
    ],
    "limb": [((0, 0, 0), (0.34, 0.36, 0.98), 300), ((0.05, 0, 0), (0.1, 0.1, 0.95), 1100)],
}
_START_SECONDS = 120.0


def make_studies() -> Path:
    """Write sample volumes to the user's cache folder (once) and return it.

    Three kinds of body part in unequal numbers (18 heads, 12 abdomens, 6 limbs), each of another
    size, contrast and noise; NIfTI, 2 mm, RAS+. Made by arithmetic: no patient's data.
    """
    folder = platformdirs.user_cache_path("firstpick") / f"sample-studies-{N_STUDIES}"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(N_STUDIES):
        kind = _KINDS[number % len(_KINDS)]
        path = folder / f"{kind}_{number:03d}.nii.gz"
        if not path.exists():
            image = _nibabel.Nifti1Image(_phantom(kind, np.random.default_rng(number)), np.diag([2.0, 2.0, 2.0, 1.0]))
            partial = path.with_name(f".{path.name}")
            _nibabel.save(image, partial)
            partial.replace(path)
    return folder


def _phantom(kind: str, rng: np.random.Generator) -> NDArray[np.int16]:
    """A smooth body with organs inside, int16, (64, 64, 64)."""
    from scipy import ndimage  # noqa: PLC0415 - slow to import, and no other command needs it

    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 64)] * 3, indexing="ij"))
    scale = rng.uniform(0.75, 1.05)
    volume = np.zeros(grid.shape[1:])
    for centre, radii, value in _BODIES[kind]:
        shifted = tuple(c + rng.normal(0, 0.02) for c in centre)
        volume = np.where(_ellipsoid(grid, shifted, radii, scale), value * rng.uniform(0.8, 1.2), volume)
    volume = ndimage.gaussian_filter(volume, rng.uniform(0.6, 1.5)) + rng.normal(0, rng.uniform(5, 40), volume.shape)
    rounded: NDArray[np.int16] = volume.astype(np.int16)
    return rounded


def _ellipsoid(
    grid: NDArray[np.float64], centre: Sequence[float], radii: Sequence[float], scale: float
) -> NDArray[np.bool_]:
    offsets = (grid - np.reshape(centre, (3, 1, 1, 1))) / (np.reshape(radii, (3, 1, 1, 1)) * scale)
    inside: NDArray[np.bool_] = (offsets**2).sum(axis=0) <= 1.0
    return inside


def run_demo(command: Sequence[str], environment: Mapping[str, str], *, log: Path, once: bool) -> None:
    """Start a server on a free port, wait for the batch, print it, and stop or go on.

    Parameters
    ----------
    command : sequence of str
        MONAI Label's, with ``--port 0``.
    environment : mapping
    log : Path
        Where the server's output goes.
    once : bool
        Stop when the batch is printed; else wait for Ctrl+C.

    Raises
    ------
    OSError
        If the server ends or does not answer; the text has the end of its log.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(port) if before == "--port" else item for before, item in zip(["", *command], command, strict=False)]
    address = f"http://127.0.0.1:{port}"
    print(f"Starting MONAI Label on {address} ...", file=sys.stderr)
    with log.open("w") as output:
        server = subprocess.Popen(command, env=dict(environment), stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait(server, address, log)
        print(table(_get(f"{address}/firstpick/proposal")))
        print(f"Server: {address}  (routes: {address}/docs; put this address into 3D Slicer's MONAI Label module)")
        if not once:
            print("Ctrl+C stops it.", file=sys.stderr)
            server.wait()
    finally:
        server.terminate()
        server.wait(timeout=30)


def _wait(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Wait until every study is embedded, with a progress bar."""
    start = time.monotonic()
    with tqdm(unit="study", desc="Embedding", file=sys.stderr, leave=False) as bar:
        while True:
            if server.poll() is not None:
                msg = f"the server ended. The end of {log}:\n{_tail(log)}"
                raise OSError(msg)
            try:
                status = _get(f"{address}/firstpick/status")
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                if time.monotonic() - start > _START_SECONDS:
                    msg = f"the server does not answer. The end of {log}:\n{_tail(log)}"
                    raise OSError(msg) from None
            else:
                if status["state"] == "ready":
                    return
                if status["state"] in ("problem", "empty"):
                    raise OSError(status["message"])
                progress = status["progress"]
                bar.total = progress["total"] or None
                bar.update(progress["done"] + progress["failed"] - bar.n)
            time.sleep(0.3)


def _get(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - our own server
        result: dict[str, Any] = json.load(answer)
        return result


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
