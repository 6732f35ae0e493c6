"""``firstpick report``."""

from __future__ import annotations

import argparse
from pathlib import Path

from firstpick.cli.batch import add_batch, choose
from firstpick.cli.session import session
from firstpick.report import page_data, report_page


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_batch(command)
    command.add_argument("--out", metavar="FILE", required=True, help="the page, one .html file that needs no network")


def run(options: argparse.Namespace) -> None:
    """Embed what is missing, choose a batch, write it as a page."""
    with session(options) as opened:
        proposal, pool, statuses = choose(opened, options)
        studies = opened.by_id()

        def thumbnail(study_id: str, series: str = "") -> bytes | None:
            members = studies[study_id].members
            return next((opened.cache.thumbnail(one) for one in members if series in ("", one.name)), None)

        data = page_data(
            proposal,
            pool,
            statuses,
            thumbnail,
            studies=studies,
            failed=opened.failed(),
            left_out=opened.left_out,
            notes=opened.notes(),
            groups_are_patients=opened.config.groups.by == "patient",
        )
    out = Path(options.out)
    out.write_text(report_page(data), encoding="utf-8")
    n_bytes = out.stat().st_size
    print(f"{out}: {len(proposal.picks)} of {pool.n_studies} studies, {n_bytes / 1e6:.1f} MB. Open it in any browser.")
