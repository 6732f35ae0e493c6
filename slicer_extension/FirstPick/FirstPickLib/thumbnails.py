"""The studies' pictures, each asked for once; those that did not come, and why nobody knows, again later."""

from __future__ import annotations


class Thumbnails:
    """Pictures (PNG) by study and series; empty for one that has none.

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
        return self._pictures.get((studyId, ""))

    def load(self, studyId: str, done, series: str = "") -> None:
        """Hand a study's picture to ``done``, now or when it comes; of one that is under way, nobody else is told.

        ``series`` names the one of its series that is meant, if it is not the study as such.
        """
        key = studyId, series
        if key not in self._pictures:
            self._pictures[key] = None
            self._network.send(self._client.thumbnail(*key), lambda answer: self._take(key, answer, done))
        elif self._pictures[key] is not None:
            done(self._pictures[key])

    def _take(self, key, answer, done) -> None:
        self._pictures[key] = answer.data if answer.isGood else b""
        if not answer.isGood and not answer.isTold:
            self._missing.add(key)
        done(self._pictures[key])

    def forgetMissing(self) -> bool:
        """Let those be asked for again that did not come; return whether there are any."""
        for key in self._missing:
            del self._pictures[key]
        isAny = bool(self._missing)
        self._missing.clear()
        return isAny
