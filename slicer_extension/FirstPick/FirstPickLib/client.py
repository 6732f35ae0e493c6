"""Requests to a FirstPick server, and what a good answer to each looks like; sends nothing itself."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

from .shapes import File, Maybe, OrEmpty, Picture
from .words import tr as _

FINAL, DRAFT = "final", "draft"
SHORT_SECONDS, NORMAL_SECONDS = 10, 30
BATCH_SECONDS, UPLOAD_SECONDS = 60, 300  # while the server chooses, and while it checks a label

# What this module reads of each answer; what else is in it may come, go and change.
LABEL = {"name": str, "value": int, "color": re.compile("#[0-9a-fA-F]{6}")}
PROGRESS = {"total": int, "done": int, "failed": int, "seconds_left": Maybe(float)}
HELD = {"study_id": str, "title": str, "until": float}
READER = {"client": str, "studies": [HELD], "n_done": int, "n_skipped": int, "seconds": float}
STATUS = {
    "state": str,
    "message": str,
    "notice": Maybe(str),
    "progress": PROGRESS,
    "strategy": str,
    "n_pool": int,
    "n_labelled": int,
    "n_skipped": int,
    "readers": [READER],
    "readers_per_study": int,
    "labels": [LABEL],
}
STRATEGIES = [{"name": str, "description": str}]
SLICE = {"index": int, "plane": str, "position_mm": Maybe(float)}
PICK = {
    "rank": int,
    "study_id": str,
    "title": str,
    "share": float,
    "stands_for": int,
    "lookalikes": [str],
    "reason": str,
    "replaces": str,
    "slices": Maybe([SLICE]),
    "status": str,
    "client": str,
    "until": float,
    "read_by": Maybe([str]),
    "series": Maybe([str]),
}
PROPOSAL = {
    "strategy": str,
    "round": Maybe(int),
    "provenance": Maybe({"strategy": Maybe(str)}),
    "n_pool": int,
    "coverage": [float],
    "note": str,
    "outlook": Maybe({"text": str}),
    "picks": [PICK],
}
POINT = {
    "study_id": str,
    "title": str,
    "x": float,
    "y": float,
    "status": str,
    "client": str,
    "reason": str,
    "stands_with": str,
    "unsure": Maybe(int),
    "series": Maybe([str]),
}
SERIES = {
    "name": str,
    "is_primary": bool,
    "modality": str,
    "file_name": str,
    "size": int,
    "stamp": str,
    "note": str,
}
IMAGE_INFO = {"path": str, "name": str, "stamp": str, "modality": str, "size": Maybe(int)}
LISTED_LABEL = {
    "tag": str,
    "kind": str,
    "title": str,
    "client": str,
    "ts": float,
    "seconds": float,
    "n_voxels": Maybe(int),
    "ending": re.compile(r"(\.\w{1,8}){1,2}"),
    "n_bytes": int,
    "checksum": str,
    "is_resumed": bool,
    "path": re.compile("/firstpick/(label|draft)/.+"),
}
CORRECTION = {
    "title": str,
    "client": str,
    "ts": float,
    "is_taken": Maybe(bool),
    "dice": float,
    "seconds": float,
}
DRAFTS = {
    "message": str,
    "drafts": [{"study_id": str}],
    "warnings": [{"title": str, "sentence": str}],
    "corrections": [CORRECTION],
    "stop": str,
}


@dataclass(frozen=True)
class Request:
    """What to send: ``body`` is JSON, ``form`` the text fields of an upload; and what a good answer looks like.

    ``seconds`` is how long the server may be silent.
    """

    method: str
    url: str
    shape: object
    seconds: float
    body: bytes = b""
    form: tuple = ()


class Client:
    """Builds the requests of one reader to one server."""

    def __init__(self, address: str, reader: str) -> None:
        self.address = fullAddress(address)
        self.reader = reader.strip()

    @property
    def savedTag(self) -> str:
        """Label tag of what this reader saved to go on later."""
        return f"saved-{self._plainName}"

    @property
    def readingTag(self) -> str:
        """Label tag under which the server files this reader's final label where a study needs several readers."""
        return f"reading-{self._plainName}"

    @property
    def _plainName(self) -> str:
        """The reader's name as the server spells it in tags: plain signs, and digits that keep like names apart."""
        plain = re.sub(r"[^\w.@+-]", "_", self.reader)[:40]
        return f"{plain}-{hashlib.sha256(self.reader.encode('utf-8', 'backslashreplace')).hexdigest()[:4]}"

    def status(self) -> Request:
        """How far the embedding is, and who works on what."""
        return self._get("/firstpick/status", STATUS, SHORT_SECONDS)

    def monaiLabel(self) -> Request:
        """What any MONAI Label server says of itself."""
        return self._get("/info/", {"name": str, "models": dict, "datastore": dict}, SHORT_SECONDS)

    def strategies(self) -> Request:
        """Names of the strategies and what they do."""
        return self._get("/firstpick/strategies", STRATEGIES)

    def proposal(self, strategy: str) -> Request:
        """The standing batch."""
        return self._get("/firstpick/proposal", PROPOSAL, BATCH_SECONDS, strategy=strategy)

    def newProposal(self, strategy: str, batchSize: int) -> Request:
        """Make a new batch."""
        body = {"strategy": strategy, "batch_size": batchSize, "client_id": self.reader}
        return self._post("/firstpick/proposal", body, PROPOSAL, BATCH_SECONDS)

    def map(self, strategy: str) -> Request:
        """Every study as a point."""
        return self._get("/firstpick/map", {"points": [POINT]}, BATCH_SECONDS, strategy=strategy)

    def thumbnail(self, studyId: str, series: str = "") -> Request:
        """A study's picture, or that of one of its series."""
        return self._get("/firstpick/thumbnail/" + quote(studyId), Picture(), series=series)

    def change(self, verb: str, studyId: str, **more: str) -> Request:
        """Change a study's status: reserve, heartbeat, release, skip (with a ``reason``), unskip or reopen."""
        body = {"study_id": studyId, "client_id": self.reader, **more}
        return self._post(f"/firstpick/{verb}", body, {"study_id": studyId, "status": str})

    def imageInfo(self, studyId: str) -> Request:
        """Where a study's file is on the server, its size and stamp; empty if the server has no such study."""
        return self._get("/datastore/image/info", OrEmpty(IMAGE_INFO), image=studyId)

    def image(self, studyId: str, size: int = 0) -> Request:
        """A study's file, of so many bytes if that is known."""
        return self._get("/datastore/image", File(size), image=studyId)

    def series(self, studyId: str) -> Request:
        """The series of a study, the primary first."""
        return self._get("/firstpick/series/" + quote(studyId), [SERIES])

    def seriesImage(self, studyId: str, series: str, size: int = 0) -> Request:
        """The file of one of them, of so many bytes if that is known."""
        return self._get(f"/firstpick/image/{quote(studyId)}/{quote(series, safe='')}", File(size))

    def labels(self, studyId: str) -> Request:
        """The labels of a study that this reader may load, what they go on with first."""
        return self._get("/firstpick/labels/" + quote(studyId), [LISTED_LABEL], client_id=self.reader)

    def listedLabel(self, label: dict) -> Request:
        """The file of one of these labels."""
        return self._get(label["path"], File(label["n_bytes"], label["checksum"]))

    def drafts(self) -> Request:
        """How the server's drafts stand, and what readers made of them; 404 from a server that makes none."""
        return self._get("/firstpick/drafts", DRAFTS, SHORT_SECONDS)

    def saveLabel(self, studyId: str, tag: str, labels: list, seconds: float) -> Request:
        """Upload a label file, with what each value means and how long the reader took.

        Only an answer that names this study, and the label, says that the server has it.
        """
        params = {
            "client_id": self.reader,
            "label_info": [{"name": label["name"], "idx": label["value"]} for label in labels],
            "seconds": round(seconds, 1),
        }
        url = self._url("/datastore/label", image=studyId, tag=tag)
        form = (("params", json.dumps(params)),)
        return Request("PUT", url, {"image": studyId, "label": str}, UPLOAD_SECONDS, form=form)

    def _url(self, path: str, **query: str) -> str:
        query = {key: value for key, value in query.items() if value}
        return self.address + path + ("?" + urlencode(query, quote_via=quote) if query else "")

    def _get(self, path: str, shape: object, seconds: float = 0, **query: str) -> Request:
        return Request("GET", self._url(path, **query), shape, seconds or NORMAL_SECONDS)

    def _post(self, path: str, body: dict, shape: object, seconds: float = 0) -> Request:
        return Request("POST", self._url(path), shape, seconds or NORMAL_SECONDS, body=json.dumps(body).encode())


