"""Studies of several series: the primary in front at once, the others after it, each in its own place and said."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import qt
import record
import slicer
from servers import SEQUENCES, Server, oblique, write_sequences
from stage import HERE, settle, wait_for
from test_bad_paths import block, connected, recorded  # noqa: F401 - fixtures

from FirstPickLib import geometry, scene
from FirstPickLib.client import Client, cacheName
from FirstPickLib.views import kindOf
from FirstPickLib.worklist import WorkList

ANSWERS = json.loads(record.RECORDED.read_text(encoding="utf-8"))["sequences"]
FIRST, SECOND, THIRD = (pick["study_id"] for pick in ANSWERS["proposal"]["picks"])
FULL = next(one for one in (FIRST, SECOND, THIRD) if len(ANSWERS["series"][one]) == 3)


@pytest.fixture
def several(reader, recorded):  # noqa: F811
    """A reader of studies with t1, t2 and flair; the t1 is primary, and one has no flair."""
    recorded.post("/test/set", **ANSWERS)
    reader.connect(recorded.address)
    return reader


def loaded(reader):
    """Wait for the series, and return them by name."""
    sequences = reader.reading.sequences
    wait_for(lambda: sequences._task is None or sequences._task.isOver)
    return {one.name: one for one in sequences.all}


def open_full(reader):
    reader.open(FULL)
    return loaded(reader)


def backgrounds():
    """Which volume each slice view shows."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return {slicer.mrmlScene.GetNodeByID(node.GetBackgroundVolumeID()) for node in nodes}


def volumes():
    """The volumes in the scene, by name."""
    return {node.GetName(): node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")}


def hierarchy():
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)


def told(reader):
    return reader.ui.seriesLabel.text.replace("\u200b", "")


def choose(reader, number):
    reader.ui.seriesBox.currentIndex = number
    reader.ui.seriesBox.activated.emit(number)


# -- opening


def test_the_primary_is_open_before_any_other_series_is_asked_for(several, recorded):  # noqa: F811
    recorded.fail(f"/firstpick/series/{FULL}", "slow")
    several.open(FULL)
    assert several.reading.volume in backgrounds()
    assert several.ui.submitButton.enabled
    several.draw("tumour", block(several))
    assert several.reading.isDirty
    assert len(volumes()) == 1
    loaded(several)
    paths = [line.split("?")[0] for line in recorded.requests() if "/image" in line or "/series" in line]
    assert paths.index("GET /datastore/image") < paths.index(f"GET /firstpick/series/{FULL}")
    assert several.reading.isDirty
    assert len(volumes()) == 3


def test_all_series_lie_in_their_own_place_in_one_folder_and_the_primary_is_in_front(several, tmp_path):
    series = open_full(several)
    assert list(series) == ["t1", "flair", "t2"]
    assert set(volumes()) == {f"{FULL} t1", f"{FULL} flair", f"{FULL} t2"}
    assert series["t1"].volume is several.reading.volume
    assert backgrounds() == {several.reading.volume}
    flair = nib.load(series["flair"].cached)
    np.testing.assert_allclose(
        geometry.affineOf(series["flair"].volume), oblique((5, 0, 0), (1.5, 1.5, 2.0)), atol=1e-4
    )
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(series["flair"].volume).T, np.asarray(flair.dataobj))
    folder = hierarchy().GetItemParent(hierarchy().GetItemByDataNode(several.reading.volume))
    assert hierarchy().GetItemName(folder) == FULL
    for node in (*volumes().values(), several.reading.segmentation):
        assert hierarchy().GetItemParent(hierarchy().GetItemByDataNode(node)) == folder
    assert told(several) == "flair: has another grid than t1."


def test_how_far_it_is_is_said_and_the_next_study_comes_after(several, recorded):  # noqa: F811
    shown = []
    several.logic.listeners.append(lambda _what: shown.append(told(several).partition("\n")[0]))
    open_full(several)
    texts = list(dict.fromkeys(text for text in shown if text))
    assert texts[:4] == [
        "flair is loading, 2 of 3.",
        "Slicer opens flair, 2 of 3.",
        "t2 is loading, 3 of 3.",
        "Slicer opens t2, 3 of 3.",
    ]
    wait_for(lambda: not several.logic.network.nPending)
    files = [line for line in recorded.requests() if line.startswith(("GET /datastore/image?", "GET /firstpick/image"))]
    assert [line.partition(FULL)[2] for line in files[:3]] == ["", "/flair", "/t2"]
    assert len(files) == 4
    assert FULL not in files[3]


