"""Studies of several series: which of the listed files and DICOM series belong together, and which is primary."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from firstpick.sources.eligibility import Facts
from firstpick.sources.names import bare, printable
from firstpick.studies import LeftOut, Study
from firstpick.voxels import formats

_KINDS = ("folder", "nnunet", "study_uid", "4d")
_REGEX = "regex:"
_NNUNET = r"^(?P<study>.+)_(?P<series>[0-9]{4})$"
_GROUPS = {"study", "series"}
POOLINGS = ("join", "mean")
_MOST_FRAMES = 16  # more are points in time, not sequences
_UNFIT = re.compile(r"[/\\]+")  # in a name, which is one part of an address


@dataclass(frozen=True)
class SeriesRule:
    """What makes one study of several series; the defaults make each file and each DICOM series a study.

    Raises
    ------
    ValueError
        If a value is not known, or the expression is wrong.
    """

    by: str = ""
    """What makes one study of several files or DICOM series: folder, nnunet (case_0000), study_uid (of DICOM), 4d (the
    frames of a NIfTI file), or regex:PATTERN with groups named study and series, found in the path, ending off; empty
    for nothing."""
    primary: tuple[str, ...] = ()
    """Which series of a study labels are drawn on: patterns of names or modalities, the best first, such as [t1ce,
    "*flair*"]; where none fits, the first by name."""
    pool: str = "join"
    """How the embeddings of a study's series become one: join (one after the other, by name) or mean."""

    def __post_init__(self) -> None:
        allowed = f"Take {', '.join(_KINDS)} or regex:PATTERN, or nothing."
        if self.by.startswith(_REGEX):
            try:
                groups = re.compile(self.by.removeprefix(_REGEX)).groupindex.keys()
            except re.error as error:
                msg = f"by {self.by!r} is not a regular expression: {error}."
                raise ValueError(msg) from error
            if missing := sorted(_GROUPS - groups):
                names = " and ".join(f"(?P<{name}>...)" for name in missing)
                msg = f"by {self.by!r} must have the groups study and series; {names} is missing."
                raise ValueError(msg)
        elif self.by and self.by not in _KINDS:
            msg = f"by {self.by!r} is not known. {allowed}"
            raise ValueError(msg)
        if self.pool not in POOLINGS:
            msg = f"pool {self.pool!r} is not known. Choose one of {', '.join(POOLINGS)}."
            raise ValueError(msg)


NO_RULE = SeriesRule()


def joined(
    found: Sequence[tuple[Study, Facts]], rule: SeriesRule = NO_RULE
) -> tuple[list[Study], list[LeftOut], list[str]]:
    """Make studies of several series of what was listed.

    Parameters
    ----------
    found : sequence of (Study, Facts)
        Files and DICOM series that are kept, in any order, and what their headers say; ids are unique.
    rule : SeriesRule

    Returns
    -------
    studies : list of Study
        Sorted. The id of one of several series is what the rule gives: the folder, the group ``study``, of
        ``study_uid`` `firstpick.sources.uids.visit_id`, of ``4d`` the file's path; it does not depend on which series
        there are. What the rule does not fit is a study of its own.
    left_out : list of LeftOut
        Series whose name another one of the study has, and those whose headers name another patient; where they name
        none (or a placeholder), another visit.
    notes : list of str
        How many the rule does not fit.

    Examples
    --------
    >>> found = [(Study(f"{name}.nii", "", name), Facts()) for name in ("a_t2", "a_t1", "b_t1", "phantom")]
    >>> studies, _, notes = joined(found, SeriesRule("regex:^(?P<study>.)_(?P<series>t[12])$"))
    >>> [(study.study_id, [one.name for one in study.series]) for study in studies]
    [('a', ['t1', 't2']), ('b', ['t1']), ('phantom.nii', [])]
    >>> notes
    ['1 of 4 files and DICOM series does not fit series.by and is a study of its own, such as phantom.nii.']
    """
    if not rule.by:
        return sorted(study for study, _ in found), [], []
    together: defaultdict[str, list[Study]] = defaultdict(list)
    alone: list[Study] = []
    for study, facts in sorted(found, key=lambda pair: pair[0].study_id):
        members = list(_members(study, facts, rule.by))
        for study_id, member in members:
            together[study_id].append(member)
        if not members:
            alone.append(study)
    studies: list[Study] = []
    left_out: list[LeftOut] = []
    visits = {study.study_id: facts.visit for study, facts in found}
    for study_id, members_of in together.items():
        study, apart = _one_study(study_id, members_of, visits, rule)
        studies.append(study)
        left_out += apart
    own = [study for study in alone if study.study_id not in together]
    taken = (study for study in alone if study.study_id in together)
    left_out += [LeftOut(s.study_id, "a study of several series has its id: rename it", s.title) for s in taken]
    notes = []
    if own and rule.by != "4d":
        does, is_own = ("does", "is a study of its") if len(own) == 1 else ("do", "are studies of their")
        notes.append(
            f"{len(own)} of {len(found)} files and DICOM series {does} not fit series.by and {is_own} own, "
            f"such as {own[0].title}."
        )
    return sorted([*studies, *own]), left_out, notes


