"""``firstpick pick``."""

from __future__ import annotations

import argparse
import json

from pydantic_core import to_jsonable_python

from firstpick.board.board import with_statuses
from firstpick.cli.batch import add_batch, choose
from firstpick.cli.session import session
from firstpick.proposal.advice import sentence
from firstpick.report import table
from firstpick.sources.series import counted, notes_on


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_batch(command)
    command.add_argument("--json", action="store_true", help="print the proposal as JSON")


def run(options: argparse.Namespace) -> None:
    """Embed what is missing, then choose a batch."""
    with session(options) as opened:
        proposal, _, statuses = choose(opened, options)
        studies, lists = opened.by_id(), {"failed": opened.failed(), "left_out": opened.left_out}
        live = with_statuses(proposal, statuses, **lists, studies=studies)
        notes = notes_on(opened.studies, {}, opened.odd_series())
        n_series = counted(opened.studies)
    if options.json:
        print(json.dumps(to_jsonable_python(live), indent=2))
        return
    print(table(proposal, n_failed=len(live.failed), n_left_out=len(live.left_out)))
    if any(study.series for study in studies.values()):
        print(f"{n_series}. Of the picks:")
        for pick in live.picks:
            print(
                f"{pick.title}: {', '.join(pick.series)}{''.join(f'; {note}' for note in notes.get(pick.study_id, ()))}"
            )
    if proposal.advice:
        if proposal.outlook:
            print(proposal.outlook.text)
        print(sentence(proposal.advice))
