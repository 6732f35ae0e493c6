"""``firstpick embed``."""

from __future__ import annotations

import argparse
import sys

from tqdm import tqdm

from firstpick.cli.session import Session, add_configuration, add_studies, session
from firstpick.embedding.chunk import STAGES
from firstpick.embedding.executor import open_executor
from firstpick.embedding.run import Progress, embed
from firstpick.sources.series import counted


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_configuration(command)
    add_studies(command)
    command.add_argument("--profile", action="store_true", help="print where the seconds went")


def run(options: argparse.Namespace) -> None:
    """Embed what is missing, with a progress bar."""
    with session(options) as opened:
        last = embed_missing(opened)
        n_failed, n_total, n_left_out = len(opened.failed()), len(opened.studies), len(opened.left_out)
        of = counted(opened.studies)
        print(f"{n_total - n_failed} of {of} embedded, {n_failed} failed, {n_left_out} left out.")
        if n_failed:
            print("firstpick list --failed says why.")
        if options.profile:
            for stage in STAGES:
                print(f"{stage:9} {last.stages.get(stage, 0.0):8.2f} s")
            print(f"{'wall':9} {last.seconds:8.2f} s")


def embed_missing(opened: Session) -> Progress:
    """Embed what is missing with a bar on stderr; return the last progress."""
    config = opened.config
    last = Progress(0, 0, 0)
    with (
        open_executor(**config.workers(opened.cache.path.parent)) as executor,
        tqdm(total=len(opened.studies), unit="study", desc="Embedding", file=sys.stderr, leave=False) as bar,
    ):
        for last in embed(opened.studies, config.encoder_spec, opened.cache, executor=executor):
            bar.update(last.n_done + last.n_failed - bar.n)
            bar.set_postfix(failed=last.n_failed, workers=last.n_workers, refresh=False)
    opened.judge_again()
    return last
