"""What happens to studies: one class for each kind of event, plain data that goes to JSON and back."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from firstpick.proposal import Proposal
from firstpick.studies import Slice

FINAL = "final"
"""Tag of a label that closes its study."""

READING = "reading-"
"""Begins the tag of one reader's label where a study needs several; the label itself is not shown to the others."""

SAVED = "saved-"
"""Begins the tag of what one reader saved to go on with later."""


def reading_tag(reader: str) -> str:
    """Return the tag of one reader's label: their name as a plain word, and four digits of its hash."""
    return READING + _plain(reader)


def saved_tag(reader: str) -> str:
    """Return the tag of what one reader saved to go on with later."""
    return SAVED + _plain(reader)


def _plain(reader: str) -> str:
    plain = re.sub(r"[^\w.@+-]", "_", reader)[:40]
    return f"{plain}-{hashlib.sha256(reader.encode('utf-8', 'backslashreplace')).hexdigest()[:4]}"


def reader_of_tag(tag: str) -> str:
    """Return whose label lies under a tag, as far as that can be told from it; else empty."""
    plain = tag.removeprefix(READING)[:-5]
    return plain if reading_tag(plain) == tag else ""


_LONGEST_S = 1e9


@dataclass(frozen=True)
class Given:
    """What a reader was given: the label that follows counts for just that.

    Attributes
    ----------
    strategy : str
        Whose batch the study was a pick of; empty if of none.
    slices : tuple of Slice
        Empty for the whole study.
    """

    strategy: str = ""
    slices: tuple[Slice, ...] = ()


@dataclass(frozen=True)
class SavedLabel:
    """A label file, and what is known of it.

    Attributes
    ----------
    ending : str
        Of its name.
    stamp : str
        Size and modification time: another stamp is another file.
    info : mapping
        What the client sent with it (``client_id``, ``seconds``, ...), and of `firstpick.voxels.labels.Label`
        ``checksum``, ``n_voxels``, ``values``, ``unknown_values`` and ``changes``; plain JSON.
    """

    ending: str
    stamp: str
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def checksum(self) -> str:
        """Digest of the file; empty if it was never read."""
        return str(self.info.get("checksum", ""))

    @property
    def seconds(self) -> float:
        """How long the reader worked on it, as the client says; 0 if it does not, or says what cannot be."""
        said = self.info.get("seconds")
        return float(said) if isinstance(said, int | float) and 0 <= said < _LONGEST_S else 0.0


@dataclass(frozen=True, kw_only=True)
class _Event:
    """Something that happened.

    Attributes
    ----------
    study_id : str
        Empty for what is of no single study.
    client : str
        Who did it; empty if that is not known.
    at : float
        When, by the server's clock: seconds since the epoch. For people only.
    tick : float
        When, in seconds that a server has run on this log: whatever the server's clock does, it never jumps.
    """

    study_id: str = ""
    client: str = ""
    at: float = 0.0
    tick: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Proposed(_Event):
    """A batch was made, or mended: then picks that are done stay. It now is the standing one of its strategy."""

    proposal: Proposal
    is_mended: bool = False
    kind: Literal["proposed"] = "proposed"


@dataclass(frozen=True, kw_only=True)
class Reserved(_Event):
    """A reader has a study, for so many seconds from now on; ``anonymous`` where nobody said who it is."""

    seconds: float
    given: Given | None = None
    anonymous: bool = False
    kind: Literal["reserved"] = "reserved"


@dataclass(frozen=True, kw_only=True)
class Renewed(_Event):
    """The reader is still at it; kept, but no history."""

    seconds: float
    kind: Literal["renewed"] = "renewed"


@dataclass(frozen=True, kw_only=True)
class Released(_Event):
    """A reader gave a study back."""

    kind: Literal["released"] = "released"


@dataclass(frozen=True, kw_only=True)
class Skipped(_Event):
    """A study was taken out for everyone."""

    reason: str
    kind: Literal["skipped"] = "skipped"


@dataclass(frozen=True, kw_only=True)
class Unskipped(_Event):
    """A skip was undone."""

    kind: Literal["unskipped"] = "unskipped"


@dataclass(frozen=True, kw_only=True)
class Labelled(_Event):
    """A label was saved under a tag; under `FINAL` it closes the study.

    ``given`` is what is proposed of the study by then: a final label is of that where nobody was given anything.
    """

    tag: str
    label: SavedLabel
    given: Given | None = None
    kind: Literal["labelled"] = "labelled"


@dataclass(frozen=True, kw_only=True)
class Unlabelled(_Event):
    """A label was deleted; a final one opens its study again."""

    tag: str
    kind: Literal["unlabelled"] = "unlabelled"


@dataclass(frozen=True, kw_only=True)
class Reopened(_Event):
    """A done study is to be looked at again: the next final label, or giving it back unchanged, closes it."""

    kind: Literal["reopened"] = "reopened"


@dataclass(frozen=True, kw_only=True)
class Named(_Event):
    """The name of a study's label files; given once."""

    name: str
    kind: Literal["named"] = "named"


@dataclass(frozen=True, kw_only=True)
class Noted(_Event):
    """A client added to what is known of a study (no tag) or of a label of it."""

    info: Mapping[str, Any]
    tag: str = ""
    kind: Literal["noted"] = "noted"


@dataclass(frozen=True, kw_only=True)
class Restored(_Event):
    """The log was restored from its copy: decisions are known up to a time, in seconds since the epoch."""

    known_until: float
    kind: Literal["restored"] = "restored"


Event = (
    Proposed
    | Reserved
    | Renewed
    | Released
    | Skipped
    | Unskipped
    | Labelled
    | Unlabelled
    | Reopened
    | Named
    | Noted
    | Restored
)

_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])
_COLUMNS = ("at", "tick", "kind")


def to_text(event: Event) -> str:
    """Write what the columns of the log do not hold as JSON; ASCII, so that any id can be stored."""
    facts = {key: value for key, value in vars(event).items() if key not in _COLUMNS}
    return json.dumps(facts, default=vars, separators=(",", ":"))


def from_text(at: float, tick: float, kind: str, text: str) -> Event:
    """Read what `to_text` wrote; ValueError if it is none of ours."""
    return _EVENT.validate_python({**json.loads(text), "at": at, "tick": tick, "kind": kind})


def detail(event: Event) -> str:
    """Tell the rest of an event in a few words, for a table."""
    match event:
        case Skipped():
            return event.reason
        case Labelled() | Unlabelled():
            return event.tag
        case Reserved(given=Given() as given):
            return given.strategy
        case Proposed():
            return f"{event.proposal.strategy}: {len(event.proposal.picks)} picks"
        case Named():
            return event.name
        case _:
            return ""


def seconds(event: Event) -> float:
    """How long a reader worked on what the event tells of; 0 where nobody says."""
    return event.label.seconds if isinstance(event, Labelled) else 0.0