def test_a_study_of_one_series_is_as_it_was(connected, recorded):  # noqa: F811
    connected.press("openButton")
    wait_for(lambda: not connected.logic.network.nPending)
    assert not [line for line in recorded.requests() if "/firstpick/series" in line]
    assert not connected.ui.seriesFrame.isVisible()
    assert connected.reading.volume.GetName() == connected.reading.title
    assert hierarchy().GetNumberOfItemChildren(hierarchy().GetSceneItemID()) == 0
    connected.press("closeButton")


@pytest.mark.parametrize("hasRoute", [True, False])
def test_a_server_that_names_no_series_is_asked_and_may_know_of_none(connected, recorded, hasRoute):  # noqa: F811
    proposal = recorded.get("/firstpick/proposal")
    for pick in proposal["picks"]:
        del pick["series"]
    recorded.post("/test/set", proposal=proposal, **({} if hasRoute else {"series": {}}))
    connected.refresh()
    connected.press("openButton")
    loaded(connected)
    assert [line for line in recorded.requests() if "/firstpick/series" in line]
    assert not connected.ui.seriesFrame.isVisible()
    assert connected.reading.sequences.text() == ""
    assert connected.reading.volume.GetName() == connected.reading.title


def test_the_series_of_a_study_that_is_not_of_the_batch_are_asked_for(several, recorded):  # noqa: F811
    proposal = {**ANSWERS["proposal"], "picks": [p for p in ANSWERS["proposal"]["picks"] if p["study_id"] != FULL]}
    recorded.post("/test/set", proposal=proposal)
    several.refresh()
    several.logic.open(FULL)
    several.wait()
    assert list(loaded(several)) == ["t1", "flair", "t2"]
    assert several.ui.seriesFrame.isVisible()


def test_that_more_series_may_be_there_is_said_where_nobody_names_them(several, recorded):  # noqa: F811
    proposal = {**ANSWERS["proposal"], "picks": [p for p in ANSWERS["proposal"]["picks"] if p["study_id"] != FULL]}
    recorded.post("/test/set", proposal=proposal)
    several.refresh()
    recorded.fail(f"/firstpick/series/{FULL}", 500)
    several.logic.open(FULL)
    several.wait()
    loaded(several)
    why = f"{recorded.address} answered with error 500. Try again, or ask who runs the server."
    assert several.message == f"Whether {FULL} has more series is not known: {why}"


def test_of_very_many_series_the_last_are_loaded_when_they_are_chosen(several, recorded):  # noqa: F811
    listed = ANSWERS["series"][FULL]
    more = [{**listed[2], "name": f"x{number}"} for number in range(10)]
    images = {**ANSWERS["images"], **{f"{FULL}/x{number}": ANSWERS["images"][f"{FULL}/t2"] for number in range(10)}}
    recorded.post("/test/set", series={FULL: [listed[0], *more]}, images=images)
    series = open_full(several)
    assert [name for name, one in series.items() if one.isHere] == ["t1", *(f"x{number}" for number in range(7))]
    assert several.ui.seriesBox.itemText(9) == "x8 (not loaded)"
    choose(several, 9)
    wait_for(lambda: series["x8"].isHere)
    assert backgrounds() == {series["x8"].volume}
    assert not series["x7"].isHere


# -- in front


def test_any_series_is_brought_to_the_front_by_click_or_key(several):
    series = open_full(several)
    places = {node.GetName(): node.GetSliceOffset() for node in slicer.util.getNodesByClass("vtkMRMLSliceNode")}
    choose(several, 1)
    assert backgrounds() == {series["flair"].volume}
    assert several.widget.editor._widget.edits == (several.reading.segmentation, series["flair"].volume)
    keys = {one.key.toString(): one for one in several.widget.keys._shortcuts}
    for name, key in (("t2", "Alt+PgDown"), ("t1", "Alt+PgDown"), ("t2", "Alt+PgUp"), ("flair", "Alt+PgUp")):
        keys[key].activated.emit()
        assert backgrounds() == {series[name].volume}
        assert several.ui.seriesBox.currentText == name
    assert {node.GetName(): node.GetSliceOffset() for node in slicer.util.getNodesByClass("vtkMRMLSliceNode")} == places


def test_the_label_stays_on_the_grid_of_the_primary_whatever_is_in_front(several, recorded):  # noqa: F811
    open_full(several)
    choose(several, 1)
    mask = block(several)
    several.draw("tumour", mask)
    work = several.logic._keep(isSubmit=True)
    label = nib.load(several.logic.kept.path(work.label))
    np.testing.assert_array_equal(np.asarray(label.dataobj) == 5, mask)
    np.testing.assert_allclose(label.affine, geometry.affineOf(several.reading.volume), atol=1e-4)


