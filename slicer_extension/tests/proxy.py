"""A proxy before a server that answers wrongly on the routes it is told: ``python proxy.py http://127.0.0.1:8000``.

A process of its own (threads starve beside a window), which prints its address. ``POST /proxy`` with
``[{"method": ..., "path": <pattern>, "answer": <name of WRONG>}, ...]`` has every such request answered so, with ``[]``
none; ``GET /proxy`` tells how often that was. Under ``/again/`` the server is to be had as well, for redirects.
"""

import json
import re
import select
import socket
import struct
import sys
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

PAGE = b"<!DOCTYPE html><html><body>Please sign in to the hospital's network.</body></html>"
ELSEWHERE = "http://portal.invalid/login"
WRONG = {
    "page": (200, {"Content-Type": "text/html"}, PAGE),
    "204": (204, {}, b""),
    "half": None,
    "broken": None,
    "other": (200, {"Content-Type": "application/json"}, b'{"hello": "world", "study_id": "another"}'),
    "301": (301, {"Location": ELSEWHERE}, b""),
    "307": None,
    "circle": None,
    "404": (404, {"Content-Type": "application/json"}, b'{"detail": "Not Found"}'),
    "401": (401, {"Content-Type": "text/html"}, PAGE),
    "403": (403, {"Content-Type": "text/html"}, PAGE),
    "413": (413, {"Content-Type": "text/html"}, PAGE),
    "500": (500, {"Content-Type": "text/plain"}, b"Internal Server Error"),
    "silent": None,
    "reset": None,
}
"""Status, headers and body; None where code does it: ``half`` looks whole, ``broken`` ends before its length."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_address = ("", 0)
    rules, n_wrong = [], 0

    def log_message(self, *_):
        pass

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/proxy":
            self._control(body)
        elif wrong := self._wrong():
            Handler.n_wrong += 1
            self._answer_wrongly(wrong, body)
        else:
            self._send(*self._ask(self.path.removeprefix("/again"), body))

    do_POST = do_PUT = do_HEAD = do_GET

    def _control(self, body):
        if self.command == "POST":
            Handler.rules, Handler.n_wrong = json.loads(body), 0
        self._send(200, {"Content-Type": "application/json"}, json.dumps(Handler.n_wrong).encode())

    def _wrong(self):
        """Say how a request is to be answered; nothing for one that goes its way."""
        for rule in Handler.rules:
            if rule["method"] == self.command and re.fullmatch(rule["path"], self.path):
                return rule["answer"]
        return ""

    def _answer_wrongly(self, name, body):
        if name in ("half", "broken"):  # the server has done what was asked
            status, headers, whole = self._ask(self.path, body)
            half = whole[: len(whole) // 2]
            self._send(status, headers, half, len(whole) if name == "broken" else len(half))
        elif name in ("307", "circle"):
            self._send(307, {"Location": f"/again{self.path}" if name == "307" else self.path}, b"")
        elif name == "silent":
            self.close_connection = True
            select.select([self.connection], [], [], 600)  # until the other side has had enough
        elif name == "reset":
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        else:
            self._send(*WRONG[name])

    def _ask(self, path, body):
        """Ask the server itself."""
        connection = HTTPConnection(*self.server_address, timeout=60)
        kept = ("content-type", "accept", "accept-encoding")
        headers = {name: value for name, value in self.headers.items() if name.lower() in kept}
        connection.request(self.command, path, body or None, headers)
        answer = connection.getresponse()
        whole = answer.read()
        connection.close()
        kept = ("content-type", "content-encoding", "retry-after", "location")
        return answer.status, {key: value for key, value in answer.getheaders() if key.lower() in kept}, whole

    def _send(self, status, headers, body, length=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.send_header("Connection", "close")
        self.close_connection = True
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    parts = urlsplit(sys.argv[1])
    Handler.server_address = (parts.hostname, parts.port)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
