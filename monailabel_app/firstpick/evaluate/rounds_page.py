"""What played rounds leave behind, besides what every comparison does: differences to ``same``, gains of each round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from firstpick.evaluate.arms import RANDOM
from firstpick.evaluate.bench import Bench
from firstpick.evaluate.page import write_outputs
from firstpick.evaluate.patches import ENCODER
from firstpick.evaluate.rounds_run import SAME, Start
from firstpick.evaluate.run import Outcome, Plan, Result
from firstpick.evaluate.summary import summarise
from firstpick.evaluate.tables import table_of

READING = (
    "Rounds: on each split all arms have the same first batches; then each arm chooses the next labels knowing what is "
    "labelled, and what the masks of that say. `same` goes on with what chose the first batch. `entropy_coverage` asks "
    "a probe on the patches of {encoder}, trained on the labelled studies alone, and the judge 'patches' is the same "
    "kind of probe on the same patches: it is kin to that arm. A network is kin to none."
)


def write_rounds(folder: Path, outcome: Outcome, bench: Bench, plan: Plan, start: Start, *, tests: bool) -> list[Path]:
    """Write everything that people read of played rounds, and return the files."""
    sizes = ", ".join(map(str, plan.budgets))
    n_draws = sum(arm.strategy == RANDOM.strategy for arm in plan.arms)
    facts = (
        f"{len(bench.studies)} {bench.unit} with masks. {plan.n_seeds} splits, {plan.test_fraction:.0%} held out (test "
        f"part over pool: {outcome.test_ratio:.2f}). On each split {start.n_firsts} first batches by "
        f"{start.cold.name}; random goes on from them in {n_draws} draws, every other arm once from each: means are "
        "compared. Every arm keeps to the same guards."
    )
    return write_outputs(
        folder,
        outcome,
        title=f"Which studies to label next: {len(bench.studies)} {bench.unit}, rounds up to {sizes} labels",
        notes=[facts, READING.format(encoder=ENCODER), *bench.notes],
        tests=tests,
        more=list(_tables(outcome, tests=tests)),
    )


def _tables(outcome: Outcome, *, tests: bool) -> Iterator[tuple[str, list[list[str]]]]:
    """Each judge's deciding measure against ``same``, and what each round gained, against both."""
    deciding = replace(outcome, results=tuple(r for r in outcome.results if outcome.primary.get(r.judge) == r.measure))
    gained = gains_of(deciding)
    for judge, measure in outcome.primary.items():
        for what, found, base in (
            ("difference to same", deciding, SAME),
            ("gained since the round before; difference to random", gained, RANDOM),
            ("gained since the round before; difference to same", gained, SAME),
        ):
            rows = [row for row in summarise(found, base) if row.judge == judge and row.budget]
            if any(row.arm == base for row in rows):
                yield f"{measure}, {judge}: {what}", table_of(rows, tests=tests)


def gains_of(outcome: Outcome) -> Outcome:
    """Take from every number that of the same draw in the round before; the first round has none.

    Examples
    --------
    >>> found = Outcome(tuple(Result("j", "dice", n, 0, SAME, v) for n, v in ((5, 0.5), (10, 0.75))), 0.2, {})
    >>> [(result.budget, result.value) for result in gains_of(found).results]
    [(10, 0.25)]
    """
    found: list[Result] = []
    before: dict[tuple[object, ...], Result] = {}
    for result in sorted(outcome.results, key=lambda r: r.budget):
        key = (result.judge, result.measure, result.seed, result.arm)
        if key in before:
            found.append(replace(result, value=result.value - before[key].value))
        before[key] = result
    return replace(outcome, results=tuple(sorted(found, key=lambda r: (r.judge, r.measure, r.budget, r.arm, r.seed))))
