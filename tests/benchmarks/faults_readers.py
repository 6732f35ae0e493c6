"""Readers that decide and upload over HTTP, and note what the server answered."""

from __future__ import annotations

import hashlib
import itertools
import random
import re
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import requests
import SimpleITK as sitk  # noqa: N813
from faults_ledger import Ledger, Stand, Upload

GOOD = ("label.nii.gz", "label.nii", "label.nrrd", "label.mha", "label.seg.nrrd", "turned.nii.gz")
BAD = ("empty", "text", "cut.nii.gz", "cut.nii", "grid", "params")
# What a reader does, and how often.
ACTIONS = {"next": 5, "reserve": 1, "heartbeat": 3, "release": 1, "skip": 3, "unskip": 2, "reopen": 2}
ACTIONS |= {"final": 4, "saved": 1, "bad": 1}
MOST_HELD = 3
MISSED_TARGETS = 0.2  # how often a reader acts on a study that may be someone else's
TIMEOUT_S = 60.0
_NO_ROOM = 507
REFUSALS = {*range(400, 500), 503, _NO_ROOM}  # after these, nothing has changed


class Labels:
    """Makes labels on the grid of an image; no two have the same number of voxels."""

    def __init__(self, image: sitk.Image) -> None:
        self._image = image
        self._order = np.random.default_rng(0).permutation(int(np.prod(image.GetSize())))
        self._numbers = itertools.count(1000)

    def make(self, name: str) -> tuple[bytes, int]:
        """Return a label as the bytes of a file with that name, and its number of voxels."""
        n_voxels = next(self._numbers)
        array = np.zeros(self._order.size, np.uint8)
        array[self._order[:n_voxels]] = 1
        label = sitk.GetImageFromArray(array.reshape(self._image.GetSize()[::-1]))
        label.CopyInformation(self._image)
        if name.startswith("turned"):
            label = sitk.Flip(label, (True, False, False))
        if name.endswith(".seg.nrrd"):
            for key, value in (("ID", "1"), ("Layer", "0"), ("LabelValue", "1"), ("Name", "foreground")):
                label.SetMetaData(f"Segment0_{key}", value)
        return _written(label, name), n_voxels

    def bad(self, kind: str) -> tuple[str, bytes, str]:
        """Return name, bytes and params of an upload that is no label of the study."""
        if kind == "empty":
            return "label.nii.gz", b"", "{}"
        if kind == "text":
            return "label.nii.gz", b"no label at all\n" * 20, "{}"
        if kind == "grid":
            return "label.nii.gz", _written(sitk.Image((9, 8, 7), sitk.sitkUInt8), "label.nii.gz"), "{}"
        if kind == "params":
            return "label.nii.gz", self.make("label.nii.gz")[0], "[1, 2]"
        content, _ = self.make(kind)
        return kind, content[: len(content) // 2], "{}"


def _written(label: sitk.Image, name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        sitk.WriteImage(label, f"{folder}/{name}")
        return Path(folder, name).read_bytes()


class Reader:
    """One client with a name of its own; it keeps its memory when the server starts again."""

    def __init__(self, name: str, ledger: Ledger, ids: list[str], labels: Labels, seed: int) -> None:
        self.name, self._ledger, self._ids, self._labels = name, ledger, ids, labels
        self._rng = random.Random(seed)
        self._held: set[str] = set()
        self._closed: set[str] = set()
        self._url, self._session = "", requests.Session()

    def work(self, port: int, stop: threading.Event) -> None:
        """Act until told to stop, or until there is no answer any more."""
        self._url = f"http://127.0.0.1:{port}"
        with requests.Session() as self._session:
            while not stop.is_set():
                try:
                    self._act()
                except _CrashError:
                    continue
                except requests.RequestException as error:
                    self._ledger.silence(f"{type(error).__name__}: {error}")
                    return

    def _act(self) -> None:
        action = self._rng.choices(list(ACTIONS), list(ACTIONS.values()))[0]
        undoes = action in ("unskip", "reopen")
        mine = sorted(self._closed if undoes else self._held)
        if action == "next" or not mine:
            if len(self._held) >= MOST_HELD:
                self.decide("release", self._rng.choice(sorted(self._held)))
            else:
                self._next()
            return
        study_id = self._rng.choice(self._ids if self._rng.random() < MISSED_TARGETS else mine)
        if action in ("final", "saved"):
            self._upload(study_id, "final" if action == "final" else f"saved-{self.name}")
        elif action == "bad":
            self._upload_bad(study_id)
        else:
            self.decide(action, study_id)

    # -- requests

    def _next(self) -> None:
        try:
            sent = time.monotonic()
            answer = self._ask("POST", "/activelearning/firstpick", json={"client_id": self.name})
        except requests.RequestException:
            self._ledger.somewhere[self.name] += 1
            raise
        if answer is None:
            return
        if study_id := answer.get("id"):
            self._ledger.claim(study_id, sent, Stand("reserved", self.name), is_answered=True)
            self._ledger.count("decisions acknowledged")
            if study_id not in self._held:
                self._ledger.reserved.add((study_id, self.name))
            self._held.add(study_id)

    def decide(self, route: str, study_id: str) -> None:
        """Reserve, release, skip ... a study, and note what came of it."""
        body = {"study_id": study_id, "client_id": self.name}
        wanted = Stand("open")
        if route in ("reserve", "heartbeat"):
            wanted = Stand("reserved", self.name)
        if route == "skip":
            body["reason"] = f"{self.name} {self._rng.getrandbits(60):x}"
            wanted = Stand("skipped", self.name, body["reason"])
        sent = time.monotonic()
        try:
            answer = self._ask("POST", f"/firstpick/{route}", json=body)
        except requests.RequestException:
            self._ledger.claim(study_id, sent, wanted, is_answered=False)
            raise
        if answer is None:
            self._held.discard(study_id)
            return
        stand = Stand(answer["status"], answer["client"], answer["reason"])
        self._ledger.claim(study_id, sent, stand, is_answered=True)
        self._ledger.count("decisions acknowledged")
        if stand == wanted and route == "skip":
            self._ledger.skips.add(body["reason"])
        self._remember(study_id, stand)

    def _remember(self, study_id: str, stand: Stand) -> None:
        for places, belongs in (
            (self._held, (stand.status, stand.client) == ("reserved", self.name)),
            (self._closed, stand.status in ("done", "skipped")),
        ):
            (places.add if belongs else places.discard)(study_id)

    def _upload(self, study_id: str, tag: str) -> None:
        name = self._rng.choice(GOOD)
        content, n_voxels = self._labels.make(name)
        digest = f"SHA256:{hashlib.sha256(content).hexdigest()}"
        upload = Upload(self.name, n_voxels, None if name.startswith("turned") else digest)
        self._ledger.uploads[n_voxels] = upload
        claims = [((study_id, tag), upload)] + [(study_id, Stand("done"))] * (tag == "final")
        sent = time.monotonic()
        try:
            answer = self._put(study_id, tag, name, content, f'{{"client_id": "{self.name}", "label_info": []}}')
        except requests.RequestException:
            for thing, outcome in claims:
                self._ledger.claim(thing, sent, outcome, is_answered=False)
            raise
        if answer is None:
            return
        for thing, outcome in claims:
            self._ledger.claim(thing, sent, outcome, is_answered=True)
        self._ledger.count("labels acknowledged")
        if tag == "final":
            self._remember(study_id, Stand("done"))

    def _upload_bad(self, study_id: str) -> None:
        kind = self._rng.choice(BAD)
        name, content, params = self._labels.bad(kind)
        self._ledger.count("bad labels sent")
        if self._put(study_id, "final", name, content, params) is not None:
            self._ledger.complain(f"a label that is none was taken ({kind})")

    def _put(self, study_id: str, tag: str, name: str, content: bytes, params: str) -> dict | None:
        where, files = {"image": study_id, "tag": tag}, {"label": (name, content)}
        return self._ask("PUT", "/datastore/label", params=where, data={"params": params}, files=files)

    def _ask(self, method: str, path: str, **what: object) -> dict | None:
        """Return the answer, or None where the server refused; a crash counts as no answer."""
        answer = self._session.request(method, f"{self._url}{path}", timeout=TIMEOUT_S, **what)
        if answer.status_code < requests.codes.bad_request:
            return answer.json()
        self._ledger.count("no room" if answer.status_code == _NO_ROOM else "refused")
        if not _sentence(answer):
            self._ledger.complain(f"{method} {path}: {answer.status_code} without a sentence: {answer.text[:80]}")
        if answer.status_code in REFUSALS:
            return None
        self._ledger.complain(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        self._session.close()  # the server does so too after a crash
        raise _CrashError


class _CrashError(requests.RequestException):
    """An answer of 500: whether the request took effect is not known."""


def _sentence(answer: requests.Response) -> str:
    try:
        detail = answer.json()["detail"]
    except (ValueError, LookupError, TypeError):
        return ""
    return detail if isinstance(detail, str) and re.search(r"\w \w+ \w", detail) else ""


def crowd(readers: list[Reader], port: int) -> tuple[list[threading.Thread], threading.Event]:
    """Set readers to work, each in a thread."""
    stop = threading.Event()
    threads = [threading.Thread(target=reader.work, args=(port, stop), daemon=True) for reader in readers]
    for thread in threads:
        thread.start()
    return threads, stop
