"""What FirstPick's own routes take and answer, beyond the nouns of the rooms: their JSON is their fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from firstpick.config import Label
from firstpick.report import Point
from firstpick.server.bounds import Name, Reason, StudyId
from firstpick.studies import LeftOut


@dataclass(frozen=True)
class NewProposal:
    """What the new batch shall be; the configuration's values where nothing is said.

    Attributes
    ----------
    strategy : str
    batch_size, seed : int or None
    advice : bool
        Suggest a batch size, and say how much of it is chance.
    partial : bool
        Choose among what is embedded so far.
    client_id : str
    """

    strategy: Name = ""
    batch_size: Annotated[int | None, Field(le=1_000_000)] = None
    seed: Annotated[int | None, Field(ge=0, lt=2**63)] = None
    advice: bool = False
    partial: bool = False
    client_id: Name = ""


@dataclass(frozen=True, kw_only=True)
class StudyOfClient:
    """A study, and who acts on it."""

    study_id: StudyId
    client_id: Name = ""


@dataclass(frozen=True, kw_only=True)
class Reservation(StudyOfClient):
    """A study to reserve, and of which strategy's batch it is a pick; empty for the configured one's."""

    strategy: Name = ""


@dataclass(frozen=True, kw_only=True)
class Skip(StudyOfClient):
    """A study to take out, who says so and why."""

    reason: Reason


@dataclass(frozen=True)
class StudyStatus:
    """Where one study stands, who has it till when, or why it was skipped."""

    study_id: str
    status: str
    client: str
    reason: str
    until: float


@dataclass(frozen=True, kw_only=True)
class ShownPoint(Point):
    """A point of the map, and who has the study or why it was skipped.

    Attributes
    ----------
    client, reason : str
    stands_with : str
        The study of the nearest pick.
    unsure : int or None
        1 if it is of the quarter of studies that the labels so far leave most unsure, 4 for the surest; None where that
        is not known.
    """

    client: str
    reason: str
    stands_with: str
    unsure: int | None


@dataclass(frozen=True)
class PoolMap:
    """The whole pool as points."""

    points: list[ShownPoint]


@dataclass(frozen=True)
class ListPage:
    """A page of a long list: how many there are in all, the place of the page's first, and its studies."""

    total: int
    offset: int
    studies: Sequence[LeftOut]


@dataclass(frozen=True)
class Lookalikes:
    """The studies nearest to one, nearest first."""

    study_id: str
    lookalikes: list[str]


@dataclass(frozen=True, kw_only=True)
class ListedLabel:
    """A label of a study that a reader may load.

    Attributes
    ----------
    tag : str
    version : int
        Number of an earlier final label; 0 for what lies under the tag now.
    kind : {'final', 'reading', 'saved', 'draft', 'earlier', 'other'}
    title : str
        What it is and whose, for people.
    client : str
        Who drew it; empty if that is not known.
    ts : float
        When it was saved, in seconds since the epoch.
    seconds : float
        How long that took, as far as the client says.
    n_voxels : int or None
        Not background; None if it was never read.
    ending : str
        Of the file: its format.
    n_bytes : int
    checksum : str
        ``SHA256:`` and the digest of the file; empty if it was never read.
    is_resumed : bool
        Whether the reader goes on with it where nothing else is said; at most one.
    path : str
        Where to fetch it, behind the server's address.
    """

    tag: str
    version: int
    kind: str
    title: str
    client: str
    ts: float
    seconds: float
    n_voxels: int | None
    ending: str
    n_bytes: int
    checksum: str
    is_resumed: bool
    path: str


@dataclass(frozen=True, kw_only=True)
class ListedSeries:
    """A series of a study.

    Attributes
    ----------
    name : str
        What it is called in its study, without a slash; of a study that is not of several, the end of its title.
    is_primary : bool
        Whether labels lie on its grid.
    title : str
    modality : str
        Of DICOM only.
    file_name : str
        For the file that is downloaded; no other one's.
    size : int
        Of that file in bytes; 0 while it is not made yet.
    stamp : str
        Changes when the file does.
    note : str
        What is wrong with it: that it cannot be read, or lies on another grid than the primary; else empty.
    """

    name: str
    is_primary: bool
    title: str
    modality: str
    file_name: str
    size: int
    stamp: str
    note: str


@dataclass(frozen=True)
class Described:
    """A name of the configuration and what it does."""

    name: str
    description: str


@dataclass(frozen=True)
class Progress:
    """How far the embedding is, in studies; rate per second; and by how many processes, here or on a cluster."""

    total: int
    done: int
    failed: int
    left_out: int
    rate: float
    seconds_left: float | None
    workers: int


@dataclass(frozen=True)
class HeldStudy:
    """A reserved study."""

    study_id: str
    title: str
    until: float


@dataclass(frozen=True)
class Reader:
    """A reader: the studies in progress, how many are done and skipped, and how long the labels took that say so."""

    client: str
    studies: list[HeldStudy]
    n_done: int
    n_skipped: int
    seconds: float


@dataclass(frozen=True)
class UnknownValues:
    """A label with values that are no configured label's."""

    study_id: str
    tag: str
    values: list[str]


@dataclass(frozen=True, kw_only=True)
class ServerStatus:
    """How things stand; ``state`` is listing, embedding, ready, empty or problem.

    ``failed``, ``left_out`` and ``notes`` (of ``n_noted`` studies) hold the first thousand each; `ListPage` has all.

    ``unmatched_labels`` are label files that are nobody's, or could be several studies'; ``unclaimed_labels`` studies
    with a label of which nobody knows who drew it, where several readers label each study.
    """

    version: str
    state: str
    message: str
    progress: Progress
    encoder: str
    fingerprint: str
    strategy: str
    batch_size: int
    n_pool: int
    n_labelled: int
    n_skipped: int
    readers: list[Reader]
    readers_per_study: int
    labels: tuple[Label, ...]
    failed: list[LeftOut]
    left_out: list[LeftOut]
    notes: Mapping[str, list[str]]
    n_noted: int
    unmatched_labels: list[str]
    unclaimed_labels: list[str]
    unknown_values: list[UnknownValues]
    notice: str
