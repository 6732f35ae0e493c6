"""Which folders, links and names are followed, and what is said of the others."""

import json
import os
import re
import socket

import h5py
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from firstpick.sources.folder import Eligibility, list_studies
from firstpick.studies import Study
from firstpick.voxels.volumes import VolumeError, read_volume

FOLLOW = Eligibility(follow_links=True)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def ids(folder, **kwargs):
    return [study.study_id for study in list_studies(folder, **kwargs)[0]]


def reasons(folder, **kwargs):
    return {entry.study_id: entry.reason for entry in list_studies(folder, **kwargs)[1]}


def test_a_link_to_what_lies_here_is_listed_where_that_lies_whatever_their_names(root):
    touch(root, "m/z/x.nii")
    (root / "a-link").symlink_to(root / "m")
    (root / "z-link").symlink_to(root / "m" / "z")
    (root / "m" / "up").symlink_to(root)
    (root / "m" / "to-link").symlink_to(root / "a-link")
    assert list_studies(root) == list_studies(root)
    assert ids(root) == ["m/z/x.nii"]
    assert reasons(root) == {}


def test_a_link_to_elsewhere_is_followed_under_its_own_path_each_time(root, tmp_path):
    touch(tmp_path / "outside", "b.nii", "sub/c.nii")
    (root / "one").symlink_to(tmp_path / "outside")
    (root / "two").symlink_to(tmp_path / "outside" / "sub")
    assert ids(root, eligibility=FOLLOW) == ["one/b.nii", "one/sub/c.nii", "two/c.nii"]


def test_a_link_to_what_is_hidden_here_is_followed(root):
    touch(root, ".git/annex/x.nii", ".store/case/y.nii")
    (root / "x.nii").symlink_to(root / ".git" / "annex" / "x.nii")
    (root / "case").symlink_to(root / ".store" / "case")
    assert ids(root) == ["case/y.nii", "x.nii"]


def test_circles_end(root, tmp_path):
    touch(root, "a.nii")
    touch(tmp_path / "outside", "b.nii")
    (tmp_path / "outside" / "again").symlink_to(tmp_path / "outside")
    (tmp_path / "outside" / "root").symlink_to(root)
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "parent").symlink_to(tmp_path)
    assert ids(root) == ["a.nii"]
    assert ids(root, eligibility=FOLLOW) == ["a.nii", "out/b.nii", "parent/outside/b.nii"]


def test_links_that_lead_to_each_other_end(root, tmp_path):
    names = [f"d{number}" for number in range(7)]
    for name in names:
        touch(tmp_path / name, "x.nii")
        for other in names:
            (tmp_path / name / other).symlink_to(tmp_path / other)
    (root / "in").symlink_to(tmp_path / "d0")
    assert ids(root) == []
    assert len(ids(root, eligibility=FOLLOW)) == 1 + 6 + 6 * 5 + 6 * 5 * 4
    assert "a link behind 4 others: it is not followed" in reasons(root, eligibility=FOLLOW).values()


def test_what_cannot_be_opened_is_said_and_the_rest_goes_on(root):
    touch(root, "good.nii")
    (root / "gone.nii").symlink_to(root / "nowhere")
    (root / "itself.nii").symlink_to(root / "itself.nii")
    os.mkfifo(root / "pipe.nii")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "sock"))
        assert ids(root) == ["good.nii"]
        assert reasons(root) == {
            "gone.nii": "a link to nothing: what it points at does not exist",
            "itself.nii": "cannot be opened: Too many levels of symbolic links",
            "pipe.nii": "neither a file nor a folder",
            "sock": "neither a file nor a folder",
        }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_ending_that_must_not_be_read_is_said(root):
    touch(root, "IM1", "a.nii")
    (root / "IM1").chmod(0)
    assert reasons(root) == {"IM1": "cannot be read: Permission denied"}


@pytest.mark.parametrize("known", [None, {}])
def test_names_that_are_not_utf_8_are_said_and_reach_nothing(root, known):
    touch(root, "good.nii")
    for name in (b"M\xfcller.nii", b"notes \xff.txt", b"Stra\xdfe/scan.nii", b"Stra\xdfe/labelsTr/scan.nii"):
        path = os.path.join(os.fsencode(root), name)  # noqa: PTH118  pathlib has no bytes
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(b"x")
    for _ in range(2):
        studies, left_out = list_studies(root, known=known)
        assert [study.study_id for study in studies] == ["good.nii"]
        assert {entry.study_id: entry.reason for entry in left_out} == {
            r"M\xfcller.nii": "its name is not UTF-8: rename it",
            r"notes \xff.txt": "its name is not UTF-8: rename it",
            "Stra\\xdfe/": "its name is not UTF-8: rename it: 2 files",
        }
        json.dumps([entry.study_id for entry in left_out], ensure_ascii=False).encode()


