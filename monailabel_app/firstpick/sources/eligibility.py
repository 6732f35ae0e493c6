"""Which studies are worth a place in the pool, judged from headers alone."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firstpick.sources.names import bare
from firstpick.sources.uids import visit_id
from firstpick.studies import Study
from firstpick.voxels import dicom
from firstpick.voxels.dicom import Instance
from firstpick.voxels.formats import read_geometry

#: Modalities whose instances are pictures or films, each a study of its own, even when they share a series.
FLAT_MODALITIES = frozenset({
    "CR", "DG", "DX", "EC", "ES", "GM", "IO", "LS", "MG", "OP", "PX", "RF", "RG", "RTIMAGE", "SM", "TG", "US", "XA",
    "XC",
})  # fmt: skip
_NO_IMAGE_MODALITIES = {
    "AU": "a sound recording",
    "DOC": "a document",
    "ECG": "a waveform",
    "EPS": "a waveform",
    "FID": "a set of fiducials",
    "HD": "a waveform",
    "KO": "a key object selection",
    "PLAN": "a plan",
    "PR": "a presentation state",
    "REG": "a registration",
    "RTDOSE": "a dose distribution",
    "RTPLAN": "a treatment plan",
    "RTRECORD": "a treatment record",
    "RTSTRUCT": "a structure set",
    "RWV": "a value mapping",
    "SEG": "a segmentation",
    "SR": "a structured report",
}
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_NO_IMAGE_CLASSES = {
    "9.": "a waveform",
    "11.": "a presentation state",
    "66": "raw data, a segmentation or a registration",
    "67": "a value mapping",
    "88.": "a structured report",
    "104.": "an encapsulated document",
    "481.2": "a dose distribution",
    "481.3": "a structure set",
    "481.4": "a treatment record",
    "481.5": "a treatment plan",
    "481.8": "a treatment plan",
}
_SECONDARY_CAPTURE = f"{_STORAGE}7"
_DOSE_REPORT = re.compile(r"dose report|dose info|patient protocol|exam protocol", re.IGNORECASE)
_LOCALIZER = re.compile(r"scout|localizer|topogram|surview|scanogram|survey", re.IGNORECASE)


@dataclass(frozen=True)
class Eligibility:
    """Which studies to keep; the defaults keep all but what is never a study.

    Raises
    ------
    ValueError
        If `series_description` is not a regular expression.

    Notes
    -----
    Pictures are not judged by slices, size or spacing; nor are volumes whose header does not tell. A volume's
    slices lie along its third axis (of a DICOM series: slice positions). In a pattern ``*`` matches ``/`` too, and
    case counts; it does not in a description. Of a file its path is compared, with its ending and without; of a DICOM
    series its id, its title and its folder with ``/`` at its end. Studies that state no description are kept.
    """

    modalities: tuple[str, ...] = ()
    """Modalities to keep, such as [CT]; empty for all. A file that states none is kept."""
    min_slices: int = 1
    """Least number of slices of a volume."""
    min_size_mm: float = 0.0
    """Least size of a volume along its longest axis, in mm."""
    max_spacing_mm: float = 0.0
    """Largest spacing of a volume, in mm; 0 for any."""
    series_description: str = ""
    """Keep only DICOM series whose description matches this regular expression."""
    exclude: tuple[str, ...] = ()
    """Patterns of paths to leave out, such as [phantoms/*]."""
    localizers: bool = False
    """Keep localizers (scouts), which are left out by default."""
    secondary_captures: bool = False
    """Keep secondary captures, which are left out by default."""
    masks: bool = False
    """Keep masks, told by names of files and folders or by headers, left out by default."""
    system_folders: bool = False
    """Look into folders that storage systems make, such as #recycle."""
    follow_links: bool = False
    """Follow links that lead out of the studies folder, which are left out by default."""

    def __post_init__(self) -> None:
        try:
            re.compile(self.series_description)
        except re.error as error:
            msg = f"series_description {self.series_description!r} is not a regular expression: {error}."
            raise ValueError(msg) from error

    @property
    def needs_geometry(self) -> bool:
        """Whether a rule asks for size or spacing, so that headers must be read."""
        return self.min_slices > 1 or self.min_size_mm > 0 or self.max_spacing_mm > 0


@dataclass(frozen=True)
class Facts:
    """What headers say of a study; empty where they say nothing.

    Attributes
    ----------
    modality, description, patient : str
        Of DICOM only; the patient as a hash, empty if PatientID is a placeholder.
    names_nobody : bool
        Whether it is DICOM, and states no patient.
    no_study, mask, localizer, secondary_capture : str
        Why it is one of those, in words; empty if it is not.
    shape : tuple of int, or ()
        Size of a volume in voxels; empty for a picture.
    spacing : tuple of float, or ()
        Spacing of a volume in mm, in the order of `shape`.
    visit : str
        Of DICOM only, `firstpick.sources.uids.visit_id`.
    """

    modality: str = ""
    description: str = ""
    patient: str = ""
    names_nobody: bool = False
    no_study: str = ""
    mask: str = ""
    localizer: str = ""
    secondary_capture: str = ""
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    visit: str = ""


def facts_of_file(path: Path) -> Facts:
    """Read what the header of a volume tells; nothing of a damaged file or a picture.

    Of the formats that ITK reads, native code parses the header: call it in a worker.
    """
    try:
        geometry = read_geometry(path)
    except Exception:  # noqa: BLE001  whatever is wrong with it, the one who reads the voxels says so
        return Facts()
    return Facts(shape=geometry[0], spacing=geometry[1]) if geometry else Facts()


def is_slice(instance: Instance) -> bool:
    """Tell whether an instance is one slice of a volume, rather than a study of its own, or no image."""
    return instance.n_frames == 1 and instance.modality not in FLAT_MODALITIES and not _why_no_study(instance)


def facts_of_instances(instances: Sequence[Instance]) -> Facts:
    """Sum up the instances of one DICOM study: at least one, all of one series."""
    first = instances[0]
    shape, spacing = _geometry(instances)
    return Facts(
        modality=first.modality,
        description=first.description,
        patient=first.patient if first.names_patient else "",
        names_nobody=not first.names_patient,
        no_study=_why_no_study(first),
        localizer=_why_localizer(instances),
        secondary_capture=_why_secondary_capture(instances),
        shape=shape,
        spacing=spacing,
        visit=visit_id(first),
    )


def why_left_out(study: Study, facts: Facts, eligibility: Eligibility) -> str:
    """Say in one sentence why a study is left out; empty if it is kept."""
    reasons = (
        facts.no_study,
        "" if eligibility.masks else facts.mask,
        "" if eligibility.localizers else facts.localizer,
        "" if eligibility.secondary_captures else facts.secondary_capture,
        _why_excluded(study, eligibility),
        _why_wrong_tags(facts, eligibility),
        _why_wrong_geometry(facts, eligibility),
    )
    return next(filter(None, reasons), "")


def _why_excluded(study: Study, eligibility: Eligibility) -> str:
    if not eligibility.exclude:
        return ""
    names = (study.study_id, study.title, f"{study.folder}/" if study.is_series else bare(study.study_id))
    for pattern in eligibility.exclude:
        if any(fnmatch.fnmatchcase(name, pattern) for name in names):
            return f"excluded by the pattern {pattern!r}"
    return ""


def _why_wrong_tags(facts: Facts, eligibility: Eligibility) -> str:
    wanted = {modality.upper() for modality in eligibility.modalities}
    if wanted and facts.modality and facts.modality not in wanted:
        return f"its modality is {facts.modality}, wanted is {' or '.join(sorted(wanted))}"
    pattern = eligibility.series_description
    if facts.description and not re.search(pattern, facts.description, re.IGNORECASE):
        return f"its series description does not match {pattern!r}"
    return ""


def _why_wrong_geometry(facts: Facts, eligibility: Eligibility) -> str:
    if not facts.shape:
        return ""
    n_slices = (*facts.shape, 1, 1)[2]
    if n_slices < eligibility.min_slices:
        return f"its number of slices is {n_slices}, wanted are at least {eligibility.min_slices}"
    if not facts.spacing:
        return ""
    size_mm = max(n * gap for n, gap in zip(facts.shape, facts.spacing, strict=True))
    if size_mm < eligibility.min_size_mm:
        return f"it measures {size_mm:.4g} mm at most, wanted are at least {eligibility.min_size_mm:g} mm"
    spacing_mm = max(facts.spacing)
    if 0 < eligibility.max_spacing_mm < spacing_mm:
        return f"its spacing is {spacing_mm:.4g} mm, wanted are at most {eligibility.max_spacing_mm:g} mm"
    return ""


def _why_no_study(instance: Instance) -> str:
    if instance.modality in _NO_IMAGE_MODALITIES:
        return f"{_NO_IMAGE_MODALITIES[instance.modality]}, not an image (Modality {instance.modality})"
    for suffix, what in _NO_IMAGE_CLASSES.items():
        if instance.sop_class.startswith(_STORAGE + suffix):
            return f"{what}, not an image (SOP class {instance.sop_class})"
    if not instance.n_columns:
        return "it holds no image"
    if _DOSE_REPORT.search(instance.description):
        return "a dose report, not a study (from its series description)"
    return ""


def _why_localizer(instances: Sequence[Instance]) -> str:
    if all(instance.is_localizer for instance in instances):
        return "a localizer, not a study (ImageType LOCALIZER)"
    # A bone survey on film is a study.
    if instances[0].modality not in FLAT_MODALITIES and _LOCALIZER.search(instances[0].description):
        return "a localizer, not a study (from its series description)"
    return ""


def _why_secondary_capture(instances: Sequence[Instance]) -> str:
    whys = [_why_captured(instance) for instance in instances]
    return whys[0] if all(whys) else ""


def _why_captured(instance: Instance) -> str:
    if instance.conversion:
        return f"a secondary capture, not a study (ConversionType {instance.conversion})"
    if instance.sop_class == _SECONDARY_CAPTURE or instance.sop_class.startswith(_SECONDARY_CAPTURE + "."):
        return f"a secondary capture, not a study (SOP class {instance.sop_class})"
    return ""


def _geometry(instances: Sequence[Instance]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Compute size and spacing of a volume; empty where they are not known or it is a picture."""
    first = instances[0]
    if first.n_frames > 1:
        spacing = (*first.spacing, first.thickness) if first.spacing and first.thickness else ()
        return (first.n_columns, first.n_rows, first.n_frames), spacing
    if not is_slice(first):
        return (), ()
    try:
        stack = dicom.stack([instance.place for instance in instances], thickness=first.thickness)
    except ValueError:  # whoever reads the voxels says that the slices do not stack up
        return (first.n_columns, first.n_rows, len(instances)), ()
    spacing = (*first.spacing, float(np.linalg.norm(stack.step))) if first.spacing else ()
    return (first.n_columns, first.n_rows, len(stack.order)), spacing
