"""Stories told as generators: each ``yield`` sends something, and the story goes on with the answer."""

from __future__ import annotations

import os
from dataclasses import dataclass

from .answers import Answer
from .client import Request


@dataclass(frozen=True)
class Download:
    """Stream the answer to a request into a file; ``progress(done, total)`` is told how far it is."""

    request: Request
    path: str
    progress: object = None


@dataclass(frozen=True)
class Upload:
    """Send a file with a request."""

    request: Request
    path: str
    progress: object = None


@dataclass(frozen=True)
class Compress:
    """Make a ``.gz`` of a file; ``progress(done, total)`` is told how far it is."""

    path: str
    target: str
    progress: object = None


@dataclass(frozen=True)
class Wait:
    """Let some time pass; the window stays alive meanwhile."""

    seconds: float


def sendLabel(request: Request, path: str, progress=None):
    """Upload a label file, compressed if it is not yet; a story that ends with the server's `Answer`."""
    if not path.endswith(".nii"):
        return (yield Upload(request, path, progress))
    packed = path + ".gz"
    answer = yield Compress(path, packed, progress)
    if answer.isGood:
        answer = yield Upload(request, packed, progress)
        os.remove(packed)
    return answer


class Task:
    """Runs one story; the window stays alive meanwhile.

    Parameters
    ----------
    network : Network
    story : generator
        Yields a `Request`, a `Download`, an `Upload`, a `Compress`, a `Wait` or another `Task` to wait for; is sent an
        `Answer`. Ends soon once one is cancelled.
    ended : callable
        Called once, when the story is over or failed.
    """

    def __init__(self, network, story, ended=lambda: None) -> None:
        self._network, self._story, self._ended = network, story, ended
        self._waiting, self._transfer = [], None
        self.isOver = self.isCancelled = False

    def start(self) -> Task:
        """Begin."""
        self._step(None)
        return self

    def cancel(self) -> None:
        """End what is under way: the story goes on to its end with cancelled answers, and nothing more is sent."""
        if self.isOver or self.isCancelled:
            return
        self.isCancelled = True
        transfer, self._transfer = self._transfer, None
        if isinstance(transfer, Task):
            transfer._waiting.remove(self._step)
            self._step(Answer(isCancelled=True))
        elif transfer is not None:
            transfer.cancel()

    def _step(self, answer) -> None:
        self._transfer = None
        while True:
            try:
                wanted = self._story.send(answer)
                answer = Answer(isCancelled=True) if self.isCancelled else self._begun(wanted)
            except StopIteration:
                self._end()
                return
            except Exception:
                self._end()
                raise
            if answer is None:
                return

    def _begun(self, wanted):
        """Begin with what a story wants; return an answer where there is nothing to wait for."""
        if isinstance(wanted, Task) and wanted.isOver:
            return Answer()
        try:
            self._transfer = self._begin(wanted)
        except OSError as error:  # of the file to send
            return Answer(error=f"The file cannot be read: {error.strerror or error}.")
        return None

    def _begin(self, wanted):
        if isinstance(wanted, Task):
            wanted._waiting.append(self._step)
            return wanted
        if isinstance(wanted, Download):
            return self._network.download(wanted.request, wanted.path, self._step, wanted.progress)
        if isinstance(wanted, Upload):
            return self._network.upload(wanted.request, wanted.path, self._step, wanted.progress)
        if isinstance(wanted, Compress):
            return self._network.compress(wanted.path, wanted.target, self._step, wanted.progress)
        if isinstance(wanted, Wait):
            return self._network.wait(wanted.seconds, self._step)
        return self._network.send(wanted, self._step)

    def _end(self) -> None:
        self.isOver = True
        self._ended()
        for waiting in self._waiting:
            waiting(Answer())
