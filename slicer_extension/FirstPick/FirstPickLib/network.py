"""Sends requests by Qt's network manager: in Slicer a Python thread would stand still while the window waits."""

from __future__ import annotations

import os

import qt

from .client import UNAVAILABLE, Answer, Request, readAnswer
from .packing import Packing


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
        self._transfers.add(transfer)

        def finished(answer):
            self._transfers.discard(transfer)
            if answer is not None:
                done(answer)

        transfer.start(finished)
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
    """One request on its way."""

    def __init__(self, manager, request: Request, target: str | None, source: str | None, progress) -> None:
        self._manager, self._request, self._target, self._source = manager, request, target, source
        self._progress = progress
        self._file = self._sent = None
        self._size = 0
        self._isCancelled = self._isForgotten = False

    def start(self, finished) -> None:
        """Send it."""
        self._finished = finished
        url = qt.QUrl(self._request.url)
        request = qt.QNetworkRequest(url)
        request.setTransferTimeout(self._request.seconds * 1000)  # of silence, not in all
        self._address = f"{url.scheme()}://{url.host()}" + (f":{url.port()}" if url.port() > 0 else "")
        if self._source is not None:
            parts = self._formParts()
            self._reply = self._manager.put(request, parts)
            parts.setParent(self._reply)
        elif self._request.method == "POST":
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

    def _retryAfter(self) -> str:
        if self._status() != UNAVAILABLE:
            return ""
        return self._reply.rawHeader(qt.QByteArray(b"Retry-After")).data().decode("latin-1")

    def _onData(self) -> None:
        if self._status() != 200:
            return  # an error's text: read when it is whole
        if self._file is None:
            self._file = open(self._target + ".part", "wb")  # noqa: SIM115 - closed when the answer is whole
        data = self._reply.readAll().data()
        self._size += len(data)
        self._file.write(data)
        if self._progress is not None:
            self._progress(self._size, int(self._reply.header(qt.QNetworkRequest.ContentLengthHeader) or 0))

    def _onFinished(self) -> None:
        reply = self._reply
        isWhole = reply.error() == qt.QNetworkReply.NoError and not self._isForgotten and not self._isCancelled
        if self._target is not None and isWhole:
            self._onData()
        if self._file is not None:
            self._file.close()
            expected = reply.header(qt.QNetworkRequest.ContentLengthHeader)
            isWhole = isWhole and (expected is None or int(expected) == self._size)
            if isWhole:
                os.replace(self._target + ".part", self._target)
            else:
                os.remove(self._target + ".part")
        answer = None if self._isForgotten else self._answer(isWhole)
        reply.deleteLater()
        if self._sent is not None:
            self._sent.close()  # so that it can be removed on every system
        self._finished(answer)

    def _answer(self, isWhole: bool) -> Answer:
        if self._isCancelled:
            return Answer(isCancelled=True)
        contentType = str(self._reply.header(qt.QNetworkRequest.ContentTypeHeader) or "")
        networkError = "" if isWhole else self._reply.errorString()
        body = b"" if self._file is not None else self._reply.readAll().data()
        return readAnswer(self._status(), body, contentType, networkError, self._address, self._retryAfter())
