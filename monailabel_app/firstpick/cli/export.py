"""``firstpick export``."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstpick.board.events import Named, Noted, detail, seconds
from firstpick.cli.embed import embed_missing
from firstpick.cli.session import Session, add_configuration, add_studies, session
from firstpick.sources.series import counted
from firstpick.studies import Pool


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_configuration(command)
    add_studies(command)
    text = "a .npz; a .csv with --decisions; a .csv or .json with --series"
    command.add_argument("--out", metavar="FILE", required=True, help=text)
    what = command.add_mutually_exclusive_group()
    what.add_argument("--decisions", action="store_true", help="write the decisions as CSV")
    what.add_argument("--series", action="store_true", help="write the series of each study, and where their files are")


def run(options: argparse.Namespace) -> None:
    """Write the pool as ``.npz``, the decisions as CSV, or the series of each study as CSV or JSON."""
    with session(options) as opened:
        if options.decisions:
            _export_decisions(opened, Path(options.out))
        elif options.series:
            _export_series(opened, Path(options.out))
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


def _export_series(opened: Session, out: Path) -> None:
    rows = [
        {
            "study_id": study.study_id,
            "title": study.title,
            "series": one.name,
            "is_primary": "yes" if one is study.primary else "no",
            "modality": one.modality,
            "path": one.source,
            "frame": max(one.frame, 0),
        }
        for study in opened.studies
        for one in study.members
    ]
    with out.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        if out.suffix.lower() == ".json":
            json.dump(rows, file, indent=2)
        else:
            writer = csv.DictWriter(file, [*rows[0]])
            writer.writeheader()
            writer.writerows(rows)
    print(f"{out}: {counted(opened.studies)}.")


def _export_pool(opened: Session, out: Path) -> None:
    embed_missing(opened)
    pool = opened.pool()
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
