"""A server that gives recorded answers and can be told to fail: for tests where no FirstPick server is at hand.

What was recorded under ``sequences`` is the same of studies of several series: ``POST /test/set`` puts it in its place.
Runs as a process of its own (Slicer's Python threads stand still while its window waits) and prints its address;
the port may be its argument.
``POST /test/fail`` with ``{"path": ..., "how": ..., "times": ...}`` makes the next requests to a path, or to those that
begin with it if it ends with a slash, fail: with a number as HTTP status, ``drop`` (the connection breaks off),
``truncate`` (half the answer, then the connection breaks off) or ``slow`` (three seconds late). Qt asks again by itself
when a connection is dropped, so that ``times`` must be a few then. ``"image"`` names the one study that is
failed with, ``"detail"`` is the sentence of an HTTP status, ``"retry_after"`` its header.
"""

import base64
import hashlib
import json
import sys
import time
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit


class Room:
    """What was decided since the start."""

    def __init__(self, recorded):
        self.recorded = recorded
        self.statuses, self.labels, self.failures, self.requests = {}, {}, [], []
        self.bodies = []  # of posts, each with its path
        self.reopened = {}  # by whom; who gives such a study back unchanged closes it

    def failure(self, path, query):
        for failure in self.failures:
            wanted = failure["path"]
            isPath = path == wanted or (wanted.endswith("/") and path.startswith(wanted))
            isMeant = isPath and failure.get("image") in (None, query.get("image"))
            if isMeant and failure["times"] > 0:
                failure["times"] -= 1
                return failure
        return {"how": ""}

    def status(self, study_id):
        return self.statuses.get(study_id, {"status": "open", "client": "", "reason": "", "until": 0.0})

    def title(self, study_id):
        return next(point["title"] for point in self.recorded["map"]["points"] if point["study_id"] == study_id)

    def change(self, verb, study_id, client, reason=""):
        if study_id not in self.recorded["images"]:
            return 404, {"detail": f"Study '{study_id}' is not in the studies folder."}
        now = self.status(study_id)
        if verb in ("reserve", "heartbeat", "skip") and now["client"] not in ("", client):
            return 409, {"detail": f"Study '{self.title(study_id)}' is in progress by {now['client']} until 23:59."}
        if verb == "release" and now["status"] in ("done", "skipped"):
            return 200, {"study_id": study_id, **now}
        name = {"reserve": "reserved", "heartbeat": "reserved", "skip": "skipped"}.get(verb, "open")
        if verb == "reopen":
            self.reopened[study_id] = client
        if verb == "release" and self.reopened.get(study_id) == client:
            name, client = "done", self.labels[study_id, "final"][1]["client_id"]
            del self.reopened[study_id]
        is_open = name == "open"
        until = time.time() + 1800 if name == "reserved" else 0.0
        self.statuses[study_id] = {
            "status": name,
            "client": "" if is_open else client,
            "reason": reason,
            "until": until,
        }
        return 200, {"study_id": study_id, **self.status(study_id)}

    def get(self, path, query):
        recorded = self.recorded
        if path == "/firstpick/proposal":
            picks = [
                {**pick, **self.status(pick["study_id"]), "reason": pick["reason"]}
                for pick in recorded["proposal"]["picks"]
            ]
            return {**recorded["proposal"], "picks": picks}
        if path == "/firstpick/map":
            return {"points": [{**point, **self.status(point["study_id"])} for point in recorded["map"]["points"]]}
        if path == "/firstpick/status":
            count = [status["status"] for status in self.statuses.values()].count
            return {
                **recorded["status"],
                "n_labelled": count("done"),
                "n_skipped": count("skipped"),
                "readers": recorded.get("readers")
                or [
                    {
                        "client": status["client"],
                        "studies": [{"study_id": i, "title": self.title(i), "until": status["until"]}],
                        "n_done": 0,
                        "n_skipped": 0,
                        "seconds": 0.0,
                    }
                    for i, status in self.statuses.items()
                    if status["status"] == "reserved"
                ],
            }
        if path == "/firstpick/strategies":
            return recorded["strategies"]
        if path.startswith("/firstpick/thumbnail/"):
            series = f"/{query['series']}" if "series" in query else ""
            picture = recorded["thumbnails"].get(unquote(path[21:]) + series)
            return picture and base64.b64decode(picture)
        if path.startswith("/firstpick/series/"):
            return recorded["series"].get(unquote(path[18:]))
        if path.startswith("/firstpick/image/"):
            return base64.b64decode(recorded["images"][unquote(path[17:])])
        if path == "/datastore/image/info":
            return recorded["infos"][query["image"]]
        if path == "/datastore/image":
            return base64.b64decode(recorded["images"][query["image"]])
        return self.label(path, query)

    def label(self, path, query):
        if path.startswith("/firstpick/labels/"):
            return self.listed(unquote(path[18:]), query["client_id"])
        if path.startswith("/firstpick/label/"):
            return self.labels[unquote(path[17:]), query["tag"]][0]
        if path.startswith("/firstpick/draft/"):
            return self.draft(unquote(path[17:]))
        if path == "/firstpick/drafts":
            return self.recorded.get("drafts")
        if path == "/datastore/label/info":
            return self.labels.get((query["label"], query["tag"]), (b"", {}))[1]
        return None

    def listed(self, study_id, client):
        """The labels of a study, the newest first; a reader goes on with the final one or their own work."""
        found = []
        for (labelled, tag), (data, info) in reversed(self.labels.items()):
            if labelled == study_id:
                label = {
                    "tag": tag,
                    "version": 0,
                    "kind": "final" if tag == "final" else "saved",
                    "title": f"Label '{tag}'",
                    "client": info["client_id"],
                    "ts": info["ts"],
                    "seconds": info["seconds"],
                    "n_voxels": None,
                    "ending": info["ending"],
                    "n_bytes": len(data),
                    "checksum": f"SHA256:{hashlib.sha256(data).hexdigest()}",
                    "is_resumed": tag == "final" or info["client_id"] == client,
                    "path": f"/firstpick/label/{quote(study_id)}?tag={quote(tag)}",
                }
                label["is_resumed"] = label["is_resumed"] and not any(one["is_resumed"] for one in found)
                found.append(label)
        data = self.draft(study_id)
        return found + ([listed_draft(study_id, data)] if data else [])

    def draft(self, study_id):
        """The draft of a study that has no final label: what ``POST /test/set`` put under ``draft_files``."""
        data = self.recorded.get("draft_files", {}).get(study_id)
        return base64.b64decode(data) if data and (study_id, "final") not in self.labels else None

    def save(self, study_id, tag, params, data, name):
        ending = ".seg.nrrd" if name.endswith(".seg.nrrd") else ".nii.gz"
        self.labels.pop((study_id, tag), None)  # the newest is the last
        self.labels[study_id, tag] = (data, {**params, "ts": int(time.time()), "name": name, "ending": ending})
        if tag == "final":
            self.statuses[study_id] = {"status": "done", "client": params["client_id"], "reason": "", "until": 0.0}
            self.reopened.pop(study_id, None)
        return {"image": study_id, "label": study_id}