def test_window_and_level_are_kept_for_each_series(several, recorded):  # noqa: F811
    def window(one, *values):
        display = one.volume.GetScalarVolumeDisplayNode()
        if values:
            display.AutoWindowLevelOff()
            display.SetWindowLevel(*values)
        return display.GetWindow(), display.GetLevel()

    series = open_full(several)
    window(series["t1"], 300, 100)
    window(series["t2"], 700, 200)
    for number in (2, 0, 2):
        choose(several, number)
    assert (window(series["t1"]), window(series["t2"])) == ((300, 100), (700, 200))
    flair = window(series["flair"])
    several.press("nextButton" if several.ui.nextButton.enabled else "previousButton")
    series = loaded(several)
    assert several.reading.studyId != FULL
    assert (window(series["t1"]), window(series["t2"])) == ((300, 100), (700, 200))
    assert flair not in ((300, 100), (700, 200))


def test_a_series_that_somebody_took_out_of_the_scene_is_loaded_again_when_it_is_chosen(several):
    series = open_full(several)
    choose(several, 2)
    slicer.mrmlScene.RemoveNode(series["t2"].volume)
    several.logic._tell("reading")
    assert several.widget.editor._widget.edits[1] is several.reading.volume
    assert several.ui.seriesBox.itemText(2) == "t2 (not loaded)"
    choose(several, 2)
    wait_for(lambda: series["t2"].isHere)
    assert backgrounds() == {series["t2"].volume}


def test_each_series_has_its_picture_beside_its_name(several, recorded):  # noqa: F811
    open_full(several)
    box = several.ui.seriesBox
    wait_for(lambda: all(not box.itemIcon(number).isNull() for number in range(3)))
    pictures = [box.itemIcon(number).pixmap(qt.QSize(40, 40)).toImage() for number in range(3)]
    assert all(one != other for i, one in enumerate(pictures) for other in pictures[:i])


# -- what goes wrong


def refused(names, why):
    return f"Not loaded: {names}. {why}"


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (422, "'patient_flair' cannot be read: it is cut off."),
        (404, "'patient_flair' is gone."),
        (500, "{address} answered with error 500."),
        ("truncate", "The answer of {address} broke off"),
    ],
)
def test_a_series_that_does_not_come_is_said_and_the_rest_is_there(several, recorded, how, why):  # noqa: F811
    detail = {} if how in (500, "truncate") else {"detail": why}
    recorded.fail(f"/firstpick/image/{FULL}/flair", how, **detail)
    series = open_full(several)
    assert not series["flair"].isHere
    assert series["t2"].isHere
    assert refused("flair", why.format(address=recorded.address)) in told(several)
    assert several.ui.seriesBox.itemText(1) == "flair (not loaded)"
    several.draw("tumour", block(several))
    choose(several, 1)  # it is tried again
    wait_for(lambda: series["flair"].isHere)
    assert "Not loaded" not in told(several)
    assert backgrounds() == {series["flair"].volume}
    choose(several, 0)
    several.press("submitButton")
    assert f"Submitted {FULL}" in several.message


def test_a_chosen_series_that_fails_again_leaves_in_front_what_was_there(several, recorded):  # noqa: F811
    recorded.fail(f"/firstpick/image/{FULL}/flair", 422, times=5, detail="It cannot be read.")
    series = open_full(several)
    choose(several, 2)
    choose(several, 1)
    assert several.ui.seriesBox.currentIndex == 1
    wait_for(lambda: series["flair"].why)
    wait_for(lambda: several.ui.seriesBox.currentIndex == 2)
    assert backgrounds() == {series["t2"].volume}


def test_a_list_of_series_that_does_not_come_is_said_once(several, recorded):  # noqa: F811
    recorded.fail(f"/firstpick/series/{FULL}", 500)
    open_full(several)
    assert told(several).startswith(refused("flair, t2", f"{recorded.address} answered with error 500."))
    recorded.fail(f"/firstpick/series/{FULL}", 500)
    choose(several, 1)
    loaded(several)
    assert several.ui.seriesBox.currentIndex == 0  # what is in front
    choose(several, 2)
    wait_for(lambda: several.reading.sequences.all[2].isHere)
    assert list(loaded(several)) == ["t1", "flair", "t2"]


def test_a_series_that_slicer_cannot_open_is_said_and_its_copy_goes(several, recorded):  # noqa: F811
    images = {**ANSWERS["images"], f"{FULL}/flair": "H4sIAAAAAAAAAwMAAAAAAAAAAAA="}  # an empty .gz
    listed = {FULL: [{**one, "size": 20 if one["name"] == "flair" else one["size"]} for one in ANSWERS["series"][FULL]]}
    recorded.post("/test/set", images=images, series=listed)
    series = open_full(several)
    assert "Not loaded: flair. Slicer cannot open flair" in told(several)
    assert series["t2"].isHere
    assert all(path.stat().st_size > 20 for path in Path(several.logic.cacheFolder).iterdir())


