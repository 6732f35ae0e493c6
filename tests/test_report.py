"""What the page carries: worked out by hand."""

import base64
import json
import re
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydantic_core import to_jsonable_python

from firstpick.board.board import Status
from firstpick.proposal import Pick, propose
from firstpick.report import (
    ASSETS,
    LIVE_POLICY,
    Drawing,
    asset,
    live_page,
    lookalikes,
    page_data,
    pool_map,
    report_page,
    table,
)
from firstpick.studies import LeftOut, Pool, Sample


def pool_of(vectors, **attributes):
    names = tuple(Sample(f"s{number:05d}") for number in range(len(vectors)))
    return Pool(names, np.asarray(vectors, dtype=np.float32), **attributes)


def png(_study_id):
    out = BytesIO()
    Image.new("L", (160, 160), 90).save(out, "PNG")
    return out.getvalue()


def data_of(pool, batch_size=2, labelled=(), **changes):
    batch = propose(pool, strategy="kmeans", batch_size=batch_size, labelled=labelled)
    values = {
        "statuses": {},
        "thumbnail": png,
        "notes": {},
        "groups_are_patients": True,
        "failed": [],
        "left_out": [],
    } | changes
    return page_data(batch, pool, values.pop("statuses"), values.pop("thumbnail"), **values)


def test_points_tell_their_nearest_pick_and_what_became_of_them():
    pool = pool_of([[9, 0], [9, 1], [0, 9], [1, 9]], groups=("h1", "h2", "h1", ""), strata=("CT", "MR", "CT", ""))
    pool = replace(pool, titles=("Head", "Head", "Knee", "Hip"))
    plane = {study_id: (float(row), 0.0) for row, study_id in enumerate(pool.study_ids)}
    picks = [Pick(1, "s00003", 0.0), Pick(2, "s00000", 0.0), Pick(3, "gone", 0.0)]
    points = pool_map(pool, plane, picks, {"s00001": Status("done")}, groups_are_patients=True)
    assert [point.nearest_pick for point in points] == [2, 2, 1, 1]
    assert [point.rank for point in points] == [2, None, None, 1]
    assert [point.status for point in points] == ["open", "done", "open", "open"]
    assert [point.group for point in points] == ["patient 1", "patient 2", "patient 1", ""]
    assert [point.stratum for point in points] == ["CT", "MR", "CT", ""]
    assert [point.title for point in points] == ["Head", "Head", "Knee", "Hip"]
    assert [point.x for point in points] == [0.0, 1.0, 2.0, 3.0]


def test_a_copy_of_another_pick_is_its_own():
    pool = pool_of([[1, 0], [1, 0]])
    picks = [Pick(1, "s00000", 0.0), Pick(2, "s00001", 0.0)]
    places = dict.fromkeys(pool.study_ids, (0.0, 0.0))
    points = pool_map(pool, places, picks, {}, groups_are_patients=False)
    assert [point.nearest_pick for point in points] == [1, 2]
    without = pool_map(pool, places, [], {}, groups_are_patients=False)
    assert [(point.nearest_pick, point.group) for point in without] == [(None, ""), (None, "")]


def test_groups_that_are_no_patients_keep_their_names():
    pool = pool_of([[1, 0]], groups=("site A",))
    points = pool_map(pool, {"s00000": (0.0, 0.0)}, [], {}, groups_are_patients=False)
    assert points[0].group == "site A"


def test_the_json_of_a_drawing_by_hand():
    pool = pool_of([[9, 0], [9, 1], [0, 9], [1, 9]], groups=("h1", "h2", "h1", ""), strata=("CT", "MR", "CT", ""))
    plane = {study_id: (float(row), -0.5) for row, study_id in enumerate(pool.study_ids)}
    picks = [Pick(1, "s00003", 0.0), Pick(2, "s00000", 0.0), Pick(3, "gone", 0.0)]
    statuses = {
        "s00000": Status("reserved", "alice", until=9.0),
        "s00001": Status("skipped", "bob", "metal"),
        "gone": Status("done"),
    }
    drawing = Drawing(pool, plane, groups_are_patients=True)
    rows = [
        ("s00000", 0.0, "patient 1", "CT", 2, 2, "s00000", "reserved", "alice", ""),
        ("s00001", 1.0, "patient 2", "MR", None, 2, "s00000", "skipped", "bob", "metal"),
        ("s00002", 2.0, "patient 1", "CT", None, 1, "s00003", "open", "", ""),
        ("s00003", 3.0, "", "", 1, 1, "s00003", "open", "", ""),
    ]
    names = ("study_id", "x", "group", "stratum", "rank", "nearest_pick", "stands_with", "status", "client", "reason")
    expected = [{**dict(zip(names, row, strict=True)), "title": row[0], "y": -0.5, "unsure": None} for row in rows]
    assert json.loads(drawing.json(picks, statuses)) == {"points": expected}
    unsure = {"s00000": 1, "s00002": 4, "gone": 2}
    assert json.loads(drawing.json(picks, statuses, unsure)) == {
        "points": [point | {"unsure": unsure.get(point["study_id"])} for point in expected]
    }
    without = json.loads(drawing.json([], {}))["points"]
    assert {(p["rank"], p["nearest_pick"], p["stands_with"], p["status"]) for p in without} == {
        (None, None, "", "open")
    }


