"""The parts that know neither Slicer nor Qt, on the JSON that the server's own tests write."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from stage import HERE, MODULE

from FirstPickLib.answers import readAnswer
from FirstPickLib.client import Client, cacheName, duration, fileEnding, fullAddress, isHere, statusText
from FirstPickLib.colors import UNSURE, rankColor
from FirstPickLib.poolmap import PoolMap, nearest, painted
from FirstPickLib.worklist import WorkList, breakable, sliceText

GOLDEN = json.loads((HERE.parents[1] / "tests" / "data" / "proposal_v1.json").read_text(encoding="utf-8"))
SERVER = "http://host:8000"


def point(number, owner, status="open", client="", reason=""):
    study = f"case_{number:02d}"
    more = {"status": status, "client": client, "reason": reason, "rank": None, "stands_with": f"case_{owner:02d}"}
    return {"study_id": study, "title": f"Case {number}", "x": float(number), "y": 0.0, **more}


def worklist(statuses=None, points=(), read_by=()):
    """The golden batch with these statuses: (status, client) by study."""
    picks = []
    for pick in GOLDEN["picks"]:
        status, client = (statuses or {}).get(pick["study_id"], ("open", ""))
        picks.append({**pick, "status": status, "client": client, "until": 0.0, "read_by": read_by})
    return WorkList({**GOLDEN, "picks": picks}, list(points), "alice")


# -- the work list


@pytest.mark.parametrize(
    ("title", "parts"),
    [
        ("ct/case_12.nii.gz", ["ct/", "case_", "12.", "nii.", "gz"]),
        ("T1 0.8 mm", ["T1 0.", "8 mm"]),
        ("été/сердце.mha", ["été/", "сердце.", "mha"]),
        ("a -- <b>./", ["a -- <b>./"]),
    ],
)
def test_a_title_goes_on_in_the_next_line_and_stays_what_it_is(title, parts):
    assert breakable(title).split("\u200b") == parts
    assert "".join(parts) == title


def test_the_golden_proposal_is_understood_as_it_is():
    rows = WorkList(GOLDEN, [], "alice").rows
    assert [(row.rank, row.studyId, row.standsFor, row.nUnlabelled) for row in rows] == [
        (1, "case_06", 2, 9),
        (2, "case_08", 3, 9),
        (3, "case_01", 3, 9),
        (4, "case_07", 1, 9),
    ]
    assert [row.title for row in rows] == ["Case 6", "Case 8", "Case 1", "Case 7"]
    assert rows[1].replaces == "case_09"
    assert rows[1].lookalikes == ("case_11", "case_10")


def test_texts_of_a_line():
    statuses = {"case_08": ("reserved", "bob"), "case_06": ("done", "alice"), "case_01": ("done", "")}
    one = worklist(statuses, [point(9, 8, "skipped"), point(11, 8)])
    assert one.shareText(one.row("case_08")) == "3 of 9"
    assert one.tooltip(one.row("case_08")).splitlines() == [
        "Case 8",
        "Stands for 3 of the 9 unlabelled studies (33 %); most like Case 11, Case 10.",
        "Most like: Case 11, case_10",  # it is not in this map: nobody knows its title
        "Takes the place of Case 9, which was skipped.",
        "In progress by bob.",
        "Id: case_08",
    ]
    assert [row.statusText("alice") for row in one.picks] == ["done by you", "in progress by bob", "done", "open"]
    assert one.progressText() == "2 of 4 segmented; with what was labelled they cover 100 % of 12."
    assert one.outlook == GOLDEN["outlook"]["text"] != ""


def test_a_later_round_says_which_it_is_and_what_chose_it():
    by = {"strategy": "entropy_coverage"}
    note = "Chosen among 9 of the 12 studies, which were looked at."
    later = {**GOLDEN, "round": 2, "provenance": by, "note": note}
    text = WorkList(later, [], "alice").progressText()
    assert text.startswith("Round 2, chosen by entropy_coverage: ")
    assert text.endswith(note)
    older = {key: value for key, value in GOLDEN.items() if key not in ("round", "provenance")}
    assert WorkList(older, [], "alice").progressText().startswith("0 of 4 segmented")  # of a server that knows none


@pytest.mark.parametrize(
    ("which", "text", "expected"),
    [
        ("all", "", "06 08 01 07 09 03"),
        ("open", "", "01 07"),
        ("mine", "", "06 03"),
        ("done", "", "06 03"),
        ("skipped", "", "09"),
        ("all", " METAL ", "09"),
        ("all", "bob", "08 09"),
        ("open", "case_06", ""),
        ("all", "case 11", "08"),
        ("all", "CASE_06", "06"),
        ("all", "case 6", "06"),
    ],
)
def test_filters_and_search(which, text, expected):
    one = worklist(
        {"case_06": ("done", "alice"), "case_08": ("reserved", "bob")},
        [point(9, 8, "skipped", "bob", "metal"), point(3, 6, "done", "alice"), point(11, 8), point(6, 6, "done")],
    )
    assert [row.studyId[-2:] for row in one.shown(which, text)] == expected.split()


def test_the_next_open_pick_goes_on_from_here_and_leaves_out_other_readers():
    one = worklist({"case_08": ("reserved", "bob"), "case_01": ("reserved", "alice")})
    assert one.nextOpen().studyId == "case_06"
    assert one.nextOpen("case_06").studyId == "case_01"
    assert one.nextOpen("case_07").studyId == "case_06"
    assert one.neighbour("case_06", 1).studyId == "case_01"
    assert one.neighbour("case_01", -1).studyId == "case_06"
    assert one.neighbour("case_06", -1) is None
    assert one.neighbour("case_07", 1) is None
    closed = worklist(dict.fromkeys(["case_06", "case_08", "case_01", "case_07"], ("done", "bob")))
    assert closed.nextOpen() is None
    assert closed.isAllDone
    assert not worklist({"case_06": ("done", "bob")}).isAllDone
    assert not WorkList({**GOLDEN, "picks": [], "coverage": []}, [], "a").isAllDone


def test_what_a_reader_read_before_another_reads_it_is_theirs_no_more():
    one = worklist({"case_08": ("reserved", "bob"), "case_07": ("done", "bob")}, read_by=("alice",))
    assert [row.statusText("alice") for row in one.picks] == [
        "read by you",
        "in progress by bob",
        "read by you",
        "done by bob",
    ]
    assert one.row("case_06").statusText("carol") == "second reading, first by alice"
    assert one.nextOpen() is None
    assert one.neighbour("case_06", 1) is None
    assert one.nReadBefore == 3
    assert one.progressText() == "1 of 4 segmented, 3 more read by you; with what was labelled they cover 100 % of 12."
    assert [row.studyId for row in one.shown("open")] == []
    assert len(one.shown("mine")) == 4
    assert "Read by you." in one.tooltip(one.row("case_06")).splitlines()
    assert not one.isAllDone
    others = worklist(read_by=("bob", "carol"))
    assert others.nextOpen().studyId == "case_06"
    assert "Read by bob and carol." in others.tooltip(others.row("case_06")).splitlines()
    assert len(others.shown("open")) == 4


def test_a_pick_that_the_server_refused_is_not_the_next_one_again():
    one = worklist()
    assert one.nextOpen("case_06", {"case_08"}).studyId == "case_01"
    assert one.nextOpen("case_06", {"case_08", "case_01", "case_07"}) is None


def test_a_study_has_the_colour_of_its_pick_in_the_list_and_in_the_map():
    one = worklist(points=[point(6, 6), point(9, 8, "skipped"), point(10, 8), point(2, 99)])
    assert one.pointColors() == [rankColor(1), rankColor(2), rankColor(2), rankColor(0)]
    assert one.color("case_09") == rankColor(2)
    assert one.standsWith("case_10") == "case_08"
    assert len({rankColor(rank) for rank in range(1, 60)}) == 59


def test_a_study_has_the_colour_of_how_unsure_the_labels_leave_it_where_that_is_known():
    points = [point(6, 6), *({**point(number, 8), "unsure": quarter} for number, quarter in ((9, 1), (2, 4), (3, 9)))]
    one = worklist(points=points)
    assert one.isUnsureKnown
    assert one.unsureColors() == [rankColor(0), UNSURE[0], UNSURE[3], rankColor(0)]
    assert [one.unsureText(number) for number in range(4)] == ["", "least sure quarter", "surest quarter", ""]
    assert not worklist(points=[point(6, 6), {**point(9, 8), "unsure": None}]).isUnsureKnown


def test_slices_are_listed_if_the_server_proposes_slices():
    slices = [{"index": 12, "plane": "axial", "position_mm": -3.25}, {"index": 3, "plane": "coronal"}]
    picks = [{**GOLDEN["picks"][0], "slices": slices}]
    row = WorkList({**GOLDEN, "picks": picks}, [], "alice").rows[0]
    assert [sliceText(one) for one in row.slices] == ["axial 12 (-3.2 mm)", "coronal 3"]


# -- requests and answers


def test_requests_say_who_asks_and_quote_whatever_is_in_a_name():
    client = Client(" host:8000/ ", " Zoë ")
    request = client.change("skip", "a/b c#?&é", reason="blurred")
    assert (request.method, request.url) == ("POST", f"{SERVER}/firstpick/skip")
    assert json.loads(request.body) == {"study_id": "a/b c#?&é", "client_id": "Zoë", "reason": "blurred"}
    assert client.thumbnail("a/b c#?&é").url == f"{SERVER}/firstpick/thumbnail/a/b%20c%23%3F%26%C3%A9"
    assert client.image("a/b c#?&é").url == f"{SERVER}/datastore/image?image=a%2Fb%20c%23%3F%26%C3%A9"
    upload = client.saveLabel("x", "final", [{"name": "liver", "value": 3, "color": "#000000"}], 61.26)
    assert (upload.method, upload.url) == ("PUT", f"{SERVER}/datastore/label?image=x&tag=final")
    assert json.loads(dict(upload.form)["params"]) == {
        "client_id": "Zoë",
        "label_info": [{"name": "liver", "idx": 3}],
        "seconds": 61.3,
    }
    assert Client(SERVER, "../Ł/ß").savedTag == "saved-.._Ł_ß-d5e9"
    assert Client(SERVER, "../Ł_ß").savedTag != Client(SERVER, "../Ł/ß").savedTag
    assert len(Client(SERVER, "n" * 300).readingTag) <= 64  # what the server allows
    assert "strategy" not in client.proposal("").url


@pytest.mark.parametrize("text", ["", "   ", "http://", "file:///etc/passwd", "ftp://host"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match="is not the address of a server"):
        fullAddress(text)


@pytest.mark.parametrize(
    ("status", "body", "error", "text"),
    [
        (409, b'{"detail": "in progress by bob"}', "conflict", "in progress by bob"),
        (422, b'{"detail": [{"msg": "too small"}, {"msg": "not a number"}]}', "x", "too small; not a number"),
        (401, b'{"detail": "Unauthorized"}', "x", "wants a login"),
        (404, b'{"detail": "Study gone."}', "x", "Study gone."),
        (502, b"<html>", "x", "error 502"),
        (200, b'{"a": ', "", "broke off (not JSON)"),
        (200, b"{}", "Connection closed", "broke off"),
        (0, b"", "Host not found", "does not answer (Host not found)"),
    ],
)
def test_whatever_goes_wrong_has_one_sentence(status, body, error, text):
    kind = "text/html" if body.startswith(b"<") else "application/json"
    answer = readAnswer(status, body, kind, error, SERVER)
    assert not answer.isGood
    assert text in answer.error


def test_the_status_in_plain_words():
    progress = {"total": 260, "done": 30, "failed": 7, "seconds_left": 4000.0}
    status = {"state": "embedding", "message": "?", "progress": progress, "notice": ""}
    assert statusText(status) == "Still embedding: 37 of 260, about 1 h 7 min left."
    assert statusText({**status, "state": "ready", "message": "Ready.", "notice": "Look at X."}) == "Ready. Look at X."
    assert [duration(seconds) for seconds in (0, 89, 90, 3600)] == ["1 s", "89 s", "2 min", "1 h 0 min"]


def test_the_cache_tells_servers_studies_and_versions_apart(tmp_path):
    info = {"path": "/on/the/server/scan.v2/a.NII.gz", "stamp": "12-34"}
    names = {
        cacheName(SERVER, "a", info),
        cacheName(SERVER + "0", "a", info),
        cacheName(SERVER, "b", info),
        cacheName(SERVER, "a", {**info, "stamp": "12-35"}),
    }
    assert len(names) == 4
    assert all(name.endswith(".NII.gz") for name in names)
    assert [fileEnding(name) for name in ("a.b/scan", r"C:\x.y\scan.nrrd", "")] == ["", ".nrrd", ""]


@pytest.mark.parametrize(
    "study", ["sub/case.nii.gz", "../../etc/passwd", "a\nb\0c", "é" * 125, "x" * 4096, ".", "a:b?*|"]
)
def test_whatever_an_id_is_the_cache_takes_it_and_the_server_says_the_format(study, tmp_path):
    for served in ("scan.nii.gz", "scan.nrrd", "scan"):
        name = cacheName(SERVER, study, {"path": f"/on/the/server/{served}", "stamp": "1-2"})
        (tmp_path / name).write_bytes(b"voxels")
        assert re.fullmatch(r"[0-9a-f]{24}" + re.escape(fileEnding(served)), name)
    odd = [f"scan.{'x' * 300}", "T1 0.8 mm", "a.b c", "scan.nii.gz\n", "scan."]
    assert [fileEnding(name) for name in odd] == [""] * len(odd)


def test_only_truly_the_same_file_is_opened_from_disk(tmp_path):
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(b"voxels")
    stat = path.stat()
    info = {"path": str(path), "stamp": f"{stat.st_size}-{stat.st_mtime_ns}"}
    assert isHere(info)
    assert not isHere({**info, "stamp": f"{stat.st_size}-{stat.st_mtime_ns + 1}"})
    assert not isHere({**info, "path": str(tmp_path)})
    assert not isHere({**info, "path": "/nowhere\0"})
    assert not isHere({})


# -- the map


def test_dots_fill_the_picture_without_stretching():
    points = [{"study_id": str(i), "x": x, "y": y} for i, (x, y) in enumerate([(0, 0), (4, 0), (4, 1)])]
    pixels = PoolMap(points).pixels(120, 100, 10)
    np.testing.assert_allclose(pixels, [(10, 62.5), (110, 62.5), (110, 37.5)])
    np.testing.assert_allclose(PoolMap(points[:1]).pixels(120, 100, 10), [(60, 50)])
    assert PoolMap([]).pixels(120, 100, 10).shape == (0, 2)


def test_the_dot_under_the_mouse():
    pixels = np.array([(10.0, 10.0), (20.0, 10.0)])
    assert [nearest(pixels, *place, 6) for place in ((11, 9), (16, 10), (15, 10), (40, 10))] == [0, 1, 0, -1]
    assert nearest(np.empty((0, 2)), 1, 1, 5) == -1


def test_many_dots_are_painted_as_squares_and_later_ones_lie_above():
    places = np.array([(1.2, 1.0), (5.0, 2.4), (6.6, 2.0), (0.0, 9.0), (-7.0, 1.0)])
    file = painted(places, ["#010203", "#040506", "#070809", "#0a0b0c", "#ffffff"], "#646464", 8, 5)
    head, body = file[:11], file[11:]
    assert head == b"P6 8 5 255\n"
    red = np.frombuffer(body, np.uint8).reshape(5, 8, 3)
    ground = 100
    assert red[..., 0].tolist() == [
        [1, 1, 1, ground, ground, ground, ground, ground],
        [1, 1, 1, ground, 4, 4, 7, 7],
        [1, 1, 1, ground, 4, 4, 7, 7],
        [ground, ground, ground, ground, 4, 4, 7, 7],
        [ground] * 8,
    ]
    assert red[1, 5].tolist() == [4, 5, 6]


def test_the_pure_parts_import_neither_slicer_nor_qt_nor_firstpick():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from FirstPickLib import client, colors, copies, poolmap, readers, tasks, words, worklist;"
        "assert not {'slicer', 'qt', 'vtk', 'ctk', 'firstpick'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(MODULE)], check=True)
