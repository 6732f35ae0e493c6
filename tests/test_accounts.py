"""Files in = files of studies + files left out + files counted: each exactly once, none dropped without a word."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from firstpick.sources.folder import Eligibility, list_studies
from firstpick.voxels.formats import DATA_ENDINGS, data_files, ending_of

MAKER = Path(__file__).parents[2] / "shared" / "cases" / "make_cases.py"


def visible_files(folder):
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.relpath(f"{path}/{name}", folder) for name in files if not name.startswith("."))


def voxels_of(study):
    """Other files that belong to a study, of the formats whose voxels lie in files of their own."""
    path, ending = Path(study.source), ending_of(study.source)
    if study.is_series or ending not in {*DATA_ENDINGS, ".mhd", ".nhdr", ".nrrd", ".mha"}:
        return
    for name in data_files(path):
        pattern, *numbers = name.split()
        names = [pattern % k for k in range(int(numbers[0]), int(numbers[1]) + 1)] if "%" in name else [name]
        yield from (os.path.normpath(path.parent / name) for name in names if (path.parent / name).exists())


def account(folder):
    """Number of files that a listing speaks of; paths of those that it names, each once."""
    studies, left_out = list_studies(folder)
    named = [str(Path(study.source, file)) for study in studies for file in study.files or ("",)]
    named += {path for study in studies for path in voxels_of(study)} - {*named}
    counts = [re.search(r"(\d+) files?\b", entry.reason) for entry in left_out]
    assert len(named) == len({*named})
    assert all(entry.reason for entry in left_out)
    return len(named) + sum(int(count[1]) if count else 1 for count in counts)


def test_every_file_of_a_mixed_archive_is_accounted_for(phantom_volume):
    folder = phantom_volume.folder
    phantom_volume.series("p/ct", uid="1.2.3")
    phantom_volume.series("p/scout", uid="1.2.4", SeriesDescription="scout")
    phantom_volume.dicom("p/sr", None, Modality="SR")
    phantom_volume.dicom("p/film.dcm", np.zeros((2, 2), np.uint8), Modality="DX")
    for name in ("a.nii.gz", "a.nii", "a_seg.nii.gz", "labelsTr/a.nii.gz", "labelsTr/deep/b.nii.gz"):
        phantom_volume.nifti(name)
    phantom_volume.itk("b.mhd")
    for name in ("notes.txt", "more.txt", "scans.zip", "noending", "DICOMDIR", "@eaDir/t.png", ".hidden", "lone.raw"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / "gone.nii").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe")
    assert account(folder) == len(list(visible_files(folder)))
    permissive = Eligibility(localizers=True, masks=True, system_folders=True)
    assert len(list_studies(folder, permissive)[0]) == 10


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    subprocess.run([sys.executable, str(MAKER), str(folder)], check=True, capture_output=True)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(
    not MAKER.is_file(), reason="the oddities (shared/cases beside the checkout) are not on this machine"
)
def test_every_file_of_every_oddity_is_accounted_for(made):
    wrong = {}
    for folder in sorted(path for path in made.iterdir() if path.is_dir()):
        counted, there = account(folder), len(list(visible_files(folder)))
        if counted != there:
            wrong[folder.name] = f"{counted} of {there}"
    assert not wrong
