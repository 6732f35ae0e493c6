"""``firstpick export``."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstpick.board.events import Named, Noted, detail, seconds
from firstpick.cli.embed import embed_missing
from firstpick.cli.session import Session, add_configuration, add_studies, session
from firstpick.studies import Pool


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_configuration(command)
    add_studies(command)
    command.add_argument("--out", metavar="FILE", required=True, help="a .npz, or a .csv with --decisions")
    command.add_argument("--decisions", action="store_true", help="write the decisions as CSV")


def run(options: argparse.Namespace) -> None:
    """Write the pool as ``.npz``, or the decisions as CSV."""
    with session(options) as opened:
        if options.decisions:
            _export_decisions(opened, Path(options.out))
        else:
            _export_pool(opened, Path(options.out))


def _export_decisions(opened: Session, out: Path) -> None:
    events = [event for event in opened.events if not isinstance(event, Named | Noted)]
    titles = {study.study_id: study.title for study in opened.studies}
    titles |= {item.study_id: item.title for item in opened.left_out}
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("at", "study_id", "title", "kind", "client", "seconds", "detail"))
        for event in events:
            title = titles.get(event.study_id, event.study_id)
            rest = (event.kind, event.client, seconds(event) or "", detail(event))
            writer.writerow((event.at, event.study_id, title, *rest))
    print(f"{out}: {len(events)} decisions.")
    for client, tally in opened.board.readers.items():
        print(f"{client}: {tally.n_done} done, {tally.n_skipped} skipped, {tally.seconds / 60:.0f} min.")


def _export_pool(opened: Session, out: Path) -> None:
    embed_missing(opened)
    pool = opened.cache.pool(opened.config.encoder_spec.fingerprint(), opened.studies)
    with out.open("wb") as file:
        np.savez(file, study_ids=np.array(pool.study_ids, dtype=str), vectors=pool.vectors, **_slices(pool))
    slices = f"{len(pool)} slices of " if opened.config.unit == "slice" else ""
    print(f"{out}: {slices}{pool.n_studies} studies, {pool.vectors.shape[1]} numbers each.")


def _slices(pool: Pool) -> dict[str, NDArray[Any]]:
    """Where each row lies, if rows are slices."""
    slices = [sample.at for sample in pool.samples if sample.at]
    if not slices:
        return {}
    return {
        "planes": np.array([where.plane for where in slices], dtype=str),
        "indices": np.array([where.index for where in slices]),
        "positions_mm": np.array([where.position_mm for where in slices]),
    }
