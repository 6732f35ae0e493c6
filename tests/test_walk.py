"""Which folders, links and names are followed, and what is said of the others."""

import json
import os
import socket

import pytest

from firstpick.sources.folder import Eligibility, list_studies


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
    assert ids(root) == ["one/b.nii", "one/sub/c.nii", "two/c.nii"]


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
    assert ids(root) == ["a.nii", "out/b.nii", "parent/outside/b.nii"]


def test_links_that_lead_to_each_other_end(root, tmp_path):
    names = [f"d{number}" for number in range(7)]
    for name in names:
        touch(tmp_path / name, "x.nii")
        for other in names:
            (tmp_path / name / other).symlink_to(tmp_path / other)
    (root / "in").symlink_to(tmp_path / "d0")
    assert len(ids(root)) == 1 + 6 + 6 * 5 + 6 * 5 * 4
    assert "a link behind 4 others: it is not followed" in reasons(root).values()


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