def fullAddress(text: str) -> str:
    """Complete what somebody typed to an address without a slash at its end; of a page of the server, take its server.

    >>> fullAddress(" localhost:8000/ "), fullAddress("https://host/a/firstpick/#map")
    ('http://localhost:8000', 'https://host/a')
    """
    text = text.strip()
    whole = text if "://" in text else f"http://{text}"
    why = _whyNoAddress(whole)
    if why is not None:
        msg = _("'{text}' is not the address of a server{why}. Type one such as http://127.0.0.1:8000.")
        raise ValueError(msg.format(text=text, why=why))
    return re.sub(r"(/firstpick/*|/+)?\Z", "", re.split("[?#]", whole)[0])


def _whyNoAddress(text: str) -> str | None:
    """Say why this is no address, as the end of a sentence; None if it is one."""
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        return _(": it has a bracket too many or too few")
    try:
        isPort = parts.port != 0
    except ValueError:
        isPort = False
    if "@" in parts.netloc:
        return _(": it has a name or a password in it, which FirstPick does not send")
    if re.search(r"\s", text):
        return _(": it has a space in it")
    if not isPort:
        return _(": what follows the colon must be a number from 1 to 65535")
    return None if host and parts.scheme in ("http", "https") else ""


def statusText(status: dict) -> str:
    """Say in one line how the server is: what it is embedding and how long that takes, or that it is ready."""
    progress = status["progress"]
    if status["state"] == "embedding" and progress["total"]:
        left = progress["seconds_left"]
        done, total = progress["done"] + progress["failed"], progress["total"]
        if left is None:
            return _("Still embedding: {done} of {total}.").format(done=done, total=total)
        text = _("Still embedding: {done} of {total}, about {time} left.")
        return text.format(done=done, total=total, time=duration(left))
    return " ".join(filter(None, [status["message"], status.get("notice", "")]))


