"""Stories told as generators: each ``yield`` sends something, and the story goes on with the answer."""

from __future__ import annotations

import os
from dataclasses import dataclass

from .client import Answer, Request


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
        `Answer`.
    ended : callable
        Called once, when the story is over or failed.
    """

    def __init__(self, network, story, ended=lambda: None) -> None:
        self._network, self._story, self._ended = network, story, ended
        self._waiting, self._transfer = [], None
        self.isOver = False

    def start(self) -> Task:
        """Begin."""
        self._step(None)
        return self

    def cancel(self) -> None:
        """End what is under way; the story goes on with a cancelled answer and cleans up."""
        if self.isOver:
            return
        transfer, self._transfer = self._transfer, None
        if isinstance(transfer, Task):
            transfer._waiting.remove(self._step)
            self._step(Answer(isCancelled=True))
        elif transfer is not None:
            transfer.cancel()

    def _step(self, answer) -> None:
        try:
            wanted = self._story.send(answer)
        except StopIteration:
            self._end()
        except Exception:
            self._end()
            raise
        else:
            self._transfer = self._begin(wanted)

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
