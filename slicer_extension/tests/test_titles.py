"""A reader sees titles, whatever is in them; the server gets ids, whatever is in those."""

import base64
import json
import os
from urllib.parse import quote

import numpy as np
import pytest
import qt
import record
from stage import wait_for
from test_bad_paths import block, recorded  # noqa: F401 - fixture
from test_widget import mouse, place_of

IDS = (
    "sub/ses 1/case.nii.gz",
    "1.2.840.113619.2.55.3.2831-0a1b2c",
    "two\nlines <img src=x>\0?",
    "é" * 125,
    "%2F&#+",
    "case.nii.gz.nii.gz",
)
NRRD = (
    b"NRRD0004\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\nsizes: 12 15 10\n"
    b"space directions: (1,0,0) (0,1,0) (0,0,1)\nkinds: domain domain domain\nencoding: raw\nspace origin: (0,0,0)\n\n"
) + bytes(range(150)) * 12


def title_of(study_id):
    return f"Knee {IDS.index(study_id)} <b>T1</b>"


def renamed(value):
    """The recorded answers about studies with other ids and titles."""
    ids = {f"study_{number:02d}.nii.gz": study_id for number, study_id in enumerate(IDS)}
    if isinstance(value, dict):
        value = {ids.get(key, key): renamed(one) for key, one in value.items()}
        return {**value, "title": title_of(value["study_id"])} if {"title", "study_id"} <= set(value) else value
    if isinstance(value, list):
        return [renamed(one) for one in value]
    return ids.get(value, value) if isinstance(value, str) else value


def answers_renamed():
    answers = json.loads(record.RECORDED.read_text(encoding="utf-8"))
    del answers["sequences"]  # of other studies
    return renamed(answers)


@pytest.fixture
def connected(reader, recorded):  # noqa: F811
    recorded.post("/test/set", **answers_renamed())
    reader.connect(recorded.address)
    assert set(reader.ids()) < set(IDS), reader.ui.serverLabel.text
    return reader


def test_titles_are_shown_and_ids_are_in_the_tooltips(connected):
    ids = connected.ids()
    assert connected.titles() == [title_of(study_id) for study_id in ids]
    tooltip = connected.ui.table.item(0, 2).toolTip()
    shown = qt.QTextDocument()
    shown.setHtml(tooltip)
    lines = shown.toPlainText().splitlines()
    assert lines[:2] == [title_of(ids[0]), connected.logic.worklist.row(ids[0]).reason]
    assert lines[1].startswith("Stands for ")
    likes = connected.logic.worklist.row(ids[0]).lookalikes
    assert f"Most like: {', '.join(map(title_of, likes))}" in lines
    for study_id in ids[:2]:
        for text in (study_id.upper(), title_of(study_id).upper()):
            connected.ui.searchEdit.text = text
            assert connected.ids() == [study_id]
    connected.ui.searchEdit.text = ""
    connected.press("openButton")
    assert connected.ui.studyLabel.text == f"1. {title_of(ids[0])}"
    assert connected.ui.studyLabel.textFormat == qt.Qt.PlainText
    assert qt.QTextDocumentFragment.fromHtml(connected.ui.studyLabel.toolTip).toPlainText() == ids[0]
    assert connected.reading.volume.GetName() == title_of(ids[0])


def test_messages_and_the_map_say_titles(connected, recorded):  # noqa: F811
    worklist = connected.logic.worklist
    at = connected.widget.map.studyAt
    others = [point["study_id"] for point in worklist.points if not worklist.rank(point["study_id"])]
    other = next(study_id for study_id in others if at(*place_of(connected, study_id)) == study_id)
    mouse(connected.widget.map, qt.QEvent.MouseButtonPress, *place_of(connected, other))
    assert f"{title_of(other)} is not in this batch; {title_of(worklist.standsWith(other))} stands" in connected.message
    first, second = connected.ids()[:2]
    recorded.post("/firstpick/reserve", study_id=second, client_id="bob")
    connected.open(second)
    assert f"Study '{title_of(second)}' is in progress by bob" in connected.message
    connected.logic.skip(first, "metal")
    connected.wait()
    assert connected.message.startswith(f"Skipped {title_of(first)} (metal)")


@pytest.mark.parametrize("study_id", IDS)
def test_a_study_is_read_and_kept_whatever_its_id_is(connected, recorded, study_id):  # noqa: F811
    logic = connected.logic
    logic.open(study_id)
    connected.wait()
    assert connected.reading.studyId == study_id, connected.message
    connected.draw("tumour", block(connected))
    connected.press("saveButton")
    assert connected.message == f"Saved your work on {title_of(study_id)}."
    recorded.fail("/datastore/label", 503)
    connected.press("submitButton")
    assert os.listdir(logic.kept.folder)
    recorded.heal()
    connected.press("submitButton")
    assert connected.message.startswith(f"Submitted {title_of(study_id)}.")
    assert f"PUT /datastore/label?image={quote(study_id, safe='')}&tag=final" in recorded.requests()
    assert os.listdir(logic.kept.folder) == []
    wait_for(lambda: not logic.files.isFetchingAhead)


def test_the_server_says_the_format_not_the_id(connected, recorded):  # noqa: F811
    study_id = "case.nii.gz.nii.gz"
    answers = answers_renamed()
    answers["infos"][study_id] |= {"path": "/on/the/server/case.nrrd", "name": "case.nrrd", "size": len(NRRD)}
    answers["images"][study_id] = base64.b64encode(NRRD).decode()
    recorded.post("/test/set", infos=answers["infos"], images=answers["images"])
    connected.logic.open(study_id)
    connected.wait()
    assert connected.reading.cached.endswith(".nrrd"), connected.message
    assert connected.reading.volume.GetImageData().GetDimensions() == (12, 15, 10)
    assert np.array_equal(connected.reading.volume.GetImageData().GetScalarRange(), (0, 149))
