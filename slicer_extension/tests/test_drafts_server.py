"""Drafts in the module from the real server: learnt from what was submitted, offered, corrected and compared."""

import numpy as np
import pytest
from servers import Server, write_studies
from stage import wait_for
from test_drafts import paint

pytestmark = pytest.mark.server

LABELS = '[{name: tumour, value: 5, color: "#ff0080"}]'


def bright(server, study_id):
    return np.asarray(server.study(study_id).dataobj) > 200


def drafts(server, n_labels):
    said = server.get("/firstpick/drafts")
    return said if said["state"] == "ready" and said["n_labels"] == n_labels else None


def test_what_was_submitted_comes_back_as_drafts(reader, tmp_path):
    studies = write_studies(tmp_path / "studies", 12)
    conf = {"labels": LABELS, "batch_size": "8", "drafts.enabled": "true", "drafts.ahead": "2"}
    with Server(studies, tmp_path / "state", **conf) as server:
        server.wait_until_ready()
        reader.connect(server.address)
        ranked = reader.ids()
        reader.open(ranked[0])
        for study_id in ranked[:4]:
            assert reader.reading.studyId == study_id, reader.message
            assert not reader.ui.draftFrame.isVisible()
            reader.draw("tumour", bright(server, study_id))
            reader.press("submitButton")
        assert wait_for(lambda: drafts(server, 4)), server.get("/firstpick/drafts")

        reader.press("closeButton")
        reader.open(ranked[4])
        assert "Draft of the server from 4 labels" in reader.ui.draftLabel.text
        reader.press("draftButton")
        assert reader.ui.stateLabel.text == "Draft, not checked"
        truth = bright(server, ranked[4])
        paint(reader, "tumour", truth)
        assert reader.ui.stateLabel.text == "Not saved yet"
        reader.press("submitButton")
        submitted = np.asarray(server.label(ranked[4]).dataobj)
        assert (submitted[truth] == 5).all()  # what the reader drew, and the rest of the draft
        assert wait_for(lambda: server.get("/firstpick/drafts")["corrections"])
        (correction,) = server.get("/firstpick/drafts")["corrections"]
        assert (correction["study_id"], correction["client"], correction["is_taken"]) == (ranked[4], "alice", True)
        assert 0.5 < correction["dice"] < 1
