"""What drafts are worth: their Dice by number of labels, beside other classifiers and a network trained from scratch.

Run by hand, again and again until nothing is left to do; `draft_evidence_tables.py` makes tables of it:

    python tests/benchmarks/draft_evidence.py DATA OUT --minutes 3

A round is one split: studies are held out, the others get their masks in a random order. After 2, 5, 10, 15 and 20
labels the server's own functions learn and draft: the held-out studies, and those that are labelled next. What was
measured is a line of ``OUT/results.jsonl``; what is there is not measured again. Seconds are of the processor, all
threads together. Arms:

- ``networks``: what the server does.
- ``HistGradientBoosting``, ``LDA``: another classifier in the same place, features, voxels and smoothing the same. How
  readily it takes a voxel for foreground is chosen as for the networks, on labels that were left out.
- ``SegResNet``: that of ``firstpick compare --train``, from scratch, for the seconds that the drafts' learning takes
  once the encoder has seen the studies; ``SegResNet x10``: for ten times that. On pictures of at most 256 pixels.
"""

# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import itertools
import json
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from draft_models import MODELS

from firstpick.encoders import EncoderSpec
from firstpick.encoders.patches import patch_encoder
from firstpick.evaluate.segmentation import crop_size, network_masks, read_example
from firstpick.evaluate.splits import make_split
from firstpick.learning.agreement import dice_by_class, mean_dice
from firstpick.learning.draft import Labelled, draft, learn
from firstpick.learning.features import Seen
from firstpick.learning.labels import read_classes
from firstpick.learning.model import N_FOLDS, best_shift, gathered
from firstpick.learning.sampling import sample
from firstpick.learning.stack import Stack
from firstpick.learning.tokens import SIZE, TokenCache
from firstpick.learning.work import compare
from firstpick.sources.folder import list_studies
from firstpick.sources.names import bare
from firstpick.sources.source import read_study
from firstpick.studies import Study

STEPS = (2, 5, 10, 15, 20)
"""Labels after which is learnt anew."""
MOST = 25
"""Labels of a round."""
N_LABELS = (5, 10, 20)
N_TEST = 12
NETWORKS, SCRATCH, LONG = "networks", "SegResNet", "SegResNet x10"
RIVALS = {"LDA": N_LABELS, "HistGradientBoosting": (5, 20)}
"""At how many labels each is measured."""
SETS: dict[str, tuple[str, dict[str, int]]] = {
    "hippocampus": ("labels", {"anterior": 1, "posterior": 2}),
    "membrane": ("labels", {"cell": 255}),
    "nerve_us": ("masks", {"nerve": 1, "vessel": 2}),
}
"""Folder of the masks, name and value of each class."""
MOST_STUDIES = {"hippocampus": 48}
"""Of a set: each of these volumes is three seconds to the encoder."""
SPEC = EncoderSpec()
TOKENS_GB = 5.0
FEWEST_STEPS = 4
"""Of training: a cycle of the learning rate has no fewer."""


@dataclass
class Plain:
    """A classifier of scikit-learn in the place of our networks, and those that were fitted without a fold each."""

    classifier: Any
    folds: tuple[Any, ...]
    n_classes: int
    shift: float = 0.0

    def probabilities(self, X):
        return self._of(self.classifier, X)

    def held_out(self, study, X):
        return self._of(self.folds[study % len(self.folds)], X)

    def classify(self, probabilities):
        shifted = probabilities.copy()
        shifted[..., 0] *= np.exp(self.shift)
        return shifted.argmax(axis=-1)

    def _of(self, classifier, X):
        found = np.zeros((len(X), self.n_classes + 1), np.float32)
        found[:, classifier.classes_] = classifier.predict_proba(X)
        return found


@dataclass(frozen=True)
class Round:
    """One split of a set: studies in the order in which they are labelled, and those held out."""

    name: str
    seed: int
    labels: dict[str, int]
    masks: dict[str, Path]
    order: tuple[Study, ...]
    tests: tuple[Study, ...]

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(step for step in STEPS if step <= len(self.order))

    def known(self, n: int) -> list[Labelled]:
        return [Labelled(one, self.masks[one.study_id], "", at) for at, one in enumerate(self.order[:n])]


@lru_cache(maxsize=1)
def listed(root: Path) -> tuple[Study, ...]:
    """List the studies of a set, or some that are drawn once for all splits."""
    studies = sorted(list_studies(root / "images")[0], key=lambda study: study.study_id)
    some = np.random.default_rng(1000).permutation(len(studies))[: MOST_STUDIES.get(root.name)]
    return tuple(studies[at] for at in np.sort(some))