def duration(seconds: float) -> str:
    """Put a time into words.

    >>> duration(40), duration(125), duration(7000)
    ('40 s', '2 min', '1 h 57 min')
    """
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def clock(timestamp: float) -> str:
    """Hour and minute, of today or with the day."""
    then = time.localtime(timestamp)
    return time.strftime("%H:%M" if then[:3] == time.localtime()[:3] else "%d %b %H:%M", then)


def cacheName(address: str, studyId: str, info: dict, series: str = "") -> str:
    """Name a file in the cache: another server, study, series or version of its voxels is another name."""
    key = hashlib.sha256(json.dumps([address, studyId, info.get("stamp", ""), series]).encode()).hexdigest()[:24]
    return key + fileEnding(info.get("path") or info.get("name") or "")


def fileEnding(name: str) -> str:
    """The ending by which Slicer knows the format; ``.nii.gz`` is one, what follows any other dot is none.

    >>> fileEnding("a.b/scan.nii.gz"), fileEnding("x.PNG"), fileEnding("v1.2/scan"), fileEnding("T1 0.8 mm")
    ('.nii.gz', '.PNG', '', '')
    """
    found = re.search(r"(\.[a-z0-9]{1,8})?\.[a-z0-9]{1,8}\Z", re.split(r"[/\\]", name)[-1], re.IGNORECASE)
    if found is None:
        return ""
    ending = found[0]
    return ending if ending.lower().endswith(".gz") else ending[ending.rindex(".") :]


def isHere(info: dict) -> bool:
    """Tell whether the server's file is on this computer too: the same path, size and time of change."""
    try:
        stat = os.stat(info["path"])
    except (OSError, KeyError, ValueError):
        return False
    return os.path.isfile(info["path"]) and info.get("stamp") == f"{stat.st_size}-{stat.st_mtime_ns}"
