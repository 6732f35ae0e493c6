"""Sends requests by Qt's network manager: in Slicer a Python thread would stand still while the window waits."""

from __future__ import annotations

import hashlib
import os

import qt

from .answers import REDIRECTS, UNAVAILABLE, Answer, fileMisfit, pointsElsewhere, readAnswer, redirected
from .client import Request
from .packing import Packing
from .shapes import HEAD

MOST_REDIRECTS = 5


class Network:
    """Sends to one address and calls back with answers; nothing here waits.

    Every method returns a `Transfer`, a `Packing` or a `Pause`, whose ``cancel`` ends it.
    """

    def __init__(self) -> None:
        self._manager = qt.QNetworkAccessManager()
        self._transfers = set()

    @property
    def nPending(self) -> int:
        """How many answers are still to come."""
        return len(self._transfers)

    def send(self, request: Request, done) -> Transfer:
        """Send a request and hand its answer to ``done``."""
        return self._start(request, done, None, None, None)

    def download(self, request: Request, path: str, done, progress) -> Transfer:
        """Stream an answer into a file, which is there only when it is whole."""
        return self._start(request, done, progress, path, None)

    def upload(self, request: Request, path: str, done, progress) -> Transfer:
        """Send a file as the form field ``label``."""
        return self._start(request, done, progress, None, path)

    def wait(self, seconds: float, done) -> Pause:
        """Hand an empty answer to ``done`` after some time."""
        return self._begin(Pause(seconds), done)

    def compress(self, source: str, target: str, done, progress) -> Packing:
        """Make a ``.gz`` of a file, and hand an empty answer to ``done``."""
        return self._begin(Packing(source, target, progress), done)

    def cancelAll(self) -> None:
        """End everything that is under way; nobody is called back."""
        for transfer in list(self._transfers):
            transfer.forget()

    def _start(self, request, done, progress, target, source) -> Transfer:
        return self._begin(Transfer(self._manager, request, target, source, progress), done)

    def _begin(self, transfer, done):
        def finished(answer):
            self._transfers.discard(transfer)
            if answer is not None:
                done(answer)

        transfer.start(finished)
        self._transfers.add(transfer)
        return transfer


class Pause:
    """Time that passes between two requests."""

    def __init__(self, seconds: float) -> None:
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(int(seconds * 1000))
        self._timer.connect("timeout()", self._onTimeout)

    def start(self, finished) -> None:
        """Begin."""
        self._finished = finished
        self._timer.start()

    def cancel(self) -> None:
        """End it; it is answered with a cancelled `Answer`."""
        self._end(Answer(isCancelled=True))

    def forget(self) -> None:
        """End it; nobody is told."""
        self._end(None)

    def _onTimeout(self) -> None:
        self._end(Answer())

    def _end(self, answer) -> None:
        self._timer.stop()
        self._timer.deleteLater()
        self._finished(answer)


