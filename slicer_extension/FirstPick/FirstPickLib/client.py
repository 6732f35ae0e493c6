"""Requests to a FirstPick server and what its answers mean, in plain words; sends nothing itself."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

FINAL = "final"
UNAVAILABLE = 503
NORMAL_SECONDS, LONG_SECONDS = 30, 300


@dataclass(frozen=True)
class Request:
    """What to send: ``body`` is JSON, ``form`` the text fields of an upload."""

    method: str
    url: str
    body: bytes = b""
    form: tuple = ()
    seconds: int = NORMAL_SECONDS


@dataclass(frozen=True)
class Answer:
    """What came back: JSON as objects, anything else as bytes; or why nothing did.

    ``retryAfter`` is after how many seconds the server wants to be asked again; 0 if it said nothing of it.
    """

    status: int = 0
    data: object = None
    error: str = ""
    isCancelled: bool = False
    retryAfter: int = 0

    @property
    def isGood(self) -> bool:
        """Whether the server did what was asked."""
        return not self.error and not self.isCancelled


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
        return self._get("/firstpick/status")

    def strategies(self) -> Request:
        """Names of the strategies and what they do."""
        return self._get("/firstpick/strategies")

    def proposal(self, strategy: str) -> Request:
        """The standing batch."""
        return self._get("/firstpick/proposal", seconds=LONG_SECONDS, strategy=strategy)

    def newProposal(self, strategy: str, batchSize: int) -> Request:
        """Make a new batch."""
        body = {"strategy": strategy, "batch_size": batchSize, "client_id": self.reader}
        return self._post("/firstpick/proposal", body, LONG_SECONDS)

    def map(self, strategy: str) -> Request:
        """Every study as a point."""
        return self._get("/firstpick/map", seconds=LONG_SECONDS, strategy=strategy)

    def thumbnail(self, studyId: str) -> Request:
        """A study's picture, as PNG."""
        return self._get("/firstpick/thumbnail/" + quote(studyId))

    def change(self, verb: str, studyId: str, **more: str) -> Request:
        """Change a study's status: reserve, heartbeat, release, skip (with a ``reason``), unskip or reopen."""
        return self._post(f"/firstpick/{verb}", {"study_id": studyId, "client_id": self.reader, **more})

    def imageInfo(self, studyId: str) -> Request:
        """Where a study's file is on the server, and its stamp."""
        return self._get("/datastore/image/info", image=studyId)

    def image(self, studyId: str) -> Request:
        """A study's file."""
        return self._get("/datastore/image", image=studyId)

    def labelInfo(self, studyId: str, tag: str) -> Request:
        """Who saved a label and when; empty if there is none."""
        return self._get("/datastore/label/info", label=studyId, tag=tag)

    def label(self, studyId: str, tag: str) -> Request:
        """A label's file."""
        return self._get("/datastore/label", label=studyId, tag=tag)

    def labels(self, studyId: str) -> Request:
        """The labels of a study that this reader may load, what they go on with first."""
        return self._get("/firstpick/labels/" + quote(studyId), client_id=self.reader)

    def listedLabel(self, label: dict) -> Request:
        """The file of one of these labels."""
        return self._get(label["path"])

    def saveLabel(self, studyId: str, tag: str, labels: list, seconds: float) -> Request:
        """Upload a label file, with what each value means and how long the reader took."""
        params = {
            "client_id": self.reader,
            "label_info": [{"name": label["name"], "idx": label["value"]} for label in labels],
            "seconds": round(seconds, 1),
        }
        url = self._url("/datastore/label", image=studyId, tag=tag)
        return Request("PUT", url, form=(("params", json.dumps(params)),), seconds=LONG_SECONDS)

    def _url(self, path: str, **query: str) -> str:
        query = {key: value for key, value in query.items() if value}
        return self.address + path + ("?" + urlencode(query, quote_via=quote) if query else "")

    def _get(self, path: str, seconds: int = NORMAL_SECONDS, **query: str) -> Request:
        return Request("GET", self._url(path, **query), seconds=seconds)

    def _post(self, path: str, body: dict, seconds: int = NORMAL_SECONDS) -> Request:
        return Request("POST", self._url(path), json.dumps(body).encode(), seconds=seconds)


def fullAddress(text: str) -> str:
    """Complete what somebody typed to an address without a slash at its end.

    >>> fullAddress(" localhost:8000/ ")
    'http://localhost:8000'
    """
    text = text.strip()
    if text and "://" not in text:
        text = "http://" + text
    text = text.rstrip("/")
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        msg = f"'{text}' is not the address of a server. Type one such as http://127.0.0.1:8000."
        raise ValueError(msg)
    return text


def readAnswer(
    status: int, body: bytes, contentType: str, networkError: str, address: str, retryAfter: str = ""
) -> Answer:
    """Make an answer of what the network brought: objects of JSON, and one sentence for each thing that went wrong."""
    data: object = body
    if contentType.startswith("application/json"):
        try:
            data = json.loads(body)
        except ValueError:
            networkError = networkError or "not JSON"
    if 200 <= status < 300 and not networkError:
        return Answer(status, data)
    detail = data.get("detail") if isinstance(data, dict) else ""
    if status == 401 or (status == 403 and not detail):
        return Answer(status, data, f"{address} wants a login, which FirstPick does not have. Ask who runs the server.")
    if status >= 400 and detail:
        text = detail if isinstance(detail, str) else "; ".join(_problems(detail))
        isTold = status == UNAVAILABLE and re.fullmatch("[0-9]+", retryAfter)  # a date is not what this server gives
        return Answer(status, data, text, retryAfter=max(int(retryAfter), 1) if isTold else 0)
    if status == 404:
        return Answer(status, data, f"{address} does not know this. Is it a FirstPick server?")
    if status >= 400:
        return Answer(status, data, f"{address} answered with error {status}. Try again, or ask who runs the server.")
    if status:
        return Answer(status, data, f"The answer of {address} broke off ({networkError}). Try again.")
    return Answer(status, data, f"{address} does not answer ({networkError}). Is the server running?")


def _problems(detail: object) -> list:
    """Texts of a FastAPI validation error."""
    items = detail if isinstance(detail, list) else [detail]
    return [str(item.get("msg", item)) if isinstance(item, dict) else str(item) for item in items]


def isFirstPick(answer: Answer) -> bool:
    """Tell whether an answer to `Client.status` came from a FirstPick server."""
    return isinstance(answer.data, dict) and {"state", "message", "progress", "labels"} <= answer.data.keys()


def statusText(status: dict) -> str:
    """Say in one line how the server is: what it is embedding and how long that takes, or that it is ready."""
    progress = status["progress"]
    if status["state"] == "embedding" and progress["total"]:
        left = progress["seconds_left"]
        wait = "" if left is None else f", about {duration(left)} left"
        return f"Still embedding: {progress['done'] + progress['failed']} of {progress['total']}{wait}."
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


def cacheName(address: str, studyId: str, info: dict) -> str:
    """Name a study's file in the cache: another server, study or version of its voxels is another name."""
    key = hashlib.sha256(json.dumps([address, studyId, info.get("stamp", "")]).encode()).hexdigest()[:24]
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
