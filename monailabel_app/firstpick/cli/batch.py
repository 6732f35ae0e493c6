"""What ``pick`` and ``report`` share: a batch chosen without a server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from firstpick.board.board import Status
from firstpick.cli.embed import embed_missing
from firstpick.cli.session import Session, add_configuration, add_studies
from firstpick.proposal import Proposal, advise, propose
from firstpick.sources.attributes import with_attributes
from firstpick.sources.names import id_of, ids_by_name
from firstpick.studies import Pool, Study


def add_batch(command: argparse.ArgumentParser) -> None:
    """Add what says how a batch is chosen."""
    add_configuration(command)
    add_studies(command)
    command.add_argument("--labelled", metavar="FILE", help="ids or paths of studies that are labelled, one a line")
    command.add_argument("--advice", action="store_true", help="suggest a batch size, and say how much is chance")


def choose(opened: Session, options: argparse.Namespace) -> tuple[Proposal, Pool, Mapping[str, Status]]:
    """Embed what is missing and choose a batch; return it, what it was chosen from, and the statuses as they count."""
    config, spec = opened.config, opened.config.encoder_spec
    embed_missing(opened)
    statuses, done = opened.statuses(), opened.board.with_status("done")
    labelled = opened.labelled | _read_ids(options.labelled, opened.studies)
    if unknown := labelled - {study.study_id for study in opened.studies}:
        print(f"{len(unknown)} labelled ids are not in the folder, such as {min(unknown)}.", file=sys.stderr)
    pool = opened.pool().trimmed(opened.board.annotated)
    pool = with_attributes(pool, opened.studies, groups_by=config.groups.by, strata_by=config.strata.by)
    skipped = opened.board.with_status("skipped")
    proposal = propose(
        pool,
        batch_size=config.batch_size,
        labelled=labelled,
        excluded=skipped,
        encoder=config.encoder,
        fingerprint=spec.fingerprint(),
        **config.choice(),
    )
    if options.advice:
        advice = advise(proposal, pool, labelled=labelled, excluded=skipped, **config.choice())
        proposal = replace(proposal, advice=advice)
    return proposal, pool, dict(statuses) | {study_id: Status("done") for study_id in labelled - done}


def _read_ids(path: str | None, studies: Collection[Study]) -> set[str]:
    """Read ids, or other names of studies; what names none stays as it is."""
    if path is None:
        return set()
    by_name = ids_by_name(studies)
    names = (line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return {id_of(name, by_name) or name for name in names if name}