def series_name(one: Study) -> str:
    """Return what a series is called in its study; of a study that is not of several, the end of its title."""
    return one.name or _name(bare(one.title.rpartition("/")[2]))


def counted(studies: Collection[Study]) -> str:
    """Write how many studies there are; where some are of several series, of how many.

    >>> counted([Study("a", "", "")]), counted([Study("a", "", "", series=(Study("t1", "", ""), Study("t2", "", "")))])
    ('1 studies', '1 studies of 2 series')
    """
    of = f" of {sum(len(study.members) for study in studies)} series" if any(study.series for study in studies) else ""
    return f"{len(studies)} studies{of}"


def notes_on(
    studies: Iterable[Study], notes: Mapping[str, Iterable[str]], odd: Mapping[str, Mapping[str, str]]
) -> dict[str, list[str]]:
    """Collect what is to be said of each study.

    Parameters
    ----------
    studies : iterable of Study
    notes : mapping of str to iterable of str
        What was done to the data while reading, by study id.
    odd : mapping of str to mapping of str to str
        What is wrong with series, by study id and name.

    Returns
    -------
    dict
        By study id, of those with anything: also the series that it lacks and half of the studies of several have.
    """
    several = [study for study in studies if study.series]
    shown = {one.name.casefold(): one.name for study in several for one in study.series}
    counts = Counter(one.name.casefold() for study in several for one in study.series)
    usual = sorted(name for name, n in counts.items() if 2 * n >= len(several))
    found = {study_id: [*said] for study_id, said in notes.items()}
    for study in several:
        names = {one.name.casefold() for one in study.series}
        said = [f"{name} {what}" for name, what in odd.get(study.study_id, {}).items()]
        said += [f"it has no {shown[name]}" for name in usual if name not in names]
        if said:
            found.setdefault(study.study_id, []).extend(said)
    return found


# -- to which study


def _members(study: Study, facts: Facts, by: str) -> Iterator[tuple[str, Study]]:
    """Yield the id of the study that a listed one belongs to, and it by its name; nothing where no rule fits."""
    if by == "4d":
        yield from _frames(study)
    elif by == "study_uid":
        if facts.visit:
            yield facts.visit, replace(study, name=_described(study, facts))
    elif by == "folder":
        if study.folder:
            name = _described(study, facts) if facts.modality else _below(study.folder, bare(study.study_id))
            yield study.folder, replace(study, name=_name(name))
    else:
        pattern = _NNUNET if by == "nnunet" else by.removeprefix(_REGEX)
        match = re.search(pattern, bare(study.title if study.is_series else study.study_id))
        study_id = (match["study"] or "").strip("/") if match else ""
        if match and study_id and match["series"]:
            yield study_id, replace(study, name=_name(match["series"]))