def test_a_series_that_is_being_prepared_is_waited_for(several, recorded):  # noqa: F811
    recorded.fail(f"/firstpick/image/{FULL}/flair", 503, times=2, retry_after=1, detail="It is being prepared.")
    several.open(FULL)
    wait_for(lambda: "The server is preparing flair, 2 of 3." in told(several))
    assert several.ui.submitButton.enabled
    series = loaded(several)
    assert series["flair"].isHere
    assert recorded.requests().count(f"GET /firstpick/image/{FULL}/flair") == 3


# -- closing


@pytest.mark.parametrize("way", ["closeButton", "submitButton"])
def test_all_volumes_and_the_folder_go_with_the_study(several, way):
    series = open_full(several)
    copies = [Path(series[name].cached) for name in ("flair", "t2")]
    assert all(path.exists() for path in copies)
    several.draw("tumour", block(several))
    several.press(way)
    if several.reading:
        several.press("closeButton")
    assert volumes() == {}
    assert hierarchy().GetNumberOfItemChildren(hierarchy().GetSceneItemID()) == 0
    assert [path.exists() for path in copies] == [way == "closeButton"] * 2


def test_what_somebody_put_into_the_folder_stays_in_it(several):
    open_full(several)
    mine = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "mine")
    folder = hierarchy().GetItemParent(hierarchy().GetItemByDataNode(several.reading.volume))
    scene.putInto(folder, mine)
    several.press("closeButton")
    assert volumes() == {"mine": mine}
    assert hierarchy().GetItemName(hierarchy().GetItemParent(hierarchy().GetItemByDataNode(mine))) == FULL
    slicer.mrmlScene.RemoveNode(mine)
    hierarchy().RemoveAllItems()


@pytest.mark.parametrize("way", ["close", "scene", "end"])
def test_a_study_can_be_left_while_its_series_are_on_their_way(several, recorded, way):  # noqa: F811
    recorded.fail(f"/firstpick/image/{FULL}/flair", "slow")
    several.open(FULL)
    wait_for(lambda: f"GET /firstpick/series/{FULL}" in recorded.requests())
    wait_for(lambda: "flair is loading" in told(several))
    sequences = several.reading.sequences
    if way == "close":
        several.press("closeButton")
    elif way == "scene":
        slicer.mrmlScene.Clear(0)
    else:
        several.logic.end()
        assert several.logic.network.nPending == 0
    assert several.reading is None
    assert sequences._task.isOver
    settle()
    assert volumes() == {}
    assert not several.ui.seriesFrame.isVisible()


# -- the list


def test_the_list_names_the_series_and_what_is_missing(several):
    short = next(one for one in (FIRST, SECOND, THIRD) if one != FULL and len(ANSWERS["series"][one]) == 2)
    settle()
    wait_for(lambda: not several.widget.table._timer.isActive())
    table, place = several.ui.table, several.ids().index(short)
    assert table.item(place, 2).text().splitlines()[-1] == "t1, t2; no flair"
    assert "Series: t1, t2; no flair" in table.item(place, 0).toolTip()
    full = several.ids().index(FULL)
    assert table.item(full, 2).text().splitlines()[-1] == "t1, flair, t2"
    assert table.rowHeight(full) >= 3 * table.fontMetrics().lineSpacing()


def test_a_study_of_one_of_the_series_says_what_it_lacks():
    picks = [
        {**ANSWERS["proposal"]["picks"][0], "study_id": name, "series": series}
        for name, series in (
            ("a", ["t1", "flair"]),
            ("b", ["flair"]),
            ("c", []),
        )
    ]
    worklist = WorkList({**ANSWERS["proposal"], "picks": picks}, [], "alice")
    assert [worklist.seriesText(row) for row in worklist.rows] == ["t1, flair", "flair; no t1", ""]


# -- pure


def test_requests_for_series_hold_any_name():
    client = Client("http://host:8000", "alice")
    assert client.series("a/b c").url == "http://host:8000/firstpick/series/a/b%20c"
    assert client.seriesImage("a/b", "T1 #2?", 7).url == "http://host:8000/firstpick/image/a/b/T1%20%232%3F"
    assert client.seriesImage("a/b", "t1", 7).shape.size == 7
    assert client.thumbnail("a", "t 1").url == "http://host:8000/firstpick/thumbnail/a?series=t%201"
    assert client.thumbnail("a").url == "http://host:8000/firstpick/thumbnail/a"