class Transfer:
    """One request on its way; goes on by itself where the same host sends it, with what it brings."""

    def __init__(self, manager, request: Request, target: str | None, source: str | None, progress) -> None:
        self._manager, self._request, self._target, self._source = manager, request, target, source
        self._progress = progress
        self._file = self._sent = None
        self._size, self._head, self._digest = 0, b"", hashlib.sha256()
        self._nRedirects = 0
        self._trouble = ""
        self._isCancelled = self._isForgotten = False

    def start(self, finished) -> None:
        """Send it; OSError if there is no file to send."""
        self._finished = finished
        self._send(self._request.url, self._request.method)

    def _send(self, address: str, method: str) -> None:
        url = qt.QUrl(address)
        request = qt.QNetworkRequest(url)
        request.setTransferTimeout(int(self._request.seconds * 1000))  # of silence, not in all
        request.setAttribute(qt.QNetworkRequest.RedirectPolicyAttribute, qt.QNetworkRequest.ManualRedirectPolicy)
        self._address = f"{url.scheme()}://{url.host()}" + (f":{url.port()}" if url.port() > 0 else "")
        self._sentTo, self._method = address, method
        if method == "PUT":
            parts = self._formParts()
            self._reply = self._manager.put(request, parts)
            parts.setParent(self._reply)
        elif method == "POST":
            request.setHeader(qt.QNetworkRequest.ContentTypeHeader, "application/json")
            self._reply = self._manager.post(request, qt.QByteArray(self._request.body))
        else:
            self._reply = self._manager.get(request)
        if self._progress is not None and self._source is not None:
            self._reply.connect("uploadProgress(qint64,qint64)", self._progress)
        if self._target is not None:
            self._reply.connect("readyRead()", self._onData)
        self._reply.connect("finished()", self._onFinished)

    def cancel(self) -> None:
        """End it; it is answered with a cancelled `Answer`."""
        self._isCancelled = True
        self._reply.abort()

    def forget(self) -> None:
        """End it; nobody is told."""
        self._isForgotten = True
        self._reply.abort()

    def _formParts(self):
        parts = qt.QHttpMultiPart(qt.QHttpMultiPart.FormDataType)
        for name, text in self._request.form:
            part = qt.QHttpPart()
            part.setHeader(qt.QNetworkRequest.ContentDispositionHeader, f'form-data; name="{name}"')
            part.setBody(qt.QByteArray(text.encode()))
            parts.append(part)
        part = qt.QHttpPart()
        disposition = f'form-data; name="label"; filename="{os.path.basename(self._source)}"'
        part.setHeader(qt.QNetworkRequest.ContentDispositionHeader, disposition)
        part.setHeader(qt.QNetworkRequest.ContentTypeHeader, "application/octet-stream")
        self._sent = qt.QFile(self._source)
        if not self._sent.open(qt.QIODevice.ReadOnly):
            raise OSError(self._sent.errorString())
        part.setBodyDevice(self._sent)  # streamed: the file must stay as it is until it is sent
        parts.append(part)
        return parts

    def _status(self) -> int:
        return int(self._reply.attribute(qt.QNetworkRequest.HttpStatusCodeAttribute) or 0)

    def _header(self, name: bytes) -> str:
        return self._reply.rawHeader(qt.QByteArray(name)).data().decode("latin-1")

    # -- a file

    def _onData(self) -> None:
        if self._status() != 200 or self._trouble:
            return  # an error's text: read when it is whole
        try:
            self._write(self._reply.readAll().data())
        except OSError as error:
            self._trouble = f"The file cannot be written: {error.strerror or error}."
            self._reply.abort()

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._file = open(self._target + ".part", "wb")  # noqa: SIM115 - closed when the answer is whole
        self._file.write(data)
        self._size += len(data)
        self._head += data[: HEAD - len(self._head)]
        if self._request.shape.checksum:
            self._digest.update(data)
        if self._progress is not None:
            self._progress(self._size, int(self._reply.header(qt.QNetworkRequest.ContentLengthHeader) or 0))

    def _closeFile(self, isWhole: bool) -> str:
        """Give a whole file its name, or take away what came; say what it is if it is not what was asked for."""
        if self._file is None:
            return "nothing"
        misfit = fileMisfit(self._request.shape, self._target, self._head, self._size, self._digest.hexdigest())
        try:
            self._file.close()
            if isWhole and not misfit:
                os.replace(self._target + ".part", self._target)
            else:
                os.remove(self._target + ".part")
        except OSError as error:
            self._trouble = f"The file cannot be written: {error.strerror or error}."
        return misfit

    # -- the end

    def _onFinished(self) -> None:
        reply = self._reply
        if self._isRedirected():
            reply.deleteLater()
            return
        if self._target is not None and not self._networkError():
            self._onData()
        networkError = self._networkError()
        misfit = "" if self._target is None else self._closeFile(not networkError)
        answer = None if self._isForgotten else self._answer(networkError, misfit)
        reply.deleteLater()
        if self._sent is not None:
            self._sent.close()  # so that it can be removed on every system
        self._finished(answer)

    def _isRedirected(self) -> bool:
        """Go on where the same host sends the request."""
        if self._status() not in REDIRECTS or self._networkError():
            return False
        target = redirected(self._sentTo, self._header(b"Location"))
        if not target or self._nRedirects >= MOST_REDIRECTS:
            return False
        self._nRedirects += 1
        try:
            self._send(target, "GET" if self._status() == 303 else self._method)
        except OSError as error:
            self._trouble = f"The file cannot be read again: {error.strerror or error}."
            return False
        return True

    def _networkError(self) -> str:
        """Why the answer is not whole; empty if it is."""
        if self._isForgotten or self._isCancelled or self._trouble:
            return "ended"
        if self._reply.error() in (qt.QNetworkReply.OperationCanceledError, qt.QNetworkReply.TimeoutError):
            return f"nothing came for {self._request.seconds:g} s"
        if self._reply.error() != qt.QNetworkReply.NoError:
            return self._reply.errorString()
        expected = self._reply.header(qt.QNetworkRequest.ContentLengthHeader)
        if self._file is not None and expected is not None and int(expected) != self._size:
            return f"{self._size} of {int(expected)} bytes"
        return ""

    def _answer(self, networkError: str, misfit: str) -> Answer:
        if self._isCancelled:
            return Answer(isCancelled=True)
        if self._trouble:
            return Answer(error=self._trouble)
        status = self._status()
        if status in REDIRECTS:
            return pointsElsewhere(status, self._address, self._header(b"Location"))
        contentType = str(self._reply.header(qt.QNetworkRequest.ContentTypeHeader) or "")
        body = self._reply.readAll().data() if self._file is None and self._reply.isOpen() else b""
        retryAfter = self._header(b"Retry-After") if status == UNAVAILABLE else ""
        shape = self._request.shape
        return readAnswer(status, body, contentType, networkError, self._address, retryAfter, shape, misfit)
