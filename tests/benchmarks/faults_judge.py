"""What a server says after a fault, its files and its history, held against what was acknowledged."""

from __future__ import annotations

import csv
import hashlib
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import requests
import SimpleITK as sitk  # noqa: N813
from faults_ledger import Ledger, Stand, Upload
from server_process import Server, firstpick

LABEL_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
KINDS = ("decisions lost", "false done", "labels torn", "facts lost", "history lost", "answers that disagree")


class Judge:
    """Compares, and then takes what is there as the new beginning.

    Attributes
    ----------
    losses : dict of str to list of str
        One sentence for each thing that is not as it must be.
    """

    def __init__(self, ledger: Ledger, ids: list[str]) -> None:
        self._ledger, self._ids = ledger, ids
        self._good: set[tuple[Path, int]] = set()
        self._cut_off: set[tuple[tuple[str, str], Upload]] = set()
        self.losses: dict[str, list[str]] = {kind: [] for kind in KINDS}

    def look(self, server: Server) -> None:
        """Hold everything against the ledger; no request may be running."""
        points = server.get("/firstpick/map")["points"]
        stands = {p["study_id"]: Stand(p["status"], p["client"], p["reason"]) for p in points}
        self._compare_studies(stands)
        self._compare_answers(server, stands)
        self._read_history(server)
        self._compare_labels(server)
        self._read_files(server.state / "datastore" / "labels")
        self._renew(server, stands)
        for study_id, stand in stands.items():
            self._ledger.settle(study_id, stand)
        self._ledger.somewhere.clear()

    # -- decisions

    def _compare_studies(self, stands: dict[str, Stand]) -> None:
        for study_id in self._ids:
            actual, possible = stands.get(study_id), self._ledger.possible(study_id)
            if actual is not None and any(wanted.allows(actual) for wanted in possible):
                continue
            if actual is not None and self._was_never_answered(actual, possible):
                continue
            kind = "false done" if actual is not None and actual.status == "done" else "decisions lost"
            self.losses[kind].append(f"{study_id} is {actual}, must be one of {possible}")

    def _was_never_answered(self, actual: Stand, possible: list[Stand]) -> bool:
        """Whether a request for the next sample that got no answer may have reserved the study."""
        waiting = self._ledger.somewhere
        is_it = actual.status == "reserved" and waiting[actual.client or ""] > 0
        if is_it and any(wanted.status == "open" for wanted in possible):
            waiting[actual.client or ""] -= 1
            return True
        return False

    def _compare_answers(self, server: Server, stands: dict[str, Stand]) -> None:
        status, count = server.status(), Counter(stand.status for stand in stands.values())
        held = {(study["study_id"], reader["client"]) for reader in status["readers"] for study in reader["studies"]}
        told = (status["n_labelled"], status["n_skipped"], held)
        reserved = {(study_id, stand.client) for study_id, stand in stands.items() if stand.status == "reserved"}
        if told != (count["done"], count["skipped"], reserved):
            text = f"status has {told[:2]} done and skipped, map {count}; held by one of them only: {held ^ reserved}"
            self.losses["answers that disagree"].append(text)

    def _read_history(self, server: Server) -> None:
        """`export --decisions` has every skip that was acknowledged, by its reason, and every reservation."""
        out = server.state.with_name("decisions.csv")
        place = ("--studies", server.studies, "--state", server.state)
        done = firstpick("export", *place, "--decisions", "--out", out)
        if done.returncode:
            self.losses["history lost"].append(f"export ended with {done.returncode}: {done.stderr[-300:]}")
            return
        with out.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        cells = {cell for row in rows for cell in row.values()}
        events = {(row["study_id"], row["client"]) for row in rows if row["kind"].lower() == "reserved"}
        self.losses["history lost"] += [f"the skip '{reason}'" for reason in sorted(self._ledger.skips - cells)]
        self.losses["history lost"] += [f"the reservation {pair}" for pair in sorted(self._ledger.reserved - events)]
        self._ledger.skips.clear()
        self._ledger.reserved.clear()

    def _renew(self, server: Server, stands: dict[str, Stand]) -> None:
        """Who has a study still has it, and for as long as the run needs."""
        for study_id, stand in stands.items():
            if stand.status == "reserved":
                body = {"study_id": study_id, "client_id": stand.client}
                answer = requests.post(f"http://127.0.0.1:{server.port}/firstpick/heartbeat", json=body, timeout=30)
                if answer.status_code != requests.codes.ok:
                    text = f"{stand.client} has {study_id} and may not go on: {answer.text[:200]}"
                    self.losses["decisions lost"].append(text)

    # -- labels

    def _compare_labels(self, server: Server) -> None:
        """Each label that may have changed is one that was sent, whole, and its facts are those of the file."""
        for thing in sorted(thing for thing in self._ledger.touched() if isinstance(thing, tuple)):
            (study_id, tag), possible = thing, self._ledger.possible(thing)
            name, content, facts = _label(server.port, study_id, tag)
            upload = None if content is None else self._ledger.uploads.get(_n_voxels(name, content))
            what = f"{tag} label of {study_id}"
            if content is not None and upload is None:
                self.losses["labels torn"].append(f"{what}: {len(content)} bytes are none that was sent")
            elif upload not in possible:
                self.losses["facts lost"].append(f"{what} is {upload}, must be one of {possible}; facts: {facts}")
            elif upload is not None and "n_voxels" not in facts and self._was_cut_off(thing, upload):
                self._ledger.count("labels without facts, never acknowledged")
            elif upload is not None and not _agree(facts, upload, content):
                self.losses["facts lost"].append(f"{what} is {upload}, its facts are {facts}")
            self._ledger.settle(thing, upload)

    def _was_cut_off(self, thing: tuple[str, str], upload: Upload) -> bool:
        """Whether a label was never acknowledged; it stays so in all rounds that follow."""
        if not self._ledger.was_answered(thing, upload):
            self._cut_off.add((thing, upload))
        return (thing, upload) in self._cut_off

    def _read_files(self, folder: Path) -> None:
        """Every label file on the disk, versions too, is a label that was sent; one that was read is not read again."""
        for path in folder.rglob("*"):
            if path.name.startswith(".") or not path.name.endswith(LABEL_ENDINGS):
                continue
            key = (path, path.stat().st_mtime_ns)
            if key not in self._good and _n_voxels(path.name, path.read_bytes()) not in self._ledger.uploads:
                self.losses["labels torn"].append(f"{path.relative_to(folder)} is no label that was sent")
            self._good.add(key)


def _label(port: int, study_id: str, tag: str) -> tuple[str, bytes | None, dict]:
    """Return the name of a label's file, its bytes (None if there is no label) and its facts."""
    where, url = {"label": study_id, "tag": tag}, f"http://127.0.0.1:{port}/datastore/label"
    answer = requests.get(url, where, timeout=30)
    if answer.status_code != requests.codes.ok:
        return "", None, {}
    name = answer.headers["content-disposition"].rpartition("=")[2].strip('"')
    return name, answer.content, requests.get(f"{url}/info", where, timeout=30).json()


def _agree(facts: dict, upload: Upload, content: bytes) -> bool:
    checksum = f"SHA256:{hashlib.sha256(content).hexdigest()}"
    wanted = (upload.client, upload.n_voxels, upload.checksum or checksum)
    return wanted == (facts.get("client_id"), facts.get("n_voxels"), facts.get("checksum")) and wanted[2] == checksum


def _n_voxels(name: str, content: bytes) -> int:
    """Count a label's voxels, which tell which upload it is; -1 if it cannot be read.

    In a folder of its own: ITK reads ``a.nii`` where it is asked for an ``a.nii.gz`` beside it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        try:
            return int(np.count_nonzero(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))))
        except RuntimeError:
            return -1