def test_the_json_of_a_drawing_says_what_its_points_say():
    rng = np.random.default_rng(0)
    groups = tuple(f"h{number % 30}" for number in range(80))
    pool = pool_of(rng.integers(-2, 3, size=(80, 3)), groups=groups)  # copies among them
    plane = {study_id: tuple(rng.normal(size=2).tolist()) for study_id in pool.study_ids}
    drawing = Drawing(pool, plane, groups_are_patients=False)
    names = rng.permutation(pool.study_ids).tolist()
    for n_picks in (0, 1, 20, 80):
        picks = [Pick(rank, study_id, 0.0) for rank, study_id in enumerate(names[:n_picks], start=1)]
        statuses = {study_id: Status("done", f"reader {i % 3}") for i, study_id in enumerate(names[5:60])}
        points = to_jsonable_python(drawing.points(picks, statuses))
        for point in points:
            owner = [pick.study_id for pick in picks if pick.rank == point["nearest_pick"]]
            point["stands_with"] = owner[0] if owner else ""
            point |= {"client": statuses.get(point["study_id"], Status()).client, "reason": "", "unsure": None}
        assert json.loads(drawing.json(picks, statuses)) == {"points": points}


def test_a_drawing_bears_any_name():
    names = sorted(["constructor", '"\\\n</script>', "\udcff", "1e400", "Müller 頭"])
    titles = tuple(f"{name}, first" for name in names)
    pool = Pool(tuple(map(Sample, names)), np.eye(5, dtype=np.float32), titles=titles)
    drawing = Drawing(pool, dict.fromkeys(names, (0.0, 0.0)), groups_are_patients=True)
    statuses = {names[0]: Status("skipped", "\udcfe", 'say "no"')}
    points = json.loads(drawing.json([Pick(1, names[1], 0.0)], statuses))["points"]
    assert [(point["study_id"], point["title"]) for point in points] == [*zip(names, titles, strict=True)]
    assert {point["stands_with"] for point in points} == {names[1]}
    assert (points[0]["client"], points[0]["reason"]) == ("\udcfe", 'say "no"')


def test_a_drawing_of_nothing():
    empty = Pool((), np.empty((0, 0), dtype=np.float32))
    assert Drawing(empty, {}, groups_are_patients=True).json([Pick(1, "a", 0.0)], {}) == b'{"points":[]}'


@pytest.mark.parametrize("n_rows", [1, 2, 5, 400])
def test_lookalikes_are_the_nearest_by_brute_force(n_rows):
    pool = pool_of(np.random.default_rng(n_rows).normal(size=(n_rows, 4)))
    unit = pool.vectors / np.linalg.norm(pool.vectors, axis=1, keepdims=True)
    rows = list(range(0, n_rows, 3))
    for row, found in zip(rows, lookalikes(pool, rows), strict=True):
        order = [int(other) for other in np.argsort(-(unit @ unit[row])) if other != row]
        assert found == order[:5]


def test_of_equally_near_lookalikes_the_lowest_come_first():
    assert lookalikes(pool_of([[1, 0]] * 9), [4]) == [[0, 1, 2, 3, 5]]


def test_a_large_pool_has_pictures_of_picks_and_what_is_listed_first():
    rng = np.random.default_rng(0)
    pool = pool_of(rng.normal(size=(300, 8)))
    data = data_of(pool, batch_size=5, max_pictures=40)
    picks = data["proposal"]["picks"]
    assert len(data["pictures"]) == len(data["lookalikes"]) == 40
    assert {pick["study_id"] for pick in picks} <= data["pictures"].keys()
    assert {like for pick in picks for like in pick["lookalikes"]} <= data["pictures"].keys()
    assert len(data["map"]["points"]) == 300
    assert len(data_of(pool, batch_size=5, max_pictures=3)["pictures"]) == 5  # the picks, whatever the bound


