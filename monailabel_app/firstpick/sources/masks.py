"""What lies beside studies and is none: masks, by their names or their own headers, and folders of systems."""

from __future__ import annotations

import re
import struct
import zlib

_ONE = r"(?:seg|segmentation|label|labelmap|mask|msk|roi|annotation|ground[_ -]?truth|pred|prediction)"
_ANY = rf"(?:{_ONE}s?|dseg|probseg|aseg|wmparc|gt|gts)"
_BEFORE = r"(?:.*[^a-z0-9])?"
#: A file's name without its ending, lower case: its last word says that it is a mask (``case_seg``, ``case-label``,
#: ``ct.seg``, ``gt``), or so does the word before a number of one or two digits or a single letter (``case_mask-2``,
#: ``case_seg_a``); or nothing but such a word and a number (``segmentation-012``, ``label0001``). What merely begins
#: so (``mask_ct_01``, ``segmented_patient``, ``label_free``) or holds it in a longer word (``masked``, ``gt350``), or
#: counts on after a plural (``blood_masks_0361``), is none.
MASK_FILE = re.compile(
    rf"{_BEFORE}{_ANY}"
    rf"|{_BEFORE}(?:{_ONE}[_. -]?\d{{1,2}}|(?:{_ONE}|dseg|probseg|gt)[_. -](?:\d{{1,2}}|[a-z]))"
    rf"|(?:{_ONE}s?[_. -]?|gts?[_. -])\d+"
)
#: A folder's name, lower case: as of a file, but without a number (``label_1`` may be a class of images); also for
#: a part of the data (``labelsTr``, ``masks_test``), and CHAOS's ``Ground``.
MASK_FOLDER = re.compile(
    rf"(?:{_BEFORE}|train(?:ing)?|test|val|manual){_ANY}(?:[_ -]?(?:tr|ts|va|val|train|training|test))?|ground"
)
#: Folders, lower case, that network storage, archives and file systems make for themselves.
SYSTEM_FOLDERS = frozenset({
    "#recycle", "#snapshot", "$recycle.bin", "@eadir", "@recently-snapshot", "@recycle", "@tmp", "__macosx",
    "lost+found", "network trash folder", "recycler", "system volume information", "temporary items",
})  # fmt: skip
_NIFTI_LABEL = 1002  # NIFTI_INTENT_LABEL
_NRRD_SEGMENT = re.compile(rb"^Segment(?:\d+_ID|ation_\w+):=", re.MULTILINE)


def why_no_folder_of_studies(name: str, *, masks: bool, system_folders: bool) -> str:
    """Say why all in a folder of this name is no study; empty if it may be, or is wanted."""
    lower = name.casefold()
    if not system_folders and lower in SYSTEM_FOLDERS:
        return "a folder of the system, not studies"
    if not masks and MASK_FOLDER.fullmatch(lower):
        return "a folder of masks, not studies"
    return ""


def is_mask_by_name(bare: str) -> bool:
    """Tell from a file's name without its ending whether it holds a mask.

    >>> [is_mask_by_name(name) for name in ("case_seg", "ct.label", "segmentation-12", "mask_ct_01", "unlabelled")]
    [True, True, True, False, False]
    """
    return MASK_FILE.fullmatch(bare.casefold()) is not None


def is_mask_by_header(head: bytes) -> bool:
    """Tell from the first bytes of a NIfTI or NRRD file, packed or not, whether it says that it holds a mask."""
    if head.startswith(b"NRRD"):
        return _NRRD_SEGMENT.search(head.replace(b"\r", b"").partition(b"\n\n")[0]) is not None
    return _nifti_intent(unpacked(head)) == _NIFTI_LABEL


def unpacked(head: bytes) -> bytes:
    """Unpack the beginning of a gzip file; other bytes, and damaged ones, as they are."""
    if not head.startswith(b"\x1f\x8b"):
        return head
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, 1024)
    except zlib.error:
        return b""


def _nifti_intent(head: bytes) -> int:
    """Read ``intent_code`` of a NIfTI-1 or NIfTI-2 header of either byte order; 0 of anything else."""
    for order in "<>":
        for size, offset, code in ((348, 68, "h"), (540, 504, "i")):
            if len(head) >= size and struct.unpack_from(f"{order}i", head) == (size,):
                return int(struct.unpack_from(order + code, head, offset)[0])
    return 0