def make_round(data: Path, name: str, seed: int) -> Round:
    """Draw a split, another one than those that the settings of the drafts' networks were chosen on."""
    folder, labels = SETS[name]
    studies = listed(data / name)
    by_name = {bare(path.name): path for path in (data / name / folder).iterdir()}
    split = make_split(len(studies), 1000 + seed, test_fraction=min(N_TEST / len(studies), 0.3))
    order = np.random.default_rng((1000, seed)).permutation(split.pool)
    masks = {study.study_id: by_name[bare(study.study_id)] for study in studies}
    some = tuple(studies[at] for at in order[:MOST])
    return Round(name, seed, labels, masks, some, tuple(studies[at] for at in split.test))


class Results:
    """What was measured, kept as lines of a file, and the time that is left."""

    def __init__(self, out: Path, minutes: float) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out, self._path = out, out / "results.jsonl"
        self._end = time.monotonic() + 60 * minutes
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        self.lines = {key(line): line for line in map(json.loads, lines)}

    def lacks(self, name: str, seed: int, arm: str, n: int) -> bool:
        return (name, seed, arm, n) not in self.lines and time.monotonic() < self._end

    def write(self, round_: Round, arm: str, n: int, **found: Any) -> None:
        line = {"set": round_.name, "seed": round_.seed, "arm": arm, "n": n, **found}
        self.lines[key(line)] = line
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(round_.name, round_.seed, arm, n, f"{np.mean(found.get('dice') or [np.nan]):.3f}", flush=True)


def key(line: dict[str, Any]) -> tuple[str, int, str, int]:
    return line["set"], line["seed"], line["arm"], line["n"]


def cache_of(out: Path) -> TokenCache:
    encoder = patch_encoder(SPEC, SIZE)
    assert encoder is not None
    return TokenCache(out / "tokens", TOKENS_GB * 1e9, encoder, SPEC.fingerprint())


def see_all(round_: Round, results: Results) -> None:
    """Encode what a round needs; the seconds of a study that was not encoded yet are kept."""
    if not results.lacks(round_.name, round_.seed, "tokens", 0):
        return
    cache, seconds = cache_of(results.out), []
    for study in (*round_.order, *round_.tests):
        if cache.kept(study) is None:
            start = time.process_time()
            cache.of(study, Stack(read_study(study), SPEC.views))
            seconds.append(time.process_time() - start)
    results.write(round_, "tokens", 0, seconds=seconds)


def drafted(lesson: Any, studies: Any, round_: Round, out: Path) -> tuple[list[float], float]:
    """Draft studies, and compare each with its mask as the server does; return Dice and seconds of a draft."""
    dice, seconds = [], []
    for study in studies:
        path = out / f"{bare(study.study_id)}.nii.gz"
        start = time.process_time()
        draft(lesson, study, spec=SPEC, folder=out.parents[1] / "tokens", tokens_gb=TOKENS_GB, out=path)
        seconds.append(time.process_time() - start)
        dice.append(compare(study, path, round_.masks[study.study_id], tuple(round_.labels.items())).dice)
    return dice, float(np.mean(seconds)) if seconds else 0.0


def play(round_: Round, n: int, results: Results, rivals: tuple[str, ...]) -> None:
    """Learn from the first labels of a round, and draft, by the networks and by other classifiers."""
    wanted = (NETWORKS, *(arm for arm in rivals if n in RIVALS[arm]))
    arms = [arm for arm in wanted if results.lacks(round_.name, round_.seed, arm, n)]
    if not arms:
        return
    start = time.process_time()
    lesson = learn(round_.known(n), spec=SPEC, labels=round_.labels, folder=results.out / "tokens", tokens_gb=TOKENS_GB)
    learn_s = time.process_time() - start
    out = results.out / "drafts" / f"{round_.name}-{round_.seed}-{n}"
    if NETWORKS in arms:
        dice, draft_s = drafted(lesson, round_.tests, round_, out)
        later = [step for step in (*round_.steps, len(round_.order)) if step > n]
        ahead, _ = drafted(lesson, round_.order[n : later[0]] if later else (), round_, out)
        found = {"dice": dice, "ahead": ahead, "held_out": lesson.held_out, "learn_s": learn_s, "draft_s": draft_s}
        results.write(round_, NETWORKS, n, **found)
    for arm in (arm for arm in arms if arm != NETWORKS):
        start = time.process_time()
        model = fit_plain(arm, round_, n, lesson.reduction, results.out)
        learn_s = time.process_time() - start
        dice, draft_s = drafted(replace(lesson, model=model), round_.tests, round_, results.out / "drafts" / "rival")
        results.write(round_, arm, n, dice=dice, learn_s=learn_s, draft_s=draft_s)


