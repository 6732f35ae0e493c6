"""A whole comparison, from a folder and its labels to the page."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from firstpick.embedding.cache import Cache
from firstpick.encoders import ENCODERS, EncoderSpec, encoder_row
from firstpick.evaluate.arms import (
    ORACLE,
    PLAIN_SLICES,
    RANDOM,
    Arm,
    all_arms,
    draws_of,
    told_arms,
    yuan_hong_encoders,
)
from firstpick.evaluate.bench import Bench, Step, make_bench, read_examples, read_views
from firstpick.evaluate.grid import Cells
from firstpick.evaluate.judges import Judge, class_judges, mask_judges
from firstpick.evaluate.page import write_outputs
from firstpick.evaluate.patches import ENCODER as PATCH_ENCODER
from firstpick.evaluate.patches import Patches, cached_patches
from firstpick.evaluate.rounds_page import write_rounds
from firstpick.evaluate.rounds_run import Start, arms_of_rounds, play_rounds
from firstpick.evaluate.run import Outcome, Plan, compare
from firstpick.selection import Guards
from firstpick.studies import LeftOut, Study
from firstpick.workers import Executor

PRESETS = ("yuan-hong",)
_NO_JUDGES = ("pixels", "random-init")
_N_FOUNDATION_JUDGES = 2


@dataclass(frozen=True)
class Request:
    """What a user asks for.

    Attributes
    ----------
    labels : str
        A table of classes, or a folder of masks.
    out : Path
    encoders, strategies, scalings : tuple of str
    judges : tuple of str
        Encoders on whose features linear probes judge; empty for pixels and the first two others.
    budgets : tuple of int
    n_seeds : int
    test_fraction : float
    train : bool
        Whether networks are really trained, besides the quick judges.
    preset : str
        ``yuan-hong`` for the arms of the seed paper; empty for none.
    n_draws : int
        Batches that ``random`` draws on each split; the others are compared with their mean.
    n_repeats : int
        Batches that every other arm chooses on each split, each with another seed; their mean counts.
    tests : bool
        Whether differences are tested.
    rounds : tuple of int
        Labels after each round, rising, where rounds are played: then ``strategies`` are what chooses from the second
        round on, ``encoders`` and ``scalings`` have one name each, and ``budgets`` do not count. Empty for none.
    cold_start : str
        The strategy that chooses the first batch of rounds.
    """

    labels: str
    out: Path
    encoders: tuple[str, ...] = ("dinov2-s", "pixels")
    strategies: tuple[str, ...] = ("kmeans",)
    scalings: tuple[str, ...] = ("l2",)
    judges: tuple[str, ...] = ()
    budgets: tuple[int, ...] = (5, 10, 20, 50)
    n_seeds: int = 20
    test_fraction: float = 0.2
    train: bool = False
    preset: str = ""
    n_draws: int = 10
    n_repeats: int = 5
    tests: bool = True
    rounds: tuple[int, ...] = ()
    cold_start: str = "kmeans"

    def __post_init__(self) -> None:
        if self.preset not in ("", *PRESETS):
            msg = f"preset {self.preset!r} is not known. Choose one of {', '.join(PRESETS)}."
            raise ValueError(msg)
        if self.n_draws < 1:
            msg = f"random draws must be 1 or more; got {self.n_draws}."
            raise ValueError(msg)
        if self.n_repeats < 1:
            msg = f"repeats must be 1 or more; got {self.n_repeats}."
            raise ValueError(msg)
        if not (self.encoders and self.strategies and self.scalings):
            msg = "a comparison needs one or more encoders, strategies and scalings."
            raise ValueError(msg)
        for name in (*self.encoders, *self.judges):
            encoder_row(name)
        if self.rounds:
            if self.preset or len(self.rounds) < 2 or list(self.rounds) != sorted(set(self.rounds)):  # noqa: PLR2004
                msg = f"rounds are two or more rising numbers, such as 5,10,20, without a preset; got {self.rounds}."
                raise ValueError(msg)
            if not Path(self.labels).is_dir():
                msg = f"rounds need a mask of each study, since they teach what is unsure; {self.labels} is no folder."
                raise ValueError(msg)
            arms_of_rounds(self.strategies, n_draws=1, n_repeats=1)
        else:
            all_arms(self.strategies, self.encoders, self.scalings)


def of_preset(request: Request) -> Request:
    """Put the preset's arms into a request: of the foundation encoders, those whose weights come in a package."""
    if not request.preset:
        return request
    packaged = (name for name, row in ENCODERS.items() if row.files and row.ndim == 2)  # noqa: PLR2004 - views
    return replace(request, encoders=yuan_hong_encoders(packaged), strategies=("kmeans",))