def test_a_studies_folder_that_is_not_utf_8_is_refused(tmp_path):
    folder = tmp_path / os.fsdecode(b"M\xfcller")
    folder.mkdir()
    with pytest.raises(OSError, match=r"M\\xfcller is not UTF-8. Rename it, or give a link to it"):
        list_studies(folder)
    touch(folder, "a.nii")
    (tmp_path / "link").symlink_to(folder)
    assert ids(tmp_path / "link") == ["a.nii"]


def test_folders_of_systems_are_left_out_once_unless_wanted(root):
    touch(root, "a.nii", "@eaDir/a.nii/thumb.png", "@eaDir/b.png", "#recycle/old.nii", "$RECYCLE.BIN/x.nii")
    touch(root, "__MACOSX/a.nii", "sub/lost+found/y.nii", "System Volume Information/z")
    assert ids(root) == ["a.nii"]
    assert reasons(root)["@eaDir/"] == "a folder of the system, not studies: 2 files"
    assert len(reasons(root)) == 6
    assert len(ids(root, eligibility=Eligibility(system_folders=True))) == 7


def test_a_link_that_leads_out_is_left_out_with_the_reason_unless_it_is_wanted(root, tmp_path):
    touch(root, "a.nii")
    touch(tmp_path / "outside", "b.nii", "sub/c.nii")
    (root / "file.nii").symlink_to(tmp_path / "outside" / "b.nii")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "inner").mkdir()
    (root / "inner" / "again.nii").symlink_to(root / "file.nii")
    (root / "sibling").symlink_to(tmp_path / "root-2")
    touch(tmp_path / "root-2", "d.nii")
    (root / "above").symlink_to(tmp_path)
    (root / "gone.nii").symlink_to(tmp_path / "nowhere")
    for studies_dir in (root, link_to(root)):
        assert ids(studies_dir) == ["a.nii"]
        assert reasons(studies_dir) == dict.fromkeys(
            ("file.nii", "folder", "inner/again.nii", "sibling", "above", "gone.nii"),
            "a link that leads out of the studies folder: it is not followed, unless eligible.follow_links is true",
        )
    assert {"file.nii", "folder/b.nii", "folder/sub/c.nii"} <= {*ids(root, eligibility=FOLLOW)}


def link_to(folder):
    link = folder.with_name("link")
    link.symlink_to(folder)
    return link


HEADER = "ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\n"
NRRD = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n"
OUTSIDE = {
    "up.mhd": f"{HEADER}ElementDataFile = ../secret.raw\n",
    "absolute.mhd": f"{HEADER}ElementDataFile = OUT/secret.raw\n",
    "list.mhd": f"{HEADER}ElementDataFile = LIST\nslice.raw\n" + "../slice.raw\n" * 3,
    "pattern.mhd": f"{HEADER}ElementDataFile = ../slice%d.raw 1 4 1\n",
    "slash_as_a_number.mhd": f"{HEADER}ElementDataFile = ..%csecret.raw 47 47 1\n",
    "through_a_link.mhd": f"{HEADER}ElementDataFile = link.raw\n",
    "in_a_linked_folder.mhd": f"{HEADER}ElementDataFile = linked/secret.raw\n",
    "indented.mha": f"{HEADER}  ElementDataFile = ../secret.raw\n",
    "two_signs.mha": f"{HEADER}ElementDataFile == ../secret.raw\n",
    "late.mhd": f"{HEADER}{'Comment = x' * 9_000}\nElementDataFile = ../secret.raw\n",
    "late_in_list.mhd": f"{HEADER}ElementDataFile = LIST\n" + "./" * 40_000 + "slice.raw\n../slice.raw\n",
    "up.nhdr": f"{NRRD}data file: ../secret.raw\n\n",
    "list.nhdr": f"{NRRD}data file: LIST\nslice.raw\n../slice.raw\n",
    "carriage_return.nhdr": f"{NRRD}# a\rdata file: ../secret.raw\n\n",
    "late.nrrd": f"{NRRD}# {'x' * 70_000}\ndata file: ../secret.raw\n\n",
}


def write_outside(root):
    """Write headers that name files outside of a folder for their voxels, and those files."""
    (root.parent / "secret.raw").write_bytes(bytes(range(64)))
    for place in (root.parent, root):
        (place / "slice.raw").write_bytes(bytes(16))
    (root / "link.raw").symlink_to(root.parent / "secret.raw")
    (root / "linked").symlink_to(root.parent)
    for name, text in OUTSIDE.items():
        (root / name).write_text(text.replace("OUT", str(root.parent)), newline="")


