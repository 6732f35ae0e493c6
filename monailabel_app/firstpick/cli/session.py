"""What most commands need: the configuration, the studies and their state; and the arguments that name them."""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstpick.board.board import Board, Status
from firstpick.board.events import FINAL, Event
from firstpick.board.log import read_log
from firstpick.config import Config, ConfigError, load_config, state_folder
from firstpick.database import StoreError
from firstpick.embedding.cache import Cache
from firstpick.encoders import EncoderError
from firstpick.sources.connection import is_address
from firstpick.sources.dicomweb import KnownFacts
from firstpick.sources.names import final_labels
from firstpick.sources.series import notes_on
from firstpick.sources.source import Source, open_source
from firstpick.studies import LeftOut, Pool, Study
from firstpick.voxels.volumes import VolumeError


class UsageError(Exception):
    """The user asked for something that cannot be done; the text says what to do."""


USER_ERRORS = (UsageError, ConfigError, EncoderError, StoreError, VolumeError, ValueError, OSError)
"""What ends a command with one line on stderr."""

_KEYS = {"encoder": str, "strategy": str, "batch_size": int, "seed": int}


@dataclass
class Session:
    """The configuration, the studies and their state; ``labelled`` are studies with a label that counts."""

    config: Config
    source: Source
    studies: list[Study]
    left_out: list[LeftOut]
    labelled: frozenset[str]
    cache: Cache
    board: Board
    events: list[Event]

    def judge_again(self) -> None:
        """Leave out what turned out to be no study when its voxels were read."""
        self.studies, self.left_out = self.source.still_there(self.studies)

    def failed(self) -> list[LeftOut]:
        """Studies that could not be read."""
        return self.cache.failures(self.config.encoder_spec.fingerprint(), self.studies)

    def pool(self) -> Pool:
        """Embeddings of the studies that have one."""
        fingerprint = self.config.encoder_spec.fingerprint()
        return self.cache.pool(fingerprint, self.studies, series_pool=self.config.series.pool)

    def notes(self) -> dict[str, list[str]]:
        """What is to be said of studies, by id."""
        return notes_on(self.studies, self.cache.notes(self.studies), self.odd_series())

    def odd_series(self) -> dict[str, dict[str, str]]:
        """What is wrong with series, by study id and name."""
        return self.cache.odd_series(self.config.encoder_spec.fingerprint(), self.studies)

    def by_id(self) -> dict[str, Study]:
        """The studies by id."""
        return {study.study_id: study for study in self.studies}

    def statuses(self) -> Mapping[str, Status]:
        """Where studies stand, as far as the server has said."""
        last = self.events[-1] if self.events else None
        started = last.at - last.tick if last else 0.0
        return self.board.shown(time.time() - started, time.time())


def add_configuration(command: argparse.ArgumentParser, *, with_keys: bool = True) -> None:
    """Add what sets the configuration; with_keys, also options of their own for the keys most often set."""
    command.add_argument("--config", metavar="FILE", help="YAML configuration")
    command.add_argument(
        "--conf", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"), help="set one key of it"
    )
    command.add_argument("--state", dest="state_dir", metavar="DIR", help="folder for all state (key state_dir)")
    for key, kind in _KEYS.items() if with_keys else ():
        metavar = "N" if kind is int else "NAME"
        command.add_argument(f"--{key.replace('_', '-')}", type=kind, metavar=metavar, help=f"key {key}")


def add_studies(command: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add where the studies are."""
    text = "folder with the studies, or address of a PACS's DICOMweb"
    command.add_argument("--studies", metavar="DIR", required=required, help=text)


def studies_place(options: argparse.Namespace) -> str | Path:
    """Where the studies are: a folder, or the address of a PACS."""
    return str(options.studies) if is_address(options.studies) else Path(options.studies)


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    """Keys of the configuration that the command line sets."""
    named = {key: getattr(options, key, None) for key in ("state_dir", *_KEYS)}
    return dict(options.conf) | {key: value for key, value in named.items() if value is not None}


def configuration(options: argparse.Namespace) -> Config:
    """The configuration as the command line has it."""
    return load_config(options.config, overrides(options))


@contextlib.contextmanager
def session(options: argparse.Namespace, config: Config | None = None) -> Iterator[Session]:
    """Open the state of a folder with studies, or of a PACS."""
    config = config or configuration(options)
    place = studies_place(options)
    known_facts = functools.partial(_known_facts, config, place)
    source = open_source(place, config.eligible, config.dicomweb, known_facts, config.series)
    studies, left_out = source.look()
    if not studies:
        msg = f"{place} holds no study that FirstPick can read ({len(left_out)} left out)."
        raise UsageError(msg)
    state = state_folder(config, place)
    served = state / "datastore"  # a server takes over the labels of the studies folder, and keeps all there
    board, events = read_log(state)
    with contextlib.closing(Cache(state)) as cache:
        labels = served if (served / "labels").exists() or not isinstance(place, Path) else place
        on_disk, unmatched = final_labels(labels, studies, board.names)
        known = {i for i, status in board.statuses.items() if FINAL in status.labels}
        labelled = board.with_status("done") | (on_disk.keys() - known)  # those that no server has seen yet count, too
        if unmatched:
            print(
                f"{len(unmatched)} of the final labels are no single study's, such as {unmatched[0]}.", file=sys.stderr
            )
        yield Session(config, source, studies, left_out, labelled, cache, board, events)


def _known_facts(config: Config, place: str | Path) -> KnownFacts:
    with contextlib.closing(Cache(state_folder(config, place))) as cache:
        return cache.facts()