def fit_plain(arm: str, round_: Round, n: int, reduction: Any, out: Path) -> Plain:
    """Fit a classifier to the voxels that the networks learn from, and once without each fold for the shift."""
    rng, cache, samples = np.random.default_rng(0), cache_of(out), []
    for study in round_.order[:n]:
        volume = read_study(study)
        stack, tokens = Stack(volume, SPEC.views), cache.kept(study)
        seen = Seen(stack, tokens.slices, reduction.of(tokens.rows), tokens.size)
        classes = stack.of(read_classes(round_.masks[study.study_id], volume, round_.labels))
        samples.append(sample(seen, classes, range(len(classes)), rng))
    folds = min(N_FOLDS, n)
    without = [[own for at, own in enumerate(samples) if at % folds != fold] for fold in range(folds)]
    fitted = tuple(MODELS[arm]().fit(*gathered(some, rng)) for some in without)
    model = Plain(MODELS[arm]().fit(*gathered(samples, rng)), fitted, len(round_.labels))
    return replace(model, shift=best_shift(model, samples, len(round_.labels)))


def train(round_: Round, n: int, results: Results, arm: str, *, times: int) -> None:
    """Train a network from scratch on the first labels, as long as learning from them takes, or longer."""
    if not results.lacks(round_.name, round_.seed, arm, n):
        return
    learnt = results.lines[round_.name, round_.seed, NETWORKS, n]
    budget_s = times * learnt["learn_s"]
    values = list(round_.labels.values())
    mask = {study_id: Study(path.name, "", str(path)) for study_id, path in round_.masks.items()}
    known, tests = (
        [read_example(study, mask[study.study_id], values) for study in some]
        for some in (round_.order[:n], round_.tests)
    )
    crop = crop_size([*known, *tests])
    timed = [line["step_s"] for line in results.lines.values() if line["set"] == round_.name and "step_s" in line]
    step_s = timed[0] if timed else time_step(known, len(values), crop)
    n_steps = max(FEWEST_STEPS, round(budget_s / step_s))
    found = network_masks(known, tests, len(values), crop, round_.seed, n_steps)
    means = [mean_dice(dice_by_class(one, test.label, len(values))) for one, test in zip(found, tests, strict=True)]
    dice = [1.0 if mean is None else mean for mean in means]
    results.write(round_, arm, n, dice=dice, learn_s=budget_s, n_steps=n_steps, step_s=step_s)


def time_step(examples: Any, n_classes: int, crop: tuple[int, ...]) -> float:
    """Return the seconds of one step of training, what it takes to begin apart."""
    taken = []
    for n_steps in (FEWEST_STEPS, FEWEST_STEPS, 3 * FEWEST_STEPS):  # the first one loads libraries
        start = time.process_time()
        network_masks(examples, [], n_classes, crop, 0, n_steps)
        taken.append(time.process_time() - start)
    return (taken[2] - taken[1]) / (2 * FEWEST_STEPS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with a folder for each set")
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--trained", type=int, default=2, help="splits on which a network is trained from scratch")
    parser.add_argument("--trained-long", type=int, default=1, help="the same, for ten times as long")
    parser.add_argument("--rivals", nargs="*", default=list(RIVALS), choices=list(RIVALS))
    parser.add_argument("--minutes", type=float, default=600.0, help="after which nothing more is begun")
    options = parser.parse_args()
    results = Results(options.out, options.minutes)
    for seed, name in itertools.product(range(options.seeds), options.sets):
        round_ = make_round(options.data, name, seed)
        see_all(round_, results)
        for n in round_.steps:
            play(round_, n, results, tuple(options.rivals))
    for seed, name in itertools.product(range(options.trained), options.sets):
        round_ = make_round(options.data, name, seed)
        for n in N_LABELS:
            train(round_, n, results, SCRATCH, times=1)
    for seed, name in itertools.product(range(options.trained_long), options.sets):
        train(make_round(options.data, name, seed), max(N_LABELS), results, LONG, times=10)


if __name__ == "__main__":
    main()