def listed_draft(study_id, data):
    return {
        "tag": "draft",
        "version": 0,
        "kind": "draft",
        "title": "Draft of the server from 18 labels (Dice 0.87 on labels that it had not seen)",
        "client": "",
        "ts": time.time(),
        "seconds": 0.0,
        "n_voxels": 24,
        "ending": ".nii.gz",
        "n_bytes": len(data),
        "checksum": f"SHA256:{hashlib.sha256(data).hexdigest()}",
        "is_resumed": False,
        "path": f"/firstpick/draft/{quote(study_id)}",
    }


class Handler(BaseHTTPRequestHandler):
    room = None

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._handle(b"")

    def do_POST(self):
        self._handle(None)

    do_PUT = do_POST

    def _handle(self, body):
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        failure = self.room.failure(parts.path, query)
        how = failure["how"]
        if how == "drop":
            self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 100))
            self.connection.close()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) if body is None else body
        self.room.requests.append(f"{self.command} {self.path}")
        if how == "slow":
            time.sleep(3)
        if how.isdigit():
            detail = failure.get("detail") or ("Ask again in a minute." if how == "503" else "")
            headers = {"Retry-After": str(failure["retry_after"])} if "retry_after" in failure else {}
            self._answer(int(how), {"detail": detail} if detail else {}, headers=headers)
        else:
            self._answer(*self._result(parts.path, query, body), isCut=how == "truncate")

    def _result(self, path, query, body):
        if self.command == "PUT":
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            parts = message_from_bytes(head + body).get_payload()
            fields = {
                part.get_param("name", header="Content-Disposition"): part.get_payload(decode=True) for part in parts
            }
            name = next(filter(None, (part.get_filename() for part in parts)))
            params, data = json.loads(fields["params"]), fields["label"]
            return 200, self.room.save(query["image"], query["tag"], params, data, name)
        if self.command == "POST":
            wanted = json.loads(body)
            self.room.bodies.append([path, wanted])
            if path == "/test/fail":
                self.room.failures[:] = [{"times": 1, **wanted}]
                return 200, {}
            if path == "/test/set":
                self.room.recorded.update(wanted)
                return 200, {}
            if path == "/firstpick/proposal":
                return 200, self.room.get(path, {})
            return self.room.change(
                path.rsplit("/", 1)[1], wanted["study_id"], wanted["client_id"], wanted.get("reason", "")
            )
        if path == "/test/requests":
            return 200, self.room.requests
        if path == "/test/bodies":
            return 200, self.room.bodies
        found = self.room.get(path, query)
        return (404, {"detail": "Not Found"}) if found is None else (200, found)

    def _answer(self, status, answer, isCut=False, headers=None):
        isJson = not isinstance(answer, bytes)
        data = json.dumps(answer).encode() if isJson else answer
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if isJson else "application/octet-stream")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if isCut else data)
        self.close_connection = True


if __name__ == "__main__":
    Handler.room = Room(json.loads(Path(__file__).with_name("recorded.json").read_text(encoding="utf-8")))
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if sys.argv[1:] else 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)  # noqa: T201 - whoever started it reads the address
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit()
