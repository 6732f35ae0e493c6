"""The series of the open study: those beside the primary are loaded after it, one at a time; one is in front."""

from __future__ import annotations

import os
from dataclasses import dataclass

import slicer
from slicer.i18n import tr as _

from . import geometry, scene
from .link import PAINT_S, waitCursor
from .tasks import Task, Wait

BY_THEMSELVES = 8  # series of a study; the others are loaded when they are chosen


@dataclass(eq=False)
class Series:
    """One series of the open study.

    Attributes
    ----------
    note : str
        What the server found odd in it.
    volume : node or None
        None while it is not loaded.
    cached : str
        The downloaded file; empty for the primary, which is the study's own.
    why : str
        Why it could not be loaded.
    """

    name: str
    modality: str = ""
    note: str = ""
    volume: object = None
    cached: str = ""
    why: str = ""

    @property
    def isHere(self) -> bool:
        """Whether it is loaded, and nobody took it out of the scene."""
        return self.volume is not None and bool(slicer.mrmlScene.IsNodePresent(self.volume))


class Sequences:
    """The series of one open study; the label belongs to all, and lies on the grid of the primary.

    Parameters
    ----------
    logic : FirstPickLogic
    studyId, title : str
    volume, segmentation : nodes
        What is open already: the primary, and what is drawn.
    names : tuple of str or None
        The series as the work list names them, the primary first; None if it does not name any.

    Attributes
    ----------
    all : list of Series
        The primary first; it alone in a study of one series.
    front, chosen : Series
        The one that the slice views show, and the one that the reader wants to see there.
    progress : str
        What is under way.
    """

    def __init__(self, logic, studyId: str, title: str, volume, segmentation, names: tuple | None) -> None:
        self.studyId = studyId
        self._logic, self._title, self._segmentation = logic, title, segmentation
        self._isNamed = bool(names)
        self._mayBeMore = names is None or len(names) > 1
        primary, *others = names or ("",)
        self.all = [Series(primary, volume=volume), *map(Series, others)]
        self.front = self.chosen = self.primary
        self.progress = ""
        self._task = None
        self._loaded, self._folder = [], 0

    @property
    def primary(self) -> Series:
        """The series on whose grid the label lies."""
        return self.all[0]

    @property
    def others(self) -> list:
        """The series that were loaded beside the primary."""
        return [one for one in self.all[1:] if one.isHere]

    @property
    def copies(self) -> list:
        """The files that were downloaded of them."""
        return [one.cached for one in self._loaded]

    @property
    def frontVolume(self):
        """What the slice views show."""
        return self.front.volume if self.front.isHere else self.primary.volume

    # -- loading

    def start(self, ended) -> None:
        """Load what is to be loaded by itself, and call ``ended``; about a study of one series nobody is asked."""
        if self._mayBeMore:
            self._task = Task(self._logic.network, self._loadAll(), ended)
            self._task.start()
        else:
            ended()

    def stop(self) -> None:
        """Load no more."""
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """Take the series and their folder out of the scene, once the primary is out."""
        scene.removeNodes([one.volume for one in self._loaded])
        scene.removeFolder(self._folder)

    def _loadAll(self):
        answer = yield self._logic.client.series(self.studyId)
        if self._task.isCancelled:
            return
        if answer.isGood:
            self._take(answer.data)
        elif self._isNamed:
            for one in self._missing():
                one.why = answer.error
            self.chosen = self.front if self.chosen.why else self.chosen
        elif answer.status != 404:  # else a server without series
            text = _("Whether {study} has more series is not known: {why}").format(study=self._title, why=answer.error)
            self._logic.say(f"{self._logic.message} {text}".strip())
        self._logic._tell("reading")
        while one := self._next():
            yield from self._load(one)
            if self._task.isCancelled:
                return
        self._show("")

    def _take(self, listed: list) -> None:
        """Take over what the server says of the series; those that are loaded stay loaded."""
        first, *rest = sorted(listed, key=lambda one: not one["is_primary"]) or [{"name": ""}]
        rest = [one for one in rest if one["name"]]
        known = {one.name: one for one in self.all[1:]}
        others = [known.get(one["name"]) or Series(one["name"]) for one in rest]
        if others:
            self.primary.name = first["name"]
            self._putIntoFolder()
        for series, one in zip((self.primary, *others), (first, *rest)):
            series.note, series.modality = one.get("note", ""), one.get("modality", "")
        self.all[1:] = others

    def _putIntoFolder(self) -> None:
        """Name the primary as one of several, and put it and what is drawn into a folder of the study."""
        self.primary.volume.SetName(f"{self._title} {self.primary.name}")
        self._folder = self._folder or scene.makeFolder(self._title)
        for node in (self.primary.volume, self._segmentation):
            scene.putInto(self._folder, node)

    def _missing(self) -> list:
        return [one for one in self.all[1:] if not one.isHere and not one.why]

    def _next(self) -> Series | None:
        """Find the series to load next: the chosen one, or the first."""
        missing = self._missing()
        if self.chosen in missing:
            return self.chosen
        return next((one for one in missing if self.all.index(one) < BY_THEMSELVES), None)

    def _load(self, one: Series):
        """Fetch a series and put it into the scene, or note why not."""
        where = {"series": one.name, "n": self.all.index(one) + 1, "total": len(self.all)}

        def stage(isPreparing, *_howFar):
            preparing = _("The server is preparing {series}, {n} of {total}.")
            self._show((preparing if isPreparing else _("{series} is loading, {n} of {total}.")).format(**where))

        fetched = yield from self._logic.files.fetchSeries(self._logic.client, self.studyId, one.name, stage)
        if not fetched.error:
            self._show(_("Slicer opens {series}, {n} of {total}.").format(**where))
            yield Wait(PAINT_S)
        if self._task.isCancelled:
            return
        one.why = fetched.error or self._open(one, fetched)
        if self.chosen is one and one.why:
            self.chosen = self.front
        elif self.chosen is one:
            self.choose(one)

    def _open(self, one: Series, fetched) -> str:
        """Put a file into the scene where it lies in space; return what went wrong."""
        try:
            with waitCursor():
                one.volume = scene.loadVolume(fetched.path, f"{self._title} {one.name}")
        except RuntimeError as error:
            os.remove(fetched.path)  # it may be what is wrong
            return _("Slicer cannot open {study}: {why}").format(study=one.name, why=error)
        one.cached, one.note, one.modality = fetched.path, fetched.info["note"], fetched.info["modality"]
        self._loaded.append(one)
        scene.putInto(self._folder, one.volume)
        self._logic.views.restoreVolume(one.volume, one.modality, one.name)
        return ""

    # -- in front

    def choose(self, one: Series) -> None:
        """Bring a series to the front; one that is not loaded is loaded first, also where that failed before."""
        self.chosen = one
        if one.isHere:
            self.front = one
            geometry.bringToFront(one.volume)
        else:
            one.why = ""
            if self._task is None or self._task.isOver:
                self.start(lambda: None)
        self._logic._tell("reading")

    def step(self, step: int) -> None:
        """Bring the next loaded series (1) or the one before (-1) to the front; after the last comes the primary."""
        here = [self.primary, *self.others]
        if len(here) > 1:
            place = here.index(self.front) if self.front in here else 0
            self.choose(here[(place + step) % len(here)])

    # -- what the reader is told

    def _show(self, text: str) -> None:
        if text != self.progress:
            self.progress = text
            self._logic._tell("reading")

    def text(self) -> str:
        """Say what is under way, what is odd and what is missing, a sentence each."""
        lines = [self.progress]
        lines += [f"{one.name}: {one.note.rstrip('.')}." for one in self.all if one.isHere and one.note]
        for why in dict.fromkeys(one.why for one in self.all if one.why):
            names = ", ".join(one.name for one in self.all if one.why == why)
            lines.append(_("Not loaded: {series}. {why}").format(series=names, why=why))
        return "\n".join(filter(None, lines))