def test_each_series_has_a_copy_of_its_own():
    info = {"name": "scan.nii.gz", "stamp": "1-2"}
    assert len({cacheName("http://host", "a", info, series) for series in ("", "t1", "t2")}) == 3


def test_what_suits_one_series_is_not_put_on_another(several):
    several.open(FULL)
    volume = several.reading.volume
    assert kindOf(volume, "MR", "t1").isLike(kindOf(volume, "MR", "t1"))
    assert not kindOf(volume, "MR", "t1").isLike(kindOf(volume, "MR", "flair"))


# -- with the real server

BRAINS = HERE.parents[2] / "shared" / "data" / "brain_ms_mr" / "images"
RULE = "regex:^(?P<study>(?:cs_)?patient[0-9]+(?:_study[0-9])?)_(?P<series>.+)$"


def assert_same_in_space(volume, file):
    """The brightest voxels of a file are where they belong, whichever way Slicer turned the axes."""
    data, array = np.asarray(file.dataobj), slicer.util.arrayFromVolume(volume).T
    bright = np.argwhere(data >= np.percentile(data, 99.9))[::97]
    world = np.c_[bright, np.ones(len(bright))] @ file.affine.T
    places = np.round(world @ np.linalg.inv(geometry.affineOf(volume)).T).astype(int)
    np.testing.assert_array_equal(array[tuple(places[:, :3].T)], data[tuple(bright.T)])
    assert sorted(array.shape) == sorted(data.shape)


@pytest.mark.server
def test_fourteen_studies_of_thirty_eight_real_sequences(reader, tmp_path):
    if not BRAINS.is_dir():
        pytest.skip("the brain volumes (shared/data beside the checkout) are not on this machine")
    conf = {"series.by": RULE, "batch_size": "14", "labels": "[{name: lesion, value: 1}]"}
    with Server(BRAINS, tmp_path / "state", **conf) as server:
        server.wait_until_ready()
        reader.connect(server.address)
        assert len(reader.ids()) == 14
        short = reader.logic.worklist.row("patient03_study1")
        assert reader.logic.worklist.seriesText(short).startswith("FLAIR, T2W; no ")
        for study_id, n_series in (("patient01_study1", 3), ("cs_patient07", 4), ("patient09_study2", 1)):
            reader.open(study_id)
            series = loaded(reader)
            assert len(series) == len(volumes()) == n_series
            assert reader.ui.seriesFrame.isVisible() == (n_series > 1)
            assert told(reader).count("has another grid than FLAIR.") == (2 if study_id == "patient01_study1" else 0)
            for name, one in series.items() if n_series > 1 else ():
                assert_same_in_space(one.volume, nib.load(BRAINS / f"{study_id}_{name}.nii.gz"))
            primary = reader.reading.volume
            assert backgrounds() == {primary} == {next(iter(series.values())).volume}
            voxels = slicer.util.arrayFromVolume(primary).T
            lesion, grid = np.percentile(voxels, 99) < voxels, geometry.affineOf(primary)
            if n_series > 1:
                choose(reader, n_series - 1)
            reader.draw("lesion", lesion)
            reader.press("submitButton")
            assert f"Submitted {study_id}" in reader.message
            reader.press("closeButton")
            assert volumes() == {}
            label = nib.as_closest_canonical(server.label(study_id))
            expected = nib.as_closest_canonical(nib.Nifti1Image(lesion.astype(np.uint8), grid))
            np.testing.assert_array_equal(np.asarray(label.dataobj), np.asarray(expected.dataobj))
            np.testing.assert_allclose(label.affine, expected.affine, atol=1e-3)
            assert server.pick(study_id)["status"] == "done"
        assert server.get("/firstpick/status")["n_labelled"] == 3


@pytest.mark.server
def test_unequal_and_unreadable_sequences_of_the_real_server_are_said(reader, tmp_path):
    studies = write_sequences(tmp_path / "studies", 3)
    (studies / "patient2_t2.nii.gz").write_bytes(b"\x1f\x8b no NIfTI at all")
    with Server(studies, tmp_path / "state", **SEQUENCES) as server:
        server.wait_until_ready()
        reader.connect(server.address)
        reader.open("patient2")
        series = loaded(reader)
        assert told(reader).startswith("flair: has another grid than t1.\nNot loaded: t2. ")
        assert "patient2_t2" in told(reader)
        assert [name for name, one in series.items() if one.isHere] == ["t1", "flair"]
        assert reader.ui.submitButton.enabled
