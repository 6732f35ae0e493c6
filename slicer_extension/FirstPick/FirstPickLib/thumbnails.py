"""The studies' pictures, each asked for once; those that did not come, and why nobody knows, again later."""

from __future__ import annotations


class Thumbnails:
    """Pictures (PNG) by study; empty for a study that has none.

    Parameters
    ----------
    network : Network
    client : Client
    """

    def __init__(self, network, client) -> None:
        self._network, self._client = network, client
        self._pictures, self._missing = {}, set()

    def get(self, studyId: str):
        """A study's picture, if it came."""
        return self._pictures.get(studyId)

    def load(self, studyId: str, done) -> None:
        """Hand a study's picture to ``done``, now or when it comes; of one that is under way, nobody else is told."""
        if studyId not in self._pictures:
            self._pictures[studyId] = None
            self._network.send(self._client.thumbnail(studyId), lambda answer: self._take(studyId, answer, done))
        elif self._pictures[studyId] is not None:
            done(self._pictures[studyId])

    def _take(self, studyId, answer, done) -> None:
        self._pictures[studyId] = answer.data if answer.isGood else b""
        if not answer.isGood and not answer.isTold:
            self._missing.add(studyId)
        done(self._pictures[studyId])

    def forgetMissing(self) -> bool:
        """Let those be asked for again that did not come; return whether there are any."""
        for studyId in self._missing:
            del self._pictures[studyId]
        isAny = bool(self._missing)
        self._missing.clear()
        return isAny
