"""A server that is killed, and one whose disk fills: a short form of ``tests/benchmarks/faults.py``."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
pytest.importorskip("requests", reason="pip install 'firstpick[server]'")
sys.path.append(str(Path(__file__).parent / "benchmarks"))

from faults import run_full_disk, run_kills
from faults_disk import DiskError
from faults_ledger import OPEN, Ledger


def answered(ledger, sent, outcome, *, after):
    """A claim that was answered that long after it was sent."""
    ledger.claim("a", sent, outcome, is_answered=False)
    ledger.claims["a"][-1] = replace(ledger.claims["a"][-1], answered=sent + after)


def test_only_what_was_answered_last_may_stand_and_what_ran_beside_it():
    ledger = Ledger()
    assert ledger.possible("a") == [OPEN]
    answered(ledger, 1, "reserved", after=1)
    answered(ledger, 3, "released", after=1)
    assert ledger.possible("a") == ["released"]
    answered(ledger, 3.5, "skipped", after=1)
    assert ledger.possible("a") == ["released", "skipped"]


def test_what_was_never_answered_may_stand_or_not():
    ledger = Ledger()
    ledger.claim("a", 1, "skipped", is_answered=False)
    assert ledger.possible("a") == [OPEN, "skipped"]
    answered(ledger, 2, "reserved", after=1)
    answered(ledger, 4, "released", after=1)
    assert ledger.possible("a") == ["skipped", "released"]
    ledger.settle("a", "released")
    assert ledger.possible("a") == ["released"]
    assert ledger.touched() == set()


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_and_no_label_torn_when_the_server_is_killed(tmp_path):
    report = run_kills(tmp_path, n_kills=3, n_readers=20, n_studies=40)
    assert report.is_good, report.table("killed")
    assert report.counts["decisions acknowledged"] > 20
    assert report.counts["labels acknowledged"] > 5


@pytest.mark.slow
def test_a_full_disk_costs_no_label_and_no_decision_and_is_told_in_a_sentence(tmp_path):
    try:
        report = run_full_disk(tmp_path, n_rounds=2)
    except DiskError as error:
        pytest.skip(f"the disk cannot be filled: {error}")
    assert report.is_good, report.table("full disk")
    assert report.counts["no room"] > 0
    assert report.counts["labels acknowledged"] > 5