def run_comparison(
    studies: Sequence[Study],
    request: Request,
    cache: Cache,
    executor: Executor,
    *,
    specs: Mapping[str, EncoderSpec],
    guards: Guards,
    n_components: int,
    starts: int,
    n_workers: int,
    groups_by: str = "",
    series_pool: str = "join",
    label_names: Mapping[int, str] | None = None,
    left_out: Iterable[LeftOut] = (),
) -> Generator[Step, None, list[Path]]:
    """Compare, and write everything to ``request.out``; yield the progress and return the files.

    Parameters
    ----------
    studies : sequence of Study
    request : Request
    cache : Cache
        Of the embeddings.
    executor : Executor
    specs : mapping
        The specification of every encoder that may be needed.
    guards : Guards
        Kept to by all arms.
    n_components, starts, n_workers : int
    groups_by : str
        What tells a patient; groups are never split between pool and test part.
    series_pool : str
        How the embeddings of a study's series become one.
    label_names : mapping, optional
        Names of the masks' values.
    left_out : iterable of LeftOut
        Studies that may have a label though they are not compared.

    Raises
    ------
    ValueError, OSError, EncoderError, StoreError
    """
    request = of_preset(request)
    asked = request.judges or ("pixels",)
    needed = dict.fromkeys((*request.encoders, *(() if Path(request.labels).is_dir() else asked)))
    with closing(Cells(request.out)) as cells:
        bench = yield from make_bench(
            studies,
            request.labels,
            [specs[name] for name in needed],
            cache,
            executor,
            groups_by=groups_by,
            series_pool=series_pool,
            left_out=left_out,
        )
        bench, judges, patches = yield from _judges(
            bench, request, label_names or {}, cache.path.parent, executor, n_waiting=n_workers + 1
        )
        plan = Plan(
            arms=_arms(request, bench),
            budgets=request.rounds or request.budgets,
            n_seeds=request.n_seeds,
            test_fraction=request.test_fraction,
            guards=guards,
            n_components=n_components,
            starts=starts,
            with_convergence=bool(request.preset),
        )
        n_waiting = 2 * n_workers + 1
        if request.rounds and patches is not None:
            start = Start(Arm(request.cold_start, request.encoders[0], request.scalings[0]), request.n_repeats)
            outcome = yield from play_rounds(bench, judges, patches, start, plan, cells, executor, n_waiting=n_waiting)
            return write_rounds(request.out, outcome, bench, plan, start, tests=request.tests)
        outcome = yield from compare(bench, judges, plan, cells, executor, n_waiting=n_waiting)
    return write_outputs(
        request.out,
        outcome,
        title=f"Which studies to label first: {len(bench.studies)} {bench.unit} compared",
        notes=[_facts(bench, plan, outcome), *bench.notes],
        tests=request.tests,
    )


def _arms(request: Request, bench: Bench) -> tuple[Arm, ...]:
    """List what is compared."""
    n_draws, n_repeats = request.n_draws, request.n_repeats
    if request.rounds:
        return arms_of_rounds(request.strategies, n_draws=n_draws, n_repeats=n_repeats)
    encoders = [name for name in request.encoders if name in bench.features]
    return (
        *all_arms(request.strategies, encoders, request.scalings, n_draws=n_draws, n_repeats=n_repeats),
        *(one for arm in PLAIN_SLICES for one in draws_of(arm, n_repeats) if bench.slices),
        *told_arms(encoders, with_masks=bool(bench.masks), n_draws=n_draws, n_repeats=n_repeats),
    )


def _judges(
    bench: Bench,
    request: Request,
    label_names: Mapping[int, str],
    state: Path,
    executor: Executor,
    *,
    n_waiting: int,
) -> Generator[Step, None, tuple[Bench, list[Judge], Patches | None]]:
    """Prepare what judges learn from."""
    if bench.classes:
        views = (yield from read_views(bench)) if request.train else None
        foundation = [name for name in bench.features if name not in _NO_JUDGES][:_N_FOUNDATION_JUDGES]
        names = request.judges or ("pixels", *foundation)
        return bench, class_judges(bench, [name for name in names if name in bench.features], views), None
    bench, examples, labels = yield from read_examples(bench, label_names)
    patches: Patches | None = None
    work = cached_patches(examples, PATCH_ENCODER, state, bench.fingerprint, executor, n_waiting=n_waiting)
    for found in work:
        if isinstance(found, Patches):
            patches = found
        else:
            yield Step("Patch features", found, len(examples))
    return bench, mask_judges(examples, labels, patches, encoder=PATCH_ENCODER, train=request.train), patches


def _facts(bench: Bench, plan: Plan, outcome: Outcome) -> str:
    """Say in a few sentences what was compared."""
    groups = {group or f" {row}" for row, group in enumerate(bench.groups)}
    kind = f"{len(set(bench.classes))} classes" if bench.classes else "masks"
    held_out = "groups" if len(groups) < len(bench.studies) else bench.unit
    guards = plan.guards
    n_draws = sum(arm.strategy == RANDOM.strategy for arm in plan.arms)
    n_repeats = sum(arm.strategy == ORACLE for arm in plan.arms) // len({a.encoder for a in plan.arms if a.encoder})
    return (
        f"{len(bench.studies)} {bench.unit} of {len(groups)} groups, {kind}. {plan.n_seeds} splits, "
        f"{plan.test_fraction:.0%} of the {held_out} held out (test part over pool: {outcome.test_ratio:.2f}). "
        f"Every arm, random too, keeps to: copies from a cosine of {guards.duplicates:g} on count once, studies of a "
        f"group {guards.max_per_group or 'without limit'}, unusual studies: {guards.outliers}. "
        f"Random draws {n_draws} batches on each split, and every other arm chooses {n_repeats}, each with another "
        f"seed: means are compared; spread and worst split are those of one batch. Every arm is trained in the same "
        f"way, with the same seed on the same split."
    )


def n_workers_for(n_workers: int) -> int:
    """Worker processes that a setting stands for: 0 is one for each core."""
    return n_workers or os.cpu_count() or 1
