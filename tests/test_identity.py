"""The law of ids: whatever lies beside a study, in whatever order, it has the id that it had."""

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from conftest import Phantom
from hypothesis import given, settings
from hypothesis import strategies as st

from firstpick.sources.folder import Eligibility, list_studies

FOLDERS = ("", "a", "a/b", "b", "labelsTr", "a/masks", "Ünï", "#recycle", ".hidden")
NAMES = ("f", "g", "f.nii", "case_seg", "1.2.1-0a1b2c", "new\nline", "z\udcff")
ENDINGS = (".nii", ".nii.gz", ".png", ".mhd", ".img", ".hdr", ".raw", ".txt", "")
UIDS = ("1.2.1", "1.2.2", "")


@cache
def dicom_bytes(uid, study, patient, frames):
    """One DICOM file: a slice, or of several frames."""
    with tempfile.TemporaryDirectory() as folder:
        pixels = np.zeros((frames, 2, 2) if frames > 1 else (2, 2), np.uint8)
        tags = {"SeriesInstanceUID": uid, "StudyInstanceUID": study, "PatientID": patient}
        return Phantom(Path(folder)).dicom("a", pixels, **tags).read_bytes()


def below(folder, name):
    return f"{folder}/{name}" if folder else name


plain = st.builds(
    lambda folder, name, ending, data: (below(folder, name + ending), data),
    st.sampled_from(FOLDERS),
    st.sampled_from(NAMES),
    st.sampled_from(ENDINGS),
    st.sampled_from((b"x", b"", b"NRRD")),
)
instance = st.builds(
    lambda folder, number, ending, *header: (below(folder, f"IM{number}{ending}"), header),
    st.sampled_from(FOLDERS),
    st.integers(0, 5),
    st.sampled_from(("", ".dcm", ".img", "-1a2b3c")),
    st.sampled_from(UIDS),
    st.sampled_from(("1.2.8", "1.2.9")),
    st.sampled_from(("A", "Anonymous")),
    st.sampled_from((1, 1, 1, 3)),
)
link = st.builds(
    lambda folder, number, target: (below(folder, f"link{number}"), target),
    st.sampled_from(FOLDERS),
    st.integers(0, 2),
    st.sampled_from(
        ("ROOT", "ROOT/a", "ROOT/b", "ROOT/.hidden", "OUT", "OUT/c", "nowhere", "ROOT/a/f.nii", "OUT/o.nii")
    ),
)
# Of two things with one path the later one wins: a path is one thing for all listings.
trees = st.lists(st.one_of(plain, instance, instance, link), min_size=1, max_size=14).map(dict)


def make(tree, root, outside):
    for path, content in tree.items():
        target = root / os.fsdecode(os.fsencode(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, str):
            target.write_bytes(content if isinstance(content, bytes) else dicom_bytes(*content))
        else:
            target.symlink_to(content.replace("ROOT", str(root)).replace("OUT", str(outside)))
    root.mkdir(parents=True, exist_ok=True)


def owners(root):
    """Id of the study that each file below the root belongs to."""
    studies, _ = list_studies(root, Eligibility(localizers=True, secondary_captures=True))
    ids = [study.study_id for study in studies]
    assert ids == sorted(set(ids))
    assert all("\0" not in name.encode().decode() for name in ids)
    files = ((study, file) for study in studies for file in study.files or ("",))
    return {os.path.relpath(Path(study.source, file), root): study.study_id for study, file in files}


@settings(max_examples=80, deadline=None)
@given(tree=trees, data=st.data())
def test_a_study_has_the_id_that_it_had_whatever_lies_beside_it(tree, data):
    kept = data.draw(st.lists(st.sampled_from(sorted(tree)), unique=True))  # in any order, too
    with tempfile.TemporaryDirectory() as folder:
        outside = Path(folder, "outside")
        make(
            {"o.nii": b"x", "c/p.nii": b"x", "IM1": ("1.2.1", "1.2.8", "A", 1), "back": "ROOT"},
            outside,
            outside,
        )
        full, part = Path(folder, "full", "root"), Path(folder, "part", "root")
        make(tree, full, outside)
        make({path: tree[path] for path in kept}, part, outside)
        before, after = owners(full), owners(part)
        for path, study_id in after.items():
            assert study_id in before.values()
            assert before.get(path, study_id) == study_id
        for path, study_id in before.items():
            if (part / path).is_file():
                assert study_id in after.values()
        shutil.copytree(part, full / "added", symlinks=True)
        assert {*before.values()} <= {*owners(full).values()}


def test_the_order_of_entries_does_not_count(phantom_volume, monkeypatch):
    root = phantom_volume.folder
    for name in ("b", "a"):
        phantom_volume.series(name, uid="1.2.3")
        phantom_volume.nifti(f"{name}.nii")
    before = list_studies(root)
    scandir = os.scandir

    class Backwards:
        def __init__(self, path):
            with scandir(path) as entries:
                self.entries = list(entries)[::-1]

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            return None

    monkeypatch.setattr("firstpick.sources.walk.os.scandir", Backwards)
    assert list_studies(root) == before
