"""The state machine finds what once went wrong: each old behaviour, put in by hand, makes it fail."""

import traceback

import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from test_board_machine import CALM, Machine, _quiet

from firstpick.board import board
from firstpick.board.events import Proposed, Released
from firstpick.server.label_folder import LabelFolder

assert _quiet  # a fixture

LONGER = settings(CALM, max_examples=150)


def slices_of_the_newest_batch(status, event):
    """Take for annotated what was proposed last, whoever was given what."""
    return event.given.slices if event.given else ()


def a_batch_made_before_the_label(check):
    """Let a batch stand that was chosen before a study was done."""
    return lambda self, event: None if isinstance(event, Proposed) else check(self, event)


def undone_by_giving_back(after):
    """Let a study that is given back be open, whatever label it has."""

    def _after(before, event):
        given_back = isinstance(event, Released) and before.status in ("open", "reserved")
        return before.opened() if given_back else after(before, event)

    return _after


OLD = {
    "slices overwritten by another strategy's batch": (board, "_given", slices_of_the_newest_batch),
    "a done study proposed": (board.Board, "check", a_batch_made_before_the_label(board.Board.check)),
    "label facts lost by an empty mount point": (LabelFolder, "check", lambda _: None),
    "reopened and given back is open": (board, "_after", undone_by_giving_back(board._after)),
}
FOUND_BY = {
    "slices overwritten by another strategy's batch": "a_label_is_of_what_its_reader_was_given",
    "a done study proposed": "propose",
    "label facts lost by an empty mount point": "nothing_acknowledged_is_lost",
    "reopened and given back is open": "nothing_acknowledged_is_lost",
}


@pytest.mark.parametrize("defect", OLD)
def test_each_old_defect_is_found(monkeypatch, defect):
    monkeypatch.setattr(*OLD[defect])
    with pytest.raises(AssertionError) as failure:
        run_state_machine_as_test(Machine, settings=LONGER)
    assert FOUND_BY[defect] in {frame.name for frame in traceback.extract_tb(failure.value.__traceback__)}