def test_a_header_that_names_files_outside_for_its_voxels_is_left_out_with_the_reason(root):
    write_outside(root)
    assert ids(root) == []
    found = reasons(root)
    assert all(re.match(r"its voxels lie outside of the studies folder \(.+\)", found[name]) for name in OUTSIDE)
    wanted = ids(root, eligibility=FOLLOW)
    assert wanted == ["in_a_linked_folder.mhd", "through_a_link.mhd"]


@pytest.mark.parametrize("name", sorted({*OUTSIDE} - {"through_a_link.mhd", "slash_as_a_number.mhd"}))
def test_a_header_that_was_changed_since_the_listing_reads_nothing_outside(root, name):
    write_outside(root)
    (root / "linked").unlink()
    with pytest.raises(VolumeError, match=r"names a file outside|does not exist"):
        read_volume(Study(name, "1", str(root / name)))


@pytest.mark.parametrize(
    "decoy",
    ["Comment\nElementDataFile = LOCAL\n", "Comment = \rElementDataFile = LOCAL\n", "Comment = ElementDataFile\n"],
)
def test_a_header_that_says_twice_where_its_voxels_are_is_refused(root, decoy):
    write_outside(root)
    (root / "a.mha").write_text(f"{HEADER}{decoy}ElementDataFile = ../secret.raw\n", newline="")
    with pytest.raises(VolumeError, match=r"a\.mha cannot be read: its header holds ElementDataFile twice"):
        read_volume(root / "a.mha")


def test_a_header_without_end_is_not_read_to_its_end(root):
    (root / "a.nrrd").write_bytes(NRRD.encode() + b"# " + b"x" * 2**25 + b"\ndata file: ../secret.raw\n\n")
    with pytest.raises(VolumeError, match="header does not end within 16 MB"):
        read_volume(root / "a.nrrd")


def test_voxels_of_a_pair_behind_a_link_that_leads_out_are_not_read(root, tmp_path):
    nib.save(nib.Nifti1Pair(np.zeros((4, 4, 4), np.uint8), np.eye(4)), tmp_path / "a.hdr")
    (root / "a.hdr").write_bytes((tmp_path / "a.hdr").read_bytes())
    (root / "a.img").symlink_to(tmp_path / "a.img")
    assert ids(root) == []
    assert reasons(root)["a.hdr"].startswith("its voxels lie outside of the studies folder (a.img)")
    assert ids(root, eligibility=FOLLOW) == ["a.hdr"]


def test_voxels_elsewhere_in_the_studies_folder_are_read(root):
    touch(root, "raw/x.raw")
    (root / "raw" / "x.raw").write_bytes(bytes(range(64)))
    (root / "case").mkdir()
    (root / "case" / "a.mhd").write_text(f"{HEADER}ElementDataFile = ../raw/x.raw\n")
    (study,), _ = list_studies(root)
    assert read_volume(study).array.max() == 63


@pytest.mark.parametrize("how", ["external", "link", "virtual", "in a group"])
def test_hdf5_that_draws_on_another_file_is_refused(root, how):
    image = sitk.GetImageFromArray(np.full((4, 4, 4), 7, np.uint8))
    for path in (root / "a.h5", root.parent / "secret.h5"):
        sitk.WriteImage(image, str(path))
    (root.parent / "secret.raw").write_bytes(bytes(range(64)))
    assert read_volume(root / "a.h5").array.max() == 7
    voxels, there = "ITKImage/0/VoxelData", str(root.parent / "secret.h5")
    with h5py.File(root / "a.h5", "a") as file:
        if how == "in a group":
            file["ITKImage/1"] = h5py.ExternalLink(there, "ITKImage/0")
            file.move("ITKImage/0", "ITKImage/2")
            file["ITKImage/0"] = h5py.SoftLink("/ITKImage/1")
        else:
            del file[voxels]
        if how == "external":
            file.create_dataset(voxels, (4, 4, 4), "u1", external=[(str(root.parent / "secret.raw"), 0, 64)])
        elif how == "link":
            file[voxels] = h5py.ExternalLink(there, voxels)
        elif how == "virtual":
            layout = h5py.VirtualLayout((4, 4, 4), "u1")
            layout[...] = h5py.VirtualSource(there, voxels, (4, 4, 4))
            file.create_virtual_dataset(voxels, layout)
    with pytest.raises(VolumeError, match=r"^a\.h5 names other files for its voxels"):
        read_volume(root / "a.h5")
