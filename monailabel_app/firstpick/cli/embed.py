"""``firstpick embed``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

from firstpick.cli.session import Session, add_configuration, add_studies, configuration, session, studies_place
from firstpick.config import state_folder
from firstpick.embedding.chunk import STAGES
from firstpick.embedding.executor import open_executor
from firstpick.embedding.profile import bare_seconds
from firstpick.embedding.run import Progress, embed
from firstpick.embedding.start import Workers, start_ahead
from firstpick.sources.series import counted
from firstpick.workers import LocalPool


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_configuration(command)
    add_studies(command)
    text = "print where the seconds went, beside what the encoder alone takes"
    command.add_argument("--profile", action="store_true", help=text)
    command.add_argument("--json", action="store_true", help="print all that as JSON")


def run(options: argparse.Namespace) -> None:
    """Embed what is missing, with a progress bar; the workers start while studies are listed."""
    start = time.perf_counter()
    config = configuration(options)
    with open_executor(**config.workers(state_folder(config, studies_place(options)))) as executor:
        start_ahead(config.encoder_spec, executor)
        with session(options, config) as opened:
            listed = time.perf_counter()
            last = _embed_by(executor, opened)
            seconds = {"listing": listed - start, **last.stages, "wall": time.perf_counter() - start}
            profile = _profile(opened, executor, last, seconds) if options.profile else {}
            _say(opened, profile, as_json=options.json)


def embed_missing(opened: Session) -> None:
    """Embed what is missing with a bar on stderr."""
    with open_executor(**opened.config.workers(opened.cache.path.parent)) as executor:
        _embed_by(executor, opened)


def _embed_by(executor: LocalPool | Workers, opened: Session) -> Progress:
    """Embed what is missing with a bar on stderr; return the last progress."""
    last = Progress(0, 0, 0)
    with tqdm(total=len(opened.studies), unit="study", desc="Embedding", file=sys.stderr, leave=False) as bar:
        for last in embed(opened.studies, opened.config.encoder_spec, opened.cache, executor=executor):
            bar.update(last.n_done + last.n_failed - bar.n)
            bar.set_postfix(failed=last.n_failed, workers=last.n_workers, refresh=False)
    opened.judge_again()
    return last


def _profile(
    opened: Session, executor: LocalPool | Workers, last: Progress, seconds: Mapping[str, float]
) -> dict[str, float]:
    """Seconds of each stage and of the whole, and of the bare encoder, which is not timed on a cluster."""
    found = {stage: seconds.get(stage, 0.0) for stage in ("listing", *STAGES, "wall")}
    if isinstance(executor, LocalPool) and last.n_parts:
        bare = bare_seconds(opened.studies, opened.config.encoder_spec, executor, n_parts=last.n_parts)
        found |= {"bare encoder": bare, "wall / bare": found["wall"] / bare}
    return found | {"parts": last.n_parts}


def _say(opened: Session, profile: Mapping[str, float], *, as_json: bool) -> None:
    """Print what was embedded, and the profile."""
    n_failed, n_total, n_left_out = len(opened.failed()), len(opened.studies), len(opened.left_out)
    if as_json:
        counts = {"n_total": n_total, "n_done": n_total - n_failed, "n_failed": n_failed, "n_left_out": n_left_out}
        print(json.dumps(counts | ({"profile": profile} if profile else {})))
        return
    print(f"{n_total - n_failed} of {counted(opened.studies)} embedded, {n_failed} failed, {n_left_out} left out.")
    if n_failed:
        print("firstpick list --failed says why.")
    for name, value in profile.items():
        unit = "" if name in {"parts", "wall / bare"} else " s"
        print(f"{name:12} {value:8.{0 if name == 'parts' else 2}f}{unit}")