def test_pictures_are_small_but_for_the_picks():
    data = data_of(pool_of(np.eye(6)), batch_size=2)
    picked = {pick["study_id"] for pick in data["proposal"]["picks"]}
    for study_id, uri in data["pictures"].items():
        kind, _, content = uri.partition(";base64,")
        picture = Image.open(BytesIO(base64.b64decode(content)))
        expected = ("data:image/png", (160, 160)) if study_id in picked else ("data:image/webp", (64, 64))
        assert (kind, picture.size) == expected


def test_a_study_without_a_picture_is_shown_all_the_same():
    data = data_of(pool_of(np.eye(6)), thumbnail=lambda _: None)
    assert data["pictures"] == {}
    assert len(data["map"]["points"]) == 6


def test_statuses_and_notes_of_studies_that_are_gone_are_left_out():
    statuses = {"s00001": Status("skipped"), "gone": Status("skipped")}
    notes = {"s00002": ("Turned.",), "gone": ("?",)}
    data = data_of(pool_of(np.eye(6)), statuses=statuses, notes=notes)
    assert data["status"]["n_skipped"] == 1
    assert data["status"]["notes"] == {"s00002": ["Turned."]}


def test_the_file_says_how_large_a_batch_is_worth_while():
    centres = np.repeat(np.eye(3), (60, 50, 40), axis=0)
    blobs = centres + np.random.default_rng(0).normal(0, 0.02, centres.shape)
    data = data_of(pool_of(np.vstack([blobs, -np.eye(3)])), batch_size=6)
    assert [round(covered, 2) for covered in data["proposal"]["coverage"]] == [0.17, 0.31, 0.38, 0.39, 0.39, 0.4]
    outlook = data["proposal"]["outlook"]
    assert (outlook["n_kinds"], outlook["suggested_batch_size"]) == (4, 4)


def test_the_table_shows_titles_and_ids_only_to_tell_twins_apart():
    titled = replace(pool_of(np.eye(3)), titles=("Knee", "Head", "Head"))
    made = propose(titled, strategy="random", batch_size=3)
    head, *lines, _ = table(made, n_failed=0, n_left_out=0).splitlines()
    assert head.split() == ["rank", "study", "share", "why"]
    assert sorted(line[6:].split("  ")[0] for line in lines) == ["Head [s00001]", "Head [s00002]", "Knee"]


# -- the page


def policy_of(html):
    return re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html).group(1)


def test_the_file_allows_itself_its_own_scripts_and_nothing_else():
    policy = policy_of(report_page({}))
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy
    assert len(re.findall(r"'sha256-[\w+/=]{44}'", policy)) == 5
    assert "http" not in policy
    script_rules = next(rule for rule in policy.split(";") if "script-src" in rule)
    assert "unsafe" not in script_rules


def test_the_servers_policy_has_no_inline_scripts():
    assert "script-src 'self';" in LIVE_POLICY
    assert not re.search(r"<script(?! src)", live_page())
    assert not re.search(r"""\b(src|href)=["']?(https?:)?//""", live_page())


@pytest.mark.parametrize("name", sorted(ASSETS))
def test_nothing_in_an_asset_ends_the_element_it_is_put_into(name):
    assert not re.search(r"</(script|style)|<!--", asset(name), re.IGNORECASE)


def test_no_name_becomes_markup_or_a_placeholder():
    hostile = ["</script><script>alert(1)</script>", "<!--<script>", "$tail ${head} $$", "\u2028&amp;"]
    html = report_page({"names": hostile})
    inside = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL).group(1)
    assert "<" not in inside
    assert json.loads(inside) == {"names": hostile}


def test_a_patients_hash_is_not_in_the_page():
    pool = pool_of(np.eye(6), groups=("f00dfeed",) * 6)
    html = report_page(data_of(pool))
    assert "f00dfeed" not in html
    assert "patient 1" in html


def test_numbers_that_are_none_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        report_page({"x": float("nan")})


def test_failed_and_left_out_studies_are_carried():
    pool = pool_of(np.eye(4))
    lists = {"failed": [LeftOut("f", "broken", "Fine")], "left_out": [LeftOut("o", "scout")]}
    data = data_of(pool, 1, **lists)
    assert data["status"]["failed"] == [{"study_id": "f", "reason": "broken", "title": "Fine"}]
    assert data["status"]["left_out"] == [{"study_id": "o", "reason": "scout", "title": "o"}]
