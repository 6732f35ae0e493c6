"""Walk a tree of folders: what lies where, by a rule that never depends on what else lies there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

LEADS_OUT = "a link that leads out of the studies folder: it is not followed, unless eligible.follow_links is true"
_NOT_TEXT = "its name is not UTF-8: rename it"
_MOST_LINKS = 4  # on the way to a folder: links that lead to each other would multiply


class Stat(NamedTuple):
    """What tells that a file is unchanged, and which file it is."""

    size: int
    mtime_ns: int
    place: tuple[int, int]  # device and inode


@dataclass
class Folder:
    """One folder's visible files.

    Attributes
    ----------
    path : Path
    relative : str
        Path below the root, ``/`` between folders; empty for the root.
    files : dict of str to Stat
        Regular files and links to such, by name, sorted.
    odd : dict of str to str
        What is neither a file nor a folder that can be opened, by name, and why.
    error : str
        Why the folder cannot be read; empty if it can.
    refused : tuple of str and str, or None
        Path of the folder that `why_not` refused, this one or one above it, with ``/`` at its end; and the reason.
    """

    path: Path
    relative: str = ""
    files: dict[str, Stat] = field(default_factory=dict)
    odd: dict[str, str] = field(default_factory=dict)
    error: str = ""
    refused: tuple[str, str] | None = None

    def below(self, name: str) -> str:
        """Path of one of its entries below the root."""
        return f"{self.relative}/{name}" if self.relative else name


def walk(root: Path, why_not: Callable[[str], str], *, follow_links: bool = False) -> Iterator[Folder]:
    """Visit a folder and all below it.

    Parameters
    ----------
    root : Path
    why_not : callable
        Says of a folder's name why it and all below it are refused; empty if they are not.
    follow_links : bool
        Whether links that lead out of `root` are followed.

    Yields
    ------
    Folder
        Refused ones too. Hidden files and folders are passed over.

    Notes
    -----
    A link to a folder that lies visibly below `root` is not followed: that folder is visited where it lies. Any other
    that may be followed is, under the link's own path, but never into a folder that holds it, nor through more than
    four links. Links to files are files.
    """
    rules = _Rules(os.path.realpath(root), why_not, follow_links)
    waiting = [_Visit(Folder(root))]
    while waiting:
        visit = waiting.pop()
        folder = visit.folder
        try:
            stat = folder.path.stat()
            inode = (stat.st_dev, stat.st_ino)
            if inode in visit.above:
                continue
            with os.scandir(folder.path) as entries:
                visible = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
        except FileNotFoundError:  # vanished meanwhile
            continue
        except OSError as error:
            folder.error = error.strerror or type(error).__name__
            yield folder
            continue
        here = _Visit(folder, (*visit.above, inode), visit.n_links)
        for entry in visible:
            try:
                waiting += _sort_in(entry, here, rules)
            except FileNotFoundError:
                continue
            except OSError as error:
                folder.odd[entry.name] = f"cannot be opened: {error.strerror or type(error).__name__}"
        yield folder


def stamp_of(stats: Iterable[Stat]) -> str:
    """Sum up sizes and times of files: another one whenever a file changes, whatever the files are called."""
    sizes = sorted((stat.size, stat.mtime_ns) for stat in stats)
    return hashlib.sha256(repr(sizes).encode()).hexdigest()[:16]


def shown(name: str) -> str:
    r"""Write a name that need not be UTF-8 so that it can be printed and stored: other bytes as ``\xfc``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def lies_in(path: str, folder: str) -> bool:
    """Whether a path is that of a folder or of something below it, as they are written."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


class _Rules(NamedTuple):
    """What holds for a whole walk; `real_root` is the root with all links followed."""

    real_root: str
    why_not: Callable[[str], str]
    follow_links: bool


@dataclass(frozen=True)
class _Visit:
    """A folder to look into, and the way that led there."""

    folder: Folder
    above: tuple[tuple[int, int], ...] = ()  # device and inode of each folder on the way
    n_links: int = 0


def _sort_in(entry: os.DirEntry[str], here: _Visit, rules: _Rules) -> list[_Visit]:
    """Put an entry where it belongs; return it if it is a folder to visit."""
    folder = here.folder
    is_text = shown(entry.name) == entry.name
    is_link = entry.is_symlink()
    if is_link and not rules.follow_links and not lies_in(os.path.realpath(entry.path), rules.real_root):
        folder.odd[entry.name] = LEADS_OUT
        return []
    if entry.is_dir():
        if is_link and (folder.refused or _lies_visibly_in(entry.path, rules.real_root)):
            return []
        n_links = here.n_links + is_link
        if n_links > _MOST_LINKS:
            folder.odd[entry.name] = f"a link behind {_MOST_LINKS} others: it is not followed"
            return []
        below = Folder(Path(entry.path), folder.below(entry.name), refused=folder.refused)
        reason = rules.why_not(entry.name) if is_text else _NOT_TEXT
        if reason and not below.refused:
            below.refused = (shown(below.below("")), reason)
        return [_Visit(below, here.above, n_links)]
    if not is_text:
        folder.odd[entry.name] = _NOT_TEXT
    elif entry.is_file():
        stat = entry.stat()
        folder.files[entry.name] = Stat(stat.st_size, stat.st_mtime_ns, (stat.st_dev, stat.st_ino))
    elif is_link:
        folder.odd[entry.name] = "a link to nothing: what it points at does not exist"
    else:
        folder.odd[entry.name] = "neither a file nor a folder"
    return []


def _lies_visibly_in(path: str, real_root: str) -> bool:
    relative = Path(os.path.relpath(os.path.realpath(path), real_root))
    return not any(part.startswith(".") for part in relative.parts)  # .. leads out