def _frames(study: Study) -> Iterator[tuple[str, Study]]:
    if study.is_series:
        return
    n = _n_frames(study.source, study.stamp)
    for frame in range(n) if 1 < n <= _MOST_FRAMES else ():
        name = f"{frame:04d}"
        title = f"{bare(study.title)}_{name}"
        stamp = f"{study.stamp}-{frame}"
        # No other file can have this path.
        member = replace(study, study_id=f"{study.study_id}/{name}", stamp=stamp, title=title, frame=frame, name=name)
        yield study.study_id, member


@lru_cache(maxsize=2**17)
def _n_frames(source: str, stamp: str) -> int:  # noqa: ARG001 - another stamp is another file
    return formats.n_frames(Path(source))


def _described(study: Study, facts: Facts) -> str:
    return _name(facts.description or facts.modality or study.title.rpartition("/")[2])


def _below(folder: str, path: str) -> str:
    """Name of a file without what it repeats of its folders' names.

    >>> _below("sub-1/anat", "sub-1/anat/sub-1_T1w"), _below("BraTS_7", "BraTS_7/BraTS_7_flair")
    ('T1w', 'flair')
    """
    name = path.removeprefix(f"{folder}/")
    for part in folder.split("/"):
        if re.match(rf"{re.escape(part)}[_. -]+[^_. -]", name):
            name = name.removeprefix(part).lstrip("_. -")
    return name


def _name(text: str) -> str:
    """Make of a text a name that can be one part of an address."""
    return _UNFIT.sub("-", printable(text)).strip(". ") or "series"


# -- one study


def _one_study(
    study_id: str, members: Sequence[Study], visits: Mapping[str, str], rule: SeriesRule
) -> tuple[Study, list[LeftOut]]:
    """Make one study of its series, sorted by their ids; and say which are not of it, and why."""
    by_name: dict[str, Study] = {}
    left_out = []
    for member in members:
        first = by_name.setdefault(member.name.casefold(), member)
        if first is not member:
            reason = (
                f"study '{printable(study_id)}' has a series '{first.name}' already: {first.title} ({first.study_id})"
            )
            left_out.append(LeftOut(member.study_id, reason, member.title))
    in_order = [by_name[name] for name in sorted(by_name)]
    primary = _primary(in_order, rule.primary)
    in_order = [primary, *(member for member in in_order if member is not primary)]
    series: list[Study] = []
    for member in in_order:
        other = next((other for other in series if not _may_be_one(member, other, visits)), None)
        if other is None:
            series.append(member)
            continue
        who = "patient" if member.patient and other.patient else "visit, and not whether it is the same patient,"
        reason = f"its headers name another {who} than those of {other.title}, with which it would be one study"
        left_out.append(LeftOut(member.study_id, reason, member.title))
    stamp = hashlib.sha256(json.dumps([(one.name, one.stamp) for one in series]).encode()).hexdigest()[:16]
    title = _common_title(series) if rule.by == "study_uid" else study_id
    study = replace(
        series[0],
        study_id=study_id,
        stamp=stamp,
        title=printable(title or study_id),
        patient=next((one.patient for one in series if one.patient), ""),
        name="",
        series=tuple(series),
    )
    return study, left_out


def _may_be_one(one: Study, other: Study, visits: Mapping[str, str]) -> bool:
    """Tell whether headers allow two series to be of one patient: where one names none, by their visits."""
    if one.patient and other.patient:
        return one.patient == other.patient
    own, others = visits.get(one.study_id, ""), visits.get(other.study_id, "")
    return not own or not others or own == others


def _primary(series: Sequence[Study], wanted: Sequence[str]) -> Study:
    """Find the first series that the first pattern fits which fits any; else the first by name."""
    for pattern in wanted:
        for one in series:
            names = (one.name.casefold(), one.modality.casefold())
            if any(fnmatch.fnmatchcase(name, pattern.casefold()) for name in names):
                return one
    return series[0]


def _common_title(series: Sequence[Study]) -> str:
    """Folder, or description of the visit, that all titles share; of a single series what comes before its own."""
    return posixpath.commonpath([one.title.rpartition("/")[0] or "." for one in series]).removeprefix(".")
